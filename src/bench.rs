//! Single kernels at the sizes of Zamba2-1.2B against what the machine can do at best, measured in the same run. It
//! stands on floor 4 beside the session, which it does not use: the command line and the page both call it. It
//! measures no model; `zamba2 bench` and the page's profile do.

use serde::Serialize;

use crate::backend::cpu::{Cpu, Tensor};
use crate::backend::{
    AttentionShape, Backend, Ceilings, Cols, Conv1d, GatedNorm, KvCache, KvFormat, Linear, Ssm,
    SsmInput, split,
};
use crate::clock::now_us;
use crate::quant::{BLOCK, Q4Values, Q8Values, QMatrix, Values, WeightFormat};

/// What holds a kernel back at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Arithmetic,
    Memory,
}

/// One kernel at one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    pub kernel: String,
    /// Rows of activations: 1 is decode.
    pub tokens: usize,
    /// The median of the rounds.
    pub us: f64,
    pub gmacs_per_s: f64,
    pub gb_per_s: f64,
    pub bound: Bound,
    pub percent_of_ceiling: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    pub ceilings: Ceilings,
    pub kernels: Vec<KernelTime>,
}

const ROUNDS: usize = 9;
/// Rounds that don't count: caches fill, and a browser's optimising compiler takes over from its baseline.
const WARM_UP: usize = 3;
/// Weights are taken in turn from copies of at least this much together, so that decode reads memory and not a cache.
const COPIES_BYTES: usize = 64 << 20;

/// The work of one call.
struct Work {
    macs: f64,
    /// Bytes that have to come from memory.
    bytes: f64,
    /// Peak of the multiplications, in GMAC/s.
    peak: f64,
}

/// Measures the ceilings and every kernel: about ten seconds.
pub fn run(be: &mut Cpu) -> KernelReport {
    let ceilings = be.ceilings();
    let mut kernels = Vec::new();
    let (hidden, d_inner, d_in_proj, d_state, n_heads) = (2048, 4096, 8512, 128, 64);
    for format in [WeightFormat::Q4, WeightFormat::Q8, WeightFormat::F32] {
        for (name, rows, cols) in [
            ("in_proj", d_in_proj, hidden),
            ("out_proj", hidden, d_inner),
        ] {
            for tokens in [1, 35] {
                let kernel = format!("linear {} {name}", format.name());
                kernels.push(linear(be, &ceilings, kernel, format, [rows, cols], tokens));
            }
        }
    }
    for tokens in [1, 35] {
        kernels.push(conv1d(be, &ceilings, d_inner + 2 * d_state, tokens));
        kernels.push(ssm_scan(
            be,
            &ceilings,
            [n_heads, d_inner / n_heads, d_state],
            tokens,
        ));
        kernels.push(gated_rms_norm(be, &ceilings, d_inner, tokens));
        kernels.push(gelu_mul(be, &ceilings, 4 * hidden, tokens));
    }
    for format in [KvFormat::I8, KvFormat::F32] {
        for context in [64, 4096] {
            kernels.push(attention(be, &ceilings, format, context));
        }
    }
    KernelReport { ceilings, kernels }
}

/// Times `body`, which does `work` at each of its calls `0 .. calls`.
fn time(
    ceilings: &Ceilings,
    kernel: String,
    tokens: usize,
    work: Work,
    calls: usize,
    mut body: impl FnMut(usize),
) -> KernelTime {
    let mut rounds: Vec<f64> = (0..ROUNDS + WARM_UP)
        .map(|_| {
            let start_us = now_us();
            (0..calls).for_each(&mut body);
            (now_us() - start_us) / calls as f64
        })
        .skip(WARM_UP)
        .collect();
    rounds.sort_by(f64::total_cmp);
    let us = rounds[ROUNDS / 2];
    let arithmetic_us = work.macs / work.peak / 1e3;
    let memory_us = work.bytes / ceilings.read_gb_per_s / 1e3;
    KernelTime {
        kernel,
        tokens,
        us,
        gmacs_per_s: work.macs / us / 1e3,
        gb_per_s: work.bytes / us / 1e3,
        bound: if arithmetic_us > memory_us {
            Bound::Arithmetic
        } else {
            Bound::Memory
        },
        percent_of_ceiling: 100.0 * arithmetic_us.max(memory_us) / us,
    }
}

/// Numbers within ±1 that look random and are the same everywhere.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor(be: &mut Cpu, rows: usize, cols: usize) -> Tensor {
    be.constant(rows, cols, numbers(rows * cols))
}

fn matrix(format: WeightFormat, [rows, cols]: [usize; 2]) -> QMatrix {
    let blocks = rows * cols.div_ceil(BLOCK);
    let block_scale = || (0..blocks).map(|i| (i * 7919 % 32767) as i16).collect();
    let bytes = |n: usize| (0..n).map(|i| (i * 7919 % 251) as u8);
    let row_scale = vec![1e-7; rows];
    let values = match format {
        WeightFormat::F32 => Values::F32(numbers(rows * cols)),
        WeightFormat::Q8 => Values::Q8(Q8Values {
            row_scale,
            block_scale: block_scale(),
            quants: bytes(blocks * BLOCK).map(|v| (v as i8).max(-127)).collect(),
        }),
        WeightFormat::Q4 => Values::Q4(Q4Values {
            row_scale,
            block_scale: block_scale(),
            nibbles: bytes(blocks * BLOCK / 2).collect(),
        }),
    };
    QMatrix { rows, cols, values }
}

fn linear(
    be: &mut Cpu,
    ceilings: &Ceilings,
    kernel: String,
    format: WeightFormat,
    shape: [usize; 2],
    tokens: usize,
) -> KernelTime {
    let host = matrix(format, shape);
    let copies = COPIES_BYTES.div_ceil(format.bytes(shape[0], shape[1]) as usize);
    let linears: Vec<Linear<Cpu>> = (0..copies)
        .map(|_| Linear {
            name: "linear",
            weight: be.upload(host.clone()),
            bias: None,
        })
        .collect();
    let x = tensor(be, tokens, shape[1]);
    let mut y = be.tensor(tokens, shape[0]);
    let work = Work {
        macs: (tokens * shape[0] * shape[1]) as f64,
        bytes: be.weight_bytes(&linears[0].weight) as f64,
        peak: match format {
            WeightFormat::Q4 => ceilings.int8_gmacs_per_s,
            // Sixteen-bit operands: half as many in a vector.
            WeightFormat::Q8 => ceilings.int16_gmacs_per_s,
            WeightFormat::F32 => ceilings.f32_gmacs_per_s,
        },
    };
    time(ceilings, kernel, tokens, work, copies, |call| {
        be.linear(&linears[call], &x, &mut y);
    })
}

fn conv1d(be: &mut Cpu, ceilings: &Ceilings, conv_dim: usize, tokens: usize) -> KernelTime {
    let conv = Conv1d {
        weight: tensor(be, 4, conv_dim),
        bias: tensor(be, 1, conv_dim),
    };
    let (x, mut state) = (tensor(be, tokens, conv_dim), be.tensor(3, conv_dim));
    let mut y = be.tensor(tokens, conv_dim);
    let work = Work {
        macs: (4 * tokens * conv_dim) as f64,
        bytes: (4 * 5 * conv_dim) as f64,
        peak: ceilings.f32_gmacs_per_s,
    };
    time(ceilings, "conv1d + silu".into(), tokens, work, 20, |_| {
        let [x] = split(&x, [conv_dim]);
        be.causal_conv1d(&conv, x, &mut state, &mut y);
    })
}

fn ssm_scan(
    be: &mut Cpu,
    ceilings: &Ceilings,
    [n_heads, head_dim, d_state]: [usize; 3],
    tokens: usize,
) -> KernelTime {
    let d_inner = n_heads * head_dim;
    let ssm = Ssm {
        a: be.constant(1, n_heads, vec![-1.0; n_heads]),
        d: tensor(be, 1, n_heads),
        dt_bias: be.constant(1, n_heads, vec![-3.0; n_heads]),
        n_heads,
        head_dim,
        d_state,
        n_groups: 1,
    };
    let (xbc, dt) = (
        tensor(be, tokens, d_inner + 2 * d_state),
        tensor(be, tokens, n_heads),
    );
    let mut y = be.tensor(tokens, d_inner);
    // As many states as the model has layers: each is touched once per token.
    let mut states: Vec<Tensor> = (0..38).map(|_| tensor(be, d_inner, d_state)).collect();
    let state_bytes = 4.0 * (d_inner * d_state) as f64;
    let work = Work {
        // The recurrence: decay, input and output of every number of the state.
        macs: 3.0 * (tokens * d_inner * d_state) as f64,
        bytes: 2.0 * state_bytes,
        peak: ceilings.f32_gmacs_per_s,
    };
    let calls = states.len();
    time(ceilings, "ssm_scan".into(), tokens, work, calls, |call| {
        let [x, b, c] = split(&xbc, [d_inner, d_state, d_state]);
        let dt = Cols {
            tensor: &dt,
            start: 0,
            len: n_heads,
        };
        let input = SsmInput {
            x,
            b,
            c,
            dt,
            dt_min: 0.001,
        };
        be.ssm_scan(&ssm, input, &mut states[call], &mut y);
    })
}

fn gated_rms_norm(be: &mut Cpu, ceilings: &Ceilings, d_inner: usize, tokens: usize) -> KernelTime {
    let norm = GatedNorm {
        weight: tensor(be, 1, d_inner),
        n_groups: 1,
        eps: 1e-5,
    };
    let (x, gate) = (tensor(be, tokens, d_inner), tensor(be, tokens, d_inner));
    let mut y = be.tensor(tokens, d_inner);
    let work = Work {
        macs: (4 * tokens * d_inner) as f64,
        bytes: (4 * d_inner) as f64,
        peak: ceilings.f32_gmacs_per_s,
    };
    time(ceilings, "gated_rms_norm".into(), tokens, work, 20, |_| {
        let [gate] = split(&gate, [d_inner]);
        be.gated_rms_norm(&norm, &x, gate, &mut y);
    })
}

fn gelu_mul(be: &mut Cpu, ceilings: &Ceilings, width: usize, tokens: usize) -> KernelTime {
    let (x, mut y) = (tensor(be, tokens, 2 * width), be.tensor(tokens, width));
    let work = Work {
        macs: (2 * tokens * width) as f64,
        bytes: 0.0,
        peak: ceilings.f32_gmacs_per_s,
    };
    time(ceilings, "gelu_mul".into(), tokens, work, 20, |_| {
        be.gelu_mul(&x, &mut y)
    })
}

fn attention(be: &mut Cpu, ceilings: &Ceilings, format: KvFormat, context: usize) -> KernelTime {
    let shape = AttentionShape {
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        scale: 0.125,
    };
    let width = shape.n_heads * shape.head_dim;
    let mut cache = KvCache {
        rows: be.kv_rows(&shape, context, format),
        len: 0,
    };
    let kv = tensor(be, context, width);
    be.append_kv(&kv, &kv, &mut cache);
    let (q, mut y) = (tensor(be, 1, width), be.tensor(1, width));
    let work = Work {
        macs: (2 * context * width) as f64,
        bytes: format.bytes(&shape, context) as f64,
        peak: match format {
            KvFormat::F32 => ceilings.f32_gmacs_per_s,
            KvFormat::I8 => ceilings.int16_gmacs_per_s,
        },
    };
    let kernel = format!("attention {format:?} over {context}");
    time(ceilings, kernel, 1, work, 20, |_| {
        be.attention(&shape, &q, &cache, &mut y)
    })
}
