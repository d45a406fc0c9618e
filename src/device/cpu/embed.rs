//! Embedding lookup.

use crate::device::cpu::Cpu;
use crate::device::cpu::elementwise::copy;
use crate::device::cpu::linear::CpuWeight;
use crate::device::cpu::tensor::CpuTensor;
use crate::ops::op_traits::EmbedKernels;
use crate::text::sampling::TopK;

impl EmbedKernels for Cpu {
    fn embed(&mut self, table: &CpuWeight, tokens: &[u32], ys: &mut [&mut CpuTensor]) {
        embed(table, tokens, ys[0]);
        copy_first(ys);
    }

    fn embed_top(&mut self, table: &CpuWeight, top: &CpuTensor, ys: &mut [&mut CpuTensor]) {
        embed_top(table, top, ys[0]);
        copy_first(ys);
    }
}

/// Row t of y is row `tokens[t]` of the table.
fn embed(table: &CpuWeight, tokens: &[u32], y: &mut CpuTensor) {
    let cols = table.cols;
    for (token, y) in tokens.iter().zip(y.resize(tokens.len()).chunks_mut(cols)) {
        table.row(*token as usize, y);
    }
}

/// y = the row of the chosen token of `top`, or the first row if the logits were not finite.
fn embed_top(table: &CpuWeight, top: &CpuTensor, y: &mut CpuTensor) {
    let top = TopK::from_row(top.values());
    let known = |token: &u32| (*token as usize) < table.rows;
    let token = Some(top.chosen).filter(known);
    embed(table, &[token.unwrap_or(0)], y);
}

/// Copies the first of `ys` to the others.
fn copy_first(ys: &mut [&mut CpuTensor]) {
    if let [first, others @ ..] = ys {
        for other in others {
            copy(first, other);
        }
    }
}
