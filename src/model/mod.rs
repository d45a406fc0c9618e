//! Zamba2 as mathematics over [`Ops`]: sizes, module tree, blocks, caches and the forward pass. It contains no device
//! code, no checkpoint tensor names, no I/O, no clock and no JavaScript.

pub mod cache;
pub mod config;
pub mod drafts;
pub mod forward;
pub mod mixer;
pub mod module;
pub mod shared_transformer;

use std::sync::Arc;

use crate::model::config::{BlockKind, Config};
use crate::model::mixer::Mixer;
use crate::model::module::ModelPlan;
use crate::model::shared_transformer::{Adapters, SharedTransformer};
use crate::ops::Ops;
use crate::ops::device::{Device, Linear, Norm, Rope};
use crate::ops::trace::ModuleId;

/// If the lower bounds of dt in prefill and in decode steps differ by more than this, a prompt does not continue from a
/// state that decode steps have computed. The value is the `time_step_min` of the published checkpoints.
const MAX_DT_MIN_GAP: f32 = 1e-3;

/// Choices where versions of the reference differ. The default is the current one (transformers 5.23,
/// `modeling_zamba2.py`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NumericSettings {
    /// Lower bound of dt in prefill and continuation; `None` uses the configuration's `time_step_min`.
    pub dt_min_prefill: Option<f32>,
    /// Lower bound of dt in the one-token step, where the reference has none.
    pub dt_min_step: Option<f32>,
    /// Scale rope_theta if the checkpoint asks for a long context. The reference did so before version 5.
    pub rescale_rope_for_long_context: bool,
}

/// The part of a hybrid block before its mixer: a call of a shared transformer, whose output is added to the mixer's
/// input.
pub struct Hybrid<D: Device> {
    /// Index of the shared transformer.
    pub shared: usize,
    pub adapters: Adapters<D>,
    pub linear: Linear<D>, // [h, h]
    /// The module of the sum of stream and linear output.
    pub add: ModuleId,
}

/// Block `i` of the model.
pub struct Block<D: Device> {
    /// `None` in a plain block.
    pub hybrid: Option<Hybrid<D>>,
    pub mixer: Mixer<D>,
}

/// The model. The loader fills the optional fields in the order in which the forward pass needs them.
pub struct Zamba2<D: Device> {
    pub config: Config,
    pub settings: NumericSettings,
    pub plan: Arc<ModelPlan>,
    pub embed_tokens: Option<Linear<D>>, // [vocab, h]
    pub blocks: Vec<Option<Block<D>>>,
    /// Each stored once, however many blocks call it.
    pub shared_transformers: Vec<Option<SharedTransformer<D>>>,
    pub final_layernorm: Option<Norm<D>>,
    /// Present only if the checkpoint has one beside the embedding; the same weight if both are equal.
    pub lm_head: Option<Linear<D>>, // [vocab, h]
    pub rope: Option<Rope>,
    /// The module of each block, for its span.
    pub block_modules: Vec<ModuleId>,
}

impl<D: Device> Zamba2<D> {
    /// A model without weights. Registers the names of its modules with `ops` for spans.
    pub fn empty(
        ops: &mut Ops<D>,
        config: Config,
        settings: NumericSettings,
        plan: Arc<ModelPlan>,
    ) -> Self {
        let spans = plan.tree.modules.iter().map(|module| &module.span[..]);
        ops.profiler().set_modules(spans);
        Zamba2 {
            block_modules: plan.blocks.iter().map(|modules| modules.block).collect(),
            embed_tokens: None,
            blocks: plan.blocks.iter().map(|_| None).collect(),
            shared_transformers: plan.shared.iter().map(|_| None).collect(),
            final_layernorm: None,
            lm_head: None,
            rope: config.use_mem_rope.then(|| rope(&config, &settings)),
            plan,
            config,
            settings,
        }
    }

    /// The matrix that computes logits from the last hidden state, once loaded.
    pub fn output_matrix(&self) -> Option<&Linear<D>> {
        self.lm_head.as_ref().or(self.embed_tokens.as_ref())
    }

    /// Whether block `index` and the shared transformer that it calls are loaded.
    pub fn has_block(&self, index: usize) -> bool {
        let block = self.blocks[index].as_ref();
        block.is_some_and(|block| {
            let shared = block.hybrid.as_ref().map(|hybrid| hybrid.shared);
            shared.is_none_or(|shared| self.shared_transformers[shared].is_some())
        })
    }

    /// The lower bound of dt in a pass over a prompt.
    pub fn dt_min_prefill(&self) -> f32 {
        let own = self.settings.dt_min_prefill;
        own.unwrap_or(self.config.time_step_min)
    }

    /// The lower bound of dt in a decode step.
    pub fn dt_min_step(&self) -> f32 {
        self.settings.dt_min_step.unwrap_or(0.0)
    }

    /// Whether a prompt may continue from a state that decode steps have computed. The two bounds of dt differ, and a
    /// difference above 0.001 changes the text (`docs/conversations.md` has the measurements).
    pub fn steps_agree_with_prefill(&self) -> bool {
        (self.dt_min_prefill() - self.dt_min_step()).abs() <= MAX_DT_MIN_GAP
    }

    pub fn kind(&self, index: usize) -> BlockKind {
        self.config.kinds[index]
    }
}

/// Frequencies in f32, as the reference computes them (`Zamba2RotaryEmbedding`).
fn rope(config: &Config, settings: &NumericSettings) -> Rope {
    let head_dim = config.head_dim();
    let mut theta = config.rope_theta;
    if settings.rescale_rope_for_long_context && config.use_long_context {
        let d = head_dim as f32;
        theta *= 8f32.powf(d / (d - 2.0));
    }
    let inv_freq = (0..head_dim / 2)
        .map(|k| 1.0 / theta.powf((2 * k) as f32 / head_dim as f32) / config.rope_factor)
        .collect();
    Rope { inv_freq, head_dim }
}
