//! Sums over a workgroup at several subgroup widths. Mesa's software adapter makes subgroups as wide as the vectors
//! that it compiles for, which an environment variable sets; so the tests of kernels that sum are run again in
//! processes of their own. Wider subgroups than 16 lanes are left to real adapters.

use std::env;
use std::process::Command;

use pollster::block_on;

use super::device;
use zamba2::device::webgpu::AdapterOptions;

const TESTS: [&str; 5] = [
    "webgpu::linear::products_with_long_rows_equal_candle_for_every_number_of_tokens_and_rows",
    "webgpu::fused::fused_kernels_equal_the_cpus_single_ops_at_every_size_and_format",
    "webgpu::ops::rms_norm_equals_candle_at_every_shape",
    "webgpu::ops::gated_rms_norm_equals_the_loops_at_every_shape_and_number_of_groups",
    "webgpu::subgroups::the_adapter_reports_the_width_of_its_subgroups",
];

/// The width of the default adapter's subgroups; none without an adapter.
fn subgroup_width() -> Option<u32> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let adapter = wgpu::Instance::new(descriptor).request_adapter(&Default::default());
    Some(block_on(adapter).ok()?.get_info().subgroup_min_size)
}

#[test]
fn the_adapter_reports_the_width_of_its_subgroups() {
    match subgroup_width() {
        Some(width) => println!("subgroups of {width} lanes"),
        None => println!("SKIPPED: the width of subgroups: there is no adapter"),
    }
}

#[test]
fn sums_over_a_workgroup_are_right_in_subgroups_of_4_to_16_lanes() {
    let Some(ops) = device("subgroup widths", AdapterOptions::default()) else {
        return;
    };
    let facts = ops.adapter();
    if !facts.name.starts_with("llvmpipe") || !facts.subgroups {
        return println!("SKIPPED: subgroup widths: {} has its own", facts.name);
    }
    for width in [4, 8, 16] {
        let bits = (32 * width).to_string();
        let mut tests = Command::new(env::current_exe().unwrap());
        tests.args(["--exact", "--nocapture"]).args(TESTS);
        let output = tests.env("LP_NATIVE_VECTOR_WIDTH", bits).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{width} lanes: {said}");
        assert!(said.contains("5 passed"), "{width} lanes: {said}");
        let reported = format!("subgroups of {width} lanes");
        assert!(said.contains(&reported), "{width} lanes: {said}");
    }
}
