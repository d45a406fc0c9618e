//! Checks a device before it runs a model: the results of every op, and of a small model, are compared with the CPU's.
//! Weights and inputs are generated, so it needs no file; it measures no speed.

use serde_json::json;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use crate::device::cpu::Cpu;
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
use crate::ops::device::{
    AttentionShape, Conv1d, Device, Draw, GatedNorm, KvFormat, Linear, Norm, Rope, Ssm, SsmInput,
    split,
};
use crate::ops::trace::ModuleId;
use crate::text::sampling::Top;

/// Placeholder: the ops here are not part of a model.
const MODULE: ModuleId = ModuleId(0);
/// Relative to the largest result. Devices differ in the order of sums and the last bits of exponentials; a wrong
/// kernel is off by about the magnitude of the results.
const TOLERANCE: f32 = 1e-3;
/// Rows of activations: a decode step, a few tokens, a prompt that does not fill a tile.
const ROWS: [usize; 3] = [1, 3, 37];
/// Prompt of the small model; the decode steps read its tokens again.
const PROMPT: [u32; 9] = [1, 17, 80, 3, 44, 61, 9, 25, 70];
const STEPS: usize = 8;
const ATTENTION: AttentionShape = AttentionShape {
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 20,
    scale: 0.22,
};

/// Compares every op of a device, and a small model on it, with the CPU.
///
/// # Errors
/// [`Error::SelfTest`] naming the first op that is wrong; the device's own failure.
pub async fn run<D: Device>(ops: &mut Ops<D>, weights: WeightFormat, kv: KvFormat) -> Result<()> {
    let mut cpu = Ops::new(Cpu::new(1));
    // A device may store keys and values more exactly than requested.
    let kv = ops.kv_cache(&ATTENTION, 1, kv).format;
    let expected = all_ops(&mut cpu, weights, kv).await?;
    for ((name, got), (_, expected)) in all_ops(ops, weights, kv).await?.iter().zip(&expected) {
        compare(name, got, expected)?;
    }
    let expected = small_model(&mut cpu).await?;
    for (step, (got, expected)) in small_model(ops).await?.iter().zip(&expected).enumerate() {
        compare(&format!("token {step} of a small model"), got, expected)?;
    }
    Ok(())
}

fn compare(name: &str, got: &[f32], expected: &[f32]) -> Result<()> {
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    let wrong = got.iter().zip(expected).position(|(got, expected)| {
        let off = (got - expected).abs();
        off.is_nan() || off > TOLERANCE * largest
    });
    let (id, got, expected) = match wrong {
        _ if got.len() != expected.len() => (
            "op_length",
            got.len().to_string(),
            expected.len().to_string(),
        ),
        Some(at) => ("op_value", got[at].to_string(), expected[at].to_string()),
        None => return Ok(()),
    };
    let fact = Fact::new(id).with("op", name).with("got", got);
    Err(Error::SelfTest {
        fact: fact.with("expected", expected),
    })
}

/// Deterministic pseudo-random numbers.
struct Numbers(u32);

impl Numbers {
    /// In −1 .. 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Integers that the CPU's int8 activations represent exactly: the largest of each block is 127.
    fn integers(&mut self, rows: usize, cols: usize) -> Vec<f32> {
        let mut numbers = self.take(rows * cols);
        for row in numbers.chunks_mut(cols) {
            row.iter_mut().for_each(|v| *v = (*v * 126.0).trunc());
            row.iter_mut().step_by(BLOCK).for_each(|v| *v = 127.0);
        }
        numbers
    }

    fn matrix(&mut self, format: WeightFormat, rows: usize, cols: usize) -> StoredMatrix {
        StoredMatrix::from_values(format, cols, &self.take(rows * cols))
    }

    fn tensor<D: Device>(&mut self, ops: &mut Ops<D>, rows: usize, cols: usize) -> D::Tensor {
        let values = self.take(rows * cols);
        ops.constant(rows, cols, values) // [rows, cols]
    }

    /// In `least ..= most`.
    fn between(&mut self, n: usize, least: f32, most: f32) -> Vec<f32> {
        let share = self.take(n).into_iter();
        share
            .map(|v| least + (most - least) * (0.5 + 0.5 * v))
            .collect()
    }
}

type Named = (String, Vec<f32>);

/// The results of every op on generated inputs, always in the same order.
async fn all_ops<D: Device>(
    ops: &mut Ops<D>,
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<Vec<Named>> {
    let mut results = Vec::new();
    for rows in ROWS {
        let mut numbers = Numbers(rows as u32);
        linear_ops(ops, &mut numbers, weights, rows, &mut results).await?;
        norm_ops(ops, &mut numbers, rows, &mut results).await?;
        mixer_ops(ops, &mut numbers, rows, &mut results).await?;
        attention_ops(ops, &mut numbers, kv, rows, &mut results).await?;
        elementwise_ops(ops, &mut numbers, rows, &mut results).await?;
    }
    top_ops(ops, weights, &mut results).await?;
    Ok(results)
}

async fn push_result<D: Device>(
    ops: &mut Ops<D>,
    results: &mut Vec<Named>,
    op: &str,
    rows: usize,
    y: &D::Tensor,
) -> Result<()> {
    let values = ops.read(y).await?;
    results.push((format!("{op} of {rows} rows"), values));
    Ok(())
}

async fn linear_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    weights: WeightFormat,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    // The second has no round sizes; in the third, each thread of a workgroup loads more than one unit per row.
    for (d_out, d_in) in [(96, 128), (75, 101), (20, 4128)] {
        let matrix = numbers.matrix(weights, d_out, d_in);
        let layer = Linear {
            module: MODULE,
            weight: ops.weight(&matrix).into(), // [d_out, d_in]
            bias: Some(numbers.tensor(ops, 1, d_out)), // [1, d_out]
        };
        let x = numbers.integers(rows, d_in);
        let x = ops.constant(rows, d_in, x); // [T, d_in]
        let mut y = ops.tensor(rows, d_out); // [T, d_out]
        ops.linear(&layer, &x, &mut y);
        push_result(ops, results, "linear", rows, &y).await?;
        ops.linear_add(&layer, &x, &mut y);
        push_result(ops, results, "linear_add", rows, &y).await?;
        let tokens: Vec<u32> = (0..rows as u32).map(|t| t * 31 % d_out as u32).collect();
        let mut y = ops.tensor(rows, d_in); // [T, d_in]
        ops.embed(MODULE, &layer.weight, &tokens, &mut y);
        push_result(ops, results, "embed", rows, &y).await?;
    }
    Ok(())
}

async fn norm_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let width = 100;
    let x = numbers.tensor(ops, rows, width); // [T, width]
    let mut y = ops.tensor(rows, width); // [T, width]
    let norm = Norm {
        module: MODULE,
        weight: numbers.tensor(ops, 1, width),
        eps: 1e-5,
    };
    ops.rms_norm(&norm, &x, &mut y);
    push_result(ops, results, "rms_norm", rows, &y).await?;
    let gated = GatedNorm {
        module: MODULE,
        weight: numbers.tensor(ops, 1, width),
        n_groups: 2,
        eps: 1e-5,
    };
    let z_gate = numbers.tensor(ops, rows, 2 * width); // [T, 2 · width]
    let [_, gate] = split(&z_gate, [width, width]);
    ops.gated_rms_norm(&gated, &x, gate, &mut y);
    push_result(ops, results, "gated_rms_norm", rows, &y).await
}

async fn mixer_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let (n_heads, head_dim, d_state, n_groups, d_conv) = (4, 12, 20, 2, 4);
    let (d_inner, d_groups) = (n_heads * head_dim, n_groups * d_state);
    let channels = d_inner + 2 * d_groups;
    let xbc = numbers.tensor(ops, rows, channels); // [T, channels]
    let conv = Conv1d {
        module: MODULE,
        weight: numbers.tensor(ops, d_conv, channels),
        bias: numbers.tensor(ops, 1, channels),
    };
    let mut state = numbers.tensor(ops, d_conv - 1, channels); // [d_conv − 1, channels]
    let mut y = ops.tensor(rows, channels); // [T, channels]
    let [all] = split(&xbc, [channels]);
    ops.causal_conv1d(&conv, all, &mut state, &mut y);
    push_result(ops, results, "causal_conv1d", rows, &y).await?;
    push_result(ops, results, "causal_conv1d's state", rows, &state).await?;

    let ssm = Ssm {
        module: MODULE,
        a: ops.constant(1, n_heads, numbers.between(n_heads, -8.0, -0.5)), // [1, H]
        d: numbers.tensor(ops, 1, n_heads),
        dt_bias: numbers.tensor(ops, 1, n_heads),
        n_heads,
        head_dim,
        d_state,
        n_groups,
    };
    let mut state = numbers.tensor(ops, d_inner, d_state); // [H·P, N]
    let mut scanned = ops.tensor(rows, d_inner); // [T, H·P]
    let dt = numbers.tensor(ops, rows, n_heads); // [T, H]
    let [x, b, c] = split(&y, [d_inner, d_groups, d_groups]);
    let [dt] = split(&dt, [n_heads]);
    let input = SsmInput {
        x,
        b,
        c,
        dt,
        dt_min: 1e-3,
    };
    ops.ssm_scan(&ssm, input, &mut state, &mut scanned);
    push_result(ops, results, "ssm_scan", rows, &scanned).await?;
    push_result(ops, results, "ssm_scan's state", rows, &state).await
}

async fn attention_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    kv: KvFormat,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let shape = ATTENTION;
    let (width, kv_width) = (
        shape.n_heads * shape.head_dim,
        shape.n_kv_heads * shape.head_dim,
    );
    let rope = Rope {
        inv_freq: (0..10).map(|k| 0.4 / (k + 1) as f32).collect(),
        head_dim: shape.head_dim,
    };
    let mut cache = ops.kv_cache(&shape, 2 * rows, kv);
    for pass in ["a first pass", "a second pass"] {
        let mut q = numbers.tensor(ops, rows, width); // [T, heads · d]
        let mut k = numbers.tensor(ops, rows, kv_width); // [T, kv heads · d]
        let v = numbers.tensor(ops, rows, kv_width); // [T, kv heads · d]
        ops.rope(MODULE, &rope, cache.len, &mut q);
        ops.rope(MODULE, &rope, cache.len, &mut k);
        push_result(ops, results, &format!("rope in {pass}"), rows, &q).await?;
        ops.append_kv(MODULE, &k, &v, &mut cache);
        let mut y = ops.tensor(rows, width); // [T, heads · d]
        ops.attention(MODULE, &shape, &q, &cache, &mut y);
        push_result(ops, results, &format!("attention in {pass}"), rows, &y).await?;
    }
    Ok(())
}

async fn elementwise_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let width = 75;
    let a = numbers.tensor(ops, rows, width); // [T, width]
    let b = numbers.tensor(ops, rows, width); // [T, width]
    let mut y = ops.tensor(rows, width); // [T, width]
    let mut concat = ops.tensor(rows, 2 * width); // [T, 2 · width]
    ops.concat(MODULE, &a, &b, &mut concat);
    push_result(ops, results, "concat", rows, &concat).await?;
    ops.gelu_mul(MODULE, &concat, &mut y);
    push_result(ops, results, "gelu_mul", rows, &y).await?;
    ops.add(MODULE, &a, &b, &mut y);
    push_result(ops, results, "add", rows, &y).await?;
    ops.copy(&b, &mut y);
    push_result(ops, results, "copy", rows, &y).await?;
    let mut last = ops.tensor(1, width); // [1, width]
    ops.last_row(&a, &mut last);
    push_result(ops, results, "last_row", rows, &last).await
}

/// Top-k of more logits than one workgroup sorts, and the embedding of the first.
async fn top_ops<D: Device>(
    ops: &mut Ops<D>,
    weights: WeightFormat,
    results: &mut Vec<Named>,
) -> Result<()> {
    let (vocab, width, k) = (3000, 64, 5);
    let mut numbers = Numbers(11);
    let table = ops.weight(&numbers.matrix(weights, vocab, width)); // [vocab, width]
    let logits = numbers.tensor(ops, 1, vocab); // [1, vocab]
    let mut top = ops.tensor(1, Top::row_len(k));
    ops.top(MODULE, &logits, 0, &mut top);
    let row = ops.read(&top).await?;
    let listed = Top::from_row(&row);
    // Compared by hexadecimal digit: with a tolerance relative to the largest value, neighbouring tokens would pass.
    let digits = |(token, _): &(u32, f32)| [0, 4, 8].map(|at| (token >> at & 15) as f32);
    let tokens = listed.tokens.iter().flat_map(digits).collect();
    results.push(("top's tokens".into(), tokens));
    let logits = listed.tokens.iter().map(|(_, logit)| *logit).collect();
    results.push(("top's logits".into(), logits));
    results.push(("top's sum".into(), vec![listed.sum as f32]));
    let mut y = ops.tensor(1, width); // [1, width]
    ops.embed_top(MODULE, &table, &top, 0, &mut y);
    push_result(ops, results, "embed_top", 1, &y).await?;
    for random in [0.1, 0.5, 0.9] {
        // Far enough from every edge of the distribution that f32 rounding moves no draw.
        let draw = Draw {
            top_k: k,
            temperature: 0.3,
            top_p: 0.95,
            min_p: 0.01,
            random,
        };
        ops.draw(MODULE, &draw, 0, &mut top);
        ops.embed_top(MODULE, &table, &top, 0, &mut y);
        push_result(ops, results, "draw", 1, &y).await?;
    }
    Ok(())
}

/// The logits of a small f32 model with both kinds of blocks, after its prompt and after each decode step. Both devices
/// get the same tokens.
async fn small_model<D: Device>(ops: &mut Ops<D>) -> Result<Vec<Vec<f32>>> {
    let config = Config::from_json(&small_config())?;
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
        logits.push(ops.read(&scratch.logits).await?); // [vocab]
        tokens = vec![PROMPT[step % PROMPT.len()]];
    }
    Ok(logits)
}

fn small_config() -> String {
    json!({
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
    })
    .to_string()
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

    #[test]
    fn the_cpu_passes_its_own_self_test_in_every_format() {
        for weights in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            for kv in [KvFormat::F32, KvFormat::I8] {
                pollster::block_on(run(&mut Ops::new(Cpu::new(2)), weights, kv)).unwrap();
            }
        }
    }

    #[test]
    fn a_wrong_or_missing_or_nan_result_fails_the_comparison() {
        compare("op", &[1.0, 2.0], &[1.0, 2.0]).unwrap();
        for got in [&[1.0, 2.1][..], &[f32::NAN, 2.0], &[1.0]] {
            assert!(compare("op", got, &[1.0, 2.0]).is_err());
        }
    }

    #[test]
    fn the_small_models_logits_are_finite_and_differ_at_each_step() {
        let logits = pollster::block_on(small_model(&mut Ops::new(Cpu::new(1)))).unwrap();
        assert_eq!(logits.len(), STEPS + 1);
        for pair in logits.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        assert!(logits.iter().flatten().all(|v| v.is_finite()));
    }
}
