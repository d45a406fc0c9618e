//! Threads that compute: a pool, how many of its workers a job of a kernel calls, and where threads come from on each
//! platform.

mod helper_limit;
pub(crate) mod platform;
pub mod pool;
