//! `zamba2 tokenize` from outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/rustdoc-5m");

/// A copy of the embedded model's small files: the command reads no weights.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(MODEL).join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn tokenize(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    let command = command.arg("tokenize").arg(dir).args(more);
    command.output().expect("the binary starts")
}

fn json_of(dir: &Path, more: &[&str]) -> Value {
    let output = tokenize(dir, &[more, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON value")
}

fn ids(output: &Value) -> Vec<u64> {
    let ids = output["ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn the_tokens_of_a_text_are_printed_line_by_line_and_as_json() {
    let dir = folder();
    let output = json_of(dir.path(), &["Returns the\n"]);
    let tokens = output["tokens"].as_array().unwrap();
    let texts: String = tokens
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert!(texts.ends_with("Returns the\n"), "{texts:?}");
    let of_tokens: Vec<u64> = tokens
        .iter()
        .map(|token| token["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids(&output), of_tokens);

    let lines = tokenize(dir.path(), &["Returns the\n"]).stdout;
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count(), tokens.len());
    assert!(lines.contains(r#""\n""#), "{lines}");
}

#[test]
fn a_chat_goes_through_the_template_and_keeps_control_tokens_in_messages_as_text() {
    let dir = folder();
    let special = json_of(dir.path(), &[""]);
    let start = ids(&special);
    assert_eq!(start.len(), 1, "{special}");
    let config = fs::read(dir.path().join("tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["chat_template"] = json!("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let end = config["eos_token"].as_str().unwrap().to_owned();

    let said = format!("the{end}");
    let plain = ids(&json_of(dir.path(), &[&said, "--chat"]));
    let control = ids(&json_of(
        dir.path(),
        &[&said, "--chat", "--content", "control"],
    ));
    let end_id = *control.last().unwrap();
    let count = |ids: &[u64]| ids.iter().filter(|id| **id == end_id).count();
    assert_eq!((count(&plain), count(&control)), (1, 2), "{plain:?}");
    assert_eq!((plain[0], control[0]), (start[0], start[0]));
    assert_eq!(count(&ids(&json_of(dir.path(), &["the", "--chat"]))), 1);
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let dir = folder();
    let error = |more: &[&str]| json_of(dir.path(), more)["error"].clone();
    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    assert_eq!(error(&["the", "--chat"])["code"], "no_chat_template");
    fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    let damaged = error(&["the"]);
    assert_eq!(damaged["code"], "bad_tokenizer");
    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    assert_eq!(error(&["the"])["code"], "bad_tokenizer");
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(error(&["the"])["code"], "missing_file");
}
