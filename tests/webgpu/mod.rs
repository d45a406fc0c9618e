//! The WebGPU backend on this machine's adapter, software adapters included: every op on the cases of the CPU's tests,
//! and whole models against the reference. Without an adapter each test prints that it was skipped.
//!
//! Tolerances are the CPU's where the sums are the same, and wider where WGSL guarantees less than IEEE: an exponential
//! may be off by 3 + 2·|x| units in the last place.

mod draws;
mod fused;
pub mod linear;
mod models;
mod ops;
mod recorder;
mod subgroups;
mod variants;

use zamba2::base::error::Error;
use zamba2::device::webgpu::{AdapterOptions, WebGpu};
use zamba2::ops::Ops;

use crate::adapter;

/// A device for one test, or none if the machine has no adapter.
fn device(test: &str, options: AdapterOptions) -> Option<WebGpu> {
    match adapter::open(options) {
        Ok(ops) => Some(ops),
        Err(Error::NoAdapter { fact }) => {
            println!("SKIPPED: {test}: {fact}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs `body` on a device.
fn on_device(test: &str, body: impl FnOnce(&mut Ops<WebGpu>)) {
    if let Some(ops) = device(test, AdapterOptions::default()) {
        body(&mut Ops::new(ops));
    }
}

/// Runs `body` on a device without optional features, and with each feature that selects a kernel variant.
fn in_every_variant(test: &str, mut body: impl FnMut(&str, &mut Ops<WebGpu>)) {
    let floor = AdapterOptions {
        no_subgroups: true,
        no_f16: true,
        ..AdapterOptions::default()
    };
    let subgroups = AdapterOptions {
        no_subgroups: false,
        ..floor
    };
    let f16 = AdapterOptions {
        no_f16: false,
        ..floor
    };
    for (form, options) in [("floor", floor), ("subgroups", subgroups), ("f16", f16)] {
        let Some(ops) = device(test, options) else {
            return;
        };
        let facts = ops.adapter();
        assert!(facts.subgroups <= !options.no_subgroups && facts.f16 <= !options.no_f16);
        if (form == "subgroups" && !facts.subgroups) || (form == "f16" && !facts.f16) {
            println!("SKIPPED: {test}: {} has no {form}", facts.name);
            continue;
        }
        body(form, &mut Ops::new(ops));
    }
}
