//! Checks a device before it runs a model: the results of every op, and of a small model, are compared with the CPU's.
//! Weights and inputs are generated, so it needs no file; it measures no speed.

pub mod fused;
mod shapes;
mod small_model;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use crate::device::cpu::Cpu;
use crate::model::config::Config;
use crate::ops::Ops;
use crate::ops::device::{
    Conv1d, Device, Draw, GatedNorm, KvFormat, Linear, Norm, Rope, Ssm, SsmInput, split,
};
use crate::ops::trace::ModuleId;
use crate::self_test::shapes::Shapes;
use crate::self_test::small_model::small_model;
use crate::text::sampling::TopK;

/// Placeholder: the ops here are not part of a model.
const MODULE: ModuleId = ModuleId(0);
/// Relative to the largest result. Devices differ in the order of sums and the last bits of exponentials; a wrong
/// kernel is off by about the magnitude of the results.
const TOLERANCE: f32 = 1e-3;

/// Compares every op of a device, at small sizes and at those of the model to run, and a small model on it, with the
/// CPU.
///
/// # Errors
/// [`Error::SelfTest`] naming the first op that is wrong; the device's own failure.
pub async fn run<D: Device>(
    ops: &mut Ops<D>,
    config: &Config,
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<()> {
    compare_ops(ops, &Shapes::small(), weights, kv).await?;
    let mut cpu = Ops::new(Cpu::new(1));
    compare_all(
        top_ops(ops, weights).await?,
        top_ops(&mut cpu, weights).await?,
    )?;
    compare_ops(ops, &Shapes::of(config), weights, kv).await?;
    fused::compare_steps(ops, &[fused::small()?], weights, kv).await?;
    fused::compare_steps(ops, &fused::of(config), weights, kv).await?;
    compare_all(small_model(ops).await?, small_model(&mut cpu).await?)
}

/// Compares the ops of a decode step at the model's sizes with the CPU: short enough to be run once more when the
/// weights are in the device's memory.
///
/// # Errors
/// As for [`run`].
pub async fn run_decode_step<D: Device>(
    ops: &mut Ops<D>,
    config: &Config,
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<()> {
    compare_ops(ops, &Shapes::of_decode_step(config), weights, kv).await?;
    fused::compare_steps(ops, &fused::of(config), weights, kv).await
}

async fn compare_ops<D: Device>(
    ops: &mut Ops<D>,
    shapes: &Shapes,
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<()> {
    let mut cpu = Ops::new(Cpu::new(1));
    // A device may store keys and values more exactly than requested.
    let kv = ops.kv_cache(&shapes.attention, 1, kv).format;
    let expected = all_ops(&mut cpu, shapes, weights, kv).await?;
    compare_all(all_ops(ops, shapes, weights, kv).await?, expected)
}

fn compare_all(got: Vec<Named>, expected: Vec<Named>) -> Result<()> {
    let mut pairs = got.iter().zip(&expected);
    pairs.try_for_each(|((name, got), (_, expected))| compare(name, got, expected, TOLERANCE))
}

fn compare(name: &str, got: &[f32], expected: &[f32], tolerance: f32) -> Result<()> {
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    let wrong = got.iter().zip(expected).position(|(got, expected)| {
        let off = (got - expected).abs();
        off.is_nan() || off > tolerance * largest
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

/// The results of every op but top-k on generated inputs, always in the same order.
async fn all_ops<D: Device>(
    ops: &mut Ops<D>,
    shapes: &Shapes,
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<Vec<Named>> {
    let mut results = Vec::new();
    for &rows in shapes.linear_rows {
        let mut numbers = Numbers(rows as u32);
        for &sizes in &shapes.linear {
            linear_ops(ops, &mut numbers, weights, sizes, rows, &mut results).await?;
        }
    }
    for &rows in shapes.rows {
        let mut numbers = Numbers(rows as u32);
        norm_ops(ops, &mut numbers, shapes, rows, &mut results).await?;
        mixer_ops(ops, &mut numbers, shapes, rows, &mut results).await?;
        attention_ops(ops, &mut numbers, shapes, kv, rows, &mut results).await?;
        elementwise_ops(ops, &mut numbers, rows, &mut results).await?;
    }
    for (name, _) in &mut results {
        name.push_str(shapes.suffix);
    }
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
    [d_out, d_in]: [usize; 2],
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let matrix = numbers.matrix(weights, d_out, d_in);
    let layer = Linear {
        module: MODULE,
        weight: ops.weight(&matrix).into(),        // [d_out, d_in]
        bias: Some(numbers.tensor(ops, 1, d_out)), // [1, d_out]
    };
    let x = numbers.integers(rows, d_in);
    let x = ops.constant(rows, d_in, x); // [T, d_in]
    let mut y = ops.tensor(rows, d_out); // [T, d_out]
    ops.linear(&layer, &x, &mut y);
    push_result(ops, results, "linear", rows, &y).await?;
    ops.linear_add(&layer, &x, &mut y);
    push_result(ops, results, "linear_add", rows, &y).await?;
    let plain = Linear {
        module: MODULE,
        weight: layer.weight.clone(),
        bias: None,
    };
    let residual = numbers.tensor(ops, rows, d_out); // [T, d_out]
    ops.linear_residual(MODULE, &plain, &x, &residual, &mut y);
    push_result(ops, results, "linear_residual", rows, &y).await?;
    let tokens: Vec<u32> = (0..rows as u32).map(|t| t * 31 % d_out as u32).collect();
    let mut y = ops.tensor(rows, d_in); // [T, d_in]
    let mut z = ops.tensor(rows, d_in); // [T, d_in]
    ops.embed(MODULE, &layer.weight, &tokens, &mut [&mut y, &mut z]);
    push_result(ops, results, "embed", rows, &y).await?;
    push_result(ops, results, "embed's copy", rows, &z).await
}

async fn norm_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    shapes: &Shapes,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let width = shapes.norm_width;
    let x = numbers.tensor(ops, rows, width); // [T, width]
    let mut y = ops.tensor(rows, width); // [T, width]
    let norm = Norm {
        module: MODULE,
        weight: numbers.tensor(ops, 1, width),
        eps: 1e-5,
    };
    ops.rms_norm(&norm, &x, &mut y);
    push_result(ops, results, "rms_norm", rows, &y).await?;
    let [n_groups, group] = shapes.gated_norm;
    let width = n_groups * group;
    let gated = GatedNorm {
        module: MODULE,
        weight: numbers.tensor(ops, 1, width),
        n_groups,
        eps: 1e-5,
    };
    let x = numbers.tensor(ops, rows, width); // [T, width]
    let mut y = ops.tensor(rows, width); // [T, width]
    let z_gate = numbers.tensor(ops, rows, 2 * width); // [T, 2 · width]
    let [_, gate] = split(&z_gate, [width, width]);
    ops.gated_rms_norm(&gated, &x, gate, &mut y);
    push_result(ops, results, "gated_rms_norm", rows, &y).await
}

async fn mixer_ops<D: Device>(
    ops: &mut Ops<D>,
    numbers: &mut Numbers,
    shapes: &Shapes,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let &Shapes {
        n_ssm_heads: n_heads,
        ssm_head_dim: head_dim,
        d_state,
        n_ssm_groups: n_groups,
        ..
    } = shapes;
    let d_conv = 4;
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
    shapes: &Shapes,
    kv: KvFormat,
    rows: usize,
    results: &mut Vec<Named>,
) -> Result<()> {
    let shape = shapes.attention;
    let (width, kv_width) = (
        shape.n_heads * shape.head_dim,
        shape.n_kv_heads * shape.head_dim,
    );
    let rope = Rope {
        inv_freq: (0..shape.head_dim / 2)
            .map(|k| 0.4 / (k + 1) as f32)
            .collect(),
        head_dim: shape.head_dim,
    };
    let mut cache = ops.kv_cache(&shape, shapes.cached + 2 * rows, kv);
    if shapes.cached > 0 {
        let k = numbers.tensor(ops, shapes.cached, kv_width); // [cached, kv heads · d]
        let v = numbers.tensor(ops, shapes.cached, kv_width); // [cached, kv heads · d]
        ops.append_kv(MODULE, &k, &v, &mut cache);
    }
    for pass in ["a first pass", "a second pass"] {
        let mut q = numbers.tensor(ops, rows, width); // [T, heads · d]
        let mut k = numbers.tensor(ops, rows, kv_width); // [T, kv heads · d]
        let v = numbers.tensor(ops, rows, kv_width); // [T, kv heads · d]
        ops.rope(MODULE, &rope, cache.len, &mut [&mut q, &mut k]);
        push_result(ops, results, &format!("rope of q in {pass}"), rows, &q).await?;
        push_result(ops, results, &format!("rope of k in {pass}"), rows, &k).await?;
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
async fn top_ops<D: Device>(ops: &mut Ops<D>, weights: WeightFormat) -> Result<Vec<Named>> {
    let mut results = Vec::new();
    let (vocab, width, k) = (3000, 64, 5);
    let mut numbers = Numbers(11);
    let table = ops.weight(&numbers.matrix(weights, vocab, width)); // [vocab, width]
    let logits = numbers.tensor(ops, 1, vocab); // [1, vocab]
    let mut top = ops.tensor(1, TopK::row_len(k));
    ops.top(MODULE, &logits, &mut top);
    let row = ops.read(&top).await?;
    let listed = TopK::from_row(&row);
    // Compared by hexadecimal digit: with a tolerance relative to the largest value, neighbouring tokens would pass.
    let digits = |(token, _): &(u32, f32)| [0, 4, 8].map(|at| (token >> at & 15) as f32);
    let tokens = listed.tokens.iter().flat_map(digits).collect();
    results.push(("top's tokens".into(), tokens));
    let largest = listed.tokens.iter().map(|(_, logit)| *logit).collect();
    results.push(("top's logits".into(), largest));
    results.push(("top's sum".into(), vec![listed.sum as f32]));
    let mut y = ops.tensor(1, width); // [1, width]
    ops.embed_top(MODULE, &table, &top, &mut [&mut y]);
    push_result(ops, &mut results, "embed_top", 1, &y).await?;
    let seen = (0..vocab).map(|token| f32::from(token % 3 == 0)).collect();
    let mut seen = ops.constant(1, vocab, seen); // [1, vocab]
    let mut penalised = ops.tensor(1, vocab); // [1, vocab]
    ops.penalise(
        (MODULE, 1.5),
        Some(&top),
        &logits,
        &mut seen,
        &mut penalised,
    );
    push_result(ops, &mut results, "penalise", 1, &penalised).await?;
    for random in [0.1, 0.5, 0.9] {
        // Far enough from every edge of the distribution that f32 rounding moves no draw.
        let draw = Draw {
            top_k: k,
            temperature: 0.3,
            top_p: 0.95,
            min_p: 0.01,
            random,
        };
        ops.draw(MODULE, &draw, &mut top);
        ops.embed_top(MODULE, &table, &top, &mut [&mut y]);
        push_result(ops, &mut results, "draw", 1, &y).await?;
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_passes_its_own_self_test_in_every_format() {
        let config = small_model::config().unwrap();
        for weights in WeightFormat::ALL {
            for kv in [KvFormat::F32, KvFormat::I8] {
                let ops = &mut Ops::new(Cpu::new(2));
                pollster::block_on(run(ops, &config, weights, kv)).unwrap();
                pollster::block_on(run_decode_step(ops, &config, weights, kv)).unwrap();
            }
        }
    }

    #[test]
    fn a_wrong_or_missing_or_nan_result_fails_the_comparison() {
        compare("op", &[1.0, 2.0], &[1.0, 2.0], TOLERANCE).unwrap();
        for got in [&[1.0, 2.1][..], &[f32::NAN, 2.0], &[1.0]] {
            assert!(compare("op", got, &[1.0, 2.0], TOLERANCE).is_err());
        }
    }
}
