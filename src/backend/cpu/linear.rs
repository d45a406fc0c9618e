//! y = W·x for one row of activations and for many, in f32, q8 and q4. It stands inside the CPU backend, above the
//! vector operations. Rows of W are spread over the threads; every row is summed in the same order whatever the number
//! of threads or of activation rows, so prefill and decode agree bit for bit on equal inputs.
//!
//! q4: rows go in groups of four, interleaved, so that the four sums of a group sit in the four lanes of one vector.
//! Activations are int8 with a scale per block of 32. The nibble operand is 0..=15; the −8 of every weight is one
//! correction per block, −8·Σa, which starts the sum. A 16-bit lane sees at most 16·127·15 − 8·16·127 < 2¹⁵.
//! q8: i8 weights times 16-bit activations, which keeps the activations' error two orders below the weights'.

use crate::backend::cpu::pool::{Pool, Stripe, Stripes};
use crate::backend::cpu::simd::{F32x4, I8x16, I16x8, I32x4};
use crate::quant::{BLOCK, QMatrix, Values};

/// Rows that the kernels take together.
const GROUP: usize = 4;
/// Activation rows that share one reading of the weights.
const TILE: usize = 4;

/// A weight matrix `[rows, cols]` in the kernels' layout.
pub struct CpuWeight {
    pub rows: usize,
    pub cols: usize,
    layout: Layout,
}

enum Layout {
    F32(Vec<f32>), // [rows, cols]
    Q8 {
        row_scale: Vec<f32>,  // [rows]
        blocks: Vec<Q8Block>, // [rows, blocks]
    },
    Q4 {
        row_scale: Vec<[f32; GROUP]>, // [groups]
        blocks: Vec<Q4Block>,         // [groups, blocks]
    },
}

struct Q8Block {
    quants: [i8; BLOCK],
    scale: i16,
}

/// 32 columns of four rows. Vector v holds, in bytes 4r..4r+4, the columns 8v..8v+4 of row r in its low nibbles and
/// 8v+4..8v+8 in its high ones.
struct Q4Block {
    nibbles: [[u8; 16]; 4],
    scale: [i16; GROUP],
}

/// One block of activations for q4: each vector is four columns, repeated for the four rows of a group.
#[derive(Clone, Copy)]
struct Q4Activation {
    quants: [[i8; 16]; 8],
    correction: [i16; 8],
    scale: f32,
}

/// One block of activations for q8.
#[derive(Clone, Copy)]
struct Q8Activation {
    quants: [[i16; 8]; 4],
    scale: f32,
}

/// Quantised activations, reused from call to call.
#[derive(Default)]
pub struct Activations {
    q8: Vec<Q8Activation>, // [T, blocks]
    q4: Vec<Q4Activation>, // [T, blocks]
}

impl CpuWeight {
    /// Repacks the host form; the host matrix is gone afterwards.
    pub fn new(matrix: QMatrix) -> CpuWeight {
        let (rows, cols, n_blocks) = (matrix.rows, matrix.cols, matrix.blocks());
        let layout = match matrix.values {
            Values::F32(values) => Layout::F32(values),
            Values::Q8(q) => {
                let quants = q.quants.as_chunks::<BLOCK>().0;
                let blocks = quants.iter().zip(q.block_scale);
                Layout::Q8 {
                    row_scale: q.row_scale,
                    blocks: blocks
                        .map(|(&quants, scale)| Q8Block { quants, scale })
                        .collect(),
                }
            }
            Values::Q4(q) => {
                let groups = rows.div_ceil(GROUP);
                let mut blocks = Vec::with_capacity(groups * n_blocks);
                let mut row_scale = vec![[0.0; GROUP]; groups];
                for (row, scale) in q.row_scale.iter().enumerate() {
                    row_scale[row / GROUP][row % GROUP] = *scale;
                }
                for group in 0..groups {
                    for block in 0..n_blocks {
                        let mut packed = Q4Block {
                            nibbles: [[0; 16]; 4],
                            scale: [0; GROUP],
                        };
                        for r in 0..GROUP.min(rows - group * GROUP) {
                            let at = (group * GROUP + r) * n_blocks + block;
                            packed.scale[r] = q.block_scale[at];
                            let bytes = &q.nibbles[at * BLOCK / 2..][..BLOCK / 2];
                            packed.set_row(r, bytes.try_into().expect("half a block"));
                        }
                        blocks.push(packed);
                    }
                }
                Layout::Q4 { row_scale, blocks }
            }
        };
        CpuWeight { rows, cols, layout }
    }

    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::F32(values) => size_of_val(&values[..]),
            Layout::Q8 { row_scale, blocks } => {
                size_of_val(&row_scale[..]) + size_of_val(&blocks[..])
            }
            Layout::Q4 { row_scale, blocks } => {
                size_of_val(&row_scale[..]) + size_of_val(&blocks[..])
            }
        }
    }

    /// Writes row `row` as f32. `out` is `[cols]`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let n_blocks = self.cols.div_ceil(BLOCK);
        match &self.layout {
            Layout::F32(values) => out.copy_from_slice(&values[row * self.cols..][..self.cols]),
            Layout::Q8 { row_scale, blocks } => {
                for (col, out) in out.iter_mut().enumerate() {
                    let block = &blocks[row * n_blocks + col / BLOCK];
                    let scale = row_scale[row] * f32::from(block.scale);
                    *out = scale * f32::from(block.quants[col % BLOCK]);
                }
            }
            Layout::Q4 { row_scale, blocks } => {
                let (group, r) = (row / GROUP, row % GROUP);
                for (col, out) in out.iter_mut().enumerate() {
                    let block = &blocks[group * n_blocks + col / BLOCK];
                    let scale = row_scale[group][r] * f32::from(block.scale[r]);
                    *out = scale * (f32::from(block.nibble(r, col % BLOCK)) - 8.0);
                }
            }
        }
    }

    /// y = W·x + bias, or y += W·x + bias. `x [T, cols]`, `y [T, rows]`, `bias [rows]`
    pub fn multiply(
        &self,
        pool: &Pool,
        activations: &mut Activations,
        x: &[f32],
        bias: Option<&[f32]>,
        accumulate: bool,
        y: &mut [f32],
    ) {
        let n_blocks = self.cols.div_ceil(BLOCK);
        let groups = self.rows.div_ceil(GROUP);
        let groups_per_part = groups.div_ceil(pool.threads());
        let finish = |row: usize, sum: f32, y: &mut f32| {
            let sum = sum + bias.map_or(0.0, |bias| bias[row]);
            *y = if accumulate { *y + sum } else { sum };
        };
        let t_rows = x.len() / self.cols;
        let store =
            |stripe: &mut Stripe, t: usize, group: usize, first: usize, sums: [f32; GROUP]| {
                let row = group * GROUP;
                let inside = &mut stripe.row(t)[row - first..];
                for ((r, sum), y) in sums.into_iter().enumerate().zip(inside) {
                    finish(row + r, sum, y);
                }
            };
        let stripes = Stripes::of_columns(y, self.rows, groups_per_part * GROUP);
        match &self.layout {
            Layout::F32(values) => pool.run(pool.threads(), stripes, |part, mut stripe| {
                let first = part * groups_per_part * GROUP;
                for_tiles(groups, groups_per_part, part, t_rows, |group, t, tile| {
                    let rows = &values[group * GROUP * self.cols..];
                    let n = GROUP.min(self.rows - group * GROUP);
                    for t in t..t + tile {
                        let x = &x[t * self.cols..][..self.cols];
                        let sums = f32_group(rows, n, x);
                        store(&mut stripe, t, group, first, sums);
                    }
                });
            }),
            Layout::Q8 { row_scale, blocks } => {
                activations.quantize_q8(x, self.cols);
                let a = &activations.q8;
                pool.run(pool.threads(), stripes, |part, mut stripe| {
                    let first = part * groups_per_part * GROUP;
                    for_tiles(groups, groups_per_part, part, t_rows, |group, t, tile| {
                        let row = group * GROUP;
                        let n = GROUP.min(self.rows - row);
                        for t in t..t + tile {
                            let a = &a[t * n_blocks..][..n_blocks];
                            let sums = std::array::from_fn(|r| {
                                let row = row + r.min(n - 1);
                                row_scale[row] * q8_row(&blocks[row * n_blocks..][..n_blocks], a)
                            });
                            store(&mut stripe, t, group, first, sums);
                        }
                    });
                });
            }
            Layout::Q4 { row_scale, blocks } => {
                activations.quantize_q4(x, self.cols);
                let a = &activations.q4;
                pool.run(pool.threads(), stripes, |part, mut stripe| {
                    let first = part * groups_per_part * GROUP;
                    for_tiles(groups, groups_per_part, part, t_rows, |group, t, tile| {
                        let weights = &blocks[group * n_blocks..][..n_blocks];
                        let scale = &row_scale[group];
                        let a = &a[t * n_blocks..];
                        let sums = match tile {
                            TILE => q4_group::<TILE>(weights, scale, a),
                            3 => pad(q4_group::<3>(weights, scale, a)),
                            2 => pad(q4_group::<2>(weights, scale, a)),
                            _ => pad(q4_group::<1>(weights, scale, a)),
                        };
                        for (i, sums) in sums.into_iter().take(tile).enumerate() {
                            store(&mut stripe, t + i, group, first, sums);
                        }
                    });
                });
            }
        }
    }
}

/// Calls `body(group, first activation row, activation rows)` for each tile of the part's share of the groups.
fn for_tiles(
    groups: usize,
    groups_per_part: usize,
    part: usize,
    t_rows: usize,
    mut body: impl FnMut(usize, usize, usize),
) {
    let end = groups.min((part + 1) * groups_per_part);
    for group in part * groups_per_part..end {
        for t in (0..t_rows).step_by(TILE) {
            body(group, t, TILE.min(t_rows - t));
        }
    }
}

fn pad<const N: usize>(sums: [[f32; GROUP]; N]) -> [[f32; GROUP]; TILE] {
    let mut padded = [[0.0; GROUP]; TILE];
    padded[..N].copy_from_slice(&sums);
    padded
}

/// The dot products of `n` ≤ 4 consecutive rows with x, each in four lanes and a tail.
fn f32_group(rows: &[f32], n: usize, x: &[f32]) -> [f32; GROUP] {
    let cols = x.len();
    let row: [&[f32]; GROUP] = std::array::from_fn(|r| &rows[r.min(n - 1) * cols..][..cols]);
    let (x4, x_tail) = x.as_chunks::<4>();
    let row4 = row.map(|row| &row.as_chunks::<4>().0[..x4.len()]);
    let mut lanes = [F32x4::splat(0.0); GROUP];
    for (i, x) in x4.iter().enumerate() {
        let x = F32x4::load(x);
        for r in 0..GROUP {
            lanes[r] = lanes[r].mul_add(F32x4::load(&row4[r][i]), x);
        }
    }
    std::array::from_fn(|r| {
        let tail = row[r][x4.len() * 4..].iter().zip(x_tail);
        lanes[r].sum() + tail.map(|(w, x)| w * x).sum::<f32>()
    })
}

/// One row, up to its row scale.
fn q8_row(weights: &[Q8Block], activations: &[Q8Activation]) -> f32 {
    let mut lanes = F32x4::splat(0.0);
    for (w, a) in weights.iter().zip(activations) {
        let mut sum = I32x4::zero();
        for (half, quants) in w.quants.as_chunks::<16>().0.iter().enumerate() {
            let quants = I8x16::load(quants);
            let low = I16x8::load(&a.quants[2 * half]);
            let high = I16x8::load(&a.quants[2 * half + 1]);
            sum = sum.add(quants.widen_low().dot_pairs(low));
            sum = sum.add(quants.widen_high().dot_pairs(high));
        }
        lanes = lanes.mul_add(sum.to_f32(), F32x4::splat(f32::from(w.scale) * a.scale));
    }
    lanes.sum()
}

/// Four rows times `N` rows of activations. // activations [≥ N, blocks]
fn q4_group<const N: usize>(
    weights: &[Q4Block],
    row_scale: &[f32; GROUP],
    activations: &[Q4Activation],
) -> [[f32; GROUP]; N] {
    let n_blocks = weights.len();
    let columns: [&[Q4Activation]; N] =
        std::array::from_fn(|t| &activations[t * n_blocks..][..n_blocks]);
    let mut lanes = [F32x4::splat(0.0); N];
    for (block, w) in weights.iter().enumerate() {
        let mut sums = columns.map(|a| I16x8::load(&a[block].correction));
        for (v, bytes) in w.nibbles.iter().enumerate() {
            let bytes = I8x16::load_bytes(bytes);
            let (low, high) = (bytes.low_nibbles(), bytes.high_nibbles());
            for t in 0..N {
                let a = &columns[t][block];
                let even = I8x16::load(&a.quants[2 * v]).dot_pairs(low);
                let odd = I8x16::load(&a.quants[2 * v + 1]).dot_pairs(high);
                sums[t] = sums[t].add(even).add(odd);
            }
        }
        let scale = I16x8::load_twice(&w.scale);
        for t in 0..N {
            let scaled = sums[t].dot_pairs(scale).to_f32();
            lanes[t] = lanes[t].mul_add(scaled, F32x4::splat(columns[t][block].scale));
        }
    }
    lanes.map(|lanes| {
        let mut sums = [0.0; GROUP];
        lanes.mul(F32x4::load(row_scale)).store(&mut sums);
        sums
    })
}

impl Q4Block {
    /// Puts the canonical bytes of one row (column 2k low, 2k+1 high) in their interleaved places.
    fn set_row(&mut self, r: usize, bytes: &[u8; BLOCK / 2]) {
        for col in 0..BLOCK {
            let byte = bytes[col / 2];
            let nibble = if col % 2 == 0 { byte & 15 } else { byte >> 4 };
            let shift = if col % 8 < 4 { 0 } else { 4 };
            self.nibbles[col / 8][4 * r + col % 4] |= nibble << shift;
        }
    }

    fn nibble(&self, r: usize, col: usize) -> u8 {
        let byte = self.nibbles[col / 8][4 * r + col % 4];
        if col % 8 < 4 { byte & 15 } else { byte >> 4 }
    }
}

impl Activations {
    fn quantize_q8(&mut self, x: &[f32], cols: usize) {
        fill(&mut self.q8, x, cols, |block| {
            let (quants, scale) = quantize(block, 32767.0);
            let mut a = Q8Activation {
                quants: [[0; 8]; 4],
                scale,
            };
            for (col, quant) in quants.into_iter().enumerate() {
                a.quants[col / 8][col % 8] = quant;
            }
            a
        });
    }

    fn quantize_q4(&mut self, x: &[f32], cols: usize) {
        fill(&mut self.q4, x, cols, |block| {
            let (quants, scale) = quantize(block, 127.0);
            let mut a = Q4Activation {
                quants: [[0; 16]; 8],
                correction: [0; 8],
                scale,
            };
            for (col, quant) in quants.into_iter().enumerate() {
                for r in 0..GROUP {
                    a.quants[col / 4][4 * r + col % 4] = quant as i8;
                    // Lane 2r sums the first two of every four columns, lane 2r + 1 the last two.
                    a.correction[2 * r + col % 4 / 2] -= 8 * quant;
                }
            }
            a
        });
    }
}

/// Fills `out` `[T, blocks]` from `x` `[T, cols]`. Serial: the product that follows is far larger.
fn fill<T>(out: &mut Vec<T>, x: &[f32], cols: usize, quantize: impl Fn(&[f32; BLOCK]) -> T) {
    out.clear();
    for row in x.chunks(cols) {
        let (blocks, tail) = row.as_chunks::<BLOCK>();
        out.extend(blocks.iter().map(&quantize));
        if !tail.is_empty() {
            let mut block = [0.0; BLOCK];
            block[..tail.len()].copy_from_slice(tail);
            out.push(quantize(&block));
        }
    }
}

/// The nearest integers in −high..=high and the scale that turns them back.
fn quantize(block: &[f32; BLOCK], high: f32) -> ([i16; BLOCK], f32) {
    let peak = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let inverse = high / peak;
    // Zeros, and numbers so small that their inverse leaves f32: quants made from an infinity would be wrong.
    if inverse.is_infinite() {
        return ([0; BLOCK], 0.0);
    }
    // Adding 1.5·2²³ rounds to the nearest integer in two vector instructions.
    const SHIFT: f32 = 12_582_912.0;
    let quants = block.map(|v| ((v * inverse + SHIFT) - SHIFT) as i16);
    (quants, peak / high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{QMatrixBuilder, WeightFormat};

    #[test]
    fn a_packed_row_reads_back_as_the_host_row() {
        for format in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            let (rows, cols) = (6, 45);
            let mut builder = QMatrixBuilder::new(rows, cols, format);
            for r in 0..rows {
                let row: Vec<f32> = (0..cols)
                    .map(|c| ((r * 31 + c * 17) % 23) as f32 - 11.0)
                    .collect();
                builder.push_row(&row);
            }
            let host = builder.finish();
            let packed = CpuWeight::new(host.clone());
            for r in 0..rows {
                let (mut a, mut b) = (vec![0.0; cols], vec![0.0; cols]);
                host.dequantize_row(r, &mut a);
                packed.row(r, &mut b);
                assert_eq!(a, b, "{format:?} row {r}");
            }
        }
    }
}
