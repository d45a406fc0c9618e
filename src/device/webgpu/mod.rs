//! The WebGPU device: ops are recorded and run on a graphics adapter, with the same shaders natively and in a browser.
//! Sums are f32. Results agree with the CPU's within the tolerances of `tests/webgpu`, not bit for bit.
//!
//! An op's file has its constants, uniform blocks and host side; `kernel_table.rs` lists its shader files.

mod adapter;
mod attention;
mod buffer;
mod ceilings;
mod conv1d;
mod elementwise;
mod embed;
mod feature_fallback;
mod fused;
mod kernel_table;
mod kv_cache;
mod limits;
mod linear;
mod norm;
mod pacer;
mod pipeline;
mod readback;
mod recorder;
mod ssm_scan;
mod tensor;
mod timers;
mod top;
mod tuning;
mod uniform_slots;
mod uniforms;
mod unroll;
mod variants;
mod weight;

use crate::base::error::Result;
use crate::base::quant::WeightFormat;
use crate::ops::device::{
    AttentionShape, Ceilings, Device, KernelChoice, KvCache, KvFormat, Linear, ModelSizes, Storage,
};
use crate::ops::fused::FusedOp;
use crate::ops::trace::{SpanId, SpanTime};
pub use adapter::{AdapterFacts, AdapterOptions};
use buffer::{DeviceBuffer, ScratchBuffer};
use elementwise::RopeTable;
pub use feature_fallback::{Feature, FeatureFallback};
pub use kernel_table::OptionalFeatures;
pub use kv_cache::WebGpuKvRows;
use readback::{CAN_WAIT, Readback};
pub use recorder::Counts;
use recorder::Recorder;
use ssm_scan::DualScratch;
pub use tensor::WebGpuTensor;
use variants::ChosenVariants;
pub use variants::TunedOp;
pub use weight::{ArrivingWeight, WebGpuWeight};

/// Splits bytes into pieces and calls the body with each index and piece; see [`Device::for_each_piece`].
pub type HostThreads = Box<dyn Fn(&mut [u8], usize, &(dyn Fn(usize, &mut [u8]) + Sync))>;

pub struct WebGpu {
    /// Host threads, which quantise weights before they are uploaded.
    host: HostThreads,
    recorder: Recorder,
    options: AdapterOptions,
    facts: AdapterFacts,
    variants: ChosenVariants,
    kernel_choices: Vec<KernelChoice>,
    /// Bound where an op has no buffer for a binding.
    dummy: DeviceBuffer,
    /// The same for a binding that is written: a dispatch must not bind one buffer for both reading and writing.
    written_dummy: DeviceBuffer,
    rope_table: Option<RopeTable>,
    /// Rows of x, padded to the width that a kernel of a linear layer reads.
    padded_x: ScratchBuffer, // [T, x_cols]
    dual_scratch: DualScratch,
    attention_parts: ScratchBuffer, // [T, heads, splits, 2 + d]
    top_groups: ScratchBuffer,      // [groups, 2 + 2k]
    /// Times waiting for [`Device::take_span_times`].
    span_times: Vec<SpanTime>,
}

impl WebGpu {
    /// Opens the system's preferred adapter.
    ///
    /// # Errors
    /// [`crate::base::error::Error::NoAdapter`] with the reason.
    pub async fn open(options: AdapterOptions, host: HostThreads) -> Result<WebGpu> {
        let open = adapter::open(options).await?;
        let facts = open.facts.clone();
        let mut recorder = Recorder::new(open);
        Ok(WebGpu {
            host,
            dummy: recorder.create(0),
            written_dummy: recorder.create(0),
            rope_table: None,
            padded_x: ScratchBuffer::new(&mut recorder),
            dual_scratch: DualScratch::new(&mut recorder),
            attention_parts: ScratchBuffer::new(&mut recorder),
            top_groups: ScratchBuffer::new(&mut recorder),
            recorder,
            options,
            facts,
            variants: ChosenVariants::default(),
            kernel_choices: Vec::new(),
            span_times: Vec::new(),
        })
    }

    pub fn adapter(&self) -> &AdapterFacts {
        &self.facts
    }

    /// The options that the device was opened with.
    pub fn options(&self) -> AdapterOptions {
        self.options
    }

    /// The observed resolution of timestamp queries in microseconds; `None` without them or if they never advance.
    pub fn timestamp_step_us(&self) -> Option<f64> {
        self.recorder.timestamp_step_us()
    }

    /// Measures the peak rates of the device.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn ceilings(&mut self) -> Result<Ceilings> {
        ceilings::measure(self).await
    }

    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// Reads a buffer back, and collects the span times that arrive with it.
    async fn read_buffer(&mut self, buffer: &DeviceBuffer, bytes: u64) -> Result<Vec<u8>> {
        let (read, times) = self.recorder.read(buffer, bytes).await?;
        self.span_times.extend(times);
        Ok(read)
    }
}

/// A product in 64 bits: operation and byte counts may exceed wasm's 32-bit usize.
fn product<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes.into_iter().map(|size| size as u64).product()
}

impl Storage for WebGpu {
    type Tensor = WebGpuTensor;
    type Weight = WebGpuWeight;
    type ArrivingWeight = ArrivingWeight;
    type KvRows = WebGpuKvRows;
    type Readback = Readback;
}

impl Device for WebGpu {
    // Each core of a graphics adapter computes one tile of the output at a time: 64 rows of the 1.2B model would leave
    // most cores idle.
    const CHUNK_ROWS: usize = 256;
    /// Enough for a readback that takes as long as six steps.
    const MAX_STEPS_IN_FLIGHT: usize = 8;
    // Products of several rows sum in a different order than those of one.
    const MAX_EXACT_ROWS: usize = 1;
    const USES_HOST_MEMORY: bool = false;
    const FUSES_RESIDUAL: bool = true;
    /// Timestamps exist at the ends of compute passes only, and each further pass costs some 36 µs on Apple's GPUs.
    const TIMES_BLOCKS_FREELY: bool = false;

    fn check_sizes(&self, sizes: &ModelSizes) -> Result<()> {
        limits::check_sizes(sizes, self.facts.max_binding_bytes)
    }

    fn tensor(&mut self, rows: usize, cols: usize) -> WebGpuTensor {
        WebGpuTensor::zeros(&mut self.recorder, rows, cols)
    }

    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> WebGpuTensor {
        WebGpuTensor::from_values(&mut self.recorder, rows, cols, &values)
    }

    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        (self.host)(data, piece, body);
    }

    fn begin_weight(&mut self, format: WeightFormat, rows: usize, cols: usize) -> ArrivingWeight {
        let max_binding_bytes = self.facts.max_binding_bytes;
        ArrivingWeight::new(&mut self.recorder, [rows, cols], format, max_binding_bytes)
    }

    fn push_rows(&mut self, weight: &mut ArrivingWeight, rows: &[u8]) {
        weight.push_rows(&mut self.recorder, rows);
    }

    fn finish_weight(&mut self, weight: ArrivingWeight) -> WebGpuWeight {
        weight.finish(&mut self.recorder)
    }

    fn join_weights(&mut self, weights: &[&WebGpuWeight]) {
        weight::join(&mut self.recorder, weights, self.facts.max_binding_bytes);
    }

    fn kv_rows(
        &mut self,
        shape: &AttentionShape,
        context: usize,
        format: KvFormat,
    ) -> WebGpuKvRows {
        WebGpuKvRows::new(&mut self.recorder, shape, context, format)
    }

    fn clear(&mut self, x: &mut WebGpuTensor) {
        self.recorder.clear(&x.buffer);
    }

    fn fuses_norm(&self, linears: &[&Linear<WebGpu>], n_groups: usize) -> bool {
        fused::fuses_norm(self, linears, n_groups)
    }

    fn fuses_adapters(&self, seconds: &[&Linear<WebGpu>]) -> bool {
        fused::fuses_adapters(seconds)
    }

    fn fused(&mut self, op: FusedOp<WebGpu>) {
        match op {
            FusedOp::InProj(op) => fused::in_proj(self, op),
            FusedOp::GatedScan(op) => ssm_scan::gated_scan(self, op),
            FusedOp::NormLinears(op) => fused::norm_linears(self, op),
            FusedOp::GeluStep(op) => fused::gelu_step(self, op),
            FusedOp::AppendStep(op) => fused::append_step(self, op),
        }
    }

    fn flush(&mut self) {
        self.recorder.flush();
    }

    fn times_spans(&self) -> bool {
        self.timestamp_step_us().is_some() || CAN_WAIT
    }

    async fn fence(&mut self) -> Result<()> {
        // A readback completes after everything before it.
        self.recorder.read(&self.dummy, 4).await.map(drop)
    }

    async fn ready(&mut self) {
        self.recorder.ready().await;
    }

    fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    fn begin_read(&mut self, xs: &[&WebGpuTensor]) -> Readback {
        let sources = xs.iter().map(|x| (&x.buffer, x.bytes() as u64));
        self.recorder.begin_read(sources)
    }

    async fn finish_read(&mut self, readback: Readback) -> Result<Vec<f32>> {
        let (bytes, times) = self.recorder.finish_read(readback).await?;
        self.span_times.extend(times);
        Ok(tensor::from_bytes(&bytes))
    }

    fn write(&mut self, values: &[f32], x: &mut WebGpuTensor) {
        self.recorder.write(&x.buffer, &tensor::to_bytes(values));
    }

    async fn read_kv(&mut self, cache: &KvCache<WebGpu>) -> Result<Vec<u8>> {
        kv_cache::read(self, cache).await
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<WebGpu>) {
        kv_cache::write(self, bytes, cache);
    }

    fn weight_bytes(&self, weight: &WebGpuWeight) -> usize {
        weight.bytes
    }

    fn kv_format(&self, rows: &WebGpuKvRows) -> KvFormat {
        rows.format
    }

    fn note_work(&mut self, flops: f64) {
        self.recorder.note_work(flops);
    }

    fn enter_span(&mut self, span: Option<SpanId>) {
        self.recorder.set_span(span);
    }

    /// Without timestamp queries a span is timed by the host's clock and ends when the device has completed its work. A
    /// browser cannot wait inside an op; there the session fences after each block.
    fn leave_span(&mut self) {
        if self.timestamp_step_us().is_none() {
            self.recorder.finish();
        }
    }

    fn take_span_times(&mut self) -> Vec<SpanTime> {
        std::mem::take(&mut self.span_times)
    }
}
