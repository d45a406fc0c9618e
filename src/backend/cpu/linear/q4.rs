//! q4 times int8 activations. A group's block is four rows by 32 columns: 64 bytes of nibbles and four i16 scales.
//! It stands inside `linear/`.
//!
//! The nibble operand is 0..=15; the −8 of every weight is one correction per block, −8·Σa, which starts the sum. A
//! 16-bit lane sees at most 16 products of 127·8 in any order of addition, which is below 2¹⁵.
//!
//! The loops over a block's steps have bounds that the compiler can't see: unrolled, LLVM would reorder them into one
//! long chain per accumulator, and the engine behind it would spill.

use std::hint::black_box;

use crate::backend::cpu::linear::activations::Q4Activation;
use crate::backend::cpu::linear::{GROUP, PANEL, Product, Tiles};
use crate::backend::cpu::simd::{
    F32x4, I8x16, NibbleSums, Quad, STEP_COLUMNS, StepActivations, StepSums, StepWeights, unpack,
};
use crate::quant::{BLOCK, Q4Values};

/// Steps of a matrix kernel in one block.
const STEPS: usize = BLOCK / STEP_COLUMNS;
/// Blocks of a panel that are unpacked at once: 12 KB (24 without relaxed SIMD), which leaves the first-level cache room for activations.
const RUN: usize = 32;

/// 32 columns of four rows. Vector v holds, in bytes 4r..4r+4, the columns 8v..8v+4 of row r in its low nibbles and
/// 8v+4..8v+8 in its high ones.
#[derive(Clone, Copy)]
pub struct Q4Block {
    nibbles: [[i8; 16]; 4],
    scale: [i16; GROUP],
}

/// The canonical form, interleaved. Missing rows of the last group have scales of zero. // [groups, blocks]
pub fn pack(q: &Q4Values, rows: usize, n_blocks: usize) -> Vec<Q4Block> {
    let groups = rows.div_ceil(GROUP);
    let mut blocks = Vec::with_capacity(groups * n_blocks);
    for group in 0..groups {
        for block in 0..n_blocks {
            let mut packed = Q4Block {
                nibbles: [[0; 16]; 4],
                scale: [0; GROUP],
            };
            for r in 0..GROUP.min(rows - group * GROUP) {
                let at = (group * GROUP + r) * n_blocks + block;
                packed.scale[r] = q.block_scale[at];
                packed.set_row(r, &q.nibbles[at * BLOCK / 2..][..BLOCK / 2]);
            }
            blocks.push(packed);
        }
    }
    blocks
}

impl Q4Block {
    /// Puts the canonical bytes of one row (column 2k low, 2k+1 high) in their interleaved places.
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
    blocks: &'a [Q4Block],           // [groups, n_blocks]
    activations: &'a [Q4Activation], // [T, n_blocks]
    n_blocks: usize,
    /// Four and [`STEPS`], hidden from the optimiser.
    n_vectors: usize,
    n_steps: usize,
}

/// One unpacked block of a panel: its steps, the groups beside one another.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct PanelBlock {
    steps: [[StepWeights; PANEL]; STEPS],
    scale: [[i16; GROUP]; PANEL],
}

impl<'a> Q4Product<'a> {
    pub fn new(blocks: &'a [Q4Block], activations: &'a [Q4Activation], n_blocks: usize) -> Self {
        Q4Product {
            blocks,
            activations,
            n_blocks,
            n_vectors: black_box(4),
            n_steps: black_box(STEPS),
        }
    }

    fn group(&self, group: usize) -> &'a [Q4Block] {
        &self.blocks[group * self.n_blocks..][..self.n_blocks]
    }
}

impl Product for Q4Product<'_> {
    type Panel = [PanelBlock; RUN];

    fn panel() -> Self::Panel {
        let empty = PanelBlock {
            steps: [[StepWeights::default(); PANEL]; STEPS],
            scale: [[0; GROUP]; PANEL],
        };
        [empty; RUN]
    }

    fn vector<const N: usize>(&self, groups: [usize; N], t: usize) -> [F32x4; N] {
        let activations = &self.activations[t * self.n_blocks..][..self.n_blocks];
        vector_kernel(
            groups.map(|group| self.group(group)),
            activations,
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
                unpack_group(&self.group(first + g)[start..][..n_blocks], g, panel);
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

/// Some blocks of a panel, unpacked.
struct PanelRun<'a> {
    product: &'a Q4Product<'a>,
    start: usize,
    panel: &'a [PanelBlock],
}

impl Tiles for PanelRun<'_> {
    fn tile<const C: usize>(&self, t: usize, sums: &mut [[F32x4; PANEL]; C]) {
        let product = self.product;
        let columns = std::array::from_fn(|c| {
            &product.activations[(t + c) * product.n_blocks + self.start..][..self.panel.len()]
        });
        matrix_kernel(self.panel, columns, product.n_steps, sums);
    }
}

/// `N` groups times one column, each group from its own region of memory.
#[inline(never)]
fn vector_kernel<const N: usize>(
    groups: [&[Q4Block]; N],
    activations: &[Q4Activation],
    n_vectors: usize,
) -> [F32x4; N] {
    let groups = groups.map(|blocks| &blocks[..activations.len()]);
    let mut sums = [F32x4::splat(0.0); N];
    for (block, a) in activations.iter().enumerate() {
        let blocks = groups.map(|group| &group[block]);
        let mut products = [NibbleSums::start(&a.correction); N];
        for v in 0..n_vectors.min(4) {
            let (even, odd) = (Quad::load(&a.quads[2 * v]), Quad::load(&a.quads[2 * v + 1]));
            for n in 0..N {
                let bytes = I8x16::load(&blocks[n].nibbles[v]);
                products[n] = (products[n].add_products(even, bytes.low_nibbles()))
                    .add_products(odd, bytes.high_nibbles());
            }
        }
        let scale = F32x4::splat(a.scale);
        for n in 0..N {
            let scaled = products[n].scaled(&blocks[n].scale);
            sums[n] = sums[n].mul_add(scaled, scale);
        }
    }
    sums
}

/// Writes the blocks of a group to column `g` of the panel.
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

/// A panel times `C` columns, added to `sums`.
#[inline(never)]
#[expect(
    clippy::needless_range_loop,
    reason = "one index for the weights and every column, in loops of this shape only"
)]
fn matrix_kernel<const C: usize>(
    panel: &[PanelBlock],
    columns: [&[Q4Activation]; C],
    n_steps: usize,
    sums: &mut [[F32x4; PANEL]; C],
) {
    let columns = columns.map(|column| &column[..panel.len()]);
    for (block, weights) in panel.iter().enumerate() {
        let columns = columns.map(|column| &column[block]);
        let steps = columns.map(|a| a.quads.as_flattened().as_chunks::<STEP_COLUMNS>().0);
        let mut products = columns.map(|a| [StepSums::start(&a.correction); PANEL]);
        for step in 0..n_steps.min(STEPS) {
            for c in 0..C {
                let a = StepActivations::load(&steps[c][step]);
                for g in 0..PANEL {
                    products[c][g] = products[c][g].add_step(a, &weights.steps[step][g]);
                }
            }
        }
        for c in 0..C {
            let scale = F32x4::splat(columns[c].scale);
            for g in 0..PANEL {
                let scaled = products[c][g].scaled(&weights.scale[g]);
                sums[c][g] = sums[c][g].mul_add(scaled, scale);
            }
        }
    }
}
