//! `bench-kernels` on a graphics adapter: its lines, and how a run goes on after another. Speed is not tested.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use zamba2::base::error::Error;
use zamba2::device::webgpu::AdapterOptions;

use super::{text, zamba2};
use crate::adapter;

fn has_adapter() -> bool {
    match adapter::open(AdapterOptions::default()) {
        Err(Error::NoAdapter { fact }) => {
            println!("SKIPPED: bench-kernels: {fact}");
            false
        }
        _ => true,
    }
}

/// The lines in `out` after a run with `more` arguments on one small matrix; none without an adapter.
fn lines(dir: &TempDir, more: &[&str]) -> Option<Vec<Value>> {
    let selection = json!({"matrices": ["adapter_0"], "tokens": [1], "formats": ["q4"]});
    lines_of(&selection, dir, more)
}

fn lines_of(selection: &Value, dir: &TempDir, more: &[&str]) -> Option<Vec<Value>> {
    if !has_adapter() {
        return None;
    }
    let (grid, out) = (dir.path().join("grid.json"), dir.path().join("out.jsonl"));
    fs::write(&grid, selection.to_string()).unwrap();
    let start = ["bench-kernels", "--backend", "webgpu"];
    let files = ["--grid", text(&grid), "--out", text(&out)];
    let output = zamba2(&[&start[..], &files, more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let lines = fs::read_to_string(out).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    Some(lines.collect())
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["line"].as_str().unwrap())
        .collect()
}

#[test]
fn every_variant_is_compared_with_the_cpu_and_a_cell_is_computed_once() {
    let dir = TempDir::new().unwrap();
    let Some(first) = lines(&dir, &["--check"]) else {
        return;
    };
    assert_eq!(kinds(&first)[0], "device");
    let cells = &first[1..];
    assert!(cells.len() > 2, "{first:?}");
    for cell in cells {
        assert_eq!(cell["line"], "cell");
        assert_eq!(cell["is_right"], true, "{cell}");
        assert_eq!(cell["time"], Value::Null);
    }
    assert_eq!(lines(&dir, &["--check"]).unwrap(), first);
}

#[test]
fn the_scan_attention_and_norms_of_a_decode_step_are_compared_with_the_cpus() {
    let dir = TempDir::new().unwrap();
    let ops = ["ssm_scan", "attention", "rms_norm", "gated_rms_norm"];
    let selection = json!({"ops": ops, "tokens": [1]});
    let Some(lines) = lines_of(&selection, &dir, &["--check"]) else {
        return;
    };
    let cells = &lines[1..];
    for cell in cells {
        assert_eq!(cell["is_right"], true, "{cell}");
    }
    let names: Vec<&str> = (cells.iter())
        .map(|cell| cell["cell"].as_str().unwrap())
        .collect();
    let expected = [
        "ssm_scan 1",
        "attention 1 of 64",
        "attention 1 of 256",
        "attention 1 of 1024",
        "attention 1 of 4096",
        "gated_rms_norm 1",
        "rms_norm 1",
    ];
    assert_eq!(names, expected);
}

#[test]
fn without_time_only_the_device_the_price_of_a_dispatch_and_the_ceilings_are_measured() {
    let dir = TempDir::new().unwrap();
    let Some(lines) = lines(&dir, &["--seconds", "0"]) else {
        return;
    };
    assert_eq!(kinds(&lines), ["device", "dispatches", "ceilings"]);
    for rate in ["read_gb_per_s", "copy_gb_per_s", "f32_gflops"] {
        assert!(lines[2][rate].as_f64().unwrap() > 0.0, "{rate}");
    }
}

#[test]
fn measurements_of_another_device_are_not_mixed_with_those_of_this_one() {
    if !has_adapter() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.jsonl");
    fs::write(&out, "{\"line\":\"device\"}\n").unwrap();
    let output = zamba2(&[
        "bench-kernels",
        "--backend",
        "webgpu",
        "--out",
        text(&out),
        "--json",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["error"]["code"], "bad_option");
    assert_eq!(fs::read_to_string(&out).unwrap(), "{\"line\":\"device\"}\n");
}
