//! Activation tensors on the device.

use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::product;
use crate::device::webgpu::recorder::Recorder;
use crate::ops::device::Tensor;

/// f32 `[rows, cols]`, row-major, with capacity for `max_rows`.
pub struct WebGpuTensor {
    pub(super) rows: usize,
    pub(super) cols: usize,
    max_rows: usize,
    pub(super) buffer: DeviceBuffer,
}

impl Tensor for WebGpuTensor {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = rows.min(self.rows);
    }
}

/// A rectangle of a buffer of f32.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    pub buffer: &'a DeviceBuffer,
    pub start: usize,
    pub stride: usize,
}

impl WebGpuTensor {
    pub fn zeros(recorder: &mut Recorder, rows: usize, cols: usize) -> WebGpuTensor {
        WebGpuTensor {
            rows,
            cols,
            max_rows: rows,
            buffer: recorder.create(4 * product([rows, cols])),
        }
    }

    pub fn from_values(
        recorder: &mut Recorder,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> WebGpuTensor {
        assert_eq!(values.len(), rows * cols);
        WebGpuTensor {
            rows,
            cols,
            max_rows: rows,
            buffer: recorder.create_from(&to_bytes(values)),
        }
    }

    /// Sets the row count for an op that writes every row.
    pub fn resize(&mut self, rows: usize) {
        self.rows = rows;
    }

    pub fn bytes(&self) -> usize {
        4 * self.rows * self.cols
    }

    pub fn region(&self) -> Region<'_> {
        Region {
            buffer: &self.buffer,
            start: 0,
            stride: self.cols,
        }
    }
}

pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.as_chunks().0.iter();
    numbers.map(|number| f32::from_le_bytes(*number)).collect()
}
