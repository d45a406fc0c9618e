//! The WebGPU backend: ops are recorded and run by a graphics adapter, with the same shaders natively and in a browser.
//! Sums are f32. Results are within the tolerances of `tests/webgpu.rs`, not bit for bit those of the CPU.
//!
//! An op's file has its constants, uniform blocks and host side; `kernels.rs` names its shader files.

mod adapter;
mod attention;
mod buffer;
mod ceilings;
mod conv1d;
mod elementwise;
mod embed;
mod kernels;
mod kv_cache;
mod limits;
mod linear;
mod norm;
mod readback;
mod recorder;
mod ssm_scan;
mod tensor;
mod timers;
mod top;
mod uniforms;
mod weight;

use crate::backend::{
    AttentionShape, Backend, Ceilings, Cols, Conv1d, GatedNorm, KvCache, KvFormat, Linear,
    ModelSizes, Norm, Rope, Ssm, SsmInput,
};
use crate::clock::now_us;
use crate::error::Result;
use crate::profile::{Level, NameId, Profiler, SpanId, Work};
use crate::quant::QMatrix;
pub use adapter::{AdapterFacts, AdapterOptions};
use buffer::{DeviceBuffer, ScratchBuffer};
use elementwise::RopeTable;
pub use kv_cache::WebGpuKvRows;
use readback::CAN_WAIT;
pub use recorder::Counts;
use recorder::Recorder;
use ssm_scan::DualScratch;
pub use tensor::WebGpuTensor;
use timers::DeviceTime;
pub use weight::WebGpuWeight;

/// Calls the body with each piece of the bytes and its number; see [`Backend::for_each_piece`].
pub type HostThreads = Box<dyn Fn(&mut [u8], usize, &(dyn Fn(usize, &mut [u8]) + Sync))>;

pub struct WebGpu {
    /// The CPU's threads: weights are quantised there before they are uploaded.
    host: HostThreads,
    recorder: Recorder,
    facts: AdapterFacts,
    profiler: Profiler,
    /// The last block that was recorded and when that began, until a fence.
    unfenced: Option<(SpanId, f64)>,
    /// Bound where a call has nothing to bind.
    dummy: DeviceBuffer,
    rope_table: Option<RopeTable>,
    /// Rows of x whose length is not a multiple of four, padded.
    padded_x: ScratchBuffer, // [T, 4 · ⌈cols / 4⌉]
    dual_scratch: DualScratch,
    attention_parts: ScratchBuffer, // [T, heads, splits, 2 + d]
    top_groups: ScratchBuffer,      // [groups, 2 + 2k]
    /// See [`WebGpu::take_span_times`].
    span_times: Vec<DeviceTime>,
}

impl WebGpu {
    /// Opens the system's preferred adapter.
    ///
    /// # Errors
    /// [`crate::error::Error::NoAdapter`] with the reason.
    pub async fn open(options: AdapterOptions, host: HostThreads) -> Result<WebGpu> {
        let open = adapter::open(options).await?;
        let facts = open.facts.clone();
        let mut recorder = Recorder::new(open);
        Ok(WebGpu {
            host,
            dummy: recorder.create(0),
            rope_table: None,
            padded_x: ScratchBuffer::new(&mut recorder),
            dual_scratch: DualScratch::new(&mut recorder),
            attention_parts: ScratchBuffer::new(&mut recorder),
            top_groups: ScratchBuffer::new(&mut recorder),
            recorder,
            facts,
            profiler: Profiler::default(),
            unfenced: None,
            span_times: Vec::new(),
        })
    }

    pub fn adapter(&self) -> &AdapterFacts {
        &self.facts
    }

    /// The observed resolution of timestamp queries in microseconds; none if the device has none.
    pub fn timestamp_step_us(&self) -> Option<f64> {
        self.recorder.timestamp_step_us()
    }

    /// Measures what the device can do at best.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn ceilings(&mut self) -> Result<Ceilings> {
        ceilings::measure(self).await
    }

    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// Records one op, whose work is `work`, under a span.
    fn op(&mut self, name: &'static str, work: Work, body: impl FnOnce(&mut WebGpu)) {
        let span = self.profiler.open_op(name);
        self.enter_span(self.profiler.innermost());
        body(self);
        if self.profiler.level() == Level::Module {
            self.leave_span();
        }
        self.profiler.close(span, work);
    }

    /// Dispatches from here on belong to `span`.
    fn enter_span(&mut self, span: Option<SpanId>) {
        self.recorder.set_span(span);
    }

    /// Without timestamp queries a span is timed by the host's clock, and ends when its work is done. A browser cannot
    /// wait inside an op; there [`Backend::fence`] waits after each block.
    fn leave_span(&mut self) {
        if self.facts.timestamp_period_ns.is_none() {
            self.recorder.finish();
        }
    }

    /// When the device ran the dispatches of spans, as far as readbacks have reported since the last call.
    fn take_span_times(&mut self) -> Vec<DeviceTime> {
        std::mem::take(&mut self.span_times)
    }

    /// Reads back and keeps the span times that come with it.
    async fn read_buffer(&mut self, buffer: &DeviceBuffer, bytes: u64) -> Result<Vec<u8>> {
        let (read, times) = self.recorder.read(buffer, bytes).await?;
        self.span_times.extend(times);
        Ok(read)
    }

    /// Replaces the host's times of spans by the device's.
    fn note_span_times(&mut self) {
        for time in self.take_span_times() {
            self.profiler
                .note_device_time(time.span, time.start_us, time.end_us);
        }
    }
}

/// A product in 64 bits: counts of operations and bytes do not fit wasm's 32-bit usize.
fn product<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes.into_iter().map(|size| size as u64).product()
}

fn linear_work(linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &WebGpuTensor) -> Work {
    let weight = &linear.weight;
    let shape = (weight.cols, weight.rows);
    assert_eq!((x.cols, y.cols), shape, "{}", linear.name);
    let bias_bytes = linear.bias.as_ref().map_or(0, WebGpuTensor::bytes);
    Work {
        flops: 2 * product([x.rows, weight.cols, weight.rows]),
        bytes: (weight.bytes + bias_bytes) as u64,
    }
}

impl Backend for WebGpu {
    type Tensor = WebGpuTensor;
    type Weight = WebGpuWeight;
    type KvRows = WebGpuKvRows;

    /// A readback costs most where decode steps are fast: eight of them share one.
    const TOKENS_AHEAD: usize = 8;

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

    fn upload(&mut self, matrix: QMatrix) -> WebGpuWeight {
        WebGpuWeight::new(&mut self.recorder, &matrix, self.facts.max_binding_bytes)
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

    fn embed(&mut self, table: &Linear<WebGpu>, tokens: &[u32], y: &mut WebGpuTensor) {
        assert_eq!(y.cols, table.weight.cols);
        let work = Work::moving(tokens.len() * table.weight.bytes / table.weight.rows);
        self.op("embed_tokens", work, |be| {
            embed::embed(be, table, tokens, y)
        });
    }

    fn rms_norm(&mut self, norm: &Norm<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((x.cols, y.cols), (norm.weight.cols, norm.weight.cols));
        let work = Work::moving(norm.weight.bytes());
        self.op(norm.name, work, |be| norm::rms_norm(be, norm, x, y));
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<WebGpu>,
        x: &WebGpuTensor,
        gate: Cols<WebGpuTensor>,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!((x.cols, y.cols, gate.len), (y.cols, gate.len, x.cols));
        let work = Work::moving(norm.weight.bytes());
        self.op("mamba.norm", work, |be| {
            norm::gated_rms_norm(be, norm, x, gate, y)
        });
    }

    fn linear(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        let work = linear_work(linear, x, y);
        self.op(linear.name, work, |be| {
            linear::linear_impl(be, linear, x, false, y)
        });
    }

    fn linear_add(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        let work = linear_work(linear, x, y);
        self.op(linear.name, work, |be| {
            linear::linear_impl(be, linear, x, true, y)
        });
    }

    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<WebGpu>,
        x: Cols<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!((conv.bias.cols, y.cols), (x.len, x.len));
        let work = Work {
            flops: 2 * product([x.tensor.rows, conv.weight.rows, x.len]),
            bytes: (conv.weight.bytes() + conv.bias.bytes() + 2 * state.bytes()) as u64,
        };
        self.op("mamba.conv1d", work, |be| {
            conv1d::causal_conv1d(be, conv, x, state, y)
        });
    }

    fn ssm_scan(
        &mut self,
        ssm: &Ssm<WebGpu>,
        input: SsmInput<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        let d_inner = ssm.n_heads * ssm.head_dim;
        assert_eq!((input.x.len, y.cols), (d_inner, d_inner));
        let parameters = [&ssm.a, &ssm.d, &ssm.dt_bias].map(WebGpuTensor::bytes);
        let work = Work {
            // The recurrence's, whichever form runs: per number of the state one product for the decay, two for the
            // input and two for the output; per channel dt·x and D·x.
            flops: product([input.x.tensor.rows, 5 * d_inner * ssm.d_state + 3 * d_inner]),
            bytes: (parameters.iter().sum::<usize>() + 2 * state.bytes()) as u64,
        };
        self.op("mamba.ssm", work, |be| {
            ssm_scan::ssm_scan(be, ssm, input, state, y)
        });
    }

    fn rope(&mut self, rope: &Rope, position: usize, x: &mut WebGpuTensor) {
        self.op("self_attn.rope", Work::NONE, |be| {
            elementwise::rope(be, rope, position, x)
        });
    }

    fn append_kv(&mut self, k: &WebGpuTensor, v: &WebGpuTensor, cache: &mut KvCache<WebGpu>) {
        let work = Work::moving(k.rows * cache.rows.position_bytes());
        self.op("self_attn.append_kv", work, |be| {
            kv_cache::append_kv(be, k, v, cache)
        });
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &WebGpuTensor,
        cache: &KvCache<WebGpu>,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!(q.cols, y.cols);
        // Query t sees the positions before the first query and t + 1 more.
        let pairs = product([q.rows, cache.len - q.rows]) + product([q.rows, q.rows + 1]) / 2;
        let work = Work {
            // Per pair a product of two heads and a weighted sum of values.
            flops: 4 * q.cols as u64 * pairs,
            bytes: cache.rows.format.bytes(shape, cache.len),
        };
        self.op("self_attn.attention", work, |be| {
            attention::attention(be, shape, q, cache, y)
        });
    }

    fn gelu_mul(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, 2 * y.cols);
        self.op("feed_forward.act_fn", Work::NONE, |be| {
            elementwise::gelu_mul(be, x, y)
        });
    }

    fn concat(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((a.rows, a.cols + b.cols), (b.rows, y.cols));
        self.op("shared_transformer.concat", Work::NONE, |be| {
            elementwise::concat(be, a, b, y)
        });
    }

    fn add(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((a.rows, a.cols, a.cols), (b.rows, b.cols, y.cols));
        self.op("add", Work::NONE, |be| elementwise::add(be, a, b, y));
    }

    fn last_row(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, y.cols);
        self.enter_span(self.profiler.innermost());
        elementwise::last_row(self, x, y);
    }

    fn top(&mut self, logits: &WebGpuTensor, row: usize, y: &mut WebGpuTensor) {
        assert_eq!(logits.rows, 1);
        self.op("sampling", Work::NONE, |be| top::top(be, logits, row, y));
    }

    fn embed_top(
        &mut self,
        table: &Linear<WebGpu>,
        top: &WebGpuTensor,
        row: usize,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!(y.cols, table.weight.cols);
        let work = Work::moving(table.weight.bytes / table.weight.rows);
        self.op("embed_tokens", work, |be| {
            embed::embed_top(be, table, top, row, y)
        });
    }

    fn copy(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, y.cols);
        self.enter_span(self.profiler.innermost());
        elementwise::copy(self, x, y);
    }

    fn flush(&mut self) {
        self.recorder.flush();
    }

    fn times_spans(&self) -> bool {
        self.facts.timestamp_period_ns.is_some() || CAN_WAIT
    }

    async fn fence(&mut self) -> Result<()> {
        // A readback waits for everything before it.
        self.recorder.read(&self.dummy, 4).await?;
        if let Some((block, start_us)) = self.unfenced.take() {
            self.profiler.note_device_time(block, start_us, now_us());
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    async fn read(&mut self, x: &WebGpuTensor) -> Result<Vec<f32>> {
        let bytes = self.read_buffer(&x.buffer, x.bytes() as u64).await?;
        self.note_span_times();
        Ok(tensor::from_bytes(&bytes))
    }

    fn write(&mut self, values: &[f32], x: &mut WebGpuTensor) {
        assert_eq!(values.len(), x.n_numbers());
        self.recorder.write(&x.buffer, &tensor::to_bytes(values));
    }

    fn numbers(&self, x: &WebGpuTensor) -> usize {
        x.n_numbers()
    }

    async fn read_kv(&mut self, cache: &KvCache<WebGpu>) -> Result<Vec<u8>> {
        let bytes = kv_cache::read(self, cache).await?;
        self.note_span_times();
        Ok(bytes)
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<WebGpu>) {
        kv_cache::write(self, bytes, cache);
    }

    fn kv_position_bytes(&self, cache: &KvCache<WebGpu>) -> usize {
        cache.rows.position_bytes()
    }

    fn weight_bytes(&self, weight: &WebGpuWeight) -> usize {
        weight.bytes
    }

    fn kv_format(&self, rows: &WebGpuKvRows) -> KvFormat {
        rows.format
    }

    fn profiler(&mut self) -> &mut Profiler {
        &mut self.profiler
    }

    fn scope<R>(&mut self, name: NameId, body: impl FnOnce(&mut Self) -> R) -> R {
        let span = self.profiler.open_block(name);
        let (block, start_us) = (self.profiler.innermost(), now_us());
        let result = body(self);
        if self.profiler.level() >= Level::Block {
            self.leave_span();
        }
        self.profiler.close(span, Work::NONE);
        // The outermost one of nested blocks closes last.
        self.unfenced = block.map(|block| (block, start_us));
        result
    }
}
