//! The selective state-space scan of Mamba-2 (arXiv:2405.21060): the recurrence for a few tokens, the dual form in
//! chunks for more.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::{DeviceBuffer, ScratchBuffer};
use crate::device::webgpu::kernel_table::{Constant, Kernel, constants};
use crate::device::webgpu::recorder::Recorder;
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::{Ssm, SsmInput};
use crate::ops::fused::GatedScan;
use crate::ops::op_traits::ScanKernels;

impl ScanKernels for WebGpu {
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<WebGpu>,
        input: SsmInput<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        ssm_scan(self, ssm, input, state, y);
    }
}

/// Tokens per chunk of the dual form.
const CHUNK: usize = 64;
/// From this many tokens on the dual form, which computes tokens in parallel, replaces the recurrence.
const DUAL_FROM: usize = 8;
/// Rows and columns of a product computed by one workgroup.
const PRODUCT_SIDE: usize = 32;
/// Threads per workgroup of the recurrence for the published sizes of d_state.
const SCAN_THREADS: usize = 256;
/// Channels per workgroup of the recurrence for any size.
const SCAN_CHANNELS: usize = 4;
/// The largest d_state for which the recurrence has registers.
pub const MAX_STATE: usize = 256;

pub const SCAN_32: &[Constant] = &constants![THREADS = SCAN_THREADS, D_STATE = 32];
pub const SCAN_64: &[Constant] = &constants![THREADS = SCAN_THREADS, D_STATE = 64];
pub const SCAN_128: &[Constant] = &constants![THREADS = SCAN_THREADS, D_STATE = 128];
pub const SCAN_ANY: &[Constant] = &constants![SCAN_CHANNELS, MAX_STATE];
pub const DUAL: &[Constant] = &constants![CHUNK, PRODUCT_SIDE];

uniforms! {
    pub struct SsmParams {
        /// The first token of this dispatch.
        first: usize,
        n_tokens: usize,
        n_heads: usize,
        head_dim: usize,
        d_state: usize,
        n_groups: usize,
        x_start: usize,
        b_start: usize,
        c_start: usize,
        xbc_stride: usize,
        dt_start: usize,
        dt_stride: usize,
        dt_min: f32,
        /// 0 or 1: y is multiplied by silu(gate).
        is_gated: usize,
        /// A column of the tensor of dt.
        gate_start: usize,
    }
}

/// Intermediate results of the dual form.
pub struct DualScratch {
    /// C·B of all pairs of tokens in a chunk. // [G, CHUNK, CHUNK]
    cb: ScratchBuffer,
    /// Factors by which the state, and each token's input, have decayed after each token. // [H, CHUNK, 1 + CHUNK]
    decay: ScratchBuffer,
}

impl DualScratch {
    pub fn new(recorder: &mut Recorder) -> DualScratch {
        DualScratch {
            cb: ScratchBuffer::new(recorder),
            decay: ScratchBuffer::new(recorder),
        }
    }
}

pub fn ssm_scan(
    gpu: &mut WebGpu,
    ssm: &Ssm<WebGpu>,
    input: SsmInput<WebGpuTensor>,
    state: &mut WebGpuTensor,
    y: &mut WebGpuTensor,
) {
    let call = Call::new(ssm, input, None, state, y);
    if call.params.n_tokens < DUAL_FROM {
        call.recurrence(&mut gpu.recorder);
    } else {
        call.dual_form(&mut gpu.recorder, &mut gpu.dual_scratch);
    }
}

/// y = scan(input) · silu(gate), for one row.
pub fn gated_scan(gpu: &mut WebGpu, op: GatedScan<WebGpu>) {
    let call = Call::new(op.ssm, op.input, Some(op.gate.start), op.state, op.y);
    call.recurrence(&mut gpu.recorder);
}

/// One call of the scan.
struct Call<'a> {
    ssm: &'a Ssm<WebGpu>,
    xbc: &'a WebGpuTensor,
    dt: &'a WebGpuTensor,
    state: &'a WebGpuTensor,
    y: &'a WebGpuTensor,
    /// Parameters for all tokens.
    params: SsmParams,
}

impl<'a> Call<'a> {
    /// `gate_start`: the first column of the gate in the tensor of dt, if y is gated.
    fn new(
        ssm: &'a Ssm<WebGpu>,
        input: SsmInput<'a, WebGpuTensor>,
        gate_start: Option<usize>,
        state: &'a WebGpuTensor,
        y: &'a mut WebGpuTensor,
    ) -> Call<'a> {
        let SsmInput {
            x,
            b,
            c,
            dt,
            dt_min,
        } = input;
        let xbc = x.tensor;
        assert!(
            std::ptr::eq(xbc, b.tensor) && std::ptr::eq(xbc, c.tensor),
            "x, b and c must be columns of one tensor: kernels bind it once"
        );
        assert!(
            ssm.d_state <= MAX_STATE,
            "d_state is {}, the scan supports at most {MAX_STATE}",
            ssm.d_state
        );
        y.resize(xbc.rows);
        Call {
            ssm,
            xbc,
            dt: dt.tensor,
            state,
            y,
            params: SsmParams {
                first: 0,
                n_tokens: xbc.rows,
                n_heads: ssm.n_heads,
                head_dim: ssm.head_dim,
                d_state: ssm.d_state,
                n_groups: ssm.n_groups,
                x_start: x.start,
                b_start: b.start,
                c_start: c.start,
                xbc_stride: xbc.cols,
                dt_start: dt.start,
                dt_stride: dt.tensor.cols,
                dt_min,
                is_gated: usize::from(gate_start.is_some()),
                gate_start: gate_start.unwrap_or(0),
            },
        }
    }

    /// The kernel of the recurrence, and the number of channels per workgroup.
    fn scan_kernel(&self) -> (Kernel, usize) {
        let SsmParams {
            d_state,
            b_start,
            c_start,
            xbc_stride,
            ..
        } = self.params;
        let starts = [b_start, c_start, xbc_stride];
        let kernel = match d_state {
            _ if !starts.iter().all(|start| start.is_multiple_of(4)) => None,
            32 => Some(Kernel::SsmScan32),
            64 => Some(Kernel::SsmScan64),
            128 => Some(Kernel::SsmScan128),
            _ => None,
        };
        match kernel {
            Some(kernel) => (kernel, SCAN_THREADS / (d_state / 4)),
            None => (Kernel::SsmScanAny, SCAN_CHANNELS),
        }
    }

    fn recurrence(&self, recorder: &mut Recorder) {
        let Call { ssm, params, .. } = self;
        let n_channels = ssm.n_heads * ssm.head_dim;
        let (kernel, per_workgroup) = self.scan_kernel();
        recorder.dispatch(
            kernel,
            &[
                &self.xbc.buffer,
                &self.dt.buffer,
                &ssm.dt_bias.buffer,
                &ssm.a.buffer,
                &ssm.d.buffer,
                &self.state.buffer,
                &self.y.buffer,
            ],
            params,
            [n_channels.div_ceil(per_workgroup), 1, 1],
        );
    }

    fn dual_form(&self, recorder: &mut Recorder, scratch: &mut DualScratch) {
        let ssm = self.ssm;
        let cb = (scratch.cb).at_least(recorder, ssm.n_groups * CHUNK * CHUNK);
        let decay = (scratch.decay).at_least(recorder, ssm.n_heads * CHUNK * (1 + CHUNK));
        for first in (0..self.params.n_tokens).step_by(CHUNK) {
            let params = SsmParams {
                first,
                n_tokens: CHUNK.min(self.params.n_tokens - first),
                ..self.params
            };
            self.chunk(recorder, &params, cb, decay);
        }
    }

    fn chunk(
        &self,
        recorder: &mut Recorder,
        params: &SsmParams,
        cb: &DeviceBuffer,
        decay: &DeviceBuffer,
    ) {
        let Call { ssm, xbc, .. } = self;
        let [tokens, channels, states] =
            [params.n_tokens, ssm.head_dim, ssm.d_state].map(|n| n.div_ceil(PRODUCT_SIDE));
        recorder.dispatch(
            Kernel::SsmDecay,
            &[&self.dt.buffer, &ssm.dt_bias.buffer, &ssm.a.buffer, decay],
            params,
            [ssm.n_heads, 1, 1],
        );
        recorder.dispatch(
            Kernel::SsmCb,
            &[&xbc.buffer, cb],
            params,
            [tokens, tokens, ssm.n_groups],
        );
        recorder.dispatch(
            Kernel::SsmOutputs,
            &[
                &xbc.buffer,
                cb,
                decay,
                &ssm.d.buffer,
                &self.state.buffer,
                &self.y.buffer,
            ],
            params,
            [tokens, channels, ssm.n_heads],
        );
        recorder.dispatch(
            Kernel::SsmState,
            &[&xbc.buffer, decay, &self.state.buffer],
            params,
            [channels, states, ssm.n_heads],
        );
    }
}
