//! Causal attention over the KV cache, in tiles of some queries by a block of [`BLOCK`] positions with a running
//! maximum (online softmax, as in arXiv:2205.14135), so that no buffer grows with the context and each panel of keys or
//! values is multiplied with several queries once it is in registers. It does not write caches beyond [`append_kv`].
//!
//! Blocks start at multiples of [`BLOCK`], and a query's sums have the same order in every tile, so results do not
//! depend on how a prompt was split into chunks: a decode step is a tile of one query.

mod f32;
mod i8;
mod softmax;
#[cfg(test)]
mod tests;

use crate::base::simd::{F32x4, Floats, Wide, WideKernel, Width, map_in_place};
use crate::device::cpu::Cpu;
use crate::device::cpu::kv_cache::{BLOCK, CpuKvRows, PANEL};
use crate::device::cpu::tensor::{CpuTensor, Rows};
use crate::ops::device::{AttentionShape, KvCache};
use crate::ops::op_traits::AttentionKernels;
use crate::threads::pool::{Pool, Stripe, Stripes};
use softmax::{Scores, Softmax};

impl AttentionKernels for Cpu {
    fn append_kv(&mut self, k: &CpuTensor, v: &CpuTensor, cache: &mut KvCache<Cpu>) {
        append_kv(k, v, cache);
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &CpuTensor,
        cache: &KvCache<Cpu>,
        y: &mut CpuTensor,
    ) {
        attention(&self.pool, self.width, shape, q, cache, y);
    }
}

/// Queries of one head that a thread computes together, sharing the blocks in its cache. Few, so that the threads get
/// equal shares of short passes.
const STRIP: usize = 16;

/// Writes the rows of k and v at positions `cache.len ..`.
pub fn append_kv(k: &CpuTensor, v: &CpuTensor, cache: &mut KvCache<Cpu>) {
    for t in 0..k.rows() {
        cache.rows.append(cache.len + t, k.row(t), v.row(t));
    }
}

/// Causal attention of the last `q.rows` positions in the cache.
pub fn attention(
    pool: &Pool,
    width: Width,
    shape: &AttentionShape,
    q: &CpuTensor,
    cache: &KvCache<Cpu>,
    y: &mut CpuTensor,
) {
    let (d, n_strips) = (shape.head_dim, q.rows().div_ceil(STRIP));
    let outputs = Stripes::of_columns(y.resize(q.rows()), q.cols(), d).in_rows(STRIP);
    pool.run(shape.n_heads * n_strips, outputs, |part, y| {
        let (head, first) = (part / n_strips, part % n_strips * STRIP);
        let queries = Queries {
            q: Rows::from(q).columns(head * d, d).rows_from(first),
            n: STRIP.min(q.rows() - first),
            before: cache.len - q.rows() + first,
            kv_head: head * shape.n_kv_heads / shape.n_heads,
            scale: shape.scale,
        };
        match &cache.rows {
            CpuKvRows::F32(rows) => width.run(Strip { rows, queries, y }),
            CpuKvRows::I8(rows) => width.run(Strip { rows, queries, y }),
        }
    });
}

/// Up to [`STRIP`] queries of one head: query t attends to positions `0 ..= before + t`.
struct Queries<'a> {
    q: Rows<'a>, // [n, head_dim]
    n: usize,
    before: usize,
    kv_head: usize,
    scale: f32,
}

/// Some queries and the block of positions from `start` on.
struct Tile<const Q: usize> {
    kv_head: usize,
    start: usize,
    /// Rows of the strip. The last query is repeated if there are fewer than `Q`.
    queries: [usize; Q],
    /// Positions of the block that each query attends to, at least one, ascending.
    lens: [usize; Q],
}

/// Both products of attention in one storage format. All that a `WideKernel` calls is `#[inline(always)]`.
trait BlockProducts: Sync {
    /// The queries of a strip, converted.
    type Queries;

    fn queries(&self, queries: &Queries) -> Self::Queries;

    /// scores[q][i] = scale · q·k for the position `start + i`; whole panels are written.
    fn scores<W: Wide, const Q: usize>(
        &self,
        tile: &Tile<Q>,
        queries: &Self::Queries,
        scores: &mut [Scores; Q],
    );

    /// y[query] = rescale · y[query] + Σ weights · v for the first `rescale.len()` queries. The weights after `lens[q]`
    /// are zero up to a whole panel; all may be overwritten.
    fn add_values<W: Wide, const Q: usize>(
        &self,
        tile: &Tile<Q>,
        rescale: &[f32],
        weights: &mut [Scores; Q],
        y: &mut Stripe,
    );
}

/// Row t of y = softmax(scale · q·Kᵀ)·V for the queries of a strip.
struct Strip<'a, R> {
    rows: &'a R,
    queries: Queries<'a>,
    y: Stripe<'a>, // [n, head_dim]
}

impl<R: BlockProducts> WideKernel for Strip<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(mut self) {
        let (n, before) = (self.queries.n, self.queries.before);
        let queries = self.rows.queries(&self.queries);
        let mut softmax = [Softmax::default(); STRIP];
        for t in 0..n {
            self.y.row(t).fill(0.0);
        }
        for start in (0..before + n).step_by(BLOCK) {
            // The first query that attends to the block.
            let mut t = start.saturating_sub(before);
            while t < n {
                // As many queries as fill the registers with sums.
                t += match (n - t, W::GROUPS) {
                    (1, _) => self.tile::<W, 1>(start, t, &queries, &mut softmax),
                    (_, 1) => self.tile::<W, 2>(start, t, &queries, &mut softmax),
                    (_, 2) => self.tile::<W, 4>(start, t, &queries, &mut softmax),
                    _ => self.tile::<W, 8>(start, t, &queries, &mut softmax),
                };
            }
        }
        for (t, softmax) in softmax[..n].iter().enumerate() {
            let inverse = F32x4::splat(1.0 / softmax.total);
            map_in_place(self.y.row(t), |y| y.mul(inverse));
        }
    }
}

impl<R: BlockProducts> Strip<'_, R> {
    /// Adds the block from `start` on to up to `Q` queries from `first` on, and returns their number.
    #[inline(always)]
    fn tile<W: Wide, const Q: usize>(
        &mut self,
        start: usize,
        first: usize,
        queries: &R::Queries,
        softmax: &mut [Softmax; STRIP],
    ) -> usize {
        let n = Q.min(self.queries.n - first);
        let rows: [usize; Q] = std::array::from_fn(|q| first + q.min(n - 1));
        let tile = Tile {
            kv_head: self.queries.kv_head,
            start,
            queries: rows,
            lens: rows.map(|t| (self.queries.before + t + 1 - start).min(BLOCK)),
        };
        let mut scores = [[[0.0; 4]; BLOCK / 4]; Q];
        self.rows.scores::<W, Q>(&tile, queries, &mut scores);
        let mut rescale = [0.0; Q];
        for q in 0..n {
            rescale[q] = softmax[first + q].add::<W>(&mut scores[q], tile.lens[q]);
        }
        (self.rows).add_values::<W, Q>(&tile, &rescale[..n], &mut scores, &mut self.y);
        n
    }
}

/// y = rescale · y + sums, of which there may be more than y has columns. // y [..= PANEL]
#[inline(always)]
fn add_panel<W: Wide>(y: &mut [f32], rescale: f32, sums: [W::F32; 4]) {
    let n_vectors = 4 / W::GROUPS;
    let mut panel = [[0.0; 4]; PANEL / 4];
    let len = y.len();
    if len == PANEL {
        panel.as_flattened_mut().copy_from_slice(y);
    } else {
        panel.as_flattened_mut()[..len].copy_from_slice(y);
    }
    for v in 0..n_vectors {
        let groups = &mut panel[v * W::GROUPS..];
        let scaled = W::F32::load_groups(groups).mul(W::F32::splat(rescale));
        scaled.add(sums[v]).store_groups(groups);
    }
    if len == PANEL {
        y.copy_from_slice(panel.as_flattened());
    } else {
        y.copy_from_slice(&panel.as_flattened()[..len]);
    }
}
