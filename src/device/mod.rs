//! The devices: each implements [`crate::ops::device::Device`], and none sees another or the model.

pub mod cpu;
// wasip1, where the kernels of the CPU are tested, has no graphics.
#[cfg(not(target_os = "wasi"))]
pub mod webgpu;
