//! RMSNorm and its gated, grouped form. It stands inside the CPU backend. Statistics are f32, as in the reference.

use crate::backend::cpu::vecmath::silu;
use crate::simd::{F32x4, dot, map_with};

/// y = weight · x · rsqrt(mean(x²) + eps). // x, y, weight [d]
pub fn rms_norm_row(weight: &[f32], eps: f32, x: &[f32], y: &mut [f32]) {
    y.copy_from_slice(x);
    normalize(weight, eps, y);
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
    y.copy_from_slice(x);
    map_with(y, gate, |x, gate| x.mul(silu(gate)));
    let group = weight.len() / n_groups;
    for (weight, y) in weight.chunks(group).zip(y.chunks_mut(group)) {
        normalize(weight, eps, y);
    }
}

fn normalize(weight: &[f32], eps: f32, y: &mut [f32]) {
    let mean = dot(y, y) / y.len() as f32;
    let scale = F32x4::splat(1.0 / (mean + eps).sqrt());
    // Normalise first, then weigh: the order in which the reference rounds.
    map_with(y, weight, |y, weight| weight.mul(y.mul(scale)));
}
