//! Weight formats: the host form of a weight matrix, its quantisation row by row, and the stored form of a row. It
//! multiplies nothing; each device repacks a finished [`QMatrix`] for its own kernels.
//!
//! A quantised row consists of blocks of [`BLOCK`] columns. A weight is `row_scale · block_scale · quant`, with an f32
//! scale per row and an i16 scale per block: a kernel can then multiply by the block scale in integer arithmetic, and a
//! block's scale costs two bytes (4.5 bits per weight at q4, 8.5 at q8).

use crate::base::simd::{F32x4, I32x4, fold};
use std::str::FromStr;

use crate::base::error::{Error, Fact, Result};

/// Columns that share one block scale. The last block of a row may be padded with zeros.
pub const BLOCK: usize = 32;

/// The supported weight formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightFormat {
    F32,
    Q8,
    Q4,
}

impl WeightFormat {
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::Q8 => "q8",
            WeightFormat::Q4 => "q4",
        }
    }

    /// The format of the output matrix (and of the tied embedding). Its errors go directly into the logits, so it stays
    /// at eight bits when the other weights have four. `docs/quantization.md` has the measurements.
    pub fn of_output(self) -> WeightFormat {
        match self {
            WeightFormat::Q4 => WeightFormat::Q8,
            other => other,
        }
    }

    /// Bytes of a `rows × cols` matrix in this format.
    pub fn bytes(self, rows: usize, cols: usize) -> u64 {
        let (rows, blocks) = (rows as u64, cols.div_ceil(BLOCK) as u64);
        match self {
            WeightFormat::F32 => rows * cols as u64 * 4,
            WeightFormat::Q8 => rows * (4 + blocks * 34),
            WeightFormat::Q4 => rows * (4 + blocks * 18),
        }
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(WeightFormat::F32),
            "q8" => Ok(WeightFormat::Q8),
            "q4" => Ok(WeightFormat::Q4),
            _ => Err(Error::Setting {
                name: "weights".into(),
                fact: Fact::not_one_of(name, "f32, q8, q4"),
            }),
        }
    }
}

/// A weight matrix `[rows, cols]` on the host, row-major like the weight of a PyTorch `Linear`: y = W·x.
#[derive(Clone, Debug, PartialEq)]
pub struct QMatrix {
    pub rows: usize,
    pub cols: usize,
    pub values: Values,
}

/// The contents of a [`QMatrix`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `[rows · cols]`
    F32(Vec<f32>),
    Q8(Q8Values),
    Q4(Q4Values),
}

/// Eight-bit quants in −127..=127.
#[derive(Clone, Debug, PartialEq)]
pub struct Q8Values {
    /// `[rows]`
    pub row_scale: Vec<f32>,
    /// `[rows · blocks]`
    pub block_scale: Vec<i16>,
    /// `[rows · blocks · 32]`
    pub quants: Vec<i8>,
}

/// Four-bit quants in −8..=7, stored as nibbles `quant + 8`.
#[derive(Clone, Debug, PartialEq)]
pub struct Q4Values {
    /// `[rows]`
    pub row_scale: Vec<f32>,
    /// `[rows · blocks]`
    pub block_scale: Vec<i16>,
    /// `[rows · blocks · 16]`; byte k of a block holds column 2k in its low and column 2k+1 in its high nibble.
    pub nibbles: Vec<u8>,
}

impl QMatrix {
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    pub fn format(&self) -> WeightFormat {
        match self.values {
            Values::F32(_) => WeightFormat::F32,
            Values::Q8(_) => WeightFormat::Q8,
            Values::Q4(_) => WeightFormat::Q4,
        }
    }

    /// Writes the weights of row `row` as f32 into `out` `[cols]`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        let blocks = self.blocks();
        match &self.values {
            Values::F32(values) => out.copy_from_slice(&values[row * self.cols..][..self.cols]),
            Values::Q8(q) => {
                for (col, out) in out.iter_mut().enumerate() {
                    let block = row * blocks + col / BLOCK;
                    let scale = q.row_scale[row] * f32::from(q.block_scale[block]);
                    *out = scale * f32::from(q.quants[block * BLOCK + col % BLOCK]);
                }
            }
            Values::Q4(q) => {
                for (col, out) in out.iter_mut().enumerate() {
                    let block = row * blocks + col / BLOCK;
                    let scale = q.row_scale[row] * f32::from(q.block_scale[block]);
                    let byte = q.nibbles[block * (BLOCK / 2) + col % BLOCK / 2];
                    let nibble = if col % 2 == 0 { byte & 15 } else { byte >> 4 };
                    *out = scale * (f32::from(nibble) - 8.0);
                }
            }
        }
    }
}

/// Builds a matrix row by row as the rows arrive; at most one of them is held as f32 at a time.
#[derive(Debug)]
pub struct QMatrixBuilder {
    matrix: QMatrix,
    rows_done: usize,
    stored_row: Vec<u8>,
}

impl QMatrixBuilder {
    pub fn new(rows: usize, cols: usize, format: WeightFormat) -> Self {
        let blocks = cols.div_ceil(BLOCK);
        let values = match format {
            WeightFormat::F32 => Values::F32(Vec::with_capacity(rows * cols)),
            WeightFormat::Q8 => Values::Q8(Q8Values {
                row_scale: Vec::with_capacity(rows),
                block_scale: Vec::with_capacity(rows * blocks),
                quants: Vec::with_capacity(rows * blocks * BLOCK),
            }),
            WeightFormat::Q4 => Values::Q4(Q4Values {
                row_scale: Vec::with_capacity(rows),
                block_scale: Vec::with_capacity(rows * blocks),
                nibbles: Vec::with_capacity(rows * blocks * BLOCK / 2),
            }),
        };
        QMatrixBuilder {
            matrix: QMatrix { rows, cols, values },
            rows_done: 0,
            stored_row: vec![0; format.bytes(1, cols) as usize],
        }
    }

    /// Appends a row of `cols` finite weights.
    pub fn push_row(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.matrix.cols);
        let mut stored = std::mem::take(&mut self.stored_row);
        store_row(self.matrix.format(), row, &mut stored);
        let finite = self.push_stored(&stored);
        assert!(finite, "finite weights have finite scales");
        self.stored_row = stored;
    }

    /// Appends a row in the form of [`store_row`]. Returns false, and appends nothing, if a number is not finite or a
    /// quant is out of range.
    pub fn push_stored(&mut self, row: &[u8]) -> bool {
        let blocks = self.matrix.blocks();
        assert_eq!(
            row.len() as u64,
            self.matrix.format().bytes(1, self.matrix.cols)
        );
        assert!(self.rows_done < self.matrix.rows, "more rows than promised");
        match &mut self.matrix.values {
            Values::F32(values) => {
                let floats = row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                if floats.clone().any(|v| !v.is_finite()) {
                    return false;
                }
                values.extend(floats);
            }
            Values::Q8(q) => {
                let Some(quants) = take_scales(row, blocks, &mut q.row_scale, &mut q.block_scale)
                else {
                    return false;
                };
                q.quants.extend(quants.iter().map(|v| *v as i8));
            }
            Values::Q4(q) => {
                let Some(nibbles) = take_scales(row, blocks, &mut q.row_scale, &mut q.block_scale)
                else {
                    return false;
                };
                q.nibbles.extend_from_slice(nibbles);
            }
        }
        self.rows_done += 1;
        true
    }

    /// Returns the matrix. Panics unless every row has been pushed.
    pub fn finish(self) -> QMatrix {
        assert_eq!(self.rows_done, self.matrix.rows, "rows are missing");
        self.matrix
    }
}

/// Writes the stored form of a row of finite weights: the row's f32 scale, the blocks' i16 scales and the quants (q8:
/// one i8 each, q4: two per byte), or plain f32; all little-endian. `out` has [`WeightFormat::bytes`] of one row.
pub fn store_row(format: WeightFormat, row: &[f32], out: &mut [u8]) {
    let blocks = row.len().div_ceil(BLOCK);
    let (ideal, low, high): (fn(&[f32; BLOCK]) -> f32, _, _) = match format {
        WeightFormat::F32 => {
            for (out, v) in out.as_chunks_mut().0.iter_mut().zip(row) {
                *out = v.to_le_bytes();
            }
            return;
        }
        WeightFormat::Q8 => (q8_scale, -127.0, 127.0),
        WeightFormat::Q4 => (q4_scale, -8.0, 7.0),
    };
    let (row_scale, rest) = out.split_at_mut(4);
    let (block_scales, quants) = rest.split_at_mut(2 * blocks);
    let quant_bytes = quants.len() / blocks;
    // First pass: the unrounded block scales go where the quants will be, because the row scale depends on the largest.
    let mut largest = 0.0f32;
    for (block, out) in row.chunks(BLOCK).zip(quants.chunks_mut(quant_bytes)) {
        let scale = ideal(&padded(block));
        out[..4].copy_from_slice(&scale.to_le_bytes());
        if scale.abs() > largest {
            largest = scale.abs();
        }
    }
    let scales = RowScales {
        row: largest / 32767.0,
    };
    row_scale.copy_from_slice(&scales.row.to_le_bytes());
    let places = block_scales.as_chunks_mut().0.iter_mut();
    for ((block, place), out) in (row.chunks(BLOCK).zip(places)).zip(quants.chunks_mut(quant_bytes))
    {
        let ideal = f32::from_le_bytes([out[0], out[1], out[2], out[3]]);
        let (integer, scale) = scales.stored(ideal);
        *place = integer.to_le_bytes();
        let quants = quantize(block, scale, low, high);
        match format {
            WeightFormat::Q4 => {
                for (out, [low, high]) in out.iter_mut().zip(quants.as_chunks::<2>().0) {
                    *out = (low + 8) as u8 | ((high + 8) as u8) << 4;
                }
            }
            _ => {
                for (out, quant) in out.iter_mut().zip(quants) {
                    *out = quant as u8;
                }
            }
        }
    }
}

/// Splits the scales off a stored row and returns the bytes after them; `None` if a scale is invalid.
fn take_scales<'a>(
    row: &'a [u8],
    blocks: usize,
    row_scale: &mut Vec<f32>,
    block_scale: &mut Vec<i16>,
) -> Option<&'a [u8]> {
    let (scale, rest) = row.split_first_chunk()?;
    let scale = f32::from_le_bytes(*scale);
    let (scales, quants) = rest.split_at(2 * blocks);
    let scales = scales.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b));
    // The kernels rely on a symmetric range.
    if !scale.is_finite() || scales.clone().any(|v| v == i16::MIN) {
        return None;
    }
    row_scale.push(scale);
    block_scale.extend(scales);
    Some(quants)
}

/// The row scale, and the block scales as multiples of it.
struct RowScales {
    row: f32,
}

impl RowScales {
    /// The i16 nearest to the ideal block scale, and the scale it represents.
    fn stored(&self, ideal: f32) -> (i16, f32) {
        if self.row == 0.0 {
            return (0, 0.0);
        }
        let integer = ((ideal / self.row).clamp(-32767.0, 32767.0) + SHIFT) - SHIFT;
        (integer as i16, integer * self.row)
    }
}

fn padded(block: &[f32]) -> [f32; BLOCK] {
    let mut full = [0.0; BLOCK];
    full[..block.len()].copy_from_slice(block);
    full
}

/// Adding 1.5·2²³ to a small number leaves the nearest integer, ties to even, in the low bits of the sum.
const SHIFT: f32 = 12_582_912.0;

/// The nearest quants of `block` at `scale`, clamped to low..=high.
fn quantize(block: &[f32], scale: f32, low: f32, high: f32) -> [i8; BLOCK] {
    let inverse = F32x4::splat(if scale == 0.0 { 0.0 } else { 1.0 / scale });
    let block = padded(block);
    let mut quants = [0; BLOCK];
    let sixteens = quants.as_chunks_mut::<16>().0.iter_mut();
    for (quants, x) in sixteens.zip(block.as_chunks::<16>().0) {
        let fours = x.as_chunks::<4>().0;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| {
            let x = F32x4::load(&fours[i]).mul(inverse);
            (shifted(x, low, high).bits()).sub(I32x4::splat(SHIFT.to_bits() as i32))
        });
        a.narrow(b).narrow(c.narrow(d)).store(quants);
    }
    quants
}

/// The nearest integers clamped to low..=high, plus [`SHIFT`].
#[inline(always)]
fn shifted(v: F32x4, low: f32, high: f32) -> F32x4 {
    let bounded = v.max(F32x4::splat(low)).min(F32x4::splat(high));
    bounded.add(F32x4::splat(SHIFT))
}

/// Whether a row is free of NaN and infinity: zero times either is NaN.
pub fn all_finite(row: &[f32]) -> bool {
    let zeros = fold(row, 0.0, |sum, x| sum.mul_add(x, F32x4::splat(0.0)));
    !zeros.sum().is_nan()
}

/// The largest magnitude.
fn magnitude(block: &[f32; BLOCK]) -> f32 {
    let lanes = fold(block, 0.0, |largest, x| largest.max(x.abs()));
    // Not `f32::max`, which compiles to a function call in wasm.
    let [a, b, c, d] = lanes.to_array();
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    larger(larger(a, b), larger(c, d))
}

fn q8_scale(block: &[f32; BLOCK]) -> f32 {
    magnitude(block) / 127.0
}

/// The scale with the least squared error of a few candidates. −8 is one step farther from zero than 7, so the scale
/// gets the sign that maps the largest weight to −8; a scale slightly below full range often loses less on the other 31
/// weights.
fn q4_scale(block: &[f32; BLOCK]) -> f32 {
    let magnitude = magnitude(block);
    // Zeros, and weights so small that 1/magnitude overflows f32.
    if magnitude < 1e-37 {
        return 0.0;
    }
    let largest = block.iter().find(|v| v.abs() == magnitude);
    let peak = *largest.expect("the largest magnitude is that of a weight");
    let mut best = (f32::INFINITY, 0.0);
    for reach in [-9.0f32, -8.4, -8.0, -7.5, -7.0, 7.2] {
        let inverse = F32x4::splat(reach / peak);
        // With the quants fixed, the best scale is the least-squares one; its error is Σx² − (Σxq)²/Σq².
        let (mut xq, mut qq) = (F32x4::splat(0.0), F32x4::splat(0.0));
        for x in block.as_chunks().0 {
            let x = F32x4::load(x);
            let q = shifted(x.mul(inverse), -8.0, 7.0).sub(F32x4::splat(SHIFT));
            xq = xq.mul_add(x, q);
            qq = qq.mul_add(q, q);
        }
        let (xq, qq) = (xq.sum(), qq.sum());
        let error = -xq * xq / qq;
        if error < best.0 {
            best = (error, xq / qq);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cols: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..cols)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn round_trip(cols: usize, format: WeightFormat) -> (Vec<f32>, Vec<f32>) {
        let mut builder = QMatrixBuilder::new(2, cols, format);
        builder.push_row(&row(cols, 1));
        builder.push_row(&row(cols, 2));
        let matrix = builder.finish();
        let mut back = vec![0.0; cols];
        matrix.dequantize_row(1, &mut back);
        (row(cols, 2), back)
    }

    #[test]
    fn f32_rows_round_trip_exactly() {
        let (there, back) = round_trip(37, WeightFormat::F32);
        assert_eq!(there, back);
    }

    /// The largest error is half a step, 1/127/2 of the peak, plus the rounding of the i16 scale.
    #[test]
    fn q8_is_within_half_a_step_at_every_width() {
        for cols in [1, 31, 32, 33, 64, 100] {
            let (there, back) = round_trip(cols, WeightFormat::Q8);
            for (a, b) in there.iter().zip(&back) {
                assert!((a - b).abs() <= 0.5 / 127.0 + 1e-4, "{cols}: {a} {b}");
            }
        }
    }

    /// One step of q4 is an eighth of the peak; the scale search may clip the peak by up to one step.
    #[test]
    fn q4_is_within_a_step_at_every_width() {
        for cols in [1, 31, 32, 33, 64, 100] {
            let (there, back) = round_trip(cols, WeightFormat::Q4);
            for (a, b) in there.iter().zip(&back) {
                assert!((a - b).abs() <= 1.0 / 7.0 + 1e-4, "{cols}: {a} {b}");
            }
        }
    }

    #[test]
    fn the_searched_q4_scale_has_no_more_error_than_full_range() {
        for seed in 0..50 {
            let block: [f32; BLOCK] = row(BLOCK, seed).try_into().unwrap();
            let error = |scale: f32| -> f32 {
                let quants = quantize(&block, scale, -8.0, 7.0).map(f32::from);
                let pairs = block.iter().zip(quants);
                pairs.map(|(x, q)| (x - q * scale).powi(2)).sum()
            };
            let peak = block
                .iter()
                .fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            assert!(error(q4_scale(&block)) <= error(peak / -8.0) + 1e-5);
        }
    }

    #[test]
    fn a_row_of_zeros_dequantises_to_zeros() {
        for format in [WeightFormat::Q8, WeightFormat::Q4] {
            let mut builder = QMatrixBuilder::new(1, 40, format);
            builder.push_row(&[0.0; 40]);
            let mut back = [1.0; 40];
            builder.finish().dequantize_row(0, &mut back);
            assert_eq!(back, [0.0; 40]);
        }
    }

    #[test]
    fn a_block_far_smaller_than_its_row_dequantises_to_about_zero() {
        let mut values = vec![1e-9; 64];
        values[..32].copy_from_slice(&[1.0; 32]);
        let mut builder = QMatrixBuilder::new(1, 64, WeightFormat::Q4);
        builder.push_row(&values);
        let mut back = [9.0; 64];
        builder.finish().dequantize_row(0, &mut back);
        assert!(back[32..].iter().all(|v| v.abs() <= 1e-4));
    }

    #[test]
    fn bytes_counts_scales_and_quants_of_padded_blocks() {
        for (format, per_block) in [(WeightFormat::Q8, 34), (WeightFormat::Q4, 18)] {
            assert_eq!(format.bytes(3, 65), 3 * (4 + 3 * per_block));
        }
        assert_eq!(WeightFormat::F32.bytes(3, 65), 3 * 65 * 4);
    }
}
