//! The SSM scan.

use zamba2::ops::Ops;
use zamba2::ops::device::{Cols, Device, Ssm, SsmInput, split};

use super::{MODULE, Random, beside, read, rows};
use crate::reference::Scan;

/// The scan with x, B and C in one tensor and dt at the end of a wider one, as in the model; gives y and then the
/// state.
pub fn ssm_scan<D: Device>(ops: &mut Ops<D>, scan: &Scan, pieces: &[usize]) -> Vec<f32> {
    scan_pieces(ops, scan, pieces, |ops, ssm, input, state, y| {
        ops.ssm_scan(ssm, input, state, y);
    })
}

/// The scan as a whole from a state that stays; gives y, the state, and then the state before.
pub fn ssm_scan_from<D: Device>(ops: &mut Ops<D>, scan: &Scan, t_rows: usize) -> Vec<f32> {
    let before = rows(ops, scan.d_state, &scan.state);
    let scanned = scan_pieces(ops, scan, &[t_rows], |ops, ssm, input, state, y| {
        ops.clear(state);
        ops.ssm_scan_from(ssm, input, &before, state, y);
    });
    [scanned, read(ops, &before)].concat()
}

fn scan_pieces<D: Device>(
    ops: &mut Ops<D>,
    scan: &Scan,
    pieces: &[usize],
    run: impl Fn(&mut Ops<D>, &Ssm<D>, SsmInput<D::Tensor>, &mut D::Tensor, &mut D::Tensor),
) -> Vec<f32> {
    let (heads, n) = (scan.n_heads, scan.d_state);
    let widths = [heads * scan.head_dim, scan.n_groups * n, scan.n_groups * n];
    let ssm = Ssm {
        module: MODULE,
        a: rows(ops, heads, &scan.a),
        d: rows(ops, heads, &scan.d),
        dt_bias: rows(ops, heads, &scan.dt_bias),
        n_heads: heads,
        head_dim: scan.head_dim,
        d_state: n,
        n_groups: scan.n_groups,
    };
    let mut state = rows(ops, n, &scan.state);
    let (mut done, mut all) = (0, Vec::new());
    for &piece in pieces {
        let cut =
            |values: &'_ [f32], width: usize| values[done * width..][..piece * width].to_vec();
        let parts = [
            cut(&scan.x, widths[0]),
            cut(&scan.b, widths[1]),
            cut(&scan.c, widths[2]),
        ];
        let xbc = beside(piece, &parts.each_ref().map(|part| &part[..]));
        let xbc = rows(ops, widths.iter().sum(), &xbc);
        let zx_dt = beside(piece, &[&vec![9.0; 3 * piece], &cut(&scan.dt, heads)]);
        let zx_dt = rows(ops, 3 + heads, &zx_dt);
        let [x, b, c] = split(&xbc, widths);
        let dt = Cols {
            tensor: &zx_dt,
            start: 3,
            len: heads,
        };
        let input = SsmInput {
            x,
            b,
            c,
            dt,
            dt_min: scan.dt_min,
        };
        let mut y = ops.tensor(piece, widths[0]);
        run(ops, &ssm, input, &mut state, &mut y);
        all.extend(read(ops, &y));
        done += piece;
    }
    all.extend(read(ops, &state));
    all
}

pub fn random_scan(random: &mut Random, t_rows: usize, [heads, p, n, groups]: [usize; 4]) -> Scan {
    Scan {
        n_heads: heads,
        head_dim: p,
        d_state: n,
        n_groups: groups,
        dt_min: 0.001,
        a: random.numbers(heads, -2.0, -0.02),
        d: random.numbers(heads, -1.0, 1.0),
        dt_bias: random.numbers(heads, -6.0, 0.0),
        x: random.numbers(t_rows * heads * p, -2.0, 2.0),
        b: random.numbers(t_rows * groups * n, -1.0, 1.0),
        c: random.numbers(t_rows * groups * n, -1.0, 1.0),
        dt: random.numbers(t_rows * heads, -4.0, 2.0),
        state: random.numbers(heads * p * n, -1.0, 1.0),
    }
}

/// Heads, head_dim, d_state, groups. States of 5 and 6 end with a partial vector of four lanes.
pub const SCANS: [[usize; 4]; 6] = [
    [1, 1, 1, 1],
    [2, 3, 5, 1],
    [4, 5, 6, 2],
    [6, 4, 64, 2],
    [3, 8, 32, 1],
    [2, 64, 128, 1],
];

/// Each step multiplies the state by at most one and adds a rounding error of 1e-7; the slowest head decays over
/// several hundred steps, and y sums up to 64 numbers of the state.
pub const SCAN: f64 = 1e-5;

/// `body(what, tokens, scan)`.
pub fn for_scan_cases(mut body: impl FnMut(&str, usize, &Scan)) {
    let mut random = Random(10);
    for sizes in SCANS {
        for t_rows in [1, 2, 3, 4, 5, 35, 64, 65, 200] {
            for dt_min in [0.0, 0.001, 0.5] {
                let scan = Scan {
                    dt_min,
                    ..random_scan(&mut random, t_rows, sizes)
                };
                let what = format!("{t_rows} tokens, {sizes:?}, dt ≥ {dt_min}");
                body(&what, t_rows, &scan);
            }
        }
    }
}
