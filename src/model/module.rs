//! The module tree of a model, in the order of the forward pass. The tensors to load, the spans to record, the work to
//! count and the rows of a report are derived from it. A family (`crate::family`) builds it; it holds no weights.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::base::quant::WeightFormat;
use crate::ops::trace::ModuleId;

/// The part of a block that a module's time and work are attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Mamba,
    Attention,
    Ffn,
    Other,
}

/// The op that computes a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// A module that only contains other modules.
    Container,
    Embed,
    Linear,
    RmsNorm,
    GatedRmsNorm,
    CausalConv1d,
    SsmScan,
    Rope,
    AppendKv,
    Attention,
    GeluMul,
    Concat,
    Add,
    Top,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a linear layer, in the chosen weight format.
    Matrix,
    /// The embedding or the output matrix, in [`WeightFormat::of_output`] of the chosen format.
    Output,
    /// Norms, biases, conv1d and the scan's parameters: always f32.
    Vector,
}

impl Role {
    /// The format of a tensor of this role if `weights` is the chosen one.
    pub fn format(self, weights: WeightFormat) -> WeightFormat {
        match self {
            Role::Matrix => weights,
            Role::Output => weights.of_output(),
            Role::Vector => WeightFormat::F32,
        }
    }
}

/// Which parameter of its module a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    Weight,
    Bias,
    /// The weights of a convolution. // [conv_dim, 1, d_conv]
    Taps,
    ALog,
    D,
    DtBias,
}

/// The origin of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Read from the checkpoint.
    Read,
    /// Read, and compared with other tensors of this origin: equal ones are stored once.
    Compared,
    /// An earlier module of the tree has the same tensor.
    Earlier,
}

/// A tensor that the checkpoint must contain.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The reference's name of it; the checkpoint may have a prefix before all names.
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
    pub slot: Slot,
    pub origin: Origin,
}

/// One module. A shared transformer appears once per block that calls it, with the same tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub id: ModuleId,
    pub parent: Option<ModuleId>,
    pub block: Option<usize>,
    /// The checkpoint's path, as if each block had its own copy of shared modules.
    pub path: String,
    /// Name of the span: unique within a block and the same in all blocks. Empty if the module has no span.
    pub span: String,
    /// The reference's class, or a descriptive name for an op that is not a module there.
    pub class: &'static str,
    pub part: Part,
    pub op: OpKind,
    pub tensors: Vec<TensorSpec>,
}

/// All modules; a parent comes before its children.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleTree {
    pub modules: Vec<Module>,
    /// The class of the whole model.
    pub class: &'static str,
    by_span: HashMap<(Option<usize>, String), ModuleId>,
}

impl ModuleTree {
    pub fn new(class: &'static str) -> ModuleTree {
        ModuleTree {
            modules: Vec::new(),
            class,
            by_span: HashMap::new(),
        }
    }

    /// Appends `module` and assigns its id.
    pub fn push(&mut self, module: Module) -> ModuleId {
        let id = u16::try_from(self.modules.len());
        let id = ModuleId(id.expect("a model has fewer than 65,536 modules"));
        if !module.span.is_empty() {
            let key = (module.block, module.span.clone());
            let other = self.by_span.insert(key, id);
            debug_assert_eq!(other, None, "two modules have the span {}", module.span);
        }
        self.modules.push(Module { id, ..module });
        id
    }

    pub fn get(&self, id: ModuleId) -> &Module {
        &self.modules[id.index()]
    }

    /// The last component of a module's path.
    pub fn name(&self, id: ModuleId) -> &str {
        let module = self.get(id);
        let outer = module.parent.map_or("model", |id| &self.get(id).path);
        let inside = module.path.strip_prefix(outer);
        inside
            .and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(&module.path)
    }

    /// The module whose span is named `span` in block `block`, or outside of all blocks.
    pub fn by_span(&self, block: Option<usize>, span: &str) -> Option<ModuleId> {
        self.by_span.get(&(block, span.to_owned())).copied()
    }
}

/// A part of the model that is loaded as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Embedding,
    SharedTransformer(usize),
    Block(usize),
    FinalNorm,
    LmHead,
}

impl Unit {
    /// The unit's name in progress events and in a packed checkpoint.
    pub fn name(self) -> String {
        match self {
            Unit::Embedding => "embed_tokens".into(),
            Unit::SharedTransformer(index) => format!("shared_transformer.{index}"),
            Unit::Block(index) => format!("blocks.{index}"),
            Unit::FinalNorm => "final_layernorm".into(),
            Unit::LmHead => "lm_head".into(),
        }
    }
}

/// The modules of a mixer and of the norm before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerModules {
    pub input_layernorm: ModuleId,
    pub in_proj: ModuleId,
    pub conv1d: ModuleId,
    pub ssm: ModuleId,
    pub norm: ModuleId,
    pub out_proj: ModuleId,
}

/// The modules of a LoRA adapter, B·(A·x).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterModules {
    pub a: ModuleId,
    pub b: ModuleId,
}

/// The modules of the first half of a shared transformer: attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionModules {
    pub concat: ModuleId,
    pub input_layernorm: ModuleId,
    pub qkv: [ModuleId; 3],
    pub rope: ModuleId,
    pub append_kv: ModuleId,
    pub attention: ModuleId,
    pub o_proj: ModuleId,
}

/// The modules of its second half: the feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedForwardModules {
    pub pre_ff_layernorm: ModuleId,
    pub gate_up_proj: ModuleId,
    pub act_fn: ModuleId,
    pub down_proj: ModuleId,
}

/// The modules of a shared transformer as called by one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharedModules {
    /// The module of the whole call.
    pub call: ModuleId,
    pub attention: AttentionModules,
    pub ffn: FeedForwardModules,
}

/// The modules of a hybrid block besides its mixer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HybridModules {
    /// Index of the shared transformer that it calls.
    pub shared: usize,
    pub call: SharedModules,
    /// For q, k and v.
    pub attention_adapters: Option<[AdapterModules; 3]>,
    pub gate_up_adapter: AdapterModules,
    pub linear: ModuleId,
    pub add: ModuleId,
}

impl HybridModules {
    /// The linear layers of all adapters.
    pub fn adapters(&self) -> Vec<ModuleId> {
        let adapters = self.attention_adapters.into_iter().flatten();
        let adapters = adapters.chain([self.gate_up_adapter]);
        adapters
            .flat_map(|adapter| [adapter.a, adapter.b])
            .collect()
    }
}

/// The modules of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockModules {
    pub block: ModuleId,
    pub mixer: MixerModules,
    pub hybrid: Option<HybridModules>,
}

/// The modules of a unit, in the order of the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitModules {
    pub unit: Unit,
    /// The modules whose tensors are loaded with the unit, except tensors of [`Origin::Earlier`].
    pub modules: Vec<ModuleId>,
}

/// The module tree, and the ids of the modules by their role in the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    pub tree: ModuleTree,
    pub units: Vec<UnitModules>,
    pub embed_tokens: ModuleId,
    pub blocks: Vec<BlockModules>,
    /// For each shared transformer, its modules below the first block that calls it.
    pub shared: Vec<SharedModules>,
    pub final_layernorm: ModuleId,
    /// It has a tensor also where the output matrix is the embedding: [`Origin::Earlier`] with the embedding's name.
    pub lm_head: ModuleId,
    pub sampling: ModuleId,
}

impl ModelPlan {
    /// The tensors that are read with a unit, each with its module.
    pub fn tensors(&self, unit: &UnitModules) -> Vec<(ModuleId, &TensorSpec)> {
        let modules = unit.modules.iter();
        let tensors =
            modules.flat_map(|&id| self.tree.get(id).tensors.iter().map(move |t| (id, t)));
        tensors
            .filter(|(_, tensor)| tensor.origin != Origin::Earlier)
            .collect()
    }

    /// Every tensor of the checkpoint, in the order in which a forward pass needs them.
    pub fn all_tensors(&self) -> Vec<&TensorSpec> {
        let tensors = self.units.iter().flat_map(|unit| self.tensors(unit));
        tensors.map(|(_, spec)| spec).collect()
    }

    /// For each block, the shared transformer that it calls.
    pub fn shared_of_block(&self) -> Vec<Option<usize>> {
        let hybrids = self.blocks.iter().map(|block| block.hybrid);
        hybrids.map(|hybrid| hybrid.map(|h| h.shared)).collect()
    }

    /// Number of weights, shared ones counted once.
    pub fn parameters(&self) -> u64 {
        let sizes = self.all_tensors().into_iter().map(|spec| &spec.shape);
        sizes
            .map(|shape| shape.iter().map(|&n| n as u64).product::<u64>())
            .sum()
    }
}
