//! Reads device memory back through staging buffers. A browser completes the mapping by itself; natively the device
//! must be polled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::base::error::{Error, Result};
use crate::device::webgpu::timers::TimedPasses;

/// State shared by the mapping's callback and the future.
#[derive(Default)]
struct MappingState {
    mapped: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// Future that completes when the buffer is mapped.
pub struct Mapping(Arc<Mutex<MappingState>>);

impl Future for Mapping {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.mapped.take() {
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(mapped) => Poll::Ready(mapped.map_err(|error| device_error(&error))),
        }
    }
}

/// Free staging buffers. With several decode steps in flight there are several readbacks.
#[derive(Default)]
pub struct StagingBuffers(Vec<wgpu::Buffer>);

impl StagingBuffers {
    /// Encodes copies of the first bytes of each source into a staging buffer, one after another.
    pub fn copy<'a>(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        sources: impl Iterator<Item = (&'a wgpu::Buffer, u64)> + Clone,
    ) -> Staged {
        let bytes = sources.clone().map(|(_, bytes)| bytes).sum();
        let large_enough = self.0.iter().position(|buffer| buffer.size() >= bytes);
        let free = large_enough.map(|at| self.0.swap_remove(at));
        let buffer = free.unwrap_or_else(|| {
            // Replaced by the new one, so that there are never more buffers than readbacks in flight.
            if let Some(replaced) = self.0.pop() {
                replaced.destroy();
            }
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let mut end = 0;
        for (source, bytes) in sources {
            encoder.copy_buffer_to_buffer(source, 0, &buffer, end, bytes);
            end += bytes;
        }
        Staged { buffer, bytes }
    }

    /// Returns the buffer of a finished readback to the pool.
    pub fn give_back(&mut self, buffer: wgpu::Buffer) {
        self.0.push(buffer);
    }
}

/// A staging buffer whose copies are encoded.
pub struct Staged {
    buffer: wgpu::Buffer,
    bytes: u64,
}

/// A readback that was submitted.
pub struct Readback {
    buffer: wgpu::Buffer,
    bytes: u64,
    mapping: Mapping,
    submission: wgpu::SubmissionIndex,
    /// The offset of the timestamps, and the passes that have them.
    pub times_from: u64,
    pub passes: TimedPasses,
}

impl Readback {
    /// Maps `staged`, whose copies were submitted.
    pub fn of(
        Staged { buffer, bytes }: Staged,
        submission: wgpu::SubmissionIndex,
        times_from: u64,
        passes: TimedPasses,
    ) -> Readback {
        let state = Arc::new(Mutex::new(MappingState::default()));
        let mapping = Mapping(Arc::clone(&state));
        buffer.map_async(wgpu::MapMode::Read, ..bytes, move |mapped| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.mapped = Some(mapped);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        Readback {
            buffer,
            bytes,
            mapping,
            submission,
            times_from,
            passes,
        }
    }

    /// Waits until the bytes have arrived, but not for later submissions.
    pub async fn arrival(&mut self, device: &wgpu::Device) -> Result<()> {
        poll(device, Some(self.submission.clone()));
        (&mut self.mapping).await
    }

    /// The bytes, once they have arrived, the passes whose timestamps follow them, and the buffer for another readback.
    pub fn finish(self) -> (Result<Vec<u8>>, TimedPasses, wgpu::Buffer) {
        let view = self.buffer.get_mapped_range(..self.bytes);
        let copied = view
            .map(|view| view.to_vec())
            .map_err(|error| device_error(&error));
        self.buffer.unmap();
        (copied, self.passes, self.buffer)
    }
}

fn device_error(error: &dyn std::error::Error) -> Error {
    Error::Device {
        fact: error.to_string().into(),
    }
}

/// Whether [`wait`] can block: a browser runs callbacks only between tasks.
#[cfg(not(target_arch = "wasm32"))]
pub const CAN_WAIT: bool = true;
#[cfg(target_arch = "wasm32")]
pub const CAN_WAIT: bool = false;

/// Waits for all submissions and runs callbacks, if [`CAN_WAIT`].
pub fn wait(device: &wgpu::Device) {
    poll(device, None);
}

/// Waits for a submission and those before it, if [`CAN_WAIT`].
pub fn wait_for(device: &wgpu::Device, submission: wgpu::SubmissionIndex) {
    poll(device, Some(submission));
}

/// Waits for a submission, or for all. Errors arrive through the callbacks.
fn poll(device: &wgpu::Device, submission_index: Option<wgpu::SubmissionIndex>) {
    let _ = device.poll(wgpu::PollType::Wait {
        submission_index,
        timeout: None,
    });
}
