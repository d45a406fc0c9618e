//! What a device must be able to do: the vocabulary of ops with their parameters, memory and readback. Names, spans,
//! counts of work and checks of shapes are [`Ops`](crate::ops::Ops)' business. This file computes nothing.
//!
//! After an op returns, its result is defined by *order*, not by time. A device may compute at once (the CPU) or record
//! and run later (a GPU); only readbacks wait. So ops do not fail: wrong shapes are programmer errors, which `Ops` asserts,
//! and a device's own failure comes out of [`Device::read`], or of [`Device::check`] where nothing is to be read.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::quant::{QMatrix, WeightFormat};
use crate::ops::trace::{ModuleId, SpanId, SpanTime};

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

/// A linear layer y = W·x + bias.
pub struct Linear<D: Device> {
    pub module: ModuleId,
    /// Several layers may use one weight.
    pub weight: Arc<D::Weight>, // [d_out, d_in]
    pub bias: Option<D::Tensor>, // [1, d_out]
}

/// RMSNorm: weight · x / sqrt(mean(x²) + eps).
pub struct Norm<D: Device> {
    pub module: ModuleId,
    pub weight: D::Tensor, // [1, d]
    pub eps: f32,
}

/// RMSNorm of x · silu(gate), with one mean per group of channels.
pub struct GatedNorm<D: Device> {
    pub module: ModuleId,
    pub weight: D::Tensor, // [1, d_inner]
    pub n_groups: usize,
    pub eps: f32,
}

/// The causal depthwise convolution and its SiLU.
pub struct Conv1d<D: Device> {
    pub module: ModuleId,
    /// Tap k of every channel in row k: the last row multiplies the current token.
    pub weight: D::Tensor, // [d_conv, conv_dim]
    pub bias: D::Tensor, // [1, conv_dim]
}

/// Parameters of the selective state-space scan (Mamba-2, arXiv:2405.21060).
pub struct Ssm<D: Device> {
    pub module: ModuleId,
    pub a: D::Tensor,       // [1, H], −exp(A_log)
    pub d: D::Tensor,       // [1, H]
    pub dt_bias: D::Tensor, // [1, H]
    pub n_heads: usize,
    pub head_dim: usize,
    pub d_state: usize,
    pub n_groups: usize,
}

/// The input of one call of the scan. x, b and c are columns of one tensor.
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

/// Keys (already rotated) and values of one hybrid block.
pub struct KvCache<D: Device> {
    pub rows: D::KvRows,
    pub shape: AttentionShape,
    /// How they are kept, which may be more exact than what was asked for.
    pub format: KvFormat,
    /// Positions that there is room for.
    pub context: usize,
    /// Positions that are filled.
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

/// The shape of a tensor on a device.
pub trait Tensor {
    fn rows(&self) -> usize;
    fn cols(&self) -> usize;
    /// The row count it was made with.
    fn max_rows(&self) -> usize;
}

/// The shape and format of a weight matrix on a device.
pub trait Weight {
    fn rows(&self) -> usize;
    fn cols(&self) -> usize;
    fn format(&self) -> WeightFormat;
}

/// A device that can run the model. Destination last; `y` takes the row count of `x`. Shapes have been checked.
#[expect(
    async_fn_in_trait,
    reason = "an engine lives on one thread; no Send bound is wanted"
)]
pub trait Device: Sized {
    /// f32 `[rows, cols]`, made once with its largest row count.
    type Tensor: Tensor;
    /// A weight matrix in the layout of this device's kernels.
    type Weight: Weight;
    /// Room for the keys and values of a sequence.
    type KvRows;

    /// Decode steps to chain on the device per readback. 1: read the logits back after every token.
    const TOKENS_AHEAD: usize;
    /// Whether weights and cache stay in the host's memory, whose limit then applies to them.
    const USES_HOST_MEMORY: bool;

    /// Called before anything is made for a model.
    ///
    /// # Errors
    /// [`crate::base::error::Error::DeviceLimit`] with the size that is too large.
    fn check_sizes(&self, _sizes: &ModelSizes) -> Result<()> {
        Ok(())
    }

    // Memory.

    /// A tensor of zeros with room for `rows`.
    fn tensor(&mut self, rows: usize, cols: usize) -> Self::Tensor;
    /// A tensor of given numbers, `values[rows · cols]`.
    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> Self::Tensor;
    /// Calls `body` with each piece of `data` and its number, on the host's threads that this device may use.
    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    );
    /// Repacks the host matrix for the kernels and drops it.
    fn upload(&mut self, matrix: QMatrix) -> Self::Weight;
    /// Room for `context` positions. A device that can't keep `format` keeps something more exact.
    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat)
    -> Self::KvRows;
    /// How `rows` are kept; see [`Device::kv_rows`].
    fn kv_format(&self, rows: &Self::KvRows) -> KvFormat;
    /// Sets every number of `x` to zero.
    fn clear(&mut self, x: &mut Self::Tensor);
    /// y = x.
    fn copy(&mut self, x: &Self::Tensor, y: &mut Self::Tensor);
    /// Overwrites all numbers of x, row-major, with as many `values`.
    fn write(&mut self, values: &[f32], x: &mut Self::Tensor);
    /// Bytes of device memory that `weight` takes.
    fn weight_bytes(&self, weight: &Self::Weight) -> usize;

    // Kernels.

    /// Row t of y is row `tokens[t]` of the table.
    fn embed(&mut self, table: &Self::Weight, tokens: &[u32], y: &mut Self::Tensor);
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
    /// y = silu(conv(x) + bias); `state` `[d_conv − 1, conv_dim]` holds the inputs before x and is updated.
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<Self>,
        x: Cols<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x; `state` `[H·P, N]` is updated.
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Self>,
        input: SsmInput<Self::Tensor>,
        state: &mut Self::Tensor,
        y: &mut Self::Tensor,
    );
    /// Rotates each head of each row of x; row t is at `position + t`.
    fn rope(&mut self, rope: &Rope, position: usize, x: &mut Self::Tensor);
    /// Writes the rows of k and v to the positions from `cache.len` on, which the caller then counts.
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
    /// Writes the [`Top`](crate::text::sampling::Top) of the one row of logits to row `row` of y, which becomes its last one.
    /// It has as many places as fit the width of y.
    fn top(&mut self, logits: &Self::Tensor, row: usize, y: &mut Self::Tensor);
    /// y = the row of the table for the most probable token of row `row` of `top`; any row if that one has a fault. The host
    /// does not know the token yet.
    fn embed_top(
        &mut self,
        table: &Self::Weight,
        top: &Self::Tensor,
        row: usize,
        y: &mut Self::Tensor,
    );

    // Running and reading back.

    /// Starts what is encoded.
    fn flush(&mut self);
    /// Waits until what is encoded has run. It matters where [`Device::times_spans`] is false.
    async fn fence(&mut self) -> Result<()> {
        Ok(())
    }
    /// The first failure that the device has reported by itself; it may report late.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// The numbers of x, row-major.
    async fn read(&mut self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// Keys and values of a cache as they are kept, by position and independent of layout. // [len][kv heads][k, v]
    async fn read_kv(&mut self, cache: &KvCache<Self>) -> Result<Vec<u8>>;
    /// Writes the positions that [`Device::read_kv`] gave to the start of the cache; the caller counts them.
    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Self>);

    // Timing. A device that computes at once is timed by the host and needs none of these.

    /// Whether spans have times without a wait for each block. If not, a fence after a block gives that block its time,
    /// and ops have none.
    fn times_spans(&self) -> bool {
        true
    }
    /// What is encoded from here on belongs to `span`, the innermost one that is recorded.
    fn enter_span(&mut self, _span: Option<SpanId>) {}
    /// A recorded span is about to close: a device without a clock may wait here until its work is done.
    fn leave_span(&mut self) {}
    /// The device's own times of spans, as far as they have been read back since the last call.
    fn take_span_times(&mut self) -> Vec<SpanTime> {
        Vec::new()
    }
}
