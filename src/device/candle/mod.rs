//! The candle device: every op of the model with candle's tensor operations in f32, on dequantised weights and 8-bit
//! caches; natively only and behind the cargo feature `candle`. Other devices are compared with it (`zamba2 verify`),
//! so it has no fused ops and no integer arithmetic.

mod ops;
mod tensor;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{Device as CandleDevice, Tensor};

use crate::base::error::{Error, Result};
use crate::base::quant::WeightFormat;
use crate::ops::device::{
    AttentionShape, Cols, Conv1d, Device, Draw, GatedNorm, KvCache, KvFormat, Linear, Norm, Rope,
    Ssm, SsmInput,
};
use crate::text::sampling::TopK;
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

impl Device for Candle {
    type Tensor = CandleTensor;
    type Weight = CandleWeight;
    type ArrivingWeight = ArrivingWeight;
    type KvRows = CandleKvRows;
    type Readback = Result<Vec<f32>>;

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

    fn copy(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, x.rows());
    }

    fn write(&mut self, values: &[f32], x: &mut CandleTensor) {
        self.set_numbers(x, x.rows, values.to_vec());
    }

    fn weight_bytes(&self, weight: &CandleWeight) -> usize {
        4 * weight.rows * weight.cols
    }

    fn embed(&mut self, table: &CandleWeight, tokens: &[u32], ys: &mut [&mut CandleTensor]) {
        for y in ys {
            self.set(y, tokens.len(), ops::embed(table, tokens));
        }
    }

    fn rms_norm(&mut self, norm: &Norm<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, ops::rms_norm(norm, x));
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Candle>,
        x: &CandleTensor,
        gate: Cols<CandleTensor>,
        y: &mut CandleTensor,
    ) {
        self.set(y, x.rows, ops::gated_rms_norm(norm, x, &gate));
    }

    fn linear(&mut self, linear: &Linear<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, ops::linear(linear, x));
    }

    fn linear_add(&mut self, linear: &Linear<Candle>, x: &CandleTensor, y: &mut CandleTensor) {
        let sum = ops::linear(linear, x).and_then(|product| y.rows()? + product);
        self.set(y, x.rows, sum);
    }

    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Candle>,
        x: Cols<CandleTensor>,
        state: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let result = ops::causal_conv1d(conv, &x, state);
        if let Some((values, after)) = self.note(result) {
            self.set(y, x.tensor.rows, Ok(values));
            self.set(state, state.rows, Ok(after));
        }
    }

    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Candle>,
        input: SsmInput<CandleTensor>,
        state: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let result = ops::ssm_scan(ssm, &input, state);
        if let Some((values, after)) = self.note(result) {
            self.set(y, input.x.tensor.rows, Ok(values));
            self.set(state, state.rows, Ok(after));
        }
    }

    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut CandleTensor]) {
        for x in xs {
            let rotated = ops::rope(rope, position, x);
            self.set(x, x.rows, rotated);
        }
    }

    fn append_kv(&mut self, k: &CandleTensor, v: &CandleTensor, cache: &mut KvCache<Candle>) {
        let len = cache.len;
        let both = k.rows().and_then(|k| Ok((k, v.rows()?)));
        let appended = both.and_then(|(k, v)| cache.rows.append(len, &k, &v));
        self.note(appended);
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &CandleTensor,
        cache: &KvCache<Candle>,
        y: &mut CandleTensor,
    ) {
        self.set(y, q.rows, ops::attention(shape, q, cache));
    }

    fn gelu_mul(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, x.rows, ops::gelu_mul(x, y.cols));
    }

    fn concat(&mut self, a: &CandleTensor, b: &CandleTensor, y: &mut CandleTensor) {
        let both = a.rows().and_then(|a| Tensor::cat(&[a, b.rows()?], 1));
        self.set(y, a.rows, both);
    }

    fn add(&mut self, a: &CandleTensor, b: &CandleTensor, y: &mut CandleTensor) {
        let sum = a.rows().and_then(|a| a + b.rows()?);
        self.set(y, a.rows, sum);
    }

    fn last_row(&mut self, x: &CandleTensor, y: &mut CandleTensor) {
        self.set(y, 1, x.values.narrow(0, x.rows - 1, 1));
    }

    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&CandleTensor>,
        logits: &CandleTensor,
        seen: &mut CandleTensor,
        y: &mut CandleTensor,
    ) {
        let mut marks = self.numbers(seen);
        let chosen = chosen.map(|list| TopK::from_row(&self.numbers(list)).chosen as usize);
        if let Some(mark) = chosen.and_then(|token| marks.get_mut(token)) {
            *mark = 1.0;
        }
        let penalised = ops::penalise(penalty, &self.numbers(logits), &marks);
        self.set_numbers(seen, 1, marks);
        self.set_numbers(y, 1, penalised);
    }

    fn top(&mut self, logits: &CandleTensor, y: &mut CandleTensor) {
        let mut row = vec![0.0; y.cols];
        TopK::of(&self.numbers(logits), TopK::places(y.cols)).write(&mut row);
        self.set_numbers(y, 1, row);
    }

    fn draw(&mut self, draw: &Draw, top: &mut CandleTensor) {
        let mut row = self.numbers(top);
        if let Some(token) = draw.choose(&row) {
            row[TopK::CHOSEN] = token as f32;
        }
        self.set_numbers(top, 1, row);
    }

    fn embed_top(
        &mut self,
        table: &CandleWeight,
        top: &CandleTensor,
        ys: &mut [&mut CandleTensor],
    ) {
        let token = TopK::from_row(&self.numbers(top)).chosen;
        // Any row is valid if the logits were not finite.
        let token = token.min(table.rows as u32 - 1);
        self.embed(table, &[token], ys);
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
