//! Turns finished tensors into the model's structs. The plan determines which modules they belong to; the schedule has
//! checked that every tensor exists and has its shape.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::config::Config;
use crate::model::mixer::Mixer;
use crate::model::module::{
    AdapterModules, HybridModules, MixerModules, ModelPlan, ModuleTree, Origin, SharedModules,
    Slot, Unit,
};
use crate::model::shared_transformer::{Adapter, Adapters, SharedTransformer};
use crate::model::{Block, Hybrid, Zamba2};
use crate::ops::Ops;
use crate::ops::device::{Conv1d, Device, GatedNorm, Linear, Norm, Ssm};
use crate::ops::trace::ModuleId;

/// The reference hard-codes this in its gated norm; `rms_norm_eps` does not apply there.
const GATED_NORM_EPS: f32 = 1e-5;

/// The tensors of the current unit, and those of earlier units that a later one also uses, by name.
pub struct Parts<D: Device> {
    pub matrices: HashMap<ModuleId, Arc<D::Weight>>,
    pub vectors: HashMap<(ModuleId, Slot), Vec<f32>>,
    pub earlier_matrices: HashMap<String, Arc<D::Weight>>,
    pub earlier_vectors: HashMap<String, Vec<f32>>,
}

impl<D: Device> Default for Parts<D> {
    fn default() -> Self {
        Parts {
            matrices: HashMap::new(),
            vectors: HashMap::new(),
            earlier_matrices: HashMap::new(),
            earlier_vectors: HashMap::new(),
        }
    }
}

/// The modules whose tensors are part of `unit`.
fn unit_modules(plan: &ModelPlan, unit: Unit) -> &[ModuleId] {
    let found = plan.units.iter().find(|planned| planned.unit == unit);
    found.map_or(&[], |planned| &planned.modules)
}

impl<D: Device> Parts<D> {
    /// Moves the unit's tensors into its slot of the model.
    pub fn assemble(&mut self, ops: &mut Ops<D>, model: &mut Zamba2<D>, unit: Unit) {
        let (plan, config) = (&model.plan, &model.config);
        self.take_earlier(&plan.tree, unit_modules(plan, unit));
        match unit {
            Unit::Embedding => {
                let mut table = self.linear(ops, plan.embed_tokens);
                // The matrix computes logits; embedding look-ups have a module of their own.
                table.module = plan.lm_head;
                model.embed_tokens = Some(table);
            }
            Unit::LmHead => model.lm_head = Some(self.linear(ops, plan.lm_head)),
            Unit::FinalNorm => {
                let norm = self.norm(ops, plan.final_layernorm, config.rms_norm_eps);
                model.final_layernorm = Some(norm);
            }
            Unit::SharedTransformer(index) => {
                let shared = self.shared_transformer(ops, config, plan.shared[index]);
                model.shared_transformers[index] = Some(shared);
            }
            Unit::Block(index) => {
                let modules = plan.blocks[index];
                model.blocks[index] = Some(Block {
                    hybrid: modules.hybrid.map(|modules| self.hybrid(ops, modules)),
                    mixer: self.mixer(ops, config, modules.mixer),
                });
            }
        }
        debug_assert!(
            self.matrices.is_empty() && self.vectors.is_empty(),
            "a tensor has no place"
        );
    }

    /// Adds tensors of earlier units that the unit's modules also use.
    fn take_earlier(&mut self, tree: &ModuleTree, modules: &[ModuleId]) {
        for &id in modules {
            let tensors = tree.get(id).tensors.iter();
            for tensor in tensors.filter(|tensor| tensor.origin == Origin::Earlier) {
                if let Some(weight) = self.earlier_matrices.get(&tensor.name) {
                    self.matrices.insert(id, Arc::clone(weight));
                }
                if let Some(values) = self.earlier_vectors.get(&tensor.name) {
                    self.vectors.insert((id, tensor.slot), values.clone());
                }
            }
        }
    }

    fn vector(&mut self, module: ModuleId, slot: Slot) -> Vec<f32> {
        let values = self.vectors.remove(&(module, slot));
        values.expect("the schedule checked it")
    }

    fn tensor(&mut self, ops: &mut Ops<D>, module: ModuleId, slot: Slot) -> D::Tensor {
        let values = self.vector(module, slot);
        ops.constant(1, values.len(), values) // [1, n]
    }

    /// A linear layer, with its bias if the checkpoint has one.
    fn linear(&mut self, ops: &mut Ops<D>, module: ModuleId) -> Linear<D> {
        let weight = self.matrices.remove(&module);
        let bias = self.vectors.remove(&(module, Slot::Bias));
        Linear {
            module,
            weight: weight.expect("the schedule checked it"),
            bias: bias.map(|values| ops.constant(1, values.len(), values)),
        }
    }

    fn norm(&mut self, ops: &mut Ops<D>, module: ModuleId, eps: f32) -> Norm<D> {
        Norm {
            module,
            weight: self.tensor(ops, module, Slot::Weight),
            eps,
        }
    }

    fn mixer(&mut self, ops: &mut Ops<D>, config: &Config, modules: MixerModules) -> Mixer<D> {
        Mixer {
            input_layernorm: self.norm(ops, modules.input_layernorm, config.rms_norm_eps),
            in_proj: self.linear(ops, modules.in_proj),
            conv1d: self.conv1d(ops, config, modules.conv1d),
            ssm: self.ssm(ops, config, modules.ssm),
            norm: GatedNorm {
                module: modules.norm,
                weight: self.tensor(ops, modules.norm, Slot::Weight),
                n_groups: config.n_groups,
                eps: GATED_NORM_EPS,
            },
            out_proj: self.linear(ops, modules.out_proj),
            d_inner: config.d_inner,
            d_groups: config.n_groups * config.d_state,
        }
    }

    fn conv1d(&mut self, ops: &mut Ops<D>, config: &Config, module: ModuleId) -> Conv1d<D> {
        let (conv_dim, d_conv) = (config.conv_dim(), config.d_conv);
        let by_channel = self.vector(module, Slot::Taps); // [conv_dim, 1, d_conv]
        let by_tap =
            (0..d_conv * conv_dim).map(|i| by_channel[i % conv_dim * d_conv + i / conv_dim]);
        Conv1d {
            module,
            weight: ops.constant(d_conv, conv_dim, by_tap.collect()), // [d_conv, conv_dim]
            bias: self.tensor(ops, module, Slot::Bias),
        }
    }

    fn ssm(&mut self, ops: &mut Ops<D>, config: &Config, module: ModuleId) -> Ssm<D> {
        let a_log = self.vector(module, Slot::ALog);
        let a: Vec<f32> = a_log.into_iter().map(|v| -v.exp()).collect();
        Ssm {
            module,
            a: ops.constant(1, a.len(), a), // [1, H]
            d: self.tensor(ops, module, Slot::D),
            dt_bias: self.tensor(ops, module, Slot::DtBias),
            n_heads: config.n_mamba_heads,
            head_dim: config.mamba_head_dim(),
            d_state: config.d_state,
            n_groups: config.n_groups,
        }
    }

    fn hybrid(&mut self, ops: &mut Ops<D>, modules: HybridModules) -> Hybrid<D> {
        let attention = modules.attention_adapters;
        let attention = attention.map(|of| of.map(|modules| self.adapter(ops, modules)));
        if let Some(adapters) = &attention {
            ops.join_weights(&adapters.each_ref().map(|adapter| &adapter.a));
            ops.join_weights(&adapters.each_ref().map(|adapter| &adapter.b));
        }
        Hybrid {
            shared: modules.shared,
            adapters: Adapters {
                attention,
                gate_up: self.adapter(ops, modules.gate_up_adapter),
            },
            linear: self.linear(ops, modules.linear),
            add: modules.add,
        }
    }

    fn adapter(&mut self, ops: &mut Ops<D>, modules: AdapterModules) -> Adapter<D> {
        Adapter {
            a: self.linear(ops, modules.a),
            b: self.linear(ops, modules.b),
        }
    }

    fn shared_transformer(
        &mut self,
        ops: &mut Ops<D>,
        config: &Config,
        modules: SharedModules,
    ) -> SharedTransformer<D> {
        let (attention, ffn) = (modules.attention, modules.ffn);
        let eps = config.rms_norm_eps;
        let qkv = attention.qkv.map(|module| self.linear(ops, module));
        ops.join_weights(&qkv.each_ref());
        SharedTransformer {
            modules,
            input_layernorm: self.norm(ops, attention.input_layernorm, eps),
            qkv,
            o_proj: self.linear(ops, attention.o_proj),
            pre_ff_layernorm: self.norm(ops, ffn.pre_ff_layernorm, eps),
            gate_up_proj: self.linear(ops, ffn.gate_up_proj),
            down_proj: self.linear(ops, ffn.down_proj),
            attention: config.attention_shape(),
        }
    }
}
