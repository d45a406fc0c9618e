//! From the files of a checkpoint to the weights of a model. Nothing here does I/O: the same code runs natively, in the
//! tests and in the browser. `schedule` says which bytes are needed in which order, `weight_stream` takes them.

mod content_hash;
pub mod end_tokens;
pub mod foreign;
mod model_from_tensors;
pub mod named_tensors;
pub mod packed;
pub mod safetensors;
pub mod schedule;
mod weight_stream;

pub use weight_stream::{Rest, WeightStream};
