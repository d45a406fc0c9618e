//! RMSNorm and gated RMSNorm.

use zamba2::ops::Ops;
use zamba2::ops::device::{Cols, Device, GatedNorm, Norm};

use super::{MODULE, ROWS, Random, WIDTHS, beside, read, rows};

/// A mean of at most 100 squares, a square root and two products.
pub const NORM: f64 = 2e-6;

pub fn rms_norm<D: Device>(ops: &mut Ops<D>, weight: &[f32], eps: f32, x: &[f32]) -> Vec<f32> {
    let d = weight.len();
    let norm = Norm {
        module: MODULE,
        weight: rows(ops, d, weight),
        eps,
    };
    let x = rows(ops, d, x);
    let mut y = ops.tensor(65, d);
    ops.rms_norm(&norm, &x, &mut y);
    read(ops, &y)
}

/// The gate is part of a wider tensor, as z is in zxbcdt.
pub fn gated_rms_norm<D: Device>(
    ops: &mut Ops<D>,
    weight: &[f32],
    n_groups: usize,
    x: &[f32],
    gate: &[f32],
) -> Vec<f32> {
    gated_rms_norm_beside(ops, weight, n_groups, x, gate, 3)
}

/// With `around` other columns on each side of the gate.
pub fn gated_rms_norm_beside<D: Device>(
    ops: &mut Ops<D>,
    weight: &[f32],
    n_groups: usize,
    x: &[f32],
    gate: &[f32],
    around: usize,
) -> Vec<f32> {
    let (d, t_rows) = (weight.len(), x.len() / weight.len());
    let others = vec![9.0; around * t_rows];
    let gate = rows(
        ops,
        d + 2 * around,
        &beside(t_rows, &[&others, gate, &others]),
    );
    let weight = rows(ops, d, weight);
    let norm = GatedNorm {
        module: MODULE,
        weight,
        n_groups,
        eps: 1e-5,
    };
    let x = rows(ops, d, x);
    let mut y = ops.tensor(65, d);
    let gate = Cols {
        tensor: &gate,
        start: around,
        len: d,
    };
    ops.gated_rms_norm(&norm, &x, gate, &mut y);
    read(ops, &y)
}

/// `body(what, weight, x)` for each width and number of rows.
pub fn for_rms_norm_cases(mut body: impl FnMut(&str, &[f32], &[f32])) {
    let mut random = Random(7);
    for d in WIDTHS {
        for t_rows in ROWS {
            let weight = random.numbers(d, 0.5, 1.5);
            let x = random.numbers(t_rows * d, -3.0, 3.0);
            body(&format!("{t_rows}×{d}"), &weight, &x);
        }
    }
}

/// `body(what, weight, groups, x, gate)`.
pub fn for_gated_rms_norm_cases(mut body: impl FnMut(&str, &[f32], usize, &[f32], &[f32])) {
    let mut random = Random(8);
    for (d, n_groups) in [(1, 1), (5, 1), (33, 1), (33, 3), (100, 1), (100, 2)] {
        for t_rows in ROWS {
            let what = format!("{t_rows}×{d} in {n_groups} groups");
            let weight = random.numbers(d, 0.5, 1.5);
            let x = random.numbers(t_rows * d, -3.0, 3.0);
            let gate = random.numbers(t_rows * d, -4.0, 4.0);
            body(&what, &weight, n_groups, &x, &gate);
        }
    }
}
