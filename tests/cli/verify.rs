//! `zamba2 verify` as a subprocess; the comparison itself is tested in `tests/verify.rs`.

use serde_json::Value;

use super::{golden, json_of, list, refused, text, zamba2};
use crate::verify::with_flipped_weight;

#[test]
fn verify_says_that_devices_agree_and_with_zero_tolerance_which_module_does_not() {
    let golden = golden("one_block_adapters_rope");
    let dir = text(&golden.dir);
    let output = zamba2(&["verify", dir, "--all"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let first =
        "cpu-native against candle-cpu, f32 weights, 24 tokens and 4 decode steps, tolerance 0.001";
    assert_eq!(stdout.lines().next(), Some(first));
    assert!(
        stdout.contains("model.layers.3.shared_transformer.self_attn.attention "),
        "{stdout}"
    );
    assert!(
        stdout
            .lines()
            .last()
            .unwrap()
            .starts_with("no module differs"),
        "{stdout}"
    );

    let output = zamba2(&["verify", dir, "--tolerance", "0", "--decode", "0", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["agrees"], false);
    assert_eq!(json["steps"], 0);
    // Rows of the embedding are copied.
    assert_ne!(json["first"]["module"], "model.embed_tokens");
    assert!(json["first"]["relative"].as_f64().unwrap() < 1e-5);
}

#[test]
fn verify_names_the_module_in_which_two_checkpoints_differ() {
    let golden = golden("one_block_adapters_rope");
    let ids = golden.ids("input_ids");
    let flipped = with_flipped_weight(&golden, "model.layers.2.mamba.in_proj.weight", ids[0]);
    let (tested, reference, tokens) = (text(flipped.path()), text(&golden.dir), list(&ids));
    for against in ["candle", "cpu"] {
        let output = zamba2(&[
            "verify",
            tested,
            "--reference",
            reference,
            "--against",
            against,
            "--tokens",
            &tokens,
        ]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stdout}");
        let named = "the first module that differs is model.layers.2.mamba.in_proj: y at token ";
        assert!(
            stdout.lines().last().unwrap().starts_with(named),
            "{stdout}"
        );
        assert_eq!(stdout.matches("  differs\n").count(), 1, "{stdout}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn verify_refuses_checkpoints_of_different_shapes_and_tolerances_that_are_none() {
    let (small, other) = (golden("one_block_adapters_rope"), golden("gqa"));
    let dirs = [text(&small.dir), text(&other.dir)];
    refused(
        &["verify", dirs[0], "--reference", dirs[1]],
        "bad_option",
        None,
    );
    refused(
        &["verify", dirs[0], "--tolerance", "nan"],
        "bad_option",
        None,
    );
}

#[test]
fn candle_computes_for_other_commands_too_and_is_not_measured() {
    let golden = golden("one_block_adapters_rope");
    let dir = text(&golden.dir);
    let logits = |backend| {
        json_of(&[
            "logits",
            dir,
            "--tokens",
            "1,2",
            "--decode",
            "2",
            "--backend",
            backend,
        ])
    };
    assert_eq!(
        logits("candle")["decode_tokens"],
        logits("cpu")["decode_tokens"]
    );
    refused(
        &["bench-kernels", "--backend", "candle"],
        "bad_option",
        None,
    );
}
