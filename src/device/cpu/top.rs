//! Repetition penalty and top-k of the logits, and the draw of a token from them.

use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::CpuTensor;
use crate::ops::device::Draw;
use crate::ops::op_traits::TopKernels;
use crate::text::sampling::{TopK, penalised};

impl TopKernels for Cpu {
    fn penalise(
        &mut self,
        penalty: f64,
        chosen: Option<&CpuTensor>,
        logits: &CpuTensor,
        seen: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        penalise(penalty, chosen, logits, seen, y);
    }

    fn top(&mut self, logits: &CpuTensor, y: &mut CpuTensor) {
        top(logits, y);
    }

    fn draw(&mut self, draw: &Draw, top: &mut CpuTensor) {
        draw_token(draw, top);
    }
}

/// y = the logits, with those of seen tokens penalised. The chosen token of a list is marked as seen first.
fn penalise(
    penalty: f64,
    chosen: Option<&CpuTensor>,
    logits: &CpuTensor,
    seen: &mut CpuTensor,
    y: &mut CpuTensor,
) {
    let seen = seen.values_mut();
    let chosen = chosen.map(|list| TopK::from_row(list.values()).chosen as usize);
    if let Some(mark) = chosen.and_then(|token| seen.get_mut(token)) {
        *mark = 1.0;
    }
    let pairs = logits.values().iter().zip(seen);
    for (y, (logit, seen)) in y.resize(1).iter_mut().zip(pairs) {
        // Non-finite logits are not changed, so that they are detected later.
        let is_penalised = *seen != 0.0 && logit.is_finite();
        *y = if is_penalised {
            penalised(*logit, penalty)
        } else {
            *logit
        };
    }
}

/// y = the [`TopK`] of one row of logits.
fn top(logits: &CpuTensor, y: &mut CpuTensor) {
    let top = TopK::of(logits.values(), TopK::places(y.cols()));
    top.write(y.resize(1));
}

/// Draws a token from a list and stores it there as the chosen one.
fn draw_token(draw: &Draw, list: &mut CpuTensor) {
    let row = list.values_mut();
    if let Some(token) = draw.choose(row) {
        row[TopK::CHOSEN] = token as f32;
    }
}
