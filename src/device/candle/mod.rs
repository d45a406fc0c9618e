//! The candle device: every op of the model with candle's tensor operations in f32, on dequantised weights and 8-bit
//! caches; natively only and behind the cargo feature `candle`. Other devices are compared with it (`zamba2 verify`),
//! so it has no fused ops and no integer arithmetic.

mod ops;
mod tensor;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{Device as CandleDevice, Tensor};

use crate::base::error::{Error, Result};
use crate::base::quant::WeightFormat;
use crate::ops::device::{AttentionShape, Device, KvCache, KvFormat, Storage};
use crate::threads::pool::{Pieces, Pool};
pub use tensor::{ArrivingWeight, CandleKvRows, CandleTensor, CandleWeight};

pub struct Candle {
    device: CandleDevice,
    /// Quantises rows while weights load; candle has its own threads.
    pool: Pool,
    /// The first failed operation, for example for lack of memory.
    fault: Option<Error>,
}

impl Candle {
    /// A device on the adapter that candle was compiled for (features `candle-cuda` and `candle-metal`), otherwise on
    /// the CPU. `threads` of the host quantise while weights load.
    ///
    /// # Errors
    /// There is no such adapter.
    pub fn open(threads: usize) -> Result<Candle> {
        let device = match (cuda_is_available(), metal_is_available()) {
            (true, _) => CandleDevice::new_cuda(0),
            (_, true) => CandleDevice::new_metal(0),
            _ => Ok(CandleDevice::Cpu),
        };
        let no_adapter = |error: candle_core::Error| Error::NoAdapter {
            fact: error.to_string().into(),
        };
        Ok(Candle {
            device: device.map_err(no_adapter)?,
            pool: Pool::new(threads),
            fault: None,
        })
    }

    /// Its name, with the hardware that computes.
    pub fn name(&self) -> &'static str {
        match self.device {
            CandleDevice::Cpu => "candle-cpu",
            CandleDevice::Cuda(_) => "candle-cuda",
            CandleDevice::Metal(_) => "candle-metal",
        }
    }

    /// The result of an operation; the first failure is kept for the next readback.
    fn note<T>(&mut self, result: candle_core::Result<T>) -> Option<T> {
        let failed = |error: candle_core::Error| Error::Device {
            fact: error.to_string().into(),
        };
        match result.map_err(failed) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault.get_or_insert(error);
                None
            }
        }
    }

    /// y = the result of an op over `rows` rows.
    fn set(&mut self, y: &mut CandleTensor, rows: usize, result: candle_core::Result<Tensor>) {
        y.rows = rows;
        if let Some(values) = self.note(result) {
            y.values = values;
        }
    }

    fn set_numbers(&mut self, y: &mut CandleTensor, rows: usize, numbers: Vec<f32>) {
        let values = Tensor::from_vec(numbers, (rows, y.cols), &self.device);
        self.set(y, rows, values);
    }

    /// The numbers of x, for ops on one row of logits; zeros after a failure.
    fn numbers(&mut self, x: &CandleTensor) -> Vec<f32> {
        let numbers = x.to_vec();
        let zeros = || vec![0.0; x.rows * x.cols];
        self.note(numbers).unwrap_or_else(zeros)
    }
}

impl Storage for Candle {
    type Tensor = CandleTensor;
    type Weight = CandleWeight;
    type ArrivingWeight = ArrivingWeight;
    type KvRows = CandleKvRows;
    type Readback = Result<Vec<f32>>;
}

impl Device for Candle {
    const CHUNK_ROWS: usize = 64;
    const MAX_STEPS_IN_FLIGHT: usize = 1;
    // Candle uses different kernels for different numbers of rows.
    const MAX_EXACT_ROWS: usize = 1;
    const USES_HOST_MEMORY: bool = true;
    const FUSES_RESIDUAL: bool = false;
    const TIMES_BLOCKS_FREELY: bool = true;

    fn tensor(&mut self, rows: usize, cols: usize) -> CandleTensor {
        self.constant(rows, cols, vec![0.0; rows * cols])
    }

    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> CandleTensor {
        // Without this memory it cannot continue, as after a failed allocation of the CPU device.
        let values = Tensor::from_vec(values, (rows, cols), &self.device);
        CandleTensor {
            values: values.expect("the memory suffices"),
            rows,
            cols,
            max_rows: rows,
        }
    }

    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        let pieces = data.len().div_ceil(piece);
        self.pool.run(pieces, Pieces::new(data, piece), body);
    }

    fn begin_weight(&mut self, format: WeightFormat, rows: usize, cols: usize) -> ArrivingWeight {
        ArrivingWeight::new(format, rows, cols)
    }

    fn push_rows(&mut self, weight: &mut ArrivingWeight, rows: &[u8]) {
        weight.push_rows(rows);
    }

    fn finish_weight(&mut self, weight: ArrivingWeight) -> CandleWeight {
        let weight = weight.finish(&self.device);
        weight.expect("the memory suffices")
    }

    fn kv_rows(
        &mut self,
        shape: &AttentionShape,
        _context: usize,
        format: KvFormat,
    ) -> CandleKvRows {
        let rows = CandleKvRows::new(shape, format, &self.device);
        rows.expect("an empty cache takes no memory")
    }

    /// The dequantised numbers are stored as f32.
    fn kv_format(&self, _rows: &CandleKvRows) -> KvFormat {
        KvFormat::F32
    }

    fn clear(&mut self, x: &mut CandleTensor) {
        let zeros = x.values.zeros_like();
        self.set(x, x.rows, zeros);
    }

    fn write(&mut self, values: &[f32], x: &mut CandleTensor) {
        self.set_numbers(x, x.rows, values.to_vec());
    }

    fn weight_bytes(&self, weight: &CandleWeight) -> usize {
        4 * weight.rows * weight.cols
    }

    fn flush(&mut self) {}

    fn check(&self) -> Result<()> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn begin_read(&mut self, xs: &[&CandleTensor]) -> Result<Vec<f32>> {
        let numbers = xs.iter().flat_map(|x| self.numbers(x)).collect();
        self.check().map(|()| numbers)
    }

    async fn finish_read(&mut self, numbers: Result<Vec<f32>>) -> Result<Vec<f32>> {
        numbers
    }

    async fn read_kv(&mut self, cache: &KvCache<Candle>) -> Result<Vec<u8>> {
        let bytes = cache.rows.to_bytes(&cache.shape, cache.len);
        let bytes = self.note(bytes);
        self.check().map(|()| bytes.unwrap_or_default())
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Candle>) {
        let written = cache.rows.set_bytes(&cache.shape, bytes);
        self.note(written);
    }

    /// Candle has no timestamps for graphics adapters.
    fn leave_span(&mut self) {
        let done = self.device.synchronize();
        self.note(done);
    }
}
