//! Embedding lookup.

use crate::device::cpu::linear::CpuWeight;
use crate::device::cpu::tensor::CpuTensor;
use crate::text::sampling::TopK;

/// Row t of y is row `tokens[t]` of the table.
pub fn embed(table: &CpuWeight, tokens: &[u32], y: &mut CpuTensor) {
    let cols = table.cols;
    for (token, y) in tokens.iter().zip(y.resize(tokens.len()).chunks_mut(cols)) {
        table.row(*token as usize, y);
    }
}

/// y = the row of the chosen token of `top`, or the first row if the logits were not finite.
pub fn embed_top(table: &CpuWeight, top: &CpuTensor, y: &mut CpuTensor) {
    let top = TopK::from_row(top.values());
    let known = |token: &u32| (*token as usize) < table.rows;
    let token = Some(top.chosen).filter(known);
    embed(table, &[token.unwrap_or(0)], y);
}
