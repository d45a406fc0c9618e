//! The vocabulary of ops between the model and a device. It stands on floor 1: the model is written against
//! [`Backend`], each device implements it, and neither sees the other. It computes nothing.
//!
//! The contract: after an op returns, its result is defined by *order*, not by time. A device may compute at once
//! (the CPU) or record and answer later (a GPU); only [`Backend::read`] waits. Ops therefore do not fail: wrong
//! shapes are programmer errors and assert, and a device's own failure comes out of `read`, or of [`Backend::check`]
//! where nothing is to be read.

pub mod cpu;
// wasip1, where the kernels of the CPU are tested, has no graphics.
#[cfg(not(target_os = "wasi"))]
pub mod webgpu;

use crate::error::Result;
use crate::profile::{NameId, Profiler, Work};
use crate::quant::QMatrix;

/// Columns `start .. start + len` of a tensor.
pub struct Cols<'a, T> {
    pub tensor: &'a T,
    pub start: usize,
    pub len: usize,
}

/// Cuts the columns of `tensor` into consecutive ranges of the given widths.
pub fn split<T, const N: usize>(tensor: &T, widths: [usize; N]) -> [Cols<'_, T>; N] {
    let mut start = 0;
    widths.map(|len| {
        let cols = Cols { tensor, start, len };
        start += len;
        cols
    })
}

/// A linear layer y = W·x + bias. Every parameter struct carries its module's name for the profile.
pub struct Linear<B: Backend> {
    pub name: &'static str,
    pub weight: B::Weight,       // [d_out, d_in]
    pub bias: Option<B::Tensor>, // [1, d_out]
}

/// RMSNorm: weight · x / sqrt(mean(x²) + eps).
pub struct Norm<B: Backend> {
    pub name: &'static str,
    pub weight: B::Tensor, // [1, d]
    pub eps: f32,
}

/// RMSNorm of x · silu(gate), with one mean per group of channels.
pub struct GatedNorm<B: Backend> {
    pub weight: B::Tensor, // [1, d_inner]
    pub n_groups: usize,
    pub eps: f32,
}

/// The causal depthwise convolution and its SiLU.
pub struct Conv1d<B: Backend> {
    /// Tap k of every channel in row k: the last row multiplies the current token.
    pub weight: B::Tensor, // [d_conv, conv_dim]
    pub bias: B::Tensor, // [1, conv_dim]
}

/// Parameters of the selective state-space scan (Mamba-2, arXiv:2405.21060).
pub struct Ssm<B: Backend> {
    pub a: B::Tensor,       // [1, H], −exp(A_log)
    pub d: B::Tensor,       // [1, H]
    pub dt_bias: B::Tensor, // [1, H]
    pub n_heads: usize,
    pub head_dim: usize,
    pub d_state: usize,
    pub n_groups: usize,
}

/// What one call of the scan reads; x, b and c are columns of one tensor.
pub struct SsmInput<'a, T> {
    pub x: Cols<'a, T>,  // [T, H·P]
    pub b: Cols<'a, T>,  // [T, G·N]
    pub c: Cols<'a, T>,  // [T, G·N]
    pub dt: Cols<'a, T>, // [T, H], before bias and softplus
    /// softplus(dt + bias) is raised to at least this.
    pub dt_min: f32,
}

/// Rotary position embedding over whole heads, in the rotate-half form.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Radians per position of each pair of channels. // [head_dim / 2]
    pub inv_freq: Vec<f32>,
    pub head_dim: usize,
}

/// The sizes of an attention call.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// As they came.
    F32,
    /// Eight bits with a scale per head and position.
    I8,
}

impl KvFormat {
    /// Bytes of the keys and values of `context` positions in one layer, before a device's padding.
    pub fn bytes(self, shape: &AttentionShape, context: usize) -> u64 {
        2 * (context * shape.n_kv_heads * self.head_bytes(shape.head_dim)) as u64
    }

    /// Bytes of one head's keys, or values, at one position.
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            KvFormat::F32 => 4 * head_dim,
            KvFormat::I8 => head_dim + 4,
        }
    }
}

/// Keys (already rotated) and values of one hybrid layer.
pub struct KvCache<B: Backend> {
    pub rows: B::KvRows,
    pub len: usize,
}

/// Sizes of a model that a device's kernels may have bounds for.
#[derive(Clone, Copy, Debug)]
pub struct ModelSizes {
    pub attention: AttentionShape,
    pub d_state: usize,
    /// Positions that keys and values have room for.
    pub context: usize,
    pub kv_format: KvFormat,
}

/// What a device can do at best: rates of all its threads together.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// Of the host.
    pub threads: usize,
    /// int8 products with the addition that collects them, as q4's matrix kernel of the CPU does; elsewhere as f32.
    pub int8_gmacs_per_s: f64,
    /// 16-bit products summed in 32 bits, as q8's kernels of the CPU do; elsewhere as f32.
    pub int16_gmacs_per_s: f64,
    /// f32 multiplications, each with an addition.
    pub f32_gmacs_per_s: f64,
    /// Reading memory far larger than any cache.
    pub read_gb_per_s: f64,
}

/// A device that can run the model. Destination last; `y` takes the row count of `x`.
#[expect(
    async_fn_in_trait,
    reason = "an engine lives on one thread; no Send bound is wanted"
)]
pub trait Backend: Sized {
    /// f32 `[rows, cols]`, made once with its largest row count.
    type Tensor;
    /// A weight matrix in the layout that this device's kernels like best.
    type Weight;
    /// Room for the keys and values of a sequence.
    type KvRows;

    /// Tokens that the device likes to choose by itself before the host reads any of them. 1: it is as fast where the host
    /// reads all logits of each.
    const TOKENS_AHEAD: usize;

    /// Asked before anything is made for a model.
    ///
    /// # Errors
    /// [`crate::error::Error::DeviceLimit`] with the size that is too large.
    fn check_sizes(&self, _sizes: &ModelSizes) -> Result<()> {
        Ok(())
    }

    /// A tensor of zeros with room for `rows`.
    fn tensor(&mut self, rows: usize, cols: usize) -> Self::Tensor;
    /// A tensor of given numbers, `values[rows · cols]`.
    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> Self::Tensor;
    /// Calls `body` with each piece of `data` and its number, on whatever threads the host has for this backend.
    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    );
    /// Takes the host matrix, repacks it and lets it go.
    fn upload(&mut self, matrix: QMatrix) -> Self::Weight;
    /// Room for `context` positions. A device that can't keep `format` keeps what is more exact.
    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat)
    -> Self::KvRows;
    /// Sets every number of `x` to zero.
    fn clear(&mut self, x: &mut Self::Tensor);

    /// Row t of y is row `tokens[t]` of the table.
    fn embed(&mut self, table: &Linear<Self>, tokens: &[u32], y: &mut Self::Tensor);
    fn rms_norm(&mut self, norm: &Norm<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Self>,
        x: &Self::Tensor,
        gate: Cols<Self::Tensor>,
        y: &mut Self::Tensor,
    );
    fn linear(&mut self, linear: &Linear<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y += W·x + bias.
    fn linear_add(&mut self, linear: &Linear<Self>, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y = silu(conv(x) + bias); `state` `[d_conv − 1, conv_dim]` holds the inputs before x and is moved on.
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Self>,
        x: Cols<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x; `state` `[H·P, N]` is moved on.
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Self>,
        input: SsmInput<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// Rotates each head of each row of x; row t stands at `position + t`.
    fn rope(&mut self, rope: &Rope, position: usize, x: &mut Self::Tensor);
    /// Appends the rows of k and v and counts them in.
    fn append_kv(&mut self, k: &Self::Tensor, v: &Self::Tensor, cache: &mut KvCache<Self>);
    /// Causal attention of the last `q.rows` positions in the cache.
    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &Self::Tensor,
        cache: &KvCache<Self>,
        y: &mut Self::Tensor,
    );
    /// y = gelu(x[:, :d])·x[:, d:], with the exact (erf) GELU.
    fn gelu_mul(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);
    /// y = [a, b] along the columns.
    fn concat(&mut self, a: &Self::Tensor, b: &Self::Tensor, y: &mut Self::Tensor);
    fn add(&mut self, a: &Self::Tensor, b: &Self::Tensor, y: &mut Self::Tensor);
    /// y = the last row of x.
    fn last_row(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);

    /// Row `row` of y, which becomes its last one, says which of the one row of logits are the largest: a
    /// [`Top`](crate::sampling::Top) with as many places as y is wide.
    fn top(&mut self, logits: &Self::Tensor, row: usize, y: &mut Self::Tensor);
    /// y = the row of the table that belongs to the most probable token of row `row` of `top`; any row, where that has a
    /// fault. The host does not know the token yet.
    fn embed_top(
        &mut self,
        table: &Linear<Self>,
        top: &Self::Tensor,
        row: usize,
        y: &mut Self::Tensor,
    );

    /// y = x.
    fn copy(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);

    /// Lets the device start on what is encoded.
    fn flush(&mut self);
    /// Whether spans have times without anyone waiting for each block. Where they have none, [`Backend::fence`] after a
    /// block gives that block its time, and ops have none.
    fn times_spans(&self) -> bool {
        true
    }
    /// Waits until what is encoded has run. It matters where [`Backend::times_spans`] does not hold.
    async fn fence(&mut self) -> Result<()> {
        Ok(())
    }
    /// The first failure that the device has told by itself; it may tell late.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// The numbers of x, row-major. The only wait, and the only op that fails.
    async fn read(&mut self, x: &Self::Tensor) -> Result<Vec<f32>>;

    /// Puts `values` in the place of all numbers of x, row-major; what [`Backend::read`] gave of one as large.
    fn write(&mut self, values: &[f32], x: &mut Self::Tensor);
    /// How many numbers x has.
    fn numbers(&self, x: &Self::Tensor) -> usize;
    /// The keys and values of a cache as it holds them, by position and independent of layout. // [len][kv heads][k, v]
    async fn read_kv(&mut self, cache: &KvCache<Self>) -> Result<Vec<u8>>;
    /// Takes what [`Backend::read_kv`] gave, in the place of what the cache held.
    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Self>);
    /// Bytes of each position in [`Backend::read_kv`].
    fn kv_position_bytes(&self, cache: &KvCache<Self>) -> usize;

    /// Bytes of weights that the device holds for `weight`.
    fn weight_bytes(&self, weight: &Self::Weight) -> usize;
    /// How `rows` are really kept; see [`Backend::kv_rows`].
    fn kv_format(&self, rows: &Self::KvRows) -> KvFormat;
    fn profiler(&mut self) -> &mut Profiler;

    /// Runs `body` under a block-level span.
    fn scope<R>(&mut self, name: NameId, body: impl FnOnce(&mut Self) -> R) -> R {
        let span = self.profiler().open_block(name);
        let result = body(self);
        self.profiler().close(span, Work::NONE);
        result
    }
}
