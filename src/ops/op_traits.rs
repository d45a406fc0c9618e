//! The kernels that a device implements, by group: the CPU and WebGPU have each group in the file of its name, candle
//! all in one. Destinations come last; `y` gets the row count of `x`. The caller, [`Ops`](crate::ops::Ops), has checked
//! all shapes.

use crate::ops::device::{
    AttentionShape, Cols, Conv1d, Draw, GatedNorm, KvCache, Linear, Norm, Rope, Ssm, SsmInput,
    Storage,
};

/// Rows of the embedding table.
pub trait EmbedKernels: Storage {
    /// Row t of each of `ys` is row `tokens[t]` of the table. There are one or two of them.
    fn embed(&mut self, table: &Self::Weight, tokens: &[u32], ys: &mut [&mut Self::Tensor]);
    /// Each of `ys`, one or two, is the embedding of the chosen token of `top`, without a readback of that token. If
    /// the logits were not finite, it may be any row of the table.
    fn embed_top(&mut self, table: &Self::Weight, top: &Self::Tensor, ys: &mut [&mut Self::Tensor]);
}

/// RMSNorm.
pub trait NormKernels: Storage {
    fn rms_norm(&mut self, norm: &Norm<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Self>,
        x: &Self::Tensor,
        gate: Cols<Self::Tensor>,
        y: &mut Self::Tensor,
    );
}

/// Products with weight matrices.
pub trait LinearKernels: ElementwiseKernels {
    fn linear(&mut self, linear: &Linear<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y += W·x + bias.
    fn linear_add(&mut self, linear: &Linear<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y = W·x + bias + residual.
    fn linear_residual(
        &mut self,
        linear: &Linear<Self>,
        x: &Self::Tensor,
        residual: &Self::Tensor,
        y: &mut Self::Tensor,
    ) {
        self.copy(residual, y);
        self.linear_add(linear, x, y);
    }
}

/// The convolution of a mixer.
pub trait ConvKernels: Storage {
    /// y = silu(conv(x) + bias); `state` `[d_conv − 1, conv_dim]` holds the inputs before x and is updated.
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Self>,
        x: Cols<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
}

/// The selective state-space scan.
pub trait ScanKernels: ElementwiseKernels {
    /// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x; `state` `[H·P, N]` is updated.
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Self>,
        input: SsmInput<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// As [`ScanKernels::ssm_scan`], from the state `before`, which stays; `state` gets the state after the last token.
    fn ssm_scan_from(
        &mut self,
        ssm: &Ssm<Self>,
        input: SsmInput<Self::Tensor>,
        before: &Self::Tensor,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    ) {
        self.copy(before, state);
        self.ssm_scan(ssm, input, state, y);
    }
}

/// The KV cache and attention.
pub trait AttentionKernels: Storage {
    /// Writes the rows of k and v at positions `cache.len ..`; the caller then increases `cache.len`.
    fn append_kv(&mut self, k: &Self::Tensor, v: &Self::Tensor, cache: &mut KvCache<Self>);
    /// Causal attention of the last `q.rows` positions in the cache.
    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &Self::Tensor,
        cache: &KvCache<Self>,
        y: &mut Self::Tensor,
    );
}

/// Ops on elements and rows.
pub trait ElementwiseKernels: Storage {
    /// y = x.
    fn copy(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);
    /// Rotates each head of each row of `xs`, of which there are one or two; row t is at `position + t`.
    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut Self::Tensor]);
    /// y = gelu(x[:, :d])·x[:, d:], with the exact (erf) GELU.
    fn gelu_mul(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y = [a, b] along the columns.
    fn concat(&mut self, a: &Self::Tensor, b: &Self::Tensor, y: &mut Self::Tensor);
    fn add(&mut self, a: &Self::Tensor, b: &Self::Tensor, y: &mut Self::Tensor);
    /// y = the last row of x.
    fn last_row(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);
}

/// The choice of a token among logits.
pub trait TopKernels: Storage {
    /// y = one row of logits, those of tokens that `seen` marks with 1 as
    /// [`penalised`](crate::text::sampling::penalised). The chosen token of the list `chosen`, if there is one, is
    /// marked first.
    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&Self::Tensor>,
        logits: &Self::Tensor,
        seen: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// y = the [`TopK`](crate::text::sampling::TopK) of one row of logits, with as many entries as fit y's width.
    fn top(&mut self, logits: &Self::Tensor, y: &mut Self::Tensor);
    /// Draws a token from `top` and stores it as the chosen token, which is the most probable one before.
    fn draw(&mut self, draw: &Draw, top: &mut Self::Tensor);
}
