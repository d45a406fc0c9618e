//! The ops of the candle device on the cases of all devices. Tolerances are those of the CPU's kernels: sums and
//! exponentials are f32 in another order.

use pollster::block_on;
use zamba2::device::candle::Candle;
use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, KvFormat};

use crate::cases::*;
use crate::reference;
use crate::webgpu::linear::check_linear;

/// An exponential, and sums of rounded products.
const EXPONENTIAL: f64 = 1e-5;

fn device() -> Ops<Candle> {
    Ops::new(Candle::open(1).unwrap())
}

#[test]
fn linear_layers_and_embeddings_equal_f64_in_every_format_and_shape() {
    let ops = &mut device();
    for_linear_cases(&FORMATS, |what, weight, x| {
        check_linear(what, weight, x, &product(ops, weight, x));
    });
    for_embed_cases(|what, table| {
        let all = reference::dequantized(table);
        for token in [0, table.rows as u32 - 1] {
            let row = &all[token as usize * table.cols..][..table.cols];
            assert_eq!(embed(ops, table, &[token]), row, "{what}");
            assert_eq!(embed_top(ops, table, token), row, "{what}");
        }
    });
}

#[test]
fn norms_equal_f64_at_every_shape_and_number_of_groups() {
    let ops = &mut device();
    for_rms_norm_cases(|what, weight, x| {
        let y = rms_norm(ops, weight, 1e-5, x);
        assert_close(what, NORM, &y, &reference::rms_norm(weight, 1e-5, x));
    });
    for_gated_rms_norm_cases(|what, weight, n_groups, x, gate| {
        let y = gated_rms_norm(ops, weight, n_groups, x, gate);
        let expected = reference::gated_rms_norm(weight, n_groups, 1e-5, x, gate);
        assert_close(what, EXPONENTIAL, &y, &expected);
    });
}

#[test]
fn causal_conv1d_and_ssm_scan_equal_f64_however_the_sequence_is_split() {
    let ops = &mut device();
    for_conv_cases(|what, t_rows, case| {
        let inputs = [&case.state[..], &case.x].concat();
        let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
        for pieces in ways_to_cut(t_rows) {
            let got = conv1d(ops, case, &pieces);
            let (y, state) = got.split_at(case.x.len());
            assert_close(what, EXPONENTIAL, y, &expected);
            assert_eq!(state, &inputs[case.x.len()..], "{what}");
        }
    });
    for_scan_cases(|what, t_rows, scan| {
        let (y, state) = scan.run();
        for pieces in &ways_to_cut(t_rows)[..2] {
            let got = ssm_scan(ops, scan, pieces);
            assert_close(what, SCAN, &got, &[&y[..], &state].concat());
        }
    });
}

#[test]
fn ssm_scan_is_correct_for_every_size_of_dt() {
    let ops = &mut device();
    let mut random = Random(11);
    for dt in [-1e30, -100.0, -9.0, 0.0, 19.9, 20.1, 100.0, 1e30] {
        let mut scan = random_scan(&mut random, 3, [4, 5, 6, 2]);
        scan.dt_min = 0.0;
        scan.dt.fill(dt);
        scan.dt_bias.fill(0.0);
        let (y, state) = scan.run();
        let got = ssm_scan(ops, &scan, &[3]);
        let (got_y, got_state) = got.split_at(scan.x.len());
        assert_close(&format!("dt {dt}: y"), SCAN, got_y, &y);
        assert_close(&format!("dt {dt}: state"), SCAN, got_state, &state);
    }
}

#[test]
fn rope_attention_and_gelu_equal_f64_in_pieces_and_for_every_grouping_of_heads() {
    let ops = &mut device();
    for_rope_cases(|what, case| {
        let expected = reference::rope(&case.inv_freq, case.position, &case.x, case.n_heads);
        let y = rope(ops, case, case.position, &case.x);
        assert_close(what, ROPE, &y, &expected);
    });
    for_attention_cases(|what, t_rows, shape, qkv| {
        let (d, scale, [q, k, v]) = (shape.head_dim, shape.scale, qkv);
        let exact =
            |k, v| reference::attention(shape.n_heads, shape.n_kv_heads, d, scale, [q, k, v]);
        let rounded = [k, v].map(|x| in_eight_bits(x, d));
        let [pieces, ..] = ways_to_cut(t_rows);
        for (format, expected) in [
            (KvFormat::F32, exact(k, v)),
            (KvFormat::I8, exact(&rounded[0], &rounded[1])),
        ] {
            for pieces in [&vec![t_rows], &pieces] {
                let y = attention(ops, shape, format, qkv, pieces);
                assert_close(what, EXPONENTIAL, &y, &expected);
            }
        }
    });
    for_gelu_cases(|what, d, x| {
        let expected = reference::gelu_mul(x, d);
        assert_close(what, EXPONENTIAL, &gelu_mul(ops, d, x), &expected);
    });
}

#[test]
fn moves_are_exact_and_a_kv_cache_makes_a_round_trip_as_bytes() {
    let ops = &mut device();
    for_move_cases(|case| assert_eq!(case.run(ops), case.expected()));
    let shape = AttentionShape {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 3,
        scale: 1.0,
    };
    let numbers = Random(22).numbers(2 * 24, -2.0, 2.0);
    let [k, v] = [&numbers[..24], &numbers[24..]].map(|values| rows(ops, 6, values));
    let [mut first, mut second] =
        [5, 9].map(|context| ops.kv_cache(&shape, context, KvFormat::F32));
    ops.append_kv(MODULE, &k, &v, &mut first);
    let bytes = block_on(ops.read_kv(&first)).unwrap();
    // By position and head: keys, then values.
    let of_head = |i: usize| [&numbers[3 * i..][..3], &numbers[24 + 3 * i..][..3]].concat();
    let expected: Vec<f32> = (0..8).flat_map(of_head).collect();
    let expected: Vec<u8> = expected.into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(bytes, expected);
    ops.write_kv(&bytes, &mut second);
    assert_eq!(block_on(ops.read_kv(&second)).unwrap(), bytes);
}

#[test]
fn top_penalise_and_draw_are_those_of_the_definitions() {
    let ops = &mut device();
    for_top_cases(|case| check_top(case, &top(ops, &case.logits, case.k)));
    for_fault_cases(|what, logits, token| {
        check_fault(what, logits, token, &top(ops, logits, 3));
    });
    for_penalty_cases(|what, logits, history, penalty| {
        let got = penalise(ops, logits, history, penalty);
        check_penalised(what, logits, history, penalty, &got);
    });
    for_draw_cases(|case| assert_eq!(draw(ops, case), case.expected, "{}", case.what));
}
