//! Zamba2 in the browser. This page is the map of the floors; a module imports only from floors below its own
//! (`tests/architecture.rs` holds that). ARCHITECTURE.md tells why.

// Floor 0: what everything stands on, and threads that compute.
pub mod base;
pub(crate) mod threads;

// Text around the model, and the sentences of reports and errors.
pub mod text;
pub mod words;

// Floor 1: the vocabulary of ops, checked, counted and recorded.
pub mod ops;

// Floor 2: the devices, and the model, which sees none of them.
pub mod device;
pub mod model;

// Floor 3: how a family of models spells what it consists of.
pub mod family;

// Floor 4: bytes become blocks.
pub mod loader;

// Floor 5: one conversation; the kernels alone, against the clock and against each other; what a measured run says.
pub mod bench;
pub mod report;
pub mod self_test;
pub mod session;

// Floor 6: the doors, one for each world.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub mod api;
#[cfg(not(target_arch = "wasm32"))]
pub mod folder;
