//! Counts the work of a pass from the configuration alone: FLOPs and bytes of every module of the plan, without a
//! model. The formulas are in [`crate::ops::work`]; a shared transformer is counted at each of its calls, under the
//! calling block.

use crate::base::quant::{Arithmetic, WeightFormat};
use crate::family;
use crate::model::config::Config;
use crate::model::module::{Module, OpKind, Part};
use crate::ops::trace::ModuleId;
use crate::ops::work::{self, Work};

/// What the FLOPs of a module consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Linear,
    Conv1d,
    Attention,
    Ssm,
    /// Memory traffic without counted FLOPs.
    Memory,
}

/// The work of one module in a pass, all its calls together. Counts are integers, exact up to 2⁵³.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleWork {
    pub module: ModuleId,
    /// The checkpoint's path, as if each block had its own copy of shared modules.
    pub path: String,
    pub block: Option<usize>,
    pub part: Part,
    pub kind: Kind,
    /// Decides which peak rate applies.
    pub arithmetic: Arithmetic,
    pub calls: usize,
    pub flops: f64,
    pub weight_bytes: f64,
    /// States, keys and values.
    pub state_bytes: f64,
}

impl ModuleWork {
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.state_bytes
    }
}

/// How a device stores and processes a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formats {
    pub weights: WeightFormat,
    /// Bytes of the keys and values of one position in one hybrid block.
    pub kv_position_bytes: f64,
    /// [`Device::CHUNK_ROWS`](crate::ops::device::Device::CHUNK_ROWS): weights are read once per chunk.
    pub chunk_rows: usize,
}

/// Every module that has work in a pass over `tokens` new tokens after `past` earlier ones, in the order of the forward
/// pass. Logits are computed for the last token only.
pub fn pass(config: &Config, tokens: usize, past: usize, formats: Formats) -> Vec<ModuleWork> {
    let all = Pass {
        config,
        formats,
        tokens,
        past,
    };
    let last = Pass { tokens: 1, ..all };
    let plan = family::full_plan(config);
    let works = plan.tree.modules.iter().map(|module| {
        let is_output = module.id == plan.final_layernorm || module.id == plan.lm_head;
        if is_output { &last } else { &all }.module(module)
    });
    works
        .filter(|work| work.flops + work.bytes() > 0.0)
        .collect()
}

/// A pass over some tokens, chunk by chunk.
struct Pass<'a> {
    config: &'a Config,
    formats: Formats,
    tokens: usize,
    past: usize,
}

impl Pass<'_> {
    fn module(&self, module: &Module) -> ModuleWork {
        let matrix = module.tensors.first().map(|tensor| tensor.role);
        let format = matrix.map(|role| role.format(self.formats.weights));
        let (kind, arithmetic) = match module.op {
            OpKind::Linear => {
                let format = format.expect("a linear layer has a matrix");
                (Kind::Linear, format.arithmetic())
            }
            OpKind::CausalConv1d => (Kind::Conv1d, Arithmetic::F32),
            OpKind::SsmScan => (Kind::Ssm, Arithmetic::F32),
            OpKind::Attention => (Kind::Attention, self.cache_arithmetic()),
            OpKind::AppendKv => (Kind::Memory, self.cache_arithmetic()),
            _ => (Kind::Memory, Arithmetic::F32),
        };
        let calls = self.tokens.div_ceil(self.formats.chunk_rows);
        let work = self.work(module);
        ModuleWork {
            module: module.id,
            path: module.path.clone(),
            block: module.block,
            part: module.part,
            kind,
            arithmetic,
            calls,
            flops: work.flops,
            weight_bytes: work.weight_bytes,
            state_bytes: work.state_bytes,
        }
    }

    /// i8 keys and values are multiplied with 16-bit queries and attention weights.
    fn cache_arithmetic(&self) -> Arithmetic {
        if self.formats.weights.is_quantized() {
            Arithmetic::Int16
        } else {
            Arithmetic::F32
        }
    }

    /// The work of all chunks.
    fn work(&self, module: &Module) -> Work {
        let chunk_rows = self.formats.chunk_rows;
        let (whole, rest) = (self.tokens / chunk_rows, self.tokens % chunk_rows);
        if module.op != OpKind::Attention {
            // Independent of the tokens before.
            let mut sum = self.chunk(module, chunk_rows, 0).times(whole);
            if rest > 0 {
                sum += self.chunk(module, rest, 0);
            }
            return sum;
        }
        let mut sum = Work::default();
        for start in (0..self.tokens).step_by(chunk_rows) {
            let rows = chunk_rows.min(self.tokens - start);
            sum += self.chunk(module, rows, self.past + start);
        }
        sum
    }

    /// The work of one call on `rows` rows.
    fn chunk(&self, module: &Module, rows: usize, past: usize) -> Work {
        let config = self.config;
        let [matrix, bias] = [0, 1].map(|at| module.tensors.get(at));
        let shape = |axis: usize| matrix.map_or(0, |tensor| tensor.shape[axis]);
        let role = matrix.map(|tensor| tensor.role);
        let format = role.map_or(WeightFormat::F32, |role| role.format(self.formats.weights));
        let position_bytes = self.formats.kv_position_bytes;
        match module.op {
            OpKind::Embed => work::embed(rows, shape(1), format),
            OpKind::Linear => work::linear(rows, [shape(0), shape(1)], format, bias.is_some()),
            OpKind::RmsNorm | OpKind::GatedRmsNorm => work::norm(shape(0)),
            OpKind::CausalConv1d => work::causal_conv1d(rows, config.d_conv, config.conv_dim()),
            OpKind::SsmScan => {
                let head_dim = config.mamba_head_dim();
                work::ssm_scan(rows, config.n_mamba_heads, head_dim, config.d_state)
            }
            OpKind::AppendKv => work::append_kv(rows, position_bytes),
            OpKind::Attention => {
                work::attention(rows, past, config.attention_width(), position_bytes)
            }
            OpKind::Container
            | OpKind::Rope
            | OpKind::GeluMul
            | OpKind::Concat
            | OpKind::Add
            | OpKind::Top => Work::default(),
        }
    }
}
