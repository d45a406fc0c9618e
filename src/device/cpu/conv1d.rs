//! The causal depthwise convolution with its state and SiLU. It stands inside the CPU backend. Rows are tokens, so
//! every tap is a contiguous run of channels.

use crate::backend::cpu::vecmath::silu;
use crate::simd::map_in_place;

/// Where the inputs of the convolution are. // x [T, stride] from column `start`; state [d_conv − 1, conv_dim]
pub struct ConvInput<'a> {
    pub x: &'a [f32],
    pub start: usize,
    pub stride: usize,
    pub state: &'a [f32],
}

impl ConvInput<'_> {
    /// The input of channels `from .. from + len` at time `t`, where the state holds the times before 0.
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

/// y[c] = silu(bias[c] + Σₖ weight[k, c] · x[t − d_conv + 1 + k, c]) for the channels from `from`. // y [len]
pub fn conv1d_row(
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

/// Moves the state on by `t_rows` tokens: it then ends with the newest inputs.
pub fn next_state(
    x: &[f32],
    start: usize,
    stride: usize,
    t_rows: usize,
    conv_dim: usize,
    state: &mut [f32],
) {
    let kept = state.len() / conv_dim;
    let fresh = kept.min(t_rows);
    state.copy_within(fresh * conv_dim.., 0);
    for i in 0..fresh {
        let t = t_rows - fresh + i;
        let row = (kept - fresh + i) * conv_dim;
        state[row..row + conv_dim].copy_from_slice(&x[t * stride + start..][..conv_dim]);
    }
}
