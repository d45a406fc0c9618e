//! The CPU device: ops compute at once, on the calling thread and the thread pool. Each op is in the file of its name,
//! small ones in `elementwise`.

mod attention;
mod ceilings;
mod conv1d;
mod elementwise;
mod embed;
mod kv_cache;
mod linear;
mod norm;
mod ssm_scan;
mod tensor;
mod top;
mod vecmath;

use crate::base::error::Result;
use crate::base::quant::WeightFormat;
use crate::base::simd::Width;
use crate::ops::device::{
    AttentionShape, Ceilings, Cols, Conv1d, Device, Draw, GatedNorm, KvCache, KvFormat, Linear,
    Norm, Rope, Ssm, SsmInput,
};
use crate::threads::pool::{Pieces, Pool};
pub use kv_cache::CpuKvRows;
use linear::Activations;
pub use linear::{ArrivingWeight, CpuWeight};
use ssm_scan::ScanScratch;
pub use tensor::CpuTensor;

pub struct Cpu {
    pool: Pool,
    activations: Activations,
    scan: ScanScratch,
}

impl Cpu {
    /// A device with `threads` threads, including the caller's.
    pub fn new(threads: usize) -> Cpu {
        Cpu {
            pool: Pool::new(threads),
            activations: Activations::default(),
            scan: ScanScratch::default(),
        }
    }

    /// Number of threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Sets the number of threads in use, clamped to those that exist.
    pub fn set_threads(&mut self, threads: usize) {
        self.pool.set_threads(threads);
    }

    /// Measures the peak rates of this machine with these threads, for a model of `weights_bytes`: reads a buffer of
    /// this size, but 96 to 384 MiB. Takes one to three seconds.
    pub fn ceilings(&self, weights_bytes: u64) -> Ceilings {
        ceilings::measure(&self.pool, weights_bytes)
    }
}

/// Copies the first of `ys` to the others.
fn copy_first(ys: &mut [&mut CpuTensor]) {
    if let [first, others @ ..] = ys {
        for other in others {
            elementwise::copy(first, other);
        }
    }
}

impl Device for Cpu {
    type Tensor = CpuTensor;
    type Weight = CpuWeight;
    type ArrivingWeight = ArrivingWeight;
    type KvRows = CpuKvRows;
    type Readback = Vec<f32>;

    // Enough to reuse a weight while it is in a register, few enough that the widest activation of the 7B model stays
    // within 8 MB.
    const CHUNK_ROWS: usize = 64;
    const MAX_STEPS_IN_FLIGHT: usize = 1;
    // Only the scan's dual form sums in another order.
    const MAX_EXACT_ROWS: usize = ssm_scan::DUAL_FROM - 1;
    const USES_HOST_MEMORY: bool = true;
    const FUSES_RESIDUAL: bool = false;
    /// Two clock reads per block.
    const TIMES_BLOCKS_FREELY: bool = true;

    fn tensor(&mut self, rows: usize, cols: usize) -> CpuTensor {
        CpuTensor::new(rows, cols, vec![0.0; rows * cols])
    }

    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> CpuTensor {
        CpuTensor::new(rows, cols, values)
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
        weight.push_rows(&self.pool, rows);
    }

    fn finish_weight(&mut self, weight: ArrivingWeight) -> CpuWeight {
        weight.finish()
    }

    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat) -> CpuKvRows {
        CpuKvRows::new(shape, context, format)
    }

    fn kv_format(&self, rows: &CpuKvRows) -> KvFormat {
        rows.format()
    }

    fn clear(&mut self, x: &mut CpuTensor) {
        x.clear();
    }

    fn copy(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        elementwise::copy(x, y);
    }

    fn write(&mut self, values: &[f32], x: &mut CpuTensor) {
        x.values_mut().copy_from_slice(values);
    }

    fn weight_bytes(&self, weight: &CpuWeight) -> usize {
        weight.bytes()
    }

    fn embed(&mut self, table: &CpuWeight, tokens: &[u32], ys: &mut [&mut CpuTensor]) {
        embed::embed(table, tokens, ys[0]);
        copy_first(ys);
    }

    fn rms_norm(&mut self, norm: &Norm<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        norm::rms_norm(&self.pool, norm, x, y);
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Cpu>,
        x: &CpuTensor,
        gate: Cols<CpuTensor>,
        y: &mut CpuTensor,
    ) {
        norm::gated_rms_norm(&self.pool, norm, x, &gate, y);
    }

    fn linear(&mut self, linear: &Linear<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        linear::linear(&self.pool, &mut self.activations, linear, x, false, y);
    }

    fn linear_add(&mut self, linear: &Linear<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        linear::linear(&self.pool, &mut self.activations, linear, x, true, y);
    }

    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Cpu>,
        x: Cols<CpuTensor>,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        conv1d::causal_conv1d(&self.pool, conv, &x, state, y);
    }

    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Cpu>,
        input: SsmInput<CpuTensor>,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        ssm_scan::ssm_scan(&self.pool, &mut self.scan, ssm, &input, state, y);
    }

    fn ssm_scan_from(
        &mut self,
        ssm: &Ssm<Cpu>,
        input: SsmInput<CpuTensor>,
        before: &CpuTensor,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        ssm_scan::ssm_scan_from(&self.pool, ssm, &input, before, state, y);
    }

    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut CpuTensor]) {
        for x in xs {
            elementwise::rope(rope, position, x);
        }
    }

    fn append_kv(&mut self, k: &CpuTensor, v: &CpuTensor, cache: &mut KvCache<Cpu>) {
        attention::append_kv(k, v, cache);
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &CpuTensor,
        cache: &KvCache<Cpu>,
        y: &mut CpuTensor,
    ) {
        attention::attention(&self.pool, Width::widest(), shape, q, cache, y);
    }

    fn gelu_mul(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        elementwise::gelu_mul(&self.pool, x, y);
    }

    fn concat(&mut self, a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
        elementwise::concat(a, b, y);
    }

    fn add(&mut self, a: &CpuTensor, b: &CpuTensor, y: &mut CpuTensor) {
        elementwise::add(a, b, y);
    }

    fn last_row(&mut self, x: &CpuTensor, y: &mut CpuTensor) {
        elementwise::last_row(x, y);
    }

    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&CpuTensor>,
        logits: &CpuTensor,
        seen: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        top::penalise(penalty, chosen, logits, seen, y);
    }

    fn top(&mut self, logits: &CpuTensor, y: &mut CpuTensor) {
        top::top(logits, y);
    }

    fn draw(&mut self, draw: &Draw, top: &mut CpuTensor) {
        top::draw(draw, top);
    }

    fn embed_top(&mut self, table: &CpuWeight, top: &CpuTensor, ys: &mut [&mut CpuTensor]) {
        embed::embed_top(table, top, ys[0]);
        copy_first(ys);
    }

    fn flush(&mut self) {}

    fn begin_read(&mut self, xs: &[&CpuTensor]) -> Vec<f32> {
        xs.iter().flat_map(|x| x.values()).copied().collect()
    }

    async fn finish_read(&mut self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    async fn read_kv(&mut self, cache: &KvCache<Cpu>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for position in 0..cache.len {
            cache.rows.save(position, &mut bytes);
        }
        Ok(bytes)
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Cpu>) {
        let position_bytes = cache.format.bytes(&cache.shape, 1) as usize;
        for (position, bytes) in bytes.chunks(position_bytes).enumerate() {
            cache.rows.restore(position, bytes);
        }
    }
}
