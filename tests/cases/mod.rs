//! Test cases of every op, at all edge-case shapes, and how a device runs them: one table for all devices. Expected
//! results are in `reference`, tolerances are here, and further invariants are in the tests that walk the table.

#![allow(dead_code, reason = "each test file uses some of it")]

mod attention;
mod conv1d;
mod elementwise;
mod linear;
mod norm;
mod ssm_scan;
mod top;

use pollster::block_on;
use zamba2::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use zamba2::ops::Ops;
use zamba2::ops::device::Device;
use zamba2::ops::trace::ModuleId;

pub use attention::*;
pub use conv1d::*;
pub use elementwise::*;
pub use linear::*;
pub use norm::*;
pub use ssm_scan::*;
pub use top::*;

/// Every op here belongs to the first module of a table of names.
pub const MODULE: ModuleId = ModuleId(0);

/// Every remainder of a four-row tile, a prompt chunk and its neighbours, and an ordinary prompt.
pub const ROWS: [usize; 8] = [1, 2, 3, 4, 35, 63, 64, 65];
/// Below, at and above four lanes, one block of 32 and three blocks; most are multiples of nothing.
pub const WIDTHS: [usize; 8] = [1, 5, 31, 32, 33, 37, 64, 100];
pub const QUANTIZED: [WeightFormat; 2] = [WeightFormat::Q8, WeightFormat::Q4];
pub const FORMATS: [WeightFormat; 3] = WeightFormat::ALL;

/// Pseudorandom numbers, the same on every platform (Knuth's MMIX generator).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In low .. high.
    pub fn number(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    pub fn numbers(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.number(low, high)).collect()
    }

    /// A matrix of uniform quants, independent of the quantiser: −8 and negative scales are as frequent as others.
    /// Weights are within ±1.2; padding is zero, as the format requires.
    pub fn matrix(&mut self, format: WeightFormat, rows: usize, cols: usize) -> StoredMatrix {
        if format == WeightFormat::F32 {
            let values = self.numbers(rows * cols, -1.0, 1.0);
            return StoredMatrix::from_values(format, cols, &values);
        }
        let high = if format == WeightFormat::Q8 {
            127.0
        } else {
            7.0
        };
        let row_scales = self.numbers(rows, 0.1, 1.0);
        let block_scales: Vec<i16> = (0..rows * cols.div_ceil(BLOCK))
            .map(|_| (self.bits() as i16).max(-32767))
            .collect();
        let quants: Vec<i8> = (0..rows * cols)
            .map(|_| match format {
                WeightFormat::Q8 => (self.bits() as i8).max(-127),
                _ => self.bits() as i8 >> 4,
            })
            .collect();
        quantized(
            format,
            [rows, cols],
            |row| row_scales[row] / 32767.0 / high,
            |block| block_scales[block],
            |row, col| quants[row * cols + col],
        )
    }
}

/// A quantised matrix with the given scales and quants. Padding is zero. Blocks are counted over all rows.
pub fn quantized(
    format: WeightFormat,
    [rows, cols]: [usize; 2],
    row_scale: impl Fn(usize) -> f32,
    block_scale: impl Fn(usize) -> i16,
    quant: impl Fn(usize, usize) -> i8,
) -> StoredMatrix {
    let blocks = cols.div_ceil(BLOCK);
    let mut bytes = Vec::new();
    for row in 0..rows {
        bytes.extend(row_scale(row).to_le_bytes());
        bytes.extend((row * blocks..(row + 1) * blocks).flat_map(|i| block_scale(i).to_le_bytes()));
        let columns = 0..blocks * BLOCK;
        let quants = columns.map(|col| if col < cols { quant(row, col) } else { 0 });
        if format == WeightFormat::Q8 {
            bytes.extend(quants.map(i8::cast_unsigned));
        } else {
            let nibbles: Vec<u8> = quants.map(|quant| (quant + 8) as u8).collect();
            let pairs = nibbles.as_chunks::<2>().0.iter();
            bytes.extend(pairs.map(|[low, high]| low | high << 4));
        }
    }
    StoredMatrix {
        format,
        rows,
        cols,
        bytes,
    }
}

pub fn read<D: Device>(ops: &mut Ops<D>, x: &D::Tensor) -> Vec<f32> {
    block_on(ops.read(x)).unwrap()
}

/// A tensor with rows of `cols` numbers.
pub fn rows<D: Device>(ops: &mut Ops<D>, cols: usize, values: &[f32]) -> D::Tensor {
    ops.constant(values.len() / cols, cols, values.to_vec())
}

/// Concatenates matrices of `t_rows` rows column-wise.
pub fn beside(t_rows: usize, parts: &[&[f32]]) -> Vec<f32> {
    let row = |t: usize| {
        let cut =
            move |part: &&[f32]| part[t * (part.len() / t_rows)..][..part.len() / t_rows].to_vec();
        parts.iter().flat_map(cut)
    };
    (0..t_rows).flat_map(row).collect()
}

/// No number may differ by more than `tolerance` times the largest expected one.
pub fn assert_close(what: &str, tolerance: f64, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let bound = tolerance * expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(*a) - b).abs();
        assert!(
            difference <= bound,
            "{what}: [{i}]: got {a}, expected {b}, difference {difference:e} > {bound:e}"
        );
    }
}

/// As a whole, in two halves, and token by token.
pub fn ways_to_cut(t_rows: usize) -> [Vec<usize>; 3] {
    let half = t_rows.div_ceil(2);
    [
        vec![1, t_rows - 1],
        vec![half, t_rows - half],
        vec![1; t_rows],
    ]
    .map(|mut pieces| {
        pieces.retain(|piece| *piece > 0);
        pieces
    })
}
