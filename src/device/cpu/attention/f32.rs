//! Attention's products in f32. Each lane is summed in order: a score over the columns of the head, a block's values
//! over its positions.

use crate::base::simd::{Floats, Wide};
use crate::device::cpu::attention::softmax::Scores;
use crate::device::cpu::attention::{BlockProducts, Queries, Tile, add_panel};
use crate::device::cpu::kv_cache::{F32Cache, PANEL};
use crate::threads::pool::Stripe;

/// sums[q][lane] += Σ panel[step][lane] · a[q][step]
#[inline(always)]
fn add_products<W: Wide, const Q: usize>(
    sums: &mut [[W::F32; 4]; Q],
    panel: &[f32],
    a: [&[f32]; Q],
) {
    let steps: &[[[f32; 4]; 4]] = panel.as_chunks().0.as_chunks().0;
    let a = a.map(|a| &a[..steps.len()]);
    for (step, lanes) in steps.iter().enumerate() {
        for v in 0..4 / W::GROUPS {
            let lanes = W::F32::load_groups(&lanes[v * W::GROUPS..]);
            for q in 0..Q {
                sums[q][v] = sums[q][v].mul_add(lanes, W::F32::splat(a[q][step]));
            }
        }
    }
}

impl BlockProducts for F32Cache {
    type Queries = Vec<f32>; // [n, head_dim]

    #[inline(always)]
    fn queries(&self, queries: &Queries) -> Vec<f32> {
        let rows = (0..queries.n).flat_map(|t| queries.q.row(t));
        rows.map(|q| q * queries.scale).collect()
    }

    #[inline(always)]
    fn scores<W: Wide, const Q: usize>(
        &self,
        tile: &Tile<Q>,
        queries: &Vec<f32>,
        scores: &mut [Scores; Q],
    ) {
        let d = self.head_dim;
        let a = tile.queries.map(|t| &queries[t * d..][..d]);
        for first in (0..tile.lens[Q - 1]).step_by(PANEL) {
            let keys = self.keys(tile.kv_head, tile.start + first);
            let mut sums = [[W::F32::splat(0.0); 4]; Q];
            add_products::<W, Q>(&mut sums, keys, a);
            for (scores, sums) in scores.iter_mut().zip(sums) {
                for v in 0..4 / W::GROUPS {
                    sums[v].store_groups(&mut scores[first / 4 + v * W::GROUPS..]);
                }
            }
        }
    }

    #[inline(always)]
    fn add_values<W: Wide, const Q: usize>(
        &self,
        tile: &Tile<Q>,
        rescale: &[f32],
        weights: &mut [Scores; Q],
        y: &mut Stripe,
    ) {
        let weights = weights.each_ref().map(|weights| weights.as_flattened());
        // The positions that all queries attend to; then each continues alone, since a value that it does not attend to
        // may be infinite or NaN.
        let shared = tile.lens[0];
        for column in (0..self.head_dim).step_by(PANEL) {
            let values = self.values(tile.kv_head, tile.start, column);
            let mut sums = [[W::F32::splat(0.0); 4]; Q];
            add_products::<W, Q>(&mut sums, &values[..shared * PANEL], weights);
            for (q, rescale) in rescale.iter().enumerate() {
                let (rest, weights) = (shared..tile.lens[q], &weights[q][shared..]);
                let values = &values[rest.start * PANEL..rest.end * PANEL];
                let mut sums = [sums[q]];
                add_products::<W, 1>(&mut sums, values, [weights]);
                let y = &mut y.row(tile.queries[q])[column..];
                let len = y.len().min(PANEL);
                add_panel::<W>(&mut y[..len], *rescale, sums[0]);
            }
        }
    }
}
