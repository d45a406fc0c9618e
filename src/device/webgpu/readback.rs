//! Reads device memory back through a staging buffer. A browser completes the mapping by itself; a native device must
//! be polled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::base::error::{Error, Result};

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

/// The staging buffer, reused between readbacks.
#[derive(Default)]
pub struct Readback {
    buffer: Option<wgpu::Buffer>,
    mapped_bytes: u64,
}

impl Readback {
    /// After everything encoded so far, copies the first bytes of each source, one after another, and maps them.
    pub fn start<'a>(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        mut encoder: wgpu::CommandEncoder,
        sources: impl Iterator<Item = (&'a wgpu::Buffer, u64)> + Clone,
    ) -> Mapping {
        let bytes = sources.clone().map(|(_, bytes)| bytes).sum();
        let large_enough = (self.buffer.take()).filter(|buffer| buffer.size() >= bytes);
        let buffer = large_enough.unwrap_or_else(|| {
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
        queue.submit([encoder.finish()]);
        let state = Arc::new(Mutex::new(MappingState::default()));
        let mapping = Mapping(Arc::clone(&state));
        buffer.map_async(wgpu::MapMode::Read, ..bytes, move |mapped| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.mapped = Some(mapped);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        self.buffer = Some(buffer);
        self.mapped_bytes = bytes;
        mapping
    }

    /// The bytes read. Call once the mapping has completed.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let Some(buffer) = &self.buffer else {
            return Ok(Vec::new());
        };
        let view = buffer.get_mapped_range(..self.mapped_bytes);
        let copied = view
            .map(|view| view.to_vec())
            .map_err(|error| device_error(&error));
        buffer.unmap();
        copied
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

/// Waits for the device and runs callbacks, if [`CAN_WAIT`]. Errors arrive through the callbacks.
pub fn wait(device: &wgpu::Device) {
    let _ = device.poll(wgpu::PollType::wait_indefinitely());
}
