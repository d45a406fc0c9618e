//! The f32 product, for exactness rather than speed: unpacked weights, four rows at a time, each summed in four lanes
//! and a tail. Relaxed SIMD's multiply-add is not used, because engines may fuse it or not, and logits would differ
//! between machines.

use crate::base::simd::F32x4;
use crate::device::cpu::linear::{GROUP, PANEL, Product};

/// Columns of activations per read of four rows.
const COLUMNS: usize = 3;

pub struct F32Product<'a> {
    pub values: &'a [f32], // [rows, cols]
    pub x: &'a [f32],      // [T, cols]
    pub rows: usize,
    pub cols: usize,
}

impl F32Product<'_> {
    /// The dot products of a row group with `C` rows of x, starting at `t`.
    fn group<const C: usize>(&self, group: usize, t: usize) -> [F32x4; C] {
        let first = group * GROUP;
        let last = self.rows - 1;
        let row = |r: usize| &self.values[(first + r).min(last) * self.cols..][..self.cols];
        let column = |c: usize| &self.x[(t + c) * self.cols..][..self.cols];
        kernel(std::array::from_fn(row), std::array::from_fn(column))
    }
}

impl Product for F32Product<'_> {
    type Panel = ();

    fn panel() {}

    fn vector<const N: usize>(&self, groups: [usize; N], t: usize) -> [F32x4; N] {
        groups.map(|group| self.group::<1>(group, t)[0])
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

#[inline(never)]
fn kernel<const C: usize>(rows: [&[f32]; GROUP], columns: [&[f32]; C]) -> [F32x4; C] {
    let n4 = rows[0].len() / 4;
    let rows4 = rows.map(|row| &row.as_chunks::<4>().0[..n4]);
    let columns4 = columns.map(|column| &column.as_chunks::<4>().0[..n4]);
    let mut lanes = [[F32x4::splat(0.0); GROUP]; C];
    for i in 0..n4 {
        let weights = rows4.map(|row| F32x4::load(&row[i]));
        for c in 0..C {
            let x = F32x4::load(&columns4[c][i]);
            for r in 0..GROUP {
                lanes[c][r] = lanes[c][r].mul_add(weights[r], x);
            }
        }
    }
    std::array::from_fn(|c| {
        let sums: [f32; GROUP] = std::array::from_fn(|r| {
            let tail = rows[r][n4 * 4..].iter().zip(&columns[c][n4 * 4..]);
            lanes[c][r].sum() + tail.map(|(w, x)| w * x).sum::<f32>()
        });
        F32x4::load(&sums)
    })
}
