//! Embedding lookup, for tokens known to the host or chosen on the device.

use crate::base::quant::BLOCK;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernel_table::{ByFormat, Constant, constants, per_number};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::weight::{GROUP, WebGpuWeight};
use crate::ops::op_traits::EmbedKernels;
use crate::text::sampling::TopK;

impl EmbedKernels for WebGpu {
    fn embed(&mut self, table: &WebGpuWeight, tokens: &[u32], ys: &mut [&mut WebGpuTensor]) {
        embed(self, table, tokens, ys);
    }

    fn embed_top(
        &mut self,
        table: &WebGpuWeight,
        top: &WebGpuTensor,
        ys: &mut [&mut WebGpuTensor],
    ) {
        embed_top(self, table, top, ys);
    }
}

/// Tokens per dispatch; they are in its uniform block.
const EMBED_TOKENS: usize = 32;

pub const EMBED: &[Constant] = &constants![BLOCK, GROUP, CHOSEN = TopK::CHOSEN];

uniforms! {
    pub struct EmbedParams {
        tokens: [u32; EMBED_TOKENS],
        /// Groups of columns in a row.
        n_groups: usize,
        cols: usize,
        /// Rows of the table in this binding.
        first_row: usize,
        n_rows: usize,
        /// The first of these rows in the buffers.
        buffer_row: usize,
        /// The row of y for the first token.
        first_token: usize,
        /// 1 if the token is the chosen one of the list `chosen`; 0 if the tokens are in `tokens`.
        is_chosen: usize,
        /// 1 or 2.
        n_outputs: usize,
    }
}

/// Row t of each of `ys` is row `tokens[t]` of the table.
fn embed(gpu: &mut WebGpu, weight: &WebGpuWeight, tokens: &[u32], ys: &mut [&mut WebGpuTensor]) {
    for (i, tokens) in tokens.chunks(EMBED_TOKENS).enumerate() {
        embed_impl(gpu, weight, tokens, i * EMBED_TOKENS, None, ys);
    }
}

/// Each of `ys` becomes the table's row for the chosen token of `top`.
fn embed_top(
    gpu: &mut WebGpu,
    weight: &WebGpuWeight,
    top: &WebGpuTensor,
    ys: &mut [&mut WebGpuTensor],
) {
    embed_impl(gpu, weight, &[0], 0, Some(top), ys);
}

/// Row `first_token + t` of each of `ys` is row `tokens[t]` of the table. With `chosen`, the only token is the chosen
/// one of that list instead.
fn embed_impl(
    gpu: &mut WebGpu,
    weight: &WebGpuWeight,
    tokens: &[u32],
    first_token: usize,
    chosen: Option<&WebGpuTensor>,
    ys: &mut [&mut WebGpuTensor],
) {
    for y in ys.iter_mut() {
        y.resize(first_token + tokens.len());
    }
    let kernel = ByFormat::EMBED.kernel(weight.format);
    let is_chosen = usize::from(chosen.is_some());
    let chosen = chosen.map_or(&gpu.dummy, |list| &list.buffer);
    let mut uniform_tokens = [0; EMBED_TOKENS];
    uniform_tokens[..tokens.len()].copy_from_slice(tokens);
    for part in &weight.parts {
        let place = part.place();
        gpu.recorder.dispatch(
            kernel,
            &[
                &place.quants,
                &place.scales,
                chosen,
                &ys[0].buffer,
                ys.get(1).map_or(&gpu.written_dummy, |y| &y.buffer),
            ],
            &EmbedParams {
                tokens: uniform_tokens,
                n_groups: weight.n_groups,
                cols: weight.cols,
                first_row: part.first_row,
                n_rows: part.rows,
                buffer_row: place.buffer_row,
                first_token,
                is_chosen,
                n_outputs: ys.len(),
            },
            per_number(weight.n_groups, tokens.len()),
        );
    }
}
