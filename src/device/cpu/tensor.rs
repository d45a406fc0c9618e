//! Tensors of the CPU device, and views of their columns.

use crate::ops::device::{self, Cols};

/// f32 `[rows, cols]`, row-major, allocated for the largest row count.
pub struct CpuTensor {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl device::Tensor for CpuTensor {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn max_rows(&self) -> usize {
        self.data.len().checked_div(self.cols).unwrap_or(self.rows)
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = rows.min(self.rows);
    }
}

impl CpuTensor {
    pub fn new(rows: usize, cols: usize, data: Vec<f32>) -> CpuTensor {
        CpuTensor { rows, cols, data }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn values(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    /// Row `row`, which must be in use.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values()[row * self.cols..][..self.cols]
    }

    /// Sets the row count for an op that writes every row.
    pub fn resize(&mut self, rows: usize) -> &mut [f32] {
        self.rows = rows;
        self.values_mut()
    }

    /// Sets every element to zero, including rows that are not in use.
    pub fn clear(&mut self) {
        self.data.fill(0.0);
    }
}

/// A range of columns of a tensor's rows. // row t: `data[t · stride ..][.. width]`
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub width: usize,
}

impl<'a> Rows<'a> {
    pub fn row(&self, t: usize) -> &'a [f32] {
        &self.data[t * self.stride..][..self.width]
    }

    /// The rows starting at `first`.
    pub fn rows_from(&self, first: usize) -> Rows<'a> {
        Rows {
            data: &self.data[first * self.stride..],
            ..*self
        }
    }

    /// `len` of these columns, starting at `start`.
    pub fn columns(&self, start: usize, len: usize) -> Rows<'a> {
        Rows {
            data: &self.data[start..],
            stride: self.stride,
            width: len,
        }
    }
}

impl<'a> From<&'a CpuTensor> for Rows<'a> {
    fn from(tensor: &'a CpuTensor) -> Rows<'a> {
        Rows {
            data: tensor.values(),
            stride: tensor.cols,
            width: tensor.cols,
        }
    }
}

impl<'a> From<&Cols<'a, CpuTensor>> for Rows<'a> {
    fn from(cols: &Cols<'a, CpuTensor>) -> Rows<'a> {
        Rows::from(cols.tensor).columns(cols.start, cols.len)
    }
}
