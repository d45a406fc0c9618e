//! The native binary as a subprocess. How the tests run it, and checkpoints with a tokenizer.

mod bench_kernels;
mod errors;
mod eval;
mod generate;
mod logits;
mod profile;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Golden;

/// As in `tests/model.rs`: f32 sums in a different order from the reference's.
const TOLERANCE: f32 = 1e-3;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
const WEIGHTS: &str = "model.safetensors";

fn zamba2(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    command.args(arguments).output().expect("the binary starts")
}

fn json_of(arguments: &[&str]) -> Value {
    let output = zamba2(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON value")
}

/// All numbers in nested arrays; null, which stands for a non-finite number, becomes NaN.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().map_or(f32::NAN, |number| number as f32)],
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn list(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}

fn golden(name: &str) -> Golden {
    Golden::open(&Path::new(FIXTURES).join(name))
}

/// A single-character tokenizer for the fixtures' vocabularies: `<s>` is prepended, letters start at `first_letter_id`.
fn tokenizer_json(first_letter_id: u32) -> Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let mut vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2});
    for (letter, id) in ('a'..='z').zip(first_letter_id..) {
        vocab[letter.to_string()] = json!(id);
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": null, "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
        },
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []}
    })
}

fn with_tokenizer(tokenizer: &str) -> TempDir {
    let dir = copy("one_block_adapters_rope");
    fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    dir
}

fn generate<'a>(dir: &'a TempDir, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "generate",
        text(dir.path()),
        "--weights",
        "f32",
        "--threads",
        "1",
    ];
    arguments.extend(more);
    arguments
}

/// The command must exit with code 1 and exactly one error, as text on stderr and with `--json` as JSON on stdout.
fn refused(arguments: &[&str], code: &str, file: Option<&str>) {
    let as_text = zamba2(arguments);
    let stderr = String::from_utf8(as_text.stderr).unwrap();
    assert_eq!(as_text.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert!(as_text.stdout.is_empty(), "{arguments:?}");
    let lines: Vec<&str> = stderr.lines().collect();
    let &[error, next] = &lines[..] else {
        panic!("{arguments:?}: {stderr}");
    };
    let message = error
        .strip_prefix("error: ")
        .unwrap_or_else(|| panic!("{stderr}"));
    let next = next
        .strip_prefix("  next: ")
        .unwrap_or_else(|| panic!("{stderr}"));
    assert!(!stderr.contains("panicked"), "{stderr}");

    let as_json = zamba2(&[arguments, &["--json"]].concat());
    assert_eq!(as_json.status.code(), Some(1), "{arguments:?}");
    let report: Value = serde_json::from_slice(&as_json.stdout).unwrap();
    let error = &report["error"];
    assert_eq!(error["values"]["file"].as_str(), file, "{arguments:?}");
    let expected = json!({"error": {"code": code, "values": error["values"], "message": message, "next_step": next}});
    assert_eq!(report, expected, "{arguments:?}");
    assert!(as_json.stderr.is_empty(), "{arguments:?}");
}

/// A copy of a fixture, to be modified.
fn copy(fixture: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(PathBuf::from(FIXTURES).join(fixture)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}
