//! Products with matrices, their formats, and embeddings.

use zamba2::base::quant::{BLOCK, StoredMatrix, WeightFormat};

use crate::cases::*;
use crate::kernels::{assert_same_bits, cpu, on_any_threads};
use crate::reference;

/// Compares a quantised product with integer arithmetic on the same quants, where only f32 rounding may differ, and
/// with candle's product of the dequantised weights, where the rounding of activations may differ too.
fn check_quantized(what: &str, weight: &StoredMatrix, x: &[f32], y: &[f32]) {
    // An integer sum rounded to 24 bits, two scales, and in the worst case one addition per block.
    let tolerance = (6 + weight.cols.div_ceil(BLOCK)) as f64 * f64::from(f32::EPSILON);
    let unquantized = reference::linear(weight, x);
    let (mut square, mut variance) = (0.0, 0.0);
    for (i, (got, exact)) in y.iter().zip(&unquantized).enumerate() {
        let (t, row) = (i / weight.rows, i % weight.rows);
        let sum = reference::quantized_sum(weight, row, &x[t * weight.cols..][..weight.cols]);
        let got = f64::from(*got);
        // The added term is f32's smallest normal number: below it no bits of precision are left.
        let rounding = tolerance.min(1e-5) * sum.magnitude + 1e-40;
        let (value, worst) = (sum.value, sum.worst_rounding + rounding);
        let off = (got - value).abs();
        assert!(
            off <= rounding,
            "{what} [{t}, {row}]: got {got}, expected {value}"
        );
        let off = (got - exact).abs();
        assert!(
            off <= worst,
            "{what} [{t}, {row}]: {got}, unquantised {exact}"
        );
        square += off * off;
        variance += sum.rounding_variance + (1e-7 * sum.magnitude).powi(2);
    }
    // The largest activation of each block is exact, so the theoretical variance is slightly too high; the factor
    // covers chance.
    if y.len() >= 1000 {
        assert!(
            square <= 1.2 * variance,
            "{what}: the error exceeds rounding: {square} {variance}"
        );
    }
}

#[test]
fn linear_in_f32_equals_candle_at_every_shape() {
    for_linear_cases(&[WeightFormat::F32], |what, weight, x| {
        let y = on_any_threads(what, |ops| product(ops, weight, x));
        assert_close(what, LINEAR_F32, &y, &reference::linear(weight, x));
    });
}

#[test]
fn quantized_products_are_exact_integer_sums_and_close_to_candle_at_every_shape() {
    for_linear_cases(&QUANTIZED, |what, weight, x| {
        let y = on_any_threads(what, |ops| product(ops, weight, x));
        check_quantized(what, weight, x, &y);
    });
}

#[test]
fn the_matrices_of_the_published_models_multiply_exactly() {
    let mut random = Random(2);
    for (name, format, cols, d_out) in MODEL_WIDTHS {
        let weight = random.matrix(format, d_out, cols);
        let x = random.numbers(cols, -2.0, 2.0);
        let y = on_any_threads(name, |ops| product(ops, &weight, &x));
        check_quantized(name, &weight, &x, &y);
    }
}

#[test]
fn a_row_of_a_batch_has_the_bits_of_the_row_alone() {
    for_linear_cases(&FORMATS, |what, weight, x| {
        let ops = &mut cpu(1);
        let whole = product(ops, weight, x);
        let t_rows = x.len() / weight.cols;
        for t in [0, t_rows / 2, t_rows - 1] {
            let alone = product(ops, weight, &x[t * weight.cols..][..weight.cols]);
            assert_same_bits(
                &format!("{what} row {t}"),
                &whole[t * weight.rows..][..weight.rows],
                &alone,
            );
        }
    });
}

/// As many rows as passes over drafts have, and some more, where other kernels begin. The shapes fill no group, vector
/// or block, and the first has more groups than a thread's part.
#[test]
fn every_row_of_a_short_pass_has_the_bits_of_the_row_alone() {
    let mut random = Random(6);
    for format in FORMATS {
        for (cols, d_out) in [(203, 331), (37, 6), (1109, 53)] {
            let weight = random.matrix(format, d_out, cols);
            let x = random.numbers(14 * cols, -2.0, 2.0);
            let ops = &mut cpu(1);
            let alone = x.chunks(cols).flat_map(|row| product(ops, &weight, row));
            let alone: Vec<f32> = alone.collect();
            for t_rows in 1..=14 {
                let what = format!("{format:?} {t_rows}×{cols}→{d_out}");
                let x = &x[..t_rows * cols];
                let whole = on_any_threads(&what, |ops| product(ops, &weight, x));
                assert_same_bits(&what, &whole, &alone[..t_rows * d_out]);
            }
        }
    }
}

#[test]
fn a_bias_is_added_once_and_linear_add_keeps_what_is_there() {
    let mut random = Random(3);
    for format in FORMATS {
        for (t_rows, cols, d_out) in [(1, 33, 5), (3, 37, 31), (65, 5, 100)] {
            let what = format!("{format:?} {t_rows}×{cols}→{d_out}");
            let weight = random.matrix(format, d_out, cols);
            let (bias, x) = (
                random.numbers(d_out, -1.0, 1.0),
                random.numbers(t_rows * cols, -2.0, 2.0),
            );
            let before = random.numbers(t_rows * d_out, -3.0, 3.0);
            let plain = product(&mut cpu(1), &weight, &x);
            let both = on_any_threads(&what, |ops| {
                let linear = linear(ops, &weight, Some(&bias));
                let x = rows(ops, cols, &x);
                let mut y = ops.tensor(t_rows, d_out);
                ops.linear(&linear, &x, &mut y);
                let mut sums = read(ops, &y);
                let mut y = rows(ops, d_out, &before);
                ops.linear_add(&linear, &x, &mut y);
                sums.extend(read(ops, &y));
                sums
            });
            let biased: Vec<f32> = plain
                .iter()
                .zip(bias.iter().cycle())
                .map(|(y, b)| y + b)
                .collect();
            let added: Vec<f32> = before.iter().zip(&biased).map(|(y, sum)| y + sum).collect();
            assert_same_bits(&what, &both, &[biased, added].concat());
        }
    }
}

/// Full-range activations, the most negative and the most positive weights, and signs that make every product of a
/// block positive: a 16-bit lane that overflows panics natively and gives a wrong sum in wasm.
#[test]
fn the_largest_quants_do_not_overflow() {
    for format in QUANTIZED {
        let (low, high) = if format == WeightFormat::Q8 {
            (-127, 127)
        } else {
            (-8, 7)
        };
        for cols in [32, 64, 100, 4096] {
            for pattern in 0..5 {
                let quant = |col: usize| match pattern {
                    0 | 3 => low,
                    1 => high,
                    _ if col.is_multiple_of(2) => low,
                    _ => high,
                };
                let activation = |col: usize| match pattern {
                    3 => -1.0,
                    // With the sign of the weight, and with the opposite sign.
                    2 if col.is_multiple_of(2) => -1.0,
                    4 if col % 2 == 1 => -1.0,
                    _ => 1.0,
                };
                let weight = filled(format, 5, cols, quant);
                let x: Vec<f32> = (0..cols).map(activation).collect();
                let y = product(&mut cpu(1), &weight, &x.repeat(5));
                check_quantized(
                    &format!("{format:?} {cols} pattern {pattern}"),
                    &weight,
                    &x.repeat(5),
                    &y,
                );
            }
        }
    }
}

/// A matrix with `quant(column)` in every row and the largest scales of both signs.
fn filled(
    format: WeightFormat,
    rows: usize,
    cols: usize,
    quant: impl Fn(usize) -> i8,
) -> StoredMatrix {
    let block_scale = |block| if block % 3 == 2 { -32767 } else { 32767 };
    let shape = [rows, cols];
    quantized(
        format,
        shape,
        |_| 1.0 / 32767.0,
        block_scale,
        |_, col| quant(col),
    )
}

#[test]
fn extreme_activations_give_exact_sums() {
    let mut random = Random(4);
    let cols = 100;
    let one_huge = |at: usize, mut x: Vec<f32>| {
        x[at] = 1e30;
        x
    };
    let cases = [
        ("all zero", vec![0.0; cols]),
        (
            "one huge value among ordinary ones",
            one_huge(40, random.numbers(cols, -1.0, 1.0)),
        ),
        ("one huge value among zeros", one_huge(99, vec![0.0; cols])),
        ("all huge", random.numbers(cols, -1e30, 1e30)),
        ("all tiny", random.numbers(cols, -1e-30, 1e-30)),
        ("the smallest normal numbers", vec![f32::MIN_POSITIVE; cols]),
        ("subnormal numbers", random.numbers(cols, -1e-39, 1e-39)),
        (
            "one subnormal number",
            [vec![0.0; 70], vec![1e-45], vec![0.0; 29]].concat(),
        ),
    ];
    for format in FORMATS {
        let weight = random.matrix(format, 6, cols);
        for (what, x) in &cases {
            let y = on_any_threads(what, |ops| product(ops, &weight, x));
            assert!(y.iter().all(|v| v.is_finite()), "{format:?} {what}: {y:?}");
            if format == WeightFormat::F32 {
                // Products of subnormal numbers lose all their bits in any order of summation.
                let exact = reference::linear(&weight, x);
                let kept = exact.iter().any(|v| v.abs() > 1e-36);
                assert_close(what, if kept { LINEAR_F32 } else { 1e9 }, &y, &exact);
            } else {
                check_quantized(what, &weight, x, &y);
            }
        }
    }
}

#[test]
fn embed_gives_the_dequantized_rows_in_the_order_of_the_tokens() {
    for_embed_cases(|what, table| {
        let all = reference::dequantized(table);
        let expected =
            TOKENS.map(|token| all[token as usize * table.cols..][..table.cols].to_vec());
        let y = on_any_threads(what, |ops| embed(ops, table, &TOKENS));
        assert_same_bits(what, &y, &expected.concat());
    });
}

#[test]
fn a_weight_takes_the_bytes_of_its_format() {
    let mut random = Random(6);
    for format in FORMATS {
        // Full groups of rows and even numbers of blocks, as in every published model, need no padding.
        for (rows, cols) in [(4, 64), (8, 33), (64, 100)] {
            let ops = &mut cpu(1);
            let weight = ops.weight(&random.matrix(format, rows, cols));
            assert_eq!(ops.weight_bytes(&weight) as u64, format.bytes(rows, cols));
        }
    }
}
