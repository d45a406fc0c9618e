//! Embedding lookup, for tokens known to the host or chosen on the device.

use crate::base::quant::BLOCK;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::kernels::{ByFormat, Constant, constants, per_number};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::weight::{GROUP, WebGpuWeight};
use crate::text::sampling::Top;

/// Tokens per dispatch; they are in its uniform block.
const EMBED_TOKENS: usize = 64;

pub const EMBED: &[Constant] = &constants![BLOCK, GROUP];

uniforms! {
    pub struct EmbedParams {
        tokens: [u32; EMBED_TOKENS],
        /// Groups of columns in a row.
        n_groups: usize,
        cols: usize,
        /// Rows of the table in this binding.
        first_row: usize,
        n_rows: usize,
        /// Where these rows begin in the buffers.
        buffer_row: usize,
        /// The row of y for the first token.
        first_token: usize,
        /// For a token chosen on the device: its index in the tensor `chosen`, plus one. 0 if the tokens are in
        /// `tokens`.
        chosen_end: usize,
        /// 1 or 2.
        n_outputs: usize,
    }
}

/// Row t of each of `ys` is row `tokens[t]` of the table.
pub fn embed(be: &mut WebGpu, weight: &WebGpuWeight, tokens: &[u32], ys: &mut [&mut WebGpuTensor]) {
    for (i, tokens) in tokens.chunks(EMBED_TOKENS).enumerate() {
        embed_impl(be, weight, tokens, i * EMBED_TOKENS, None, ys);
    }
}

/// Each of `ys` is the table's row for the chosen token of row `row` of `top`.
pub fn embed_top(
    be: &mut WebGpu,
    weight: &WebGpuWeight,
    top: &WebGpuTensor,
    row: usize,
    ys: &mut [&mut WebGpuTensor],
) {
    let index = row * top.cols + Top::CHOSEN;
    embed_impl(be, weight, &[0], 0, Some((top, index)), ys);
}

/// Row `first_token + t` of each of `ys` is row `tokens[t]` of the table. With `chosen`, the only token is read from
/// that index of a tensor instead.
fn embed_impl(
    be: &mut WebGpu,
    weight: &WebGpuWeight,
    tokens: &[u32],
    first_token: usize,
    chosen: Option<(&WebGpuTensor, usize)>,
    ys: &mut [&mut WebGpuTensor],
) {
    for y in ys.iter_mut() {
        y.resize(first_token + tokens.len());
    }
    let kernel = ByFormat::EMBED.kernel(weight.format);
    let (chosen, chosen_end) = match chosen {
        Some((tensor, index)) => (&tensor.buffer, index + 1),
        None => (&be.dummy, 0),
    };
    let mut uniform_tokens = [0; EMBED_TOKENS];
    uniform_tokens[..tokens.len()].copy_from_slice(tokens);
    for part in &weight.parts {
        let place = part.place();
        be.recorder.dispatch(
            kernel,
            &[
                &place.quants,
                &place.scales,
                chosen,
                &ys[0].buffer,
                ys.get(1).map_or(&be.written_dummy, |y| &y.buffer),
            ],
            &EmbedParams {
                tokens: uniform_tokens,
                n_groups: weight.n_groups,
                cols: weight.cols,
                first_row: part.first_row,
                n_rows: part.rows,
                buffer_row: place.buffer_row,
                first_token,
                chosen_end,
                n_outputs: ys.len(),
            },
            per_number(weight.n_groups, tokens.len()),
        );
    }
}
