//! Causal attention over the KV cache. The positions of few queries are split among workgroups (flash-decoding); of
//! several queries, some share each read of the keys and values.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernel_table::{Constant, Kernel, THREADS, constants};
use crate::device::webgpu::kv_cache::{append_kv, units};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::{AttentionShape, KvCache, KvFormat};
use crate::ops::op_traits::AttentionKernels;

impl AttentionKernels for WebGpu {
    fn append_kv(&mut self, k: &WebGpuTensor, v: &WebGpuTensor, cache: &mut KvCache<WebGpu>) {
        append_kv(self, k, v, cache);
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &WebGpuTensor,
        cache: &KvCache<WebGpu>,
        y: &mut WebGpuTensor,
    ) {
        attention(self, shape, q, cache, y);
    }
}

/// The largest head for which the kernel of one query has registers.
pub const MAX_HEAD_DIM: usize = 512;
/// The same for the kernel of several. Less workgroup memory lets more workgroups run at once; the published models'
/// heads have up to 224.
const MAX_SHARED_HEAD_DIM: usize = 256;
/// Positions per split, unless that makes more than [`MAX_SPLITS`]: one block of a workgroup. Longer splits leave most
/// of a large adapter idle.
const SPLIT_LEN: usize = 64;
const MAX_SPLITS: usize = 32;
/// Queries per workgroup, except for a single one: the lanes of a vector at most.
const QUERIES: usize = 4;
/// From this many groups of queries on, positions are not split: the groups alone keep the device busy.
const UNSPLIT_FROM: usize = 5;
/// Elements of a split's result before its sums: the largest score and the sum of exponentials.
const PART_HEADER: usize = 2;

pub const ATTENTION: &[Constant] =
    &constants![MAX_HEAD_DIM = MAX_SHARED_HEAD_DIM, PART_HEADER, QUERIES];
pub const ATTENTION_ONE: &[Constant] = &constants![MAX_HEAD_DIM, PART_HEADER, QUERIES = 1];
pub const MERGE: &[Constant] = &constants![PART_HEADER];

uniforms! {
    pub struct AttentionParams {
        n_queries: usize,
        n_heads: usize,
        n_kv_heads: usize,
        head_dim: usize,
        /// Loads of 16 bytes per head and position.
        n_units: usize,
        /// Positions visible to the first query; each further query sees one more.
        n_visible: usize,
        scale: f32,
        n_splits: usize,
        split_len: usize,
        /// Threads that sum different columns of the values: a power of two.
        column_threads: usize,
    }
}

uniforms! {
    pub struct MergeParams {
        n_heads: usize,
        head_dim: usize,
        n_splits: usize,
    }
}

pub fn attention(
    gpu: &mut WebGpu,
    shape: &AttentionShape,
    q: &WebGpuTensor,
    cache: &KvCache<WebGpu>,
    y: &mut WebGpuTensor,
) {
    y.resize(q.rows);
    let rows = &cache.rows;
    let is_shared = q.rows > 1 && shape.head_dim <= MAX_SHARED_HEAD_DIM;
    let (kernel, per_workgroup) = match (rows.format, is_shared) {
        (KvFormat::F32, false) => (Kernel::AttentionOneF32, 1),
        (KvFormat::I8, false) => (Kernel::AttentionOneI8, 1),
        (KvFormat::F32, true) => (Kernel::AttentionF32, QUERIES),
        (KvFormat::I8, true) => (Kernel::AttentionI8, QUERIES),
    };
    let n_groups = q.rows.div_ceil(per_workgroup);
    let (n_splits, split_len) = splits(n_groups, cache.len);
    let parts = if n_splits == 1 {
        &gpu.dummy
    } else {
        let n_numbers = q.rows * shape.n_heads * n_splits * (PART_HEADER + shape.head_dim);
        gpu.attention_parts.at_least(&mut gpu.recorder, n_numbers) // [T, heads, splits, 2 + d]
    };
    let n_units = units(rows.format, shape.head_dim);
    gpu.recorder.dispatch(
        kernel,
        &[
            &q.buffer,
            &rows.keys,
            &rows.values,
            &rows.scales,
            &y.buffer,
            parts,
        ],
        &AttentionParams {
            n_queries: q.rows,
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
            n_units,
            n_visible: cache.len - q.rows + 1,
            scale: shape.scale,
            n_splits,
            split_len,
            column_threads: n_units.next_power_of_two().min(THREADS),
        },
        [shape.n_heads, n_groups, n_splits],
    );
    if n_splits > 1 {
        gpu.recorder.dispatch(
            Kernel::AttentionMerge,
            &[parts, &y.buffer],
            &MergeParams {
                n_heads: shape.n_heads,
                head_dim: shape.head_dim,
                n_splits,
            },
            [shape.n_heads, q.rows, 1],
        );
    }
}

/// The number of splits of `len` positions, and their length, for `n_groups` groups of queries.
fn splits(n_groups: usize, len: usize) -> (usize, usize) {
    let wanted = if n_groups < UNSPLIT_FROM {
        len.div_ceil(SPLIT_LEN).min(MAX_SPLITS)
    } else {
        1
    };
    let split_len = len.div_ceil(wanted);
    (len.div_ceil(split_len), split_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_split_among_workgroups_for_few_queries_only() {
        for (n_groups, len, expected) in [
            (1, 1, (1, 1)),
            (1, 64, (1, 64)),
            (1, 65, (2, 33)),
            (1, 256, (4, 64)),
            (4, 2048, (32, 64)),
            (1, 4096, (32, 128)),
            (1, 4097, (32, 129)),
            (5, 4096, (1, 4096)),
        ] {
            assert_eq!(splits(n_groups, len), expected, "{n_groups}, {len}");
        }
    }
}
