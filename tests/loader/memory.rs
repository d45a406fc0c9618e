//! Memory: planned before loading, refused with figures where it is too much, and used once per shared weight.

use std::collections::BTreeMap;

use serde_json::json;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::WebGpu;
use zamba2::family;
use zamba2::loader::safetensors::{Dtype, Shard, TensorEntry};
use zamba2::loader::schedule::LoadSchedule;
use zamba2::model::config::Config;
use zamba2::session::{LoadSettings, Session};

use super::{Checkpoint, all_fixtures, settings};

#[test]
fn too_little_memory_is_reported_before_any_byte_is_read() {
    let checkpoint = Checkpoint::read("gqa");
    let loaded = checkpoint.load(WeightFormat::Q8, usize::MAX);
    let needed = loaded.weights_bytes() + loaded.cache_bytes();
    for (limit, fits) in [(needed, true), (needed - 1, false)] {
        let settings = LoadSettings {
            memory_limit_bytes: Some(limit),
            ..settings(WeightFormat::Q8)
        };
        let (config, shards) = (checkpoint.config(), checkpoint.shards());
        let loader = Session::open(Cpu::new(1), config, &shards, None, settings);
        let expected = Error::Memory {
            needed_bytes: needed,
            limit_bytes: limit,
        };
        assert_eq!(loader.err(), (!fits).then_some(expected));
    }
}

#[test]
fn a_limit_of_host_memory_does_not_apply_to_a_device_with_memory_of_its_own() {
    let settings = LoadSettings {
        memory_limit_bytes: Some(100),
        ..settings(WeightFormat::Q8)
    };
    assert_eq!(settings.exceeded_limit::<Cpu>(101), Some(100));
    assert_eq!(settings.exceeded_limit::<Cpu>(100), None);
    assert_eq!(settings.exceeded_limit::<WebGpu>(101), None);
}

/// Zyphra/Zamba2-7B: its config.json, and a header with all its tensors.
fn seven_billion() -> (Config, Shard) {
    let hybrid = [6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77];
    let kind = |index| {
        if hybrid.contains(&index) {
            "hybrid"
        } else {
            "mamba"
        }
    };
    let config = json!({
        "model_type": "zamba2", "vocab_size": 32000, "hidden_size": 3584, "num_hidden_layers": 81,
        "layers_block_type": (0..81).map(kind).collect::<Vec<_>>(), "mamba_d_state": 64, "mamba_d_conv": 4,
        "mamba_expand": 2, "mamba_ngroups": 2, "n_mamba_heads": 112, "mamba_headdim": 64, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 32, "num_mem_blocks": 2, "adapter_rank": 128,
        "use_shared_attention_adapter": false, "use_mem_rope": true, "rope_theta": 10000.0,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let config = Config::from_json(&config.to_string()).unwrap();
    let plan = family::plan(&config, |_| false);
    let mut shard = Shard {
        file: "model.safetensors".into(),
        tensors: BTreeMap::new(),
    };
    let mut start = 0;
    for spec in plan.all_tensors() {
        let end = start + 2 * spec.shape.iter().product::<usize>() as u64;
        let entry = TensorEntry {
            dtype: Dtype::Bf16,
            shape: spec.shape.clone(),
            start,
            end,
        };
        assert!(shard.tensors.insert(spec.name.clone(), entry).is_none());
        start = end;
    }
    (config, shard)
}

#[test]
fn the_largest_model_is_planned_at_q4_and_refused_with_figures_where_it_exceeds_a_tabs_memory() {
    let (config, shard) = seven_billion();
    let numbers = |entry: &TensorEntry| entry.shape.iter().product::<usize>() as u64;
    let parameters: u64 = shard.tensors.values().map(numbers).sum();
    assert_eq!((parameters, shard.tensors.len()), (7_356_749_648, 786));

    // 32 numbers take 18 bytes, and 34 in the tied embedding; row scales and f32 vectors add less than one percent.
    let schedule =
        LoadSchedule::new(&config, std::slice::from_ref(&shard), WeightFormat::Q4).unwrap();
    let least = (parameters * 18 + 32_000 * 3584 * 16) / 32;
    assert!(
        (least..least + least / 100).contains(&schedule.weights_bytes),
        "{}",
        schedule.weights_bytes
    );
    // 32-bit WebAssembly addresses 4 GiB.
    let settings = LoadSettings {
        memory_limit_bytes: Some(4 << 30),
        ..settings(WeightFormat::Q4)
    };
    let refusal = Session::open(Cpu::new(1), config, &[shard], None, settings).err();
    let Some(Error::Memory {
        needed_bytes,
        limit_bytes,
    }) = refusal
    else {
        panic!("{refusal:?}");
    };
    assert!(needed_bytes > schedule.weights_bytes && limit_bytes == 4 << 30);
    let message = refusal.unwrap().to_string();
    assert!(
        message.contains("4.40 GB") && message.contains("4.29 GB"),
        "{message}"
    );
}

/// Counted from the file, which holds each shared weight once: two-dimensional tensors are quantised, all others are
/// f32.
#[test]
fn a_weight_shared_by_several_blocks_is_held_once() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for (format, block_bytes) in [
            (WeightFormat::F32, 128),
            (WeightFormat::Q8, 34),
            (WeightFormat::Q4, 18),
        ] {
            let (mut bytes, mut numbers) = (0, 0);
            for (name, entry) in checkpoint.shards().iter().flat_map(|shard| &shard.tensors) {
                // The tied embedding has eight bits at q4.
                let is_output = name == "model.embed_tokens.weight" || name == "lm_head.weight";
                let block_bytes = if is_output && format == WeightFormat::Q4 {
                    34
                } else {
                    block_bytes
                };
                numbers += entry.shape.iter().product::<usize>();
                bytes += match (format, &entry.shape[..]) {
                    (WeightFormat::F32, shape) => 4 * shape.iter().product::<usize>(),
                    (_, [rows, cols]) => rows * (4 + cols.div_ceil(32) * block_bytes),
                    (_, shape) => 4 * shape.iter().product::<usize>(),
                };
            }
            let session = checkpoint.load(format, usize::MAX);
            if !session.config().tie_word_embeddings {
                // A checkpoint stores the LoRA adapters of all calls in each untied block, and only the block's own are
                // loaded.
                assert!(session.weights_bytes() < bytes as u64, "{name} {format:?}");
                continue;
            }
            assert_eq!(session.weights_bytes(), bytes as u64, "{name} {format:?}");
            assert_eq!(
                checkpoint.schedule(format).parameters,
                numbers as u64,
                "{name}"
            );
        }
    }
}
