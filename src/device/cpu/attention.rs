//! Causal attention over the KV cache, head by head, in blocks of [`BLOCK`] positions with a running maximum (online
//! softmax), so that no buffer grows with the context. It does not write caches beyond [`append_kv`].
//!
//! Blocks start at multiples of [`BLOCK`] and each query is computed independently, so results do not depend on how a
//! prompt was split into chunks.

use crate::base::simd::{F32x4, fold, largest, map_in_place};
use crate::device::cpu::Cpu;
use crate::device::cpu::kv_cache::{BLOCK, CpuKvRows, KvRows};
use crate::device::cpu::tensor::{CpuTensor, Rows};
use crate::device::cpu::vecmath::exp;
use crate::ops::device::{AttentionShape, KvCache};
use crate::threads::pool::{Pool, Stripe, Stripes};

/// Queries that are computed per pass over a block.
const STRIP: usize = 64;

/// Writes the rows of k and v at positions `cache.len ..`.
pub fn append_kv(k: &CpuTensor, v: &CpuTensor, cache: &mut KvCache<Cpu>) {
    for t in 0..k.rows() {
        cache.rows.append(cache.len + t, k.row(t), v.row(t));
    }
}

/// Causal attention of the last `q.rows` positions in the cache.
pub fn attention(
    pool: &Pool,
    shape: &AttentionShape,
    q: &CpuTensor,
    cache: &KvCache<Cpu>,
    y: &mut CpuTensor,
) {
    let d = shape.head_dim;
    let outputs = Stripes::of_columns(y.resize(q.rows()), q.cols(), d);
    pool.run(shape.n_heads, outputs, |head, mut y| {
        let queries = Queries {
            q: Rows::from(q).columns(head * d, d),
            before: cache.len - q.rows(),
            kv_head: head * shape.n_kv_heads / shape.n_heads,
            scale: shape.scale,
        };
        for first in (0..q.rows()).step_by(STRIP) {
            let n = STRIP.min(q.rows() - first);
            match &cache.rows {
                CpuKvRows::F32(rows) => attend(rows, &queries, first, n, &mut y),
                CpuKvRows::I8(rows) => attend(rows, &queries, first, n, &mut y),
            }
        }
    });
}

/// The queries of one head: query t attends to positions `0 ..= before + t`.
struct Queries<'a> {
    q: Rows<'a>, // [T, head_dim]
    before: usize,
    kv_head: usize,
    scale: f32,
}

/// Row t of y = softmax(scale · q·Kᵀ)·V for the queries `first .. first + n`, at most [`STRIP`] of them.
fn attend<R: KvRows>(rows: &R, queries: &Queries, first: usize, n: usize, y: &mut Stripe) {
    let kv_head = queries.kv_head;
    let n_visible = |t: usize| queries.before + first + t + 1;
    let mut peaks = [f32::NEG_INFINITY; STRIP];
    let mut totals = [0.0; STRIP];
    for t in 0..n {
        y.row(first + t).fill(0.0);
    }
    for start in (0..n_visible(n - 1)).step_by(BLOCK) {
        for t in 0..n {
            let len = n_visible(t).saturating_sub(start).min(BLOCK);
            if len == 0 {
                continue;
            }
            let mut block = [0.0; BLOCK];
            let weights = &mut block[..len];
            let query = rows.query(queries.q.row(first + t), queries.scale);
            rows.scores(kv_head, &query, start, weights);
            // Subtracting the largest score keeps the exponentials from overflowing or all underflowing.
            let peak = peaks[t].max(largest(weights));
            let [rescale, ..] = exp(F32x4::splat(peaks[t] - peak)).to_array();
            // Before the first block there are no sums to rescale, and the clamped `exp` would not return 0.
            let rescale = if totals[t] == 0.0 { 0.0 } else { rescale };
            map_in_place(weights, |s| exp(s.sub(F32x4::splat(peak))));
            totals[t] = totals[t] * rescale + fold(weights, 0.0, F32x4::add).sum();
            peaks[t] = peak;
            let y = y.row(first + t);
            map_in_place(y, |y| y.mul(F32x4::splat(rescale)));
            rows.add_values(kv_head, start, weights, y);
        }
    }
    for (t, total) in totals[..n].iter().enumerate() {
        let inverse = F32x4::splat(1.0 / total);
        map_in_place(y.row(first + t), |y| y.mul(inverse));
    }
}
