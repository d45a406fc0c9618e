//! Weight matrices in the layout of the kernels: quants and scales in separate buffers, split by rows if a matrix is
//! larger than a binding. The kernels are chosen in `linear.rs` and `embed.rs`.

use crate::base::quant::{BLOCK, QMatrix, Values, WeightFormat};
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernels::Kernel;
use crate::device::webgpu::recorder::Recorder;
use crate::ops::device::Weight;

/// Columns per group. Rows are padded to whole groups.
pub const GROUP: usize = 8;
/// A part is repacked in host memory before it is uploaded, so a large binding limit must not make it larger than that
/// can hold: wasm has 32-bit addresses.
const MAX_PART_BYTES: u64 = 1 << 30;

/// Consecutive rows of a matrix, in one binding.
pub struct WeightPart {
    pub first_row: usize,
    pub rows: usize,
    /// The groups of each row: quants, or f32 values.
    pub quants: DeviceBuffer,
    /// Per row an f32 scale, then the i16 scales of its blocks, two per u32. Empty in f32.
    pub scales: DeviceBuffer,
}

pub struct WebGpuWeight {
    pub(super) format: WeightFormat,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Groups per row, padded with zeros; quantised rows have whole blocks.
    pub(super) n_groups: usize,
    pub(super) parts: Vec<WeightPart>,
    /// Total of all parts, including padding.
    pub(super) bytes: usize,
}

impl Weight for WebGpuWeight {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn format(&self) -> WeightFormat {
        self.format
    }
}

/// Bytes of a group, without scales.
fn group_bytes(format: WeightFormat) -> usize {
    match format {
        WeightFormat::F32 => 4 * GROUP,
        WeightFormat::Q8 => GROUP,
        WeightFormat::Q4 => GROUP / 2,
    }
}

impl WebGpuWeight {
    /// Bytes of a row, without scales.
    pub fn row_bytes(&self) -> usize {
        self.n_groups * group_bytes(self.format)
    }

    /// Selects the kernel for this format from those for f32, q8 and q4.
    pub fn kernel(&self, [f32, q8, q4]: [Kernel; 3]) -> Kernel {
        match self.format {
            WeightFormat::F32 => f32,
            WeightFormat::Q8 => q8,
            WeightFormat::Q4 => q4,
        }
    }

    /// Repacks `matrix` into buffers of at most `max_binding_bytes` each.
    pub fn new(recorder: &mut Recorder, matrix: &QMatrix, max_binding_bytes: u64) -> WebGpuWeight {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let n_groups = match matrix.values {
            Values::F32(_) => cols.div_ceil(GROUP),
            Values::Q8(_) | Values::Q4(_) => matrix.blocks() * (BLOCK / GROUP),
        };
        let row_bytes = n_groups * group_bytes(matrix.format());
        let part_rows = rows_per_part(max_binding_bytes, row_bytes, rows);
        let mut bytes = 0;
        let parts = (0..rows).step_by(part_rows).map(|first_row| {
            let rows = part_rows.min(rows - first_row);
            let (quants, scales) = packed_rows(matrix, first_row, rows, row_bytes);
            bytes += quants.len() + scales.len();
            WeightPart {
                first_row,
                rows,
                quants: recorder.create_from(&quants),
                scales: recorder.create_from(&scales),
            }
        });
        WebGpuWeight {
            format: matrix.format(),
            rows,
            cols,
            n_groups,
            parts: parts.collect(),
            bytes,
        }
    }
}

/// How many of `rows` rows a part has. In 64 bits: a limit of 2³² bytes is 0 as wasm's `usize`.
fn rows_per_part(max_binding_bytes: u64, row_bytes: usize, rows: usize) -> usize {
    let fitting = max_binding_bytes.min(MAX_PART_BYTES) / row_bytes.max(1) as u64;
    fitting.clamp(1, rows.max(1) as u64) as usize
}

/// The quants and the scales of a range of rows.
fn packed_rows(
    matrix: &QMatrix,
    first: usize,
    rows: usize,
    row_bytes: usize,
) -> (Vec<u8>, Vec<u8>) {
    let blocks = matrix.blocks();
    match &matrix.values {
        Values::F32(values) => {
            let values = &values[first * matrix.cols..][..rows * matrix.cols];
            let mut numbers = Vec::with_capacity(rows * row_bytes);
            for row in values.chunks(matrix.cols) {
                let end = numbers.len() + row_bytes;
                numbers.extend(row.iter().flat_map(|v| v.to_le_bytes()));
                numbers.resize(end, 0);
            }
            (numbers, Vec::new())
        }
        Values::Q8(q) => {
            let quants = &q.quants[first * row_bytes..][..rows * row_bytes];
            let quants = quants.iter().map(|quant| quant.cast_unsigned());
            let scales = packed_scales(&q.row_scale, &q.block_scale, blocks, first, rows);
            (quants.collect(), scales)
        }
        Values::Q4(q) => {
            let nibbles = &q.nibbles[first * row_bytes..][..rows * row_bytes];
            let scales = packed_scales(&q.row_scale, &q.block_scale, blocks, first, rows);
            (nibbles.to_vec(), scales)
        }
    }
}

fn packed_scales(
    row_scale: &[f32],
    block_scale: &[i16],
    blocks: usize,
    first: usize,
    rows: usize,
) -> Vec<u8> {
    let row_bytes = 4 * (1 + blocks.div_ceil(2));
    let mut scales = Vec::with_capacity(rows * row_bytes);
    for row in first..first + rows {
        let end = scales.len() + row_bytes;
        scales.extend(row_scale[row].to_le_bytes());
        let of_blocks = &block_scale[row * blocks..][..blocks];
        scales.extend(of_blocks.iter().flat_map(|scale| scale.to_le_bytes()));
        scales.resize(end, 0);
    }
    scales
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_beyond_32_bits_splits_no_matrix() {
        for limit in [1 << 32, (1 << 32) + 1, 1 << 40, u64::MAX] {
            assert_eq!(rows_per_part(limit, 4096, 32_000), 32_000, "{limit}");
        }
    }

    #[test]
    fn a_part_fits_the_binding_and_the_host() {
        assert_eq!(rows_per_part(128 << 20, 8192, 32_000), 16_384);
        assert_eq!(rows_per_part(u64::MAX, 1 << 20, 4096), 1024);
        // A row that is larger than a binding is refused by the device itself.
        assert_eq!(rows_per_part(100, 4096, 7), 1);
        assert_eq!(rows_per_part(1 << 20, 64, 0), 1);
    }
}
