//! What every other module stands on and what knows nothing of them: errors, the clock, vectors, weight formats.

pub mod clock;
pub mod error;
pub mod quant;
pub(crate) mod simd;
