//! The native binary from outside: its numbers against the reference's, and what it says about checkpoints, prompts
//! and options that are wrong.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use zamba2::report::run::Run;

use crate::support::{Golden, goldens, max_difference};

/// As in `tests/model.rs`: f32 sums in another order than the reference's.
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

/// All numbers under `value`, however deep; a null, which no f32 prints as, becomes a NaN.
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

// ---- the numbers ----

#[test]
fn logits_equal_the_reference_and_so_do_the_greedy_ids() {
    for golden in goldens() {
        let tokens = list(&golden.ids("input_ids"));
        let dir = text(&golden.dir);
        let output = json_of(&[
            "logits",
            dir,
            "--tokens",
            &tokens,
            "--decode",
            "24",
            "--threads",
            "1",
        ]);
        for (ours, theirs) in [
            ("prefill_logits", "prefill_logits"),
            ("decode_logits", "greedy_logits"),
        ] {
            let difference = max_difference(&numbers(&output[ours]), &golden.numbers(theirs));
            assert!(
                difference <= TOLERANCE,
                "{} {ours}: {difference}",
                golden.name()
            );
        }
        assert_eq!(
            output["decode_tokens"],
            json!(golden.ids("greedy_ids")),
            "{}",
            golden.name()
        );
        let last = output["prefill_logits"]
            .as_array()
            .and_then(|rows| rows.last());
        assert_eq!(output["decode_logits"].get(0), last, "{}", golden.name());
    }
}

#[test]
fn the_bound_of_dt_is_an_option() {
    let golden = golden("dt_clamp");
    assert!(golden.has("greedy_ids_unclamped"));
    let tokens = list(&golden.ids("input_ids"));
    let mut arguments = vec![
        "logits",
        text(&golden.dir),
        "--tokens",
        &tokens,
        "--decode",
        "24",
    ];
    arguments.extend(["--dt-min-prefill", "0", "--dt-min-step", "0"]);
    assert_eq!(
        json_of(&arguments)["decode_tokens"],
        json!(golden.ids("greedy_ids_unclamped"))
    );
}

#[test]
fn hidden_states_are_printed_on_request() {
    let golden = golden("untied");
    let tokens = list(&golden.ids("input_ids"));
    let output = json_of(&[
        "logits",
        text(&golden.dir),
        "--tokens",
        &tokens,
        "--hidden-states",
    ]);
    let expected = golden.numbers("hidden_states");
    assert!(max_difference(&numbers(&output["hidden_states"]), &expected) <= TOLERANCE);
    assert_eq!(output["decode_tokens"], json!([]));
}

// ---- checkpoints of random weights ----

fn make_checkpoint(shape: &str, out: &Path, seed: &str) -> Value {
    json_of(&[
        "make-checkpoint",
        "--shape",
        shape,
        text(out),
        "--seed",
        seed,
        "--json",
    ])
}

#[test]
fn a_made_checkpoint_runs_in_every_weight_format_and_its_logits_are_alive() {
    for fixture in ["one_block_adapters_rope", "untied", "biases"] {
        let temporary = TempDir::new().unwrap();
        let out = temporary.path().join("made");
        let made = make_checkpoint(&format!("{FIXTURES}/{fixture}/config.json"), &out, "3");
        assert_eq!(made["files"], json!([WEIGHTS, "config.json"]));
        for weights in ["f32", "q8", "q4"] {
            let output = json_of(&[
                "logits",
                text(&out),
                "--tokens",
                "1,2,3,4,5",
                "--decode",
                "4",
                "--weights",
                weights,
            ]);
            let logits = numbers(&output["decode_logits"]);
            assert!(
                logits.iter().all(|logit| logit.is_finite()),
                "{fixture} {weights}"
            );
            let variance =
                logits.iter().map(|logit| logit * logit).sum::<f32>() / logits.len() as f32;
            assert!(
                (0.1..10.0).contains(&variance),
                "{fixture} {weights}: {variance}"
            );
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    let temporary = TempDir::new().unwrap();
    let bytes = |name: &str, seed: &str| {
        let out = temporary.path().join(name);
        make_checkpoint(&format!("{FIXTURES}/gqa/config.json"), &out, seed);
        fs::read(out.join(WEIGHTS)).unwrap()
    };
    let first = bytes("a", "1");
    assert!(first == bytes("b", "1"));
    assert!(first != bytes("c", "2"));
}

#[test]
fn a_folder_with_something_in_it_is_left_alone_unless_forced() {
    let temporary = TempDir::new().unwrap();
    let (out, note) = (text(temporary.path()), temporary.path().join("note.txt"));
    fs::write(&note, "mine").unwrap();
    let shape = format!("{FIXTURES}/gqa/config.json");
    refused(
        &["make-checkpoint", "--shape", &shape, out],
        "folder_not_empty",
        Some(out),
    );
    assert!(!temporary.path().join(WEIGHTS).exists());
    json_of(&[
        "make-checkpoint",
        "--shape",
        &shape,
        out,
        "--force",
        "--json",
    ]);
    assert_eq!(fs::read_to_string(note).unwrap(), "mine");
    assert!(temporary.path().join(WEIGHTS).exists());
}

#[test]
fn bench_prints_every_figure() {
    let dir = format!("{FIXTURES}/gqa");
    let arguments = [
        "bench",
        &dir,
        "--prompt",
        "5",
        "--decode",
        "2",
        "--runs",
        "2",
        "--threads",
        "1",
    ];
    let output = json_of(&[&arguments[..], &["--json"]].concat());
    for figure in [
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "decode_weight_gb_per_s",
        "load_ms",
    ] {
        assert!(
            output[figure].as_f64().is_some_and(|value| value > 0.0),
            "{figure}: {output}"
        );
    }
    assert!(output["decode_ms"]["min"].as_f64() <= output["decode_ms"]["max"].as_f64());
    let table = zamba2(&arguments).stdout;
    assert!(String::from_utf8(table).unwrap().contains("tokens/s"));
}

// ---- text ----

/// A tokenizer of single characters for the fixtures' vocabularies: `<s>` in front, letters from id 3.
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

#[test]
fn generated_tokens_are_the_greedy_ones_of_logits_and_streamed_text_is_that_of_json() {
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

/// A checkpoint whose template puts the words between two letters, and which ends its turns with `eos_token`.
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
fn a_chat_is_its_rendered_text_with_no_second_start_token_and_ends_with_the_turn() {
    let dir = with_chat("</s>");
    let greedy = ["--temperature", "0", "--max-tokens", "6", "--json"];
    let said = ["--chat", "ab", "--system", "c", "--ignore-eos"];
    let chat = json_of(&[&generate(&dir, &said)[..], &greedy].concat());
    // <s> s c u a b z, with letters from id 3.
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

    // The same chat, where the first token that comes ends a turn.
    let first = logits["decode_tokens"][0].as_u64().unwrap();
    let names = tokenizer_json(3)["model"]["vocab"].clone();
    let names = names.as_object().unwrap();
    let Some((name, _)) = names.iter().find(|(_, id)| id.as_u64() == Some(first)) else {
        panic!("token {first} of this net has no name to end with");
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
fn a_chat_without_a_template_or_against_it_is_refused() {
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
fn the_seed_decides_the_text() {
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
fn a_reader_who_leaves_early_ends_the_command_quietly() {
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

// ---- what is wrong is said, once and clearly ----

/// The command must fail with exit code 1 and one error, in the form for people and in the form for programs.
fn refused(arguments: &[&str], code: &str, file: Option<&str>) {
    let people = zamba2(arguments);
    let stderr = String::from_utf8(people.stderr).unwrap();
    assert_eq!(people.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert!(people.stdout.is_empty(), "{arguments:?}");
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

    let programs = zamba2(&[arguments, &["--json"]].concat());
    assert_eq!(programs.status.code(), Some(1), "{arguments:?}");
    let report: Value = serde_json::from_slice(&programs.stdout).unwrap();
    let error = &report["error"];
    assert_eq!(error["values"]["file"].as_str(), file, "{arguments:?}");
    let expected = json!({"error": {"code": code, "values": error["values"], "message": message, "next_step": next}});
    assert_eq!(report, expected, "{arguments:?}");
    assert!(programs.stderr.is_empty(), "{arguments:?}");
}

fn refused_checkpoint(dir: &TempDir, code: &str, file: &str) {
    refused(
        &["logits", text(dir.path()), "--tokens", "1,2"],
        code,
        Some(file),
    );
}

/// A copy of a fixture to be damaged.
fn copy(fixture: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(PathBuf::from(FIXTURES).join(fixture)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn damaged_config(damage: impl FnOnce(&mut Value)) -> TempDir {
    let dir = copy("one_block_adapters_rope");
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    damage(&mut config);
    fs::write(path, config.to_string()).unwrap();
    dir
}

fn damaged_weights(damage: impl FnOnce(&mut Vec<u8>)) -> TempDir {
    let dir = copy("one_block_adapters_rope");
    let path = dir.path().join(WEIGHTS);
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(path, bytes).unwrap();
    dir
}

fn header_of(bytes: &[u8]) -> (Value, usize) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (
        serde_json::from_slice(&bytes[8..8 + length]).unwrap(),
        8 + length,
    )
}

fn damaged_header(damage: impl FnOnce(&mut Value)) -> TempDir {
    damaged_weights(|bytes| {
        let (mut header, data_start) = header_of(bytes);
        damage(&mut header);
        let text = header.to_string();
        let mut whole = (text.len() as u64).to_le_bytes().to_vec();
        whole.extend(text.into_bytes());
        whole.extend(&bytes[data_start..]);
        *bytes = whole;
    })
}

const NORM: &str = "model.final_layernorm.weight";

#[test]
fn a_missing_folder_or_file_is_named() {
    let dir = copy("one_block_adapters_rope");
    let nowhere = dir.path().join("nowhere");
    let nowhere = text(&nowhere);
    refused(
        &["logits", nowhere, "--tokens", "1"],
        "missing_file",
        Some(nowhere),
    );
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    refused_checkpoint(&dir, "missing_file", WEIGHTS);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    refused_checkpoint(&dir, "missing_file", "config.json");

    let dir = copy("sharded_bf16");
    let shard = "model-00002-of-00003.safetensors";
    fs::remove_file(dir.path().join(shard)).unwrap();
    refused_checkpoint(&dir, "missing_file", shard);
}

#[test]
fn a_model_file_that_was_cut_is_named_wherever_the_cut_is() {
    for kept in [0, 5] {
        refused_checkpoint(
            &damaged_weights(|bytes| bytes.truncate(kept)),
            "truncated",
            WEIGHTS,
        );
    }
    refused_checkpoint(
        &damaged_weights(|bytes| bytes.truncate(100)),
        "bad_header",
        WEIGHTS,
    );
    let cut_by_one = damaged_weights(|bytes| bytes.truncate(bytes.len() - 1));
    refused_checkpoint(&cut_by_one, "truncated", WEIGHTS);
}

#[test]
fn a_header_that_lies_is_found_out() {
    let longer_than_the_file =
        damaged_weights(|bytes| bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes()));
    refused_checkpoint(&longer_than_the_file, "bad_header", WEIGHTS);
    refused_checkpoint(
        &damaged_weights(|bytes| bytes[8] = b'['),
        "bad_header",
        WEIGHTS,
    );
    let wrong_offsets = damaged_header(|header| header[NORM]["data_offsets"] = json!([0, 7]));
    refused_checkpoint(&wrong_offsets, "bad_header", WEIGHTS);
    let backwards = damaged_header(|header| header[NORM]["data_offsets"] = json!([64, 0]));
    refused_checkpoint(&backwards, "bad_header", WEIGHTS);
    let beyond = damaged_header(|header| {
        header["extra"] =
            json!({"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1u64 << 32]});
    });
    refused_checkpoint(&beyond, "truncated", WEIGHTS);
    let overflowing = damaged_header(|header| header[NORM]["shape"] = json!([u64::MAX, u64::MAX]));
    refused_checkpoint(&overflowing, "bad_header", WEIGHTS);
    let other_shape = damaged_header(|header| {
        let shape = header[NORM]["shape"][0].clone();
        header[NORM]["shape"] = json!([1, shape]);
    });
    refused_checkpoint(&other_shape, "bad_shape", WEIGHTS);
}

#[test]
fn a_tensor_that_is_missing_or_of_an_unknown_dtype_is_named() {
    let missing = damaged_header(|header| {
        header.as_object_mut().unwrap().remove(NORM);
    });
    refused_checkpoint(&missing, "missing_tensor", WEIGHTS);
    for dtype in ["I64", "F8_E4M3"] {
        let unknown = damaged_header(|header| header[NORM]["dtype"] = json!(dtype));
        refused_checkpoint(&unknown, "unknown_dtype", WEIGHTS);
    }
}

#[test]
fn a_weight_that_is_no_number_is_found() {
    for name in [NORM, "model.embed_tokens.weight"] {
        let nan = damaged_weights(|bytes| {
            let (header, data_start) = header_of(bytes);
            let entry = &header[name];
            let start = data_start + entry["data_offsets"][0].as_u64().unwrap() as usize;
            // All bits set are a NaN in each of the three dtypes.
            bytes[start..start + 4].fill(0xFF);
        });
        refused_checkpoint(&nan, "non_finite_weight", WEIGHTS);
    }
}

#[test]
fn a_configuration_that_is_wrong_is_refused_before_any_weight_is_read() {
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "layers_block_type",
        "num_attention_heads",
    ] {
        let missing = damaged_config(|config| {
            config.as_object_mut().unwrap().remove(field);
            // The other spelling of the same fact.
            config.as_object_mut().unwrap().remove("hybrid_layer_ids");
        });
        refused_checkpoint(&missing, "bad_config", "config.json");
    }
    for (field, absurd) in [
        ("hidden_size", json!(1_000_000_000_000u64)),
        ("hidden_size", json!(-4)),
        ("num_hidden_layers", json!(0)),
        ("mamba_d_state", json!("eight")),
        ("n_mamba_heads", json!(7)),
        ("rms_norm_eps", json!(1e9)),
        (
            "layers_block_type",
            json!(["hybrid", "transformer", "mamba", "mamba"]),
        ),
    ] {
        let dir = damaged_config(|config| config[field] = absurd);
        refused_checkpoint(&dir, "bad_config", "config.json");
    }
    let other = damaged_config(|config| config["model_type"] = json!("llama"));
    refused_checkpoint(&other, "wrong_architecture", "config.json");
    let larger = damaged_config(|config| config["vocab_size"] = json!(4_000_000));
    refused_checkpoint(&larger, "bad_shape", WEIGHTS);
    let dir = copy("one_block_adapters_rope");
    fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    refused_checkpoint(&dir, "bad_config", "config.json");
}

#[test]
fn a_tokenizer_that_is_absent_or_broken_is_refused() {
    let refused = |dir: &TempDir, code: &str| {
        refused(
            &generate(dir, &["--prompt", "abc"]),
            code,
            Some("tokenizer.json"),
        );
    };
    refused(&copy("one_block_adapters_rope"), "missing_file");
    let whole = tokenizer_json(3).to_string();
    for broken in ["", "{}", "[1, 2]", &whole[..whole.len() / 2]] {
        refused(&with_tokenizer(broken), "bad_tokenizer");
    }
}

#[test]
fn a_prompt_that_is_empty_too_long_or_outside_the_vocabulary_is_refused() {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let folder = text(dir.path());
    refused(&generate(&dir, &["--prompt", ""]), "empty_prompt", None);
    refused(&["logits", folder, "--tokens", ""], "empty_prompt", None);
    refused(
        &generate(&dir, &["--prompt", "abcd", "--context", "4"]),
        "prompt_too_long",
        None,
    );
    refused(
        &["logits", folder, "--tokens", "1,2,3", "--context", "2"],
        "prompt_too_long",
        None,
    );
    let too_far = [
        "logits",
        folder,
        "--tokens",
        "1,2,3",
        "--context",
        "4",
        "--decode",
        "3",
    ];
    refused(&too_far, "prompt_too_long", None);
    refused(
        &["bench", folder, "--threads", "1", "--context", "40"],
        "prompt_too_long",
        None,
    );
    refused(&["logits", folder, "--tokens", "1,96"], "bad_token", None);
}

#[test]
fn an_option_out_of_range_is_refused() {
    let dir = with_tokenizer(&tokenizer_json(3).to_string());
    let folder = text(dir.path());
    for (option, value) in [
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top-p", "0"),
        ("--min-p", "1.5"),
        ("--repetition-penalty", "-2"),
        ("--max-tokens", "0"),
        ("--stop", ""),
        ("--context", "0"),
        ("--context", "5000"),
    ] {
        refused(
            &generate(&dir, &["--prompt", "abc", option, value]),
            "bad_option",
            None,
        );
    }
    let bound = ["logits", folder, "--tokens", "1", "--dt-min-step", "-0.5"];
    refused(&bound, "bad_option", None);
    let out = dir.path().join("out");
    refused(
        &["make-checkpoint", "--shape", "zamba2-9b", text(&out)],
        "bad_option",
        None,
    );
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for arguments in [
        &["logits"][..],
        &["sing"],
        &["logits", ".", "--tokens", "one"],
        &["logits", ".", "--tokens", "1", "--weights", "q5"],
        &["bench", ".", "--runs", "0"],
        &["generate", "."],
        &["generate", ".", "--prompt", "a", "--chat", "b"],
        &["generate", ".", "--prompt", "a", "--system", "b"],
    ] {
        let output = zamba2(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
}

#[test]
fn a_file_that_can_not_be_made_is_a_write_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::File::create(&file)
        .unwrap()
        .write_all(b"no folder")
        .unwrap();
    let shape = format!("{FIXTURES}/gqa/config.json");
    refused(
        &["make-checkpoint", "--shape", &shape, text(&file)],
        "write",
        Some(text(&file)),
    );
}

// ---- profile ----

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
fn profile_reports_in_the_language_that_is_asked_for() {
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
fn profile_says_what_does_not_fit_and_what_can_not_be_written() {
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
    let output = zamba2(&[
        "profile",
        dir,
        "--json",
        "--threads",
        "1",
        "--decode",
        "2",
        "--runs",
        "2",
        "--no-ceilings",
        "--out",
        "/nowhere/at/all",
    ]);
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "write");
}

/// Every command that runs a model takes a graphics adapter; without one it says so.
#[test]
fn a_graphics_adapter_computes_what_the_processor_does() {
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
    // Twice the processor's: WGSL's exponentials are less exact.
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
    assert!(
        run["timer"]["source"].as_str().unwrap().contains("adapter"),
        "{}",
        run["timer"]
    );
}

/// The loader of Vulkan takes the list of drivers from the environment.
#[cfg(target_os = "linux")]
#[test]
fn without_a_graphics_adapter_the_error_says_what_to_do() {
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
