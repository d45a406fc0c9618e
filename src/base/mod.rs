//! What every other module stands on and what knows nothing of them: errors, JSON, the clock, vectors, weight formats.

pub mod clock;
pub mod error;
pub mod json;
pub mod quant;
pub(crate) mod simd;
