//! Device memory: buffers that bind groups know by number. It stands inside the WebGPU backend; what is in a buffer is
//! the business of those who hold it.

use std::cell::RefCell;
use std::rc::Rc;

/// Numbers of buffers that no longer exist, for whoever keeps something by number.
pub type Freed = Rc<RefCell<Vec<u32>>>;

/// A storage buffer. Its number is never given again.
pub struct Memory {
    pub id: u32,
    pub buffer: wgpu::Buffer,
    freed: Freed,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.freed.borrow_mut().push(self.id);
    }
}

/// Makes buffers and numbers them.
#[derive(Default)]
pub struct Allocator {
    made: u32,
    pub freed: Freed,
}

impl Allocator {
    /// A buffer of zeros. Its size is rounded up to what can be bound and copied.
    pub fn make(&mut self, device: &wgpu::Device, bytes: u64) -> Memory {
        let id = self.made;
        self.made += 1;
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            // The longest element of an array in a shader is four numbers.
            size: bytes.next_multiple_of(16).max(16),
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Memory {
            id,
            buffer,
            freed: Rc::clone(&self.freed),
        }
    }
}
