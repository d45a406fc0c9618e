//! The WebGPU backend on this machine's adapter, software adapters included: every op on the cases of the CPU's tests,
//! and whole models against the reference. Without an adapter each test prints that it was skipped.
//!
//! Tolerances are the CPU's where the sums are the same, and wider where WGSL guarantees less than IEEE: an exponential
//! may be off by 3 + 2·|x| units in the last place.

use std::path::Path;

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::{QMatrix, WeightFormat};
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{AdapterOptions, WebGpu};
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, Device, KvFormat, ModelSizes};
use zamba2::ops::trace::Level;
use zamba2::ops::trace::ModuleId;
use zamba2::self_test;
use zamba2::session::{self, GenerateOptions, LoadSettings, Session, argmax};
use zamba2::text::sampling::SamplingOptions;

use crate::adapter;
use crate::cases::*;
use crate::reference::{self, Scan};
use crate::support::{Golden, goldens, max_difference};

/// The CPU's tolerance, plus twice 10⁻⁶ for the exponential of a score within ±10.
const EXPONENTIAL: f64 = 1e-5;

/// A device for one test, or none if the machine has no adapter.
fn device(test: &str, options: AdapterOptions) -> Option<WebGpu> {
    match adapter::open(options) {
        Ok(be) => Some(be),
        Err(Error::NoAdapter { fact }) => {
            println!("SKIPPED: {test}: {fact}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs `body` on a device.
fn on_device(test: &str, body: impl FnOnce(&mut Ops<WebGpu>)) {
    if let Some(be) = device(test, AdapterOptions::default()) {
        body(&mut Ops::new(be));
    }
}

/// Runs `body` on a device without optional features, and with each feature that selects a kernel variant.
fn in_every_form(test: &str, mut body: impl FnMut(&str, &mut Ops<WebGpu>)) {
    let floor = AdapterOptions {
        no_subgroups: true,
        no_f16: true,
        ..AdapterOptions::default()
    };
    let subgroups = AdapterOptions {
        no_subgroups: false,
        ..floor
    };
    let f16 = AdapterOptions {
        no_f16: false,
        ..floor
    };
    for (form, options) in [("floor", floor), ("subgroups", subgroups), ("f16", f16)] {
        let Some(be) = device(test, options) else {
            return;
        };
        let facts = be.adapter();
        assert!(facts.subgroups <= !options.no_subgroups && facts.f16 <= !options.no_f16);
        if (form == "subgroups" && !facts.subgroups) || (form == "f16" && !facts.f16) {
            println!("SKIPPED: {test}: {} has no {form}", facts.name);
            continue;
        }
        body(form, &mut Ops::new(be));
    }
}

/// The weights are exact, so only the sum is rounded: in the worst case once per term, and a few times more for scales
/// and the sum over threads.
fn check_linear(what: &str, weight: &QMatrix, x: &[f32], y: &[f32]) {
    let worst = (weight.cols + 16) as f64 * f64::from(f32::EPSILON) / 2.0;
    let exact = reference::linear(weight, x);
    let magnitudes = reference::linear_magnitudes(weight, x);
    assert_eq!(y.len(), exact.len(), "{what}");
    for (i, (got, (exact, magnitude))) in y.iter().zip(exact.iter().zip(magnitudes)).enumerate() {
        let off = (f64::from(*got) - exact).abs();
        assert!(
            off <= worst * magnitude,
            "{what}: number {i} is {got} and not {exact}"
        );
    }
}

/// All linear kernels and every remainder of their tiles.
#[test]
fn a_linear_layer_equals_candle_in_every_format_and_shape() {
    in_every_form("linear", |form, be| {
        for_linear_cases(&FORMATS, |what, weight, x| {
            check_linear(
                &format!("{form}: {what}"),
                weight,
                x,
                &product(be, weight, x),
            );
        });
    });
}

/// Row lengths around the threshold from which a workgroup shares a row, with one token and with a few.
#[test]
fn long_rows_multiply_for_every_number_of_tokens_and_rows() {
    in_every_form("long rows", |form, be| {
        let mut random = Random(23);
        for format in FORMATS {
            for (cols, d_out) in [(64, 65), (68, 9), (257, 7), (520, 33), (545, 8), (2080, 1)] {
                let weight = random.matrix(format, d_out, cols);
                for t_rows in [1, 2, 3, 4, 5, 16, 17] {
                    let what = format!("{form}: {format:?} {t_rows}×{cols}→{d_out}");
                    let x = random.numbers(t_rows * cols, -2.0, 2.0);
                    check_linear(&what, &weight, &x, &product(be, &weight, &x));
                }
            }
        }
    });
}

/// Quants are integers that f16 represents exactly, and products and sums are f32 in both variants.
#[test]
fn weight_tiles_in_f16_give_the_same_bits() {
    let mut expected = Vec::new();
    in_every_form("f16", |form, be| {
        let mut got = Vec::new();
        for_linear_cases(&QUANTIZED, |_, weight, x| {
            if x.len() / weight.cols == 35 {
                got.extend(product(be, weight, x));
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
fn a_nan_in_one_row_stays_there() {
    in_every_form("NaN", |form, be| {
        let mut random = Random(21);
        for format in FORMATS {
            // Read in fours as it is, after it is padded, and by a workgroup for each row.
            for cols in [36, 37, 600] {
                let weight = random.matrix(format, 70, cols);
                for t_rows in [3, 35] {
                    let mut x = random.numbers(t_rows * cols, -2.0, 2.0);
                    x[cols..2 * cols].fill(f32::NAN);
                    let y = product(be, &weight, &x);
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
        let y = rms_norm(be, &[1.0; 33], 1e-5, &x);
        assert!(
            y[..33].iter().chain(&y[66..]).all(|v| v.is_finite()),
            "{form}"
        );
        let y = gated_rms_norm(be, &[1.0; 33], 3, &x, &x);
        assert!(
            y[..33].iter().chain(&y[66..]).all(|v| v.is_finite()),
            "{form}"
        );
    });
}

/// Beyond 1e19 the squares overflow f32. WGSL has no infinities, so a device may give zero, as the CPU does, or the
/// result of dividing by the largest number; it must not give a NaN.
#[test]
fn the_norms_stay_finite_on_zeros_and_huge_values() {
    in_every_form("huge values", |form, be| {
        for value in [0.0, 1e-30, 1e18, 1e30] {
            let mut x = vec![1.0; 33];
            x[7] = value;
            for x in [x, vec![value; 33]] {
                let y = rms_norm(be, &[1.0; 33], 1e-5, &x);
                assert!(y.iter().all(|v| v.is_finite()), "{form} {value}: {y:?}");
                let gate: Vec<f32> = x.iter().map(|v| -v).collect();
                let y = gated_rms_norm(be, &[1.0; 33], 3, &x, &gate);
                assert!(y.iter().all(|v| v.is_finite()), "{form} {value}: {y:?}");
            }
        }
    });
}

#[test]
fn the_matrices_of_the_published_models_multiply() {
    in_every_form("model matrices", |form, be| {
        let mut random = Random(2);
        for (name, format, cols, d_out) in MODEL_WIDTHS {
            let weight = random.matrix(format, d_out, cols);
            let x = random.numbers(cols, -2.0, 2.0);
            let name = &format!("{form}: {name}");
            check_linear(name, &weight, &x, &product(be, &weight, &x));
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
    in_every_form("bias", |form, be| {
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
                let layer = linear(be, &weight, Some(&bias));
                let x = rows(be, cols, &x);
                let mut y = be.tensor(t_rows, d_out);
                be.linear(&layer, &x, &mut y);
                assert_close(&what, LINEAR_F32, &read(be, &y), &expected);
                let mut y = rows(be, d_out, &before);
                be.linear_add(&layer, &x, &mut y);
                let added = expected.iter().zip(&before).map(|(y, b)| y + f64::from(*b));
                let added: Vec<f64> = added.collect();
                assert_close(&what, LINEAR_F32, &read(be, &y), &added);
            }
        }
    });
}

#[test]
fn embed_gives_the_dequantized_rows_in_the_order_of_the_tokens() {
    on_device("embed", |be| {
        for_embed_cases(|what, table| {
            let all = reference::dequantized(table);
            // More tokens than fit one uniform block.
            let tokens: Vec<u32> = TOKENS.into_iter().cycle().take(130).collect();
            let rows = tokens
                .iter()
                .map(|&token| &all[token as usize * table.cols..][..table.cols]);
            assert_eq!(
                embed(be, table, &tokens),
                rows.collect::<Vec<_>>().concat(),
                "{what}"
            );
        });
    });
}

#[test]
fn rms_norm_equals_candle_at_every_shape() {
    in_every_form("rms_norm", |form, be| {
        for_rms_norm_cases(|what, weight, x| {
            let what = &format!("{form}: {what}");
            let y = rms_norm(be, weight, 1e-5, x);
            assert_close(what, NORM, &y, &reference::rms_norm(weight, 1e-5, x));
        });
    });
}

#[test]
fn gated_rms_norm_equals_the_loops_at_every_shape_and_in_groups() {
    in_every_form("gated_rms_norm", |form, be| {
        for_gated_rms_norm_cases(|what, weight, n_groups, x, gate| {
            let what = &format!("{form}: {what}");
            let y = gated_rms_norm(be, weight, n_groups, x, gate);
            let expected = reference::gated_rms_norm(weight, n_groups, 1e-5, x, gate);
            assert_close(what, EXPONENTIAL, &y, &expected);
        });
    });
}

#[test]
fn causal_conv1d_equals_the_loops_and_does_not_care_how_the_sequence_is_cut() {
    on_device("conv1d", |be| {
        for_conv_cases(|what, t_rows, case| {
            let whole = conv1d(be, case, &[t_rows]);
            let (y, state) = whole.split_at(case.x.len());
            let inputs = [&case.state[..], &case.x].concat();
            let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
            assert_close(what, EXPONENTIAL, y, &expected);
            assert_eq!(state, &inputs[case.x.len()..], "{what}");
            let [pieces, ..] = ways_to_cut(t_rows);
            assert_eq!(conv1d(be, case, &pieces), whole, "{what} as {pieces:?}");
        });
    });
}

#[test]
fn ssm_scan_equals_the_recurrence_however_the_sequence_is_cut() {
    on_device("ssm_scan", |be| {
        for_scan_cases(|what, t_rows, scan| {
            let (expected_y, expected_state) = scan.run();
            let expected = [expected_y, expected_state].concat();
            assert_close(what, SCAN, &ssm_scan(be, scan, &[t_rows]), &expected);
            for pieces in &ways_to_cut(t_rows)[..2] {
                let what = format!("{what} as {pieces:?}");
                assert_close(&what, SCAN, &ssm_scan(be, scan, pieces), &expected);
            }
        });
    });
}

/// A huge dt forgets everything, a hugely negative one changes nothing but D·x; in the dual form the tokens after a
/// huge one must not lose their own decays to it.
#[test]
fn ssm_scan_is_right_for_every_size_of_dt() {
    on_device("dt", |be| {
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
                let got = ssm_scan(be, &scan, &[t_rows]);
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
    on_device("rope", |be| {
        for_rope_cases(|what, case| {
            let y = rope(be, case, case.position, &case.x);
            let expected = reference::rope(&case.inv_freq, case.position, &case.x, case.n_heads);
            assert_close(what, ROPE, &y, &expected);
        });
    });
}

/// A prompt, its pieces, and single tokens after it; beyond 256 positions a single query is split among workgroups.
#[test]
fn attention_equals_candle_with_any_grouping_of_heads_and_in_pieces() {
    on_device("attention", |be| {
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
                    let y = attention(be, shape, format, [q, k, v], &pieces);
                    assert_close(&what, tolerance, &y, &expected);
                }
            }
        });
    });
}

/// The largest score may be in any split, and the other values must not contribute.
#[test]
fn attention_to_one_overwhelming_key_gives_its_value() {
    on_device("one key", |be| {
        let shape = AttentionShape {
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: 2,
            scale: 1.0,
        };
        for at in [0, 255, 300, 599] {
            let mut k = vec![0.0; 1200];
            k[2 * at] = 1e30;
            let q = [1.0, 0.0].repeat(600);
            let v: Vec<f32> = (0..1200).map(|i| i as f32).collect();
            let y = attention(be, shape, KvFormat::F32, [&q, &k, &v], &[599, 1]);
            let expected = [2.0 * at as f64, 2.0 * at as f64 + 1.0];
            // An exponential stops at e⁻⁸⁷.
            assert_close(&format!("at {at}"), 1e-30, &y[1198..], &expected);
        }
    });
}

/// Saved bytes of one device can be restored on the other.
#[test]
fn keys_and_values_move_between_devices() {
    on_device("kv", |be| {
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
                let on_adapter = kept(be, &shape, format, &k, &v);
                let on_cpu = kept(cpu, &shape, format, &k, &v);
                assert_eq!(on_adapter.len() as u64, format.bytes(&shape, 4), "{what}");
                assert_eq!(on_adapter, on_cpu, "{what}");
            }
        }
    });
}

/// The bytes of four positions, after a round trip through a second cache.
fn kept<D: Device>(
    be: &mut Ops<D>,
    shape: &AttentionShape,
    format: KvFormat,
    k: &[f32],
    v: &[f32],
) -> Vec<u8> {
    let width = shape.n_kv_heads * shape.head_dim;
    let mut caches = [6, 9].map(|context| be.kv_cache(shape, context, format));
    let [first, second] = &mut caches;
    let (k, v) = (rows(be, width, k), rows(be, width, v));
    be.append_kv(MODULE, &k, &v, first);
    assert_eq!(first.format, format);
    let bytes = block_on(be.read_kv(first)).unwrap();
    be.write_kv(&bytes, second);
    assert_eq!(second.len, 4);
    let again = block_on(be.read_kv(second)).unwrap();
    assert_eq!(again, bytes);
    again
}

#[test]
fn gelu_mul_equals_the_exact_gelu_of_candle() {
    on_device("gelu_mul", |be| {
        for_gelu_cases(|what, d, x| {
            assert_close(
                what,
                EXPONENTIAL,
                &gelu_mul(be, d, x),
                &reference::gelu_mul(x, d),
            );
        });
    });
}

#[test]
fn concat_add_and_last_row_move_numbers_unchanged() {
    on_device("moves", |be| {
        for_move_cases(|case| assert_eq!(case.run(be), case.expected()));
    });
}

#[test]
fn top_is_the_front_of_all_logits_in_their_order_and_their_sum() {
    on_device("top", |be| {
        for_top_cases(|case| check_top(case, &top(be, &case.logits, case.k)));
    });
}

#[test]
fn top_names_the_first_logit_that_is_not_finite() {
    on_device("faults", |be| {
        for_fault_cases(|what, logits, token| {
            let (at, logit) = top(be, logits, 3).fault.expect(what);
            assert_eq!(at, token, "{what}");
            assert_eq!(
                format!("{logit}"),
                format!("{}", logits[at as usize]),
                "{what}"
            );
        });
    });
}

#[test]
fn embed_top_gives_the_row_of_a_token_that_the_host_does_not_know() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(1000),
        ..AdapterOptions::default()
    };
    for options in [AdapterOptions::default(), narrow] {
        let Some(be) = device("embed_top", options) else {
            return;
        };
        let be = &mut Ops::new(be);
        for_embed_cases(|what, table| {
            for token in TOKENS {
                let expected = embed(be, table, &[token]);
                assert_eq!(embed_top(be, table, token), expected, "{what} {token}");
            }
        });
    }
}

/// Dispatches recorded before a write read the old numbers, later ones the new.
#[test]
fn clear_copy_and_write_take_effect_in_the_order_of_the_calls() {
    on_device("order", |be| {
        let mut x = rows(be, 2, &[1.0, 2.0, 3.0, 4.0]);
        let (mut before, mut after, mut cleared) =
            (be.tensor(2, 2), be.tensor(2, 2), be.tensor(2, 2));
        be.copy(&x, &mut before);
        be.write(&[5.0, 6.0, 7.0, 8.0], &mut x);
        be.copy(&x, &mut after);
        be.clear(&mut x);
        be.copy(&x, &mut cleared);
        assert_eq!(read(be, &before), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read(be, &after), [5.0, 6.0, 7.0, 8.0]);
        assert_eq!(read(be, &cleared), [0.0; 4]);
    });
}

#[test]
fn a_step_that_repeats_makes_no_new_bind_group_and_one_submission() {
    on_device("steps", |be| {
        let mut y = be.tensor(1, 5);
        let (a, b) = (rows(be, 5, &[1.0; 5]), rows(be, 5, &[2.0; 5]));
        be.add(MODULE, &a, &b, &mut y);
        be.flush();
        let first = be.device().counts();
        for _ in 0..3 {
            be.add(MODULE, &a, &b, &mut y);
        }
        be.flush();
        let then = be.device().counts();
        assert_eq!(then.dispatches - first.dispatches, 3);
        assert_eq!(then.submissions - first.submissions, 1);
        assert_eq!(then.bind_groups_made, first.bind_groups_made);
    });
}

/// Both ways of timing: timestamp queries, where the device has them, and waiting for each span.
#[test]
fn every_span_has_the_time_of_its_work_and_lies_within_the_span_around_it() {
    for no_timestamps in [false, true] {
        let options = AdapterOptions {
            no_timestamps,
            ..AdapterOptions::default()
        };
        let Some(be) = device("spans", options) else {
            return;
        };
        let be = &mut Ops::new(be);
        assert!(!no_timestamps || be.device().adapter().timestamp_period_ns.is_none());
        let weight = Random(17).matrix(WeightFormat::Q4, 512, 512);
        let layer = linear(be, &weight, None);
        be.profiler().set_level(Level::Module);
        be.profiler().set_modules(["op", "layers.0"]);
        let x = rows(be, 512, &[1.0; 512]);
        let (mut y, mut z) = (be.tensor(1, 512), be.tensor(1, 512));
        be.scope(ModuleId(1), |be| {
            be.linear(&layer, &x, &mut y);
            be.add(MODULE, &x, &y, &mut z);
        });
        assert_eq!(read(be, &z).len(), 512);
        let profile = be.profiler().take();
        assert_eq!(profile.parent, [-1, 0, 0]);
        assert_eq!(profile.flops, [0.0, 2.0 * 512.0 * 512.0, 0.0]);
        let end_us = |i: usize| profile.start_us[i] + f64::from(profile.duration_us[i]);
        for i in 0..3 {
            assert!(profile.duration_us[i] > 0.0, "{profile:?}");
            // A duration is f32, and its end carries the rounding.
            assert!(profile.start_us[i] >= profile.start_us[0], "{profile:?}");
            assert!(end_us(i) <= end_us(0) + 0.01, "{profile:?}");
        }
    }
}

/// f32 sums in another order and WGSL's exponentials; logits of these nets spread by about 3.
const TOLERANCE: f32 = 2e-3;

const F32: LoadSettings = LoadSettings {
    weights: WeightFormat::F32,
    context: None,
    numeric: NumericSettings {
        dt_min_prefill: None,
        dt_min_step: None,
        rescale_rope_for_long_context: false,
    },
    memory_limit_bytes: None,
};

/// `body` with a session for each net of the fixtures.
fn for_goldens(test: &str, mut body: impl FnMut(&Golden, Session<WebGpu>)) {
    for golden in goldens() {
        let Some(be) = device(test, AdapterOptions::default()) else {
            return;
        };
        let session = folder::open(be, &golden.dir, F32)
            .unwrap_or_else(|error| panic!("{}: {error}", golden.name()));
        body(&golden, session);
    }
}

#[test]
fn the_limit_of_host_memory_refuses_a_model_on_the_cpu_and_not_on_webgpu() {
    let Some(be) = device("memory limit", AdapterOptions::default()) else {
        return;
    };
    let settings = LoadSettings {
        memory_limit_bytes: Some(1),
        ..F32
    };
    let dir = &goldens()[0].dir;
    let loaded = folder::open(be, dir, settings);
    assert!(loaded.is_ok(), "{:?}", loaded.err());
    let refused = folder::open(Cpu::new(1), dir, settings).err();
    let code = refused.as_ref().map(Error::code);
    assert_eq!(code, Some("memory_limit"), "{refused:?}");
}

#[test]
fn hidden_states_and_logits_of_a_prompt_equal_the_reference() {
    for_goldens("prefill", |golden, mut session| {
        let ids = golden.ids("input_ids");
        let states = block_on(session.hidden_states(&ids)).unwrap();
        let expected = golden.numbers("hidden_states");
        for (i, (state, expected)) in (states.iter())
            .zip(expected.chunks(states[0].len()))
            .enumerate()
        {
            let difference = max_difference(state, expected);
            let name = golden.name();
            assert!(
                difference <= TOLERANCE,
                "{name} after {i} blocks: {difference}"
            );
        }
        let logits = block_on(session.logits(&ids)).unwrap();
        let difference = max_difference(&logits, &golden.numbers("prefill_logits"));
        assert!(difference <= TOLERANCE, "{}: {difference}", golden.name());
    });
}

#[test]
fn greedy_decoding_equals_the_reference_for_24_steps() {
    for_goldens("decode", |golden, mut session| {
        let vocab_size = session.config().vocab_size;
        let mut row = block_on(session.logits(&golden.ids("input_ids"))).unwrap();
        row.drain(..row.len() - vocab_size);
        let (mut ids, mut logits) = (Vec::new(), Vec::new());
        for _ in 0..24 {
            let id = argmax(&row);
            ids.push(id);
            logits.extend_from_slice(&row);
            row = block_on(session.append(&[id])).unwrap();
        }
        assert_eq!(ids, golden.ids("greedy_ids"), "{}", golden.name());
        let difference = max_difference(&logits, &golden.numbers("greedy_logits"));
        assert!(difference <= TOLERANCE, "{}: {difference}", golden.name());
    });
}

/// Quantised activations make the CPU's q8 and q4 slightly less exact than the adapter's; for this text no two
/// candidates are close enough to swap.
#[test]
fn the_embedded_model_generates_the_same_text_as_on_the_cpu() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m");
    for weights in FORMATS {
        let Some(be) = device("the embedded model", AdapterOptions::default()) else {
            return;
        };
        let settings = LoadSettings { weights, ..F32 };
        let on_cpu = greedy_text(folder::open(Cpu::new(1), &dir, settings).unwrap());
        let on_adapter = greedy_text(folder::open(be, &dir, settings).unwrap());
        assert_eq!(on_adapter, on_cpu, "{weights:?}");
    }
}

/// Greedy text after a fixed prompt.
fn greedy_text<D: Device>(mut session: Session<D>) -> String {
    let tokenizer = session.tokenizer().unwrap();
    let prompt = tokenizer.encode("Returns the number of", true).unwrap();
    let options = GenerateOptions {
        max_tokens: 8,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ..GenerateOptions::default()
    };
    session.start(&prompt, options).unwrap();
    let mut text = String::new();
    loop {
        let step = block_on(session.step()).unwrap();
        text.push_str(&step.text);
        if step.done.is_some() {
            return text;
        }
    }
}

/// Keys, values and states make a round trip as bytes, and a rewind replays the tokens after a state checkpoint.
#[test]
fn a_sequence_continues_from_its_snapshot_as_if_it_had_never_stopped() {
    for_goldens("snapshot", |golden, mut session| {
        let options = GenerateOptions {
            max_tokens: 8,
            sampling: SamplingOptions {
                temperature: 0.0,
                ..SamplingOptions::default()
            },
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let n = session.context().min(8 + golden.ids("input_ids").len());
        let prompt = &golden.ids("input_ids")[..n - 8];
        session.start(prompt, options).unwrap();
        for _ in 0..4 {
            block_on(session.step()).unwrap();
        }
        let bytes = block_on(session.snapshot("note")).unwrap();
        let rest = |session: &mut Session<WebGpu>| -> Vec<u32> {
            (0..4)
                .map(|_| block_on(session.step()).unwrap().token)
                .collect()
        };
        let unbroken = rest(&mut session);
        let restored = block_on(session.restore(&bytes)).unwrap();
        let mut tokens = restored.tokens;
        let mut again = Vec::new();
        for _ in 0..4 {
            // The last token of the snapshot is chosen and not read yet.
            let unread = &tokens[session.len()..];
            let logits = block_on(session.append(unread)).unwrap();
            tokens.push(argmax(&logits));
            again.push(argmax(&logits));
        }
        assert_eq!(again, unbroken, "{}", golden.name());
    });
}

#[test]
fn a_model_too_large_for_kernels_or_bindings_is_refused_with_its_size() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(1 << 20),
        ..AdapterOptions::default()
    };
    let Some(be) = device("model sizes", narrow) else {
        return;
    };
    let sizes = |head_dim, d_state, context, kv_format| ModelSizes {
        attention: AttentionShape {
            n_heads: 2,
            n_kv_heads: 2,
            head_dim,
            scale: 1.0,
        },
        d_state,
        context,
        kv_format,
    };
    // 1024 positions of two heads of 128 numbers are exactly 1 MiB in f32.
    be.check_sizes(&sizes(128, 256, 1024, KvFormat::F32))
        .unwrap();
    for (sizes, named) in [
        (sizes(513, 16, 1, KvFormat::F32), "513"),
        (sizes(8, 257, 1, KvFormat::F32), "257"),
        (sizes(128, 16, 1025, KvFormat::F32), "1025 positions"),
        (sizes(128, 16, 4096, KvFormat::I8), "4096 positions"),
    ] {
        let refused = be.check_sizes(&sizes);
        let Err(Error::DeviceLimit { fact }) = refused else {
            panic!("{refused:?}");
        };
        assert!(fact.to_string().contains(named), "{fact}");
    }
}

/// The self-test that decides in a browser whether this backend is used.
#[test]
fn the_self_test_passes_in_every_format() {
    for weights in FORMATS {
        on_device("self-test", |be| {
            block_on(self_test::run(be, weights, session::kv_format(weights))).unwrap();
        });
    }
}
