//! y = W·x in f32, q8 and q4: distributes the rows of W over the threads and writes the results. Layout and kernels of
//! each format are in its own file.
//!
//! Rows are processed in groups of four, one row per lane. One row of activations is a matrix-vector product, bound by
//! memory: each thread reads four distant regions of its rows at once, because a single stream of loads does not
//! saturate memory. Many rows are a matrix-matrix product, bound by arithmetic: a panel of rows is unpacked into the L1
//! cache, and three vectors of rows are multiplied with three columns at a time. For a few rows, as in a pass over
//! drafts, unpacking into memory would take longer than what it saves: weights are unpacked in registers for up to four
//! rows of activations at a time, and the groups stay in the cache for the next four.
//!
//! Every row is summed in the same order whatever the number of threads or of rows of activations, so prefill and
//! decode agree bit for bit on equal inputs.

mod activations;
mod f32;
mod few_rows;
mod q4;
mod q8;
mod trusted_width;

use crate::base::quant::{BLOCK, StoredRow, WeightFormat};
use crate::base::simd::{F32x4, MAX_GROUPS, Width};
use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::CpuTensor;
use crate::ops::device::{Linear, Weight};
use crate::ops::op_traits::LinearKernels;
use crate::threads::pool::{Pieces, Pool, Stripe, Stripes};
pub use activations::Activations;
use f32::F32Product;
use few_rows::{FewRows, STREAMS, STREAMS_OF_FEW, STREAMS_OF_TWO};
use q4::{Q4Block, Q4Pair, Q4Product};
use q8::{Q8Block, Q8Product};
pub use trusted_width::trusted_width;

impl LinearKernels for Cpu {
    fn linear(&mut self, linear: &Linear<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        product(self, linear, x, false, y);
    }

    fn linear_add(&mut self, linear: &Linear<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        product(self, linear, x, true, y);
    }
}

/// Rows per group: one per lane of a vector.
const GROUP: usize = 4;
/// Vectors of groups that a matrix-matrix kernel multiplies at once.
const VECTORS: usize = 3;
/// Groups per panel of a matrix-matrix kernel: [`VECTORS`] of the widest vectors.
const PANEL: usize = VECTORS * MAX_GROUPS;
/// A number of groups that every kernel divides.
const WHOLE: usize = VECTORS * STREAMS;
const _: () = assert!(WHOLE.is_multiple_of(PANEL));
const _: () = assert!(WHOLE.is_multiple_of(STREAMS_OF_TWO) && WHOLE.is_multiple_of(STREAMS_OF_FEW));
/// Parts of W per thread: enough that a slow thread delays the others little, few enough for long streams.
const PARTS_PER_THREAD: usize = 6;
/// Rows of activations that are multiplied with a panel before the next one is unpacked.
const STRIP: usize = 64;

/// Accumulators of a panel's groups for each row of a strip.
type PanelSums = [[F32x4; PANEL]; STRIP];

/// y = W·x + bias, or y += W·x + bias.
fn product(
    cpu: &mut Cpu,
    linear: &Linear<Cpu>,
    x: &CpuTensor,
    accumulate: bool,
    y: &mut CpuTensor,
) {
    let output = Output {
        bias: linear.bias.as_ref().map(CpuTensor::values),
        accumulate,
        y: y.resize(x.rows()),
    };
    let activations = &mut cpu.activations;
    (linear.weight).multiply(&cpu.pool, cpu.width, activations, x.values(), output);
}

/// A weight matrix `[rows, cols]` in the kernels' layout.
pub struct CpuWeight {
    pub rows: usize,
    pub cols: usize,
    layout: Layout,
}

impl Weight for CpuWeight {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn format(&self) -> WeightFormat {
        match &self.layout {
            Layout::F32(_) => WeightFormat::F32,
            Layout::Q8 { .. } => WeightFormat::Q8,
            Layout::Q4 { .. } => WeightFormat::Q4,
        }
    }
}

enum Layout {
    F32(Vec<f32>), // [rows, cols]
    Q8 {
        row_scale: Vec<[f32; GROUP]>, // [groups]
        blocks: Vec<Q8Block>,         // [groups, blocks]
    },
    Q4 {
        row_scale: Vec<[f32; GROUP]>, // [groups]
        pairs: Vec<Q4Pair>,           // [groups, ⌈blocks / 2⌉]
    },
}

/// A weight matrix and its activations.
trait Product: Sync {
    /// Buffer for an unpacked panel.
    type Panel;

    fn panel() -> Self::Panel;
    /// The most rows of activations for which `rows` is faster than `matrix`.
    fn few_rows(&self) -> usize;
    /// Unscaled sums of `N` groups for rows `t .. t + T` of the activations, without a panel.
    fn rows<const N: usize, const T: usize>(&self, groups: [usize; N], t: usize)
    -> [[F32x4; T]; N];
    /// Unscaled sums of the groups `first .. first + n` for `sums.len()` rows of activations starting at `t`. The sums
    /// beyond group `n` are undefined.
    fn matrix(
        &self,
        first: usize,
        n: usize,
        t: usize,
        panel: &mut Self::Panel,
        sums: &mut [[F32x4; PANEL]],
    );
}

/// An unpacked panel.
trait Tiles {
    /// Adds the products with rows `t .. t + C` of the activations.
    fn tile<const C: usize>(&self, t: usize, sums: &mut [[F32x4; PANEL]; C]);

    /// Adds the products with all rows starting at `t`: three at a time, whose nine accumulators fill the registers,
    /// and two at a time where one would be left over, since a single column can't hide the latency of its additions.
    fn all(&self, mut t: usize, sums: &mut [[F32x4; PANEL]]) {
        let singles = usize::from(sums.len() == 1);
        let twos = [0, 2, 1][sums.len() % 3].min(sums.len() / 2);
        let (threes, rest) = sums.split_at_mut(sums.len() - 2 * twos - singles);
        for sums in threes.as_chunks_mut::<3>().0 {
            self.tile(t, sums);
            t += 3;
        }
        let (twos, single) = rest.as_chunks_mut::<2>();
        for sums in twos {
            self.tile(t, sums);
            t += 2;
        }
        for sums in single {
            self.tile(t, std::array::from_mut(sums));
        }
    }
}

/// The destination of a product: y = W·x + bias, or y += W·x + bias.
struct Output<'a> {
    bias: Option<&'a [f32]>, // [rows]
    accumulate: bool,
    y: &'a mut [f32], // [T, rows]
}

/// Epilogue of a product: scale, bias, and store or accumulate.
struct Epilogue<'a> {
    row_scale: Option<&'a [[f32; GROUP]]>, // [groups]
    bias: Option<&'a [f32]>,               // [rows]
    accumulate: bool,
}

impl Epilogue<'_> {
    /// Writes the sums of `group` for rows `t ..` of the stripe, whose first column is row `first` of W.
    fn write(
        &self,
        stripe: &mut Stripe,
        first: usize,
        group: usize,
        t: usize,
        sums: impl IntoIterator<Item = F32x4>,
    ) {
        let row = group * GROUP;
        let scale = F32x4::load(self.row_scale.map_or(&[1.0; GROUP], |scale| &scale[group]));
        let mut bias = [0.0; GROUP];
        if let Some(all) = self.bias {
            let inside = &all[row..all.len().min(row + GROUP)];
            bias[..inside.len()].copy_from_slice(inside);
        }
        let bias = F32x4::load(&bias);
        for (t, sums) in (t..).zip(sums) {
            let sums = sums.mul(scale).add(bias);
            let inside = &mut stripe.row(t)[row - first..];
            match inside.first_chunk_mut::<GROUP>() {
                Some(y) if self.accumulate => F32x4::load(y).add(sums).store(y),
                Some(y) => sums.store(y),
                None => {
                    for (y, sum) in inside.iter_mut().zip(sums.to_array()) {
                        *y = if self.accumulate { *y + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// A weight matrix that is being received.
pub struct ArrivingWeight {
    weight: CpuWeight,
    rows_done: usize,
}

impl ArrivingWeight {
    pub fn new(format: WeightFormat, rows: usize, cols: usize) -> ArrivingWeight {
        let (groups, n_blocks) = (rows.div_ceil(GROUP), cols.div_ceil(BLOCK));
        let layout = match format {
            WeightFormat::F32 => Layout::F32(Vec::with_capacity(rows * cols)),
            WeightFormat::Q8 => Layout::Q8 {
                row_scale: vec![[0.0; GROUP]; groups],
                blocks: vec![Q8Block::EMPTY; groups * n_blocks],
            },
            WeightFormat::Q4 => Layout::Q4 {
                row_scale: vec![[0.0; GROUP]; groups],
                pairs: vec![[Q4Block::EMPTY; 2]; groups * n_blocks.div_ceil(2)],
            },
        };
        ArrivingWeight {
            weight: CpuWeight { rows, cols, layout },
            rows_done: 0,
        }
    }

    /// Interleaves the next rows, which are in the form of [`crate::base::quant::store_row`].
    pub fn push_rows(&mut self, pool: &Pool, rows: &[u8]) {
        let n_blocks = self.weight.cols.div_ceil(BLOCK);
        let first = self.rows_done;
        match &mut self.weight.layout {
            Layout::F32(values) => {
                let numbers = rows.as_chunks().0.iter();
                values.extend(numbers.map(|number| f32::from_le_bytes(*number)));
                self.rows_done = values.len() / self.weight.cols;
            }
            Layout::Q8 { row_scale, blocks } => {
                let row_bytes = WeightFormat::Q8.bytes(1, self.weight.cols) as usize;
                let rows = StoredRows::new(rows, row_bytes, n_blocks);
                rows.scales_into(row_scale, first);
                rows.interleave(pool, first, blocks, n_blocks, q8::set_row);
                self.rows_done += rows.len();
            }
            Layout::Q4 { row_scale, pairs } => {
                let row_bytes = WeightFormat::Q4.bytes(1, self.weight.cols) as usize;
                let rows = StoredRows::new(rows, row_bytes, n_blocks);
                rows.scales_into(row_scale, first);
                rows.interleave(pool, first, pairs, n_blocks.div_ceil(2), q4::set_row);
                self.rows_done += rows.len();
            }
        }
    }

    pub fn finish(self) -> CpuWeight {
        self.weight
    }
}

/// Consecutive quantised rows in their stored form.
#[derive(Clone, Copy)]
struct StoredRows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    n_blocks: usize,
}

impl<'a> StoredRows<'a> {
    fn new(bytes: &'a [u8], row_bytes: usize, n_blocks: usize) -> Self {
        StoredRows {
            bytes,
            row_bytes,
            n_blocks,
        }
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    fn row(&self, row: usize) -> StoredRow<'a> {
        StoredRow::of(
            &self.bytes[row * self.row_bytes..][..self.row_bytes],
            self.n_blocks,
        )
    }

    /// Writes the row scales; the first row here is row `first` of W. // row_scale [groups]
    fn scales_into(&self, row_scale: &mut [[f32; GROUP]], first: usize) {
        let places = &mut row_scale.as_flattened_mut()[first..];
        for (row, place) in places.iter_mut().take(self.len()).enumerate() {
            *place = self.row(row).scale;
        }
    }

    /// Calls `set_row(packed, r, row)` for every row, where `packed` is its group and r its place in the group. The
    /// first row here is row `first` of W. // packed [groups, width]
    fn interleave<T: Send>(
        &self,
        pool: &Pool,
        first: usize,
        packed: &mut [T],
        width: usize,
        set_row: impl Fn(&mut [T], usize, &StoredRow) + Sync,
    ) {
        let groups = first / GROUP..(first + self.len()).div_ceil(GROUP);
        let packed = &mut packed[groups.start * width..groups.end * width];
        pool.run(groups.len(), Pieces::new(packed, width), |piece, packed| {
            let group_row = (groups.start + piece) * GROUP;
            let rows = first.max(group_row)..(first + self.len()).min(group_row + GROUP);
            for row in rows {
                set_row(packed, row - group_row, &self.row(row - first));
            }
        });
    }
}

impl CpuWeight {
    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::F32(values) => size_of_val(&values[..]),
            Layout::Q8 { row_scale, blocks } => {
                size_of_val(&row_scale[..]) + size_of_val(&blocks[..])
            }
            Layout::Q4 { row_scale, pairs } => {
                size_of_val(&row_scale[..]) + size_of_val(&pairs[..])
            }
        }
    }

    /// Writes row `row` as f32. `out` is `[cols]`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let n_blocks = self.cols.div_ceil(BLOCK);
        let (group, r) = (row / GROUP, row % GROUP);
        match &self.layout {
            Layout::F32(values) => out.copy_from_slice(&values[row * self.cols..][..self.cols]),
            Layout::Q8 { row_scale, blocks } => {
                for (block, out) in blocks[group * n_blocks..].iter().zip(out.chunks_mut(BLOCK)) {
                    block.dequantize(r, row_scale[group][r], out);
                }
            }
            Layout::Q4 { row_scale, pairs } => {
                let blocks = pairs[group * n_blocks.div_ceil(2)..].as_flattened();
                for (block, out) in blocks.iter().zip(out.chunks_mut(BLOCK)) {
                    block.dequantize(r, row_scale[group][r], out);
                }
            }
        }
    }

    /// `x [T, cols]`; `width` changes the time taken, not the result.
    fn multiply(
        &self,
        pool: &Pool,
        width: Width,
        activations: &mut Activations,
        x: &[f32],
        Output {
            bias,
            accumulate,
            y,
        }: Output,
    ) {
        let (rows, cols) = (self.rows, self.cols);
        let n_blocks = cols.div_ceil(BLOCK);
        let epilogue = |row_scale| Epilogue {
            row_scale,
            bias,
            accumulate,
        };
        match &self.layout {
            Layout::F32(values) => {
                let product = F32Product {
                    values,
                    x,
                    rows,
                    cols,
                    width,
                };
                run(pool, &product, rows, &epilogue(None), y);
            }
            Layout::Q8 { row_scale, blocks } => {
                let activations = activations.q8(pool, x, cols);
                let product = Q8Product::new(blocks, activations, n_blocks, width);
                run(pool, &product, rows, &epilogue(Some(row_scale)), y);
            }
            Layout::Q4 { row_scale, pairs } => {
                let activations = activations.q4(pool, x, cols);
                let product = Q4Product::new(pairs, activations, n_blocks.div_ceil(2), width);
                run(pool, &product, rows, &epilogue(Some(row_scale)), y);
            }
        }
    }
}

/// Distributes the groups of W over the threads. // y [T, rows]
fn run<P: Product>(pool: &Pool, product: &P, rows: usize, epilogue: &Epilogue, y: &mut [f32]) {
    let groups = rows.div_ceil(GROUP);
    let share = groups.div_ceil(pool.threads() * PARTS_PER_THREAD);
    let share = share.next_multiple_of(WHOLE);
    let t_rows = y.len() / rows;
    let few_rows = product.few_rows();
    let stripes = Stripes::of_columns(y, rows, share * GROUP);
    pool.run(groups.div_ceil(share), stripes, |part, mut stripe| {
        let start = part * share;
        let n = share.min(groups - start);
        let few = FewRows {
            product,
            epilogue,
            t_rows,
            first: start * GROUP,
        };
        match t_rows {
            1 => few.run::<STREAMS>(start, n, &mut stripe),
            _ if t_rows > few_rows => run_matrix(product, start, n, t_rows, epilogue, &mut stripe),
            2 => few.run::<STREAMS_OF_TWO>(start, n, &mut stripe),
            _ => few.run::<STREAMS_OF_FEW>(start, n, &mut stripe),
        }
    });
}

fn run_matrix<P: Product>(
    product: &P,
    start: usize,
    n: usize,
    t_rows: usize,
    epilogue: &Epilogue,
    stripe: &mut Stripe,
) {
    let mut panel = P::panel();
    let mut sums: PanelSums = [[F32x4::splat(0.0); PANEL]; STRIP];
    for first in (start..start + n).step_by(PANEL) {
        let in_panel = PANEL.min(start + n - first);
        for t in (0..t_rows).step_by(STRIP) {
            let sums = &mut sums[..STRIP.min(t_rows - t)];
            product.matrix(first, in_panel, t, &mut panel, sums);
            for g in 0..in_panel {
                let sums = sums.iter().map(|sums| sums[g]);
                epilogue.write(stripe, start * GROUP, first + g, t, sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, columns and tokens that fill no group, vector, panel, block, strip or tile. Row by row, a product of one
    /// row in the narrowest vectors is what all others are compared with.
    #[test]
    fn any_number_of_rows_and_vectors_of_every_width_give_the_same_bits() {
        let (rows, cols, most) = (203, 1109, 71);
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let values: Vec<f32> = (0..rows * cols).map(|_| random()).collect();
        let mut x: Vec<f32> = (0..most * cols).map(|_| random()).collect();
        // Blocks of the largest quants, and a number that must reach the results as it is.
        x[..cols].fill(1.0);
        x[3 * cols + 5] = f32::INFINITY;
        let bias: Vec<f32> = (0..rows).map(|_| random()).collect();
        for format in WeightFormat::ALL {
            let host = StoredMatrix::from_values(format, cols, &values);
            let pool = Pool::new(2);
            let mut arriving = ArrivingWeight::new(format, rows, cols);
            arriving.push_rows(&pool, &host.bytes);
            let weight = arriving.finish();
            let product = |width: Width, x: &[f32]| {
                let mut y = vec![0.5; x.len() / cols * rows];
                let output = Output {
                    bias: Some(&bias),
                    accumulate: true,
                    y: &mut y,
                };
                weight.multiply(&pool, width, &mut Activations::default(), x, output);
                y
            };
            let narrowest = Width::available().next().expect("a width");
            let alone = x.chunks(cols).flat_map(|row| product(narrowest, row));
            let alone: Vec<f32> = alone.collect();
            assert!(alone[..3 * rows].iter().all(|y| y.is_finite()));
            for n_tokens in (1..=13).chain([most]) {
                for width in Width::available() {
                    let y = product(width, &x[..n_tokens * cols]);
                    let same = |(a, b): (&f32, &f32)| {
                        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                    };
                    let what = format!("{format:?}, {n_tokens} tokens, {width:?}");
                    assert!(y.iter().zip(&alone).all(same), "{what}");
                }
            }
        }
    }

    use crate::base::quant::{StoredMatrix, WeightFormat};

    /// In pieces that begin and end inside groups of rows.
    #[test]
    fn a_packed_row_dequantises_to_the_host_row() {
        for format in WeightFormat::ALL {
            let (rows, cols) = (14, 45);
            let values: Vec<f32> = (0..rows * cols)
                .map(|i| ((i / cols * 31 + i % cols * 17) % 23) as f32 - 11.0)
                .collect();
            let host = StoredMatrix::from_values(format, cols, &values);
            let row_bytes = host.bytes.len() / rows;
            let mut arriving = ArrivingWeight::new(format, rows, cols);
            for pieces in [0..1, 1..6, 6..8, 8..14] {
                let bytes = &host.bytes[pieces.start * row_bytes..pieces.end * row_bytes];
                arriving.push_rows(&Pool::new(2), bytes);
            }
            let packed = arriving.finish();
            for r in 0..rows {
                let (mut a, mut b) = (vec![0.0; cols], vec![0.0; cols]);
                host.dequantize_row(r, &mut a);
                packed.row(r, &mut b);
                assert_eq!(a, b, "{format:?} row {r}");
            }
        }
    }
}
