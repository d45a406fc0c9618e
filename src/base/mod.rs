//! What every other module stands on and what knows nothing of them: errors, the clock, the date, vectors, weight formats.

pub mod clock;
pub mod error;
pub mod local_time;
pub mod quant;
pub(crate) mod simd;
