//! `profile`, and every command on a graphics adapter.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use zamba2::report::run::Run;

use super::{TOLERANCE, golden, json_of, list, numbers, text, zamba2};
use crate::support::max_difference;

const QUICK: [&str; 7] = [
    "--threads",
    "1",
    "--decode",
    "2",
    "--runs",
    "2",
    "--no-ceilings",
];

#[test]
fn profile_writes_a_run_file_that_the_library_reads() {
    let golden = golden("one_block_adapters_rope");
    let dir = text(&golden.dir);
    let output = zamba2(&[&["profile", dir, "--json"], &QUICK[..6]].concat());
    assert!(output.status.success());
    let run = Run::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(run.model.name, "one_block_adapters_rope");
    assert_eq!(
        (run.prompt_tokens, run.decode_tokens, run.runs.len()),
        (35, 2, 2)
    );
    assert_eq!((run.unprofiled.len(), run.warmup), (2, 1));
    assert!(run.ceilings.is_some());
    assert_eq!(
        (&run.conditions.weights[..], run.conditions.threads),
        ("q4", 1)
    );
}

#[test]
fn profile_writes_every_format_to_a_file_or_to_standard_output() {
    let golden = golden("one_block_adapters_rope");
    let dir = text(&golden.dir);
    let folder = TempDir::new().unwrap();
    for (format, start) in [
        ("markdown", "# one_block_adapters_rope\n"),
        ("json", "{\"schema\":\"zamba2-run/1\""),
        ("csv", "table,phase,"),
        ("trace", "{\"traceEvents\":["),
        ("summary", "{\"label\":"),
    ] {
        let file = folder.path().join(format);
        let arguments = ["profile", dir, "--level", "block", "--format", format];
        let printed = zamba2(&[&arguments, &QUICK[..]].concat());
        assert!(printed.status.success(), "{format}");
        assert!(printed.stdout.starts_with(start.as_bytes()), "{format}");
        let out = ["--out", text(&file)];
        let written = zamba2(&[&arguments[..], &QUICK[..], &out].concat());
        assert!(written.status.success() && written.stdout.is_empty());
        assert!(fs::read_to_string(&file).unwrap().starts_with(start));
    }
}

#[test]
fn profile_reports_in_the_requested_language() {
    let golden = golden("two_blocks_no_rope");
    let dir = text(&golden.dir);
    let output = zamba2(&[&["profile", dir, "--language", "ru"], &QUICK[..]].concat());
    assert!(output.status.success());
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("\n## Общие параметры\n"));
    let refused = zamba2(&["profile", dir, "--language", "xx"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("en, ru"));
}

#[test]
fn profile_refuses_a_prompt_longer_than_the_context_and_an_output_that_cannot_be_written() {
    let golden = golden("one_block_adapters_rope");
    let dir = text(&golden.dir);
    let output = zamba2(&[
        "profile",
        dir,
        "--json",
        "--threads",
        "1",
        "--no-ceilings",
        "--context",
        "20",
    ]);
    assert!(!output.status.success());
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "prompt_too_long");
    let out = ["--out", "/nowhere/at/all"];
    let output = zamba2(&[&["profile", dir, "--json"], &QUICK[..], &out].concat());
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "write");
}

/// Every command that runs a model accepts `--backend webgpu`; without an adapter it fails with `no_adapter`.
#[test]
fn logits_bench_and_profile_run_on_a_graphics_adapter_and_logits_equal_the_reference() {
    let golden = golden("gqa");
    let tokens = list(&golden.ids("input_ids"));
    let dir = text(&golden.dir);
    let arguments = [
        "logits",
        dir,
        "--tokens",
        &tokens,
        "--decode",
        "4",
        "--backend",
        "webgpu",
        "--json",
    ];
    let output = zamba2(&arguments);
    if !output.status.success() {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["error"]["code"], "no_adapter", "{report}");
        println!("SKIPPED: {}", report["error"]["message"]);
        return;
    }
    let output: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Twice the CPU's tolerance: WGSL's exponentials are less exact.
    let expected = golden.numbers("prefill_logits");
    let difference = max_difference(&numbers(&output["prefill_logits"]), &expected);
    assert!(difference <= 2.0 * TOLERANCE, "{difference}");
    let bench = json_of(&[
        "bench",
        dir,
        "--json",
        "--weights",
        "q4",
        "--prompt",
        "3",
        "--decode",
        "2",
        "--runs",
        "1",
        "--backend",
        "webgpu",
    ]);
    assert_eq!(bench["backend"], "webgpu-native");
    assert!(bench["decode_dispatches"].as_u64().unwrap() > 0, "{bench}");
    assert!(bench["adapter"]["name"].is_string(), "{bench}");
    let run = json_of(&[
        "profile",
        dir,
        "--json",
        "--prompt-tokens",
        "3",
        "--decode",
        "2",
        "--runs",
        "1",
        "--backend",
        "webgpu",
    ]);
    assert_eq!(run["conditions"]["backend"], "webgpu-native");
    let source = run["timer"]["source"].as_str().unwrap();
    assert!(
        ["timestamp_query", "clock_after_spans"].contains(&source),
        "{source}"
    );
}

/// The Vulkan loader reads the list of drivers from the environment.
#[cfg(target_os = "linux")]
#[test]
fn without_a_graphics_adapter_the_error_suggests_the_cpu_backend() {
    let dir = golden("gqa").dir;
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    command.args(["bench", text(&dir), "--backend", "webgpu", "--json"]);
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nowhere");
    }
    let output = command.output().expect("the binary starts");
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["error"]["code"], "no_adapter", "{report}");
    let next_step = report["error"]["next_step"].as_str().unwrap();
    assert!(next_step.contains("CPU backend"), "{report}");
}
