//! Foundations that every other module may import: errors, JSON, clock, date, SIMD vectors and functions of them,
//! weight formats. Nothing here depends on the rest of the crate, except error messages on `words`.

pub mod calendar;
pub mod checksum;
pub mod clock;
pub mod error;
pub mod json;
pub mod local_time;
pub mod quant;
pub(crate) mod simd;
pub(crate) mod vecmath;
