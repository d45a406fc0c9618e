//! Which bytes the forward pass needs, in which order. It stands on floor 3; the tensor names of the checkpoint are
//! written here and nowhere else (reference: `modeling_zamba2.py`). It moves no bytes.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::loader::safetensors::{Dtype, Shard, TensorEntry};
use crate::model::config::{BlockKind, Config};
use crate::quant::WeightFormat;

/// A piece of the model that becomes usable as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Embedding,
    SharedBlock(usize),
    Block(usize),
    FinalNorm,
    LmHead,
}

/// How a tensor is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a linear layer, in the chosen weight format.
    Matrix,
    /// The embedding or the output matrix, in the format that the chosen one has for it.
    Output,
    /// Norms, biases, conv1d and the scan's parameters: always f32.
    Vector,
}

impl Role {
    /// The format of a matrix of this role where `weights` is the chosen one.
    pub fn format(self, weights: WeightFormat) -> WeightFormat {
        match self {
            Role::Matrix => weights,
            Role::Output => weights.of_output(),
            Role::Vector => WeightFormat::F32,
        }
    }
}

/// A tensor that the checkpoint must have.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
}

/// Consecutive bytes of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByteRange {
    pub file: String,
    pub start: u64,
    pub end: u64,
}

/// A tensor and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    pub spec: TensorSpec,
    pub file: String,
    pub entry: TensorEntry,
}

impl PlannedTensor {
    /// Rows and columns as they are streamed; a vector of any shape is one row.
    fn dims(&self) -> (usize, usize) {
        match (self.spec.role, &self.spec.shape[..]) {
            (Role::Matrix | Role::Output, &[rows, cols]) => (rows, cols),
            (_, shape) => (1, shape.iter().product()),
        }
    }

    pub fn rows(&self) -> usize {
        self.dims().0
    }

    pub fn cols(&self) -> usize {
        self.dims().1
    }

    /// Bytes of one row in the stored form where `weights` is the chosen format.
    pub fn stored_row_bytes(&self, weights: WeightFormat) -> u64 {
        self.spec.role.format(weights).bytes(1, self.cols())
    }

    pub fn stored_bytes(&self, weights: WeightFormat) -> u64 {
        self.rows() as u64 * self.stored_row_bytes(weights)
    }
}

/// One unit's tensors in the order of their bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedUnit {
    pub unit: Unit,
    pub tensors: Vec<PlannedTensor>,
    pub ranges: Vec<ByteRange>,
    /// Bytes once loaded, and of the stored form.
    pub stored_bytes: u64,
}

/// Where each hybrid layer finds its shared block.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedLayout {
    /// For each hybrid ordinal the index of its shared block.
    pub block_of: Vec<usize>,
    /// For each shared block the layer whose name its tensors carry.
    pub source_layer: Vec<usize>,
}

/// Everything to be read, in execution order.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSchedule {
    pub units: Vec<PlannedUnit>,
    pub shared: SharedLayout,
    pub parameters: u64,
    /// Bytes of the weights once loaded.
    pub weights_bytes: u64,
}

impl Unit {
    /// The unit's name in progress reports.
    pub fn name(self) -> String {
        match self {
            Unit::Embedding => "embed_tokens".into(),
            Unit::SharedBlock(block) => format!("shared_transformer.{block}"),
            Unit::Block(index) => format!("blocks.{index}"),
            Unit::FinalNorm => "final_layernorm".into(),
            Unit::LmHead => "lm_head".into(),
        }
    }
}

impl SharedLayout {
    /// A tied model has `num_mem_blocks` blocks, taken in turn by hybrid ORDER and stored under the first layers that
    /// use them. An untied one has its own block under every hybrid layer; `has` tells which are there.
    pub fn new(config: &Config, has: impl Fn(&str) -> bool) -> SharedLayout {
        let hybrids = config.hybrid_blocks();
        let mut layout = SharedLayout {
            block_of: Vec::new(),
            source_layer: Vec::new(),
        };
        for (ordinal, &layer) in hybrids.iter().enumerate() {
            let own = format!("{}.input_layernorm.weight", shared_prefix(layer));
            let source = if !config.tie_word_embeddings && has(&own) {
                layer
            } else {
                hybrids[ordinal % config.num_mem_blocks]
            };
            let known = layout.source_layer.iter().position(|&l| l == source);
            layout.block_of.push(known.unwrap_or_else(|| {
                layout.source_layer.push(source);
                layout.source_layer.len() - 1
            }));
        }
        layout
    }
}

fn shared_prefix(layer: usize) -> String {
    format!("model.layers.{layer}.shared_transformer")
}

/// The units in execution order: a shared block comes just before the first block that calls it.
pub fn units(config: &Config, shared: &SharedLayout, has_lm_head: bool) -> Vec<Unit> {
    let mut units = vec![Unit::Embedding];
    let mut ordinal = 0;
    for (index, kind) in config.kinds.iter().enumerate() {
        if *kind == BlockKind::Hybrid {
            let block = Unit::SharedBlock(shared.block_of[ordinal]);
            if !units.contains(&block) {
                units.push(block);
            }
            ordinal += 1;
        }
        units.push(Unit::Block(index));
    }
    units.push(Unit::FinalNorm);
    if has_lm_head {
        units.push(Unit::LmHead);
    }
    units
}

/// The tensors of one unit, by the checkpoint's names.
pub fn tensors(config: &Config, shared: &SharedLayout, unit: Unit) -> Vec<TensorSpec> {
    let h = config.hidden_size;
    let mut specs = Specs(Vec::new());
    match unit {
        Unit::Embedding => specs.output("model.embed_tokens", config.vocab_size, h),
        Unit::LmHead => specs.output("lm_head", config.vocab_size, h),
        Unit::FinalNorm => specs.vector("model.final_layernorm.weight", &[h]),
        Unit::SharedBlock(block) => {
            let prefix = shared_prefix(shared.source_layer[block]);
            let (wide, kv, ffn) = (2 * h, config.kv_width(), config.intermediate_size);
            specs.vector(&format!("{prefix}.input_layernorm.weight"), &[wide]);
            specs.matrix(&format!("{prefix}.self_attn.q_proj"), wide, wide);
            specs.matrix(&format!("{prefix}.self_attn.k_proj"), kv, wide);
            specs.matrix(&format!("{prefix}.self_attn.v_proj"), kv, wide);
            specs.matrix(&format!("{prefix}.self_attn.o_proj"), h, wide);
            specs.vector(&format!("{prefix}.pre_ff_layernorm.weight"), &[h]);
            let feed_forward = format!("{prefix}.feed_forward");
            specs.linear(config, &format!("{feed_forward}.gate_up_proj"), 2 * ffn, h);
            specs.linear(config, &format!("{feed_forward}.down_proj"), h, ffn);
        }
        Unit::Block(index) => {
            let mut prefix = format!("model.layers.{index}");
            if config.kinds[index] == BlockKind::Hybrid {
                let hybrids = config.hybrid_blocks();
                let ordinal = hybrids
                    .iter()
                    .position(|&l| l == index)
                    .expect("it is hybrid");
                let source = shared_prefix(shared.source_layer[shared.block_of[ordinal]]);
                specs.adapters(config, &source, ordinal);
                specs.matrix(&format!("{prefix}.linear"), h, h);
                prefix.push_str(".mamba_decoder");
            }
            specs.vector(&format!("{prefix}.input_layernorm.weight"), &[h]);
            let mamba = format!("{prefix}.mamba");
            let (d_inner, conv_dim) = (config.d_inner, config.conv_dim());
            specs.linear(config, &format!("{mamba}.in_proj"), config.d_in_proj(), h);
            specs.vector(
                &format!("{mamba}.conv1d.weight"),
                &[conv_dim, 1, config.d_conv],
            );
            specs.vector(&format!("{mamba}.conv1d.bias"), &[conv_dim]);
            for name in ["A_log", "D", "dt_bias"] {
                specs.vector(&format!("{mamba}.{name}"), &[config.n_mamba_heads]);
            }
            specs.vector(&format!("{mamba}.norm.weight"), &[d_inner]);
            specs.linear(config, &format!("{mamba}.out_proj"), h, d_inner);
        }
    }
    specs.0
}

/// Weights of a model of this configuration, each counted once however often it is used.
pub fn parameters(config: &Config) -> u64 {
    let shared = SharedLayout::new(config, |_| true);
    let units = units(config, &shared, !config.tie_word_embeddings).into_iter();
    let specs = units.flat_map(|unit| tensors(config, &shared, unit));
    specs
        .map(|spec| spec.shape.iter().product::<usize>() as u64)
        .sum()
}

struct Specs(Vec<TensorSpec>);

impl Specs {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        let shape = shape.to_vec();
        self.0.push(TensorSpec { name, shape, role });
    }

    fn vector(&mut self, name: &str, shape: &[usize]) {
        self.push(name.into(), shape, Role::Vector);
    }

    fn output(&mut self, module: &str, rows: usize, cols: usize) {
        self.push(format!("{module}.weight"), &[rows, cols], Role::Output);
    }

    fn matrix(&mut self, module: &str, rows: usize, cols: usize) {
        self.push(format!("{module}.weight"), &[rows, cols], Role::Matrix);
    }

    /// One of the four linears that `add_bias_linear` gives a bias.
    fn linear(&mut self, config: &Config, module: &str, rows: usize, cols: usize) {
        self.matrix(module, rows, cols);
        if config.add_bias_linear {
            self.vector(&format!("{module}.bias"), &[rows]);
        }
    }

    /// The slot of an adapter list is the hybrid ordinal, not the layer's number.
    fn adapters(&mut self, config: &Config, source: &str, slot: usize) {
        let (h, rank) = (config.hidden_size, config.adapter_rank);
        if config.use_shared_attention_adapter {
            for name in ["q", "k", "v"] {
                let list = format!("{source}.self_attn.linear_{name}_adapter_list.{slot}");
                self.matrix(&format!("{list}.0"), rank, 2 * h);
                self.matrix(&format!("{list}.1"), 2 * h, rank);
            }
        }
        let list = format!("{source}.feed_forward.gate_up_proj_adapter_list.{slot}");
        self.matrix(&format!("{list}.0"), rank, h);
        self.matrix(&format!("{list}.1"), 2 * config.intermediate_size, rank);
    }
}

impl LoadSchedule {
    /// Checks that the shards hold every tensor that `config` implies, in its shape and a known dtype, and orders
    /// their bytes.
    pub fn new(config: &Config, shards: &[Shard], format: WeightFormat) -> Result<LoadSchedule> {
        let has = |name: &str| shards.iter().any(|shard| shard.tensors.contains_key(name));
        let shared = SharedLayout::new(config, has);
        let has_lm_head = !config.tie_word_embeddings && has("lm_head.weight");
        let mut schedule = LoadSchedule {
            units: Vec::new(),
            parameters: 0,
            weights_bytes: 0,
            shared,
        };
        for unit in units(config, &schedule.shared, has_lm_head) {
            let specs = tensors(config, &schedule.shared, unit);
            let found = specs.into_iter().map(|spec| find(shards, spec));
            let mut found = found.collect::<Result<Vec<_>>>()?;
            found.sort_by(|a, b| (&a.file, a.entry.start).cmp(&(&b.file, b.entry.start)));
            for tensor in &found {
                schedule.parameters += tensor.spec.shape.iter().product::<usize>() as u64;
            }
            let stored_bytes = found.iter().map(|tensor| tensor.stored_bytes(format)).sum();
            schedule.weights_bytes += stored_bytes;
            schedule.units.push(PlannedUnit {
                unit,
                ranges: merge(&found),
                tensors: found,
                stored_bytes,
            });
        }
        Ok(schedule)
    }
}

fn find(shards: &[Shard], spec: TensorSpec) -> Result<PlannedTensor> {
    let holder = shards.iter().find_map(|shard| {
        let entry = shard.tensors.get(&spec.name)?;
        Some((&shard.file, entry))
    });
    let Some((file, entry)) = holder else {
        let file = match shards {
            [shard] => shard.file.clone(),
            _ => "model.safetensors.index.json".into(),
        };
        let tensor = spec.name;
        return Err(Error::MissingTensor { file, tensor });
    };
    if let Dtype::Other(dtype) = &entry.dtype {
        return Err(Error::Dtype {
            file: file.clone(),
            tensor: spec.name,
            dtype: dtype.clone(),
        });
    }
    if entry.shape != spec.shape {
        return Err(Error::Shape {
            file: file.clone(),
            tensor: spec.name,
            expected: spec.shape,
            found: entry.shape.clone(),
        });
    }
    Ok(PlannedTensor {
        spec,
        file: file.clone(),
        entry: entry.clone(),
    })
}

/// Joins tensors that lie back to back. Gaps are left out, so that the stream holds nothing but the unit's bytes.
pub fn merge(tensors: &[PlannedTensor]) -> Vec<ByteRange> {
    let mut ranges: Vec<ByteRange> = Vec::new();
    for tensor in tensors {
        match ranges.last_mut() {
            Some(last) if last.file == tensor.file && last.end == tensor.entry.start => {
                last.end = tensor.entry.end;
            }
            _ => ranges.push(ByteRange {
                file: tensor.file.clone(),
                start: tensor.entry.start,
                end: tensor.entry.end,
            }),
        }
    }
    ranges
}
