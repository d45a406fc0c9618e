//! Zamba2: the names of its tensors and modules, and which block calls which shared transformer (reference:
//! `modeling_zamba2.py`). No file outside of this module spells the names of tensors. It reads no bytes and
//! computes nothing.

pub mod name_prefix;
mod tying;

use crate::family::zamba2::tying::Tying;
use crate::model::config::{BlockKind, Config};
use crate::model::module::{
    AdapterModules, AttentionModules, BlockModules, FeedForwardModules, HybridModules,
    MixerModules, ModelPlan, Module, ModuleTree, OpKind, Origin, Part, Role, SharedModules, Slot,
    TensorSpec, Unit, UnitModules,
};
use crate::ops::trace::ModuleId;

const EMBEDDING: &str = "model.embed_tokens.weight";
const LM_HEAD: &str = "lm_head.weight";
const BLOCK_SPANS: &str = "layers.";

fn block_span(block: usize) -> String {
    format!("{BLOCK_SPANS}{block}")
}

/// The block whose own span has this name.
pub fn block_of_span(span: &str) -> Option<usize> {
    span.strip_prefix(BLOCK_SPANS)?.parse().ok()
}

const BLOCK_PATHS: &str = "model.layers.";

fn block_path(block: usize) -> String {
    format!("{BLOCK_PATHS}{block}")
}

/// The block whose path the name of a tensor begins with.
fn block_of_name(name: &str) -> Option<usize> {
    let (block, _) = name.strip_prefix(BLOCK_PATHS)?.split_once('.')?;
    block.parse().ok()
}

fn shared_path(block: usize) -> String {
    format!("{}.shared_transformer", block_path(block))
}

/// The plan of a model of these sizes. `has` returns whether its checkpoint has a tensor, where the sizes leave a
/// choice.
pub fn plan(config: &Config, has: impl Fn(&str) -> bool) -> ModelPlan {
    let mut builder = Builder {
        config,
        tree: ModuleTree::new("Zamba2ForCausalLM"),
        block: None,
        units: Vec::new(),
        tying: Tying::new(config, &has),
        shared: Vec::new(),
    };
    let path = "model.embed_tokens";
    let embed_tokens = builder.outside("embed_tokens", path, "Embedding", OpKind::Embed);
    builder.output(embed_tokens, path);
    builder.unit(Unit::Embedding, embed_tokens);
    let mut blocks: Vec<BlockModules> = Vec::new();
    let mut ordinal = 0;
    for (index, kind) in config.kinds.iter().enumerate() {
        let hybrid = (*kind == BlockKind::Hybrid).then(|| {
            ordinal += 1;
            ordinal - 1
        });
        blocks.push(builder.block(index, hybrid));
    }
    builder.block = None;
    let norm = "model.final_layernorm";
    let final_layernorm =
        builder.outside("final_layernorm", norm, "Zamba2RMSNorm", OpKind::RmsNorm);
    builder.vector(final_layernorm, norm, Slot::Weight, &[config.hidden_size]);
    builder.unit(Unit::FinalNorm, final_layernorm);
    let lm_head = builder.outside("lm_head", "lm_head", "Linear", OpKind::Linear);
    builder.output(lm_head, "lm_head");
    // A tied output matrix uses the embedding's weight.
    if builder.reads_any(&[lm_head]) {
        builder.unit(Unit::LmHead, lm_head);
    }
    let sampling = builder.outside("sampling", "sampling", "Sampling", OpKind::Top);
    ModelPlan {
        shared: builder.shared.into_iter().map(|(call, _)| call).collect(),
        tree: builder.tree,
        units: builder.units,
        embed_tokens,
        blocks,
        final_layernorm,
        lm_head,
        sampling,
    }
}

/// The plan for a checkpoint that stores exactly the tensors that the reference's `save_pretrained` writes for this
/// configuration.
pub fn full_plan(config: &Config) -> ModelPlan {
    let tied = config.tie_word_embeddings;
    plan(config, |name| {
        !tied || tying::is_first_of_group(config, name)
    })
}

struct Builder<'a> {
    config: &'a Config,
    tree: ModuleTree,
    /// The block that modules are added to.
    block: Option<usize>,
    units: Vec<UnitModules>,
    tying: Tying<'a>,
    /// The modules of each shared transformer and the names of its tensors. Calls with the same names are calls of one.
    shared: Vec<(SharedModules, Vec<String>)>,
}

/// The place of a new module: its `parent`, its part of the block, and the prefixes of its names.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: ModuleId,
    part: Part,
    /// Of span names: the path inside the block without what surrounds a module in hybrid blocks only.
    span: &'a str,
}

impl Builder<'_> {
    fn push(
        &mut self,
        parent: Option<ModuleId>,
        [span, path]: [&str; 2],
        class: &'static str,
        part: Part,
        op: OpKind,
    ) -> ModuleId {
        self.tree.push(Module {
            id: ModuleId::default(),
            parent,
            block: self.block,
            path: path.into(),
            span: span.into(),
            class,
            part,
            op,
            tensors: Vec::new(),
        })
    }

    /// A module outside of all blocks.
    fn outside(&mut self, span: &str, path: &str, class: &'static str, op: OpKind) -> ModuleId {
        self.push(None, [span, path], class, Part::Other, op)
    }

    /// A module inside another one. The path's last step is that of the span name.
    fn inside(&mut self, place: Place, leaf: &str, class: &'static str, op: OpKind) -> ModuleId {
        let path = format!("{}.{leaf}", self.tree.get(place.parent).path);
        let span = match (op, place.span) {
            // Containers have no spans of their own.
            (OpKind::Container, _) => String::new(),
            (_, "") => leaf.into(),
            (_, prefix) => format!("{prefix}.{leaf}"),
        };
        self.push(Some(place.parent), [&span, &path], class, place.part, op)
    }

    /// `name` is the tensor's own name, before tying is resolved.
    fn tensor(&mut self, id: ModuleId, name: String, shape: Vec<usize>, role: Role, slot: Slot) {
        let (name, origin) = self.tying.resolve(name);
        self.tree.modules[id.index()].tensors.push(TensorSpec {
            name,
            shape,
            role,
            slot,
            origin,
        });
    }

    /// `name` is the tensor's path in the checkpoint or, for a weight or bias, that of its module.
    fn vector(&mut self, id: ModuleId, name: &str, slot: Slot, shape: &[usize]) {
        let name = match slot {
            Slot::Weight | Slot::Taps => format!("{name}.weight"),
            Slot::Bias => format!("{name}.bias"),
            Slot::ALog => format!("{name}.A_log"),
            Slot::D => format!("{name}.D"),
            Slot::DtBias => format!("{name}.dt_bias"),
        };
        self.tensor(id, name, shape.to_vec(), Role::Vector, slot);
    }

    fn matrix(&mut self, id: ModuleId, name: &str, role: Role, rows: usize, cols: usize) {
        let name = format!("{name}.weight");
        self.tensor(id, name, vec![rows, cols], role, Slot::Weight);
    }

    fn output(&mut self, id: ModuleId, name: &str) {
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        self.matrix(id, name, Role::Output, rows, cols);
    }

    /// A unit of modules from `first` to the last one so far.
    fn unit(&mut self, unit: Unit, first: ModuleId) {
        let end = self.tree.modules.len() as u16;
        let modules = (first.0..end).map(ModuleId).collect();
        self.units.push(UnitModules { unit, modules });
    }

    /// Block `index`. `hybrid` is its ordinal among the hybrid blocks, which is also its slot of adapters.
    fn block(&mut self, index: usize, hybrid: Option<usize>) -> BlockModules {
        self.block = Some(index);
        let (span, path) = (block_span(index), block_path(index));
        let class = match hybrid {
            Some(_) => "Zamba2HybridLayer",
            None => "Zamba2MambaDecoderLayer",
        };
        let block = self.push(None, [&span, &path], class, Part::Other, OpKind::Container);
        let Some(ordinal) = hybrid else {
            let mixer = self.mixer(block, &path);
            self.unit(Unit::Block(index), block);
            return BlockModules {
                block,
                mixer,
                hybrid: None,
            };
        };
        let hybrid = self.hybrid(block, ordinal);
        let adapters = hybrid.adapters();
        let first = hybrid.linear;
        let class = "Zamba2MambaDecoderLayer";
        let place = Place {
            parent: block,
            part: Part::Mamba,
            span: "",
        };
        let decoder = self.inside(place, "mamba_decoder", class, OpKind::Container);
        let mixer = self.mixer(decoder, &format!("{path}.mamba_decoder"));
        self.unit(Unit::Block(index), first);
        if let Some(unit) = self.units.last_mut() {
            unit.modules.splice(0..0, adapters);
        }
        BlockModules {
            block,
            mixer,
            hybrid: Some(hybrid),
        }
    }

    /// The mixer inside `parent`, and the norm before it; `path` is `parent`'s.
    fn mixer(&mut self, parent: ModuleId, path: &str) -> MixerModules {
        let config = self.config;
        let (h, d_inner, conv_dim) = (config.hidden_size, config.d_inner, config.conv_dim());
        let place = Place {
            parent,
            part: Part::Mamba,
            span: "",
        };
        let input_layernorm = self.rms_norm(place, path, "input_layernorm", h);
        let mamba = self.inside(place, "mamba", "Zamba2MambaMixer", OpKind::Container);
        let path = format!("{path}.mamba");
        let place = Place {
            parent: mamba,
            span: "mamba",
            ..place
        };
        let in_proj = self.linear(place, &path, "in_proj", config.d_in_proj(), h);
        let conv1d = self.inside(place, "conv1d", "Conv1d", OpKind::CausalConv1d);
        let name = format!("{path}.conv1d");
        self.vector(conv1d, &name, Slot::Taps, &[conv_dim, 1, config.d_conv]);
        self.vector(conv1d, &name, Slot::Bias, &[conv_dim]);
        // A_log, D and dt_bias have no module below the mixer.
        let ssm = self.inside(place, "ssm", "SSM scan", OpKind::SsmScan);
        for slot in [Slot::ALog, Slot::D, Slot::DtBias] {
            self.vector(ssm, &path, slot, &[config.n_mamba_heads]);
        }
        let norm = self.inside(place, "norm", "Zamba2RMSNormGated", OpKind::GatedRmsNorm);
        self.vector(norm, &format!("{path}.norm"), Slot::Weight, &[d_inner]);
        let out_proj = self.linear(place, &path, "out_proj", h, d_inner);
        MixerModules {
            input_layernorm,
            in_proj,
            conv1d,
            ssm,
            norm,
            out_proj,
        }
    }

    fn rms_norm(&mut self, place: Place, path: &str, leaf: &str, d: usize) -> ModuleId {
        let id = self.inside(place, leaf, "Zamba2RMSNorm", OpKind::RmsNorm);
        self.vector(id, &format!("{path}.{leaf}"), Slot::Weight, &[d]);
        id
    }

    /// One of the four linears that `add_bias_linear` gives a bias.
    fn linear(
        &mut self,
        place: Place,
        path: &str,
        leaf: &str,
        rows: usize,
        cols: usize,
    ) -> ModuleId {
        let id = self.inside(place, leaf, "Linear", OpKind::Linear);
        let name = format!("{path}.{leaf}");
        self.matrix(id, &name, Role::Matrix, rows, cols);
        if self.config.add_bias_linear {
            self.vector(id, &name, Slot::Bias, &[rows]);
        }
        id
    }

    /// The modules of a hybrid block around its mixer: a call of a shared transformer with the adapters of slot `slot`.
    /// If the call is the first one of its weights, they become a unit.
    fn hybrid(&mut self, block: ModuleId, slot: usize) -> HybridModules {
        let h = self.config.hidden_size;
        let block_path = self.tree.get(block).path.clone();
        let path = format!("{block_path}.shared_transformer");
        let names = ["shared_transformer", &path];
        let class = "Zamba2AttentionDecoderLayer";
        let call = self.push(Some(block), names, class, Part::Other, OpKind::Container);
        let (attention, attention_adapters) = self.attention(call, &path, slot);
        let (ffn, gate_up_adapter) = self.feed_forward(call, &path, slot);
        let inside: Vec<ModuleId> = (call.0..self.tree.modules.len() as u16)
            .map(ModuleId)
            .collect();
        let place = Place {
            parent: block,
            part: Part::Other,
            span: "",
        };
        let linear = self.inside(place, "linear", "Linear", OpKind::Linear);
        let name = format!("{block_path}.linear");
        self.matrix(linear, &name, Role::Matrix, h, h);
        let mut modules = HybridModules {
            shared: 0,
            call: SharedModules {
                call,
                attention,
                ffn,
            },
            attention_adapters,
            gate_up_adapter,
            linear,
            add: self.inside(place, "add", "Add", OpKind::Add),
        };
        let adapters = modules.adapters();
        let inside = inside.into_iter().filter(|id| !adapters.contains(id));
        modules.shared = self.shared(modules.call, inside.collect());
        modules
    }

    /// The index of the shared transformer whose tensors the modules `inside` a call have.
    fn shared(&mut self, call: SharedModules, inside: Vec<ModuleId>) -> usize {
        let tensors = inside.iter().flat_map(|&id| &self.tree.get(id).tensors);
        let names: Vec<String> = tensors.map(|tensor| tensor.name.clone()).collect();
        let known = self.shared.iter().position(|(_, known)| *known == names);
        known.unwrap_or_else(|| {
            let index = self.shared.len();
            self.units.push(UnitModules {
                unit: Unit::SharedTransformer(index),
                modules: inside,
            });
            self.shared.push((call, names));
            index
        })
    }

    /// Whether one of the modules has a tensor that is read for it.
    fn reads_any(&self, modules: &[ModuleId]) -> bool {
        let mut tensors = modules.iter().flat_map(|&id| &self.tree.get(id).tensors);
        tensors.any(|tensor| tensor.origin != Origin::Earlier)
    }

    fn attention(
        &mut self,
        call: ModuleId,
        path: &str,
        slot: usize,
    ) -> (AttentionModules, Option<[AdapterModules; 3]>) {
        let config = self.config;
        let (h, kv) = (config.hidden_size, config.kv_width());
        let d_concat = 2 * h;
        let place = Place {
            parent: call,
            part: Part::Attention,
            span: "shared_transformer",
        };
        let concat = self.inside(place, "concat", "Concat", OpKind::Concat);
        let input_layernorm = self.rms_norm(place, path, "input_layernorm", d_concat);

        let self_attn = self.inside(place, "self_attn", "Zamba2Attention", OpKind::Container);
        let attn = Place {
            parent: self_attn,
            span: "self_attn",
            ..place
        };
        let stored = format!("{path}.self_attn");
        let projection = |builder: &mut Self, leaf: &str, rows: usize| {
            let id = builder.inside(attn, leaf, "Linear", OpKind::Linear);
            builder.matrix(
                id,
                &format!("{stored}.{leaf}"),
                Role::Matrix,
                rows,
                d_concat,
            );
            id
        };
        let qkv = [("q_proj", d_concat), ("k_proj", kv), ("v_proj", kv)]
            .map(|(leaf, rows)| projection(self, leaf, rows));
        let attention_adapters = config.use_shared_attention_adapter.then(|| {
            ["linear_q_adapter", "linear_k_adapter", "linear_v_adapter"]
                .map(|name| self.adapter(attn, &stored, name, slot, [d_concat, d_concat]))
        });
        let rope = self.inside(attn, "rope", "Rotary", OpKind::Rope);
        let append_kv = self.inside(attn, "append_kv", "KV append", OpKind::AppendKv);
        let attention = self.inside(attn, "attention", "Attention kernel", OpKind::Attention);
        let o_proj = projection(self, "o_proj", h);

        let modules = AttentionModules {
            concat,
            input_layernorm,
            qkv,
            rope,
            append_kv,
            attention,
            o_proj,
        };
        (modules, attention_adapters)
    }

    fn feed_forward(
        &mut self,
        call: ModuleId,
        path: &str,
        slot: usize,
    ) -> (FeedForwardModules, AdapterModules) {
        let (h, d_ffn) = (self.config.hidden_size, self.config.intermediate_size);
        let place = Place {
            parent: call,
            part: Part::Ffn,
            span: "",
        };
        let pre_ff_layernorm = self.rms_norm(place, path, "pre_ff_layernorm", h);
        let feed_forward = self.inside(place, "feed_forward", "Zamba2MLP", OpKind::Container);
        let place = Place {
            parent: feed_forward,
            span: "feed_forward",
            ..place
        };
        let stored = format!("{path}.feed_forward");
        let gate_up_proj = self.linear(place, &stored, "gate_up_proj", 2 * d_ffn, h);
        let name = "gate_up_proj_adapter";
        let gate_up_adapter = self.adapter(place, &stored, name, slot, [h, 2 * d_ffn]);
        let act_fn = self.inside(place, "act_fn", "GELUActivation", OpKind::GeluMul);
        let modules = FeedForwardModules {
            pre_ff_layernorm,
            gate_up_proj,
            act_fn,
            down_proj: self.linear(place, &stored, "down_proj", h, d_ffn),
        };
        (modules, gate_up_adapter)
    }

    /// The slot of an adapter list is the hybrid ordinal, not the block's number. Spans leave list and slot out.
    fn adapter(
        &mut self,
        place: Place,
        stored: &str,
        name: &str,
        slot: usize,
        [d_in, d_out]: [usize; 2],
    ) -> AdapterModules {
        let rank = self.config.adapter_rank;
        let leaf = format!("{name}_list.{slot}");
        let list = self.inside(place, &leaf, "Sequential", OpKind::Container);
        let span = format!("{}.{name}", place.span);
        let inside = Place {
            parent: list,
            span: &span,
            ..place
        };
        let stored = format!("{stored}.{leaf}");
        let [a, b] = [("0", rank, d_in), ("1", d_out, rank)].map(|(leaf, rows, cols)| {
            let id = self.inside(inside, leaf, "Linear", OpKind::Linear);
            self.matrix(id, &format!("{stored}.{leaf}"), Role::Matrix, rows, cols);
            id
        });
        AdapterModules { a, b }
    }
}
