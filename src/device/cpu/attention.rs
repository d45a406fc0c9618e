//! Causal attention over a cache of keys and values, head by head.
//!
//! The cache is read in blocks of [`BLOCK`] positions with a running maximum (online softmax), so that nothing as long
//! as the context is ever held. Blocks begin at multiples of [`BLOCK`] and every query goes its own way through them:
//! the bits don't depend on how a prompt was cut.

use crate::base::simd::{F32x4, fold, largest, map_in_place};
use crate::device::cpu::Cpu;
use crate::device::cpu::kv_cache::{BLOCK, CpuKvRows, KvRows};
use crate::device::cpu::tensor::{CpuTensor, Rows};
use crate::device::cpu::vecmath::exp;
use crate::ops::device::{AttentionShape, KvCache};
use crate::threads::pool::{Pool, Stripe, Stripes};

/// Queries that share one reading of a block.
const STRIP: usize = 64;

/// Writes the rows of k and v to the positions from `cache.len` on.
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

/// The queries of one head: query t sees the positions up to `before + t`.
struct Queries<'a> {
    q: Rows<'a>, // [T, head_dim]
    before: usize,
    kv_head: usize,
    scale: f32,
}

/// Row t of y = softmax(scale · q·Kᵀ)·V for the queries `first .. first + n`, at most [`STRIP`] of them.
fn attend<R: KvRows>(rows: &R, queries: &Queries, first: usize, n: usize, y: &mut Stripe) {
    let kv_head = queries.kv_head;
    let seen = |t: usize| queries.before + first + t + 1;
    let mut peaks = [f32::NEG_INFINITY; STRIP];
    let mut totals = [0.0; STRIP];
    for t in 0..n {
        y.row(first + t).fill(0.0);
    }
    for start in (0..seen(n - 1)).step_by(BLOCK) {
        for t in 0..n {
            let len = seen(t).saturating_sub(start).min(BLOCK);
            if len == 0 {
                continue;
            }
            let mut block = [0.0; BLOCK];
            let weights = &mut block[..len];
            let query = rows.query(queries.q.row(first + t), queries.scale);
            rows.scores(kv_head, &query, start, weights);
            // The largest score is subtracted so that the exponentials neither overflow nor all vanish.
            let peak = peaks[t].max(largest(weights));
            let [kept, ..] = exp(F32x4::splat(peaks[t] - peak)).to_array();
            // `exp` stops at its bound, and before the first block there is nothing to keep.
            let kept = if totals[t] == 0.0 { 0.0 } else { kept };
            map_in_place(weights, |s| exp(s.sub(F32x4::splat(peak))));
            totals[t] = totals[t] * kept + fold(weights, 0.0, F32x4::add).sum();
            peaks[t] = peak;
            let y = y.row(first + t);
            map_in_place(y, |y| y.mul(F32x4::splat(kept)));
            rows.add_values(kv_head, start, weights, y);
        }
    }
    for (t, total) in totals[..n].iter().enumerate() {
        let inverse = F32x4::splat(1.0 / total);
        map_in_place(y.row(first + t), |y| y.mul(inverse));
    }
}
