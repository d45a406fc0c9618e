//! Causal attention over a key/value cache, one head and one query at a time. It stands inside the CPU backend.

use crate::backend::cpu::simd::{add_scaled, dot};

/// Keys or values of one head within the cache. // rows of `width`, this head from column `start`
pub struct HeadRows<'a> {
    pub data: &'a [f32],
    pub width: usize,
    pub start: usize,
}

impl HeadRows<'_> {
    fn row(&self, t: usize, head_dim: usize) -> &[f32] {
        &self.data[t * self.width + self.start..][..head_dim]
    }
}

/// y = softmax(scale · q·Kᵀ)·V over the first `len` positions. // q, y [head_dim]; scores is scratch
pub fn attend(
    q: &[f32],
    k: &HeadRows,
    v: &HeadRows,
    len: usize,
    scale: f32,
    scores: &mut Vec<f32>,
    y: &mut [f32],
) {
    scores.clear();
    scores.extend((0..len).map(|t| scale * dot(q, k.row(t, q.len()))));
    // The largest score is subtracted so that the exponentials neither overflow nor all vanish.
    let peak = scores.iter().fold(f32::NEG_INFINITY, |m, &s| m.max(s));
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - peak).exp();
        total += *score;
    }
    y.fill(0.0);
    for (t, score) in scores.iter().enumerate() {
        add_scaled(y, score / total, v.row(t, y.len()));
    }
}
