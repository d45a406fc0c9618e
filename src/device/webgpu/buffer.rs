//! Storage buffers on the device, numbered so that bind groups can be cached. It does not define what a buffer
//! contains.

use std::cell::RefCell;
use std::rc::Rc;

use crate::device::webgpu::recorder::Recorder;

/// Dropped buffers with their ids, until the recorder destroys them: a browser would keep their memory until its next
/// garbage collection, which does not see how much it is.
pub type FreedBuffers = Rc<RefCell<Vec<(u32, wgpu::Buffer)>>>;

/// A storage buffer. Its id is never reused.
pub struct DeviceBuffer {
    pub id: u32,
    pub buffer: wgpu::Buffer,
    freed: FreedBuffers,
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let freed = (self.id, self.buffer.clone());
        self.freed.borrow_mut().push(freed);
    }
}

/// Creates and numbers buffers.
#[derive(Default)]
pub struct BufferAllocator {
    n_created: u32,
    pub freed: FreedBuffers,
}

impl BufferAllocator {
    /// A zeroed buffer. Its size is rounded up to one that can be bound and copied.
    pub fn create(&mut self, device: &wgpu::Device, bytes: u64) -> DeviceBuffer {
        let id = self.n_created;
        self.n_created += 1;
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            // The largest array element in a shader is a vector of four words.
            size: bytes.next_multiple_of(16).max(16),
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        DeviceBuffer {
            id,
            buffer,
            freed: Rc::clone(&self.freed),
        }
    }
}

/// A buffer for intermediate results of one op. It grows on demand and is reused.
pub struct ScratchBuffer {
    n_numbers: usize,
    buffer: DeviceBuffer,
}

impl ScratchBuffer {
    pub fn new(recorder: &mut Recorder) -> ScratchBuffer {
        ScratchBuffer {
            n_numbers: 0,
            buffer: recorder.create(0),
        }
    }

    /// The buffer, with capacity for at least `n_numbers` f32 or u32. Its contents are undefined.
    pub fn at_least(&mut self, recorder: &mut Recorder, n_numbers: usize) -> &DeviceBuffer {
        if self.n_numbers < n_numbers {
            self.n_numbers = n_numbers;
            self.buffer = recorder.create(4 * n_numbers as u64);
        }
        &self.buffer
    }
}
