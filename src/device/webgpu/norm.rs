//! RMSNorm and its gated form.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernel_table::{Constant, Kernel, constants};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::{Cols, GatedNorm, Norm};
use crate::ops::op_traits::NormKernels;

impl NormKernels for WebGpu {
    fn rms_norm(&mut self, norm: &Norm<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        rms_norm(self, norm, x, y);
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<WebGpu>,
        x: &WebGpuTensor,
        gate: Cols<WebGpuTensor>,
        y: &mut WebGpuTensor,
    ) {
        gated_rms_norm(self, norm, x, gate, y);
    }
}

/// Threads per workgroup. A row has one workgroup, and in a decode step there is only one row.
const NORM_THREADS: usize = 256;
/// Vectors of four elements that a thread keeps in registers.
const KEPT_FOURS: usize = 8;

pub const NORM: &[Constant] = &constants![THREADS = NORM_THREADS, KEPT_FOURS];

/// Whether rows of this width, at distances of `strides`, can be read as vectors and kept in registers. All rows of the
/// published models can.
fn fits_registers(width: usize, strides: &[usize]) -> bool {
    let in_fours = strides.iter().all(|stride| stride.is_multiple_of(4));
    width.is_multiple_of(4) && width <= 4 * KEPT_FOURS * NORM_THREADS && in_fours
}

uniforms! {
    pub struct RmsNormParams {
        width: usize,
        eps: f32,
    }
}

uniforms! {
    pub struct GatedRmsNormParams {
        /// Channels per group.
        width: usize,
        n_groups: usize,
        gate_start: usize,
        gate_stride: usize,
        eps: f32,
    }
}

fn rms_norm(gpu: &mut WebGpu, norm: &Norm<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(x.rows);
    let kernel = if fits_registers(x.cols, &[]) {
        Kernel::RmsNorm
    } else {
        Kernel::RmsNormAny
    };
    gpu.recorder.dispatch(
        kernel,
        &[&norm.weight.buffer, &x.buffer, &y.buffer],
        &RmsNormParams {
            width: x.cols,
            eps: norm.eps,
        },
        [x.rows, 1, 1],
    );
}

fn gated_rms_norm(
    gpu: &mut WebGpu,
    norm: &GatedNorm<WebGpu>,
    x: &WebGpuTensor,
    gate: Cols<WebGpuTensor>,
    y: &mut WebGpuTensor,
) {
    y.resize(x.rows);
    let width = x.cols / norm.n_groups;
    let kernel = if fits_registers(width, &[gate.start, gate.tensor.cols]) {
        Kernel::GatedRmsNorm
    } else {
        Kernel::GatedRmsNormAny
    };
    gpu.recorder.dispatch(
        kernel,
        &[
            &norm.weight.buffer,
            &x.buffer,
            &gate.tensor.buffer,
            &y.buffer,
        ],
        &GatedRmsNormParams {
            width,
            n_groups: norm.n_groups,
            gate_start: gate.start,
            gate_stride: gate.tensor.cols,
            eps: norm.eps,
        },
        [norm.n_groups, x.rows, 1],
    );
}
