//! GELU, concat, add and last_row.

use zamba2::ops::Ops;
use zamba2::ops::device::Device;

use super::{MODULE, ROWS, Random, WIDTHS, beside, read, rows};

/// An error function and three products. For a negative gate 1 + erf cancels, which costs half an ulp of the gate.
pub const GELU: f64 = 1e-6;

/// `body(what, d, x)`. // x [T, 2d]
pub fn for_gelu_cases(mut body: impl FnMut(&str, usize, &[f32])) {
    let mut random = Random(15);
    for d in WIDTHS {
        for t_rows in ROWS {
            let x = random.numbers(t_rows * 2 * d, -5.0, 5.0);
            body(&format!("{t_rows}×{d}"), d, &x);
        }
    }
}

pub fn gelu_mul<D: Device>(ops: &mut Ops<D>, d: usize, x: &[f32]) -> Vec<f32> {
    let x = rows(ops, 2 * d, x);
    let mut y = ops.tensor(65, d);
    ops.gelu_mul(MODULE, &x, &mut y);
    read(ops, &y)
}

/// Inputs of concat, add and last_row. // a, c [T, left], b [T, right]
pub struct MoveCase {
    pub t_rows: usize,
    pub left: usize,
    pub right: usize,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
}

impl MoveCase {
    /// [a, b], then a + c, then the last row of the first result.
    pub fn run<D: Device>(&self, ops: &mut Ops<D>) -> Vec<f32> {
        let a = rows(ops, self.left, &self.a);
        let b = rows(ops, self.right, &self.b);
        let c = rows(ops, self.left, &self.c);
        let both = self.left + self.right;
        let (mut wide, mut sum) = (ops.tensor(65, both), ops.tensor(65, self.left));
        let mut last = ops.tensor(1, both);
        ops.concat(MODULE, &a, &b, &mut wide);
        ops.add(MODULE, &a, &c, &mut sum);
        ops.last_row(&wide, &mut last);
        ops.flush();
        [read(ops, &wide), read(ops, &sum), read(ops, &last)].concat()
    }

    pub fn expected(&self) -> Vec<f32> {
        let wide = beside(self.t_rows, &[&self.a, &self.b]);
        let sum = self.a.iter().zip(&self.c).map(|(a, c)| a + c).collect();
        let last = wide[(self.t_rows - 1) * (self.left + self.right)..].to_vec();
        [wide, sum, last].concat()
    }
}

pub fn for_move_cases(mut body: impl FnMut(&MoveCase)) {
    let mut random = Random(16);
    for t_rows in ROWS {
        for (left, right) in [(1, 1), (5, 31), (33, 37)] {
            body(&MoveCase {
                t_rows,
                left,
                right,
                a: random.numbers(t_rows * left, -1.0, 1.0),
                b: random.numbers(t_rows * right, -1.0, 1.0),
                c: random.numbers(t_rows * left, -1.0, 1.0),
            });
        }
    }
}
