//! Repetition penalty and top-k of a row of logits, and the draw of a token from them.

use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernel_table::{Constant, Kernel, constants, per_number};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::ops::device::Draw;
use crate::ops::op_traits::TopKernels;
use crate::text::sampling::TopK;

impl TopKernels for WebGpu {
    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&WebGpuTensor>,
        logits: &WebGpuTensor,
        seen: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        penalise(self, penalty, chosen, logits, seen, y);
    }

    fn top(&mut self, logits: &WebGpuTensor, y: &mut WebGpuTensor) {
        top(self, logits, y);
    }

    fn draw(&mut self, draw: &Draw, top: &mut WebGpuTensor) {
        draw_token(self, draw, top);
    }
}

/// Logits per workgroup.
const PLACES: usize = 1024;
/// Threads per workgroup.
const SORT_THREADS: usize = 256;
/// Elements of a group's result before its tokens: the sum of exponentials and the first logit that is not finite.
const GROUP_HEADER: usize = 2;

pub const TOP: &[Constant] = &constants![
    PLACES,
    SORT_THREADS,
    GROUP_HEADER,
    TOP_HEADER = TopK::FIRST_TOKEN,
    CHOSEN = TopK::CHOSEN
];

pub const PENALTY: &[Constant] = &constants![CHOSEN = TopK::CHOSEN];
pub const DRAW: &[Constant] = &constants![TOP_HEADER = TopK::FIRST_TOKEN, CHOSEN = TopK::CHOSEN];

uniforms! {
    pub struct PenaliseParams {
        n_logits: usize,
        penalty: f32,
        /// 1 if there is a list whose chosen token is to be marked.
        has_chosen: usize,
    }
}

uniforms! {
    pub struct TopGroupsParams {
        n_logits: usize,
        k: usize,
    }
}

uniforms! {
    pub struct TopMergeParams {
        n_groups: usize,
        k: usize,
    }
}

uniforms! {
    pub struct DrawParams {
        temperature: f32,
        top_p: f32,
        min_p: f32,
        random: f32,
        top_k: usize,
    }
}

/// y = the logits, with those of seen tokens penalised. The chosen token of a list is marked as seen first.
fn penalise(
    gpu: &mut WebGpu,
    penalty: f64,
    chosen: Option<&WebGpuTensor>,
    logits: &WebGpuTensor,
    seen: &WebGpuTensor,
    y: &mut WebGpuTensor,
) {
    y.resize(1);
    gpu.recorder.dispatch(
        Kernel::Penalise,
        &[
            chosen.map_or(&gpu.dummy, |list| &list.buffer),
            &logits.buffer,
            &seen.buffer,
            &y.buffer,
        ],
        &PenaliseParams {
            n_logits: logits.cols,
            penalty: penalty as f32,
            has_chosen: usize::from(chosen.is_some()),
        },
        per_number(logits.cols, 1),
    );
}

/// y = the [`TopK`] of one row of logits.
fn top(gpu: &mut WebGpu, logits: &WebGpuTensor, y: &mut WebGpuTensor) {
    let (n_logits, k) = (logits.cols, TopK::places(y.cols));
    assert!((1..=TopK::MOST).contains(&k) && n_logits <= TopK::MOST_VOCAB);
    y.resize(1);
    let n_groups = n_logits.div_ceil(PLACES);
    let n_numbers = n_groups * (GROUP_HEADER + 2 * k);
    let groups = gpu.top_groups.at_least(&mut gpu.recorder, n_numbers); // [groups, GROUP_HEADER + 2k]
    // The largest logit alone needs no sort.
    let [of_groups, merge] = match k {
        1 => [Kernel::TopGroupsOne, Kernel::TopMergeOne],
        _ => [Kernel::TopGroups, Kernel::TopMerge],
    };
    gpu.recorder.dispatch(
        of_groups,
        &[&logits.buffer, groups],
        &TopGroupsParams { n_logits, k },
        [n_groups, 1, 1],
    );
    gpu.recorder.dispatch(
        merge,
        &[groups, &y.buffer],
        &TopMergeParams { n_groups, k },
        [1, 1, 1],
    );
}

/// Draws a token from a list and stores it there as the chosen one.
fn draw_token(gpu: &mut WebGpu, draw: &Draw, list: &WebGpuTensor) {
    gpu.recorder.dispatch(
        Kernel::TopDraw,
        &[&list.buffer],
        &DrawParams {
            temperature: draw.temperature,
            top_p: draw.top_p,
            min_p: draw.min_p,
            random: draw.random,
            top_k: draw.top_k,
        },
        [1, 1, 1],
    );
}
