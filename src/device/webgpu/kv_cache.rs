//! The KV cache of one layer on the device, and its byte form, which is independent of the layout.

use crate::base::error::Result;
use crate::device::webgpu::attention::MAX_HEAD_DIM;
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernel_table::Kernel;
use crate::device::webgpu::recorder::Recorder;
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::{WebGpu, product};
use crate::ops::device::{AttentionShape, KvCache, KvFormat};

/// Bytes that a thread loads at once; a head is padded to a multiple of it.
const UNIT_BYTES: usize = 16;

uniforms! {
    pub struct AppendKvParams {
        n_kv_heads: usize,
        head_dim: usize,
        /// Position of the first appended row.
        position: usize,
    }
}

pub struct WebGpuKvRows {
    pub(super) format: KvFormat,
    pub(super) keys: DeviceBuffer,   // [context, kv heads, units]
    pub(super) values: DeviceBuffer, // [context, kv heads, units]
    /// Scales of keys and values; empty in f32.
    pub(super) scales: DeviceBuffer, // [context, kv heads, 2]
    n_kv_heads: usize,
    head_dim: usize,
}

impl WebGpuKvRows {
    pub fn new(
        recorder: &mut Recorder,
        shape: &AttentionShape,
        context: usize,
        format: KvFormat,
    ) -> WebGpuKvRows {
        assert!(
            shape.head_dim <= MAX_HEAD_DIM,
            "head_dim is {}, the attention kernel supports at most {MAX_HEAD_DIM}",
            shape.head_dim
        );
        let heads = context * shape.n_kv_heads;
        let bytes = product([heads, padded_head_bytes(format, shape.head_dim)]);
        let scale_bytes = match format {
            KvFormat::F32 => 0,
            KvFormat::I8 => 2 * 4 * heads as u64,
        };
        WebGpuKvRows {
            format,
            keys: recorder.create(bytes),
            values: recorder.create(bytes),
            scales: recorder.create(scale_bytes),
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
        }
    }

    /// Bytes of one head's keys, or values, at one position in the device's layout, without the scale.
    fn padded_head_bytes(&self) -> usize {
        padded_head_bytes(self.format, self.head_dim)
    }

    /// Bytes of one head's keys, or values, at one position, without padding and scale.
    fn number_bytes(&self) -> usize {
        match self.format {
            KvFormat::F32 => 4 * self.head_dim,
            KvFormat::I8 => self.head_dim,
        }
    }

    /// Bytes of one scale.
    fn scale_bytes(&self) -> usize {
        self.format.head_bytes(self.head_dim) - self.number_bytes()
    }
}

/// Units of one head's keys, or values, at one position.
pub fn units(format: KvFormat, head_dim: usize) -> usize {
    let bytes = match format {
        KvFormat::F32 => 4 * head_dim,
        KvFormat::I8 => head_dim,
    };
    bytes.div_ceil(UNIT_BYTES)
}

/// Bytes of one head's keys, or values, at one position, without the scale.
pub fn padded_head_bytes(format: KvFormat, head_dim: usize) -> usize {
    units(format, head_dim) * UNIT_BYTES
}

pub fn append_kv(
    gpu: &mut WebGpu,
    k: &WebGpuTensor,
    v: &WebGpuTensor,
    cache: &mut KvCache<WebGpu>,
) {
    let rows = &cache.rows;
    let kernel = match rows.format {
        KvFormat::F32 => Kernel::AppendKvF32,
        KvFormat::I8 => Kernel::AppendKvI8,
    };
    gpu.recorder.dispatch(
        kernel,
        &[&k.buffer, &v.buffer, &rows.keys, &rows.values, &rows.scales],
        &AppendKvParams {
            n_kv_heads: rows.n_kv_heads,
            head_dim: rows.head_dim,
            position: cache.len,
        },
        // Workgroups with z = 0 store keys, those with z = 1 values.
        [rows.n_kv_heads, k.rows, 2],
    );
}

/// The cache's contents. // [len, kv heads, k and v]: elements, then the scale if the format has one
pub async fn read(gpu: &mut WebGpu, cache: &KvCache<WebGpu>) -> Result<Vec<u8>> {
    let rows = &cache.rows;
    let heads = cache.len * rows.n_kv_heads;
    let stored_bytes = rows.padded_head_bytes();
    let bytes = product([heads, stored_bytes]);
    let keys = gpu.read_buffer(&rows.keys, bytes).await?;
    let values = gpu.read_buffer(&rows.values, bytes).await?;
    let scale_bytes = rows.scale_bytes();
    let scales = match scale_bytes {
        0 => Vec::new(),
        _ => {
            let bytes = product([2, heads, scale_bytes]);
            gpu.read_buffer(&rows.scales, bytes).await?
        }
    };
    let number_bytes = rows.number_bytes();
    let mut all = Vec::with_capacity(2 * heads * (number_bytes + scale_bytes));
    for head in 0..heads {
        for (half, stored) in [&keys, &values].into_iter().enumerate() {
            all.extend_from_slice(&stored[head * stored_bytes..][..number_bytes]);
            all.extend_from_slice(&scales[(2 * head + half) * scale_bytes..][..scale_bytes]);
        }
    }
    Ok(all)
}

/// Replaces the cache's contents by what [`read`] returned.
pub fn write(gpu: &mut WebGpu, bytes: &[u8], cache: &mut KvCache<WebGpu>) {
    let rows = &cache.rows;
    let (mut stored, mut scales) = ([Vec::new(), Vec::new()], Vec::new());
    let head_bytes = rows.number_bytes() + rows.scale_bytes();
    for (i, head) in bytes.chunks(head_bytes).enumerate() {
        let (numbers, scale) = head.split_at(rows.number_bytes());
        let stored = &mut stored[i % 2];
        let end = stored.len() + rows.padded_head_bytes();
        stored.extend_from_slice(numbers);
        stored.resize(end, 0);
        scales.extend_from_slice(scale);
    }
    let [keys, values] = stored;
    gpu.recorder.write(&rows.keys, &keys);
    gpu.recorder.write(&rows.values, &values);
    gpu.recorder.write(&rows.scales, &scales);
}
