//! The transformer whose weights several hybrid blocks share, with the LoRA adapters that are specific to each call
//! (reference: `Zamba2AttentionDecoderLayer`). It has no residual connection: its output is only added to the mixer
//! input of the calling block.

use crate::model::forward::Scratch;
use crate::model::module::SharedModules;
use crate::ops::Ops;
use crate::ops::device::{AttentionShape, Device, KvCache, Linear, Norm, Rope, Tensor};
use crate::ops::fused::{AppendStep, FusedOp, GeluStep, NormLinears, RowInput};

/// A low-rank correction B·(A·x), one per call of the shared transformer.
pub struct Adapter<D: Device> {
    pub a: Linear<D>, // [rank, d_in]
    pub b: Linear<D>, // [d_out, rank]
}

/// The adapters of one hybrid block.
pub struct Adapters<D: Device> {
    /// q, k, v; only with `use_shared_attention_adapter`.
    pub attention: Option<[Adapter<D>; 3]>,
    pub gate_up: Adapter<D>,
}

pub struct SharedTransformer<D: Device> {
    pub modules: SharedModules,
    pub input_layernorm: Norm<D>,  // [2h]
    pub qkv: [Linear<D>; 3],       // [2h, 2h], [kv_width, 2h], [kv_width, 2h]
    pub o_proj: Linear<D>,         // [h, 2h]
    pub pre_ff_layernorm: Norm<D>, // [h]
    pub gate_up_proj: Linear<D>,   // [2I, h]; gate rows first
    pub down_proj: Linear<D>,      // [h, I]
    pub attention: AttentionShape,
}

/// The input of a call: the residual stream and the input embeddings, which are concatenated.
pub struct SharedInput<'a, D: Device> {
    pub stream: &'a D::Tensor,    // [T, h]
    pub embedding: &'a D::Tensor, // [T, h]
}

impl<D: Device> SharedTransformer<D> {
    /// Computes the output [T, h] into `s.shared_out`.
    pub fn forward(
        &self,
        ops: &mut Ops<D>,
        input: SharedInput<D>,
        adapters: &Adapters<D>,
        rope: Option<&Rope>,
        kv: &mut KvCache<D>,
        s: &mut Scratch<D>,
    ) {
        ops.scope(self.modules.call, |ops| {
            self.attention(ops, input, adapters, rope, kv, s);
            self.feed_forward(ops, adapters, s);
        });
    }

    fn attention(
        &self,
        ops: &mut Ops<D>,
        input: SharedInput<D>,
        adapters: &Adapters<D>,
        rope: Option<&Rope>,
        kv: &mut KvCache<D>,
        s: &mut Scratch<D>,
    ) {
        let modules = &self.modules.attention;
        if input.stream.rows() == 1 && self.fuses_attention(ops, adapters) {
            self.qkv_step(ops, input, adapters, rope, kv, s);
        } else {
            self.qkv(ops, input, adapters, rope, kv, s);
        }
        let shape = &self.attention;
        ops.attention(modules.attention, shape, &s.q, kv, &mut s.attn_out); // [T, 2h]
        ops.linear(&self.o_proj, &s.attn_out, &mut s.shared_out); // [T, h]
    }

    /// Queries into `s.q`, keys and values into the cache.
    fn qkv(
        &self,
        ops: &mut Ops<D>,
        input: SharedInput<D>,
        adapters: &Adapters<D>,
        rope: Option<&Rope>,
        kv: &mut KvCache<D>,
        s: &mut Scratch<D>,
    ) {
        let modules = &self.modules.attention;
        ops.concat(modules.concat, input.stream, input.embedding, &mut s.concat); // [T, 2h]
        ops.rms_norm(&self.input_layernorm, &s.concat, &mut s.concat_normed); // [T, 2h]

        let [q_proj, k_proj, v_proj] = &self.qkv;
        ops.linear(q_proj, &s.concat_normed, &mut s.q); // [T, 2h]
        ops.linear(k_proj, &s.concat_normed, &mut s.k); // [T, kv_width]
        ops.linear(v_proj, &s.concat_normed, &mut s.v); // [T, kv_width]
        if let Some([q, k, v]) = &adapters.attention {
            for (adapter, y) in [(q, &mut s.q), (k, &mut s.k), (v, &mut s.v)] {
                ops.linear(&adapter.a, &s.concat_normed, &mut s.rank); // [T, rank]
                ops.linear_add(&adapter.b, &s.rank, y);
            }
        }
        if let Some(rope) = rope {
            ops.rope(modules.rope, rope, kv.len, &mut [&mut s.q, &mut s.k]);
        }
        ops.append_kv(modules.append_kv, &s.k, &s.v, kv);
    }

    fn fuses_attention(&self, ops: &Ops<D>, adapters: &Adapters<D>) -> bool {
        let [q, k, v] = &self.qkv;
        match &adapters.attention {
            Some([of_q, of_k, of_v]) => {
                ops.fuses_norm(&[q, k, v, &of_q.a, &of_k.a, &of_v.a], 1)
                    && ops.fuses_adapters(&[&of_q.b, &of_k.b, &of_v.b])
            }
            None => ops.fuses_norm(&[q, k, v], 1),
        }
    }

    /// [`SharedTransformer::qkv`] of one row in two kernels.
    fn qkv_step(
        &self,
        ops: &mut Ops<D>,
        input: SharedInput<D>,
        adapters: &Adapters<D>,
        rope: Option<&Rope>,
        kv: &mut KvCache<D>,
        s: &mut Scratch<D>,
    ) {
        let modules = &self.modules.attention;
        let [q, k, v] = &self.qkv;
        let attention = adapters.attention.as_ref();
        let linears: &[&Linear<D>] = match attention {
            Some([of_q, of_k, of_v]) => &[q, k, v, &of_q.a, &of_k.a, &of_v.a],
            None => &[q, k, v],
        };
        ops.fused(FusedOp::NormLinears(NormLinears {
            norm: (&self.input_layernorm).into(),
            x: RowInput::Concat {
                module: modules.concat,
                a: input.stream,
                b: input.embedding,
            },
            linears,
            adds_to_y: false,
            y: &mut s.qkv_rank, // [1, q, k, v, rank of each]
        }));
        ops.fused(FusedOp::AppendStep(AppendStep {
            adapters_b: attention.map(|adapters| adapters.each_ref().map(|adapter| &adapter.b)),
            rope: rope.map(|rope| (modules.rope, rope)),
            append_kv: modules.append_kv,
            x: &s.qkv_rank,
            cache: kv,
            q: &mut s.q, // [1, 2h]
        }));
        kv.len += 1;
    }

    fn feed_forward(&self, ops: &mut Ops<D>, adapters: &Adapters<D>, s: &mut Scratch<D>) {
        let adapter = &adapters.gate_up;
        let fuses_ffn = ops.fuses_norm(&[&self.gate_up_proj, &adapter.a], 1)
            && ops.fuses_adapters(&[&adapter.b]);
        if s.shared_out.rows() == 1 && fuses_ffn {
            self.gate_up_step(ops, adapter, s);
        } else {
            self.gate_up(ops, adapter, s);
        }
        ops.linear(&self.down_proj, &s.activated, &mut s.shared_out); // [T, h]
    }

    fn gate_up(&self, ops: &mut Ops<D>, adapter: &Adapter<D>, s: &mut Scratch<D>) {
        ops.rms_norm(&self.pre_ff_layernorm, &s.shared_out, &mut s.normed); // [T, h]
        ops.linear(&self.gate_up_proj, &s.normed, &mut s.gate_up); // [T, 2I]
        ops.linear(&adapter.a, &s.normed, &mut s.rank); // [T, rank]
        ops.linear_add(&adapter.b, &s.rank, &mut s.gate_up);
        ops.gelu_mul(self.modules.ffn.act_fn, &s.gate_up, &mut s.activated); // [T, I]
    }

    /// [`SharedTransformer::gate_up`] of one row in two kernels.
    fn gate_up_step(&self, ops: &mut Ops<D>, adapter: &Adapter<D>, s: &mut Scratch<D>) {
        ops.fused(FusedOp::NormLinears(NormLinears {
            norm: (&self.pre_ff_layernorm).into(),
            x: RowInput::Tensor(&s.shared_out),
            linears: &[&self.gate_up_proj, &adapter.a],
            adds_to_y: false,
            y: &mut s.gate_up_rank, // [1, 2I + rank]
        }));
        ops.fused(FusedOp::GeluStep(GeluStep {
            adapter_b: &adapter.b,
            act_fn: self.modules.ffn.act_fn,
            x: &s.gate_up_rank,
            y: &mut s.activated, // [1, I]
        }));
    }
}
