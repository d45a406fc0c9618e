//! Linear layers and the lookup of embeddings.

use zamba2::base::quant::{StoredMatrix, WeightFormat};
use zamba2::ops::Ops;
use zamba2::ops::device::{Device, Linear};

use super::{FORMATS, MODULE, ROWS, Random, WIDTHS, read, rows};

/// Matrices of the published models, with one row of activations each: format, columns, rows.
pub const MODEL_WIDTHS: [(&str, WeightFormat, usize, usize); 3] = [
    ("1.2B mamba.in_proj", WeightFormat::Q4, 2048, 8512),
    ("1.2B mamba.out_proj", WeightFormat::Q8, 4096, 2048),
    ("7B down_proj, its first rows", WeightFormat::Q4, 14336, 130),
];

pub fn linear<D: Device>(
    ops: &mut Ops<D>,
    weight: &StoredMatrix,
    bias: Option<&[f32]>,
) -> Linear<D> {
    Linear {
        module: MODULE,
        weight: ops.weight(weight).into(),
        bias: bias.map(|bias| rows(ops, bias.len(), bias)),
    }
}

/// W·x without a bias. // x [T, cols] → [T, rows]
pub fn product<D: Device>(ops: &mut Ops<D>, weight: &StoredMatrix, x: &[f32]) -> Vec<f32> {
    let linear = linear(ops, weight, None);
    let x = rows(ops, weight.cols, x);
    let mut y = ops.tensor(65, weight.rows);
    ops.linear(&linear, &x, &mut y);
    read(ops, &y)
}

/// `body(name, weight, x)` for each format, width and number of rows.
pub fn for_linear_cases(
    formats: &[WeightFormat],
    mut body: impl FnMut(&str, &StoredMatrix, &[f32]),
) {
    let mut random = Random(1);
    for &format in formats {
        for (i, &cols) in WIDTHS.iter().enumerate() {
            for d_out in [
                WIDTHS[(i + 3) % WIDTHS.len()],
                WIDTHS[(i + 6) % WIDTHS.len()],
            ] {
                let weight = random.matrix(format, d_out, cols);
                for t_rows in ROWS {
                    let x = random.numbers(t_rows * cols, -2.0, 2.0);
                    body(&format!("{format:?} {t_rows}×{cols}→{d_out}"), &weight, &x);
                }
            }
        }
    }
}

/// f32 sums of at most 100 products in four lanes: 25 additions and one rounded product each, relative to the terms,
/// which are at most ten times the largest result.
pub const LINEAR_F32: f64 = 2e-6;

/// Tokens with repetitions, and both ends of a table of eleven rows.
pub const TOKENS: [u32; 5] = [10, 0, 3, 3, 7];

/// `body(what, table)` for each format and width.
pub fn for_embed_cases(mut body: impl FnMut(&str, &StoredMatrix)) {
    let mut random = Random(5);
    for format in FORMATS {
        for cols in WIDTHS {
            body(
                &format!("{format:?} {cols}"),
                &random.matrix(format, 11, cols),
            );
        }
    }
}

pub fn embed<D: Device>(ops: &mut Ops<D>, table: &StoredMatrix, tokens: &[u32]) -> Vec<f32> {
    let mut y = ops.tensor(tokens.len() + 3, table.cols);
    let table = ops.weight(table);
    ops.embed(MODULE, &table, tokens, &mut [&mut y]);
    read(ops, &y)
}
