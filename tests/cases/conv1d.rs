//! The causal convolution.

use zamba2::ops::Ops;
use zamba2::ops::device::{Cols, Conv1d, Device};

use super::{MODULE, ROWS, Random, beside, read, rows};

/// The convolution of `t_rows` tokens in pieces of the given lengths; gives y and then the state.
/// // x [T, conv_dim], state [d_conv − 1, conv_dim]
pub fn conv1d<D: Device>(ops: &mut Ops<D>, case: &ConvCase, pieces: &[usize]) -> Vec<f32> {
    let conv_dim = case.bias.len();
    let conv = Conv1d {
        module: MODULE,
        weight: rows(ops, conv_dim, &case.weight),
        bias: rows(ops, conv_dim, &case.bias),
    };
    let mut state = rows(ops, conv_dim, &case.state);
    let (mut done, mut all) = (0, Vec::new());
    for &piece in pieces {
        let x = &case.x[done * conv_dim..][..piece * conv_dim];
        let around = vec![9.0; 2 * piece];
        let wide = rows(ops, conv_dim + 4, &beside(piece, &[&around, x, &around]));
        let x = Cols {
            tensor: &wide,
            start: 2,
            len: conv_dim,
        };
        let mut y = ops.tensor(piece, conv_dim);
        ops.causal_conv1d(&conv, x, &mut state, &mut y);
        all.extend(read(ops, &y));
        done += piece;
    }
    all.extend(read(ops, &state));
    all
}

pub struct ConvCase {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub state: Vec<f32>,
    pub x: Vec<f32>,
}

/// Four products and an exponential; the sum of magnitudes is close to the largest result.
pub const CONV: f64 = 1e-6;

/// `body(what, tokens, case)`.
pub fn for_conv_cases(mut body: impl FnMut(&str, usize, &ConvCase)) {
    let mut random = Random(9);
    for (conv_dim, d_conv) in [(1, 4), (5, 4), (33, 2), (37, 3), (100, 4)] {
        for t_rows in ROWS {
            let case = ConvCase {
                weight: random.numbers(d_conv * conv_dim, -1.0, 1.0),
                bias: random.numbers(conv_dim, -1.0, 1.0),
                state: random.numbers((d_conv - 1) * conv_dim, -2.0, 2.0),
                x: random.numbers(t_rows * conv_dim, -2.0, 2.0),
            };
            let what = format!("{t_rows} tokens, {conv_dim} channels, {d_conv} taps");
            body(&what, t_rows, &case);
        }
    }
}
