//! Ops on single rows that are neither a product nor a norm. It stands inside the CPU backend.

use crate::backend::cpu::vecmath::gelu;
use crate::simd::map_with;

/// y = gelu(gate) · up. // each [n]
pub fn gelu_mul(gate: &[f32], up: &[f32], y: &mut [f32]) {
    y.copy_from_slice(up);
    map_with(y, gate, |up, gate| gelu(gate).mul(up));
}

/// Rotates the pairs (k, k + d/2) of each head by `position · inv_freq[k]`. // row [heads · d]
pub fn rope_row(inv_freq: &[f32], head_dim: usize, position: usize, row: &mut [f32]) {
    for (k, freq) in inv_freq.iter().enumerate() {
        let (sin, cos) = (position as f32 * freq).sin_cos();
        for head in row.chunks_mut(head_dim) {
            let (a, b) = (head[k], head[k + head_dim / 2]);
            head[k] = a * cos - b * sin;
            head[k + head_dim / 2] = b * cos + a * sin;
        }
    }
}
