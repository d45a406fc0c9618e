//! Tensors, weights and KV caches of the candle device: candle tensors in f32, whatever the format of the model.

use candle_core::{Device, Result, Tensor};

use crate::base::quant::{StoredMatrix, WeightFormat};
use crate::ops::device::{self, AttentionShape, Cols, KvFormat};

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

/// The dequantised weights.
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

/// Keys and values of the positions so far, in f32; of a format of eight bits the numbers that it represents, as with
/// weights.
pub struct CandleKvRows {
    pub k: Tensor, // [len, kv heads · d]
    pub v: Tensor, // [len, kv heads · d]
    format: KvFormat,
    head_dim: usize,
}

impl CandleKvRows {
    pub fn new(shape: &AttentionShape, format: KvFormat, device: &Device) -> Result<CandleKvRows> {
        let none = Tensor::from_vec(
            Vec::<f32>::new(),
            (0, shape.n_kv_heads * shape.head_dim),
            device,
        )?;
        Ok(CandleKvRows {
            k: none.clone(),
            v: none,
            format,
            head_dim: shape.head_dim,
        })
    }

    /// Replaces the positions from `len` on.
    pub fn append(&mut self, len: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        self.k = Tensor::cat(&[&self.k.narrow(0, 0, len)?, &self.represented(k)?], 0)?;
        self.v = Tensor::cat(&[&self.v.narrow(0, 0, len)?, &self.represented(v)?], 0)?;
        Ok(())
    }

    /// What the format represents of rows of keys or values. // [T, kv heads · d]
    fn represented(&self, rows: &Tensor) -> Result<Tensor> {
        match self.format {
            KvFormat::F32 => Ok(rows.clone()),
            KvFormat::I8 => {
                let heads: Vec<f32> = rows.flatten_all()?.to_vec1()?;
                let heads = heads.chunks(self.head_dim).flat_map(in_eight_bits);
                Tensor::from_vec(heads.collect(), rows.shape(), rows.device())
            }
        }
    }

    /// The first `len` positions, as [`device::Device::read_kv`] gives them. // [len][kv heads][k, v]
    pub fn to_bytes(&self, shape: &AttentionShape, len: usize) -> Result<Vec<u8>> {
        let heads = (len, shape.n_kv_heads, shape.head_dim);
        let [k, v] =
            [&self.k, &self.v].map(|rows| rows.narrow(0, 0, len).and_then(|r| r.reshape(heads)));
        let both: Vec<f32> = Tensor::cat(&[k?, v?], 2)?.flatten_all()?.to_vec1()?; // [len, kv heads, 2 · d]
        Ok(both.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    /// Replaces all by the positions in the bytes of [`CandleKvRows::to_bytes`].
    pub fn set_bytes(&mut self, shape: &AttentionShape, bytes: &[u8]) -> Result<()> {
        let values = bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value));
        let values: Vec<f32> = values.collect();
        let (heads, d) = (shape.n_kv_heads, shape.head_dim);
        let len = values.len() / (2 * heads * d);
        let both = Tensor::from_vec(values, (len, heads, 2 * d), self.k.device())?;
        let half = |start| both.narrow(2, start, d)?.reshape((len, heads * d));
        (self.k, self.v) = (half(0)?, half(d)?);
        Ok(())
    }
}

/// A head's keys or values at one position as [`KvFormat::I8`] stores them: the nearest multiples of 1/127 of the
/// largest magnitude. NaN and infinity become NaN, numbers whose inverse overflows become zeros. // [d]
fn in_eight_bits(head: &[f32]) -> Vec<f32> {
    let peak = head.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    let inverse = 127.0 / peak;
    match head.iter().all(|x| x.is_finite()) {
        false => vec![f32::NAN; head.len()],
        true if inverse.is_infinite() => vec![0.0; head.len()],
        true => {
            let quants = head.iter().map(|x| (x * inverse).round_ties_even());
            quants.map(|quant| quant * (peak / 127.0)).collect()
        }
    }
}
