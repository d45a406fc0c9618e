//! The causal depthwise convolution with its state and SiLU. Rows are tokens, so the channels of a tap are contiguous.

use crate::base::simd::map_in_place;
use crate::base::vecmath::silu;
use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::CpuTensor;
use crate::ops::device::{Cols, Conv1d};
use crate::ops::op_traits::ConvKernels;
use crate::threads::pool::{Pool, Stripes};

impl ConvKernels for Cpu {
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Cpu>,
        x: Cols<CpuTensor>,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        causal_conv1d(&self.pool, conv, &x, state, y);
    }
}

/// y = silu(conv(x) + bias); `state` `[d_conv − 1, conv_dim]` is updated.
fn causal_conv1d(
    pool: &Pool,
    conv: &Conv1d<Cpu>,
    x: &Cols<CpuTensor>,
    state: &mut CpuTensor,
    y: &mut CpuTensor,
) {
    let (t_rows, conv_dim) = (x.tensor.rows(), x.len);
    let (weight, bias) = (conv.weight.values(), conv.bias.values());
    let input = ConvInput {
        x: x.tensor.values(),
        start: x.start,
        stride: x.tensor.cols(),
        state: state.values(),
    };
    // Distributing the channels of a single row takes longer than computing them on one thread.
    let parts = if t_rows == 1 { 1 } else { pool.threads() };
    let width = conv_dim.div_ceil(parts);
    let stripes = Stripes::of_columns(y.resize(t_rows), conv_dim, width);
    // The width is rounded up, so the last threads may have no channels.
    pool.run(conv_dim.div_ceil(width), stripes, |part, mut y| {
        for t in 0..t_rows {
            conv1d_row(weight, bias, &input, t, part * width, y.row(t));
        }
    });
    next_state(x, t_rows, conv_dim, state.values_mut());
}

/// The inputs of the convolution. // x [T, stride] from column `start`; state [d_conv − 1, conv_dim]
struct ConvInput<'a> {
    x: &'a [f32],
    start: usize,
    stride: usize,
    state: &'a [f32],
}

impl ConvInput<'_> {
    /// The inputs of channels `from .. from + len` at time `t`; times before 0 are in the state.
    fn at(&self, t: isize, from: usize, len: usize, conv_dim: usize) -> &[f32] {
        let taps = self.state.len() / conv_dim;
        if t < 0 {
            let row = (taps as isize + t) as usize;
            &self.state[row * conv_dim + from..][..len]
        } else {
            &self.x[t as usize * self.stride + self.start + from..][..len]
        }
    }
}

/// y[c] = silu(bias[c] + Σₖ weight[k, c] · x[t − d_conv + 1 + k, c]) for the channels `from ..`. // y [len]
fn conv1d_row(
    weight: &[f32],
    bias: &[f32],
    input: &ConvInput,
    t: usize,
    from: usize,
    y: &mut [f32],
) {
    let (conv_dim, len) = (bias.len(), y.len());
    let d_conv = weight.len() / conv_dim;
    y.copy_from_slice(&bias[from..][..len]);
    for k in 0..d_conv {
        let x = input.at(
            t as isize + 1 + k as isize - d_conv as isize,
            from,
            len,
            conv_dim,
        );
        let weight = &weight[k * conv_dim + from..][..len];
        for ((y, w), x) in y.iter_mut().zip(weight).zip(x) {
            *y += w * x;
        }
    }
    map_in_place(y, silu);
}

/// Shifts the state by `t_rows` tokens, so that it ends with the newest inputs.
fn next_state(x: &Cols<CpuTensor>, t_rows: usize, conv_dim: usize, state: &mut [f32]) {
    let n_state = state.len() / conv_dim;
    let n_new = n_state.min(t_rows);
    state.copy_within(n_new * conv_dim.., 0);
    for i in 0..n_new {
        let from = x.tensor.row(t_rows - n_new + i);
        let row = (n_state - n_new + i) * conv_dim;
        state[row..row + conv_dim].copy_from_slice(&from[x.start..][..conv_dim]);
    }
}
