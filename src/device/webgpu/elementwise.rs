//! Ops with one thread per element or pair: copies, sums, the gated activation and the rotary embedding.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernel_table::{Kernel, per_number};
use crate::device::webgpu::recorder::Recorder;
use crate::device::webgpu::tensor::{Region, WebGpuTensor, to_bytes};
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::Rope;
use crate::ops::op_traits::ElementwiseKernels;

impl ElementwiseKernels for WebGpu {
    fn copy(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        copy(self, x, y);
    }

    fn rope(&mut self, rope: &Rope, position: usize, xs: &mut [&mut WebGpuTensor]) {
        rotate(self, rope, position, xs);
    }

    fn gelu_mul(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        gelu_mul(self, x, y);
    }

    fn concat(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        concat(self, a, b, y);
    }

    fn add(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        add(self, a, b, y);
    }

    fn last_row(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        last_row(self, x, y);
    }
}

uniforms! {
    /// Uniforms of `add` and `gelu_mul`.
    pub struct WidthParams {
        width: usize,
    }
}

uniforms! {
    pub struct ConcatParams {
        a_cols: usize,
        b_cols: usize,
    }
}

uniforms! {
    pub struct CopyParams {
        width: usize,
        from_start: usize,
        from_stride: usize,
        to_start: usize,
        to_stride: usize,
    }
}

uniforms! {
    pub struct RopeParams {
        /// Position of the first row.
        position: usize,
        /// Pairs per head.
        half: usize,
        /// Pairs per row of x, and of the other tensor.
        n_pairs: usize,
        n_other_pairs: usize,
    }
}

pub fn gelu_mul(gpu: &mut WebGpu, x: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(x.rows);
    gpu.recorder.dispatch(
        Kernel::GeluMul,
        &[&x.buffer, &y.buffer],
        &WidthParams { width: y.cols },
        per_number(y.cols, x.rows),
    );
}

pub fn concat(gpu: &mut WebGpu, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(a.rows);
    gpu.recorder.dispatch(
        Kernel::Concat,
        &[&a.buffer, &b.buffer, &y.buffer],
        &ConcatParams {
            a_cols: a.cols,
            b_cols: b.cols,
        },
        per_number(y.cols, a.rows),
    );
}

pub fn add(gpu: &mut WebGpu, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(a.rows);
    gpu.recorder.dispatch(
        Kernel::Add,
        &[&a.buffer, &b.buffer, &y.buffer],
        &WidthParams { width: a.cols },
        per_number(a.cols, a.rows),
    );
}

pub fn last_row(gpu: &mut WebGpu, x: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(1);
    let from = Region {
        start: (x.rows - 1) * x.cols,
        ..x.region()
    };
    copy_rows(&mut gpu.recorder, from, y.region(), 1, x.cols);
}

pub fn copy(gpu: &mut WebGpu, x: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(x.rows);
    copy_rows(&mut gpu.recorder, x.region(), y.region(), x.rows, x.cols);
}

/// Records the copy of `rows` rows of `width` elements.
pub fn copy_rows(recorder: &mut Recorder, from: Region, to: Region, rows: usize, width: usize) {
    recorder.dispatch(
        Kernel::Copy,
        &[from.buffer, to.buffer],
        &CopyParams {
            width,
            from_start: from.start,
            from_stride: from.stride,
            to_start: to.start,
            to_stride: to.stride,
        },
        per_number(width, rows),
    );
}

/// Rotates one tensor or two.
fn rotate(gpu: &mut WebGpu, rope: &Rope, position: usize, xs: &mut [&mut WebGpuTensor]) {
    let (x, other) = (&*xs[0], xs.get(1));
    let table = RopeTable::covering(
        &mut gpu.rope_table,
        &mut gpu.recorder,
        rope,
        position + x.rows,
    );
    let n_pairs = x.cols / 2;
    let n_other_pairs = other.map_or(0, |other| other.cols / 2);
    let [workgroups, rows, _] = per_number(n_pairs.max(n_other_pairs), x.rows);
    gpu.recorder.dispatch(
        Kernel::Rope,
        &[
            &table.cos_sin,
            &x.buffer,
            other.map_or(&gpu.written_dummy, |other| &other.buffer),
        ],
        &RopeParams {
            position,
            half: rope.head_dim / 2,
            n_pairs,
            n_other_pairs,
        },
        // Workgroups with z = 0 rotate x, those with z = 1 the other tensor.
        [workgroups, rows, xs.len()],
    );
}

/// Cosines and sines of every position and frequency.
pub struct RopeTable {
    inv_freq: Vec<f32>,
    n_positions: usize,
    pub cos_sin: DeviceBuffer, // [n_positions, half, 2]
}

impl RopeTable {
    /// The cached table if it was made for `rope` and has at least `n_positions` positions, otherwise a new one.
    pub fn covering<'a>(
        cached: &'a mut Option<RopeTable>,
        recorder: &mut Recorder,
        rope: &Rope,
        n_positions: usize,
    ) -> &'a RopeTable {
        let table = cached
            .take()
            .filter(|t| t.inv_freq == rope.inv_freq && t.n_positions >= n_positions)
            .unwrap_or_else(|| RopeTable::new(recorder, rope, n_positions));
        cached.insert(table)
    }

    fn new(recorder: &mut Recorder, rope: &Rope, n_positions: usize) -> RopeTable {
        // The size doubles, so that a long sequence rebuilds the table only a few times.
        let n_positions = n_positions.next_power_of_two().max(256);
        let cos_sin = (0..n_positions).flat_map(|position| {
            let angles = rope.inv_freq.iter().map(move |freq| position as f32 * freq);
            angles.flat_map(|angle| [angle.cos(), angle.sin()])
        });
        let cos_sin: Vec<f32> = cos_sin.collect();
        RopeTable {
            inv_freq: rope.inv_freq.clone(),
            n_positions,
            cos_sin: recorder.create_from(&to_bytes(&cos_sin)),
        }
    }
}
