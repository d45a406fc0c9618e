//! `trait Device`: the memory, fused kernels and readback that a device implements beside the kernels in `kernels.rs`,
//! and the parameters of ops. Shape checks, spans and work counts are in [`Ops`](crate::ops::Ops). Nothing is computed
//! here.
//!
//! Ops have encode semantics: after an op returns, its result is defined by *order*, not by time. A device may compute
//! at once (the CPU) or record commands and run them later (a GPU); only readbacks wait. Ops therefore do not fail:
//! wrong shapes are programmer errors, which `Ops` asserts, and failures of the device are returned by
//! [`Device::finish_read`], or by [`Device::check`] when nothing is read.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::quant::{Arithmetic, WeightFormat};
use crate::ops::fused::FusedOp;
use crate::ops::op_traits::{
    AttentionKernels, ConvKernels, ElementwiseKernels, EmbedKernels, LinearKernels, NormKernels,
    ScanKernels, TopKernels,
};
use crate::ops::trace::{ModuleId, SpanId, SpanTime};
pub use crate::text::sampling::Draw;

/// Columns `start .. start + len` of a tensor.
pub struct Cols<'a, T> {
    pub tensor: &'a T,
    pub start: usize,
    pub len: usize,
}

/// Splits the columns of `tensor` into consecutive ranges of the given widths.
pub fn split<T, const N: usize>(tensor: &T, widths: [usize; N]) -> [Cols<'_, T>; N] {
    let mut start = 0;
    widths.map(|len| {
        let cols = Cols { tensor, start, len };
        start += len;
        cols
    })
}

/// A linear layer y = W·x + bias.
pub struct Linear<D: Storage> {
    pub module: ModuleId,
    /// Layers may share a weight.
    pub weight: Arc<D::Weight>, // [d_out, d_in]
    pub bias: Option<D::Tensor>, // [1, d_out]
}

/// RMSNorm: weight · x / sqrt(mean(x²) + eps).
pub struct Norm<D: Storage> {
    pub module: ModuleId,
    pub weight: D::Tensor, // [1, d]
    pub eps: f32,
}

/// RMSNorm of x · silu(gate), with one mean per group of channels.
pub struct GatedNorm<D: Storage> {
    pub module: ModuleId,
    pub weight: D::Tensor, // [1, d_inner]
    pub n_groups: usize,
    pub eps: f32,
}

/// Causal depthwise convolution followed by SiLU.
pub struct Conv1d<D: Storage> {
    pub module: ModuleId,
    /// One tap of every channel per row; the last row multiplies the current token.
    pub weight: D::Tensor, // [d_conv, conv_dim]
    pub bias: D::Tensor, // [1, conv_dim]
}

/// Parameters of the selective state-space scan (Mamba-2, arXiv:2405.21060).
pub struct Ssm<D: Storage> {
    pub module: ModuleId,
    pub a: D::Tensor,       // [1, H], −exp(A_log)
    pub d: D::Tensor,       // [1, H]
    pub dt_bias: D::Tensor, // [1, H]
    pub n_heads: usize,
    pub head_dim: usize,
    pub d_state: usize,
    pub n_groups: usize,
}

/// The input of one scan. x, b and c are columns of one tensor.
pub struct SsmInput<'a, T> {
    pub x: Cols<'a, T>,  // [T, H·P]
    pub b: Cols<'a, T>,  // [T, G·N]
    pub c: Cols<'a, T>,  // [T, G·N]
    pub dt: Cols<'a, T>, // [T, H], before bias and softplus
    /// Lower bound of softplus(dt + bias).
    pub dt_min: f32,
}

/// Rotary position embedding of whole heads, in the rotate-half form.
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

/// Storage format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    F32,
    /// Eight bits with a scale per head and position.
    I8,
}

impl KvFormat {
    /// Bytes of the keys and values of `context` positions in one layer, without a device's padding.
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

    /// One head's keys, or values, at one position, from its bytes.
    pub fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let f32_of = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        match self {
            KvFormat::F32 => bytes.as_chunks().0.iter().map(f32_of).collect(),
            KvFormat::I8 => {
                let (quants, scale) = bytes.split_last_chunk().expect("a scale follows");
                let scale = f32_of(scale);
                let quants = quants.iter().map(|quant| f32::from(quant.cast_signed()));
                quants.map(|quant| quant * scale).collect()
            }
        }
    }
}

/// Keys (already rotated) and values of one hybrid block.
pub struct KvCache<D: Storage> {
    pub rows: D::KvRows,
    pub shape: AttentionShape,
    /// The storage format, which may be more exact than requested.
    pub format: KvFormat,
    /// Capacity in positions.
    pub context: usize,
    /// Positions in use.
    pub len: usize,
}

/// The model sizes that a device's kernels may limit.
#[derive(Clone, Copy, Debug)]
pub struct ModelSizes {
    pub attention: AttentionShape,
    pub d_state: usize,
    /// Capacity of the KV cache in positions.
    pub context: usize,
    pub kv_format: KvFormat,
}

/// Peak rates of a device, measured with all its threads.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// Threads of the host.
    pub threads: usize,
    /// int8 multiply-adds in the CPU's q4 matrix kernel; on other devices the f32 rate.
    pub int8_gmacs_per_s: f64,
    /// 16-bit multiply-adds with 32-bit sums in the CPU's q8 kernels; on other devices the f32 rate.
    pub int16_gmacs_per_s: f64,
    /// f32 multiply-adds.
    pub f32_gmacs_per_s: f64,
    /// Read bandwidth of memory, measured on memory much larger than any cache.
    pub read_gb_per_s: f64,
    /// Bandwidth of copying such memory: bytes read plus bytes written. Older run files have none.
    #[serde(default)]
    pub copy_gb_per_s: Option<f64>,
}

impl Ceilings {
    /// Multiply-adds of `arithmetic`.
    pub fn gmacs_per_s(&self, arithmetic: Arithmetic) -> f64 {
        match arithmetic {
            Arithmetic::Int8 => self.int8_gmacs_per_s,
            Arithmetic::Int16 => self.int16_gmacs_per_s,
            Arithmetic::F32 => self.f32_gmacs_per_s,
        }
    }
}

/// The kernel that a device has chosen for an op by a trial.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelChoice {
    pub op: String,
    pub variant: String,
    /// The number of variants with correct results.
    pub of: usize,
}

/// The shape of a tensor on a device.
pub trait Tensor {
    fn rows(&self) -> usize;
    fn cols(&self) -> usize;
    /// The row count it was allocated with.
    fn max_rows(&self) -> usize;
    /// Leaves the first `rows` rows in use.
    fn truncate(&mut self, rows: usize);
}

/// The shape and format of a weight matrix on a device.
pub trait Weight {
    fn rows(&self) -> usize;
    fn cols(&self) -> usize;
    fn format(&self) -> WeightFormat;
}

/// Where a device keeps numbers.
pub trait Storage: Sized {
    /// f32 `[rows, cols]`, allocated once for its largest row count.
    type Tensor: Tensor;
    /// A weight matrix in the layout of this device's kernels.
    type Weight: Weight;
    /// A weight matrix whose rows are being received.
    type ArrivingWeight;
    /// Storage for the keys and values of a sequence.
    type KvRows;
    /// A pending readback. Dropping it abandons it.
    type Readback;
}

/// A device that can run the model: its kernels are in the traits of `kernels.rs`.
#[expect(
    async_fn_in_trait,
    reason = "an engine lives on one thread, so its futures need no Send bound"
)]
pub trait Device:
    EmbedKernels
    + NormKernels
    + LinearKernels
    + ConvKernels
    + ScanKernels
    + AttentionKernels
    + ElementwiseKernels
    + TopKernels
{
    /// Rows of a prompt that pass a block together.
    const CHUNK_ROWS: usize;
    /// The most decode steps in flight: submitted before the token of the first of them has been read back. 1: read
    /// the logits back after every token.
    const MAX_STEPS_IN_FLIGHT: usize;
    /// The most rows of a pass in which each row, and the states after it, equal bit for bit those of decode steps over
    /// the same tokens. 1: passes of several rows sum in another order, so this device does not verify drafts.
    const MAX_EXACT_ROWS: usize;
    /// Whether weights and caches are allocated in host memory and count towards its limit.
    const USES_HOST_MEMORY: bool;
    /// Whether [`LinearKernels::linear_residual`] is one kernel for a single row, so that a separate sum would cost
    /// more.
    const FUSES_RESIDUAL: bool;
    /// Whether timing a block costs next to nothing. Otherwise blocks are timed on request only.
    const TIMES_BLOCKS_FREELY: bool;

    /// Called before anything is allocated for a model.
    ///
    /// # Errors
    /// [`crate::base::error::Error::DeviceLimit`] with the size that is too large.
    fn check_sizes(&self, _sizes: &ModelSizes) -> Result<()> {
        Ok(())
    }

    // Memory.

    /// A zeroed tensor with capacity for `rows`.
    fn tensor(&mut self, rows: usize, cols: usize) -> Self::Tensor;
    /// A tensor initialised with `values[rows · cols]`.
    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> Self::Tensor;
    /// Splits `data` into pieces and calls `body(index, piece)` on the host threads available to this device.
    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    );
    /// Allocates a matrix for [`Device::push_rows`].
    fn begin_weight(
        &mut self,
        format: WeightFormat,
        rows: usize,
        cols: usize,
    ) -> Self::ArrivingWeight;
    /// Repacks the next whole rows, in the form of [`crate::base::quant::store_row`], for the kernels.
    fn push_rows(&mut self, weight: &mut Self::ArrivingWeight, rows: &[u8]);
    /// Called when all rows have been pushed.
    fn finish_weight(&mut self, weight: Self::ArrivingWeight) -> Self::Weight;
    /// Storage for `context` positions. A device without kernels for `format` uses a more exact one.
    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat)
    -> Self::KvRows;
    /// The format of `rows`; see [`Device::kv_rows`].
    fn kv_format(&self, rows: &Self::KvRows) -> KvFormat;
    /// Sets every element of `x` to zero.
    fn clear(&mut self, x: &mut Self::Tensor);
    /// Overwrites all elements of x, row-major, with `values`.
    fn write(&mut self, values: &[f32], x: &mut Self::Tensor);
    /// Called for weights that [`Device::fuses_norm`] may get together. They may be made adjacent in memory, and remain
    /// usable one by one.
    fn join_weights(&mut self, _weights: &[&Self::Weight]) {}
    /// Device memory of `weight` in bytes.
    fn weight_bytes(&self, weight: &Self::Weight) -> usize;

    // Fused kernels for a decode step.

    /// Whether one kernel computes all `linears` of an RMSNorm of one row with `n_groups` means.
    fn fuses_norm(&self, _linears: &[&Linear<Self>], _n_groups: usize) -> bool {
        false
    }
    /// Whether a fused kernel includes the products with the second matrices of one LoRA adapter, or of those of q, k
    /// and v.
    fn fuses_adapters(&self, _seconds: &[&Linear<Self>]) -> bool {
        false
    }
    /// Runs an op as one kernel. The caller has checked that the device has one.
    fn fused(&mut self, _op: FusedOp<Self>) {
        unreachable!("a device that fuses ops implements this");
    }

    // Running and reading back.

    /// Called before an op of `flops`. A device that records ops may submit those recorded so far.
    fn note_work(&mut self, _flops: f64) {}

    /// Submits all encoded ops.
    fn flush(&mut self);
    /// Waits until all encoded ops have run. Needed for block times if [`Device::times_spans`] is false.
    async fn fence(&mut self) -> Result<()> {
        Ok(())
    }
    /// Waits until the device is not far behind what was encoded.
    async fn ready(&mut self) {}
    /// The first failure that the device has reported; reports are asynchronous.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Submits all encoded ops and, after them, copies of `xs` for a readback.
    fn begin_read(&mut self, xs: &[&Self::Tensor]) -> Self::Readback;
    /// The elements of the tensors of a readback, one after another and row-major. Waits for the ops before the
    /// request, and not for those after it.
    async fn finish_read(&mut self, readback: Self::Readback) -> Result<Vec<f32>>;
    /// The contents of a cache in its storage format, by position and independent of the device's layout. // [len][kv
    /// heads][k, v]
    async fn read_kv(&mut self, cache: &KvCache<Self>) -> Result<Vec<u8>>;
    /// Writes the bytes of [`Device::read_kv`] to the start of the cache; the caller sets `cache.len`.
    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Self>);

    // Timing. A device that computes synchronously is timed by the host and implements none of these.

    /// Whether spans get times without a fence after each block. Otherwise such a fence gives the block its time, and
    /// ops have none.
    fn times_spans(&self) -> bool {
        true
    }
    /// The ops that follow belong to `span`, the innermost recorded one.
    fn enter_span(&mut self, _span: Option<SpanId>) {}
    /// A recorded span is about to close. A device without timestamps may wait here until its work is done.
    fn leave_span(&mut self) {}
    /// The span times measured by the device that were read back since the last call.
    fn take_span_times(&mut self) -> Vec<SpanTime> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::device::KvFormat;

    #[test]
    fn numbers_of_a_head_are_f32_or_eight_bits_times_the_scale_after_them() {
        let half = 0.5_f32.to_le_bytes();
        assert_eq!(KvFormat::F32.numbers(&half), [0.5]);
        assert_eq!(
            KvFormat::I8.numbers(&[[1, 0x80].as_slice(), &half].concat()),
            [0.5, -64.0]
        );
    }
}
