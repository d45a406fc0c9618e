//! What is to run and how it gets to the device: commands are recorded as data and encoded in one go. It stands inside
//! the WebGPU backend and knows kernels and buffers, but no op.
//!
//! Everything that changes from call to call is in the uniform block of a dispatch. All blocks of a flush are written at
//! once and bound with an offset, so that bind groups depend on buffers only and are found again for every token.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::backend::webgpu::adapter::{Faults, OpenDevice};
use crate::backend::webgpu::kernels::{Access, Kernel, Variants};
use crate::backend::webgpu::buffer::{Allocator, Memory};
use crate::backend::webgpu::readback::{Readback, wait};
use crate::backend::webgpu::timers::{DeviceTime, Timers};
use crate::clock::now_us;
use crate::error::Result;
use crate::profile::SpanId;

/// What every device accepts as the distance of two uniform blocks.
const UNIFORM_STEP: usize = 256;
/// The longest uniform block: a few numbers and the tokens to embed.
const UNIFORM_BYTES: usize = 512;
/// Uniform blocks of one submission; a token of the largest model needs fewer than half of them.
const UNIFORM_STEPS: usize = 1024;
/// Workgroups along one axis that every device takes.
const MOST_WORKGROUPS: usize = 65_535;
/// Storage buffers that every device gives a kernel.
const MOST_BINDINGS: usize = 8;

struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A kernel and the numbers of its buffers; unused places are `u32::MAX`.
type BindGroupKey = (Kernel, [u32; MOST_BINDINGS]);

enum Command {
    Dispatch {
        kernel: Kernel,
        bind_group: wgpu::BindGroup,
        uniform_offset: u32,
        workgroups: [u32; 3],
        span: Option<SpanId>,
    },
    Clear(wgpu::Buffer),
}

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub dispatches: u64,
    pub submissions: u64,
    pub bind_groups_made: u64,
    /// Waits for something that is read.
    pub readbacks: u64,
}

pub struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
    allocator: Allocator,
    variants: Variants,
    pipelines: [Option<Pipeline>; Kernel::ALL.len()],
    bind_groups: HashMap<BindGroupKey, wgpu::BindGroup>,
    commands: Vec<Command>,
    uniforms: Vec<u8>,
    uniform_buffer: wgpu::Buffer,
    readback: Readback,
    /// If the device has a clock.
    timers: Option<Timers>,
    /// What the following dispatches are a part of.
    span: Option<SpanId>,
    counts: Counts,
}

impl Recorder {
    pub fn new(open: OpenDevice) -> Recorder {
        let OpenDevice {
            device,
            queue,
            faults,
            facts,
        } = open;
        let uniform_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            // A block that is bound at the last step reaches beyond it.
            size: (UNIFORM_STEPS * UNIFORM_STEP + UNIFORM_BYTES) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            device,
            queue,
            faults,
            allocator: Allocator::default(),
            variants: Variants {
                subgroups: facts.subgroups,
                f16: facts.f16,
            },
            pipelines: [const { None }; Kernel::ALL.len()],
            bind_groups: HashMap::new(),
            commands: Vec::new(),
            uniforms: Vec::new(),
            uniform_buffer,
            readback: Readback::default(),
            timers: facts.timestamp_period_ns.map(Timers::new),
            span: None,
            counts: Counts::default(),
        }
    }

    /// # Errors
    /// The first fault that the device has told by itself.
    pub fn check(&self) -> Result<()> {
        self.faults.check()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The real step of the device's clock in microseconds, if it has one.
    pub fn timestamp_step_us(&self) -> Option<f64> {
        self.timers.as_ref().map(Timers::step_us)
    }

    /// What is recorded from here on is a part of `span`.
    pub fn set_span(&mut self, span: Option<SpanId>) {
        self.span = span;
    }

    /// A buffer of zeros.
    pub fn make(&mut self, bytes: u64) -> Memory {
        self.allocator.make(&self.device, bytes)
    }

    /// A buffer of given bytes. They are handed on at once, so that the copies on their way don't pile up.
    pub fn make_from(&mut self, bytes: &[u8]) -> Memory {
        let memory = self.make(bytes.len() as u64);
        self.queue
            .write_buffer(&memory.buffer, 0, &to_whole_words(bytes));
        self.queue.submit([]);
        memory
    }

    /// Puts bytes in the place of the first of `memory`, after everything recorded before.
    pub fn write(&mut self, memory: &Memory, bytes: &[u8]) {
        self.flush();
        self.queue
            .write_buffer(&memory.buffer, 0, &to_whole_words(bytes));
    }

    pub fn clear(&mut self, memory: &Memory) {
        self.commands.push(Command::Clear(memory.buffer.clone()));
    }

    /// Records a run of `kernel` on `buffers`, in the order of its bindings, with `uniforms` as 32-bit words.
    pub fn dispatch(
        &mut self,
        kernel: Kernel,
        buffers: &[&Memory],
        uniforms: &[u32],
        workgroups: [usize; 3],
    ) {
        assert!(
            workgroups.iter().all(|&n| n <= MOST_WORKGROUPS),
            "{kernel:?} in {workgroups:?} workgroups"
        );
        let block_bytes = (4 * uniforms.len()).next_multiple_of(UNIFORM_STEP);
        assert!(block_bytes <= UNIFORM_BYTES);
        if self.uniforms.len() + block_bytes > UNIFORM_STEPS * UNIFORM_STEP {
            self.flush();
        }
        let start = self.uniforms.len();
        self.uniforms
            .extend(uniforms.iter().flat_map(|word| word.to_le_bytes()));
        self.uniforms.resize(start + block_bytes, 0);
        let bind_group = self.bind_group(kernel, buffers);
        self.commands.push(Command::Dispatch {
            kernel,
            bind_group,
            uniform_offset: start as u32,
            workgroups: workgroups.map(|n| n as u32),
            span: self.span,
        });
        self.counts.dispatches += 1;
    }

    fn bind_group(&mut self, kernel: Kernel, buffers: &[&Memory]) -> wgpu::BindGroup {
        let mut ids = [u32::MAX; MOST_BINDINGS];
        for (id, memory) in ids.iter_mut().zip(buffers) {
            *id = memory.id;
        }
        if let Some(known) = self.bind_groups.get(&(kernel, ids)) {
            return known.clone();
        }
        let pipeline = self.pipelines[kernel as usize]
            .get_or_insert_with(|| compile(&self.device, kernel, self.variants));
        let uniforms = wgpu::BufferBinding {
            buffer: &self.uniform_buffer,
            offset: 0,
            size: wgpu::BufferSize::new(UNIFORM_BYTES as u64),
        };
        let uniforms = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(uniforms),
        };
        let storage = (1..)
            .zip(buffers)
            .map(|(binding, memory)| wgpu::BindGroupEntry {
                binding,
                resource: memory.buffer.as_entire_binding(),
            });
        let entries: Vec<_> = std::iter::once(uniforms).chain(storage).collect();
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        self.counts.bind_groups_made += 1;
        self.bind_groups.insert((kernel, ids), bind_group.clone());
        bind_group
    }

    /// Hands everything recorded to the device.
    pub fn flush(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        self.queue
            .write_buffer(&self.uniform_buffer, 0, &self.uniforms);
        self.uniforms.clear();
        let mut encoder = (self.device).create_command_encoder(&Default::default());
        let mut pass = None;
        let mut pass_span = None;
        for command in self.commands.drain(..) {
            match command {
                Command::Clear(buffer) => {
                    pass = None;
                    encoder.clear_buffer(&buffer, 0, None);
                }
                Command::Dispatch {
                    kernel,
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
                        let timed = self.timers.as_mut().zip(span);
                        let descriptor = wgpu::ComputePassDescriptor {
                            label: None,
                            timestamp_writes: timed
                                .map(|(timers, span)| timers.next_pass(&self.device, span)),
                        };
                        encoder.begin_compute_pass(&descriptor).forget_lifetime()
                    });
                    if let Some(Pipeline { pipeline, .. }) = &self.pipelines[kernel as usize] {
                        pass.set_pipeline(pipeline);
                    }
                    pass.set_bind_group(0, &bind_group, &[uniform_offset]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
        drop(pass);
        if let Some(timers) = &mut self.timers {
            timers.note_submission(now_us());
        }
        self.queue.submit([encoder.finish()]);
        self.counts.submissions += 1;
        self.forget_freed();
    }

    /// Lets go of bind groups whose buffers are gone, and with them of the buffers.
    fn forget_freed(&mut self) {
        let freed = std::mem::take(&mut *self.allocator.freed.borrow_mut());
        if !freed.is_empty() {
            self.bind_groups
                .retain(|(_, ids), _| !ids.iter().any(|id| freed.contains(id)));
        }
    }

    /// The first `bytes` of a buffer, after everything recorded before, and when the passes since the last reading ran.
    ///
    /// # Errors
    /// Whatever has failed on the device up to now.
    pub async fn read(
        &mut self,
        memory: &Memory,
        bytes: u64,
    ) -> Result<(Vec<u8>, Vec<DeviceTime>)> {
        self.flush();
        let mut encoder = (self.device).create_command_encoder(&Default::default());
        let timers = self.timers.as_mut();
        let times = timers.and_then(|timers| timers.resolve(&self.device, &mut encoder));
        let sources = std::iter::once((&memory.buffer, bytes)).chain(times);
        let mapped = (self.readback).start(&self.device, &self.queue, encoder, sources);
        self.counts.readbacks += 1;
        wait(&self.device);
        let mapped = mapped.await;
        // The device's own words say more than a mapping that failed.
        self.faults.check()?;
        mapped?;
        let mut read = self.readback.finish()?;
        let times = read.split_off(bytes as usize);
        let times = self.timers.as_mut().map(|timers| timers.times(&times));
        Ok((read, times.unwrap_or_default()))
    }

    /// Runs everything recorded and waits for it.
    pub fn finish(&mut self) {
        self.flush();
        wait(&self.device);
    }
}

/// Memory on a device is scarce, and a browser would keep it until its next collection.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.device.destroy();
    }
}

/// Copies go by words of four bytes.
fn to_whole_words(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.len().is_multiple_of(4) {
        return bytes.into();
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded.into()
}

fn compile(device: &wgpu::Device, kernel: Kernel, variants: Variants) -> Pipeline {
    let label = format!("{kernel:?}");
    let label = Some(&label[..]);
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset,
            min_binding_size: None,
        },
        count: None,
    };
    let storage = (1..).zip(kernel.bindings()).map(|(binding, access)| {
        let read_only = *access == Access::Read;
        entry(
            binding,
            wgpu::BufferBindingType::Storage { read_only },
            false,
        )
    });
    let uniforms = entry(0, wgpu::BufferBindingType::Uniform, true);
    let entries: Vec<_> = std::iter::once(uniforms).chain(storage).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label,
        entries: &entries,
    });
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(kernel.text(variants).into()),
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    Pipeline { pipeline, layout }
}
