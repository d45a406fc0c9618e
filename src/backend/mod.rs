//! Former paths, until every branch is in.

pub use crate::device::cpu;
#[cfg(not(target_os = "wasi"))]
pub use crate::device::webgpu;
pub use crate::ops::device::{Device as Backend, *};
