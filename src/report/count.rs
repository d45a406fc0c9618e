//! What a pass must do, from the configuration alone: FLOPs, bytes and calls of every module, without a model. It stands
//! inside the report; matrices and vectors come from the loader's own list, so a tensor that is loaded is counted.
//!
//! Conventions: a multiplication with its addition is two FLOPs; a linear layer is 2·T·in·out and its bias is not
//! counted; the convolution is depthwise, 2·K·channels·T; the scan is the recurrence, 5·H·P·N + 3·H·P per token; causal
//! attention is 4·width for each pair of a query and a key not after it; norms and activation functions are not
//! counted. Bytes are weights once per call, states read and written, keys and values read and written; activations
//! are not in them. A shared block is counted at each of its calls, under the block that calls it.

use crate::loader::schedule::{Role, SharedLayout, TensorSpec, Unit, tensors};
use crate::model::config::{BlockKind, Config};
use crate::model::forward::CHUNK;
use crate::quant::WeightFormat;
use crate::report::modules;

/// What makes up the FLOPs of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Linear,
    Conv1d,
    Attention,
    Ssm,
    /// Reads or writes memory and has no counted arithmetic.
    Memory,
}

/// Whose peak holds for a module's arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Int8,
    Int16,
    F32,
}

impl Arithmetic {
    /// What the products of a matrix are computed in.
    pub fn of(weights: WeightFormat) -> Arithmetic {
        match weights {
            WeightFormat::Q4 => Arithmetic::Int8,
            WeightFormat::Q8 => Arithmetic::Int16,
            WeightFormat::F32 => Arithmetic::F32,
        }
    }
}

/// One module in a pass, all its calls together. The numbers are whole and exact up to 2⁵³.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleWork {
    /// The checkpoint's path, as if each block had its own copy of what it shares.
    pub path: String,
    pub block: Option<usize>,
    pub kind: Kind,
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

/// How a model is held while it computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formats {
    pub weights: WeightFormat,
    /// Keys and values of one position in one hybrid block.
    pub kv_position_bytes: f64,
}

/// `embed` fills the stream and the kept embedding one after the other (ARCHITECTURE.md, "Known leaks").
const EMBEDDINGS: usize = 2;

/// Every module of a pass over `tokens` new tokens after `past` earlier ones, in the order of the forward pass. Only
/// the last token gets logits.
pub fn pass(config: &Config, tokens: usize, past: usize, formats: Formats) -> Vec<ModuleWork> {
    let pass = Pass {
        config,
        formats,
        tokens: tokens as f64,
        past: past as f64,
        chunks: tokens.div_ceil(CHUNK),
        // What each chunk finds in the cache: all before it and itself.
        positions_read: (1..=tokens.div_ceil(CHUNK))
            .map(|chunk| (past + tokens.min(chunk * CHUNK)) as f64)
            .sum(),
    };
    // An untied model has a block of its own under each hybrid layer.
    let shared = SharedLayout::new(config, |_| true);
    let mut works = vec![pass.embedding(&tensors(config, &shared, Unit::Embedding)[0])];
    let mut hybrids = 0;
    for (index, kind) in config.kinds.iter().enumerate() {
        let own = tensors(config, &shared, Unit::Block(index));
        match kind {
            BlockKind::Mamba => works.extend(pass.block(index, own)),
            BlockKind::Hybrid => {
                let block = shared.block_of[hybrids];
                let prefix = |layer: usize| format!("model.layers.{layer}.shared_transformer.");
                let (source, called) = (prefix(shared.source_layer[block]), prefix(index));
                let mut specs = tensors(config, &shared, Unit::SharedBlock(block));
                specs.extend(own);
                for spec in &mut specs {
                    if let Some(rest) = spec.name.strip_prefix(&source) {
                        spec.name = format!("{called}{rest}");
                    }
                }
                works.extend(pass.block(index, specs));
                hybrids += 1;
            }
        }
    }
    let last = Pass {
        tokens: 1.0,
        chunks: 1,
        ..pass
    };
    works.extend(last.weights(None, tensors(config, &shared, Unit::FinalNorm)));
    // The tied output matrix is the embedding's.
    let head = tensors(config, &shared, Unit::LmHead);
    works.extend(last.weights(None, head));
    works
}

struct Pass<'a> {
    config: &'a Config,
    formats: Formats,
    tokens: f64,
    past: f64,
    chunks: usize,
    positions_read: f64,
}

impl Pass<'_> {
    fn embedding(&self, spec: &TensorSpec) -> ModuleWork {
        let format = spec.role.format(self.formats.weights);
        ModuleWork {
            path: modules::path_outside("embed_tokens"),
            block: None,
            kind: Kind::Memory,
            arithmetic: Arithmetic::F32,
            calls: EMBEDDINGS * self.chunks,
            flops: 0.0,
            weight_bytes: EMBEDDINGS as f64 * self.tokens * format.bytes(1, spec.shape[1]) as f64,
            state_bytes: 0.0,
        }
    }

    /// The modules of one block, in the order of their tensors, and those that only move states.
    fn block(&self, index: usize, specs: Vec<TensorSpec>) -> Vec<ModuleWork> {
        let config = self.config;
        let mut works = self.weights(Some(index), specs);
        for work in &mut works {
            let leaf = modules::leaf(&work.path);
            let state = match leaf {
                "conv1d" => {
                    work.kind = Kind::Conv1d;
                    work.flops = 2.0 * self.tokens * (config.d_conv * config.conv_dim()) as f64;
                    (config.d_conv - 1) * config.conv_dim()
                }
                "ssm" => {
                    work.kind = Kind::Ssm;
                    let (channels, n) = (config.d_inner as f64, config.d_state as f64);
                    work.flops = self.tokens * (5.0 * channels * n + 3.0 * channels);
                    config.d_inner * config.d_state
                }
                _ => 0,
            };
            // Read and written, four bytes each time.
            work.state_bytes = (2 * 4 * self.chunks) as f64 * state as f64;
        }
        if config.kinds[index] == BlockKind::Hybrid {
            works.extend(self.attention(index));
        }
        works
    }

    /// The two ops that work on the cache.
    fn attention(&self, index: usize) -> [ModuleWork; 2] {
        let pairs = self.tokens * self.past + self.tokens * (self.tokens + 1.0) / 2.0;
        let arithmetic = match self.formats.weights {
            WeightFormat::F32 => Arithmetic::F32,
            // Eight-bit keys and values meet 16-bit queries and shares.
            WeightFormat::Q8 | WeightFormat::Q4 => Arithmetic::Int16,
        };
        let work = |name: &str, kind: Kind, flops: f64, positions: f64| ModuleWork {
            path: format!("model.layers.{index}.shared_transformer.self_attn.{name}"),
            block: Some(index),
            kind,
            arithmetic,
            calls: self.chunks,
            flops,
            weight_bytes: 0.0,
            state_bytes: positions * self.formats.kv_position_bytes,
        };
        let flops = 4.0 * self.config.attention_width() as f64 * pairs;
        [
            work("append_kv", Kind::Memory, 0.0, self.tokens),
            work("attention", Kind::Attention, flops, self.positions_read),
        ]
    }

    /// One entry for each module that has tensors.
    fn weights(&self, block: Option<usize>, specs: Vec<TensorSpec>) -> Vec<ModuleWork> {
        let mut works: Vec<ModuleWork> = Vec::new();
        for spec in specs {
            let (module, tensor) = spec.name.rsplit_once('.').unwrap_or(("", &spec.name));
            let path = match tensor {
                "weight" | "bias" => module.to_owned(),
                // A_log, D and dt_bias have no module below the mixer.
                _ => format!("{module}.ssm"),
            };
            let format = spec.role.format(self.formats.weights);
            let numbers = spec.shape.iter().map(|&size| size as f64).product::<f64>();
            let matrix = spec.role != Role::Vector;
            let bytes = match (matrix, &spec.shape[..]) {
                (true, &[rows, cols]) => rows as f64 * format.bytes(1, cols) as f64,
                _ => 4.0 * numbers,
            };
            let at = works.iter().position(|work| work.path == path);
            let at = at.unwrap_or_else(|| {
                works.push(ModuleWork {
                    path,
                    block,
                    kind: Kind::Memory,
                    arithmetic: Arithmetic::F32,
                    calls: self.chunks,
                    flops: 0.0,
                    weight_bytes: 0.0,
                    state_bytes: 0.0,
                });
                works.len() - 1
            });
            let work = &mut works[at];
            work.weight_bytes += self.chunks as f64 * bytes;
            if matrix {
                work.kind = Kind::Linear;
                work.arithmetic = Arithmetic::of(format);
                work.flops += 2.0 * self.tokens * numbers;
            }
        }
        works
    }
}
