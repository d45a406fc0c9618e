//! Every variant of a kernel, forced in turn.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::Value;
use tempfile::TempDir;
use zamba2::base::quant::WeightFormat;
use zamba2::device::webgpu::{AdapterOptions, TunedOp, WebGpu};
use zamba2::ops::Ops;
use zamba2::ops::device::KernelChoice;

use zamba2::folder;
use zamba2::session::{LoadSettings, Session};

use super::linear::check_linear;
use super::{device, in_every_variant};
use crate::cases::*;
use crate::support::{F32, max_difference};
use crate::webgpu_widths::{made_from, two_blocks};

/// Columns and rows that fill no tile, and more than one: the largest has 128 rows.
const SHAPES: [(usize, usize); 4] = [(33, 5), (36, 130), (100, 257), (160, 64)];
/// Tokens of more than one tile, of a part of one, and of the most that count as a part.
const MANY_TOKENS: [usize; 3] = [33, 64, 65];

/// Calls `body` with each variant of `op` in use, the first one first.
pub fn for_each_variant(
    ops: &mut Ops<WebGpu>,
    op: TunedOp,
    format: WeightFormat,
    mut body: impl FnMut(&mut Ops<WebGpu>, &str),
) {
    let variants = ops.device().variants(op, format);
    assert!(variants.len() > 1, "{op:?} {format:?}: {variants:?}");
    for (variant, name) in variants {
        assert!(block_on(ops.device_mut().use_variant(op, format, variant)));
        body(ops, name);
    }
    assert!(block_on(ops.device_mut().use_variant(op, format, 0)));
}

/// Rows of one token, for which threads share the columns; of more columns than any variant has threads, and fewer rows
/// than a workgroup has.
#[test]
fn every_variant_for_one_token_equals_candle() {
    in_every_variant("one token", |form, ops| {
        let mut random = Random(32);
        for format in FORMATS {
            for (cols, d_out) in [(545, 3), (2080, 33), (4608, 16)] {
                let weight = random.matrix(format, d_out, cols);
                let x = random.numbers(cols, -2.0, 2.0);
                for_each_variant(ops, TunedOp::LinearOne, format, |ops, variant| {
                    let what = format!("{form} {format:?} {cols}→{d_out}: {variant}");
                    check_linear(&what, &weight, &x, &product(ops, &weight, &x));
                });
            }
        }
    });
}

/// One more than a group of four shares, and two whole groups.
#[test]
fn every_variant_for_a_few_tokens_equals_candle() {
    in_every_variant("few tokens", |form, ops| {
        let mut random = Random(34);
        for format in FORMATS {
            let weight = random.matrix(format, 9, 545);
            for t_rows in [4, 5, 8, 9] {
                let x = random.numbers(t_rows * 545, -2.0, 2.0);
                for_each_variant(ops, TunedOp::LinearFew, format, |ops, variant| {
                    let what = format!("{form} {format:?} {t_rows}: {variant}");
                    check_linear(&what, &weight, &x, &product(ops, &weight, &x));
                });
            }
        }
    });
}

/// Powers of two multiply a weight and divide the input, and both are exact.
#[test]
fn weights_that_are_unpacked_by_the_magic_number_give_the_same_bits_as_by_shifts() {
    in_every_variant("magic", |form, ops| {
        let mut random = Random(33);
        for format in QUANTIZED {
            let weight = random.matrix(format, 33, 2080);
            let x = random.numbers(2080, -2.0, 2.0);
            let mut by_name = HashMap::new();
            for_each_variant(ops, TunedOp::LinearOne, format, |ops, variant| {
                by_name.insert(variant.to_owned(), product(ops, &weight, &x));
            });
            // The order of a sum depends on the number of threads alone.
            let expected = &by_name["8 rows"];
            for variant in ["8 rows, magic", "4 rows, magic", "16 rows, magic", "4 rows"] {
                assert!(
                    by_name[variant] == *expected,
                    "{form} {format:?}: {variant}"
                );
            }
        }
    });
}

/// The order of a sum does not depend on the tile. The first variant is compared with candle in `linear.rs`.
#[test]
fn tiles_of_every_size_give_the_same_bits() {
    in_every_variant("tiles", |form, ops| {
        let mut random = Random(31);
        for format in FORMATS {
            for (cols, d_out) in SHAPES {
                let weight = random.matrix(format, d_out, cols);
                for t_rows in MANY_TOKENS {
                    let x = random.numbers(t_rows * cols, -2.0, 2.0);
                    let mut expected = Vec::new();
                    for_each_variant(ops, TunedOp::LinearMat, format, |ops, variant| {
                        let y = product(ops, &weight, &x);
                        if expected.is_empty() {
                            expected = y;
                        } else {
                            let what = format!("{form} {format:?} {t_rows}×{cols}→{d_out}");
                            assert!(y == expected, "{what}: {variant}");
                        }
                    });
                }
            }
        }
    });
}

/// Blocks whose rows are long enough for the kernels with variants in every format.
struct LongRows {
    dir: PathBuf,
    _temporary: TempDir,
}

impl LongRows {
    fn new() -> LongRows {
        let mut config: Value = serde_json::from_str(&two_blocks()).unwrap();
        for (name, value) in [
            ("hidden_size", 576),
            ("n_mamba_heads", 18),
            ("intermediate_size", 1152),
            ("num_attention_heads", 9),
            ("num_key_value_heads", 9),
            ("attention_hidden_size", 1152),
        ] {
            config[name] = value.into();
        }
        let temporary = TempDir::new().unwrap();
        LongRows {
            dir: made_from(&config.to_string(), temporary.path()),
            _temporary: temporary,
        }
    }

    fn open(
        &self,
        test: &str,
        weights: WeightFormat,
        wrong_variants: bool,
    ) -> Option<Session<WebGpu>> {
        open(&self.dir, test, weights, wrong_variants)
    }
}

fn open(
    dir: &Path,
    test: &str,
    weights: WeightFormat,
    wrong_variants: bool,
) -> Option<Session<WebGpu>> {
    let options = AdapterOptions {
        wrong_variants,
        ..AdapterOptions::default()
    };
    let ops = device(test, options)?;
    let settings = LoadSettings { weights, ..F32 };
    Some(folder::open(ops, dir, settings).unwrap())
}

/// Variant `index` of each op, or its last one.
pub fn choices(ops: &WebGpu, weights: WeightFormat, index: usize) -> Vec<KernelChoice> {
    let choice = |op: TunedOp| {
        let variants = ops.variants(op, weights);
        let of = variants.len();
        let (_, name) = variants[index.min(of - 1)];
        KernelChoice {
            op: op.name().into(),
            variant: name.into(),
            of,
        }
    };
    TunedOp::ALL.map(choice).into()
}

/// A prompt, a few more tokens and decode steps, with fused kernels. The sums have another order, and with an 8-bit KV
/// cache a number may be rounded to its neighbour.
#[test]
fn a_model_has_the_same_logits_with_every_variant() {
    let model = LongRows::new();
    for (weights, tolerance) in [
        (WeightFormat::F32, 1e-4),
        (WeightFormat::Q8, 5e-3),
        (WeightFormat::Q4, 5e-3),
    ] {
        let Some(mut session) = model.open("whole model", weights, false) else {
            return;
        };
        let prompt: Vec<u32> = (0..40).collect();
        let logits = |session: &mut Session<WebGpu>| {
            let mut all = block_on(session.logits(&prompt)).unwrap();
            for tokens in [&[7, 3, 9, 11][..], &[5], &[2]] {
                all.extend(block_on(session.append(tokens)).unwrap());
            }
            all
        };
        let expected = logits(&mut session);
        let all = TunedOp::ALL.map(|op| session.backend().variants(op, weights).len());
        for index in 1..all.into_iter().max().unwrap() {
            let forced = choices(session.backend(), weights, index);
            let chosen = block_on(session.choose_kernels(&forced, f64::INFINITY)).unwrap();
            assert_eq!(chosen, forced);
            let difference = max_difference(&logits(&mut session), &expected);
            assert!(
                difference <= tolerance,
                "{weights:?} {forced:?}: {difference}"
            );
        }
    }
}

#[test]
fn a_trial_compares_all_variants_and_what_it_chose_can_be_kept() {
    let model = LongRows::new();
    let Some(mut session) = model.open("trial", WeightFormat::Q4, false) else {
        return;
    };
    let prompt: Vec<u32> = (0..40).collect();
    let expected = block_on(session.logits(&prompt)).unwrap();
    let chosen = block_on(session.choose_kernels(&[], f64::INFINITY)).unwrap();
    let all = choices(session.backend(), WeightFormat::Q4, usize::MAX);
    let counts = |choices: &[KernelChoice]| -> Vec<_> {
        choices
            .iter()
            .map(|choice| (choice.op.clone(), choice.of))
            .collect()
    };
    assert_eq!(counts(&chosen), counts(&all), "all of them are right");
    let kept = block_on(session.choose_kernels(&all, 0.0)).unwrap();
    assert_eq!(kept, all, "however slow the device is");
    let logits = block_on(session.logits(&prompt)).unwrap();
    // Sums in another order.
    let difference = max_difference(&logits, &expected);
    assert!(difference <= 1e-4, "{difference}");
}

#[test]
fn a_variant_that_gives_wrong_results_is_not_chosen() {
    let names = |choices: &[KernelChoice]| -> Vec<String> {
        let names = choices.iter().map(|choice| choice.variant.clone());
        names.collect()
    };
    let model = LongRows::new();
    for weights in FORMATS {
        let Some(mut session) = model.open("wrong variants", weights, true) else {
            return;
        };
        let first = choices(session.backend(), weights, 0);
        let chosen = block_on(session.choose_kernels(&[], f64::INFINITY)).unwrap();
        assert_eq!(names(&chosen), names(&first), "{weights:?}");
        let only_one = |choice: &KernelChoice| choice.of == 1;
        assert!(chosen.iter().all(only_one), "{chosen:?}");
        // Nor is it if an earlier version of the driver was right.
        let kept = choices(session.backend(), weights, usize::MAX);
        let chosen = block_on(session.choose_kernels(&kept, f64::INFINITY)).unwrap();
        assert_eq!(names(&chosen), names(&first), "{weights:?}");
    }
}

/// Four bits of its rows are 144 bytes.
#[test]
fn where_no_variant_computes_a_token_none_is_tried() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m");
    for (weights, expected) in [(WeightFormat::F32, 2), (WeightFormat::Q4, 1)] {
        let Some(mut session) = open(&dir, "short rows", weights, false) else {
            return;
        };
        let chosen = block_on(session.choose_kernels(&[], f64::INFINITY)).unwrap();
        let of_one = chosen.iter().find(|choice| choice.op == "linear_one");
        assert_eq!(of_one.unwrap().of, expected, "{weights:?}");
    }
}
