//! All ops but the linear layers on an adapter.

use pollster::block_on;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, Device, KvFormat};

use super::{device, in_every_variant, on_device};
use crate::cases::*;
use crate::reference::{self, Scan};

/// The CPU's tolerance, plus twice 10⁻⁶ for the exponential of a score within ±10.
const EXPONENTIAL: f64 = 1e-5;

/// Beyond 1e19 the squares overflow f32. WGSL has no infinities, so a device may give zero, as the CPU does, or the
/// result of dividing by the largest number; it must not give a NaN.
#[test]
fn the_norms_stay_finite_on_zeros_and_huge_values() {
    in_every_variant("huge values", |form, ops| {
        for value in [0.0, 1e-30, 1e18, 1e30] {
            let mut x = vec![1.0; 33];
            x[7] = value;
            for x in [x, vec![value; 33]] {
                let y = rms_norm(ops, &[1.0; 33], 1e-5, &x);
                assert!(y.iter().all(|v| v.is_finite()), "{form} {value}: {y:?}");
                let gate: Vec<f32> = x.iter().map(|v| -v).collect();
                let y = gated_rms_norm(ops, &[1.0; 33], 3, &x, &gate);
                assert!(y.iter().all(|v| v.is_finite()), "{form} {value}: {y:?}");
            }
        }
    });
}

#[test]
fn embed_gives_the_dequantized_rows_in_the_order_of_the_tokens() {
    on_device("embed", |ops| {
        for_embed_cases(|what, table| {
            let all = reference::dequantized(table);
            // More tokens than one uniform block holds.
            let tokens: Vec<u32> = TOKENS.into_iter().cycle().take(130).collect();
            let rows = tokens
                .iter()
                .map(|&token| &all[token as usize * table.cols..][..table.cols]);
            assert_eq!(
                embed(ops, table, &tokens),
                rows.collect::<Vec<_>>().concat(),
                "{what}"
            );
        });
    });
}

#[test]
fn rms_norm_equals_candle_at_every_shape() {
    in_every_variant("rms_norm", |form, ops| {
        for_rms_norm_cases(|what, weight, x| {
            let what = &format!("{form}: {what}");
            let y = rms_norm(ops, weight, 1e-5, x);
            assert_close(what, NORM, &y, &reference::rms_norm(weight, 1e-5, x));
        });
    });
}

#[test]
fn gated_rms_norm_equals_the_loops_at_every_shape_and_number_of_groups() {
    in_every_variant("gated_rms_norm", |form, ops| {
        for_gated_rms_norm_cases(|what, weight, n_groups, x, gate| {
            let what = &format!("{form}: {what}");
            let y = gated_rms_norm(ops, weight, n_groups, x, gate);
            let expected = reference::gated_rms_norm(weight, n_groups, 1e-5, x, gate);
            assert_close(what, EXPONENTIAL, &y, &expected);
        });
    });
}

/// Widths of the published models, and the widest whose rows fit the registers with its neighbours. The gate starts at
/// a multiple of four in one half of the cases.
#[test]
fn norms_of_the_published_widths_equal_the_reference() {
    in_every_variant("wide norms", |form, ops| {
        let mut random = Random(25);
        for d in [4, 1020, 1024, 2048, 4096, 7168, 8192, 8193, 8196] {
            let what = &format!("{form}: {d}");
            let weight = random.numbers(d, 0.5, 1.5);
            let x = random.numbers(2 * d, -3.0, 3.0);
            let expected = reference::rms_norm(&weight, 1e-5, &x);
            assert_close(what, NORM, &rms_norm(ops, &weight, 1e-5, &x), &expected);
            let gate = random.numbers(2 * d, -4.0, 4.0);
            let n_groups = if d.is_multiple_of(8) { 2 } else { 1 };
            let expected = reference::gated_rms_norm(&weight, n_groups, 1e-5, &x, &gate);
            for before in [3, 4] {
                let y = gated_rms_norm_beside(ops, &weight, n_groups, &x, &gate, before);
                assert_close(what, EXPONENTIAL, &y, &expected);
            }
        }
    });
}

#[test]
fn causal_conv1d_equals_the_loops_however_the_sequence_is_split() {
    on_device("conv1d", |ops| {
        for_conv_cases(|what, t_rows, case| {
            let whole = conv1d(ops, case, &[t_rows]);
            let (y, state) = whole.split_at(case.x.len());
            let inputs = [&case.state[..], &case.x].concat();
            let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
            assert_close(what, EXPONENTIAL, y, &expected);
            assert_eq!(state, &inputs[case.x.len()..], "{what}");
            let [pieces, ..] = ways_to_cut(t_rows);
            assert_eq!(conv1d(ops, case, &pieces), whole, "{what} as {pieces:?}");
        });
    });
}

#[test]
fn ssm_scan_equals_the_recurrence_however_the_sequence_is_split() {
    on_device("ssm_scan", |ops| {
        for_scan_cases(|what, t_rows, scan| {
            let (expected_y, expected_state) = scan.run();
            let expected = [expected_y, expected_state].concat();
            assert_close(what, SCAN, &ssm_scan(ops, scan, &[t_rows]), &expected);
            for pieces in &ways_to_cut(t_rows)[..2] {
                let what = format!("{what} as {pieces:?}");
                assert_close(&what, SCAN, &ssm_scan(ops, scan, pieces), &expected);
            }
        });
    });
}

/// A huge dt forgets everything, a hugely negative one changes nothing but D·x; in the dual form the tokens after a
/// huge one must not lose their own decays to it.
#[test]
fn ssm_scan_is_correct_for_every_size_of_dt() {
    on_device("dt", |ops| {
        let mut random = Random(11);
        for dt in [-1e30, -100.0, 0.0, 19.9, 20.1, 100.0, 1e30] {
            for (t_rows, every) in [(3, 1), (40, 1), (40, 7), (70, 7)] {
                let mut scan = Scan {
                    dt_min: 0.0,
                    ..random_scan(&mut random, t_rows, [4, 5, 6, 2])
                };
                for at in (0..scan.dt.len()).step_by(every) {
                    scan.dt[at] = dt;
                }
                scan.dt_bias.fill(0.0);
                let got = ssm_scan(ops, &scan, &[t_rows]);
                let (y, state) = got.split_at(scan.x.len());
                let (expected_y, expected_state) = scan.run();
                let what = format!("dt {dt} at every {every}th of {t_rows}");
                assert_close(&what, SCAN, y, &expected_y);
                assert_close(&what, SCAN, state, &expected_state);
            }
        }
    });
}

#[test]
fn rope_equals_candle_at_every_position() {
    on_device("rope", |ops| {
        for_rope_cases(|what, case| {
            let y = rope(ops, case, case.position, &case.x);
            let expected = reference::rope(&case.inv_freq, case.position, &case.x, case.n_heads);
            assert_close(what, ROPE, &y, &expected);
        });
    });
}

/// A prompt, its pieces, and single tokens after it; beyond 64 positions a single query is split among workgroups.
#[test]
fn attention_equals_candle_for_every_grouping_of_heads_and_in_pieces() {
    on_device("attention", |ops| {
        for_attention_cases(|what, t_rows, shape, [q, k, v]| {
            let (d, scale) = (shape.head_dim, shape.scale);
            let kept = [k, v].map(|x| in_eight_bits(x, d));
            let exact =
                |k, v| reference::attention(shape.n_heads, shape.n_kv_heads, d, scale, [q, k, v]);
            let [one_first, halves, _] = ways_to_cut(t_rows);
            let at_end = vec![t_rows.saturating_sub(4), t_rows.min(3), 1];
            let at_end = at_end.into_iter().filter(|&piece| piece > 0 && t_rows > 3);
            for (format, tolerance, expected) in [
                (KvFormat::F32, EXPONENTIAL, exact(k, v)),
                (KvFormat::I8, ATTENTION_I8, exact(&kept[0], &kept[1])),
            ] {
                for pieces in [
                    vec![t_rows],
                    one_first.clone(),
                    halves.clone(),
                    at_end.clone().collect(),
                ] {
                    if pieces.is_empty() || (format == KvFormat::I8 && pieces == halves) {
                        continue;
                    }
                    let what = format!("{format:?}, {what} as {pieces:?}");
                    let y = attention(ops, shape, format, [q, k, v], &pieces);
                    assert_close(&what, tolerance, &y, &expected);
                }
            }
        });
    });
}

/// The largest score may be in any split, and the other values must not contribute.
#[test]
fn attention_with_one_dominant_key_gives_its_value() {
    on_device("one key", |ops| {
        let shape = AttentionShape {
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: 2,
            scale: 1.0,
        };
        for at in [0, 63, 64, 255, 300, 599] {
            let mut k = vec![0.0; 1200];
            k[2 * at] = 1e30;
            let q = [1.0, 0.0].repeat(600);
            let v: Vec<f32> = (0..1200).map(|i| i as f32).collect();
            let y = attention(ops, shape, KvFormat::F32, [&q, &k, &v], &[599, 1]);
            let expected = [2.0 * at as f64, 2.0 * at as f64 + 1.0];
            // An exponential stops at e⁻⁸⁷.
            assert_close(&format!("at {at}"), 1e-30, &y[1198..], &expected);
        }
    });
}

/// Saved bytes of one device can be restored on the other.
#[test]
fn keys_and_values_move_between_devices() {
    on_device("kv", |ops| {
        let cpu = &mut Ops::new(Cpu::new(1));
        let mut random = Random(22);
        for (n_kv_heads, head_dim) in [(2, 12), (1, 5), (3, 31)] {
            let shape = AttentionShape {
                n_heads: n_kv_heads,
                n_kv_heads,
                head_dim,
                scale: 1.0,
            };
            let width = n_kv_heads * head_dim;
            let mut k = random.numbers(4 * width, -2.0, 2.0);
            // A head of zeros has no scale.
            k[width..width + head_dim].fill(0.0);
            let v = random.numbers(4 * width, -2.0, 2.0);
            for format in [KvFormat::F32, KvFormat::I8] {
                let what = format!("{format:?} {n_kv_heads}×{head_dim}");
                let on_adapter = kept(ops, &shape, format, &k, &v);
                let on_cpu = kept(cpu, &shape, format, &k, &v);
                assert_eq!(on_adapter.len() as u64, format.bytes(&shape, 4), "{what}");
                assert_eq!(on_adapter, on_cpu, "{what}");
            }
        }
    });
}

/// The bytes of four positions after a round trip through a second cache.
fn kept<D: Device>(
    ops: &mut Ops<D>,
    shape: &AttentionShape,
    format: KvFormat,
    k: &[f32],
    v: &[f32],
) -> Vec<u8> {
    let width = shape.n_kv_heads * shape.head_dim;
    let mut caches = [6, 9].map(|context| ops.kv_cache(shape, context, format));
    let [first, second] = &mut caches;
    let (k, v) = (rows(ops, width, k), rows(ops, width, v));
    ops.append_kv(MODULE, &k, &v, first);
    assert_eq!(first.format, format);
    let bytes = block_on(ops.read_kv(first)).unwrap();
    ops.write_kv(&bytes, second);
    assert_eq!(second.len, 4);
    let again = block_on(ops.read_kv(second)).unwrap();
    assert_eq!(again, bytes);
    again
}

#[test]
fn gelu_mul_equals_the_exact_gelu_of_candle() {
    on_device("gelu_mul", |ops| {
        for_gelu_cases(|what, d, x| {
            assert_close(
                what,
                EXPONENTIAL,
                &gelu_mul(ops, d, x),
                &reference::gelu_mul(x, d),
            );
        });
    });
}

#[test]
fn concat_add_and_last_row_are_exact() {
    on_device("moves", |ops| {
        for_move_cases(|case| assert_eq!(case.run(ops), case.expected()));
    });
}

#[test]
fn top_gives_the_largest_logits_in_order_and_the_softmax_sum() {
    on_device("top", |ops| {
        for_top_cases(|case| check_top(case, &top(ops, &case.logits, case.k)));
    });
}

#[test]
fn penalise_changes_the_logits_of_the_history_and_of_the_chosen_token() {
    on_device("penalise", |ops| {
        for_penalty_cases(|what, logits, history, penalty| {
            let got = penalise(ops, logits, history, penalty);
            check_penalised(what, logits, history, penalty, &got);
        });
    });
}

#[test]
fn top_names_the_first_logit_that_is_not_finite() {
    on_device("faults", |ops| {
        for_fault_cases(|what, logits, token| {
            check_fault(what, logits, token, &top(ops, logits, 3));
        });
    });
}

#[test]
fn draw_gives_the_token_of_the_definition_at_every_setting() {
    on_device("draw", |ops| {
        for_draw_cases(|case| assert_eq!(draw(ops, case), case.expected, "{}", case.what));
    });
}

#[test]
fn embed_top_gives_the_embedding_of_a_token_not_yet_read_by_the_host() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(1000),
        ..AdapterOptions::default()
    };
    for options in [AdapterOptions::default(), narrow] {
        let Some(ops) = device("embed_top", options) else {
            return;
        };
        let ops = &mut Ops::new(ops);
        for_embed_cases(|what, table| {
            for token in TOKENS {
                let expected = embed(ops, table, &[token]);
                assert_eq!(embed_top(ops, table, token), expected, "{what} {token}");
            }
        });
    }
}
