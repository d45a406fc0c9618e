//! `eval`, compared with the logits of the same tokens, and what shells and `man` get.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{json_of, list, numbers, text, zamba2};

const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/rustdoc-5m");
const TEXT: &str =
    "Ownership is a set of rules. The compiler checks them, and a value has one owner.\n";

/// −Σ ln p of each token after the first, from rows of logits.
fn nats(rows: &Value, ids: &[u32]) -> f64 {
    let rows = rows.as_array().expect("rows").iter().map(numbers);
    rows.zip(&ids[1..])
        .map(|(row, &token)| {
            let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
            sum.ln() - f64::from(row[token as usize])
        })
        .sum()
}

#[test]
fn eval_adds_what_the_logits_of_every_window_say() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, TEXT).unwrap();
    let tokenized = json_of(&["tokenize", EMBEDDED, TEXT, "--json"]);
    let ids: Vec<u32> = serde_json::from_value(tokenized["ids"].clone()).unwrap();
    let (start, rest) = (ids[0], &ids[1..]);
    let window = 12;

    let mut expected = 0.0;
    for part in rest.chunks(window - 1) {
        let ids = [&[start], part].concat();
        let logits = json_of(&[
            "logits",
            EMBEDDED,
            "--tokens",
            &list(&ids),
            "--threads",
            "1",
        ]);
        expected += nats(&logits["prefill_logits"], &ids);
    }
    let window = window.to_string();
    let found = json_of(&[
        "eval",
        EMBEDDED,
        text(&file),
        "--weights",
        "f32",
        "--window",
        &window,
        "--threads",
        "1",
        "--json",
    ]);
    assert_eq!(found["tokens"], rest.len());
    assert_eq!(found["bytes"], TEXT.len());
    // Both add the same f32 logits in f64.
    let per_token = expected / rest.len() as f64;
    let close = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    };
    close(&found["nats_per_token"], per_token);
    close(&found["perplexity"], per_token.exp());
    close(
        &found["bits_per_byte"],
        expected / TEXT.len() as f64 / std::f64::consts::LN_2,
    );
}

#[test]
fn an_empty_text_and_a_file_that_is_none_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("empty.txt");
    fs::write(&file, "").unwrap();
    for (path, code) in [(&file, "empty_prompt"), (&folder.path().join("no"), "io")] {
        let output = zamba2(&["eval", EMBEDDED, text(path), "--json"]);
        assert!(!output.status.success());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["error"]["code"], code, "{}", Path::display(path));
    }
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let help = zamba2(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["man"],
    ] {
        let output = zamba2(arguments);
        let script = String::from_utf8(output.stdout).unwrap().replace('\\', "");
        for command in &commands {
            assert!(script.contains(command), "{arguments:?}: {command}");
        }
    }
}
