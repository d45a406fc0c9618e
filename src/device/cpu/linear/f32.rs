//! The f32 product, for exactness rather than speed: unpacked weights, four rows at a time, each summed in four lanes
//! and a tail. Relaxed SIMD's multiply-add is not used, because engines may fuse it or not, and logits would differ
//! between machines.

use crate::base::simd::{F32x4, Floats, Wide, WideKernel, Width};
use crate::device::cpu::linear::{GROUP, PANEL, Product};

/// Columns of activations per read of four rows.
const COLUMNS: usize = 3;

pub struct F32Product<'a> {
    pub values: &'a [f32], // [rows, cols]
    pub x: &'a [f32],      // [T, cols]
    pub rows: usize,
    pub cols: usize,
    pub width: Width,
}

impl F32Product<'_> {
    /// The dot products of a row group with `C` rows of x, starting at `t`.
    fn group<const C: usize>(&self, group: usize, t: usize) -> [F32x4; C] {
        let first = group * GROUP;
        let last = self.rows - 1;
        let row = |r: usize| &self.values[(first + r).min(last) * self.cols..][..self.cols];
        let column = |c: usize| &self.x[(t + c) * self.cols..][..self.cols];
        self.width.run(GroupKernel {
            rows: std::array::from_fn(row),
            columns: std::array::from_fn(column),
        })
    }
}

impl Product for F32Product<'_> {
    type Panel = ();

    fn panel() {}

    /// There is nothing to unpack.
    fn few_rows(&self) -> usize {
        1
    }

    fn rows<const N: usize, const T: usize>(
        &self,
        groups: [usize; N],
        t: usize,
    ) -> [[F32x4; T]; N] {
        groups.map(|group| self.group(group, t))
    }

    fn matrix(&self, first: usize, n: usize, t: usize, (): &mut (), sums: &mut [[F32x4; PANEL]]) {
        let (tiles, rest) = sums.as_chunks_mut::<COLUMNS>();
        let done = tiles.len() * COLUMNS;
        for g in 0..n {
            for (i, sums) in tiles.iter_mut().enumerate() {
                let columns = self.group::<COLUMNS>(first + g, t + i * COLUMNS);
                for (sums, column) in sums.iter_mut().zip(columns) {
                    sums[g] = column;
                }
            }
            for (i, sums) in rest.iter_mut().enumerate() {
                sums[g] = self.group::<1>(first + g, t + done + i)[0];
            }
        }
    }
}

/// A row group times `C` rows of x.
struct GroupKernel<'a, const C: usize> {
    rows: [&'a [f32]; GROUP],
    columns: [&'a [f32]; C],
}

impl<const C: usize> WideKernel for GroupKernel<'_, C> {
    type Output = [F32x4; C];

    #[inline(always)]
    fn run<W: Wide>(self) -> [F32x4; C] {
        let (rows, columns) = (self.rows, self.columns);
        let n_vectors = GROUP / W::GROUPS;
        let n4 = rows[0].len() / 4;
        let rows4 = rows.map(|row| &row.as_chunks::<4>().0[..n4]);
        let columns4 = columns.map(|column| &column.as_chunks::<4>().0[..n4]);
        let zero = W::load(&[F32x4::splat(0.0); GROUP]);
        let mut sums = [[zero; GROUP]; C]; // the first `n_vectors` are used
        for i in 0..n4 {
            let mut weights = [zero; GROUP];
            for v in 0..n_vectors {
                weights[v] = W::load_rows(|row| &rows4[v * W::GROUPS + row][i]);
            }
            for c in 0..C {
                let x = W::repeat(&columns4[c][i]);
                for v in 0..n_vectors {
                    sums[c][v] = sums[c][v].mul_add(weights[v], x);
                }
            }
        }
        std::array::from_fn(|c| {
            let mut lanes = [F32x4::splat(0.0); GROUP];
            for v in 0..n_vectors {
                W::store(sums[c][v], &mut lanes[v * W::GROUPS..]);
            }
            let totals: [f32; GROUP] = std::array::from_fn(|r| {
                let tail = rows[r][n4 * 4..].iter().zip(&columns[c][n4 * 4..]);
                lanes[r].sum() + tail.map(|(w, x)| w * x).sum::<f32>()
            });
            F32x4::load(&totals)
        })
    }
}
