//! Zamba2 in the browser. The modules are listed by floor: a module imports only from floors below its own, which
//! `tests/architecture.rs` checks. ARCHITECTURE.md gives the reasons.

// Floor 0: foundations, multithreading, text processing, and the sentences of reports and errors by language.
pub mod base;
pub mod text;
pub(crate) mod threads;
pub mod words;

// Floor 1: the op vocabulary, with shape checks, work counts and spans.
pub mod ops;

// Floor 2: the devices, and the model, which is independent of them.
pub mod device;
pub mod model;

// Floor 3: model families: from a configuration to the module tree.
pub mod family;

// Floor 4: from the bytes of a checkpoint to weights on a device.
pub mod loader;

// Floor 5: a conversation; benchmarks and self-test of a device; the report of a measured run.
pub mod bench;
pub mod report;
pub mod self_test;
pub mod session;

// Floor 6: the entry points, for JavaScript and for the file system.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub mod api;
#[cfg(not(target_arch = "wasm32"))]
pub mod folder;

// The tests of the kernels, as unit tests: these run as wasm, too, and their program is compiled once. They use the
// crate from outside, and share their cases with `tests/integration.rs`.
#[cfg(test)]
extern crate self as zamba2;
#[cfg(test)]
#[path = "../tests/cases/mod.rs"]
mod cases;
#[cfg(test)]
#[path = "../tests/kernels.rs"]
mod kernels;
#[cfg(test)]
#[path = "../tests/reference/mod.rs"]
mod reference;
