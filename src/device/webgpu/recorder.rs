//! Records dispatches as data and submits them together. It handles kernels and buffers; the ops are in their own
//! files.
//!
//! Everything that varies between calls is in the uniform block of a dispatch. Blocks are bound with a dynamic offset,
//! so bind groups depend only on buffers and are reused for every token, and blocks that repeat are uploaded once
//! (`uniform_slots`).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::device::webgpu::adapter::{Faults, OpenDevice};
use crate::device::webgpu::buffer::{BufferAllocator, DeviceBuffer};
use crate::device::webgpu::pacer::{MAX_RUNNING, Pacer, fewer_running, lock};
use crate::device::webgpu::pipeline::{CompiledKernel, Pipelines};
use crate::device::webgpu::readback::{Readback, StagingBuffers, wait, wait_for};
use crate::device::webgpu::timers::Timers;
use crate::device::webgpu::uniform_slots::{SLOT_BYTES, SLOTS, UniformSlots};
use crate::device::webgpu::uniforms::Uniforms;
use crate::device::webgpu::variants::Form;
use crate::ops::trace::{SpanId, SpanTime};

/// Workgroups per dimension that every device supports.
const MAX_WORKGROUPS: usize = 65_535;
/// Storage buffers per kernel that every device supports.
const MAX_BINDINGS: usize = 8;

/// A form of a kernel and the ids of its buffers, padded with `u32::MAX`.
type BindGroupKey = (Form, [u32; MAX_BINDINGS]);

enum Command {
    Dispatch {
        form: Form,
        bind_group: Rc<wgpu::BindGroup>,
        uniform_offset: u32,
        workgroups: [u32; 3],
        span: Option<SpanId>,
    },
    Clear(wgpu::Buffer),
}

/// Totals since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub dispatches: u64,
    /// Compute passes. One per submission, unless spans are timed or a buffer is cleared in between.
    pub passes: u64,
    pub submissions: u64,
    pub bind_groups_made: u64,
    pub readbacks: u64,
    /// Weights, tensors and uniform blocks.
    pub uploaded_bytes: u64,
}

pub struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
    allocator: BufferAllocator,
    pipelines: Pipelines,
    /// Reference-counted, because cloning a bind group itself is a call from WebAssembly to JavaScript.
    bind_groups: HashMap<BindGroupKey, Rc<wgpu::BindGroup>>,
    commands: Vec<Command>,
    /// The uniform block of one dispatch.
    block: Vec<u8>,
    uniforms: UniformSlots,
    uniform_buffer: wgpu::Buffer,
    staging: StagingBuffers,
    /// None without timestamp queries, and after they have turned out not to advance.
    timers: Option<Timers>,
    /// The span that the following dispatches belong to.
    span: Option<SpanId>,
    counts: Counts,
    pacer: Arc<Mutex<Pacer>>,
    /// The last submission of each of the pacer's latest batches, oldest first: one more than may be running.
    paced: VecDeque<wgpu::SubmissionIndex>,
}

impl Recorder {
    pub fn new(open: OpenDevice) -> Recorder {
        let pipelines = Pipelines::new(&open);
        let OpenDevice {
            device,
            queue,
            faults,
            facts,
            ..
        } = open;
        let uniform_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            size: (SLOTS * SLOT_BYTES) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            device,
            queue,
            faults,
            allocator: BufferAllocator::default(),
            pipelines,
            bind_groups: HashMap::new(),
            commands: Vec::new(),
            block: Vec::new(),
            uniforms: UniformSlots::new(),
            uniform_buffer,
            staging: StagingBuffers::default(),
            timers: facts.timestamp_period_ns.map(Timers::new),
            span: None,
            counts: Counts::default(),
            pacer: Arc::default(),
            paced: VecDeque::new(),
        }
    }

    /// # Errors
    /// The first failure that the device has reported.
    pub fn check(&self) -> Result<()> {
        self.faults.check()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The observed resolution of timestamp queries in microseconds; `None` without them.
    pub fn timestamp_step_us(&self) -> Option<f64> {
        self.timers.as_ref().map(Timers::step_us)
    }

    /// Dispatches from here on belong to `span`.
    pub fn set_span(&mut self, span: Option<SpanId>) {
        self.span = span;
    }

    /// The next op takes `flops`. Submits what was recorded before it if the submission would take too long.
    pub fn note_work(&mut self, flops: f64) {
        let is_due = lock(&self.pacer).is_due(flops);
        if is_due {
            self.flush();
        }
        lock(&self.pacer).add(flops);
    }

    /// A zeroed buffer.
    pub fn create(&mut self, bytes: u64) -> DeviceBuffer {
        // Memory that no recorded command uses may be needed for this one.
        if self.commands.is_empty() {
            self.destroy_freed();
        }
        self.allocator.create(&self.device, bytes)
    }

    /// A buffer with the given contents, submitted at once so that staging buffers do not accumulate.
    pub fn create_from(&mut self, bytes: &[u8]) -> DeviceBuffer {
        let buffer = self.create(bytes.len() as u64);
        self.write_unused(&buffer, 0, &to_whole_words(bytes));
        buffer
    }

    /// Overwrites the start of `buffer`, after everything recorded before.
    pub fn write(&mut self, buffer: &DeviceBuffer, bytes: &[u8]) {
        self.flush();
        self.upload(&buffer.buffer, 0, &to_whole_words(bytes));
    }

    /// Writes to a buffer that no recorded command uses. // offset and the length of bytes: multiples of 4
    pub fn write_unused(&mut self, buffer: &DeviceBuffer, offset_bytes: u64, bytes: &[u8]) {
        self.upload(&buffer.buffer, offset_bytes, bytes);
        // Without a submission the pending copies would add up to the size of the model.
        self.queue.submit([]);
    }

    /// Copies the start of a buffer to a buffer that no recorded command uses. // bytes and offset: multiples of 4
    pub fn copy_unused(
        &mut self,
        from: &DeviceBuffer,
        to: &DeviceBuffer,
        offset_bytes: u64,
        bytes: u64,
    ) {
        let mut encoder = (self.device).create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&from.buffer, 0, &to.buffer, offset_bytes, bytes);
        self.queue.submit([encoder.finish()]);
    }

    fn upload(&mut self, buffer: &wgpu::Buffer, offset_bytes: u64, bytes: &[u8]) {
        self.queue.write_buffer(buffer, offset_bytes, bytes);
        self.counts.uploaded_bytes += bytes.len() as u64;
    }

    /// Sets `buffer` to zeros.
    pub fn clear(&mut self, buffer: &DeviceBuffer) {
        self.commands.push(Command::Clear(buffer.buffer.clone()));
    }

    /// Records a dispatch of a kernel on `buffers`, in the order of its bindings. `uniforms` has the type that the
    /// kernel's table entry names.
    pub fn dispatch<U: Uniforms>(
        &mut self,
        form: impl Into<Form>,
        buffers: &[&DeviceBuffer],
        uniforms: &U,
        workgroups: [usize; 3],
    ) {
        let form = form.into();
        assert!(
            workgroups.iter().all(|&n| n <= MAX_WORKGROUPS),
            "{form:?} in {workgroups:?} workgroups"
        );
        const { assert!(U::BYTES <= SLOT_BYTES) };
        self.block.clear();
        uniforms.append_to(&mut self.block);
        let slot = self.uniforms.slot(&self.block).unwrap_or_else(|| {
            self.flush();
            let slot = self.uniforms.slot(&self.block);
            slot.expect("a new submission uses no slot")
        });
        let bind_group = self.bind_group(form, buffers);
        self.commands.push(Command::Dispatch {
            form,
            bind_group,
            uniform_offset: (slot * SLOT_BYTES) as u32,
            workgroups: workgroups.map(|n| n as u32),
            span: self.span,
        });
        self.counts.dispatches += 1;
    }

    /// The kernels of this device.
    pub fn pipelines(&mut self) -> &mut Pipelines {
        &mut self.pipelines
    }

    fn bind_group(&mut self, form: Form, buffers: &[&DeviceBuffer]) -> Rc<wgpu::BindGroup> {
        let mut ids = [u32::MAX; MAX_BINDINGS];
        for (id, buffer) in ids.iter_mut().zip(buffers) {
            *id = buffer.id;
        }
        if let Some(cached) = self.bind_groups.get(&(form, ids)) {
            return Rc::clone(cached);
        }
        let pipeline = self.pipelines.compiled(form);
        let uniforms = wgpu::BufferBinding {
            buffer: &self.uniform_buffer,
            offset: 0,
            size: wgpu::BufferSize::new(SLOT_BYTES as u64),
        };
        let uniforms = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(uniforms),
        };
        let storage = (1..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.buffer.as_entire_binding(),
            });
        let entries: Vec<_> = std::iter::once(uniforms).chain(storage).collect();
        let bind_group = Rc::new(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        }));
        self.counts.bind_groups_made += 1;
        (self.bind_groups).insert((form, ids), Rc::clone(&bind_group));
        bind_group
    }

    /// Submits everything recorded.
    pub fn flush(&mut self) {
        if !self.commands.is_empty() {
            let encoder = self.encode();
            self.submit(encoder, false);
        }
    }

    /// Encodes everything recorded.
    fn encode(&mut self) -> wgpu::CommandEncoder {
        for (offset_bytes, block) in self.uniforms.submit() {
            (self.queue).write_buffer(&self.uniform_buffer, offset_bytes, &block);
            self.counts.uploaded_bytes += block.len() as u64;
        }
        let mut encoder = (self.device).create_command_encoder(&Default::default());
        let mut pass = None;
        let mut pass_span = None;
        let mut set_form = None;
        for command in self.commands.drain(..) {
            match command {
                Command::Clear(buffer) => {
                    pass = None;
                    encoder.clear_buffer(&buffer, 0, None);
                }
                Command::Dispatch {
                    form,
                    bind_group,
                    uniform_offset,
                    workgroups: [x, y, z],
                    span,
                } => {
                    if self.timers.is_some() && span != pass_span {
                        pass = None;
                        pass_span = span;
                    }
                    let pass = pass.get_or_insert_with(|| {
                        self.counts.passes += 1;
                        set_form = None;
                        let timed = self.timers.as_mut().zip(span);
                        let descriptor = wgpu::ComputePassDescriptor {
                            label: None,
                            timestamp_writes: timed
                                .map(|(timers, span)| timers.next_pass(&self.device, span)),
                        };
                        encoder.begin_compute_pass(&descriptor).forget_lifetime()
                    });
                    if set_form.replace(form) != Some(form)
                        && let Some(CompiledKernel { pipeline, .. }) = self.pipelines.get(form)
                    {
                        pass.set_pipeline(pipeline);
                    }
                    pass.set_bind_group(0, &*bind_group, &[uniform_offset]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
        drop(pass);
        encoder
    }

    fn submit(&mut self, encoder: wgpu::CommandEncoder, is_read: bool) -> wgpu::SubmissionIndex {
        if let Some(timers) = &mut self.timers {
            timers.note_submission(now_us());
        }
        let submission = self.queue.submit([encoder.finish()]);
        self.counts.submissions += 1;
        self.pace(&submission, is_read);
        self.destroy_freed();
        submission
    }

    /// Updates the pacer with the submission that was just made.
    fn pace(&mut self, submission: &wgpu::SubmissionIndex, is_read: bool) {
        if lock(&self.pacer).note_submission(now_us(), is_read) {
            let pacer = Arc::clone(&self.pacer);
            self.queue
                .on_submitted_work_done(move || lock(&pacer).note_done(now_us()));
            self.paced.push_back(submission.clone());
            if self.paced.len() > MAX_RUNNING + 1 {
                self.paced.pop_front();
            }
        }
    }

    /// Waits until at most [`MAX_RUNNING`] batches of submissions have not finished: what is recorded later then starts
    /// soon, and little runs on after a stop.
    pub async fn ready(&mut self) {
        if self.paced.len() > MAX_RUNNING
            && let Some(last) = self.paced.pop_front()
        {
            wait_for(&self.device, last);
        }
        fewer_running(&self.pacer).await;
    }

    /// Frees the memory of dropped buffers, which no recorded command uses any more, with their bind groups. What was
    /// submitted still runs.
    fn destroy_freed(&mut self) {
        let freed = std::mem::take(&mut *self.allocator.freed.borrow_mut());
        if freed.is_empty() {
            return;
        }
        let ids: HashSet<u32> = freed.iter().map(|(id, _)| *id).collect();
        self.bind_groups
            .retain(|(_, used), _| !used.iter().any(|id| ids.contains(id)));
        freed.iter().for_each(|(_, buffer)| buffer.destroy());
    }

    /// Submits everything recorded and, in the same submission, copies of the first bytes of each of `sources` and of
    /// the timestamps of all passes that no readback includes yet.
    pub fn begin_read<'a>(
        &mut self,
        sources: impl Iterator<Item = (&'a DeviceBuffer, u64)> + Clone,
    ) -> Readback {
        let mut encoder = self.encode();
        let timers = self.timers.as_mut();
        let times = timers.and_then(|timers| timers.resolve(&self.device, &mut encoder));
        let times_from = sources.clone().map(|(_, bytes)| bytes).sum();
        let sources = sources.map(|(source, bytes)| (&source.buffer, bytes));
        let sources = sources.chain(times);
        let staged = self.staging.copy(&self.device, &mut encoder, sources);
        let submission = self.submit(encoder, true);
        self.counts.readbacks += 1;
        let passes = self.timers.as_mut().map(Timers::take_passes);
        Readback::of(staged, submission, times_from, passes.unwrap_or_default())
    }

    /// The bytes of a readback's sources, one after another, and the times of the passes whose timestamps it includes.
    ///
    /// # Errors
    /// The first failure on the device up to now.
    pub async fn finish_read(
        &mut self,
        mut readback: Readback,
    ) -> Result<(Vec<u8>, Vec<SpanTime>)> {
        let arrived = readback.arrival(&self.device).await;
        // The failure that the device reported is more specific than the mapping's error.
        self.faults.check()?;
        arrived?;
        let times_from = readback.times_from;
        let (read, passes, buffer) = readback.finish();
        self.staging.give_back(buffer);
        let mut read = read?;
        let times = read.split_off(times_from as usize);
        let times = (self.timers.as_mut()).map(|timers| timers.times(passes, &times));
        if self.timers.as_ref().is_some_and(Timers::is_stopped) {
            self.timers = None;
        }
        Ok((read, times.unwrap_or_default()))
    }

    /// Reads the first `bytes` of a buffer after everything recorded so far; see [`Recorder::finish_read`].
    ///
    /// # Errors
    /// The first failure on the device up to now.
    pub async fn read(
        &mut self,
        buffer: &DeviceBuffer,
        bytes: u64,
    ) -> Result<(Vec<u8>, Vec<SpanTime>)> {
        let readback = self.begin_read(std::iter::once((buffer, bytes)));
        self.finish_read(readback).await
    }

    /// Submits everything recorded and waits for it, if waiting is possible.
    pub fn finish(&mut self) {
        self.flush();
        wait(&self.device);
    }
}

/// A browser would otherwise keep the device's memory until its next garbage collection.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.device.destroy();
    }
}

/// Buffers are written in words of four bytes.
fn to_whole_words(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.len().is_multiple_of(4) {
        return bytes.into();
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded.into()
}
