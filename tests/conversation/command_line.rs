//! Conversations on the command line: `zamba2 chat`, `--prompt-cache` and the bench.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::embedded;

/// The embedded model with a chat template of turns that end with a line.
fn with_template() -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(embedded().join(file), dir.path().join(file)).unwrap();
    }
    let template = "{{ bos_token }}{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}## assistant\n{% endif %}";
    let config =
        serde_json::json!({ "bos_token": "<s>", "eos_token": "</s>", "chat_template": template });
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

/// `zamba2` with lines on its standard input: whether it succeeded, and the objects that it printed.
fn zamba2(arguments: &[&str], input: &str) -> (bool, Vec<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_zamba2"))
        .args(arguments)
        .args([
            "--json",
            "--threads",
            "1",
            "--max-tokens",
            "12",
            "--temperature",
            "0",
            "--ignore-eos",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.success(), objects.collect())
}

fn counts(answer: &Value) -> (u64, u64) {
    let count = |name: &str| answer[name].as_u64().unwrap();
    (count("prompt_tokens"), count("cached_tokens"))
}

#[test]
fn a_chat_on_the_command_line_reads_only_new_tokens_is_saved_reset_and_loaded() {
    let dir = with_template();
    let model = dir.path().to_str().unwrap();
    let state = dir.path().join("talk.state");
    let state = state.to_str().unwrap();
    let input = format!(
        "What is a trait?\n\nAnd a type?\n/save {state}\nGo on.\n/reset\n\
         What is a trait?\n/load {state}\nGo on.\n/quit\nNo.\n"
    );
    let (is_success, answers) = zamba2(&["chat", model], &input);
    assert!(is_success);
    let [first, second, third, again, loaded] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(counts(first).1, 0);
    for (answer, before) in [(second, first), (third, second), (loaded, second)] {
        let (n_prompt, n_cached) = counts(answer);
        assert!(
            n_cached >= counts(before).0 && n_cached < n_prompt,
            "{answer}"
        );
    }
    assert_eq!(
        (&again["text"], counts(again)),
        (&first["text"], counts(first))
    );
    assert_eq!(
        (&loaded["text"], counts(loaded).0),
        (&third["text"], counts(third).0)
    );

    // In another process.
    let (_, answers) = zamba2(&["chat", model, "--load", state], "Go on.\n");
    assert_eq!(answers[0]["text"], third["text"]);
    assert_eq!(counts(&answers[0]), counts(loaded));
}

/// The answer would have 1500 tokens; the next line is read.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer_and_the_conversation_goes_on() {
    let dir = with_template();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zamba2"))
        .arg("chat")
        .arg(dir.path())
        .args(["--threads", "1", "--max-tokens", "1500", "--ignore-eos"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "What is a trait?").unwrap();
    let mut first = [0; 8];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    writeln!(input, "/save {}", dir.path().join("state").display()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(dir.path().join("state").exists(), "{said}");
}

#[test]
fn the_first_error_of_a_piped_chat_ends_it() {
    let dir = with_template();
    let model = dir.path().to_str().unwrap();
    let (is_success, answers) = zamba2(&["chat", model], "/load nowhere\nHello\n");
    assert!(!is_success);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["error"]["code"], "io");
    // A state of something else replaces nothing.
    let cache = dir.path().join("cache");
    let cache = cache.to_str().unwrap();
    zamba2(
        &[
            "generate",
            model,
            "--prompt",
            "A trait",
            "--prompt-cache",
            cache,
        ],
        "",
    );
    let (is_success, answers) = zamba2(&["chat", model, "--load", cache], "Hello\n");
    assert!(!is_success);
    assert_eq!(answers[0]["error"]["code"], "bad_snapshot");
}

#[test]
fn a_prompt_cache_on_the_command_line_is_written_and_read() {
    let dir = with_template();
    let model = dir.path().to_str().unwrap();
    let cache = dir.path().join("cache");
    let cache = cache.to_str().unwrap();
    let generate = |prompt: &str| {
        let (is_success, output) = zamba2(
            &[
                "generate",
                model,
                "--prompt",
                prompt,
                "--prompt-cache",
                cache,
            ],
            "",
        );
        assert!(is_success, "{output:?}");
        output[0].clone()
    };
    let first = generate("The borrow checker");
    assert_eq!(counts(&first).1, 0);
    let longer = format!("The borrow checker{} and", first["text"].as_str().unwrap());
    let second = generate(&longer);
    assert!(counts(&second).1 >= counts(&first).0);
    let (_, whole) = zamba2(&["generate", model, "--prompt", &longer], "");
    assert_eq!(second["text"], whole[0]["text"]);
}

#[test]
fn the_bench_of_a_conversation_states_what_each_turn_reads() {
    let model = embedded();
    let output = Command::new(env!("CARGO_BIN_EXE_zamba2"))
        .args([
            "bench-conversation",
            model.to_str().unwrap(),
            "--json",
            "--threads",
            "1",
        ])
        .args([
            "--turns",
            "3",
            "--message",
            "5",
            "--answer",
            "4",
            "--runs",
            "1",
        ])
        .output()
        .unwrap();
    let output: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| -> Vec<u64> {
        let turns = output["turns"].as_array().unwrap().iter();
        turns.map(|turn| turn[name].as_u64().unwrap()).collect()
    };
    assert_eq!(of("prompt_tokens"), [5, 14, 23]);
    assert_eq!(of("read_tokens"), [5, 6, 6]);
    assert!(output["last_to_second"].as_f64().unwrap() > 0.0);
}
