//! Finished tensors become the model's structs. It stands on floor 3, beside `schedule.rs`, whose names it takes;
//! the schedule has checked that every tensor is there and has its shape.

use std::collections::HashMap;

use crate::backend::{Backend, Conv1d, GatedNorm, Linear, Norm, Ssm};
use crate::loader::schedule::{SharedLayout, Unit, tensors};
use crate::model::config::{BlockKind, Config};
use crate::model::mamba2::{Mamba2Mixer, MambaLayer};
use crate::model::shared_block::{Adapter, Adapters, SharedBlock};
use crate::model::{HybridLayer, Layer, Zamba2};

/// The reference's gated norm has this written into it; `rms_norm_eps` does not reach there.
const GATED_NORM_EPS: f32 = 1e-5;

/// The tensors of the unit that is arriving.
pub struct Parts<B: Backend> {
    pub matrices: HashMap<String, B::Weight>,
    pub vectors: HashMap<String, Vec<f32>>,
}

impl<B: Backend> Default for Parts<B> {
    fn default() -> Self {
        Parts {
            matrices: HashMap::new(),
            vectors: HashMap::new(),
        }
    }
}

impl<B: Backend> Parts<B> {
    /// Moves the unit's tensors into its slot of the model.
    pub fn assemble(
        &mut self,
        be: &mut B,
        model: &mut Zamba2<B>,
        shared: &SharedLayout,
        unit: Unit,
    ) {
        let config = model.config.clone();
        let eps = config.rms_norm_eps;
        match unit {
            Unit::Embedding => {
                model.embed_tokens = Some(self.linear(be, "lm_head", "model.embed_tokens"));
            }
            Unit::LmHead => model.lm_head = Some(self.linear(be, "lm_head", "lm_head")),
            Unit::FinalNorm => {
                let name = "model.final_layernorm";
                model.final_layernorm = Some(self.norm(be, "final_layernorm", name, eps));
            }
            Unit::SharedBlock(block) => {
                let specs = tensors(&config, shared, unit);
                let prefix = module_prefix(&specs[0].name, ".input_layernorm.weight");
                model.blocks[block] = Some(self.shared_block(be, &config, prefix));
            }
            Unit::Block(index) => {
                let prefix = format!("model.layers.{index}");
                model.layers[index] = Some(match config.kinds[index] {
                    BlockKind::Mamba => Layer::Mamba(self.mamba(be, &config, &prefix)),
                    BlockKind::Hybrid => {
                        let hybrids = config.hybrid_blocks();
                        let ordinal = hybrids
                            .iter()
                            .position(|&l| l == index)
                            .expect("it is hybrid");
                        let block = shared.block_of[ordinal];
                        let source = shared.source_layer[block];
                        let source = format!("model.layers.{source}.shared_transformer");
                        Layer::Hybrid(HybridLayer {
                            block,
                            adapters: self.adapters(be, &config, &source, ordinal),
                            linear: self.linear(be, "linear", &format!("{prefix}.linear")),
                            mamba: self.mamba(be, &config, &format!("{prefix}.mamba_decoder")),
                        })
                    }
                });
            }
        }
        debug_assert!(
            self.matrices.is_empty() && self.vectors.is_empty(),
            "a tensor has no place"
        );
    }

    fn vector(&mut self, name: &str) -> Vec<f32> {
        self.vectors.remove(name).expect("the schedule checked it")
    }

    fn tensor(&mut self, be: &mut B, name: &str) -> B::Tensor {
        let values = self.vector(name);
        be.constant(1, values.len(), values)
    }

    /// The linear of module `module`, with its bias if the checkpoint has one. `name` is for the profile.
    fn linear(&mut self, be: &mut B, name: &'static str, module: &str) -> Linear<B> {
        let weight = self.matrices.remove(&format!("{module}.weight"));
        let bias = self.vectors.remove(&format!("{module}.bias"));
        Linear {
            name,
            weight: weight.expect("the schedule checked it"),
            bias: bias.map(|values| be.constant(1, values.len(), values)),
        }
    }

    fn norm(&mut self, be: &mut B, name: &'static str, module: &str, eps: f32) -> Norm<B> {
        Norm {
            name,
            weight: self.tensor(be, &format!("{module}.weight")),
            eps,
        }
    }

    fn mamba(&mut self, be: &mut B, config: &Config, prefix: &str) -> MambaLayer<B> {
        let input_layernorm = format!("{prefix}.input_layernorm");
        let prefix = format!("{prefix}.mamba");
        let (conv_dim, d_conv) = (config.conv_dim(), config.d_conv);
        let by_channel = self.vector(&format!("{prefix}.conv1d.weight")); // [conv_dim, 1, d_conv]
        let by_tap =
            (0..d_conv * conv_dim).map(|i| by_channel[i % conv_dim * d_conv + i / conv_dim]);
        let weight = be.constant(d_conv, conv_dim, by_tap.collect()); // [d_conv, conv_dim]
        let a_log = self.vector(&format!("{prefix}.A_log"));
        let a: Vec<f32> = a_log.into_iter().map(|v| -v.exp()).collect();
        MambaLayer {
            input_layernorm: self.norm(
                be,
                "input_layernorm",
                &input_layernorm,
                config.rms_norm_eps,
            ),
            mamba: Mamba2Mixer {
                in_proj: self.linear(be, "mamba.in_proj", &format!("{prefix}.in_proj")),
                conv1d: Conv1d {
                    weight,
                    bias: self.tensor(be, &format!("{prefix}.conv1d.bias")),
                },
                ssm: Ssm {
                    a: be.constant(1, a.len(), a),
                    d: self.tensor(be, &format!("{prefix}.D")),
                    dt_bias: self.tensor(be, &format!("{prefix}.dt_bias")),
                    n_heads: config.n_mamba_heads,
                    head_dim: config.mamba_head_dim(),
                    d_state: config.d_state,
                    n_groups: config.n_groups,
                },
                norm: GatedNorm {
                    weight: self.tensor(be, &format!("{prefix}.norm.weight")),
                    n_groups: config.n_groups,
                    eps: GATED_NORM_EPS,
                },
                out_proj: self.linear(be, "mamba.out_proj", &format!("{prefix}.out_proj")),
                d_inner: config.d_inner,
                d_groups: config.n_groups * config.d_state,
            },
        }
    }

    fn adapter(&mut self, be: &mut B, [a, b]: [&'static str; 2], list: &str) -> Adapter<B> {
        Adapter {
            a: self.linear(be, a, &format!("{list}.0")),
            b: self.linear(be, b, &format!("{list}.1")),
        }
    }

    fn adapters(&mut self, be: &mut B, config: &Config, source: &str, slot: usize) -> Adapters<B> {
        let attention = config.use_shared_attention_adapter.then(|| {
            [
                (
                    "q",
                    [
                        "self_attn.linear_q_adapter.0",
                        "self_attn.linear_q_adapter.1",
                    ],
                ),
                (
                    "k",
                    [
                        "self_attn.linear_k_adapter.0",
                        "self_attn.linear_k_adapter.1",
                    ],
                ),
                (
                    "v",
                    [
                        "self_attn.linear_v_adapter.0",
                        "self_attn.linear_v_adapter.1",
                    ],
                ),
            ]
            .map(|(letter, names)| {
                let list = format!("{source}.self_attn.linear_{letter}_adapter_list.{slot}");
                self.adapter(be, names, &list)
            })
        });
        let list = format!("{source}.feed_forward.gate_up_proj_adapter_list.{slot}");
        Adapters {
            attention,
            gate_up: self.adapter(
                be,
                [
                    "feed_forward.gate_up_proj_adapter.0",
                    "feed_forward.gate_up_proj_adapter.1",
                ],
                &list,
            ),
        }
    }

    fn shared_block(&mut self, be: &mut B, config: &Config, prefix: &str) -> SharedBlock<B> {
        let eps = config.rms_norm_eps;
        let input_layernorm = format!("{prefix}.input_layernorm");
        let pre_ff_layernorm = format!("{prefix}.pre_ff_layernorm");
        let qkv = [
            ("self_attn.q_proj", "q_proj"),
            ("self_attn.k_proj", "k_proj"),
            ("self_attn.v_proj", "v_proj"),
        ];
        SharedBlock {
            input_layernorm: self.norm(
                be,
                "shared_transformer.input_layernorm",
                &input_layernorm,
                eps,
            ),
            qkv: qkv
                .map(|(name, leaf)| self.linear(be, name, &format!("{prefix}.self_attn.{leaf}"))),
            o_proj: self.linear(
                be,
                "self_attn.o_proj",
                &format!("{prefix}.self_attn.o_proj"),
            ),
            pre_ff_layernorm: self.norm(be, "pre_ff_layernorm", &pre_ff_layernorm, eps),
            gate_up_proj: self.linear(
                be,
                "feed_forward.gate_up_proj",
                &format!("{prefix}.feed_forward.gate_up_proj"),
            ),
            down_proj: self.linear(
                be,
                "feed_forward.down_proj",
                &format!("{prefix}.feed_forward.down_proj"),
            ),
            attention: config.attention_shape(),
        }
    }
}

fn module_prefix<'a>(name: &'a str, ending: &str) -> &'a str {
    name.strip_suffix(ending)
        .expect("the first tensor of a shared block is its norm")
}
