//! Top-k of the logits.

use crate::device::cpu::tensor::CpuTensor;
use crate::text::sampling::Top;

/// Writes the [`Top`] of one row of logits to row `row` of y.
pub fn top(logits: &CpuTensor, row: usize, y: &mut CpuTensor) {
    let cols = y.cols();
    let top = Top::of(logits.values(), Top::places(cols));
    top.write(&mut y.resize(row + 1)[row * cols..]);
}
