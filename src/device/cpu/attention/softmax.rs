//! The online softmax of one query: scores become weights block by block, relative to the largest score so far.

use crate::base::simd::{F32x4, Floats, Wide};
use crate::base::vecmath::exp;
use crate::device::cpu::kv_cache::{BLOCK, PANEL};

/// Scores or weights of a query in one block.
pub type Scores = [[f32; 4]; BLOCK / 4];

/// The groups of four that hold `len` scores in whole panels, so that each vector is full.
#[inline(always)]
pub fn panels(scores: &mut Scores, len: usize) -> &mut [[[f32; 4]; PANEL / 4]] {
    &mut scores.as_chunks_mut().0[..len.div_ceil(PANEL)]
}

/// Sets the scores after `len` in its panel.
#[inline(always)]
pub fn fill_after(scores: &mut Scores, len: usize, value: f32) {
    scores.as_flattened_mut()[len..len.next_multiple_of(PANEL)].fill(value);
}

/// Folds all lanes of sixteen, (0 + 1) + (2 + 3) each time: first the four vectors of a panel, then their lanes.
#[inline(always)]
pub fn fold_lanes<W: Wide>(lanes: [W::F32; 4], fold: impl Fn(F32x4, F32x4) -> F32x4) -> f32 {
    let mut panel = [[0.0; 4]; 4];
    for v in 0..4 / W::GROUPS {
        lanes[v].store_groups(&mut panel[v * W::GROUPS..]);
    }
    let [a, b, c, d] = panel.map(|four| F32x4::load(&four));
    let four = fold(fold(a, b), fold(c, d)).to_array().map(F32x4::splat);
    fold(fold(four[0], four[1]), fold(four[2], four[3])).to_array()[0]
}

/// A query's sums over the blocks so far.
#[derive(Clone, Copy)]
pub struct Softmax {
    /// The largest score.
    peak: f32,
    /// Σ exp(score − peak)
    pub total: f32,
}

impl Default for Softmax {
    fn default() -> Softmax {
        Softmax {
            peak: f32::NEG_INFINITY,
            total: 0.0,
        }
    }
}

impl Softmax {
    /// Replaces the first `len` scores by their weights and the rest of their panel by zeros; returns the factor of the
    /// sums over earlier blocks.
    #[inline(always)]
    pub fn add<W: Wide>(&mut self, scores: &mut Scores, len: usize) -> f32 {
        let n_vectors = 4 / W::GROUPS;
        fill_after(scores, len, f32::NEG_INFINITY);
        let mut largest = [W::F32::splat(f32::NEG_INFINITY); 4];
        for panel in &*panels(scores, len) {
            for v in 0..n_vectors {
                largest[v] = largest[v].max(W::F32::load_groups(&panel[v * W::GROUPS..]));
            }
        }
        // Subtracting the largest score keeps the exponentials from overflowing or all underflowing.
        let peak = self.peak.max(fold_lanes::<W>(largest, F32x4::max));
        let [rescale, ..] = exp(F32x4::splat(self.peak - peak)).to_array();
        // Before the first block there are no sums to rescale, and the clamped `exp` would not return 0.
        let rescale = if self.total == 0.0 { 0.0 } else { rescale };
        for panel in &mut *panels(scores, len) {
            for v in 0..n_vectors {
                let groups = &mut panel[v * W::GROUPS..];
                let score = W::F32::load_groups(groups);
                exp(score.sub(W::F32::splat(peak))).store_groups(groups);
            }
        }
        fill_after(scores, len, 0.0);
        let mut sums = [W::F32::splat(0.0); 4];
        for panel in &*panels(scores, len) {
            for v in 0..n_vectors {
                sums[v] = sums[v].add(W::F32::load_groups(&panel[v * W::GROUPS..]));
            }
        }
        self.total = self.total * rescale + fold_lanes::<W>(sums, F32x4::add);
        self.peak = peak;
        rescale
    }
}
