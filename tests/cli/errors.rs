//! Errors for invalid checkpoints, prompts and options.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    FIXTURES, WEIGHTS, copy, generate, refused, text, tokenizer_json, with_tokenizer, zamba2,
};

fn refused_checkpoint(dir: &TempDir, code: &str, file: &str) {
    refused(
        &["logits", text(dir.path()), "--tokens", "1,2"],
        code,
        Some(file),
    );
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
fn a_truncated_model_file_is_named_wherever_it_is_truncated() {
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
fn a_header_that_contradicts_the_file_is_refused() {
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
fn a_missing_tensor_and_an_unknown_dtype_are_refused() {
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
fn a_weight_that_is_nan_is_refused() {
    for name in [NORM, "model.embed_tokens.weight"] {
        let nan = damaged_weights(|bytes| {
            let (header, data_start) = header_of(bytes);
            let entry = &header[name];
            let start = data_start + entry["data_offsets"][0].as_u64().unwrap() as usize;
            // All bits set is a NaN in each of the three dtypes.
            bytes[start..start + 4].fill(0xFF);
        });
        refused_checkpoint(&nan, "non_finite_weight", WEIGHTS);
    }
}

#[test]
fn an_invalid_config_is_refused_before_any_weight_is_read() {
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "layers_block_type",
        "num_attention_heads",
    ] {
        let missing = damaged_config(|config| {
            config.as_object_mut().unwrap().remove(field);
            // The legacy form of the same field.
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
fn a_missing_or_broken_tokenizer_is_refused() {
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
fn an_empty_prompt_a_too_long_one_and_tokens_outside_the_vocabulary_are_refused() {
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
fn an_invalid_command_line_is_a_usage_error() {
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
fn a_file_that_cannot_be_created_is_a_write_error() {
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
