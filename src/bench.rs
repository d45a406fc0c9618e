//! Benchmarks of single CPU kernels at the sizes of Zamba2-1.2B, relative to ceilings measured in the same run. Used by
//! the command line and the page. Those of a graphics device are in `grid`; whole models are measured by `zamba2 bench`
//! and the page's profile.

mod cases;
#[cfg(not(target_os = "wasi"))]
pub mod grid;

use serde::Serialize;

use crate::base::clock::now_us;
use crate::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use crate::device::cpu::Cpu;
use crate::ops::Ops;
use crate::ops::device::{Ceilings, Conv1d, Device, KvFormat, Linear, split};
use crate::ops::trace::ModuleId;
use crate::ops::work::{self, Work};
use cases::{Case, D_INNER, D_STATE, HIDDEN, STATES, tensor};

/// Placeholder: the kernels here are not part of a model.
const MODULE: ModuleId = ModuleId(0);

/// The ceiling that limits a kernel.
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
    /// Median over the rounds, per call.
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
/// Discarded rounds: caches fill, and a browser switches from its baseline to its optimising compiler.
const WARM_UP: usize = 3;
/// Calls cycle through copies of the weights of at least this size in total, so that decode reads memory and not a
/// cache.
const COPIES_BYTES: usize = 64 << 20;

/// The cost of one call of a kernel.
struct CallCost {
    /// Multiply-adds.
    macs: f64,
    /// Bytes that have to be read from or written to memory.
    bytes: f64,
    /// Peak rate of the multiply-adds, in GMAC/s.
    peak: f64,
}

impl CallCost {
    fn new(work: Work, peak: f64) -> CallCost {
        CallCost {
            macs: work.flops / 2.0,
            bytes: work.bytes(),
            peak,
        }
    }

    /// For ops that count no FLOPs in a report (norms, activation functions): about `macs` for each of `n` elements.
    fn elementwise(macs: usize, n: usize, work: Work, ceilings: &Ceilings) -> CallCost {
        CallCost {
            macs: (macs * n) as f64,
            bytes: work.bytes(),
            peak: ceilings.f32_gmacs_per_s,
        }
    }
}

/// Measures the ceilings and all kernels; takes about ten seconds.
pub fn run(cpu: Cpu) -> KernelReport {
    let ops = &mut Ops::new(cpu);
    let ceilings = ops.device().ceilings(0);
    let mut kernels = Vec::new();
    let d_in_proj = 8512;
    for format in WeightFormat::ALL.into_iter().rev() {
        for (name, rows, cols) in [
            ("in_proj", d_in_proj, HIDDEN),
            ("out_proj", HIDDEN, D_INNER),
        ] {
            for tokens in [1, 35] {
                let kernel = format!("linear {} {name}", format.name());
                kernels.push(linear(ops, &ceilings, kernel, format, [rows, cols], tokens));
            }
        }
    }
    for tokens in [1, 35] {
        kernels.push(conv1d(ops, &ceilings, D_INNER + 2 * D_STATE, tokens));
        let case = cases::ssm_scan(ops, tokens);
        let cost = CallCost::new(case.work, ceilings.f32_gmacs_per_s);
        kernels.push(time_case(
            ops,
            &ceilings,
            "ssm_scan",
            (tokens, cost, STATES),
            case,
        ));
        let case = cases::gated_rms_norm(ops, tokens);
        let cost = CallCost::elementwise(4, tokens * D_INNER, case.work, &ceilings);
        kernels.push(time_case(
            ops,
            &ceilings,
            "gated_rms_norm",
            (tokens, cost, 20),
            case,
        ));
        kernels.push(gelu_mul(ops, &ceilings, 4 * HIDDEN, tokens));
    }
    for format in [KvFormat::I8, KvFormat::F32] {
        let peak = match format {
            KvFormat::F32 => ceilings.f32_gmacs_per_s,
            KvFormat::I8 => ceilings.int16_gmacs_per_s,
        };
        for context in [64, 4096] {
            for (tokens, calls) in [(1, 20), (Cpu::CHUNK_ROWS, 1)] {
                let kernel = format!("attention {format:?} over {context}");
                let case = cases::attention(ops, format, context, tokens);
                let cost = CallCost::new(case.work, peak);
                kernels.push(time_case(
                    ops,
                    &ceilings,
                    &kernel,
                    (tokens, cost, calls),
                    case,
                ));
            }
        }
    }
    KernelReport { ceilings, kernels }
}

/// Times `body`, whose calls `0 .. calls` cost `cost` each.
fn time(
    ceilings: &Ceilings,
    kernel: String,
    tokens: usize,
    cost: CallCost,
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
    let arithmetic_us = cost.macs / cost.peak / 1e3;
    let memory_us = cost.bytes / ceilings.read_gb_per_s / 1e3;
    KernelTime {
        kernel,
        tokens,
        us,
        gmacs_per_s: cost.macs / us / 1e3,
        gb_per_s: cost.bytes / us / 1e3,
        bound: if arithmetic_us > memory_us {
            Bound::Arithmetic
        } else {
            Bound::Memory
        },
        percent_of_ceiling: 100.0 * arithmetic_us.max(memory_us) / us,
    }
}

/// Times `calls` calls of a case.
fn time_case(
    ops: &mut Ops<Cpu>,
    ceilings: &Ceilings,
    kernel: &str,
    (tokens, cost, calls): (usize, CallCost, usize),
    mut case: Case<Cpu>,
) -> KernelTime {
    time(ceilings, kernel.into(), tokens, cost, calls, |at| {
        case.call(ops, at);
    })
}

/// Deterministic pseudo-random numbers within ±1.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A matrix of valid rows with arbitrary contents. Quantising numbers would take longer than the measurement.
fn matrix(format: WeightFormat, [rows, cols]: [usize; 2]) -> StoredMatrix {
    if format == WeightFormat::F32 {
        return StoredMatrix::from_values(format, cols, &numbers(rows * cols));
    }
    let blocks = cols.div_ceil(BLOCK);
    let quant_bytes = format.bytes(1, cols) as usize - 4 - 2 * blocks;
    let mut bytes = Vec::with_capacity(format.bytes(rows, cols) as usize);
    for row in 0..rows {
        bytes.extend(1e-7f32.to_le_bytes());
        let block_scales = (row * blocks..)
            .take(blocks)
            .map(|i| (i * 7919 % 32767) as i16);
        bytes.extend(block_scales.flat_map(i16::to_le_bytes));
        let quants = (row * quant_bytes..).take(quant_bytes);
        // −128 is no q8 quant.
        bytes.extend(quants.map(|i| match (i * 7919 % 251) as u8 {
            128 => 129,
            quant => quant,
        }));
    }
    StoredMatrix {
        format,
        rows,
        cols,
        bytes,
    }
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
            weight: ops.weight(&host).into(),
            bias: None,
        })
        .collect();
    let x = tensor(ops, tokens, shape[1]);
    let mut y = ops.tensor(tokens, shape[0]);
    let peak = ceilings.gmacs_per_s(format.arithmetic());
    let cost = CallCost::new(work::linear(tokens, shape, format, false), peak);
    time(ceilings, kernel, tokens, cost, copies, |call| {
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
    let cost = CallCost::new(work, ceilings.f32_gmacs_per_s);
    time(ceilings, "conv1d + silu".into(), tokens, cost, 20, |_| {
        let [x] = split(&x, [conv_dim]);
        ops.causal_conv1d(&conv, x, &mut state, &mut y);
    })
}

fn gelu_mul(ops: &mut Ops<Cpu>, ceilings: &Ceilings, width: usize, tokens: usize) -> KernelTime {
    let (x, mut y) = (tensor(ops, tokens, 2 * width), ops.tensor(tokens, width));
    let cost = CallCost::elementwise(2, tokens * width, Work::default(), ceilings);
    time(ceilings, "gelu_mul".into(), tokens, cost, 20, |_| {
        ops.gelu_mul(MODULE, &x, &mut y)
    })
}
