//! Fields of config.json: Python's numbers, and fields that change the numbers (W07, W08, W36).

use super::*;

fn base() -> Net {
    Net::wild("block_under_second_layer")
}

/// Field and value that a refusal names.
fn unsupported(net: &Net) -> (String, String) {
    match refusal(net.write().path()) {
        Error::UnsupportedConfig { field, found, .. } => (field, found),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pythons_numbers_in_fields_that_nobody_reads_do_no_harm() {
    assert_reference(&wild("config_nan_and_infinity"), "config_nan_and_infinity");
}

#[test]
fn pythons_numbers_in_a_field_that_is_needed_are_refused_by_its_name() {
    let whole = Value::Object(base().config).to_string();
    for (field, is_required) in [
        ("rms_norm_eps", false),
        ("time_step_min", false),
        ("hidden_size", true),
        ("mamba_d_state", true),
        ("rope_parameters.rope_theta", false),
        ("eos_token_id", false),
    ] {
        for number in ["NaN", "Infinity", "-Infinity", "1e999"] {
            let mut config: Value = serde_json::from_str(&whole).unwrap();
            let path = format!("/{}", field.replace('.', "/"));
            *config
                .pointer_mut(&path)
                .unwrap_or_else(|| panic!("{field}")) = json!("HERE");
            let dir = base().write();
            let text = config.to_string().replace("\"HERE\"", number);
            fs::write(dir.path().join("config.json"), text).unwrap();
            let error = refusal(dir.path());
            let name = field.rsplit('.').next().unwrap();
            assert_eq!(error.code(), "bad_config", "{field} {number} {is_required}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn another_activation_is_refused_by_the_fields_name() {
    let net = Net::wild("activation_relu");
    assert_eq!(unsupported(&net), ("hidden_act".into(), "\"relu\"".into()));
    for name in ["silu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "NaN"] {
        assert_eq!(
            unsupported(&base().with("hidden_act", name)).0,
            "hidden_act"
        );
    }
    for value in [json!("gelu"), json!("gelu_python"), Value::Null] {
        assert_reference(
            base().with("hidden_act", value).write().path(),
            "block_under_second_layer",
        );
    }
}

#[test]
fn linear_rope_scaling_has_the_references_numbers_in_both_spellings() {
    let name = "rope_scaling_old_spelling";
    assert_reference(&wild(name), name);
    let mut newer = Net::wild(name);
    newer.config.remove("rope_scaling");
    let rope = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0});
    assert_reference(newer.with("rope_parameters", rope).write().path(), name);
}

#[test]
fn other_rotations_are_refused_by_the_fields_name() {
    for kind in ["dynamic", "yarn", "longrope", "llama3", "proportional"] {
        let net = base().with("rope_scaling", json!({"type": kind, "factor": 2.0}));
        assert_eq!(
            unsupported(&net),
            ("rope_scaling.type".into(), format!("{kind:?}"))
        );
        let net = base().with("rope_parameters", json!({"rope_type": kind, "factor": 2.0}));
        assert_eq!(unsupported(&net).0, "rope_parameters.rope_type");
    }
    let nested = json!({"hybrid": {"rope_type": "default", "rope_theta": 5.0}});
    assert_eq!(
        unsupported(&base().with("rope_parameters", nested)).0,
        "rope_parameters.hybrid"
    );
    let net = base().with("rope_scaling", json!({"type": "linear"}));
    assert!(
        refusal(net.write().path())
            .to_string()
            .contains("rope_scaling.factor")
    );
}

#[test]
fn a_rotation_of_a_part_of_each_head_is_refused_where_the_reference_would_look_at_it() {
    let net = Net::wild("rope_scaling_old_spelling").with("partial_rotary_factor", 0.5);
    assert_eq!(
        unsupported(&net),
        ("partial_rotary_factor".into(), "0.5".into())
    );
    let net = base().with("partial_rotary_factor", 0.5);
    assert_reference(net.write().path(), "block_under_second_layer");
}

#[test]
fn a_model_without_rope_does_not_mind_its_fields() {
    let net = base().with("use_mem_rope", false);
    let plain = net.write();
    let net = net.with("rope_scaling", json!({"type": "yarn", "factor": 2.0}));
    let format = WeightFormat::F32;
    assert_eq!(
        logits(net.write().path(), format),
        logits(plain.path(), format)
    );
}

#[test]
fn fields_that_the_reference_derives_or_never_reads_change_nothing() {
    for (field, value) in [
        ("attention_head_dim", json!(99)),
        ("attention_hidden_size", json!(99)),
        ("attention_dropout", json!(0.5)),
        ("chunk_size", json!(3)),
        ("hybrid_layer_ids", json!([0])),
        ("kv_channels", json!(99)),
        ("mamba_headdim", json!(99)),
        ("num_logits_to_keep", json!(99)),
        ("num_query_groups", json!(99)),
        ("time_step_floor", json!(0.5)),
        ("time_step_limit", json!([0.1, 0.2])),
        ("time_step_max", json!(0.01)),
        ("use_conv_bias", json!(false)),
        ("use_mem_eff_path", json!(true)),
        ("quantization_config", Value::Null),
        ("rope_scaling", Value::Null),
    ] {
        assert_reference(
            base().with(field, value).write().path(),
            "block_under_second_layer",
        );
    }
}

#[test]
fn the_layer_list_may_have_its_common_name() {
    let mut net = base();
    let list = net.config.remove("layers_block_type").unwrap();
    net.config.remove("hybrid_layer_ids");
    assert_reference(
        net.with("layer_types", list).write().path(),
        "block_under_second_layer",
    );
}

#[test]
fn a_negative_token_id_is_none() {
    for id in [json!(-1), json!([-1]), json!([])] {
        let net = base()
            .with("eos_token_id", id.clone())
            .with("bos_token_id", id);
        let session = open(net.write().path()).unwrap();
        assert!(session.config().eos_token_ids.is_empty());
        assert_eq!(session.config().bos_token_id, None);
    }
    let net = base().with("eos_token_id", json!([-1, 2, 7]));
    assert_eq!(
        open(net.write().path()).unwrap().config().eos_token_ids,
        [2, 7]
    );
}

#[test]
fn a_config_of_the_first_layout_is_named() {
    let mut net = base();
    let d_state = net.config.remove("mamba_d_state").unwrap();
    let net = net
        .with("state_size", d_state)
        .with("lora_rank", 2)
        .with("use_shared_block_lora", true);
    let error = refusal(net.write().path());
    assert_eq!(error.code(), "foreign_layout");
    assert!(error.to_string().contains("Zyphra"), "{error}");
}
