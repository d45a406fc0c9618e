//! Zamba2 as mathematics over a [`Backend`]: configuration, blocks, caches and the walk over them. It stands on
//! floor 2 and names no device, no file, no clock and no JavaScript.

pub mod cache;
pub mod config;
pub mod forward;
pub mod mamba2;
pub mod shared_block;

use crate::backend::{Backend, Linear, Norm, Rope};
use crate::model::config::{BlockKind, Config};
use crate::model::mamba2::MambaLayer;
use crate::model::shared_block::{Adapters, SharedBlock};
use crate::profile::NameId;

/// Where the reference's own versions differ, a named choice; the default is the reference of today
/// (transformers 5.23, `modeling_zamba2.py`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NumericSettings {
    /// The lower bound of dt in prefill and continuation; `None` takes `time_step_min` from the configuration.
    pub dt_min_prefill: Option<f32>,
    /// The lower bound of dt in the one-token step, where the reference has none.
    pub dt_min_step: Option<f32>,
    /// Stretch rope_theta when the checkpoint asks for a long context. Versions before 5 did, today's does not.
    pub rescale_rope_for_long_context: bool,
}

/// A block that calls a shared transformer block before its own mixer.
pub struct HybridLayer<B: Backend> {
    /// Which shared block it calls.
    pub block: usize,
    pub adapters: Adapters<B>,
    pub linear: Linear<B>, // [h, h]
    pub mamba: MambaLayer<B>,
}

/// Block `i` of the model.
pub enum Layer<B: Backend> {
    Mamba(MambaLayer<B>),
    Hybrid(HybridLayer<B>),
}

/// The model: slots that the loader fills in the order in which the forward pass needs them.
pub struct Zamba2<B: Backend> {
    pub config: Config,
    pub settings: NumericSettings,
    pub embed_tokens: Option<Linear<B>>, // [vocab, h]
    pub layers: Vec<Option<Layer<B>>>,
    /// Each stored once, however often it is called.
    pub blocks: Vec<Option<SharedBlock<B>>>,
    pub final_layernorm: Option<Norm<B>>,
    /// Only an untied model has one; a tied one multiplies by the embedding.
    pub lm_head: Option<Linear<B>>, // [vocab, h]
    pub rope: Option<Rope>,
    /// `layers.0`, `layers.1`, …: the spans of the profile.
    pub layer_names: Vec<NameId>,
    /// `shared_transformer`: the span around each call of a shared block.
    pub shared_name: NameId,
}

impl<B: Backend> Zamba2<B> {
    /// A model whose slots are empty. `n_shared_blocks` is the number of distinct shared blocks in the checkpoint.
    pub fn empty(
        be: &mut B,
        config: Config,
        settings: NumericSettings,
        n_shared_blocks: usize,
    ) -> Self {
        let n_blocks = config.n_blocks();
        let names = (0..n_blocks).map(|i| be.profiler().intern(&format!("layers.{i}")));
        Zamba2 {
            layer_names: names.collect(),
            shared_name: be.profiler().intern("shared_transformer"),
            embed_tokens: None,
            layers: (0..n_blocks).map(|_| None).collect(),
            blocks: (0..n_shared_blocks).map(|_| None).collect(),
            final_layernorm: None,
            lm_head: None,
            rope: config.use_mem_rope.then(|| rope(&config, &settings)),
            config,
            settings,
        }
    }

    /// The matrix that turns the last hidden state into logits.
    pub fn output_matrix(&self) -> Option<&Linear<B>> {
        self.lm_head.as_ref().or(self.embed_tokens.as_ref())
    }

    /// Whether block `index` and the shared block that it calls have arrived.
    pub fn has_layer(&self, index: usize) -> bool {
        match &self.layers[index] {
            None => false,
            Some(Layer::Mamba(_)) => true,
            Some(Layer::Hybrid(hybrid)) => self.blocks[hybrid.block].is_some(),
        }
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
        .map(|k| 1.0 / theta.powf((2 * k) as f32 / head_dim as f32))
        .collect();
    Rope { inv_freq, head_dim }
}
