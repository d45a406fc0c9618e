//! The op vocabulary of the model. [`Ops`] checks the shapes of a call, opens its span, calls the device and counts the
//! work, once for all devices. It computes nothing itself.

mod checked_ops;
pub mod device;
pub mod fused;
pub mod op_traits;
pub mod stopwatch;
pub mod trace;
#[cfg(not(target_arch = "wasm32"))]
pub mod watch;
#[cfg(target_arch = "wasm32")]
#[path = "no_watch.rs"]
mod watch;
pub mod work;

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::base::quant::{StoredMatrix, WeightFormat};
use crate::ops::device::{AttentionShape, Device, KvCache, KvFormat, Linear, ModelSizes, Tensor};
use crate::ops::trace::{Member, ModuleId, Profiler, SpanId, SpanTime};
use crate::ops::watch::Watch;
use crate::ops::work::Work;

/// A device, and the profile of the ops that run on it.
pub struct Ops<D: Device> {
    device: D,
    profiler: Profiler,
    /// The last encoded block, outermost if nested, and its start time, until a fence ends it.
    unfenced: Option<(SpanId, f64)>,
    /// Set while the outputs of ops are watched.
    watch: Option<Watch<D>>,
}

/// A weight matrix whose rows are being received.
pub struct ArrivingWeight<D: Device> {
    rows: D::ArrivingWeight,
    missing_rows: usize,
    row_bytes: usize,
}

impl<D: Device> Ops<D> {
    pub fn new(device: D) -> Self {
        Ops {
            device,
            profiler: Profiler::default(),
            unfenced: None,
            watch: None,
        }
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    pub fn into_device(self) -> D {
        self.device
    }

    pub fn profiler(&mut self) -> &mut Profiler {
        &mut self.profiler
    }

    /// Runs `body` under a block-level span.
    pub fn scope<R>(&mut self, module: ModuleId, body: impl FnOnce(&mut Self) -> R) -> R {
        let span = self.profiler.open_block(module);
        let (block, start_us) = (self.profiler.innermost(), now_us());
        let result = body(self);
        if span.is_recorded() {
            self.device.leave_span();
        }
        self.profiler.close(span, Work::default);
        // Of nested blocks the outermost closes last, so it remains.
        self.unfenced = block.map(|block| (block, start_us));
        result
    }

    /// Runs one op under its span.
    fn op(&mut self, module: ModuleId, work: impl FnOnce() -> Work, body: impl FnOnce(&mut D)) {
        let work = work();
        self.device.note_work(work.flops);
        let span = self.profiler.open_op(module);
        self.device.enter_span(self.profiler.innermost());
        body(&mut self.device);
        if span.is_recorded() {
            self.device.leave_span();
        }
        self.profiler.close(span, || work);
    }

    /// Runs several ops as one, under one span.
    fn members_op(&mut self, members: &[Member], body: impl FnOnce(&mut D)) {
        self.device
            .note_work(members.iter().map(|member| member.work.flops).sum());
        let span = self.profiler.open_members(members);
        self.device.enter_span(self.profiler.innermost());
        body(&mut self.device);
        if span.is_recorded() {
            self.device.leave_span();
        }
        self.profiler.close_members(span, members);
    }

    /// Runs an op that is too small for a span of its own.
    fn unrecorded(&mut self, body: impl FnOnce(&mut D)) {
        self.device.enter_span(self.profiler.innermost());
        body(&mut self.device);
    }
}

/// Memory.
impl<D: Device> Ops<D> {
    /// Checks that the device supports a model of these sizes.
    ///
    /// # Errors
    /// [`crate::base::error::Error::DeviceLimit`] with the size that exceeds the device's kernels or memory.
    pub fn check_sizes(&self, sizes: &ModelSizes) -> Result<()> {
        self.device.check_sizes(sizes)
    }

    /// A zeroed tensor with capacity for `rows`.
    pub fn tensor(&mut self, rows: usize, cols: usize) -> D::Tensor {
        self.device.tensor(rows, cols)
    }

    /// A tensor initialised with `values[rows · cols]`.
    pub fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> D::Tensor {
        assert_eq!(values.len(), rows * cols, "constant: [{rows}, {cols}]");
        self.device.constant(rows, cols, values)
    }

    /// Splits `data` into pieces and calls `body(index, piece)` on the host's threads.
    pub fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        self.device.for_each_piece(data, piece, body);
    }

    /// Allocates a matrix whose rows are pushed later.
    pub fn begin_weight(
        &mut self,
        format: WeightFormat,
        rows: usize,
        cols: usize,
    ) -> ArrivingWeight<D> {
        ArrivingWeight {
            rows: self.device.begin_weight(format, rows, cols),
            missing_rows: rows,
            row_bytes: format.bytes(1, cols) as usize,
        }
    }

    /// Repacks the next whole rows for the device. They must be valid stored rows
    /// ([`crate::base::quant::is_valid_row`]).
    pub fn push_rows(&mut self, weight: &mut ArrivingWeight<D>, rows: &[u8]) {
        let n = rows.len() / weight.row_bytes;
        assert_eq!(n * weight.row_bytes, rows.len(), "push_rows: whole rows");
        assert!(n <= weight.missing_rows, "push_rows: too many rows");
        weight.missing_rows -= n;
        self.device.push_rows(&mut weight.rows, rows);
    }

    /// The matrix. Panics unless every row has been pushed.
    pub fn finish_weight(&mut self, weight: ArrivingWeight<D>) -> D::Weight {
        assert_eq!(weight.missing_rows, 0, "finish_weight: rows are missing");
        self.device.finish_weight(weight.rows)
    }

    /// The weight for a whole matrix on the host.
    pub fn weight(&mut self, matrix: &StoredMatrix) -> D::Weight {
        let mut weight = self.begin_weight(matrix.format, matrix.rows, matrix.cols);
        self.push_rows(&mut weight, &matrix.bytes);
        self.finish_weight(weight)
    }

    /// An empty cache with capacity for `context` positions, in `format` or a more exact one.
    pub fn kv_cache(
        &mut self,
        shape: &AttentionShape,
        context: usize,
        format: KvFormat,
    ) -> KvCache<D> {
        let rows = self.device.kv_rows(shape, context, format);
        KvCache {
            format: self.device.kv_format(&rows),
            rows,
            shape: *shape,
            context,
            len: 0,
        }
    }

    /// Sets every element of `x` to zero.
    pub fn clear(&mut self, x: &mut D::Tensor) {
        self.device.clear(x);
    }

    /// Overwrites all elements of x, row-major.
    pub fn write(&mut self, values: &[f32], x: &mut D::Tensor) {
        assert_eq!(values.len(), self.numbers(x), "write: all numbers of x");
        self.device.write(values, x);
    }

    /// The number of elements of x.
    pub fn numbers(&self, x: &D::Tensor) -> usize {
        x.rows() * x.cols()
    }

    /// Replaces the contents of a cache by the bytes of [`Ops::read_kv`].
    pub fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<D>) {
        let len = bytes.len() / self.kv_position_bytes(cache);
        assert!(len <= cache.context, "write_kv: more positions than fit");
        self.device.write_kv(bytes, cache);
        cache.len = len;
    }

    /// Bytes per position in [`Ops::read_kv`].
    pub fn kv_position_bytes(&self, cache: &KvCache<D>) -> usize {
        cache.format.bytes(&cache.shape, 1) as usize
    }

    /// Makes the weights of linear layers adjacent in memory, if the device benefits from it.
    pub fn join_weights(&mut self, linears: &[&Linear<D>]) {
        let weights: Vec<_> = linears.iter().map(|linear| &*linear.weight).collect();
        self.device.join_weights(&weights);
    }

    /// Device memory of `weight` in bytes.
    pub fn weight_bytes(&self, weight: &D::Weight) -> usize {
        self.device.weight_bytes(weight)
    }
}

/// Submission and readback: the only waits.
impl<D: Device> Ops<D> {
    /// Submits all encoded ops.
    pub fn flush(&mut self) {
        self.device.flush();
    }

    /// Whether spans get times without [`Ops::fence`].
    pub fn times_spans(&self) -> bool {
        self.device.times_spans()
    }

    /// Waits until all encoded ops have run. If the device can't time spans, this sets the time of the last block.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn fence(&mut self) -> Result<()> {
        self.device.fence().await?;
        let unfenced = self.unfenced.take();
        if let Some((span, start_us)) = unfenced.filter(|_| !self.times_spans()) {
            self.profiler.note_device_time(SpanTime {
                span,
                start_us,
                end_us: now_us(),
            });
        }
        Ok(())
    }

    /// Reports failures that the device has noticed outside of a readback.
    ///
    /// # Errors
    /// The first failure that the device has reported; reports are asynchronous.
    pub fn check(&self) -> Result<()> {
        self.device.check()
    }

    /// The elements of x, row-major.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn read(&mut self, x: &D::Tensor) -> Result<Vec<f32>> {
        let readback = self.begin_read(&[x]);
        self.finish_read(readback).await
    }

    /// Submits all encoded ops and requests the elements of `xs`; ops that follow do not change what is read.
    pub fn begin_read(&mut self, xs: &[&D::Tensor]) -> D::Readback {
        self.device.begin_read(xs)
    }

    /// Waits for the elements of a readback, one tensor after another and row-major.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn finish_read(&mut self, readback: D::Readback) -> Result<Vec<f32>> {
        let numbers = self.device.finish_read(readback).await;
        self.note_span_times();
        numbers
    }

    /// The contents of a cache by position. // [len][kv heads][k, v]
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn read_kv(&mut self, cache: &KvCache<D>) -> Result<Vec<u8>> {
        let bytes = self.device.read_kv(cache).await;
        self.note_span_times();
        bytes
    }

    fn note_span_times(&mut self) {
        for time in self.device.take_span_times() {
            self.profiler.note_device_time(time);
        }
    }
}
