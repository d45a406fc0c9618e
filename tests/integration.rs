//! Every test of the crate from outside but `kernels.rs`, as one program: it is linked once, and what the files share
//! is compiled once. The kernels' are unit tests, because these also run as wasm. A file here is named before its
//! tests: `cargo test --test integration model::`.
#![cfg(not(target_arch = "wasm32"))]

mod adapter;
mod architecture;
mod candle_ops;
mod cases;
mod chat;
mod cli;
mod conversation;
mod damaged_files;
mod documents;
mod failing_calls;
mod generated;
mod inside;
mod limits;
mod loader;
mod lookahead;
mod lookup;
mod mistral;
mod model;
mod quantization;
mod reference;
mod report;
mod sampling_options;
mod sequence;
mod sizes;
mod structured_output;
mod support;
mod threads;
mod tokenize_cli;
mod tokens;
mod verify;
mod webgpu;
mod webgpu_widths;
mod wild;
mod words;
