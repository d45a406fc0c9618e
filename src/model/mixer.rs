//! The Mamba-2 mixer and the plain block around it (arXiv:2405.21060; reference: `Zamba2MambaMixer`,
//! `Zamba2MambaDecoderLayer`). It stands on floor 2. Prefill and decode are one function: a step is a chunk of one.

use crate::backend::{Backend, Conv1d, GatedNorm, Linear, Norm, Ssm, SsmInput, split};
use crate::model::cache::MambaState;
use crate::model::forward::Scratch;

pub struct Mamba2Mixer<B: Backend> {
    pub in_proj: Linear<B>, // [d_in_proj, h]
    pub conv1d: Conv1d<B>,
    pub ssm: Ssm<B>,
    pub norm: GatedNorm<B>,
    pub out_proj: Linear<B>, // [h, d_inner]
    pub d_inner: usize,
    pub d_groups: usize, // G·N
}

/// A mixer and the norm before it.
pub struct MambaLayer<B: Backend> {
    pub input_layernorm: Norm<B>, // [h]
    pub mamba: Mamba2Mixer<B>,
}

impl<B: Backend> MambaLayer<B> {
    /// stream += mixer(norm(x)). In a plain block x is the stream itself, so `x` is `None`; in a hybrid block it is
    /// the stream plus what the shared block said, while the residual stays the unchanged stream.
    pub fn forward(
        &self,
        be: &mut B,
        x: Option<&B::Tensor>,
        state: &mut MambaState<B>,
        dt_min: f32,
        s: &mut Scratch<B>,
        stream: &mut B::Tensor, // [T, h]
    ) {
        be.rms_norm(&self.input_layernorm, x.unwrap_or(stream), &mut s.normed); // [T, h]
        self.mamba.forward(be, state, dt_min, s, stream);
    }
}

impl<B: Backend> Mamba2Mixer<B> {
    /// Reads `s.normed` [T, h] and adds its result to `stream`.
    fn forward(
        &self,
        be: &mut B,
        state: &mut MambaState<B>,
        dt_min: f32,
        s: &mut Scratch<B>,
        stream: &mut B::Tensor,
    ) {
        let conv_dim = self.d_inner + 2 * self.d_groups;
        be.linear(&self.in_proj, &s.normed, &mut s.zxbcdt); // [T, d_in_proj]
        let [z, xbc, dt] = split(&s.zxbcdt, [self.d_inner, conv_dim, self.ssm.n_heads]);

        be.causal_conv1d(&self.conv1d, xbc, &mut state.conv, &mut s.xbc); // [T, conv_dim]
        let [x, b, c] = split(&s.xbc, [self.d_inner, self.d_groups, self.d_groups]);

        let input = SsmInput {
            x,
            b,
            c,
            dt,
            dt_min,
        };
        be.ssm_scan(&self.ssm, input, &mut state.ssm, &mut s.y); // [T, d_inner]
        be.gated_rms_norm(&self.norm, &s.y, z, &mut s.y_normed); // [T, d_inner]
        be.linear_add(&self.out_proj, &s.y_normed, stream); // the residual, folded in
    }
}
