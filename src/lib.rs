//! Zamba2 in the browser. This page is the map of the floors; a module imports only from floors below its own
//! (`tests/architecture.rs` holds that). ARCHITECTURE.md tells why.

// Floor 0: know nothing of the rest.
pub mod chat;
pub mod clock;
pub mod error;
pub mod profile;
pub mod quant;
pub mod sampling;
mod simd;
pub mod tokenizer;
pub mod words;

// Floor 1: the vocabulary of ops; its devices stand on floor 2.
pub mod backend;

// Floor 2: the model, which sees no device.
pub mod model;

// Floor 3: bytes become blocks.
pub mod loader;

// Floor 4: one conversation; the kernels alone, against the clock and against each other; what a measured run says.
pub mod bench;
pub mod report;
pub mod self_test;
pub mod session;

// Floor 5: the doors, one for each world.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub mod api;
#[cfg(not(target_arch = "wasm32"))]
pub mod folder;
