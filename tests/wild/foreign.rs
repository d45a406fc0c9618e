//! Files that are not what their names promise, and checkpoints for other programs: each is refused with what it is
//! (W11, W13, W14).

use super::*;

const INDEX: &str = "model.safetensors.index.json";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4853\n";
const PAGE: &str = "<!DOCTYPE html>\n<html><title>Sign in</title></html>";

fn good() -> Net {
    Net::wild("block_under_second_layer")
}

/// A folder with these files and nothing else.
fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// The good net with one file replaced.
fn with_file(name: &str, bytes: &[u8]) -> TempDir {
    let dir = good().write();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

#[test]
fn a_checkpoint_that_is_quantised_already_is_refused_with_the_method() {
    let error = refusal(&wild("quantised_awq"));
    assert_eq!(error.code(), "already_quantised");
    assert!(error.to_string().contains("awq"), "{error}");
    for (field, value, method) in [
        (
            "quantization_config",
            json!({"quant_method": "gptq", "bits": 4}),
            "gptq",
        ),
        (
            "quantization_config",
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
            "bitsandbytes",
        ),
        (
            "quantization_config",
            json!({"load_in_8bit": true}),
            "bitsandbytes",
        ),
        ("quantization_config", json!({"quant_method": "fp8"}), "fp8"),
        ("quantization", json!({"group_size": 64, "bits": 4}), "mlx"),
    ] {
        let error = refusal(good().with(field, value).write().path());
        assert_eq!(error.code(), "already_quantised", "{method}");
        assert!(error.to_string().contains(method), "{error}");
    }
}

#[test]
fn quantised_tensors_are_recognised_without_a_word_in_the_configuration() {
    let mut net = Net::wild("quantised_awq");
    net.config.remove("quantization_config");
    assert_eq!(
        refused(net.write().path()),
        ("already_quantised", WEIGHTS.into())
    );
    let name = "model.layers.0.mamba.in_proj.weight";
    for (dtype, companions, method) in [
        (
            "U8",
            &["absmax", "quant_map", "quant_state.bitsandbytes__nf4"][..],
            "bitsandbytes",
        ),
        ("U32", &[], "MLX"),
    ] {
        let mut net = good();
        let stored = net.tensors.get_mut(name).unwrap();
        stored.dtype = dtype.into();
        stored.shape = vec![stored.bytes.len() / if dtype == "U8" { 1 } else { 4 }, 1];
        let small = Stored {
            dtype: "F32".into(),
            shape: vec![1],
            bytes: vec![0; 4],
        };
        for companion in companions {
            net.tensors
                .insert(format!("{name}.{companion}"), small.clone());
        }
        if companions.is_empty() {
            for end in ["scales", "biases"] {
                net.tensors
                    .insert(name.replace("weight", end), small.clone());
            }
        }
        let error = refusal(net.write().path());
        assert_eq!(error.code(), "already_quantised", "{method}");
        assert!(error.to_string().contains(method), "{error}");
    }
}

#[test]
fn weights_in_pytorchs_format_are_refused_with_how_to_convert_them() {
    let error = refusal(&wild("torch_shards_only"));
    assert_eq!(
        (
            error.code(),
            error.file().unwrap().starts_with("pytorch_model")
        ),
        ("torch_only", true)
    );
    assert!(error.next_step().contains("save_pretrained"));
    let config = fs::read_to_string(wild("torch_shards_only").join("config.json")).unwrap();
    for name in ["pytorch_model.bin", "model.pt", "consolidated.00.pth"] {
        let dir = folder_of(&[("config.json", &config), (name, "PK")]);
        assert_eq!(refused(dir.path()), ("torch_only", name.into()));
    }
    // Renamed is not converted.
    for start in [
        &b"PK\x03\x04aaaaaaaaaaaa"[..],
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20",
    ] {
        assert_eq!(
            refused(with_file(WEIGHTS, start).path()),
            ("torch_only", WEIGHTS.into())
        );
    }
}

#[test]
fn a_git_lfs_pointer_is_named_wherever_it_is() {
    let error = refusal(&wild("lfs_pointer_among_shards"));
    assert_eq!(
        error,
        Error::LfsPointer {
            file: "model-00002-of-00002.safetensors".into()
        }
    );
    assert!(error.next_step().contains("git lfs pull"));
    for name in [
        WEIGHTS,
        "config.json",
        "tokenizer.json",
        "generation_config.json",
    ] {
        for pointer in [
            LFS.to_owned(),
            LFS.replace("size 4853", "size 14853000000000"),
        ] {
            assert_eq!(
                refused(with_file(name, pointer.as_bytes()).path()),
                ("lfs_pointer", name.into())
            );
        }
    }
    let dir = with_file(INDEX, LFS.as_bytes());
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    assert_eq!(refused(dir.path()), ("lfs_pointer", INDEX.into()));
}

#[test]
fn a_web_page_in_the_place_of_a_file_is_named() {
    for name in [WEIGHTS, "config.json", "tokenizer.json"] {
        for page in [
            PAGE,
            "\n  <html lang=en>404</html>",
            "<?xml version=\"1.0\"?><Error/>",
        ] {
            assert_eq!(
                refused(with_file(name, page.as_bytes()).path()),
                ("web_page", name.into())
            );
        }
    }
    let dir = with_file(INDEX, PAGE.as_bytes());
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    assert_eq!(refused(dir.path()), ("web_page", INDEX.into()));
}

#[test]
fn gguf_is_named_as_a_file_and_under_another_name() {
    let dir = folder_of(&[("README.md", ""), ("zamba2-q4_k_m.gguf", "GGUF")]);
    assert_eq!(refused(dir.path()), ("gguf", "zamba2-q4_k_m.gguf".into()));
    assert_eq!(
        refused(with_file(WEIGHTS, b"GGUF\x03\0\0\0\0\0\0\0").path()),
        ("gguf", WEIGHTS.into())
    );
}

#[test]
fn an_adapter_without_its_model_is_refused_with_how_to_merge_it() {
    let adapter = "adapter_config.json";
    let config = r#"{"peft_type": "LORA", "base_model_name_or_path": "Zyphra/Zamba2-1.2B"}"#;
    let dir = folder_of(&[
        (adapter, config),
        ("adapter_model.safetensors", ""),
        ("tokenizer.json", "{}"),
    ]);
    let error = refusal(dir.path());
    assert_eq!(
        error,
        Error::UnmergedAdapter {
            file: adapter.into()
        }
    );
    assert!(error.next_step().contains("merge_and_unload"));
    // With the base model's configuration beside it, and as the only file of weights.
    let whole = Value::Object(good().config).to_string();
    let dir = folder_of(&[(adapter, config), ("config.json", &whole)]);
    assert_eq!(refused(dir.path()).0, "unmerged_adapter");
    let mut net = good();
    let small = Stored {
        dtype: "F32".into(),
        shape: vec![1],
        bytes: vec![0; 4],
    };
    net.tensors = ["lora_A", "lora_B"]
        .map(|half| {
            (
                format!("base_model.model.model.layers.0.mamba.in_proj.{half}.weight"),
                small.clone(),
            )
        })
        .into();
    assert_eq!(
        refused(net.write().path()),
        ("unmerged_adapter", WEIGHTS.into())
    );
    // Trained and saved without merging: the adapted weights are there under names of their own.
    let unmerged = good().renamed(|name| match name {
        "model.layers.0.mamba.in_proj.weight" => name.replace("weight", "base_layer.weight"),
        "model.layers.0.mamba.D" => "model.layers.0.mamba.in_proj.lora_A.default.weight".into(),
        _ => name.into(),
    });
    assert_eq!(
        refused(unmerged.write().path()),
        ("unmerged_adapter", WEIGHTS.into())
    );
    // Beside a whole model it is only not applied.
    let dir = with_file(adapter, config.as_bytes());
    assert!(open(dir.path()).is_ok());
}

#[test]
fn layouts_of_other_programs_are_named() {
    let spell = |from: &'static str, to: &'static str| move |name: &str| name.replace(from, to);
    for (net, says) in [
        (
            good().renamed(spell("gate_up_proj", "linear_fc1")),
            "Zyphra",
        ),
        (
            good().renamed(spell(
                "layers.3.shared_transformer",
                "shared_transformers.0",
            )),
            "MLX",
        ),
        (
            good().renamed(spell(".mamba.", "._fsdp_wrapped_module.mamba.")),
            "FSDP",
        ),
    ] {
        let error = refusal(net.write().path());
        assert_eq!(error.code(), "foreign_layout", "{says}: {error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_pointer_in_a_packed_folder_is_named() {
    let out = TempDir::new().unwrap();
    let format = WeightFormat::F32;
    folder::pack(
        Cpu::new(1),
        good().write().path(),
        out.path(),
        settings(format),
        |_, _| {},
    )
    .unwrap();
    fs::write(out.path().join("weights-1.bin"), LFS).unwrap();
    assert_eq!(refused(out.path()), ("lfs_pointer", "weights-1.bin".into()));
}

#[test]
fn an_empty_folder_is_still_only_missing_its_files() {
    assert_eq!(
        refused(TempDir::new().unwrap().path()),
        ("missing_file", "config.json".into())
    );
    let dir = good().write();
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    fs::write(dir.path().join("training_args.bin"), "PK").unwrap();
    assert_eq!(refused(dir.path()), ("missing_file", WEIGHTS.into()));
}
