//! RMSNorm and its gated form.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernels::Kernel;
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::{Cols, GatedNorm, Norm};

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

pub fn rms_norm(be: &mut WebGpu, norm: &Norm<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
    y.resize(x.rows);
    be.recorder.dispatch(
        Kernel::RmsNorm,
        &[&norm.weight.buffer, &x.buffer, &y.buffer],
        &RmsNormParams {
            width: x.cols,
            eps: norm.eps,
        },
        [x.rows, 1, 1],
    );
}

pub fn gated_rms_norm(
    be: &mut WebGpu,
    norm: &GatedNorm<WebGpu>,
    x: &WebGpuTensor,
    gate: Cols<WebGpuTensor>,
    y: &mut WebGpuTensor,
) {
    y.resize(x.rows);
    be.recorder.dispatch(
        Kernel::GatedRmsNorm,
        &[
            &norm.weight.buffer,
            &x.buffer,
            &gate.tensor.buffer,
            &y.buffer,
        ],
        &GatedRmsNormParams {
            width: x.cols / norm.n_groups,
            n_groups: norm.n_groups,
            gate_start: gate.start,
            gate_stride: gate.tensor.cols,
            eps: norm.eps,
        },
        [norm.n_groups, x.rows, 1],
    );
}
