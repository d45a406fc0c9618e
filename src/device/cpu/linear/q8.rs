//! q8 products with 16-bit activations: exact integer sums in 32 bits, at about half the speed of q4 from the L1 cache
//! and the same speed where memory is the limit. A block of a row group is four rows by 32 columns: 128 bytes of
//! weights and four i16 scales.

use std::hint::black_box;

use crate::base::quant::{BLOCK, StoredRow};
use crate::base::simd::{F32x4, I8x16, I16x8, I32x4, MAX_GROUPS, Wide, WideKernel, Width};
use crate::device::cpu::linear::activations::Q8Activation;
use crate::device::cpu::linear::few_rows::few_rows;
use crate::device::cpu::linear::{GROUP, PANEL, Product, Tiles, VECTORS};

/// Blocks of a panel that are unpacked at once: 12 KB.
const RUN: usize = 16 / MAX_GROUPS;

/// 32 columns of four rows. In half h of vector v, bytes 2r and 2r+1 are the columns 4v+2h and 4v+2h+1 of row r.
#[derive(Clone, Copy)]
pub struct Q8Block {
    quants: [[i8; 16]; 8],
    scale: [i16; GROUP],
}

/// Interleaves row r of a group. // blocks [n_blocks]
pub fn set_row(blocks: &mut [Q8Block], r: usize, row: &StoredRow) {
    let quants = row.quants.chunks(BLOCK);
    for ((packed, scale), quants) in blocks.iter_mut().zip(row.block_scales).zip(quants) {
        packed.scale[r] = i16::from_le_bytes(*scale);
        let fours = quants.as_chunks::<4>().0;
        for (vector, four) in packed.quants.iter_mut().zip(fours) {
            let [a, b, c, d] = four.map(u8::cast_signed);
            vector[2 * r..2 * r + 2].copy_from_slice(&[a, b]);
            vector[8 + 2 * r..8 + 2 * r + 2].copy_from_slice(&[c, d]);
        }
    }
}

impl Q8Block {
    /// Missing rows of the last group keep scales of zero.
    pub const EMPTY: Q8Block = Q8Block {
        quants: [[0; 16]; 8],
        scale: [0; GROUP],
    };

    /// Writes row `r` of the block as f32.
    pub fn dequantize(&self, r: usize, row_scale: f32, out: &mut [f32]) {
        let scale = row_scale * f32::from(self.scale[r]);
        for (col, out) in out.iter_mut().enumerate() {
            let quant = self.quants[col / 4][8 * (col % 4 / 2) + 2 * r + col % 2];
            *out = scale * f32::from(quant);
        }
    }
}

pub struct Q8Product<'a> {
    blocks: &'a [Q8Block],           // [groups, n_blocks]
    activations: &'a [Q8Activation], // [T, n_blocks]
    n_blocks: usize,
    width: Width,
    /// Eight and sixteen, hidden from the optimiser as in `q4.rs`.
    n_vectors: usize,
    n_steps: usize,
}

/// One unpacked block of a panel: per step of two columns, its groups one after another.
#[derive(Clone, Copy)]
pub struct PanelBlock {
    steps: [[[i16; 8]; PANEL]; 16],
    scale: [[i16; GROUP]; PANEL],
}

impl<'a> Q8Product<'a> {
    pub fn new(
        blocks: &'a [Q8Block],
        activations: &'a [Q8Activation],
        n_blocks: usize,
        width: Width,
    ) -> Self {
        Q8Product {
            blocks,
            activations,
            n_blocks,
            width,
            n_vectors: black_box(8),
            n_steps: black_box(16),
        }
    }

    fn group(&self, group: usize) -> &'a [Q8Block] {
        &self.blocks[group * self.n_blocks..][..self.n_blocks]
    }
}

impl Product for Q8Product<'_> {
    type Panel = [PanelBlock; RUN];

    fn panel() -> Self::Panel {
        let empty = PanelBlock {
            steps: [[[0; 8]; PANEL]; 16],
            scale: [[0; GROUP]; PANEL],
        };
        [empty; RUN]
    }

    fn few_rows(&self) -> usize {
        few_rows(self.width)
    }

    fn rows<const N: usize, const T: usize>(
        &self,
        groups: [usize; N],
        t: usize,
    ) -> [[F32x4; T]; N] {
        rows_kernel(
            groups.map(|group| self.group(group)),
            std::array::from_fn(|c| &self.activations[(t + c) * self.n_blocks..][..self.n_blocks]),
            self.n_vectors,
        )
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
        for start in (0..self.n_blocks).step_by(RUN) {
            let n_blocks = RUN.min(self.n_blocks - start);
            let panel = &mut panel[..n_blocks];
            for g in 0..n {
                unpack(&self.group(first + g)[start..][..n_blocks], g, panel);
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
    product: &'a Q8Product<'a>,
    start: usize,
    panel: &'a [PanelBlock],
}

impl Tiles for PanelRun<'_> {
    fn tile<const C: usize>(&self, t: usize, sums: &mut [[F32x4; PANEL]; C]) {
        let product = self.product;
        let columns = std::array::from_fn(|c| {
            &product.activations[(t + c) * product.n_blocks + self.start..][..self.panel.len()]
        });
        product.width.run(MatrixKernel {
            panel: self.panel,
            columns,
            n_steps: product.n_steps,
            sums,
        });
    }
}

/// sum + block sum · weight scale · activation scale.
#[inline(always)]
fn add_scaled(sum: F32x4, products: I32x4, scale: &[i16; GROUP], a_scale: F32x4) -> F32x4 {
    let scale = I16x8::widen_four(scale).to_f32().mul(a_scale);
    sum.mul_add(products.to_f32(), scale)
}

/// `N` groups times `T` rows of activations; each group is read from its own region of memory.
#[inline(never)]
fn rows_kernel<const N: usize, const T: usize>(
    groups: [&[Q8Block]; N],
    rows: [&[Q8Activation]; T],
    n_vectors: usize,
) -> [[F32x4; T]; N] {
    let n_blocks = rows[0].len();
    let groups = groups.map(|blocks| &blocks[..n_blocks]);
    let rows = rows.map(|row| &row[..n_blocks]);
    let mut sums = [[F32x4::splat(0.0); T]; N];
    for block in 0..n_blocks {
        let blocks = groups.map(|blocks| &blocks[block]);
        let activations = rows.map(|row| &row[block]);
        let mut products = [[I32x4::splat(0); T]; N];
        for v in 0..n_vectors.min(8) {
            let even = activations.map(|a| I16x8::splat_pair(&a.pairs[2 * v]));
            let odd = activations.map(|a| I16x8::splat_pair(&a.pairs[2 * v + 1]));
            for n in 0..N {
                let bytes = I8x16::load(&blocks[n].quants[v]);
                let (low, high) = (bytes.widen_low(), bytes.widen_high());
                for t in 0..T {
                    products[n][t] =
                        (products[n][t].add(low.dot_pairs(even[t]))).add(high.dot_pairs(odd[t]));
                }
            }
        }
        for t in 0..T {
            let scale = F32x4::splat(activations[t].scale);
            for n in 0..N {
                sums[n][t] = add_scaled(sums[n][t], products[n][t], &blocks[n].scale, scale);
            }
        }
    }
    sums
}

/// Unpacks the blocks of a group into group `g` of the panel.
fn unpack(blocks: &[Q8Block], g: usize, panel: &mut [PanelBlock]) {
    for (block, unpacked) in blocks.iter().zip(panel) {
        for (bytes, steps) in block
            .quants
            .iter()
            .zip(unpacked.steps.as_chunks_mut::<2>().0)
        {
            let bytes = I8x16::load(bytes);
            bytes.widen_low().store(&mut steps[0][g]);
            bytes.widen_high().store(&mut steps[1][g]);
        }
        unpacked.scale[g] = block.scale;
    }
}

/// A panel times `C` rows of activations, added to `sums`.
struct MatrixKernel<'a, const C: usize> {
    panel: &'a [PanelBlock],
    columns: [&'a [Q8Activation]; C],
    n_steps: usize,
    sums: &'a mut [[F32x4; PANEL]; C],
}

impl<const C: usize> WideKernel for MatrixKernel<'_, C> {
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
        reason = "one index for the products, the weights and the sums"
    )]
    fn multiply<W: Wide>(&mut self, first: usize) {
        let columns = self.columns.map(|column| &column[..self.panel.len()]);
        let group = |v: usize| first + v * W::GROUPS;
        for (block, weights) in self.panel.iter().enumerate() {
            let mut products = [[W::zero(); VECTORS]; C];
            for step in 0..self.n_steps.min(16) {
                for c in 0..C {
                    let a = W::repeat_pair(&columns[c][block].pairs[step]);
                    for v in 0..VECTORS {
                        let weights = W::load_pairs(&weights.steps[step][group(v)..]);
                        products[c][v] = W::add_pairs(products[c][v], weights, a);
                    }
                }
            }
            for c in 0..C {
                for v in 0..VECTORS {
                    let (sums, scale) = (&mut self.sums[c][group(v)..], &weights.scale[group(v)..]);
                    let a_scale = columns[c][block].scale;
                    let sum = W::add_row_scaled(W::load(sums), products[c][v], scale, a_scale);
                    W::store(sum, sums);
                }
            }
        }
    }
}
