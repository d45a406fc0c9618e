//! Linear layers y = W·x + bias. There are different kernels for one token and for many: few tokens are limited by
//! reading W, many by arithmetic. The layout of W is in `weight.rs`.

use crate::base::quant::BLOCK;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::{DeviceBuffer, ScratchBuffer};
use crate::device::webgpu::elementwise::{copy, copy_rows};
use crate::device::webgpu::kernel_table::{ByFormat, Constant, THREADS, constants};
use crate::device::webgpu::recorder::Recorder;
use crate::device::webgpu::tensor::{Region, WebGpuTensor};
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::variants::{ChosenVariants, Form};
use crate::device::webgpu::weight::{GROUP, WebGpuWeight};
use crate::ops::device::Linear;
use crate::ops::op_traits::LinearKernels;

impl LinearKernels for WebGpu {
    fn linear(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        linear_impl(self, linear, x, None, false, y);
    }

    fn linear_add(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        linear_impl(self, linear, x, None, true, y);
    }

    fn linear_residual(
        &mut self,
        linear: &Linear<WebGpu>,
        x: &WebGpuTensor,
        residual: &WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        linear_residual(self, linear, x, residual, y);
    }
}

/// Up to this many tokens the first variant of `linear/mat.wgsl` is used: larger tiles would be mostly empty.
const SMALL_MAT_TOKENS: usize = 32;
/// With up to this many tokens, short rows get one thread each: a workgroup per row would be mostly idle.
const SHORT_TOKENS: usize = 4;
/// A row of up to this many bytes is short.
pub const SHORT_ROW_BYTES: usize = 256;
/// Bits of [`LinearParams::flags`].
const ADD_BIAS: usize = 1;
pub const ADD_TO_Y: usize = 2;
/// Lanes of a WGSL vector.
pub const FOUR: usize = 4;

pub const SHORT: &[Constant] = &constants![BLOCK, GROUP, ADD_BIAS, ADD_TO_Y, CHECKS_X = 1];
/// The constants that all variants have; the others are in the variants.
pub const VEC: &[Constant] = &constants![BLOCK, GROUP, ADD_BIAS, ADD_TO_Y, CHECKS_X = 0];
/// As for [`VEC`].
pub const MAT: &[Constant] = SHORT;

uniforms! {
    pub struct LinearParams {
        n_tokens: usize,
        /// Rows of this part of the matrix, and where they begin in the buffers.
        n_rows: usize,
        buffer_row: usize,
        /// Groups of columns per row.
        n_groups: usize,
        /// Vectors of four elements per row of x.
        x_fours: usize,
        /// The column of y computed by the first row.
        y_start: usize,
        y_stride: usize,
        flags: usize,
    }
}

/// y = W·x + bias + residual. A single row of a residual is passed in the place of a bias: both have the shape [1,
/// d_out].
fn linear_residual(
    gpu: &mut WebGpu,
    linear: &Linear<WebGpu>,
    x: &WebGpuTensor,
    residual: &WebGpuTensor,
    y: &mut WebGpuTensor,
) {
    if x.rows == 1 && linear.bias.is_none() {
        linear_impl(gpu, linear, x, Some(residual), false, y);
    } else {
        copy(gpu, residual, y);
        linear_impl(gpu, linear, x, None, true, y);
    }
}

/// y = W·x + bias, or y += W·x + bias. `row` takes the place of the bias.
fn linear_impl(
    gpu: &mut WebGpu,
    linear: &Linear<WebGpu>,
    x: &WebGpuTensor,
    row: Option<&WebGpuTensor>,
    add_to_y: bool,
    y: &mut WebGpuTensor,
) {
    let weight = &linear.weight;
    y.resize(x.rows);
    let (bias, bias_flag) = match row.or(linear.bias.as_ref()) {
        Some(bias) => (&bias.buffer, ADD_BIAS),
        None => (&gpu.dummy, 0),
    };
    let add_flag = if add_to_y { ADD_TO_Y } else { 0 };
    let tile = Tile::of(&gpu.variants, weight, x.rows);
    let x_cols = tile.x_cols;
    let x_buffer = if x_cols == x.cols {
        &x.buffer
    } else {
        padded_rows(&mut gpu.padded_x, &mut gpu.recorder, x, x_cols)
    };
    for part in &weight.parts {
        let place = part.place();
        gpu.recorder.dispatch(
            tile.form,
            &[&place.quants, &place.scales, x_buffer, &y.buffer, bias],
            &LinearParams {
                n_tokens: x.rows,
                n_rows: part.rows,
                buffer_row: place.buffer_row,
                n_groups: weight.n_groups,
                x_fours: x_cols / FOUR,
                y_start: part.first_row,
                y_stride: weight.rows,
                flags: bias_flag | add_flag,
            },
            [
                part.rows.div_ceil(tile.rows),
                x.rows.div_ceil(tile.tokens),
                1,
            ],
        );
    }
}

/// Whether few tokens are computed by `linear/short`, which has no variants.
pub fn has_short_rows(weight: &WebGpuWeight) -> bool {
    weight.row_bytes() <= SHORT_ROW_BYTES
}

/// A kernel, and the part of y computed by one of its workgroups.
struct Tile {
    form: Form,
    rows: usize,
    tokens: usize,
    /// Columns to which rows of x are padded.
    x_cols: usize,
}

impl Tile {
    /// The kernel for `weight` and `n_tokens` tokens, in the variant that the device has chosen.
    fn of(variants: &ChosenVariants, weight: &WebGpuWeight, n_tokens: usize) -> Tile {
        let fours = weight.cols.next_multiple_of(FOUR);
        let groups = weight.n_groups * GROUP;
        if n_tokens <= SHORT_TOKENS && has_short_rows(weight) {
            return Tile {
                form: ByFormat::LINEAR_SHORT.kernel(weight.format).into(),
                rows: THREADS,
                tokens: 1,
                x_cols: fours,
            };
        }
        let form = |kernels: ByFormat| variants.form(kernels.kernel(weight.format));
        for form in [form(ByFormat::LINEAR_ONE), form(ByFormat::LINEAR_FEW)] {
            if n_tokens <= form.shape().most_tokens {
                return Tile::varied(form, groups);
            }
        }
        match n_tokens {
            ..=SMALL_MAT_TOKENS => {
                let first = ByFormat::LINEAR_MAT.kernel(weight.format);
                Tile::varied(first.into(), fours)
            }
            _ => Tile::varied(form(ByFormat::LINEAR_MAT), fours),
        }
    }

    fn varied(form: Form, x_cols: usize) -> Tile {
        Tile {
            form,
            rows: form.shape().rows,
            tokens: form.shape().tokens,
            x_cols,
        }
    }
}

/// The rows of `x`, each padded with zeros to `cols` elements. No published model needs it.
fn padded_rows<'a>(
    padded: &'a mut ScratchBuffer,
    recorder: &mut Recorder,
    x: &WebGpuTensor,
    cols: usize,
) -> &'a DeviceBuffer {
    let buffer = padded.at_least(recorder, x.rows * cols);
    recorder.clear(buffer);
    let to = Region {
        buffer,
        start: 0,
        stride: cols,
    };
    copy_rows(recorder, x.region(), to, x.rows, x.cols);
    buffer
}
