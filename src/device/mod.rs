//! The devices: each implements [`crate::ops::device::Device`], and imports neither another device nor the model.

#[cfg(all(feature = "candle", not(target_arch = "wasm32")))]
pub mod candle;
pub mod cpu;
// The CPU kernels are also tested on wasip1, which has no graphics.
#[cfg(not(target_os = "wasi"))]
pub mod webgpu;
