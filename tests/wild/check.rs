//! `zamba2 check`: one list of what a checkpoint is and what about it may surprise.

use std::process::Command;

use super::*;

/// The output of `zamba2 check --json`, and whether the command succeeded.
fn check(dir: &Path, options: &[&str]) -> (Value, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    let output = command
        .arg("check")
        .arg(dir)
        .args(options)
        .arg("--json")
        .output()
        .unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (value.expect("one JSON value"), output.status.success())
}

fn warnings(output: &Value) -> Vec<&str> {
    let warnings = output["warnings"].as_array().unwrap().iter();
    warnings
        .map(|warning| warning["id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_checkpoint_is_described() {
    let (output, runs) = check(&wild("two_tokens_too_many"), &[]);
    assert!(runs && output["runs"] == true && output["error"].is_null());
    assert_eq!(output["model"]["hybrid_blocks"], 1);
    assert_eq!(output["weights"]["dtypes"]["BF16"], 38);
    assert_eq!(output["text"]["tokens"], 305);
    assert_eq!(output["text"]["end_tokens"], json!([2]));
    let session = opened(&wild("two_tokens_too_many"), WeightFormat::Q8);
    assert_eq!(
        output["weights"]["parameters"],
        session.schedule().parameters
    );
    assert!(warnings(&output).contains(&"check_tokens_beyond"));
}

#[test]
fn every_surprise_is_in_the_list() {
    for (name, id) in [
        ("names_with_module", "check_prefix"),
        ("second_call_has_its_own_block", "check_copies"),
        ("end_token_in_generation_config", "check_end_tokens"),
        ("names_without_model", "check_no_tokenizer"),
    ] {
        let (output, runs) = check(&wild(name), &[]);
        assert!(runs && warnings(&output).contains(&id), "{name}: {output}");
    }
    let mut net = Net::wild("convolutions_transposed").with("eos_token_id", -1);
    for (name, stored) in &mut net.tensors {
        if name.ends_with("conv1d.weight") {
            stored.shape.reverse();
            stored.shape.rotate_left(1);
        }
    }
    let stored = net.tensors["model.final_layernorm.weight"].clone();
    net.tensors.insert("ema.decay".into(), stored);
    let dir = net.write();
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    let (output, _) = check(dir.path(), &[]);
    let found = warnings(&output);
    for id in [
        "check_transposed",
        "check_unused",
        "check_adapter_beside",
        "check_no_end_token",
    ] {
        assert!(found.contains(&id), "{id}: {found:?}");
    }
}

#[test]
fn with_the_weights_it_says_which_copies_are_equal() {
    for (name, has_equal) in [
        ("all_copies_equal", true),
        ("head_differs_in_one_row", false),
    ] {
        let (output, runs) = check(&wild(name), &["--weights"]);
        assert!(runs);
        let list = output["warnings"].as_array().unwrap();
        let read = list
            .iter()
            .find(|warning| warning["id"] == "check_copies_read")
            .unwrap();
        assert_eq!(
            read["n_equal"].as_u64().unwrap() > 0,
            has_equal,
            "{name}: {read}"
        );
    }
}

#[test]
fn what_does_not_run_says_why_and_what_to_do() {
    for (name, code) in [
        ("quantised_awq", "already_quantised"),
        ("lfs_pointer_among_shards", "lfs_pointer"),
    ] {
        let (output, runs) = check(&wild(name), &[]);
        assert!(!runs && output["runs"] == false);
        assert_eq!(output["error"]["code"], code);
        assert!(!output["error"]["next_step"].as_str().unwrap().is_empty());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    let output = command
        .arg("check")
        .arg(wild("activation_relu"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && text.contains("hidden_act") && text.contains("next"),
        "{text}"
    );
}

#[test]
fn a_number_that_is_none_is_found_where_the_weights_are_read() {
    let mut net = Net::wild("block_under_second_layer");
    let name = "model.layers.1.linear.weight";
    let stored = net.tensors.get_mut(name).unwrap();
    stored.bytes[..2].copy_from_slice(&[0xc0, 0x7f]);
    let dir = net.write();
    assert!(check(dir.path(), &[]).1);
    let (output, runs) = check(dir.path(), &["--weights"]);
    assert!(!runs);
    assert_eq!(output["error"]["values"]["tensor"], name);
}
