//! Tensors, weights and KV caches of the candle device: candle tensors in f32, whatever the format of the model.

use candle_core::{Device, Result, Tensor};

use crate::base::quant::{StoredMatrix, WeightFormat};
use crate::ops::device::{self, AttentionShape, Cols};

/// An op replaces `values` by a new candle tensor.
pub struct CandleTensor {
    pub values: Tensor, // [rows, cols]
    pub rows: usize,
    pub cols: usize,
    pub max_rows: usize,
}

impl device::Tensor for CandleTensor {
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

impl CandleTensor {
    /// The rows in use.
    pub fn rows(&self) -> Result<Tensor> {
        self.values.narrow(0, 0, self.rows)
    }

    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.rows()?.flatten_all()?.to_vec1()
    }
}

/// The columns as a tensor of their own. // [T, len]
pub fn columns(cols: &Cols<CandleTensor>) -> Result<Tensor> {
    cols.tensor.rows()?.narrow(1, cols.start, cols.len)
}

/// The weights that the stored form represents.
pub struct CandleWeight {
    pub values: Tensor, // [rows, cols]
    pub rows: usize,
    pub cols: usize,
    pub format: WeightFormat,
}

impl device::Weight for CandleWeight {
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

pub struct ArrivingWeight {
    format: WeightFormat,
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl ArrivingWeight {
    pub fn new(format: WeightFormat, rows: usize, cols: usize) -> ArrivingWeight {
        ArrivingWeight {
            format,
            rows,
            cols,
            values: Vec::with_capacity(rows * cols),
        }
    }

    pub fn push_rows(&mut self, stored: &[u8]) {
        let n_rows = stored.len() / self.format.bytes(1, self.cols) as usize;
        let matrix = StoredMatrix {
            format: self.format,
            rows: n_rows,
            cols: self.cols,
            bytes: stored.to_vec(),
        };
        let mut row = vec![0.0; self.cols];
        for index in 0..n_rows {
            matrix.dequantize_row(index, &mut row);
            self.values.extend_from_slice(&row);
        }
    }

    pub fn finish(self, device: &Device) -> Result<CandleWeight> {
        Ok(CandleWeight {
            values: Tensor::from_vec(self.values, (self.rows, self.cols), device)?,
            rows: self.rows,
            cols: self.cols,
            format: self.format,
        })
    }
}

/// Keys and values of the positions so far, in f32: eight bits would be no reference.
pub struct CandleKvRows {
    pub k: Tensor, // [len, kv heads · d]
    pub v: Tensor, // [len, kv heads · d]
}

impl CandleKvRows {
    pub fn new(shape: &AttentionShape, device: &Device) -> Result<CandleKvRows> {
        let none = Tensor::from_vec(
            Vec::<f32>::new(),
            (0, shape.n_kv_heads * shape.head_dim),
            device,
        )?;
        Ok(CandleKvRows {
            k: none.clone(),
            v: none,
        })
    }

    /// Replaces what follows the first `len` positions.
    pub fn append(&mut self, len: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        self.k = Tensor::cat(&[&self.k.narrow(0, 0, len)?, k], 0)?;
        self.v = Tensor::cat(&[&self.v.narrow(0, 0, len)?, v], 0)?;
        Ok(())
    }

    /// The first `len` positions, as [`device::Device::read_kv`] gives them. // [len][kv heads][k, v]
    pub fn to_bytes(&self, shape: &AttentionShape, len: usize) -> Result<Vec<u8>> {
        let heads = (len, shape.n_kv_heads, shape.head_dim);
        let [k, v] =
            [&self.k, &self.v].map(|rows| rows.narrow(0, 0, len).and_then(|r| r.reshape(heads)));
        let both: Vec<f32> = Tensor::cat(&[k?, v?], 2)?.flatten_all()?.to_vec1()?; // [len, kv heads, 2 · d]
        Ok(both.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    /// The positions in the bytes of [`CandleKvRows::to_bytes`].
    pub fn from_bytes(
        shape: &AttentionShape,
        bytes: &[u8],
        device: &Device,
    ) -> Result<CandleKvRows> {
        let values = bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value));
        let values: Vec<f32> = values.collect();
        let (heads, d) = (shape.n_kv_heads, shape.head_dim);
        let len = values.len() / (2 * heads * d);
        let both = Tensor::from_vec(values, (len, heads, 2 * d), device)?;
        let half = |start| both.narrow(2, start, d)?.reshape((len, heads * d));
        Ok(CandleKvRows {
            k: half(0)?,
            v: half(d)?,
        })
    }
}
