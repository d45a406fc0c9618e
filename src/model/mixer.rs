//! The Mamba-2 mixer and the norm before it (arXiv:2405.21060; reference: `Zamba2MambaMixer`): op by op, and fused for
//! a decode step on a device that has the kernels. The shared transformer of a hybrid block is in
//! `shared_transformer.rs`.

use crate::model::cache::MambaState;
use crate::model::forward::Scratch;
use crate::ops::Ops;
use crate::ops::device::{
    Cols, Conv1d, Device, GatedNorm, Linear, Norm, Ssm, SsmInput, Tensor, split,
};
use crate::ops::fused::{FusedOp, GatedScan, InProj, NormLinears, RowInput};

/// The state that a mixer continues from and updates.
pub struct MixerState<'a, D: Device> {
    pub state: &'a mut MambaState<D>,
    /// The SSM state before the pass, which is not changed; `None` if it is in `state`.
    pub ssm_before: Option<&'a D::Tensor>, // [H·P, N]
    /// Lower bound of dt.
    pub dt_min: f32,
}

pub struct Mixer<D: Device> {
    pub input_layernorm: Norm<D>, // [h]
    pub in_proj: Linear<D>,       // [d_in_proj, h]
    pub conv1d: Conv1d<D>,
    pub ssm: Ssm<D>,
    pub norm: GatedNorm<D>,
    pub out_proj: Linear<D>, // [h, d_inner]
    pub d_inner: usize,
    pub d_groups: usize, // G·N
}

impl<D: Device> Mixer<D> {
    /// stream += mixer(norm(x)). `x` is `None` in a plain block, whose input is the stream itself. In a hybrid block x
    /// is the stream plus the shared transformer's output, while the residual is the unchanged stream.
    pub fn forward(
        &self,
        ops: &mut Ops<D>,
        x: Option<&D::Tensor>,
        state: MixerState<D>,
        s: &mut Scratch<D>,
        stream: &mut D::Tensor, // [T, h]
    ) {
        if stream.rows() == 1 && state.ssm_before.is_none() && self.is_fused(ops) {
            return self.step(ops, x, state, s, stream);
        }
        ops.rms_norm(&self.input_layernorm, x.unwrap_or(stream), &mut s.normed); // [T, h]
        ops.linear(&self.in_proj, &s.normed, &mut s.zxbcdt); // [T, d_in_proj]
        self.scan(ops, &s.zxbcdt, state, &mut s.xbc, &mut s.y);
        let [z, ..] = self.split_zxbcdt(&s.zxbcdt);
        ops.gated_rms_norm(&self.norm, &s.y, z, &mut s.y_normed); // [T, d_inner]
        ops.linear_add(&self.out_proj, &s.y_normed, stream); // with the residual
    }

    /// z, the input of the convolution, and dt.
    fn split_zxbcdt<'a>(&self, zxbcdt: &'a D::Tensor) -> [Cols<'a, D::Tensor>; 3] {
        let conv_dim = self.d_inner + 2 * self.d_groups;
        split(zxbcdt, [self.d_inner, conv_dim, self.ssm.n_heads])
    }

    /// Updates the state by the rows of `zxbcdt`: the convolution, then the scan, without the norm after it.
    pub fn scan(
        &self,
        ops: &mut Ops<D>,
        zxbcdt: &D::Tensor, // [T, d_in_proj]
        state: MixerState<D>,
        xbc: &mut D::Tensor, // [T, conv_dim]
        y: &mut D::Tensor,   // [T, d_inner]
    ) {
        let MixerState {
            state,
            ssm_before,
            dt_min,
        } = state;
        let [_, conv_input, dt] = self.split_zxbcdt(zxbcdt);
        ops.causal_conv1d(&self.conv1d, conv_input, &mut state.conv, xbc);
        let [x, b, c] = split(&*xbc, [self.d_inner, self.d_groups, self.d_groups]);
        let input = SsmInput {
            x,
            b,
            c,
            dt,
            dt_min,
        };
        match ssm_before {
            Some(before) => ops.ssm_scan_from(&self.ssm, input, before, &mut state.ssm, y),
            None => ops.ssm_scan(&self.ssm, input, &mut state.ssm, y),
        }
    }

    fn is_fused(&self, ops: &Ops<D>) -> bool {
        ops.fuses_norm(&[&self.in_proj], 1) && ops.fuses_norm(&[&self.out_proj], self.norm.n_groups)
    }

    /// [`Mixer::forward`] of one row in three kernels.
    fn step(
        &self,
        ops: &mut Ops<D>,
        x: Option<&D::Tensor>,
        MixerState { state, dt_min, .. }: MixerState<D>,
        s: &mut Scratch<D>,
        stream: &mut D::Tensor, // [1, h]
    ) {
        ops.fused(FusedOp::InProj(InProj {
            norm: (&self.input_layernorm).into(),
            in_proj: &self.in_proj,
            conv1d: &self.conv1d,
            d_inner: self.d_inner,
            x: x.unwrap_or(stream),
            state: &mut state.conv,
            y: &mut s.zxbcdt, // [1, d_in_proj]
        }));
        let (d_inner, d_groups) = (self.d_inner, self.d_groups);
        let widths = [d_inner, d_inner, d_groups, d_groups, self.ssm.n_heads];
        let [z, x, b, c, dt] = split(&s.zxbcdt, widths);
        let input = SsmInput {
            x,
            b,
            c,
            dt,
            dt_min,
        };
        ops.fused(FusedOp::GatedScan(GatedScan {
            ssm: &self.ssm,
            input,
            gate: z,
            state: &mut state.ssm,
            y: &mut s.y, // [1, d_inner]
        }));
        ops.fused(FusedOp::NormLinears(NormLinears {
            norm: (&self.norm).into(),
            x: RowInput::Tensor(&s.y),
            linears: &[&self.out_proj],
            adds_to_y: true, // the residual
            y: stream,       // [1, h]
        }));
    }
}
