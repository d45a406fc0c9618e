//! Fused kernels of a decode step: the forms of `linear.rs` for one row, with an RMSNorm of the row before the product
//! and other ops after it.

use std::rc::Rc;

use crate::base::quant::{BLOCK, WeightFormat};
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::attention::MAX_HEAD_DIM;
use crate::device::webgpu::elementwise::RopeTable;
use crate::device::webgpu::kernel_table::{ByFormat, Constant, THREADS, constants, per_number};
use crate::device::webgpu::linear::{ADD_TO_Y, FOUR, SHORT_ROW_BYTES};
use crate::device::webgpu::tensor::WebGpuTensor;
use crate::device::webgpu::uniforms::uniforms;
use crate::device::webgpu::variants::{ChosenVariants, Form};
use crate::device::webgpu::weight::{GROUP, WebGpuWeight};
use crate::ops::device::{KvFormat, Linear};
use crate::ops::fused::{AppendStep, GeluStep, InProj, NormLinears, RowInput};

/// The most means of a norm for which there are kernels; no published model has more.
const MAX_NORM_GROUPS: usize = 2;

/// Constants of the kernels for a norm with one mean and with two; those for long rows have variants with the others.
pub const ROW_NORM: &[Constant] = &constants![BLOCK, GROUP, ADD_TO_Y, NORM_GROUPS = 1];
pub const ROW_NORM_TWO: &[Constant] =
    &constants![BLOCK, GROUP, ADD_TO_Y, NORM_GROUPS = MAX_NORM_GROUPS];
pub const GELU_STEP: &[Constant] = &constants![BLOCK, GROUP];
pub const APPEND: &[Constant] = &constants![BLOCK, GROUP, MAX_HEAD_DIM];

uniforms! {
    pub struct NormLinearsParams {
        /// 1.
        n_tokens: usize,
        /// Rows of this part of the matrix, or of both matrices.
        n_rows: usize,
        /// Rows of the first matrix.
        n_first_rows: usize,
        /// The row of the buffers that is the first of this part.
        buffer_row: usize,
        /// Groups of columns per row.
        n_groups: usize,
        /// Vectors of four elements of x.
        x_fours: usize,
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
        /// Rows of this part of the matrix, and its first row in the buffers.
        n_rows: usize,
        buffer_row: usize,
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

uniforms! {
    pub struct GeluStepParams {
        /// Groups of columns per row of the adapter's matrix.
        n_groups: usize,
        buffer_row: usize,
        /// Elements of y.
        width: usize,
        /// Vectors of four elements of r.
        rank_fours: usize,
    }
}

uniforms! {
    pub struct AppendStepParams {
        /// Groups of columns per row of the adapters' matrix.
        n_groups: usize,
        buffer_row: usize,
        n_heads: usize,
        n_kv_heads: usize,
        head_dim: usize,
        position: usize,
        /// Pairs per head that are rotated; 0 without a rotary embedding.
        half: usize,
        /// The first vector of r in x, and vectors of each r; none without adapters.
        rank_start: usize,
        rank_fours: usize,
    }
}

/// The kernels of a fused op for long and for short rows.
struct Forms {
    one: ByFormat,
    short: ByFormat,
}

const IN_PROJ: Forms = Forms {
    one: ByFormat::IN_PROJ_ONE,
    short: ByFormat::IN_PROJ_SHORT,
};
/// Indexed by the number of means, less one.
const NORM_LINEARS: [Forms; MAX_NORM_GROUPS] = [
    Forms {
        one: ByFormat::NORM_ONE,
        short: ByFormat::NORM_SHORT,
    },
    Forms {
        one: ByFormat::NORM_TWO_ONE,
        short: ByFormat::NORM_TWO_SHORT,
    },
];
/// For two matrices, and an input in two halves.
const NORM_CONCAT: Forms = Forms {
    one: ByFormat::NORM_CONCAT_ONE,
    short: ByFormat::NORM_CONCAT_SHORT,
};
/// For two matrices.
const NORM_PAIR: Forms = Forms {
    one: ByFormat::NORM_PAIR_ONE,
    short: ByFormat::NORM_PAIR_SHORT,
};

impl Forms {
    /// The kernel for `weight`, and the number of rows per workgroup.
    fn of(&self, variants: &ChosenVariants, weight: &WebGpuWeight) -> (Form, usize) {
        let format = weight.format;
        if weight.row_bytes() <= SHORT_ROW_BYTES {
            return (self.short.kernel(format).into(), THREADS);
        }
        let form = variants.form(self.one.kernel(format));
        (form, form.shape().rows)
    }
}

/// Whether one kernel can compute all of `linears`: they are at most two matrices in memory, rows are not padded, each
/// mean is over whole units, and the rows of a second matrix begin at a workgroup boundary.
pub fn fuses_norm(gpu: &WebGpu, linears: &[&Linear<WebGpu>], n_norm_groups: usize) -> bool {
    let Some(first) = linears.first() else {
        return false;
    };
    let weight = &first.weight;
    let unit_columns = if weight.format.is_quantized() {
        BLOCK
    } else {
        GROUP
    };
    let rows = (gpu.variants)
        .form(NORM_PAIR.one.kernel(weight.format))
        .shape()
        .rows;
    let has_whole_units = (weight.cols).is_multiple_of(n_norm_groups * unit_columns);
    let has_kernel = match linears {
        [_] => n_norm_groups <= MAX_NORM_GROUPS,
        _ => {
            let (first, rest) = linears.split_at(n_adjacent(linears));
            let begins_workgroup = rest.is_empty() || n_rows(first).is_multiple_of(rows);
            let is_all = n_adjacent(rest) == rest.len();
            n_norm_groups == 1 && begins_workgroup && is_all
        }
    };
    let mut all = linears.iter();
    has_whole_units && has_kernel && all.all(|linear| is_plain_and_like(linear, weight))
}

/// Whether the kernels can read these matrices: they are adjacent in memory, and r has whole vectors.
pub fn fuses_adapters(seconds: &[&Linear<WebGpu>]) -> bool {
    let in_fours = |linear: &&Linear<WebGpu>| {
        let [rows, cols] = [linear.weight.rows, linear.weight.cols];
        linear.bias.is_none() && rows.is_multiple_of(FOUR) && cols.is_multiple_of(FOUR)
    };
    n_adjacent(seconds) == seconds.len() && seconds.iter().all(in_fours)
}

fn is_plain_and_like(linear: &Linear<WebGpu>, other: &WebGpuWeight) -> bool {
    let weight = &linear.weight;
    linear.bias.is_none() && weight.format == other.format && weight.cols == other.cols
}

/// How many of `linears` form one matrix in memory, from the start of its buffers on.
fn n_adjacent(linears: &[&Linear<WebGpu>]) -> usize {
    let Some(first) = linears.first() else {
        return 0;
    };
    let mut end_row = 0;
    let adjacent = linears.iter().take_while(|linear| {
        let [place, of_first] = [linear, first].map(|linear| linear.weight.parts[0].place());
        let follows = Rc::ptr_eq(&place.quants, &of_first.quants) && place.buffer_row == end_row;
        end_row += linear.weight.rows;
        follows && linear.weight.parts.len() == 1
    });
    adjacent.count()
}

fn n_rows(linears: &[&Linear<WebGpu>]) -> usize {
    linears.iter().map(|linear| linear.weight.rows).sum()
}

pub fn in_proj(gpu: &mut WebGpu, op: InProj<WebGpu>) {
    let weight = &op.in_proj.weight;
    let (form, rows) = IN_PROJ.of(&gpu.variants, weight);
    op.y.resize(1);
    for part in &weight.parts {
        let place = part.place();
        gpu.recorder.dispatch(
            form,
            &[
                &place.quants,
                &place.scales,
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
                buffer_row: place.buffer_row,
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

pub fn norm_linears(gpu: &mut WebGpu, op: NormLinears<WebGpu>) {
    op.y.resize(1);
    match (&op.x, op.linears) {
        (RowInput::Tensor(x), [linear]) => norm_linear(gpu, &op, x, &linear.weight),
        (RowInput::Tensor(x), _) => norm_matrices(gpu, &op, x, None),
        (RowInput::Concat { a, b, .. }, _) => norm_matrices(gpu, &op, a, Some(b)),
    }
}

fn norm_linear(
    gpu: &mut WebGpu,
    op: &NormLinears<WebGpu>,
    x: &WebGpuTensor,
    weight: &WebGpuWeight,
) {
    let (form, rows) = NORM_LINEARS[op.norm.n_groups - 1].of(&gpu.variants, weight);
    for part in &weight.parts {
        let place = part.place();
        gpu.recorder.dispatch(
            form,
            &[
                &place.quants,
                &place.scales,
                &x.buffer,
                &op.y.buffer,
                &op.norm.weight.buffer,
            ],
            &NormLinearsParams {
                n_tokens: 1,
                n_rows: part.rows,
                buffer_row: place.buffer_row,
                n_first_rows: part.rows,
                n_groups: weight.n_groups,
                x_fours: x.cols / FOUR,
                y_start: part.first_row,
                flags: if op.adds_to_y { ADD_TO_Y } else { 0 },
                eps: op.norm.eps,
            },
            [part.rows.div_ceil(rows), 1, 1],
        );
    }
}

/// The linear layers as two matrices, the second of which may be empty. `other_x`: the second half of the input.
fn norm_matrices(
    gpu: &mut WebGpu,
    op: &NormLinears<WebGpu>,
    x: &WebGpuTensor,
    other_x: Option<&WebGpuTensor>,
) {
    let (first, second) = op.linears.split_at(n_adjacent(op.linears));
    let weight = &first[0].weight;
    let forms = if other_x.is_some() {
        NORM_CONCAT
    } else {
        NORM_PAIR
    };
    let (form, rows) = forms.of(&gpu.variants, weight);
    let place = weight.parts[0].place();
    let more = second.first().map(|linear| linear.weight.parts[0].place());
    let more = more.as_ref();
    let mut buffers = vec![
        &*place.quants,
        &place.scales,
        &x.buffer,
        &op.y.buffer,
        &op.norm.weight.buffer,
        more.map_or(&gpu.dummy, |place| &place.quants),
        more.map_or(&gpu.dummy, |place| &place.scales),
    ];
    buffers.extend(other_x.map(|x| &x.buffer));
    let n_rows = n_rows(op.linears);
    gpu.recorder.dispatch(
        form,
        &buffers,
        &NormLinearsParams {
            n_tokens: 1,
            n_rows,
            buffer_row: 0,
            n_first_rows: self::n_rows(first),
            n_groups: weight.n_groups,
            x_fours: x.cols / FOUR,
            y_start: 0,
            flags: if op.adds_to_y { ADD_TO_Y } else { 0 },
            eps: op.norm.eps,
        },
        [n_rows.div_ceil(rows), 1, 1],
    );
}

pub fn gelu_step(gpu: &mut WebGpu, op: GeluStep<WebGpu>) {
    op.y.resize(1);
    let weight = &op.adapter_b.weight;
    let place = weight.parts[0].place();
    gpu.recorder.dispatch(
        ByFormat::GELU_STEP.kernel(weight.format),
        &[&place.quants, &place.scales, &op.x.buffer, &op.y.buffer],
        &GeluStepParams {
            n_groups: weight.n_groups,
            buffer_row: place.buffer_row,
            width: op.y.cols,
            rank_fours: weight.cols / FOUR,
        },
        per_number(op.y.cols, 1),
    );
}

pub fn append_step(gpu: &mut WebGpu, op: AppendStep<WebGpu>) {
    op.q.resize(1);
    let (shape, rows, position) = (op.cache.shape, &op.cache.rows, op.cache.len);
    let forms = match rows.format {
        KvFormat::F32 => ByFormat::APPEND_STEP_F32,
        KvFormat::I8 => ByFormat::APPEND_STEP_I8,
    };
    let weight = op.adapters_b.map(|[of_q, ..]| &of_q.weight);
    // Without adapters the kernel reads no weight.
    let format = weight.map_or(WeightFormat::F32, |weight| weight.format);
    let place = weight.map(|weight| weight.parts[0].place());
    let place = place.as_ref();
    let table = op.rope.map(|(_, rope)| {
        RopeTable::covering(&mut gpu.rope_table, &mut gpu.recorder, rope, position + 1)
    });
    let n_heads = shape.n_heads + 2 * shape.n_kv_heads;
    gpu.recorder.dispatch(
        forms.kernel(format),
        &[
            place.map_or(&gpu.dummy, |place| &place.quants),
            place.map_or(&gpu.dummy, |place| &place.scales),
            &rows.keys,
            &rows.values,
            &rows.scales,
            &op.x.buffer,
            &op.q.buffer,
            table.map_or(&gpu.dummy, |table| &table.cos_sin),
        ],
        &AppendStepParams {
            n_groups: weight.map_or(0, |weight| weight.n_groups),
            buffer_row: 0,
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
            position,
            half: op.rope.map_or(0, |(_, rope)| rope.head_dim / 2),
            rank_start: n_heads * shape.head_dim / FOUR,
            rank_fours: weight.map_or(0, |weight| weight.cols / FOUR),
        },
        [n_heads, 1, 1],
    );
}
