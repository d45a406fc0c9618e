//! Single kernels at the sizes of Zamba2-1.2B against what the machine can do at best, measured in the same run. The command
//! line and the page both call it. It measures no model; `zamba2 bench` and the page's profile do.

use serde::Serialize;

use crate::base::clock::now_us;
use crate::base::quant::{BLOCK, Q4Values, Q8Values, QMatrix, Values, WeightFormat};
use crate::device::cpu::{Cpu, CpuTensor};
use crate::ops::Ops;
use crate::ops::device::{
    AttentionShape, Ceilings, Cols, Conv1d, GatedNorm, KvFormat, Linear, Ssm, SsmInput, split,
};
use crate::ops::trace::ModuleId;
use crate::ops::work::{self, Work};

/// The kernels here belong to no model.
const MODULE: ModuleId = ModuleId(0);

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

/// One call of a kernel.
struct Load {
    /// Multiplications, each with an addition.
    macs: f64,
    /// Bytes that have to come from memory.
    bytes: f64,
    /// Peak of the multiplications, in GMAC/s.
    peak: f64,
}

impl Load {
    fn new(work: Work, peak: f64) -> Load {
        Load {
            macs: work.flops / 2.0,
            bytes: work.bytes(),
            peak,
        }
    }

    /// Norms and activation functions count no FLOPs in a report. Here they have about `macs` for each of `n` numbers.
    fn elementwise(macs: usize, n: usize, work: Work, ceilings: &Ceilings) -> Load {
        Load {
            macs: (macs * n) as f64,
            bytes: work.bytes(),
            peak: ceilings.f32_gmacs_per_s,
        }
    }
}

/// Measures the ceilings and every kernel: about ten seconds.
pub fn run(cpu: Cpu) -> KernelReport {
    let ops = &mut Ops::new(cpu);
    let ceilings = ops.device().ceilings();
    let mut kernels = Vec::new();
    let (hidden, d_inner, d_in_proj, d_state, n_heads) = (2048, 4096, 8512, 128, 64);
    for format in [WeightFormat::Q4, WeightFormat::Q8, WeightFormat::F32] {
        for (name, rows, cols) in [
            ("in_proj", d_in_proj, hidden),
            ("out_proj", hidden, d_inner),
        ] {
            for tokens in [1, 35] {
                let kernel = format!("linear {} {name}", format.name());
                kernels.push(linear(ops, &ceilings, kernel, format, [rows, cols], tokens));
            }
        }
    }
    for tokens in [1, 35] {
        kernels.push(conv1d(ops, &ceilings, d_inner + 2 * d_state, tokens));
        kernels.push(ssm_scan(
            ops,
            &ceilings,
            [n_heads, d_inner / n_heads, d_state],
            tokens,
        ));
        kernels.push(gated_rms_norm(ops, &ceilings, d_inner, tokens));
        kernels.push(gelu_mul(ops, &ceilings, 4 * hidden, tokens));
    }
    for format in [KvFormat::I8, KvFormat::F32] {
        for context in [64, 4096] {
            kernels.push(attention(ops, &ceilings, format, context));
        }
    }
    KernelReport { ceilings, kernels }
}

/// Times `body`, which does `load` at each of its calls `0 .. calls`.
fn time(
    ceilings: &Ceilings,
    kernel: String,
    tokens: usize,
    load: Load,
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
    let arithmetic_us = load.macs / load.peak / 1e3;
    let memory_us = load.bytes / ceilings.read_gb_per_s / 1e3;
    KernelTime {
        kernel,
        tokens,
        us,
        gmacs_per_s: load.macs / us / 1e3,
        gb_per_s: load.bytes / us / 1e3,
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

fn tensor(ops: &mut Ops<Cpu>, rows: usize, cols: usize) -> CpuTensor {
    ops.constant(rows, cols, numbers(rows * cols))
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
    ops: &mut Ops<Cpu>,
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
            module: MODULE,
            weight: ops.upload(host.clone()).into(),
            bias: None,
        })
        .collect();
    let x = tensor(ops, tokens, shape[1]);
    let mut y = ops.tensor(tokens, shape[0]);
    let peak = match format {
        WeightFormat::Q4 => ceilings.int8_gmacs_per_s,
        // Sixteen-bit operands: half as many in a vector.
        WeightFormat::Q8 => ceilings.int16_gmacs_per_s,
        WeightFormat::F32 => ceilings.f32_gmacs_per_s,
    };
    let load = Load::new(work::linear(tokens, shape, format, false), peak);
    time(ceilings, kernel, tokens, load, copies, |call| {
        ops.linear(&linears[call], &x, &mut y);
    })
}

fn conv1d(ops: &mut Ops<Cpu>, ceilings: &Ceilings, conv_dim: usize, tokens: usize) -> KernelTime {
    let conv = Conv1d {
        module: MODULE,
        weight: tensor(ops, 4, conv_dim),
        bias: tensor(ops, 1, conv_dim),
    };
    let (x, mut state) = (tensor(ops, tokens, conv_dim), ops.tensor(3, conv_dim));
    let mut y = ops.tensor(tokens, conv_dim);
    let work = work::causal_conv1d(tokens, 4, conv_dim);
    let load = Load::new(work, ceilings.f32_gmacs_per_s);
    time(ceilings, "conv1d + silu".into(), tokens, load, 20, |_| {
        let [x] = split(&x, [conv_dim]);
        ops.causal_conv1d(&conv, x, &mut state, &mut y);
    })
}

fn ssm_scan(
    ops: &mut Ops<Cpu>,
    ceilings: &Ceilings,
    [n_heads, head_dim, d_state]: [usize; 3],
    tokens: usize,
) -> KernelTime {
    let d_inner = n_heads * head_dim;
    let ssm = Ssm {
        module: MODULE,
        a: ops.constant(1, n_heads, vec![-1.0; n_heads]),
        d: tensor(ops, 1, n_heads),
        dt_bias: ops.constant(1, n_heads, vec![-3.0; n_heads]),
        n_heads,
        head_dim,
        d_state,
        n_groups: 1,
    };
    let (xbc, dt) = (
        tensor(ops, tokens, d_inner + 2 * d_state),
        tensor(ops, tokens, n_heads),
    );
    let mut y = ops.tensor(tokens, d_inner);
    // As many states as the model has layers: each is touched once per token.
    let mut states: Vec<CpuTensor> = (0..38).map(|_| tensor(ops, d_inner, d_state)).collect();
    let work = work::ssm_scan(tokens, n_heads, head_dim, d_state);
    let load = Load::new(work, ceilings.f32_gmacs_per_s);
    let calls = states.len();
    time(ceilings, "ssm_scan".into(), tokens, load, calls, |call| {
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
        ops.ssm_scan(&ssm, input, &mut states[call], &mut y);
    })
}

fn gated_rms_norm(
    ops: &mut Ops<Cpu>,
    ceilings: &Ceilings,
    d_inner: usize,
    tokens: usize,
) -> KernelTime {
    let norm = GatedNorm {
        module: MODULE,
        weight: tensor(ops, 1, d_inner),
        n_groups: 1,
        eps: 1e-5,
    };
    let (x, gate) = (tensor(ops, tokens, d_inner), tensor(ops, tokens, d_inner));
    let mut y = ops.tensor(tokens, d_inner);
    let load = Load::elementwise(4, tokens * d_inner, work::norm(d_inner), ceilings);
    time(ceilings, "gated_rms_norm".into(), tokens, load, 20, |_| {
        let [gate] = split(&gate, [d_inner]);
        ops.gated_rms_norm(&norm, &x, gate, &mut y);
    })
}

fn gelu_mul(ops: &mut Ops<Cpu>, ceilings: &Ceilings, width: usize, tokens: usize) -> KernelTime {
    let (x, mut y) = (tensor(ops, tokens, 2 * width), ops.tensor(tokens, width));
    let load = Load::elementwise(2, tokens * width, Work::default(), ceilings);
    time(ceilings, "gelu_mul".into(), tokens, load, 20, |_| {
        ops.gelu_mul(MODULE, &x, &mut y)
    })
}

fn attention(
    ops: &mut Ops<Cpu>,
    ceilings: &Ceilings,
    format: KvFormat,
    context: usize,
) -> KernelTime {
    let shape = AttentionShape {
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        scale: 0.125,
    };
    let width = shape.n_heads * shape.head_dim;
    let mut cache = ops.kv_cache(&shape, context, format);
    let kv = tensor(ops, context, width);
    ops.append_kv(MODULE, &kv, &kv, &mut cache);
    let (q, mut y) = (tensor(ops, 1, width), ops.tensor(1, width));
    let peak = match format {
        KvFormat::F32 => ceilings.f32_gmacs_per_s,
        KvFormat::I8 => ceilings.int16_gmacs_per_s,
    };
    let position_bytes = format.bytes(&shape, 1) as f64;
    let load = Load::new(work::attention(1, context - 1, width, position_bytes), peak);
    let kernel = format!("attention {format:?} over {context}");
    time(ceilings, kernel, 1, load, 20, |_| {
        ops.attention(MODULE, &shape, &q, &cache, &mut y)
    })
}
