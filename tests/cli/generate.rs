//! `generate`: text, chat and sampling.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::{
    generate, golden, json_of, list, refused, text, tokenizer_json, with_tokenizer, zamba2,
};

#[test]
fn generate_gives_the_greedy_tokens_of_logits_and_streams_the_text_that_json_reports() {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let greedy = [
        "--prompt",
        "abc",
        "--temperature",
        "0",
        "--max-tokens",
        "6",
        "--ignore-eos",
    ];
    let generated = json_of(&[&generate(&dir, &greedy)[..], &["--json"]].concat());
    let logits = json_of(&[
        "logits",
        text(dir.path()),
        "--tokens",
        "1,3,4,5",
        "--decode",
        "6",
    ]);
    assert_eq!(generated["tokens"], logits["decode_tokens"]);
    assert_eq!(
        (&generated["prompt_tokens"], &generated["reason"]),
        (&json!(4), &json!("length"))
    );

    let streamed = zamba2(&generate(&dir, &greedy));
    let expected = format!("{}\n", generated["text"].as_str().unwrap());
    assert_eq!(String::from_utf8(streamed.stdout).unwrap(), expected);
    assert!(
        String::from_utf8(streamed.stderr)
            .unwrap()
            .contains("prefill")
    );
}

/// A checkpoint whose chat template encloses messages in letters and whose turns end with `eos_token`.
fn with_chat(eos_token: &str) -> TempDir {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let template = "{{ bos_token }}{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('Say yes.') }}\
        {% endif %}{{ m.role[0] ~ m.content }}{% endfor %}{% if add_generation_prompt %}z{% endif %}";
    let config =
        json!({"bos_token": "<s>", "eos_token": eos_token, "chat_template": template}).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    dir
}

#[test]
fn a_chat_prompt_is_the_rendered_template_with_one_bos_token_and_stops_at_the_end_of_the_turn() {
    let dir = with_chat("</s>");
    let greedy = ["--temperature", "0", "--max-tokens", "6", "--json"];
    let said = ["--chat", "ab", "--system", "c", "--ignore-eos"];
    let chat = json_of(&[&generate(&dir, &said)[..], &greedy].concat());
    // <s> s c u a b z, with letters starting at id 3.
    let rendered = "1,21,5,23,3,4,28";
    let logits = json_of(&[
        "logits",
        text(dir.path()),
        "--tokens",
        rendered,
        "--decode",
        "6",
    ]);
    assert_eq!(chat["tokens"], logits["decode_tokens"]);
    assert_eq!(chat["prompt_tokens"], json!(7));

    // The same chat, with the first generated token as the end of the turn.
    let first = logits["decode_tokens"][0].as_u64().unwrap();
    let names = tokenizer_json(3)["model"]["vocab"].clone();
    let names = names.as_object().unwrap();
    let Some((name, _)) = names.iter().find(|(_, id)| id.as_u64() == Some(first)) else {
        panic!("token {first} has no text to use as eos_token");
    };
    let ending = with_chat(name);
    let said = ["--chat", "ab", "--system", "c"];
    let chat = json_of(&[&generate(&ending, &said)[..], &greedy].concat());
    assert_eq!(
        (&chat["tokens"], &chat["reason"]),
        (&json!([first]), &json!("eos"))
    );
}

#[test]
fn a_chat_without_a_template_or_refused_by_it_is_an_error() {
    let chat = ["--chat", "no"];
    let none = with_tokenizer(&tokenizer_json(3).to_string());
    refused(&generate(&none, &chat), "no_chat_template", None);
    let dir = with_chat("</s>");
    let config = Some("tokenizer_config.json");
    refused(&generate(&dir, &chat), "chat_refused", config);
    refused(&generate(&dir, &["--chat", ""]), "empty_prompt", None);
    fs::write(dir.path().join("chat_template.jinja"), "{% if %}").unwrap();
    refused(
        &generate(&dir, &chat),
        "bad_chat_template",
        Some("chat_template.jinja"),
    );
    fs::write(dir.path().join("tokenizer_config.json"), "[").unwrap();
    refused(&generate(&dir, &chat), "bad_chat_template", config);
    let nowhere = dir.path().join("nowhere");
    refused(
        &["generate", text(&nowhere), "--chat", "no"],
        "missing_file",
        Some(text(&nowhere)),
    );
}

#[test]
fn the_seed_determines_the_tokens() {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let tokens = |seed: &str| {
        let drawn = [
            "--prompt",
            "abc",
            "--max-tokens",
            "6",
            "--temperature",
            "2",
            "--top-k",
            "0",
            "--ignore-eos",
            "--seed",
            seed,
            "--json",
        ];
        json_of(&generate(&dir, &drawn))["tokens"].clone()
    };
    assert_eq!(tokens("7"), tokens("7"));
    assert_ne!(tokens("7"), tokens("8"));
}

#[test]
fn a_closed_stdout_ends_the_command_without_an_error() {
    let golden = golden("long_chunks");
    let tokens = list(&golden.ids("input_ids"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    command.args([
        "logits",
        text(&golden.dir),
        "--tokens",
        &tokens,
        "--decode",
        "40",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn a_text_follows_the_schema_or_the_grammar_of_a_file_and_what_cannot_be_followed_is_refused() {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let lark = file("word.lark", "start: /x[abc]{4}y/");
    let answer = json_of(&generate(
        &dir,
        &["--prompt", "a", "--grammar", &lark, "--json"],
    ));
    let word = answer["text"].as_str().unwrap();
    assert!(
        word.starts_with('x') && word.ends_with('y') && word.len() == 6,
        "{word}"
    );
    assert_eq!(answer["reason"], "eos");

    // The vocabulary has letters only.
    let schema = file("schema.json", r#"{"enum": [true, null]}"#);
    let follow = ["--prompt", "a", "--json-schema", &schema];
    let answer = json_of(&[&generate(&dir, &follow)[..], &["--json"]].concat());
    assert!(
        ["true", "null"].contains(&answer["text"].as_str().unwrap()),
        "{answer}"
    );

    let wrong = file("wrong.json", r#"{"type": "fish"}"#);
    let no_json = file("no.json", "{");
    for path in [&wrong, &no_json] {
        let follow = ["--prompt", "a", "--json-schema", path];
        refused(&generate(&dir, &follow), "bad_grammar", None);
    }
    let nowhere = text(&dir.path().join("nowhere")).to_owned();
    let follow = ["--prompt", "a", "--grammar", &nowhere];
    refused(&generate(&dir, &follow), "io", Some(&nowhere));
}
