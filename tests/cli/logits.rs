//! Commands whose output is numbers: logits compared with the reference's, generated checkpoints, and `bench`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FIXTURES, TOLERANCE, WEIGHTS, golden, json_of, list, numbers, refused, text, zamba2};
use crate::support::{goldens, max_difference};

#[test]
fn logits_and_greedy_tokens_equal_the_reference() {
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
fn the_dt_clamp_is_an_option() {
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
fn a_generated_checkpoint_runs_in_every_weight_format_and_its_logits_vary() {
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
fn equal_seeds_make_equal_checkpoints_and_different_seeds_different_ones() {
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
fn a_folder_that_is_not_empty_is_not_written_to_without_force() {
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
