//! Weight matrices in the layout of the kernels: quants and scales in separate buffers, split by rows if a matrix
//! exceeds the binding limit. The kernels are chosen in `linear.rs` and `embed.rs`.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use crate::base::quant::{BLOCK, WeightFormat};
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::product;
use crate::device::webgpu::recorder::Recorder;
use crate::ops::device::Weight;

/// Columns per group. Rows are padded to whole groups.
pub const GROUP: usize = 8;
/// Rows are gathered in host memory up to about this size before they are written, because each write costs a message
/// to the browser's GPU process.
const WRITE_BYTES: usize = 4 << 20;

/// Consecutive rows of a matrix, in one binding.
pub struct WeightPart {
    pub first_row: usize,
    pub rows: usize,
    /// A cell, because [`join`] moves rows of matrices that several layers may share.
    place: RefCell<Place>,
}

/// The location of a part's rows. Matrices may share buffers.
pub struct Place {
    /// The part's first row in the buffers.
    pub buffer_row: usize,
    /// The groups of each row: quants, or f32 values.
    pub quants: Rc<DeviceBuffer>,
    /// Per row an f32 scale, then the i16 scales of its blocks, two per u32. Empty in f32.
    pub scales: Rc<DeviceBuffer>,
}

impl WeightPart {
    pub fn place(&self) -> Ref<'_, Place> {
        self.place.borrow()
    }
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

impl WebGpuWeight {
    /// Bytes of a row, without scales.
    pub fn row_bytes(&self) -> usize {
        self.n_groups * GROUP * self.format.bits() / 8
    }

    /// Bytes of a row's scales, padded to whole words.
    fn scale_bytes(&self) -> usize {
        self.format.scale_bytes(self.cols).next_multiple_of(4)
    }
}

/// Moves the rows of all `weights` to one buffer, in order, so that a kernel can read them as one matrix. Does nothing
/// if their rows differ in form, exceed one binding, or already share a buffer with others.
pub fn join(recorder: &mut Recorder, weights: &[&WebGpuWeight], max_binding_bytes: u64) {
    let Some(first) = weights.first() else { return };
    let is_joinable = |weight: &&WebGpuWeight| {
        let is_alike = weight.format == first.format && weight.cols == first.cols;
        is_alike
            && weight.parts.len() == 1
            && Rc::strong_count(&weight.parts[0].place().quants) == 1
    };
    let rows: usize = weights.iter().map(|weight| weight.rows).sum();
    let row_bytes = [first.row_bytes(), first.scale_bytes()];
    let fits = product([rows, row_bytes[0].max(row_bytes[1])]) <= max_binding_bytes;
    // A matrix that occurs twice would be moved twice.
    let is_distinct = |i: usize| {
        !weights[..i]
            .iter()
            .any(|other| std::ptr::eq(*other, weights[i]))
    };
    if !fits || !weights.iter().all(is_joinable) || !(0..weights.len()).all(is_distinct) {
        return;
    }
    let [quants, scales] = row_bytes.map(|bytes| Rc::new(recorder.create(product([rows, bytes]))));
    let mut buffer_row = 0;
    for weight in weights {
        let joined = Place {
            buffer_row,
            quants: Rc::clone(&quants),
            scales: Rc::clone(&scales),
        };
        let former = weight.parts[0].place.replace(joined);
        for (from, to, bytes) in [
            (&former.quants, &quants, row_bytes[0]),
            (&former.scales, &scales, row_bytes[1]),
        ] {
            let offset_bytes = product([buffer_row, bytes]);
            recorder.copy_unused(from, to, offset_bytes, product([weight.rows, bytes]));
        }
        buffer_row += weight.rows;
    }
}

/// A weight matrix that is being received.
pub struct ArrivingWeight {
    weight: WebGpuWeight,
    /// Rows that have been written to their buffers.
    rows_written: usize,
    /// Rows after those: quants, and scales as in [`WeightPart`].
    quants: Vec<u8>,
    scales: Vec<u8>,
}

impl ArrivingWeight {
    /// Creates the buffers, of at most `max_binding_bytes` each.
    pub fn new(
        recorder: &mut Recorder,
        [rows, cols]: [usize; 2],
        format: WeightFormat,
        max_binding_bytes: u64,
    ) -> ArrivingWeight {
        let n_groups = if format.is_quantized() {
            cols.div_ceil(BLOCK) * (BLOCK / GROUP)
        } else {
            cols.div_ceil(GROUP)
        };
        let mut weight = WebGpuWeight {
            format,
            rows,
            cols,
            n_groups,
            parts: Vec::new(),
            bytes: 0,
        };
        let (row_bytes, scale_bytes) = (weight.row_bytes(), weight.scale_bytes());
        weight.bytes = rows * (row_bytes + scale_bytes);
        let part_rows = rows_per_part(max_binding_bytes, row_bytes, rows);
        let parts = (0..rows).step_by(part_rows).map(|first_row| {
            let rows = part_rows.min(rows - first_row);
            WeightPart {
                first_row,
                rows,
                place: RefCell::new(Place {
                    buffer_row: 0,
                    quants: recorder.create((rows * row_bytes) as u64).into(),
                    scales: recorder.create((rows * scale_bytes) as u64).into(),
                }),
            }
        });
        weight.parts = parts.collect();
        ArrivingWeight {
            weight,
            rows_written: 0,
            quants: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// Takes the next rows, in the form of [`crate::base::quant::store_row`].
    pub fn push_rows(&mut self, recorder: &mut Recorder, rows: &[u8]) {
        let weight = &self.weight;
        let (row_bytes, scale_bytes) = (weight.row_bytes(), weight.scale_bytes());
        let stored_scales = weight.format.scale_bytes(weight.cols);
        let stored_bytes = weight.format.bytes(1, weight.cols) as usize;
        for row in rows.chunks(stored_bytes) {
            let (scales, quants) = row.split_at(stored_scales);
            let (rows_end, scales_end) = (
                self.quants.len() + row_bytes,
                self.scales.len() + scale_bytes,
            );
            self.quants.extend_from_slice(quants);
            self.quants.resize(rows_end, 0);
            self.scales.extend_from_slice(scales);
            self.scales.resize(scales_end, 0);
            if rows_end >= WRITE_BYTES {
                self.write(recorder);
            }
        }
    }

    pub fn finish(mut self, recorder: &mut Recorder) -> WebGpuWeight {
        self.write(recorder);
        self.weight
    }

    /// Writes the gathered rows to their buffers.
    fn write(&mut self, recorder: &mut Recorder) {
        let (row_bytes, scale_bytes) = (self.weight.row_bytes(), self.weight.scale_bytes());
        let rows = self.rows_written..self.rows_written + self.quants.len() / row_bytes;
        for part in &self.weight.parts {
            let first = rows.start.max(part.first_row);
            let end = rows.end.min(part.first_row + part.rows);
            if first >= end {
                continue;
            }
            let place = part.place();
            for (buffer, bytes, width) in [
                (&place.quants, &self.quants, row_bytes),
                (&place.scales, &self.scales, scale_bytes),
            ] {
                let bytes = &bytes[(first - rows.start) * width..(end - rows.start) * width];
                recorder.write_unused(buffer, ((first - part.first_row) * width) as u64, bytes);
            }
        }
        self.rows_written = rows.end;
        self.quants.clear();
        self.scales.clear();
    }
}

/// The number of rows per part. In 64 bits, because a limit of 2³² bytes is 0 as wasm's `usize`.
fn rows_per_part(max_binding_bytes: u64, row_bytes: usize, rows: usize) -> usize {
    let fitting = max_binding_bytes / row_bytes.max(1) as u64;
    fitting.clamp(1, rows.max(1) as u64) as usize
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
    fn a_part_fits_the_binding() {
        assert_eq!(rows_per_part(128 << 20, 8192, 32_000), 16_384);
        // The device itself refuses a row that exceeds a binding.
        assert_eq!(rows_per_part(100, 4096, 7), 1);
        assert_eq!(rows_per_part(1 << 20, 64, 0), 1);
    }
}
