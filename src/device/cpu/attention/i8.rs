//! Attention's products with an 8-bit cache: queries and weights become 16-bit integers, so both products are exact
//! integer sums until they are scaled.

use crate::base::simd::{F32x4, Floats, Wide};
use crate::device::cpu::attention::softmax::{Scores, fill_after, fold_lanes, panels};
use crate::device::cpu::attention::{BlockProducts, Queries, STRIP, Tile, add_panel};
use crate::device::cpu::kv_cache::{BLOCK, I8Cache, PANEL, quantize, scale_of};
use crate::threads::pool::Stripe;

/// Queries as 16-bit integers, padded with zeros, and the scales of their products.
pub struct I8Queries {
    quants: Vec<[i16; 2]>, // [n, d / 2]
    scales: [f32; STRIP],
}

/// Weights of a block as 16-bit integers.
type Quants = [[i16; 4]; BLOCK / 4];

/// Σ panel[step][lane] · a[q][step], of two columns or positions per step.
#[inline(always)]
fn products<W: Wide, const Q: usize>(panel: &[i8], a: [&[[i16; 2]]; Q]) -> [[W::I32; 4]; Q] {
    let steps: &[[[i8; 8]; 4]] = panel.as_chunks().0.as_chunks().0;
    let a = a.map(|a| &a[..steps.len()]);
    let mut sums = [[W::zero(); 4]; Q];
    for (step, lanes) in steps.iter().enumerate() {
        for v in 0..4 / W::GROUPS {
            let lanes = W::widen_pairs(&lanes[v * W::GROUPS..]);
            for q in 0..Q {
                sums[q][v] = W::add_pairs(sums[q][v], lanes, W::repeat_pair(&a[q][step]));
            }
        }
    }
    sums
}

/// Multiplies the weights by the scales of their values and quantises them; returns the scale of the sums, as
/// [`quantize`] does.
#[inline(always)]
fn quantize_weights<W: Wide>(
    weights: &mut Scores,
    len: usize,
    value_scales: &[f32],
    quants: &mut Quants,
) -> f32 {
    let n_vectors = 4 / W::GROUPS;
    let value_scales = value_scales.as_chunks::<4>().0.as_chunks::<4>().0;
    for (panel, scales) in panels(weights, len).iter_mut().zip(value_scales) {
        for v in 0..n_vectors {
            let (groups, scales) = (&mut panel[v * W::GROUPS..], &scales[v * W::GROUPS..]);
            let weight = W::F32::load_groups(groups).mul(W::F32::load_groups(scales));
            weight.store_groups(groups);
        }
    }
    // Scales of positions that are not attended to may be NaN.
    fill_after(weights, len, 0.0);
    let zero = W::F32::splat(0.0);
    let (mut largest, mut poison) = ([zero; 4], [zero; 4]);
    for panel in &*panels(weights, len) {
        for v in 0..n_vectors {
            let weight = W::F32::load_groups(&panel[v * W::GROUPS..]);
            largest[v] = largest[v].max(weight.abs());
            poison[v] = poison[v].mul_add(weight, zero);
        }
    }
    let (inverse, scale) = scale_of(fold_lanes::<W>(largest, F32x4::max), 32767.0);
    let quants = quants.as_chunks_mut::<4>().0;
    for (panel, quants) in panels(weights, len).iter().zip(quants) {
        for v in 0..n_vectors {
            let weight = W::F32::load_groups(&panel[v * W::GROUPS..]);
            let quants = &mut quants[v * W::GROUPS..];
            weight.mul(W::F32::splat(inverse)).store_nearest(quants);
        }
    }
    scale + fold_lanes::<W>(poison, F32x4::add)
}

impl BlockProducts for I8Cache {
    type Queries = I8Queries;

    #[inline(always)]
    fn queries(&self, queries: &Queries) -> I8Queries {
        let d = self.panels.d;
        let mut converted = I8Queries {
            quants: vec![[0; 2]; queries.n * d / 2],
            scales: [0.0; STRIP],
        };
        // Small enough that the sum over a head stays below 2³¹.
        let high = (i32::MAX / (127 * d as i32)).min(32767) as f32;
        for t in 0..queries.n {
            let quants = converted.quants[t * d / 2..].as_flattened_mut();
            let step = quantize(queries.q.row(t), high, |i, quant| quants[i] = quant);
            converted.scales[t] = step * queries.scale;
        }
        converted
    }

    #[inline(always)]
    fn scores<W: Wide, const Q: usize>(
        &self,
        tile: &Tile<Q>,
        queries: &I8Queries,
        scores: &mut [Scores; Q],
    ) {
        let n_steps = self.panels.d / 2;
        let a = (tile.queries).map(|t| &queries.quants[t * n_steps..][..n_steps]);
        let key_scales = self.key_scales(tile.kv_head, tile.start);
        for first in (0..tile.lens[Q - 1]).step_by(PANEL) {
            let keys = self.panels.keys(tile.kv_head, tile.start + first);
            let sums = products::<W, Q>(keys, a);
            let key_scales = key_scales[first..][..PANEL].as_chunks().0;
            for q in 0..Q {
                let query_scale = W::F32::splat(queries.scales[tile.queries[q]]);
                for v in 0..4 / W::GROUPS {
                    let key_scale = W::F32::load_groups(&key_scales[v * W::GROUPS..]);
                    let score = W::to_f32(sums[q][v]).mul(key_scale.mul(query_scale));
                    score.store_groups(&mut scores[q][first / 4 + v * W::GROUPS..]);
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
        let value_scales = self.value_scales(tile.kv_head, tile.start);
        let mut quants = [[[0; 4]; BLOCK / 4]; Q];
        let mut scales = [0.0; Q];
        for q in 0..rescale.len() {
            let (weights, quants) = (&mut weights[q], &mut quants[q]);
            scales[q] = quantize_weights::<W>(weights, tile.lens[q], value_scales, quants);
        }
        let a = quants
            .each_ref()
            .map(|quants| quants.as_flattened().as_chunks().0);
        let n_steps = tile.lens[Q - 1].div_ceil(2);
        for column in (0..self.panels.head_dim).step_by(PANEL) {
            let values = self.panels.values(tile.kv_head, tile.start, column);
            let sums = products::<W, Q>(&values[..n_steps * 2 * PANEL], a);
            for (q, rescale) in rescale.iter().enumerate() {
                let scale = W::F32::splat(scales[q]);
                let sums = sums[q].map(|sum| W::to_f32(sum).mul(scale));
                let y = &mut y.row(tile.queries[q])[column..];
                let len = y.len().min(PANEL);
                add_panel::<W>(&mut y[..len], *rescale, sums);
            }
        }
    }
}
