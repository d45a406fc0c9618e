//! Zamba2 in the browser. This page is the map of the floors; a module imports only from floors below its own
//! (`tests/architecture.rs` holds that). ARCHITECTURE.md tells why.

// Floor 0: know nothing of the rest.
pub mod error;
pub mod sampling;
pub mod tokenizer;
