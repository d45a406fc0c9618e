//! Threads that compute: a pool whose workers wake within microseconds, and where its threads come from on each platform.

pub(crate) mod platform;
pub mod pool;
