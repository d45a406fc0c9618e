//! A decode step's mixer and shared transformer in the self-test, as the model runs them: in fused kernels where the
//! device has them. The CPU runs the single ops with the same weights dequantised, because its products with quantised
//! weights round activations.

use crate::base::error::Result;
use crate::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use crate::device::cpu::Cpu;
use crate::model::cache::MambaState;
use crate::model::config::{BlockKind, Config};
use crate::model::forward::Scratch;
use crate::model::mixer::Mixer;
use crate::model::mixer::MixerState;
use crate::model::module::{AttentionModules, FeedForwardModules, SharedModules};
use crate::model::shared_transformer::{Adapter, Adapters, SharedInput, SharedTransformer};
use crate::ops::Ops;
use crate::ops::device::{Conv1d, Device, GatedNorm, KvFormat, Linear, Norm, Rope, Ssm};
use crate::ops::fused::{FusedOp, NormLinears, RowInput};
use crate::self_test::{MODULE, Named, Numbers, TOLERANCE, compare, push_result, small_model};

/// Decode steps; the second reads the states that the first has left.
const STEPS: usize = 2;
/// Positions in the KV cache before them.
const CACHED: usize = 70;
/// Relative to the largest result, with a cache in eight bits. A key or value may be rounded to its neighbour, 1/127 of
/// the largest, at one of 71 positions; leaving out a position changes four times as much.
const TOLERANCE_I8: f32 = 1e-2;
/// Rows of each matrix of several.
const ROWS: usize = 24;

/// How a device runs the steps.
#[derive(Clone, Copy)]
pub struct Setup {
    pub weights: WeightFormat,
    pub kv: KvFormat,
    /// Weights are rounded to `weights` and stored in f32.
    pub is_dequantized: bool,
}

/// Small sizes: two means in the gated norm, and fewer heads of keys than of queries.
///
/// # Errors
/// None: the configuration is valid.
pub fn small() -> Result<Config> {
    let config = small_model::config()?;
    Ok(Config {
        n_groups: 2,
        n_kv_heads: 2,
        ..config
    })
}

/// The widths of a model, each with few heads or narrow rows, so that matrices stay small: the stream with few heads of
/// the mixer, and all heads of the mixer with a narrow stream.
pub fn of(config: &Config) -> Vec<Config> {
    let n_heads = 2 * config.n_groups;
    let few_heads = Config {
        kinds: vec![BlockKind::Mamba],
        n_mamba_heads: n_heads,
        d_inner: n_heads * config.mamba_head_dim(),
        ..config.clone()
    };
    let narrow = Config {
        kinds: vec![BlockKind::Hybrid],
        // Two heads of the model's own width.
        hidden_size: config.head_dim(),
        n_attention_heads: 2,
        n_kv_heads: 1,
        intermediate_size: 3 * ROWS,
        ..config.clone()
    };
    vec![few_heads, narrow]
}

/// Compares the steps of all `configs` with the CPU's, on a device with fused kernels: without them, the steps are
/// single ops, which are compared already.
///
/// # Errors
/// As for [`crate::self_test::run`].
pub async fn compare_steps<D: Device>(
    ops: &mut Ops<D>,
    configs: &[Config],
    weights: WeightFormat,
    kv: KvFormat,
) -> Result<()> {
    let probe = ops.weight(&StoredMatrix::from_values(weights, BLOCK, &[1.0; BLOCK]));
    let probe = Linear {
        module: MODULE,
        weight: probe.into(), // [1, BLOCK]
        bias: None,
    };
    if !ops.fuses_norm(&[&probe], 1) {
        return Ok(());
    }
    for config in configs {
        let setup = Setup {
            weights,
            kv: ops.kv_cache(&config.attention_shape(), 1, kv).format,
            is_dequantized: false,
        };
        let oracle = Setup {
            is_dequantized: true,
            ..setup
        };
        let expected = steps(&mut Ops::new(Cpu::new(1)), config, oracle).await?;
        let tolerance = match setup.kv {
            KvFormat::F32 => TOLERANCE,
            KvFormat::I8 => TOLERANCE_I8,
        };
        let got = steps(ops, config, setup).await?;
        for ((name, got), (_, expected)) in got.iter().zip(&expected) {
            compare(name, got, expected, tolerance)?;
        }
    }
    Ok(())
}

/// The results of a mixer, and of a shared transformer in a model with hybrid blocks, in each of two decode steps.
///
/// # Errors
/// The device's own failure.
pub async fn steps<D: Device>(
    ops: &mut Ops<D>,
    config: &Config,
    setup: Setup,
) -> Result<Vec<Named>> {
    let mut results = Vec::new();
    let mut parts = Parts {
        numbers: Numbers(5),
        config,
        setup,
    };
    let s = &mut Scratch::new(ops, config);
    mixer_steps(ops, &mut parts, s, &mut results).await?;
    if config.kinds.contains(&BlockKind::Hybrid) {
        shared_steps(ops, &mut parts, s, &mut results).await?;
    } else {
        concat_norm_linears(ops, &mut parts, &mut results).await?;
    }
    Ok(results)
}

async fn mixer_steps<D: Device>(
    ops: &mut Ops<D>,
    parts: &mut Parts<'_>,
    s: &mut Scratch<D>,
    results: &mut Vec<Named>,
) -> Result<()> {
    let config = parts.config;
    let h = config.hidden_size;
    let mixer = parts.mixer(ops);
    let numbers = &mut parts.numbers;
    let state = &mut MambaState {
        conv: numbers.tensor(ops, config.d_conv - 1, config.conv_dim()), // [d_conv − 1, conv_dim]
        ssm: numbers.tensor(ops, config.d_inner, config.d_state),        // [H·P, N]
    };
    let mut stream = numbers.tensor(ops, 1, h); // [1, h]
    let mixed = numbers.tensor(ops, 1, h); // [1, h]
    for step in 0..STEPS {
        // As in a hybrid block, then as in a plain one.
        let x = (step == 0).then_some(&mixed);
        let from = MixerState {
            state: &mut *state,
            ssm_before: None,
            dt_min: 1e-3,
        };
        mixer.forward(ops, x, from, s, &mut stream);
        push_result(ops, results, "a mixer", 1, &stream).await?;
        push_result(ops, results, "a mixer's conv state", 1, &state.conv).await?;
        push_result(ops, results, "a mixer's SSM state", 1, &state.ssm).await?;
    }
    Ok(())
}

async fn shared_steps<D: Device>(
    ops: &mut Ops<D>,
    parts: &mut Parts<'_>,
    s: &mut Scratch<D>,
    results: &mut Vec<Named>,
) -> Result<()> {
    let (config, kv_format) = (parts.config, parts.setup.kv);
    let (shared, adapters) = parts.shared_transformer(ops);
    let numbers = &mut parts.numbers;
    let shape = config.attention_shape();
    let mut kv = ops.kv_cache(&shape, CACHED + STEPS, kv_format);
    let k = numbers.tensor(ops, CACHED, config.kv_width()); // [cached, kv heads · d]
    let v = numbers.tensor(ops, CACHED, config.kv_width()); // [cached, kv heads · d]
    ops.append_kv(MODULE, &k, &v, &mut kv);
    let inv_freq = (0..shape.head_dim / 2).map(|k| 0.4 / (k + 1) as f32);
    let rope = Rope {
        inv_freq: inv_freq.collect(),
        head_dim: shape.head_dim,
    };
    for _ in 0..STEPS {
        let input = SharedInput {
            stream: &numbers.tensor(ops, 1, config.hidden_size), // [1, h]
            embedding: &numbers.tensor(ops, 1, config.hidden_size), // [1, h]
        };
        let rope = config.use_mem_rope.then_some(&rope);
        shared.forward(ops, input, &adapters, rope, &mut kv, s);
        push_result(ops, results, "attention of a step", 1, &s.attn_out).await?;
        push_result(ops, results, "a shared transformer", 1, &s.shared_out).await?;
    }
    Ok(())
}

/// The first kernel of a shared transformer at the model's width, with few rows.
async fn concat_norm_linears<D: Device>(
    ops: &mut Ops<D>,
    parts: &mut Parts<'_>,
    results: &mut Vec<Named>,
) -> Result<()> {
    let h = parts.config.hidden_size;
    let norm = parts.norm(ops, 2 * h);
    let linears: [Linear<D>; 6] = std::array::from_fn(|_| parts.linear(ops, ROWS, 2 * h));
    let linears = linears.each_ref();
    for joined in linears.chunks(3) {
        ops.join_weights(joined);
    }
    let a = parts.numbers.tensor(ops, 1, h); // [1, h]
    let b = parts.numbers.tensor(ops, 1, h); // [1, h]
    let mut all = Vec::new();
    if ops.fuses_norm(&linears, 1) {
        let mut y = ops.tensor(1, linears.len() * ROWS); // [1, 6 · ROWS]
        ops.fused(FusedOp::NormLinears(NormLinears {
            norm: (&norm).into(),
            x: RowInput::Concat {
                module: MODULE,
                a: &a,
                b: &b,
            },
            linears: &linears,
            adds_to_y: false,
            y: &mut y,
        }));
        all.extend(ops.read(&y).await?);
    } else {
        let [mut concat, mut normed] = [2 * h; 2].map(|cols| ops.tensor(1, cols)); // [1, 2h]
        ops.concat(MODULE, &a, &b, &mut concat);
        ops.rms_norm(&norm, &concat, &mut normed);
        for linear in linears {
            let mut y = ops.tensor(1, ROWS); // [1, ROWS]
            ops.linear(linear, &normed, &mut y);
            all.extend(ops.read(&y).await?);
        }
    }
    results.push(("linears of a norm".into(), all));
    Ok(())
}

/// Generates the weights of one block.
struct Parts<'a> {
    numbers: Numbers,
    config: &'a Config,
    setup: Setup,
}

impl Parts<'_> {
    fn linear<D: Device>(&mut self, ops: &mut Ops<D>, d_out: usize, d_in: usize) -> Linear<D> {
        // Results stay of the size of the inputs.
        let radius = (3.0 / d_in as f32).sqrt();
        let values = self.numbers.between(d_out * d_in, -radius, radius);
        let mut matrix = StoredMatrix::from_values(self.setup.weights, d_in, &values);
        if self.setup.is_dequantized {
            let mut values = vec![0.0; d_out * d_in];
            for (row, out) in values.chunks_mut(d_in).enumerate() {
                matrix.dequantize_row(row, out);
            }
            matrix = StoredMatrix::from_values(WeightFormat::F32, d_in, &values);
        }
        Linear {
            module: MODULE,
            weight: ops.weight(&matrix).into(), // [d_out, d_in]
            bias: None,
        }
    }

    fn vector<D: Device>(&mut self, ops: &mut Ops<D>, n: usize) -> D::Tensor {
        let values = self.numbers.between(n, 0.5, 1.5);
        ops.constant(1, n, values) // [1, n]
    }

    fn norm<D: Device>(&mut self, ops: &mut Ops<D>, d: usize) -> Norm<D> {
        Norm {
            module: MODULE,
            weight: self.vector(ops, d),
            eps: 1e-5,
        }
    }

    fn mixer<D: Device>(&mut self, ops: &mut Ops<D>) -> Mixer<D> {
        let config = self.config;
        let (h, d_inner, n_heads) = (config.hidden_size, config.d_inner, config.n_mamba_heads);
        let a = self.numbers.between(n_heads, -8.0, -0.5);
        Mixer {
            input_layernorm: self.norm(ops, h),
            in_proj: self.linear(ops, config.d_in_proj(), h),
            conv1d: Conv1d {
                module: MODULE,
                weight: self.numbers.tensor(ops, config.d_conv, config.conv_dim()),
                bias: self.numbers.tensor(ops, 1, config.conv_dim()),
            },
            ssm: Ssm {
                module: MODULE,
                a: ops.constant(1, n_heads, a), // [1, H]
                d: self.vector(ops, n_heads),
                dt_bias: self.numbers.tensor(ops, 1, n_heads),
                n_heads,
                head_dim: config.mamba_head_dim(),
                d_state: config.d_state,
                n_groups: config.n_groups,
            },
            norm: GatedNorm {
                module: MODULE,
                weight: self.vector(ops, d_inner),
                n_groups: config.n_groups,
                eps: 1e-5,
            },
            out_proj: self.linear(ops, h, d_inner),
            d_inner,
            d_groups: config.n_groups * config.d_state,
        }
    }

    fn shared_transformer<D: Device>(
        &mut self,
        ops: &mut Ops<D>,
    ) -> (SharedTransformer<D>, Adapters<D>) {
        let config = self.config;
        let (h, intermediate) = (config.hidden_size, config.intermediate_size);
        let widths = [2 * h, config.kv_width(), config.kv_width()];
        let qkv = widths.map(|d_out| self.linear(ops, d_out, 2 * h));
        ops.join_weights(&qkv.each_ref());
        let has_adapters = config.use_shared_attention_adapter;
        let attention = has_adapters.then(|| {
            let attention = widths.map(|d_out| self.adapter(ops, d_out, 2 * h));
            ops.join_weights(&attention.each_ref().map(|adapter| &adapter.a));
            ops.join_weights(&attention.each_ref().map(|adapter| &adapter.b));
            attention
        });
        let adapters = Adapters {
            attention,
            gate_up: self.adapter(ops, 2 * intermediate, h),
        };
        let shared = SharedTransformer {
            modules: modules(),
            input_layernorm: self.norm(ops, 2 * h),
            qkv,
            o_proj: self.linear(ops, h, 2 * h),
            pre_ff_layernorm: self.norm(ops, h),
            gate_up_proj: self.linear(ops, 2 * intermediate, h),
            down_proj: self.linear(ops, h, intermediate),
            attention: config.attention_shape(),
        };
        (shared, adapters)
    }

    fn adapter<D: Device>(&mut self, ops: &mut Ops<D>, d_out: usize, d_in: usize) -> Adapter<D> {
        let rank = self.config.adapter_rank;
        Adapter {
            a: self.linear(ops, rank, d_in),
            b: self.linear(ops, d_out, rank),
        }
    }
}

fn modules() -> SharedModules {
    SharedModules {
        call: MODULE,
        attention: AttentionModules {
            concat: MODULE,
            input_layernorm: MODULE,
            qkv: [MODULE; 3],
            rope: MODULE,
            append_kv: MODULE,
            attention: MODULE,
            o_proj: MODULE,
        },
        ffn: FeedForwardModules {
            pre_ff_layernorm: MODULE,
            gate_up_proj: MODULE,
            act_fn: MODULE,
            down_proj: MODULE,
        },
    }
}
