//! q4 products with int8 activations. A block of a row group is four rows by 32 columns: 64 bytes of nibbles and four
//! i16 scales. Two such blocks share one block of activations.
//!
//! A nibble is 0..=15; the offset of −8 per weight is one correction per block, −8·Σa, with which the sum starts. A
//! 16-bit lane adds at most 16 products of up to 127·8, below 2¹⁵ in any order; the scaled sums of a row's two blocks
//! are below 2·32·127·8·32767 < 2³¹.
//!
//! The loops over a block's steps have bounds that the compiler can't see: if it unrolled them, LLVM would reorder them
//! into one long chain per accumulator and the engine would spill registers.

use std::hint::black_box;

use crate::base::quant::{BLOCK, StoredRow};
use crate::base::simd::{
    F32x4, I8x16, I32x4, MAX_GROUPS, Quad, RowSums, RowsKernel, STEP_COLUMNS, StepWeights, Wide,
    WideKernel, Width, unpack,
};
use crate::device::cpu::linear::activations::Q4Activation;
use crate::device::cpu::linear::few_rows::few_rows;
use crate::device::cpu::linear::{GROUP, PANEL, Product, Tiles, VECTORS};

/// Steps per block in a matrix kernel.
const STEPS: usize = BLOCK / STEP_COLUMNS;
/// Pairs of blocks of a panel that are unpacked at once: 13 KB (24 in wasm without relaxed SIMD), which leaves room for
/// the activations in the L1 cache.
const RUN: usize = 16 / MAX_GROUPS;

/// Rows of activations from which on panels are faster whatever the width: without instructions for bytes, sums take
/// two registers each.
const MOST_ROWS: Option<usize> = if STEP_COLUMNS == 4 { None } else { Some(6) };

/// 32 columns of four rows. In vector v, bytes 4r..4r+4 hold row r: columns 8v..8v+4 in the low nibbles, 8v+4..8v+8 in
/// the high ones.
#[derive(Clone, Copy)]
pub struct Q4Block {
    nibbles: [[i8; 16]; 4],
    scale: [i16; GROUP],
}

/// The two blocks of a group that share a block of activations.
pub type Q4Pair = [Q4Block; 2];

/// Interleaves row r of a group. // pairs [⌈blocks / 2⌉]
pub fn set_row(pairs: &mut [Q4Pair], r: usize, row: &StoredRow) {
    let packed = pairs.as_flattened_mut().iter_mut();
    let nibbles = row.quants.chunks(BLOCK / 2);
    for ((packed, scale), nibbles) in packed.zip(row.block_scales).zip(nibbles) {
        packed.scale[r] = i16::from_le_bytes(*scale);
        packed.set_row(r, nibbles);
    }
}

impl Q4Block {
    /// Missing rows of the last group and a missing block of the last pair keep scales of zero.
    pub const EMPTY: Q4Block = Q4Block {
        nibbles: [[0; 16]; 4],
        scale: [0; GROUP],
    };

    /// Interleaves the canonical bytes of one row (column 2k in the low nibble, 2k+1 in the high one).
    fn set_row(&mut self, r: usize, bytes: &[u8]) {
        for (vector, bytes) in self.nibbles.iter_mut().zip(bytes.as_chunks::<4>().0) {
            let [ab, cd, ef, gh] = *bytes;
            let interleaved = [
                ab & 15 | ef << 4,
                ab >> 4 | ef & 0xf0,
                cd & 15 | gh << 4,
                cd >> 4 | gh & 0xf0,
            ];
            vector[4 * r..4 * r + 4].copy_from_slice(&interleaved.map(|v| v as i8));
        }
    }

    fn nibble(&self, r: usize, col: usize) -> u8 {
        let byte = self.nibbles[col / 8][4 * r + col % 4] as u8;
        if col % 8 < 4 { byte & 15 } else { byte >> 4 }
    }

    /// Writes row `r` of the block as f32.
    pub fn dequantize(&self, r: usize, row_scale: f32, out: &mut [f32]) {
        let scale = row_scale * f32::from(self.scale[r]);
        for (col, out) in out.iter_mut().enumerate() {
            *out = scale * (f32::from(self.nibble(r, col)) - 8.0);
        }
    }
}

pub struct Q4Product<'a> {
    pairs: &'a [Q4Pair],             // [groups, n_pairs]
    activations: &'a [Q4Activation], // [T, n_pairs]
    n_pairs: usize,
    width: Width,
    /// Four and [`STEPS`], hidden from the optimiser.
    n_vectors: usize,
    n_steps: usize,
}

/// One unpacked block of a panel: per step, its groups one after another.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct PanelBlock {
    steps: [[StepWeights; PANEL]; STEPS],
    scale: [[i16; GROUP]; PANEL],
}

impl<'a> Q4Product<'a> {
    pub fn new(
        pairs: &'a [Q4Pair],
        activations: &'a [Q4Activation],
        n_pairs: usize,
        width: Width,
    ) -> Self {
        Q4Product {
            pairs,
            activations,
            n_pairs,
            width,
            n_vectors: black_box(4),
            n_steps: black_box(STEPS),
        }
    }

    fn group(&self, group: usize) -> &'a [Q4Pair] {
        &self.pairs[group * self.n_pairs..][..self.n_pairs]
    }
}

impl Product for Q4Product<'_> {
    type Panel = [[PanelBlock; 2]; RUN];

    fn panel() -> Self::Panel {
        let empty = PanelBlock {
            steps: [[StepWeights::default(); PANEL]; STEPS],
            scale: [[0; GROUP]; PANEL],
        };
        [[empty; 2]; RUN]
    }

    fn few_rows(&self) -> usize {
        MOST_ROWS.unwrap_or(few_rows(self.width))
    }

    fn rows<const N: usize, const T: usize>(
        &self,
        groups: [usize; N],
        t: usize,
    ) -> [[F32x4; T]; N] {
        let row = |c: usize| &self.activations[(t + c) * self.n_pairs..][..self.n_pairs];
        self.width.run_rows(Rows {
            groups: groups.map(|group| self.group(group)),
            rows: std::array::from_fn(row),
            n_vectors: self.n_vectors,
        })
    }

    fn matrix(
        &self,
        first: usize,
        n: usize,
        t: usize,
        panel: &mut Self::Panel,
        sums: &mut [[F32x4; PANEL]],
    ) {
        sums.fill([F32x4::splat(0.0); PANEL]);
        for start in (0..self.n_pairs).step_by(RUN) {
            let n_pairs = RUN.min(self.n_pairs - start);
            let panel = &mut panel[..n_pairs];
            for g in 0..n {
                let pairs = &self.group(first + g)[start..][..n_pairs];
                unpack_group(pairs.as_flattened(), g, panel.as_flattened_mut());
            }
            let run = PanelRun {
                product: self,
                start,
                panel,
            };
            run.all(t, sums);
        }
    }
}

/// A run of unpacked blocks of a panel.
struct PanelRun<'a> {
    product: &'a Q4Product<'a>,
    start: usize,
    panel: &'a [[PanelBlock; 2]],
}

impl Tiles for PanelRun<'_> {
    fn tile<const C: usize>(&self, t: usize, sums: &mut [[F32x4; PANEL]; C]) {
        let product = self.product;
        let columns = std::array::from_fn(|c| {
            &product.activations[(t + c) * product.n_pairs + self.start..][..self.panel.len()]
        });
        product.width.run(MatrixKernel {
            panel: self.panel,
            columns,
            n_steps: product.n_steps,
            sums,
        });
    }
}

/// Arguments of [`rows_kernel`].
struct Rows<'a, const N: usize, const T: usize> {
    groups: [&'a [Q4Pair]; N],
    rows: [&'a [Q4Activation]; T],
    n_vectors: usize,
}

impl<const N: usize, const T: usize> RowsKernel for Rows<'_, N, T> {
    type Output = [[F32x4; T]; N];

    #[inline(always)]
    fn run<S: RowSums>(self) -> [[F32x4; T]; N] {
        rows_kernel::<S, N, T>(self.groups, self.rows, self.n_vectors)
    }
}

/// `N` groups times `T` rows of activations; each group is read from its own region of memory.
#[inline(never)]
fn rows_kernel<S: RowSums, const N: usize, const T: usize>(
    groups: [&[Q4Pair]; N],
    rows: [&[Q4Activation]; T],
    n_vectors: usize,
) -> [[F32x4; T]; N] {
    let n_pairs = rows[0].len();
    let (groups, rows) = (
        groups.map(|pairs| &pairs[..n_pairs]),
        rows.map(|row| &row[..n_pairs]),
    );
    let mut sums = [[F32x4::splat(0.0); T]; N];
    for pair in 0..n_pairs {
        let mut scaled = [[I32x4::splat(0); T]; N];
        for half in 0..2 {
            let blocks = groups.map(|pairs| &pairs[pair][half]);
            let halves = rows.map(|row| &row[pair].halves[half]);
            let start = halves.map(|a| S::start(&a.correction));
            let mut products = [start; N];
            for v in 0..n_vectors.min(4) {
                let bytes = blocks.map(|block| I8x16::load(&block.nibbles[v]));
                let (low, high) = (
                    bytes.map(I8x16::low_nibbles),
                    bytes.map(I8x16::high_nibbles),
                );
                for t in 0..T {
                    let even = Quad::load(&halves[t].quads[2 * v]);
                    for n in 0..N {
                        products[n][t] = products[n][t].add_products(even, low[n]);
                    }
                    let odd = Quad::load(&halves[t].quads[2 * v + 1]);
                    for n in 0..N {
                        products[n][t] = products[n][t].add_products(odd, high[n]);
                    }
                }
            }
            for n in 0..N {
                for t in 0..T {
                    scaled[n][t] = scaled[n][t].add(products[n][t].scaled(&blocks[n].scale));
                }
            }
        }
        for t in 0..T {
            let scale = F32x4::splat(rows[t][pair].scale);
            for n in 0..N {
                sums[n][t] = sums[n][t].mul_add(scaled[n][t].to_f32(), scale);
            }
        }
    }
    sums
}

/// Unpacks the blocks of a group into group `g` of the panel.
fn unpack_group(blocks: &[Q4Block], g: usize, panel: &mut [PanelBlock]) {
    for (block, unpacked) in blocks.iter().zip(panel) {
        let steps = unpacked.steps.as_chunks_mut::<{ STEPS / 4 }>().0;
        for (bytes, steps) in block.nibbles.iter().zip(steps) {
            unpack(
                I8x16::load(bytes),
                steps.each_mut().map(|step| &mut step[g]),
            );
        }
        unpacked.scale[g] = block.scale;
    }
}

/// A panel times `C` rows of activations, added to `sums`.
struct MatrixKernel<'a, const C: usize> {
    panel: &'a [[PanelBlock; 2]],
    columns: [&'a [Q4Activation]; C],
    n_steps: usize,
    sums: &'a mut [[F32x4; PANEL]; C],
}

impl<const C: usize> WideKernel for MatrixKernel<'_, C> {
    const HAS_NIBBLES: bool = true;
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(mut self) {
        for first in (0..PANEL).step_by(VECTORS * W::GROUPS) {
            self.multiply::<W>(first);
        }
    }
}

impl<const C: usize> MatrixKernel<'_, C> {
    /// For the groups from `first` on, [`VECTORS`] vectors of them.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "one index for the weights and every column, in loops of this shape only"
    )]
    fn multiply<W: Wide>(&mut self, first: usize) {
        let columns = self.columns.map(|column| &column[..self.panel.len()]);
        let group = |v: usize| first + v * W::GROUPS;
        for (pair, weights) in self.panel.iter().enumerate() {
            let columns = columns.map(|column| &column[pair]);
            let mut scaled = [[W::zero(); VECTORS]; C];
            for (half, weights) in weights.iter().enumerate() {
                let columns = columns.map(|a| &a.halves[half]);
                let steps = columns.map(|a| a.quads.as_flattened().as_chunks::<STEP_COLUMNS>().0);
                let mut products = columns.map(|a| [W::start(&a.correction); VECTORS]);
                for step in 0..self.n_steps.min(STEPS) {
                    for c in 0..C {
                        let a = W::step(&steps[c][step]);
                        for v in 0..VECTORS {
                            let weights = &weights.steps[step][group(v)..];
                            products[c][v] = W::add_step(products[c][v], a, weights);
                        }
                    }
                }
                for c in 0..C {
                    for v in 0..VECTORS {
                        let products = W::scaled(products[c][v], &weights.scale[group(v)..]);
                        scaled[c][v] = W::add(scaled[c][v], products);
                    }
                }
            }
            for c in 0..C {
                for v in 0..VECTORS {
                    let sums = &mut self.sums[c][group(v)..];
                    let sum = W::add_scaled(W::load(sums), scaled[c][v], columns[c].scale);
                    W::store(sum, sums);
                }
            }
        }
    }
}
