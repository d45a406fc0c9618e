//! Fused kernels of a decode step: the forms of `linear.rs` for one row, with an RMSNorm of the row before the product
//! and other ops after it.

use crate::base::quant::BLOCK;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernels::{ByFormat, Constant, Kernel, THREADS, constants};
use crate::device::webgpu::linear::{ADD_TO_Y, ONE_ROWS, SHORT_ROW_BYTES};
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::weight::{GROUP, WebGpuWeight};
use crate::ops::device::Linear;
use crate::ops::fused::{InProj, NormLinears};

/// Means of a norm for which there are kernels; no published model has more.
const MAX_NORM_GROUPS: usize = 2;
/// Matrices that a kernel has bindings for.
const MAX_MATRICES: usize = 2;

/// `form![N]`, `form![N, ROWS = …]`: the constants of a kernel for a norm with N means.
macro_rules! form {
    ($groups:expr $(, $name:ident = $value:expr)*) => {
        &constants![BLOCK, GROUP, ADD_TO_Y, NORM_GROUPS = $groups $(, $name = $value)*]
    };
}

pub const NORM_SHORT: &[Constant] = form![1];
pub const NORM_TWO_SHORT: &[Constant] = form![MAX_NORM_GROUPS];
pub const NORM_ONE: &[Constant] = form![1, ROWS = ONE_ROWS, TOKENS = 1];
pub const NORM_TWO_ONE: &[Constant] = form![MAX_NORM_GROUPS, ROWS = ONE_ROWS, TOKENS = 1];

uniforms! {
    pub struct NormLinearsParams {
        /// 1.
        n_tokens: usize,
        /// Rows of this part of the matrix, or of both matrices.
        n_rows: usize,
        /// Rows of the first matrix.
        n_first_rows: usize,
        /// Groups of columns per row.
        n_groups: usize,
        /// The column of y computed by the first row.
        y_start: usize,
        flags: usize,
        eps: f32,
    }
}

uniforms! {
    pub struct InProjParams {
        /// 1.
        n_tokens: usize,
        /// Rows of this part of the matrix.
        n_rows: usize,
        /// Groups of columns per row.
        n_groups: usize,
        /// The column of y computed by the first row.
        y_start: usize,
        /// The columns of y that are convolved.
        xbc_start: usize,
        channels: usize,
        d_conv: usize,
        eps: f32,
    }
}

/// The kernels of a fused op for long rows and for short ones.
struct Forms {
    one: ByFormat,
    short: ByFormat,
}

const IN_PROJ: Forms = Forms {
    one: ByFormat::IN_PROJ_ONE,
    short: ByFormat::IN_PROJ_SHORT,
};
/// By number of means.
const NORM: [Forms; MAX_NORM_GROUPS] = [
    Forms {
        one: ByFormat::NORM_ONE,
        short: ByFormat::NORM_SHORT,
    },
    Forms {
        one: ByFormat::NORM_TWO_ONE,
        short: ByFormat::NORM_TWO_SHORT,
    },
];
const NORM_PAIR: Forms = Forms {
    one: ByFormat::NORM_PAIR_ONE,
    short: ByFormat::NORM_PAIR_SHORT,
};

impl Forms {
    /// The kernel for `weight`, and the number of rows per workgroup.
    fn of(&self, weight: &WebGpuWeight) -> (Kernel, usize) {
        let (form, rows) = if weight.row_bytes() <= SHORT_ROW_BYTES {
            (self.short, THREADS)
        } else {
            (self.one, ONE_ROWS)
        };
        (form.kernel(weight.format), rows)
    }
}

/// Whether one kernel computes all of `linears`: rows are not padded, each mean is over whole units, and a second
/// matrix begins in a workgroup of its own.
pub fn fuses_norm(linears: &[&Linear<WebGpu>], n_norm_groups: usize) -> bool {
    let Some(first) = linears.first() else {
        return false;
    };
    let first = &first.weight;
    let unit_columns = if first.format.is_quantized() {
        BLOCK
    } else {
        GROUP
    };
    let has_whole_units = first.cols.is_multiple_of(n_norm_groups * unit_columns);
    let is_plain = |linear: &&Linear<WebGpu>| linear.bias.is_none();
    let has_bindings = match linears {
        [_] => n_norm_groups <= MAX_NORM_GROUPS,
        _ => n_norm_groups == 1 && linears.len() <= MAX_MATRICES && is_pair(linears),
    };
    has_whole_units && linears.iter().all(is_plain) && has_bindings
}

/// Whether matrices have the same form, are not split, and fill whole workgroups but the last one.
fn is_pair(linears: &[&Linear<WebGpu>]) -> bool {
    let first = &linears[0].weight;
    let alike = |weight: &WebGpuWeight| weight.format == first.format && weight.cols == first.cols;
    let mut weights = linears.iter().map(|linear| &linear.weight);
    first.rows.is_multiple_of(ONE_ROWS) && weights.all(|w| alike(w) && w.parts.len() == 1)
}

pub fn in_proj(be: &mut WebGpu, op: InProj<WebGpu>) {
    let weight = &op.in_proj.weight;
    let (kernel, rows) = IN_PROJ.of(weight);
    op.y.resize(1);
    for part in &weight.parts {
        be.recorder.dispatch(
            kernel,
            &[
                &part.quants,
                &part.scales,
                &op.x.buffer,
                &op.y.buffer,
                &op.norm.weight.buffer,
                &op.conv1d.weight.buffer,
                &op.conv1d.bias.buffer,
                &op.state.buffer,
            ],
            &InProjParams {
                n_tokens: 1,
                n_rows: part.rows,
                n_groups: weight.n_groups,
                y_start: part.first_row,
                xbc_start: op.d_inner,
                channels: op.conv1d.weight.cols,
                d_conv: op.conv1d.weight.rows,
                eps: op.norm.eps,
            },
            [part.rows.div_ceil(rows), 1, 1],
        );
    }
}

pub fn norm_linears(be: &mut WebGpu, op: NormLinears<WebGpu>) {
    op.y.resize(1);
    match op.linears {
        [linear] => norm_linear(be, &op, &linear.weight),
        [first, second] => norm_pair(be, &op, [&first.weight, &second.weight]),
        _ => unreachable!("fuses_norm has refused it"),
    }
}

fn norm_linear(be: &mut WebGpu, op: &NormLinears<WebGpu>, weight: &WebGpuWeight) {
    let (kernel, rows) = NORM[op.norm.n_groups - 1].of(weight);
    for part in &weight.parts {
        let buffers = row_buffers(op, [&part.quants, &part.scales]);
        let params = NormLinearsParams {
            n_tokens: 1,
            n_rows: part.rows,
            n_first_rows: part.rows,
            n_groups: weight.n_groups,
            y_start: part.first_row,
            flags: if op.adds_to_y { ADD_TO_Y } else { 0 },
            eps: op.norm.eps,
        };
        let workgroups = [part.rows.div_ceil(rows), 1, 1];
        be.recorder.dispatch(kernel, &buffers, &params, workgroups);
    }
}

fn norm_pair(be: &mut WebGpu, op: &NormLinears<WebGpu>, [first, second]: [&WebGpuWeight; 2]) {
    let (kernel, rows) = NORM_PAIR.of(first);
    let [part, more] = [&first.parts[0], &second.parts[0]];
    let buffers = row_buffers(op, [&part.quants, &part.scales]);
    let buffers = [&buffers[..], &[&more.quants, &more.scales]].concat();
    let n_rows = first.rows + second.rows;
    let params = NormLinearsParams {
        n_tokens: 1,
        n_rows,
        n_first_rows: first.rows,
        n_groups: first.n_groups,
        y_start: 0,
        flags: if op.adds_to_y { ADD_TO_Y } else { 0 },
        eps: op.norm.eps,
    };
    let workgroups = [n_rows.div_ceil(rows), 1, 1];
    be.recorder.dispatch(kernel, &buffers, &params, workgroups);
}

/// The buffers that all these kernels bind first.
fn row_buffers<'a>(
    op: &'a NormLinears<WebGpu>,
    [quants, scales]: [&'a DeviceBuffer; 2],
) -> [&'a DeviceBuffer; 5] {
    let (x, y, norm) = (&op.x.buffer, &op.y.buffer, &op.norm.weight.buffer);
    [quants, scales, x, y, norm]
}
