//! The causal depthwise convolution with its SiLU and its state.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernel_table::{Kernel, per_number};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::{Cols, Conv1d};
use crate::ops::op_traits::ConvKernels;

impl ConvKernels for WebGpu {
    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<WebGpu>,
        x: Cols<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        causal_conv1d(self, conv, x, state, y);
    }
}

/// From this many tokens on, tokens are computed in parallel and a second kernel updates the state afterwards.
const PARALLEL_FROM: usize = 5;

uniforms! {
    pub struct Conv1dParams {
        n_tokens: usize,
        channels: usize,
        d_conv: usize,
        x_start: usize,
        x_stride: usize,
    }
}

fn causal_conv1d(
    gpu: &mut WebGpu,
    conv: &Conv1d<WebGpu>,
    x: Cols<WebGpuTensor>,
    state: &mut WebGpuTensor,
    y: &mut WebGpuTensor,
) {
    let (n_tokens, channels, d_conv) = (x.tensor.rows, x.len, conv.weight.rows);
    y.resize(n_tokens);
    let params = Conv1dParams {
        n_tokens,
        channels,
        d_conv,
        x_start: x.start,
        x_stride: x.tensor.cols,
    };
    let buffers = [
        &conv.weight.buffer,
        &conv.bias.buffer,
        &x.tensor.buffer,
        &state.buffer,
        &y.buffer,
    ];
    let mut dispatch = |kernel, rows| {
        let workgroups = per_number(channels, rows);
        gpu.recorder.dispatch(kernel, &buffers, &params, workgroups);
    };
    if n_tokens < PARALLEL_FROM {
        dispatch(Kernel::Conv1d, 1);
    } else {
        dispatch(Kernel::Conv1dRows, n_tokens);
        dispatch(Kernel::Conv1dState, 1);
    }
}
