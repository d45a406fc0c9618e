//! Linear layers on an adapter: all kernels, weight formats and edge-case shapes.

use zamba2::base::quant::StoredMatrix;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::ops::Ops;

use super::{device, in_every_variant};
use crate::cases::*;
use crate::reference;

/// The weights are exact, so only the sum is rounded: in the worst case once per term, and a few times more for scales
/// and the sum over threads.
pub fn check_linear(what: &str, weight: &StoredMatrix, x: &[f32], y: &[f32]) {
    let worst = (weight.cols + 16) as f64 * f64::from(f32::EPSILON) / 2.0;
    let exact = reference::linear(weight, x);
    let magnitudes = reference::linear_magnitudes(weight, x);
    assert_eq!(y.len(), exact.len(), "{what}");
    for (i, (got, (exact, magnitude))) in y.iter().zip(exact.iter().zip(magnitudes)).enumerate() {
        let off = (f64::from(*got) - exact).abs();
        assert!(
            off <= worst * magnitude,
            "{what}: [{i}]: got {got}, expected {exact}"
        );
    }
}

/// All linear kernels and every remainder of their tiles.
#[test]
fn a_linear_layer_equals_candle_in_every_format_and_shape() {
    in_every_variant("linear", |form, ops| {
        for_linear_cases(&FORMATS, |what, weight, x| {
            check_linear(
                &format!("{form}: {what}"),
                weight,
                x,
                &product(ops, weight, x),
            );
        });
    });
}

/// Row lengths around the threshold from which a workgroup shares a row, with one token and with a few.
#[test]
fn products_with_long_rows_equal_candle_for_every_number_of_tokens_and_rows() {
    in_every_variant("long rows", |form, ops| {
        let mut random = Random(23);
        for format in FORMATS {
            for (cols, d_out) in [(64, 65), (68, 9), (257, 7), (520, 33), (545, 8), (2080, 1)] {
                let weight = random.matrix(format, d_out, cols);
                for t_rows in [1, 2, 3, 4, 5, 16, 17] {
                    let what = format!("{form}: {format:?} {t_rows}×{cols}→{d_out}");
                    let x = random.numbers(t_rows * cols, -2.0, 2.0);
                    check_linear(&what, &weight, &x, &product(ops, &weight, &x));
                }
            }
        }
    });
}

/// Quants are integers that f16 represents exactly, and products and sums are f32 in both variants.
#[test]
fn weight_tiles_in_f16_give_the_same_bits() {
    let mut expected = Vec::new();
    in_every_variant("f16", |form, ops| {
        let mut got = Vec::new();
        for_linear_cases(&QUANTIZED, |_, weight, x| {
            if x.len() / weight.cols == 35 {
                got.extend(product(ops, weight, x));
            }
        });
        match form {
            "floor" => expected = got,
            "f16" => assert_eq!(got, expected),
            _ => {}
        }
    });
}

/// A fault in one token's activations stays with that token, in every kernel.
#[test]
fn a_nan_in_one_row_does_not_affect_other_rows() {
    in_every_variant("NaN", |form, ops| {
        let mut random = Random(21);
        for format in FORMATS {
            // Read in fours as it is, after it is padded, and by a workgroup for each row.
            for cols in [36, 37, 600] {
                let weight = random.matrix(format, 70, cols);
                for t_rows in [3, 35] {
                    let mut x = random.numbers(t_rows * cols, -2.0, 2.0);
                    x[cols..2 * cols].fill(f32::NAN);
                    let y = product(ops, &weight, &x);
                    for (t, row) in y.chunks(70).enumerate() {
                        let faulty = row.iter().all(|v| v.is_nan());
                        let sound = row.iter().all(|v| v.is_finite());
                        assert!(
                            if t == 1 { faulty } else { sound },
                            "{form} {format:?} {t_rows}×{cols}"
                        );
                    }
                }
            }
        }
        let x = [vec![1.0; 33], vec![f32::NAN; 33], vec![2.0; 33]].concat();
        let y = rms_norm(ops, &[1.0; 33], 1e-5, &x);
        assert!(
            y[..33].iter().chain(&y[66..]).all(|v| v.is_finite()),
            "{form}"
        );
        let y = gated_rms_norm(ops, &[1.0; 33], 3, &x, &x);
        assert!(
            y[..33].iter().chain(&y[66..]).all(|v| v.is_finite()),
            "{form}"
        );
    });
}

#[test]
fn products_with_the_published_models_matrices_equal_candle() {
    in_every_variant("model matrices", |form, ops| {
        let mut random = Random(2);
        for (name, format, cols, d_out) in MODEL_WIDTHS {
            let weight = random.matrix(format, d_out, cols);
            let x = random.numbers(cols, -2.0, 2.0);
            let name = &format!("{form}: {name}");
            check_linear(name, &weight, &x, &product(ops, &weight, &x));
        }
    });
}

#[test]
fn a_matrix_larger_than_a_binding_is_split_by_rows_and_gives_the_same() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(1000),
        ..AdapterOptions::default()
    };
    let Some(split) = device("split matrices", narrow) else {
        return;
    };
    let mut split = Ops::new(split);
    let mut random = Random(20);
    for format in FORMATS {
        let weight = random.matrix(format, 100, 100);
        for t_rows in [1, 35] {
            let what = format!("{format:?} {t_rows}");
            let x = random.numbers(t_rows * 100, -2.0, 2.0);
            check_linear(&what, &weight, &x, &product(&mut split, &weight, &x));
        }
        let tokens = [99, 0, 31, 32, 50];
        let all = reference::dequantized(&weight);
        let expected = tokens.map(|token| all[token as usize * 100..][..100].to_vec());
        assert_eq!(embed(&mut split, &weight, &tokens), expected.concat());
    }
}

#[test]
fn a_bias_is_added_once_and_linear_add_keeps_what_is_there() {
    in_every_variant("bias", |form, ops| {
        let mut random = Random(3);
        for format in FORMATS {
            for (t_rows, cols, d_out) in [(1, 33, 5), (3, 37, 31), (65, 5, 100)] {
                let what = format!("{form}: {format:?} {t_rows}×{cols}→{d_out}");
                let weight = random.matrix(format, d_out, cols);
                let bias = random.numbers(d_out, -1.0, 1.0);
                let x = random.numbers(t_rows * cols, -2.0, 2.0);
                let before = random.numbers(t_rows * d_out, -3.0, 3.0);
                let expected = reference::linear(&weight, &x);
                let expected = expected.iter().zip(bias.iter().cycle());
                let expected: Vec<f64> = expected.map(|(y, b)| y + f64::from(*b)).collect();
                let layer = linear(ops, &weight, Some(&bias));
                let x = rows(ops, cols, &x);
                let mut y = ops.tensor(t_rows, d_out);
                ops.linear(&layer, &x, &mut y);
                assert_close(&what, LINEAR_F32, &read(ops, &y), &expected);
                let mut y = rows(ops, d_out, &before);
                ops.linear_add(&layer, &x, &mut y);
                let added = expected.iter().zip(&before).map(|(y, b)| y + f64::from(*b));
                let added: Vec<f64> = added.collect();
                assert_close(&what, LINEAR_F32, &read(ops, &y), &added);
            }
        }
    });
}
