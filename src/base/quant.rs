//! Weight formats: quantisation row by row, and the stored form of a row. It multiplies nothing; each device repacks
//! stored rows for its own kernels as they arrive.
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

/// The integers or floats that a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Int8,
    Int16,
    F32,
}

impl WeightFormat {
    /// All formats, the most exact first.
    pub const ALL: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4];

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

    /// Bits of one weight, without scales.
    pub const fn bits(self) -> usize {
        match self {
            WeightFormat::F32 => 32,
            WeightFormat::Q8 => 8,
            WeightFormat::Q4 => 4,
        }
    }

    /// Whether rows consist of blocks with scales.
    pub fn is_quantized(self) -> bool {
        self != WeightFormat::F32
    }

    /// What the CPU's matrix kernels multiply.
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            WeightFormat::F32 => Arithmetic::F32,
            WeightFormat::Q8 => Arithmetic::Int16,
            WeightFormat::Q4 => Arithmetic::Int8,
        }
    }

    /// The names of all formats, for messages.
    pub fn names() -> String {
        WeightFormat::ALL.map(WeightFormat::name).join(", ")
    }

    /// Bytes of the scales of a stored row of `cols` columns.
    pub fn scale_bytes(self, cols: usize) -> usize {
        if self.is_quantized() {
            4 + 2 * cols.div_ceil(BLOCK)
        } else {
            0
        }
    }

    /// Bytes of a `rows × cols` matrix in this format.
    pub fn bytes(self, rows: usize, cols: usize) -> u64 {
        let stored_cols = if self.is_quantized() {
            cols.next_multiple_of(BLOCK)
        } else {
            cols
        };
        // In 64 bits: a matrix may be larger than wasm's addresses.
        let row_bytes = self.scale_bytes(cols) as u64 + (stored_cols * self.bits() / 8) as u64;
        rows as u64 * row_bytes
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut formats = WeightFormat::ALL.into_iter();
        let found = formats.find(|format| format.name() == name);
        found.ok_or_else(|| Error::Setting {
            name: "weights".into(),
            fact: Fact::not_one_of(name, &WeightFormat::names()),
        })
    }
}

/// A weight matrix `[rows, cols]` on the host, as stored rows: y = W·x, like the weight of a PyTorch `Linear`.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMatrix {
    pub format: WeightFormat,
    pub rows: usize,
    pub cols: usize,
    /// `rows` rows in the form of [`store_row`].
    pub bytes: Vec<u8>,
}

impl StoredMatrix {
    /// Quantises `values[rows · cols]`, which must be finite.
    pub fn from_values(format: WeightFormat, cols: usize, values: &[f32]) -> Self {
        let rows = values.len() / cols;
        let mut bytes = vec![0; format.bytes(rows, cols) as usize];
        let row_bytes = format.bytes(1, cols) as usize;
        for (row, out) in values.chunks(cols).zip(bytes.chunks_mut(row_bytes)) {
            store_row(format, row, out);
        }
        StoredMatrix {
            format,
            rows,
            cols,
            bytes,
        }
    }

    /// Row `row` in its stored form.
    pub fn row(&self, row: usize) -> &[u8] {
        let row_bytes = self.format.bytes(1, self.cols) as usize;
        &self.bytes[row * row_bytes..][..row_bytes]
    }

    /// Writes the weights of row `row` as f32 into `out` `[cols]`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols);
        let row = self.row(row);
        if self.format == WeightFormat::F32 {
            for (out, value) in out.iter_mut().zip(row.as_chunks().0) {
                *out = f32::from_le_bytes(*value);
            }
            return;
        }
        let row = StoredRow::of(row, self.cols.div_ceil(BLOCK));
        for (col, out) in out.iter_mut().enumerate() {
            let scale = row.scale * f32::from(i16::from_le_bytes(row.block_scales[col / BLOCK]));
            let quant = match self.format {
                WeightFormat::Q4 => f32::from(row.quants[col / 2] >> (4 * (col % 2)) & 15) - 8.0,
                WeightFormat::Q8 => f32::from(row.quants[col].cast_signed()),
                WeightFormat::F32 => unreachable!("returned above"),
            };
            *out = scale * quant;
        }
    }
}

/// The parts of a quantised row in its stored form.
pub struct StoredRow<'a> {
    pub scale: f32,
    /// `[blocks]`, each an i16.
    pub block_scales: &'a [[u8; 2]],
    /// q8: `[blocks · 32]` of i8 in −127..=127. q4: `[blocks · 16]`; byte k of a block holds column 2k in its low and
    /// column 2k+1 in its high nibble, as `quant + 8`.
    pub quants: &'a [u8],
}

impl<'a> StoredRow<'a> {
    pub fn of(row: &'a [u8], blocks: usize) -> Self {
        let (scale, rest) = row
            .split_first_chunk()
            .expect("a stored row begins with its scale");
        let (block_scales, quants) = rest.split_at(2 * blocks);
        StoredRow {
            scale: f32::from_le_bytes(*scale),
            block_scales: block_scales.as_chunks().0,
            quants,
        }
    }
}

/// Whether the numbers of a stored row of `cols` columns are valid: finite, and scales in the symmetric range that the
/// kernels rely on.
pub fn is_valid_row(format: WeightFormat, cols: usize, row: &[u8]) -> bool {
    if format == WeightFormat::F32 {
        let mut values = row.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v));
        return values.all(f32::is_finite);
    }
    let row = StoredRow::of(row, cols.div_ceil(BLOCK));
    let mut block_scales = row.block_scales.iter();
    row.scale.is_finite() && block_scales.all(|scale| i16::from_le_bytes(*scale) != i16::MIN)
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
            WeightFormat::Q8 => {
                for (out, quant) in out.iter_mut().zip(quants) {
                    *out = quant as u8;
                }
            }
            WeightFormat::F32 => unreachable!("returned above"),
        }
    }
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
        let values = [row(cols, 1), row(cols, 2)].concat();
        let matrix = StoredMatrix::from_values(format, cols, &values);
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
            let mut back = [1.0; 40];
            StoredMatrix::from_values(format, 40, &[0.0; 40]).dequantize_row(0, &mut back);
            assert_eq!(back, [0.0; 40]);
        }
    }

    #[test]
    fn a_block_far_smaller_than_its_row_dequantises_to_about_zero() {
        let mut values = vec![1e-9; 64];
        values[..32].copy_from_slice(&[1.0; 32]);
        let mut back = [9.0; 64];
        StoredMatrix::from_values(WeightFormat::Q4, 64, &values).dequantize_row(0, &mut back);
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
