//! Every op of the CPU backend, at all edge-case shapes, against simple references. It uses only `Ops` and the CPU's
//! constructor, and runs no model (`tests/model.rs` does). `cargo xtask test` also runs it as wasm, with the vector
//! instructions of the wasm engine.
//!
//! Three invariants are checked for every op: results do not depend on the number of threads, a row of a batch has the
//! same bits as the row alone, and a sequence in pieces has the same bits as the whole. Only the scan has different
//! forms for one token and for several, which agree within its tolerance.

mod cases;
mod reference;
#[cfg(not(target_arch = "wasm32"))]
mod refused_shapes;

use cases::*;
use zamba2::base::quant::{BLOCK, StoredMatrix, WeightFormat};
use zamba2::device::cpu::Cpu;
use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, Device, KvFormat};
use zamba2::ops::trace::{Level, ModuleId};

use crate::reference::Scan;

#[cfg(not(target_arch = "wasm32"))]
const THREADS: [usize; 2] = [1, 3];
/// WASI has no threads.
#[cfg(target_arch = "wasm32")]
const THREADS: [usize; 1] = [1];

fn cpu(threads: usize) -> Ops<Cpu> {
    Ops::new(Cpu::new(threads))
}

/// The result of `body`, which must be bit-identical for every number of threads.
fn on_any_threads(what: &str, body: impl Fn(&mut Ops<Cpu>) -> Vec<f32>) -> Vec<f32> {
    let [first, others @ ..] = THREADS.map(|threads| body(&mut cpu(threads)));
    for other in others {
        assert_same_bits(
            &format!("{what}, another number of threads"),
            &other,
            &first,
        );
    }
    first
}

fn assert_same_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == b.to_bits(),
            "{what}: [{i}]: got {a}, expected {b}"
        );
    }
}

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
fn top_gives_the_largest_logits_in_order_and_the_softmax_sum() {
    let ops = &mut cpu(1);
    for_top_cases(|case| check_top(case, &top(ops, &case.logits, case.k)));
}

#[test]
fn penalise_changes_the_logits_of_the_history_and_of_the_chosen_token() {
    let ops = &mut cpu(1);
    for_penalty_cases(|what, logits, history, penalty| {
        let got = penalise(ops, logits, history, penalty);
        check_penalised(what, logits, history, penalty, &got);
    });
}

#[test]
fn top_names_the_first_logit_that_is_not_finite() {
    let ops = &mut cpu(1);
    for_fault_cases(|what, logits, token| {
        check_fault(what, logits, token, &top(ops, logits, 3));
    });
}

#[test]
fn draw_gives_the_token_of_the_definition_at_every_setting() {
    let ops = &mut cpu(1);
    for_draw_cases(|case| assert_eq!(draw(ops, case), case.expected, "{}", case.what));
}

#[test]
fn embed_top_gives_the_embedding_of_the_first_token_of_a_top_k_list() {
    let ops = &mut cpu(1);
    for_embed_cases(|what, table| {
        for token in TOKENS {
            assert_eq!(
                embed_top(ops, table, token),
                embed(ops, table, &[token]),
                "{what} {token}"
            );
        }
    });
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

#[test]
fn rms_norm_equals_candle_at_every_shape() {
    for_rms_norm_cases(|what, weight, x| {
        let y = on_any_threads(what, |ops| rms_norm(ops, weight, 1e-5, x));
        assert_close(what, NORM, &y, &reference::rms_norm(weight, 1e-5, x));
        let last = x.len() - weight.len();
        let alone = rms_norm(&mut cpu(1), weight, 1e-5, &x[last..]);
        assert_same_bits(what, &y[last..], &alone);
    });
}

/// Beyond 1e19 the squares overflow f32. The reference then divides by infinity and gives zero, and so must this.
#[test]
fn the_norms_stay_finite_on_zeros_and_huge_values() {
    for value in [0.0, 1e-30, 1e18, 1e30] {
        let mut x = vec![1.0; 33];
        x[7] = value;
        for x in [x, vec![value; 33]] {
            let y = rms_norm(&mut cpu(1), &[1.0; 33], 1e-5, &x);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
            let gate: Vec<f32> = x.iter().map(|v| -v).collect();
            let y = gated_rms_norm(&mut cpu(1), &[1.0; 33], 3, &x, &gate);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
        }
    }
    assert_eq!(rms_norm(&mut cpu(1), &[1.0; 5], 1e-5, &[0.0; 5]), [0.0; 5]);
}

#[test]
fn gated_rms_norm_equals_the_loops_at_every_shape_and_number_of_groups() {
    for_gated_rms_norm_cases(|what, weight, n_groups, x, gate| {
        let y = on_any_threads(what, |ops| gated_rms_norm(ops, weight, n_groups, x, gate));
        let expected = reference::gated_rms_norm(weight, n_groups, 1e-5, x, gate);
        assert_close(what, NORM, &y, &expected);
        let last = x.len() - weight.len();
        let ops = &mut cpu(1);
        let alone = gated_rms_norm(ops, weight, n_groups, &x[last..], &gate[last..]);
        assert_same_bits(what, &y[last..], &alone);
    });
}

#[test]
fn causal_conv1d_equals_the_loops_however_the_sequence_is_split() {
    for_conv_cases(|what, t_rows, case| {
        let got = on_any_threads(what, |ops| conv1d(ops, case, &[t_rows]));
        let (y, state) = got.split_at(case.x.len());
        let inputs = [&case.state[..], &case.x].concat();
        let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
        assert_close(what, CONV, y, &expected);
        assert_same_bits(what, state, &inputs[case.x.len()..]);
        for pieces in ways_to_cut(t_rows) {
            let cut = conv1d(&mut cpu(1), case, &pieces);
            assert_same_bits(&format!("{what} as {pieces:?}"), &cut, &got);
        }
    });
}

#[test]
fn causal_conv1d_stays_finite_on_huge_inputs() {
    for value in [0.0, 1e30, -1e30] {
        let case = ConvCase {
            weight: vec![1.0; 8],
            bias: vec![0.0; 2],
            state: vec![0.0; 6],
            x: vec![value, 1.0, 0.0, -1.0],
        };
        let y = conv1d(&mut cpu(1), &case, &[2]);
        assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
    }
}

#[test]
fn ssm_scan_equals_the_recurrence_however_the_sequence_is_split() {
    for_scan_cases(|what, t_rows, scan| {
        let got = on_any_threads(what, |ops| ssm_scan(ops, scan, &[t_rows]));
        let (expected_y, expected_state) = scan.run();
        // Relative to y and the state together: a state of one number may cancel to less than the rounding of its
        // terms.
        let expected = [expected_y, expected_state].concat();
        assert_close(what, SCAN, &got, &expected);
        // One token is computed by the recurrence and several by a matrix product, so pieces round differently.
        for pieces in ways_to_cut(t_rows) {
            let what = format!("{what} as {} pieces", pieces.len());
            let cut = ssm_scan(&mut cpu(1), scan, &pieces);
            assert_close(&what, SCAN, &cut, &expected);
        }
    });
}

/// What drafts rely on: few rows at once are the same steps, and a scan may leave the state before it as it was.
#[test]
fn few_rows_of_ssm_scan_have_the_bits_of_single_steps_from_a_state_that_stays() {
    let mut random = Random(13);
    for sizes in SCANS {
        for t_rows in 1..=Cpu::MAX_EXACT_ROWS {
            let scan = random_scan(&mut random, t_rows, sizes);
            let what = format!("{t_rows} tokens, {sizes:?}");
            let steps = ssm_scan(&mut cpu(1), &scan, &vec![1; t_rows]);
            // By single steps y is row after row, too.
            let together = on_any_threads(&what, |ops| ssm_scan(ops, &scan, &[t_rows]));
            assert_same_bits(&what, &together, &steps);
            let from = on_any_threads(&what, |ops| ssm_scan_from(ops, &scan, t_rows));
            let (result, before) = from.split_at(steps.len());
            assert_same_bits(&format!("{what}, from"), result, &steps);
            assert_same_bits(&format!("{what}, before"), before, &scan.state);
        }
    }
}

/// A huge dt clears the state; a large negative one changes nothing but D·x.
#[test]
fn ssm_scan_is_correct_for_every_size_of_dt() {
    let mut random = Random(11);
    for dt in [-1e30, -100.0, 0.0, 19.9, 20.1, 100.0, 1e30] {
        for t_rows in [3, 9] {
            let mut scan = Scan {
                dt_min: 0.0,
                ..random_scan(&mut random, t_rows, [4, 5, 6, 2])
            };
            scan.dt.fill(dt);
            scan.dt_bias.fill(0.0);
            let got = on_any_threads("dt", |ops| ssm_scan(ops, &scan, &[t_rows]));
            let (y, state) = got.split_at(scan.x.len());
            let (expected_y, expected_state) = scan.run();
            assert_close(&format!("dt {dt}, {t_rows} tokens"), SCAN, y, &expected_y);
            assert_close(
                &format!("dt {dt}, {t_rows} tokens"),
                SCAN,
                state,
                &expected_state,
            );
        }
    }
}

#[test]
fn a_cleared_state_equals_that_of_a_new_sequence() {
    let mut random = Random(12);
    let scan = random_scan(&mut random, 5, [4, 5, 6, 2]);
    let fresh = Scan {
        state: vec![0.0; scan.state.len()],
        ..random_scan(&mut Random(12), 5, [4, 5, 6, 2])
    };
    let ops = &mut cpu(1);
    let mut state = rows(ops, scan.d_state, &scan.state);
    ops.clear(&mut state);
    let cleared = Scan {
        state: read(ops, &state),
        ..scan
    };
    assert_same_bits("the state", &cleared.state, &fresh.state);
    assert_same_bits(
        "the scan",
        &ssm_scan(ops, &cleared, &[5]),
        &ssm_scan(ops, &fresh, &[5]),
    );
    // Rows not used by the last, shorter operation are cleared as well.
    let mut wide = rows(ops, 2, &[1.0; 8]);
    let (a, b) = (rows(ops, 2, &[1.0; 2]), rows(ops, 2, &[1.0; 2]));
    ops.add(MODULE, &a, &b, &mut wide);
    ops.clear(&mut wide);
    let (a, b) = (rows(ops, 1, &[1.0; 4]), rows(ops, 1, &[2.0; 4]));
    assert_same_bits("the short tensor", &read(ops, &wide), &[0.0; 2]);
    ops.concat(MODULE, &a, &b, &mut wide);
    assert_same_bits("the tall tensor", &read(ops, &wide), &[1.0, 2.0].repeat(4));
}

#[test]
fn rope_equals_candle_at_every_position() {
    for_rope_cases(|what, case| {
        let (x, position) = (&case.x, case.position);
        let y = on_any_threads(what, |ops| rope(ops, case, position, x));
        let expected = reference::rope(&case.inv_freq, position, x, case.n_heads);
        assert_close(what, ROPE, &y, &expected);
        let cols = 2 * case.inv_freq.len() * case.n_heads;
        let last = x.len() - cols;
        let alone = rope(&mut cpu(1), case, position + last / cols, &x[last..]);
        assert_same_bits(what, &y[last..], &alone);
        if position == 0 {
            assert_same_bits("position 0", &y[..cols], &x[..cols]);
        }
    });
}

#[test]
fn attention_equals_candle_for_every_grouping_of_heads_and_in_pieces() {
    for_attention_cases(|what, t_rows, shape, [q, k, v]| {
        let (d, scale) = (shape.head_dim, shape.scale);
        let kept = [k, v].map(|x| in_eight_bits(x, d));
        let exact =
            |k, v| reference::attention(shape.n_heads, shape.n_kv_heads, d, scale, [q, k, v]);
        for (format, tolerance, expected) in [
            (KvFormat::F32, ATTENTION, exact(k, v)),
            (KvFormat::I8, ATTENTION_I8, exact(&kept[0], &kept[1])),
        ] {
            let what = format!("{format:?}, {what}");
            let y = on_any_threads(&what, |ops| {
                attention(ops, shape, format, [q, k, v], &[t_rows])
            });
            assert_close(&what, tolerance, &y, &expected);
            for pieces in ways_to_cut(t_rows) {
                let cut = attention(&mut cpu(1), shape, format, [q, k, v], &pieces);
                assert_same_bits(&format!("{what} as {} pieces", pieces.len()), &cut, &y);
            }
        }
    });
}

#[test]
fn a_kv_cache_takes_the_bytes_of_its_format() {
    let shape = AttentionShape {
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        scale: 1.0,
    };
    // 2 · 4096 numbers per position and layer, plus one scale per head in eight bits.
    assert_eq!(KvFormat::F32.bytes(&shape, 10), 10 * 2 * 4096 * 4);
    assert_eq!(KvFormat::I8.bytes(&shape, 10), 10 * 2 * (4096 + 32 * 4));
}

/// Every size of a tile, before, across and after the end of a block of 256 positions.
#[test]
fn any_number_of_queries_has_the_bits_of_single_queries() {
    let mut random = Random(15);
    let shape = AttentionShape {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 20,
        scale: 0.25,
    };
    let len = 290;
    let [q, k, v] = [2, 1, 1].map(|heads| random.numbers(len * heads * shape.head_dim, -2.0, 2.0));
    for format in [KvFormat::F32, KvFormat::I8] {
        let single = attention(&mut cpu(1), shape, format, [&q, &k, &v], &vec![1; len]);
        for n in 2..=19 {
            let before = 232 + n;
            let pieces = [before, n, n, len - before - 2 * n];
            let y = attention(&mut cpu(2), shape, format, [&q, &k, &v], &pieces);
            assert_same_bits(&format!("{format:?}, {n} queries"), &y, &single);
        }
    }
}

#[test]
fn a_query_is_not_changed_by_keys_and_values_of_later_positions() {
    let mut random = Random(16);
    let shape = AttentionShape {
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 6,
        scale: 1.0,
    };
    let width = shape.head_dim;
    let [q, k, v] = [(); 3].map(|()| random.numbers(11 * width, -2.0, 2.0));
    for format in [KvFormat::F32, KvFormat::I8] {
        let whole = attention(&mut cpu(1), shape, format, [&q, &k, &v], &[11]);
        for bad in [f32::NAN, f32::INFINITY] {
            for position in 0..11 {
                let [k, v] = [&k, &v].map(|x| {
                    let mut x = x.clone();
                    x[position * width..][..width].fill(bad);
                    x
                });
                let y = attention(&mut cpu(1), shape, format, [&q, &k, &v], &[11]);
                let (before, after) = y.split_at(position * width);
                assert_same_bits(&format!("{format:?}"), before, &whole[..before.len()]);
                assert!(after.iter().all(|y| !y.is_finite()), "{format:?}");
            }
        }
    }
}

#[test]
fn attention_with_one_dominant_key_gives_its_value() {
    let shape = AttentionShape {
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 2,
        scale: 1.0,
    };
    let q = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let (k, v) = (
        [1.0, 0.0, 1e30, 0.0, -1e30, 0.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    );
    let y = attention(&mut cpu(1), shape, KvFormat::F32, [&q, &k, &v], &[3]);
    assert_eq!(y[4..], [3.0, 4.0]);
    assert_eq!(y[2..4], [2.0, 3.0], "equal scores have equal weights");
}

#[test]
fn gelu_mul_equals_the_exact_gelu_of_candle() {
    for_gelu_cases(|what, d, x| {
        let y = on_any_threads(what, |ops| gelu_mul(ops, d, x));
        assert_close(what, GELU, &y, &reference::gelu_mul(x, d));
        let last = x.len() / (2 * d) - 1;
        let alone = gelu_mul(&mut cpu(1), d, &x[last * 2 * d..]);
        assert_same_bits(what, &y[last * d..], &alone);
    });
    let x = [1e30, -1e30, 0.0, -0.0, 1.0, 1.0, 1.0, 1.0];
    assert_eq!(gelu_mul(&mut cpu(1), 4, &x), [1e30, 0.0, 0.0, 0.0]);
}

#[test]
fn concat_add_and_last_row_are_exact() {
    for_move_cases(|case| {
        let got = on_any_threads("moved", |ops| case.run(ops));
        assert_same_bits("moved", &got, &case.expected());
    });
}

#[test]
fn a_destination_grows_and_shrinks_to_the_row_count_of_its_source() {
    let ops = &mut cpu(1);
    let two = StoredMatrix::from_values(WeightFormat::F32, 1, &[2.0]);
    let double = linear(ops, &two, None);
    let mut y = ops.tensor(65, 1);
    for t_rows in [65, 3, 64, 1, 65] {
        let x = rows(ops, 1, &vec![t_rows as f32; t_rows]);
        ops.linear(&double, &x, &mut y);
        assert_same_bits("y", &read(ops, &y), &vec![2.0 * t_rows as f32; t_rows]);
    }
}

#[test]
fn a_scope_contains_the_spans_of_its_ops_with_their_work() {
    let ops = &mut cpu(1);
    let weight = Random(17).matrix(WeightFormat::Q4, 8, 33);
    let layer = linear(ops, &weight, None);
    ops.profiler().set_level(Level::Module);
    ops.profiler().set_modules(["a linear", "layers.0"]);
    let y = ops.scope(ModuleId(1), |ops| {
        let x = rows(ops, 33, &[1.0; 33]);
        let mut y = ops.tensor(1, 8);
        ops.linear(&layer, &x, &mut y);
        y
    });
    assert_eq!(read(ops, &y).len(), 8);
    let profile = ops.profiler().take();
    let names: Vec<&str> = profile
        .name
        .iter()
        .map(|id| &profile.names[*id as usize][..])
        .collect();
    assert_eq!(names, ["layers.0", "a linear"]);
    assert_eq!(profile.parent, [-1, 0]);
    assert_eq!(profile.flops, [0.0, 2.0 * 8.0 * 33.0]);
    assert_eq!(profile.bytes, [0.0, WeightFormat::Q4.bytes(8, 33) as f64]);
}
