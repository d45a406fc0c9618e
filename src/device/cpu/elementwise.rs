//! Elementwise ops, RoPE and row copies.

use crate::base::simd::map_with;
use crate::base::vecmath::gelu;
use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::CpuTensor;
use crate::ops::device::Rope;
use crate::ops::op_traits::ElementwiseKernels;
use crate::threads::pool::{Pool, Stripes};

impl ElementwiseKernels for Cpu {
    fn copy(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        copy(x, y);
    }

    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut CpuTensor]) {
        for x in xs {
            rotate(rope, position, x);
        }
    }

    fn gelu_mul(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        gelu_mul(&self.pool, x, y);
    }

    fn concat(&mut self, a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
        concat(a, b, y);
    }

    fn add(&mut self, a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
        add(a, b, y);
    }

    fn last_row(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        last_row(x, y);
    }
}

/// y = gelu(x[:, :d])·x[:, d:].
fn gelu_mul(pool: &Pool, x: &CpuTensor, y: &mut CpuTensor) {
    let d = y.cols();
    let width = d.div_ceil(pool.threads());
    let stripes = Stripes::of_columns(y.resize(x.rows()), d, width);
    pool.run(d.div_ceil(width), stripes, |part, mut y| {
        for t in 0..x.rows() {
            let y: &mut [f32] = y.row(t);
            let (gate, up) = x.row(t).split_at(d);
            let columns = part * width..part * width + y.len();
            y.copy_from_slice(&up[columns.clone()]);
            map_with(y, &gate[columns], |up, gate| gelu(gate).mul(up));
        }
    });
}

/// Rotates the pairs (k, k + d/2) of each head by `position · inv_freq[k]`.
fn rotate(rope: &Rope, position: usize, x: &mut CpuTensor) {
    let cols = x.cols();
    for (t, row) in x.values_mut().chunks_mut(cols).enumerate() {
        for (k, freq) in rope.inv_freq.iter().enumerate() {
            let (sin, cos) = ((position + t) as f32 * freq).sin_cos();
            for head in row.chunks_mut(rope.head_dim) {
                let (a, b) = (head[k], head[k + rope.head_dim / 2]);
                head[k] = a * cos - b * sin;
                head[k + rope.head_dim / 2] = b * cos + a * sin;
            }
        }
    }
}

/// y = [a, b] along the columns.
fn concat(a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
    let (a_cols, cols) = (a.cols(), a.cols() + b.cols());
    for (t, y) in y.resize(a.rows()).chunks_mut(cols).enumerate() {
        y[..a_cols].copy_from_slice(a.row(t));
        y[a_cols..].copy_from_slice(b.row(t));
    }
}

/// y = a + b.
fn add(a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
    let sums = a.values().iter().zip(b.values()).map(|(a, b)| a + b);
    for (y, sum) in y.resize(a.rows()).iter_mut().zip(sums) {
        *y = sum;
    }
}

/// y = the last row of x.
fn last_row(x: &CpuTensor, y: &mut CpuTensor) {
    y.resize(1).copy_from_slice(x.row(x.rows() - 1));
}

/// y = x.
pub fn copy(x: &CpuTensor, y: &mut CpuTensor) {
    y.resize(x.rows()).copy_from_slice(x.values());
}
