//! The small model of the self-test, which uses the ops as a model does: it has both kinds of blocks, and generated
//! weights.

use serde_json::json;

use crate::base::error::Result;
use crate::base::quant::WeightFormat;
use crate::family;
use crate::loader::WeightStream;
use crate::loader::safetensors::Shard;
use crate::loader::schedule::LoadSchedule;
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::forward::{ForwardPass, Scratch};
use crate::model::module::{Role, Slot, TensorSpec};
use crate::model::{NumericSettings, Zamba2};
use crate::ops::Ops;
use crate::ops::device::{Device, KvFormat};
use crate::self_test::{Named, Numbers};

/// Prompt of the small model; the decode steps read its tokens again.
const PROMPT: [u32; 9] = [1, 17, 80, 3, 44, 61, 9, 25, 70];
const STEPS: usize = 8;

/// The logits of a small f32 model with both kinds of blocks, after its prompt and after each decode step. Both devices
/// get the same tokens.
pub async fn small_model<D: Device>(ops: &mut Ops<D>) -> Result<Vec<Named>> {
    let config = config()?;
    let plan = family::full_plan(&config);
    let specs = plan.all_tensors();
    let shard = Shard::parse("generated weights", shard_bytes(&specs), &header(&specs))?;
    let schedule = LoadSchedule::new(&config, &[shard], WeightFormat::F32)?;
    let settings = NumericSettings::default();
    let mut model = Zamba2::empty(ops, config, settings, schedule.plan.clone());
    let mut stream = WeightStream::new(schedule, WeightFormat::F32);
    let mut numbers = Numbers(7);
    for spec in &specs {
        let bytes: Vec<u8> = weights(spec, &mut numbers)
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        stream.push(ops, &mut model, &bytes)?;
    }
    stream.finish()?;

    let context = PROMPT.len() + STEPS;
    let mut cache = Cache::new(ops, &model.config, context, KvFormat::F32);
    let mut scratch = Scratch::new(ops, &model.config);
    let mut logits = Vec::new();
    let mut tokens = PROMPT.to_vec();
    for step in 0..=STEPS {
        let mut pass = ForwardPass::new(ops, &model, &cache, &tokens);
        pass.advance(ops, &model, &mut cache, &mut scratch, usize::MAX);
        pass.last_logits(ops, &model, &mut scratch);
        let name = format!("token {step} of a small model");
        logits.push((name, ops.read(&scratch.logits).await?)); // [vocab]
        tokens = vec![PROMPT[step % PROMPT.len()]];
    }
    Ok(logits)
}

pub fn config() -> Result<Config> {
    let text = json!({
        "model_type": "zamba2",
        "vocab_size": 96,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "mamba_headdim": 16,
        "time_step_min": 0.001,
        "time_step_max": 0.1,
        "time_step_floor": 0.0001,
        "use_conv_bias": true,
        "add_bias_linear": false,
        "intermediate_size": 96,
        "hidden_act": "gelu",
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": true,
        "adapter_rank": 8,
        "use_mem_rope": true,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "use_long_context": false,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    });
    Config::from_json(&text.to_string())
}

fn spec_bytes(spec: &TensorSpec) -> u64 {
    4 * spec.shape.iter().map(|&size| size as u64).product::<u64>()
}

fn shard_bytes(specs: &[&TensorSpec]) -> u64 {
    8 + header(specs).len() as u64 + specs.iter().map(|spec| spec_bytes(spec)).sum::<u64>()
}

/// The safetensors header of a file with the tensors one after another.
fn header(specs: &[&TensorSpec]) -> Vec<u8> {
    let mut end = 0;
    let entries = specs.iter().map(|spec| {
        let start = end;
        end += spec_bytes(spec);
        let entry = json!({"dtype": "F32", "shape": spec.shape, "data_offsets": [start, end]});
        (spec.name.clone(), entry)
    });
    let entries: serde_json::Map<_, _> = entries.collect();
    json!(entries).to_string().into_bytes()
}

/// Weights in a range that keeps activations from vanishing or exploding.
fn weights(spec: &TensorSpec, numbers: &mut Numbers) -> Vec<f32> {
    let n: usize = spec.shape.iter().product();
    match (spec.slot, spec.role) {
        (Slot::ALog, _) => numbers.between(n, 0.0, 2.7),
        (Slot::DtBias, _) => numbers.between(n, -6.0, -2.0),
        // Norms and D.
        (Slot::Weight, Role::Vector) | (Slot::D, _) => numbers.between(n, 0.9, 1.1),
        _ => {
            let d_in = spec.shape.get(1);
            let radius = d_in.map_or(0.1, |&d_in| (3.0 / d_in as f32).sqrt());
            numbers.between(n, -radius, radius)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::Cpu;

    #[test]
    fn the_small_models_logits_are_finite_and_differ_at_each_step() {
        let logits = pollster::block_on(small_model(&mut Ops::new(Cpu::new(1)))).unwrap();
        assert_eq!(logits.len(), STEPS + 1);
        for pair in logits.windows(2) {
            assert_ne!(pair[0].1, pair[1].1);
        }
        assert!(
            logits
                .iter()
                .flat_map(|(_, row)| row)
                .all(|v| v.is_finite())
        );
    }
}
