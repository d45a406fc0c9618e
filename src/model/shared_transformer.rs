//! The transformer block that several hybrid blocks share, with the adapters that make each call its own
//! (reference: `Zamba2AttentionDecoderLayer`). It stands on floor 2. It has no residual inside: its result enters
//! the mixer of the calling block only.

use crate::backend::{AttentionShape, Backend, KvCache, Linear, Norm, Rope};
use crate::model::forward::Scratch;

/// A low-rank correction B·(A·x), one per call of the shared block.
pub struct Adapter<B: Backend> {
    pub a: Linear<B>, // [rank, d_in]
    pub b: Linear<B>, // [d_out, rank]
}

/// What one hybrid layer adds to the shared weights.
pub struct Adapters<B: Backend> {
    /// q, k, v; only with `use_shared_attention_adapter`.
    pub attention: Option<[Adapter<B>; 3]>,
    pub gate_up: Adapter<B>,
}

pub struct SharedBlock<B: Backend> {
    pub input_layernorm: Norm<B>,  // [2h]
    pub qkv: [Linear<B>; 3],       // [2h, 2h], [kv_width, 2h], [kv_width, 2h]
    pub o_proj: Linear<B>,         // [h, 2h]
    pub pre_ff_layernorm: Norm<B>, // [h]
    pub gate_up_proj: Linear<B>,   // [2I, h]; gate rows first
    pub down_proj: Linear<B>,      // [h, I]
    pub attention: AttentionShape,
}

impl<B: Backend> SharedBlock<B> {
    /// Leaves the block's output [T, h] in `s.shared`. `stream` is the residual stream, `embedding` the model's
    /// input embeddings: the block reads both, side by side.
    #[expect(
        clippy::too_many_arguments,
        reason = "two inputs, one cache, one position: the reference's own signature"
    )]
    pub fn forward(
        &self,
        be: &mut B,
        stream: &B::Tensor,    // [T, h]
        embedding: &B::Tensor, // [T, h]
        adapters: &Adapters<B>,
        rope: Option<&Rope>,
        kv: &mut KvCache<B>,
        s: &mut Scratch<B>,
    ) {
        be.concat(stream, embedding, &mut s.wide); // [T, 2h]
        be.rms_norm(&self.input_layernorm, &s.wide, &mut s.u); // [T, 2h]

        let [q_proj, k_proj, v_proj] = &self.qkv;
        be.linear(q_proj, &s.u, &mut s.q); // [T, 2h]
        be.linear(k_proj, &s.u, &mut s.k); // [T, kv_width]
        be.linear(v_proj, &s.u, &mut s.v); // [T, kv_width]
        if let Some([q, k, v]) = &adapters.attention {
            for (adapter, y) in [(q, &mut s.q), (k, &mut s.k), (v, &mut s.v)] {
                be.linear(&adapter.a, &s.u, &mut s.rank); // [T, rank]
                be.linear_add(&adapter.b, &s.rank, y);
            }
        }
        if let Some(rope) = rope {
            be.rope(rope, kv.len, &mut s.q);
            be.rope(rope, kv.len, &mut s.k);
        }
        be.append_kv(&s.k, &s.v, kv);
        be.attention(&self.attention, &s.q, kv, &mut s.attended); // [T, 2h]
        be.linear(&self.o_proj, &s.attended, &mut s.shared); // [T, h]

        be.rms_norm(&self.pre_ff_layernorm, &s.shared, &mut s.normed); // [T, h]
        be.linear(&self.gate_up_proj, &s.normed, &mut s.gate_up); // [T, 2I]
        be.linear(&adapters.gate_up.a, &s.normed, &mut s.rank); // [T, rank]
        be.linear_add(&adapters.gate_up.b, &s.rank, &mut s.gate_up);
        be.gelu_mul(&s.gate_up, &mut s.activated); // [T, I]
        be.linear(&self.down_proj, &s.activated, &mut s.shared); // [T, h]
    }
}
