//! Multithreading for the CPU kernels: a thread pool, a limit on how many workers a job wakes, and where threads come
//! from on each platform.

mod helper_limit;
pub(crate) mod platform;
pub mod pool;
