//! RMSNorm and its gated, grouped form. It stands inside the CPU backend. Statistics are f32, as in the reference.

use crate::backend::cpu::elementwise::silu;
use crate::backend::cpu::simd::dot;

/// y = weight · x · rsqrt(mean(x²) + eps) for each row. // x, y [T, d], weight [d]
pub fn rms_norm(weight: &[f32], eps: f32, x: &[f32], y: &mut [f32]) {
    let d = weight.len();
    for (x, y) in x.chunks(d).zip(y.chunks_mut(d)) {
        y.copy_from_slice(x);
        normalize(weight, eps, y);
    }
}

/// The same for x · silu(gate), with one mean for each of `n_groups` equal groups. // row of x, gate, weight, y [d]
pub fn gated_rms_norm_row(
    weight: &[f32],
    n_groups: usize,
    eps: f32,
    x: &[f32],
    gate: &[f32],
    y: &mut [f32],
) {
    for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
        *y = x * silu(*gate);
    }
    let group = weight.len() / n_groups;
    for (weight, y) in weight.chunks(group).zip(y.chunks_mut(group)) {
        normalize(weight, eps, y);
    }
}

fn normalize(weight: &[f32], eps: f32, y: &mut [f32]) {
    let mean = dot(y, y) / y.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (y, w) in y.iter_mut().zip(weight) {
        // Normalise first, then weigh: the order in which the reference rounds.
        *y = w * (*y * scale);
    }
}
