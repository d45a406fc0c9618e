//! Every op of the `Backend` trait on the CPU, at every awkward shape, against references that are obviously right. It
//! sees the trait and the CPU's constructor only. It runs no model (`tests/model.rs` does), and it runs as wasm too,
//! where the vector operations are the engine's own (`cargo xtask test`).
//!
//! Three facts hold for every op and are checked with every case: the bits don't depend on the number of threads, a
//! row of a batch has the bits of that row alone, and a sequence in pieces has the bits of the sequence in one. Only
//! the scan has two forms for one token and for several, which agree within its tolerance.

mod reference;

use pollster::block_on;
use reference::Scan;
use zamba2::backend::cpu::{Cpu, Tensor};
use zamba2::backend::{
    AttentionShape, Backend, Cols, Conv1d, GatedNorm, KvCache, KvFormat, Linear, Norm, Rope, Ssm,
    SsmInput, split,
};
use zamba2::profile::Level;
use zamba2::quant::{BLOCK, Q4Values, Q8Values, QMatrix, QMatrixBuilder, Values, WeightFormat};

#[cfg(not(target_arch = "wasm32"))]
const THREADS: [usize; 2] = [1, 3];
/// WASI has no threads.
#[cfg(target_arch = "wasm32")]
const THREADS: [usize; 1] = [1];

/// Every remainder of a tile of four rows, a chunk of a prompt and its neighbours, and an ordinary prompt.
const ROWS: [usize; 8] = [1, 2, 3, 4, 35, 63, 64, 65];
/// Below, at and above four lanes, a block of 32, and three blocks; most divide by nothing.
const WIDTHS: [usize; 8] = [1, 5, 31, 32, 33, 37, 64, 100];
const QUANTIZED: [WeightFormat; 2] = [WeightFormat::Q8, WeightFormat::Q4];
const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4];

/// Matrices of the published models, one row of activations each: format, columns, rows.
const MODEL_WIDTHS: [(&str, WeightFormat, usize, usize); 3] = [
    ("1.2B mamba.in_proj", WeightFormat::Q4, 2048, 8512),
    ("1.2B mamba.out_proj", WeightFormat::Q8, 4096, 2048),
    ("7B down_proj, its first rows", WeightFormat::Q4, 14336, 130),
];

/// Numbers that look random and are the same everywhere (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Within low .. high.
    fn number(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    fn numbers(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.number(low, high)).collect()
    }

    /// A matrix of any quants at all: it owes nothing to the quantiser, and −8 and negative scales are as frequent as
    /// the rest. Weights are within ±1.2; padding is zero, as the format demands.
    fn matrix(&mut self, format: WeightFormat, rows: usize, cols: usize) -> QMatrix {
        let blocks = cols.div_ceil(BLOCK);
        let high = if format == WeightFormat::Q8 {
            127.0
        } else {
            7.0
        };
        let row_scale = self.numbers(rows, 0.1, 1.0);
        let row_scale = row_scale.iter().map(|v| v / 32767.0 / high).collect();
        let block_scale = (0..rows * blocks)
            .map(|_| (self.bits() as i16).max(-32767))
            .collect();
        let quants = (0..rows * blocks * BLOCK).map(|at| {
            let is_padding = at % (blocks * BLOCK) >= cols;
            if is_padding { 0 } else { self.bits() as i8 }
        });
        let values = match format {
            WeightFormat::F32 => Values::F32(self.numbers(rows * cols, -1.0, 1.0)),
            WeightFormat::Q8 => Values::Q8(Q8Values {
                quants: quants.map(|v| v.max(-127)).collect(),
                row_scale,
                block_scale,
            }),
            WeightFormat::Q4 => {
                let nibbles: Vec<u8> = quants.map(|v| ((v >> 4) + 8) as u8).collect();
                let pairs = nibbles.as_chunks::<2>().0.iter();
                Values::Q4(Q4Values {
                    nibbles: pairs.map(|[low, high]| low | high << 4).collect(),
                    row_scale,
                    block_scale,
                })
            }
        };
        QMatrix { rows, cols, values }
    }
}

fn read(be: &mut Cpu, x: &Tensor) -> Vec<f32> {
    block_on(be.read(x)).unwrap()
}

/// A tensor of rows of `cols` numbers.
fn rows(be: &mut Cpu, cols: usize, values: &[f32]) -> Tensor {
    be.constant(values.len() / cols, cols, values.to_vec())
}

/// Lays matrices of `t_rows` rows side by side.
fn beside(t_rows: usize, parts: &[&[f32]]) -> Vec<f32> {
    let row = |t: usize| {
        let cut =
            move |part: &&[f32]| part[t * (part.len() / t_rows)..][..part.len() / t_rows].to_vec();
        parts.iter().flat_map(cut)
    };
    (0..t_rows).flat_map(row).collect()
}

/// What `body` gives, which must be the same to the bit on every number of threads.
fn on_any_threads(what: &str, body: impl Fn(&mut Cpu) -> Vec<f32>) -> Vec<f32> {
    let [first, others @ ..] = THREADS.map(|threads| body(&mut Cpu::new(threads)));
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
            "{what}: number {i} is {a} and not {b}"
        );
    }
}

/// No number is further off than `tolerance` times the largest expected one.
fn assert_close(what: &str, tolerance: f64, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let bound = tolerance * expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(*a) - b).abs();
        assert!(
            difference <= bound,
            "{what}: number {i} is {a} and not {b}, off by {difference:e} > {bound:e}"
        );
    }
}

fn linear(be: &mut Cpu, weight: &QMatrix, bias: Option<&[f32]>) -> Linear<Cpu> {
    Linear {
        name: "a linear",
        weight: be.upload(weight.clone()),
        bias: bias.map(|bias| rows(be, bias.len(), bias)),
    }
}

/// W·x without a bias. // x [T, cols] → [T, rows]
fn product(be: &mut Cpu, weight: &QMatrix, x: &[f32]) -> Vec<f32> {
    let linear = linear(be, weight, None);
    let x = rows(be, weight.cols, x);
    let mut y = be.tensor(65, weight.rows);
    be.linear(&linear, &x, &mut y);
    read(be, &y)
}

/// `body(name, weight, x)` for each format, width and number of rows.
fn for_linear_cases(formats: &[WeightFormat], mut body: impl FnMut(&str, &QMatrix, &[f32])) {
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

/// Compares a quantised product with whole-number arithmetic on the same quants, where only f32 rounding may differ,
/// and with candle's product of the dequantised weights, where the activations' rounding may differ too.
fn check_quantized(what: &str, weight: &QMatrix, x: &[f32], y: &[f32]) {
    // A whole sum to 24 bits, two scales, and in the worst case one addition per block.
    let tolerance = (6 + weight.blocks()) as f64 * f64::from(f32::EPSILON);
    let unquantized = reference::linear(weight, x);
    let (mut square, mut variance) = (0.0, 0.0);
    for (i, (got, exact)) in y.iter().zip(&unquantized).enumerate() {
        let (t, row) = (i / weight.rows, i % weight.rows);
        let sum = reference::quantized_sum(weight, row, &x[t * weight.cols..][..weight.cols]);
        let got = f64::from(*got);
        // The addend is f32's own end: what is below has no bits left to be right in.
        let rounding = tolerance.min(1e-5) * sum.magnitude + 1e-40;
        let (value, worst) = (sum.value, sum.worst_rounding + rounding);
        let off = (got - value).abs();
        assert!(
            off <= rounding,
            "{what} [{t}, {row}]: {got} and not {value}"
        );
        let off = (got - exact).abs();
        assert!(
            off <= worst,
            "{what} [{t}, {row}]: {got}, unquantised {exact}"
        );
        square += off * off;
        variance += sum.rounding_variance + (1e-7 * sum.magnitude).powi(2);
    }
    // The largest activation of each block is exact, so the theory is a little high; the rest is chance.
    if y.len() >= 1000 {
        assert!(
            square <= 1.2 * variance,
            "{what}: more than rounding: {square} {variance}"
        );
    }
}

/// f32 sums of at most 100 products in four lanes: 25 additions and a rounded product each, relative to the terms,
/// which are within a tenth of the largest result.
const LINEAR_F32: f64 = 2e-6;

#[test]
fn linear_in_f32_equals_candle_at_every_shape() {
    for_linear_cases(&[WeightFormat::F32], |what, weight, x| {
        let y = on_any_threads(what, |be| product(be, weight, x));
        assert_close(what, LINEAR_F32, &y, &reference::linear(weight, x));
    });
}

#[test]
fn quantized_products_are_exact_sums_of_whole_numbers_and_near_candle_at_every_shape() {
    for_linear_cases(&QUANTIZED, |what, weight, x| {
        let y = on_any_threads(what, |be| product(be, weight, x));
        check_quantized(what, weight, x, &y);
    });
}

#[test]
fn the_matrices_of_the_published_models_multiply_exactly() {
    let mut random = Random(2);
    for (name, format, cols, d_out) in MODEL_WIDTHS {
        let weight = random.matrix(format, d_out, cols);
        let x = random.numbers(cols, -2.0, 2.0);
        let y = on_any_threads(name, |be| product(be, &weight, &x));
        check_quantized(name, &weight, &x, &y);
    }
}

#[test]
fn a_row_of_a_batch_has_the_bits_of_the_row_alone() {
    for_linear_cases(&FORMATS, |what, weight, x| {
        let be = &mut Cpu::new(1);
        let whole = product(be, weight, x);
        let t_rows = x.len() / weight.cols;
        for t in [0, t_rows / 2, t_rows - 1] {
            let alone = product(be, weight, &x[t * weight.cols..][..weight.cols]);
            assert_same_bits(
                &format!("{what} row {t}"),
                &whole[t * weight.rows..][..weight.rows],
                &alone,
            );
        }
    });
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
            let plain = product(&mut Cpu::new(1), &weight, &x);
            let both = on_any_threads(&what, |be| {
                let linear = linear(be, &weight, Some(&bias));
                let x = rows(be, cols, &x);
                let mut y = be.tensor(t_rows, d_out);
                be.linear(&linear, &x, &mut y);
                let mut sums = read(be, &y);
                let mut y = rows(be, d_out, &before);
                be.linear_add(&linear, &x, &mut y);
                sums.extend(read(be, &y));
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

/// Full activations, the most negative and the most positive weights, and the signs that make every product of a block
/// positive: a 16-bit lane that is too narrow would show here, as a panic natively and as a wrong sum in wasm.
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
                    // With the sign of the weight, and against it.
                    2 if col.is_multiple_of(2) => -1.0,
                    4 if col % 2 == 1 => -1.0,
                    _ => 1.0,
                };
                let weight = filled(format, 5, cols, quant);
                let x: Vec<f32> = (0..cols).map(activation).collect();
                let y = product(&mut Cpu::new(1), &weight, &x.repeat(5));
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

/// A matrix with `quant(column)` in every row, and the largest scales of either sign.
fn filled(format: WeightFormat, rows: usize, cols: usize, quant: impl Fn(usize) -> i8) -> QMatrix {
    let blocks = cols.div_ceil(BLOCK);
    let quants = (0..rows * blocks * BLOCK).map(|at| at % (blocks * BLOCK));
    let quants = quants.map(|col| if col < cols { quant(col) } else { 0 });
    let row_scale = vec![1.0 / 32767.0; rows];
    let block_scale = (0..rows * blocks)
        .map(|at| if at % 3 == 2 { -32767 } else { 32767 })
        .collect();
    let values = if format == WeightFormat::Q8 {
        Values::Q8(Q8Values {
            row_scale,
            block_scale,
            quants: quants.collect(),
        })
    } else {
        let nibbles: Vec<u8> = quants.map(|quant| (quant + 8) as u8).collect();
        let pairs = nibbles.as_chunks::<2>().0.iter();
        let nibbles = pairs.map(|[low, high]| low | high << 4).collect();
        Values::Q4(Q4Values {
            row_scale,
            block_scale,
            nibbles,
        })
    };
    QMatrix { rows, cols, values }
}

#[test]
fn extreme_activations_give_the_exact_sums_too() {
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
            let y = on_any_threads(what, |be| product(be, &weight, x));
            assert!(y.iter().all(|v| v.is_finite()), "{format:?} {what}: {y:?}");
            if format == WeightFormat::F32 {
                // Products of subnormal numbers lose all their bits, in any order of the sum.
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
    let mut random = Random(5);
    for format in FORMATS {
        for cols in WIDTHS {
            let table = random.matrix(format, 11, cols);
            let tokens = [10, 0, 3, 3, 7];
            let all = reference::dequantized(&table);
            let expected = tokens.map(|token| all[token as usize * cols..][..cols].to_vec());
            let y = on_any_threads("embed", |be| {
                let table = linear(be, &table, None);
                let mut y = be.tensor(8, cols);
                be.embed(&table, &tokens, &mut y);
                read(be, &y)
            });
            assert_same_bits("embed", &y, &expected.concat());
        }
    }
}

#[test]
fn a_weight_holds_the_bytes_of_its_format() {
    let mut random = Random(6);
    for format in FORMATS {
        // Whole groups of rows and pairs of blocks, as in every published model: the rest is padded.
        for (rows, cols) in [(4, 64), (8, 33), (64, 100)] {
            let be = &mut Cpu::new(1);
            let weight = be.upload(random.matrix(format, rows, cols));
            assert_eq!(be.weight_bytes(&weight) as u64, format.bytes(rows, cols));
        }
    }
}

/// A mean of at most 100 squares, a root and two products.
const NORM: f64 = 2e-6;

fn rms_norm(be: &mut Cpu, weight: &[f32], eps: f32, x: &[f32]) -> Vec<f32> {
    let d = weight.len();
    let norm = Norm {
        name: "a norm",
        weight: rows(be, d, weight),
        eps,
    };
    let x = rows(be, d, x);
    let mut y = be.tensor(65, d);
    be.rms_norm(&norm, &x, &mut y);
    read(be, &y)
}

#[test]
fn rms_norm_equals_candle_at_every_shape() {
    let mut random = Random(7);
    for d in WIDTHS {
        for t_rows in ROWS {
            let what = format!("{t_rows}×{d}");
            let (weight, x) = (
                random.numbers(d, 0.5, 1.5),
                random.numbers(t_rows * d, -3.0, 3.0),
            );
            let y = on_any_threads(&what, |be| rms_norm(be, &weight, 1e-5, &x));
            assert_close(&what, NORM, &y, &reference::rms_norm(&weight, 1e-5, &x));
            let alone = rms_norm(&mut Cpu::new(1), &weight, 1e-5, &x[(t_rows - 1) * d..]);
            assert_same_bits(&what, &y[(t_rows - 1) * d..], &alone);
        }
    }
}

/// Beyond 1e19 the squares leave f32. The model's reference then divides by infinity and gives zero; so must this.
#[test]
fn the_norms_stay_finite_on_zeros_and_huge_values() {
    for value in [0.0, 1e-30, 1e18, 1e30] {
        let mut x = vec![1.0; 33];
        x[7] = value;
        for x in [x, vec![value; 33]] {
            let y = rms_norm(&mut Cpu::new(1), &[1.0; 33], 1e-5, &x);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
            let gate: Vec<f32> = x.iter().map(|v| -v).collect();
            let y = gated_rms_norm(&mut Cpu::new(1), &[1.0; 33], 3, &x, &gate);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
        }
    }
    assert_eq!(
        rms_norm(&mut Cpu::new(1), &[1.0; 5], 1e-5, &[0.0; 5]),
        [0.0; 5]
    );
}

/// The gate lies inside a wider tensor, as z does in zxbcdt.
fn gated_rms_norm(
    be: &mut Cpu,
    weight: &[f32],
    n_groups: usize,
    x: &[f32],
    gate: &[f32],
) -> Vec<f32> {
    let (d, t_rows) = (weight.len(), x.len() / weight.len());
    let around = vec![9.0; 3 * t_rows];
    let gate = rows(be, d + 6, &beside(t_rows, &[&around, gate, &around]));
    let weight = rows(be, d, weight);
    let norm = GatedNorm {
        weight,
        n_groups,
        eps: 1e-5,
    };
    let x = rows(be, d, x);
    let mut y = be.tensor(65, d);
    let gate = Cols {
        tensor: &gate,
        start: 3,
        len: d,
    };
    be.gated_rms_norm(&norm, &x, gate, &mut y);
    read(be, &y)
}

#[test]
fn gated_rms_norm_equals_the_loops_at_every_shape_and_in_groups() {
    let mut random = Random(8);
    for (d, n_groups) in [(1, 1), (5, 1), (33, 1), (33, 3), (100, 1), (100, 2)] {
        for t_rows in ROWS {
            let what = format!("{t_rows}×{d} in {n_groups} groups");
            let weight = random.numbers(d, 0.5, 1.5);
            let (x, gate) = (
                random.numbers(t_rows * d, -3.0, 3.0),
                random.numbers(t_rows * d, -4.0, 4.0),
            );
            let y = on_any_threads(&what, |be| gated_rms_norm(be, &weight, n_groups, &x, &gate));
            let expected = reference::gated_rms_norm(&weight, n_groups, 1e-5, &x, &gate);
            assert_close(&what, NORM, &y, &expected);
            let last = (t_rows - 1) * d;
            let alone = gated_rms_norm(
                &mut Cpu::new(1),
                &weight,
                n_groups,
                &x[last..],
                &gate[last..],
            );
            assert_same_bits(&what, &y[last..], &alone);
        }
    }
}

/// The convolution of `t_rows` tokens that come in pieces of the given lengths; gives y and then the state.
/// // x [T, conv_dim], state [d_conv − 1, conv_dim]
fn conv1d(be: &mut Cpu, case: &ConvCase, pieces: &[usize]) -> Vec<f32> {
    let conv_dim = case.bias.len();
    let conv = Conv1d {
        weight: rows(be, conv_dim, &case.weight),
        bias: rows(be, conv_dim, &case.bias),
    };
    let mut state = rows(be, conv_dim, &case.state);
    let (mut done, mut all) = (0, Vec::new());
    for &piece in pieces {
        let x = &case.x[done * conv_dim..][..piece * conv_dim];
        let around = vec![9.0; 2 * piece];
        let wide = rows(be, conv_dim + 4, &beside(piece, &[&around, x, &around]));
        let x = Cols {
            tensor: &wide,
            start: 2,
            len: conv_dim,
        };
        let mut y = be.tensor(piece, conv_dim);
        be.causal_conv1d(&conv, x, &mut state, &mut y);
        all.extend(read(be, &y));
        done += piece;
    }
    all.extend(read(be, &state));
    all
}

struct ConvCase {
    weight: Vec<f32>,
    bias: Vec<f32>,
    state: Vec<f32>,
    x: Vec<f32>,
}

/// Two halves, and one token after the other.
fn ways_to_cut(t_rows: usize) -> [Vec<usize>; 3] {
    let half = t_rows.div_ceil(2);
    [
        vec![1, t_rows - 1],
        vec![half, t_rows - half],
        vec![1; t_rows],
    ]
    .map(|mut pieces| {
        pieces.retain(|piece| *piece > 0);
        pieces
    })
}

/// Four products and an exponential; the sum of the terms is not far from the largest result.
const CONV: f64 = 1e-6;

#[test]
fn causal_conv1d_equals_the_loops_and_does_not_care_how_the_sequence_is_cut() {
    let mut random = Random(9);
    for (conv_dim, d_conv) in [(1, 4), (5, 4), (33, 2), (37, 3), (100, 4)] {
        for t_rows in ROWS {
            let what = format!("{t_rows} tokens, {conv_dim} channels, {d_conv} taps");
            let case = ConvCase {
                weight: random.numbers(d_conv * conv_dim, -1.0, 1.0),
                bias: random.numbers(conv_dim, -1.0, 1.0),
                state: random.numbers((d_conv - 1) * conv_dim, -2.0, 2.0),
                x: random.numbers(t_rows * conv_dim, -2.0, 2.0),
            };
            let got = on_any_threads(&what, |be| conv1d(be, &case, &[t_rows]));
            let (y, state) = got.split_at(t_rows * conv_dim);
            let inputs = [&case.state[..], &case.x].concat();
            let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
            assert_close(&what, CONV, y, &expected);
            assert_same_bits(&what, state, &inputs[t_rows * conv_dim..]);
            for pieces in ways_to_cut(t_rows) {
                let cut = conv1d(&mut Cpu::new(1), &case, &pieces);
                assert_same_bits(&format!("{what} as {pieces:?}"), &cut, &got);
            }
        }
    }
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
        let y = conv1d(&mut Cpu::new(1), &case, &[2]);
        assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
    }
}

/// The scan with x, B and C side by side and dt at the end of a wider tensor, as in the model; gives y and then the
/// state.
fn ssm_scan(be: &mut Cpu, scan: &Scan, pieces: &[usize]) -> Vec<f32> {
    let (heads, n) = (scan.n_heads, scan.d_state);
    let widths = [heads * scan.head_dim, scan.n_groups * n, scan.n_groups * n];
    let ssm = Ssm {
        a: rows(be, heads, &scan.a),
        d: rows(be, heads, &scan.d),
        dt_bias: rows(be, heads, &scan.dt_bias),
        n_heads: heads,
        head_dim: scan.head_dim,
        d_state: n,
        n_groups: scan.n_groups,
    };
    let mut state = rows(be, n, &scan.state);
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
        let xbc = rows(be, widths.iter().sum(), &xbc);
        let zx_dt = beside(piece, &[&vec![9.0; 3 * piece], &cut(&scan.dt, heads)]);
        let zx_dt = rows(be, 3 + heads, &zx_dt);
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
        let mut y = be.tensor(piece, widths[0]);
        be.ssm_scan(&ssm, input, &mut state, &mut y);
        all.extend(read(be, &y));
        done += piece;
    }
    all.extend(read(be, &state));
    all
}

fn random_scan(random: &mut Random, t_rows: usize, [heads, p, n, groups]: [usize; 4]) -> Scan {
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

/// Heads, their width, the state's width, groups. States of 5 and 6 end in a tail of the four lanes.
const SCANS: [[usize; 4]; 6] = [
    [1, 1, 1, 1],
    [2, 3, 5, 1],
    [4, 5, 6, 2],
    [6, 4, 64, 2],
    [3, 8, 32, 1],
    [2, 64, 128, 1],
];

/// Each step multiplies the state by at most one and adds a rounding of 1e-7; the slowest head remembers some hundred
/// steps, and y sums up to 64 numbers of the state.
const SCAN: f64 = 1e-5;

#[test]
fn ssm_scan_equals_the_recurrence_however_the_sequence_is_cut() {
    let mut random = Random(10);
    for sizes in SCANS {
        for t_rows in [1, 2, 3, 4, 5, 35, 64, 65, 200] {
            for dt_min in [0.0, 0.001, 0.5] {
                let what = format!("{t_rows} tokens, {sizes:?}, dt ≥ {dt_min}");
                let scan = Scan {
                    dt_min,
                    ..random_scan(&mut random, t_rows, sizes)
                };
                let got = on_any_threads(&what, |be| ssm_scan(be, &scan, &[t_rows]));
                let (expected_y, expected_state) = scan.run();
                // Of both together: a state of one number may cancel to less than its terms' roundings.
                let expected = [expected_y, expected_state].concat();
                assert_close(&what, SCAN, &got, &expected);
                // One token is a step of the recurrence and several are a product, so pieces differ in their roundings.
                for pieces in ways_to_cut(t_rows) {
                    let what = format!("{what} as {} pieces", pieces.len());
                    let cut = ssm_scan(&mut Cpu::new(1), &scan, &pieces);
                    assert_close(&what, SCAN, &cut, &expected);
                }
            }
        }
    }
}

/// A huge dt forgets everything, a hugely negative one changes nothing but D·x.
#[test]
fn ssm_scan_takes_every_size_of_dt() {
    let mut random = Random(11);
    for dt in [-1e30, -100.0, 0.0, 19.9, 20.1, 100.0, 1e30] {
        for t_rows in [3, 9] {
            let mut scan = Scan {
                dt_min: 0.0,
                ..random_scan(&mut random, t_rows, [4, 5, 6, 2])
            };
            scan.dt.fill(dt);
            scan.dt_bias.fill(0.0);
            let got = on_any_threads("dt", |be| ssm_scan(be, &scan, &[t_rows]));
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
fn a_cleared_state_is_that_of_a_new_sequence() {
    let mut random = Random(12);
    let scan = random_scan(&mut random, 5, [4, 5, 6, 2]);
    let fresh = Scan {
        state: vec![0.0; scan.state.len()],
        ..random_scan(&mut Random(12), 5, [4, 5, 6, 2])
    };
    let be = &mut Cpu::new(1);
    let mut state = rows(be, scan.d_state, &scan.state);
    be.clear(&mut state);
    let cleared = Scan {
        state: read(be, &state),
        ..scan
    };
    assert_same_bits("the state", &cleared.state, &fresh.state);
    assert_same_bits(
        "the scan",
        &ssm_scan(be, &cleared, &[5]),
        &ssm_scan(be, &fresh, &[5]),
    );
    // Rows that a shorter use left out are cleared as well.
    let mut wide = rows(be, 2, &[1.0; 8]);
    let (a, b) = (rows(be, 2, &[1.0; 2]), rows(be, 2, &[1.0; 2]));
    be.add(&a, &b, &mut wide);
    be.clear(&mut wide);
    let (a, b) = (rows(be, 1, &[1.0; 4]), rows(be, 1, &[2.0; 4]));
    assert_same_bits("the short tensor", &read(be, &wide), &[0.0; 2]);
    be.concat(&a, &b, &mut wide);
    assert_same_bits("the tall tensor", &read(be, &wide), &[1.0, 2.0].repeat(4));
}

/// A sine, a cosine and two products; the angle itself is rounded to f32 on both sides.
const ROPE: f64 = 1e-6;

#[test]
fn rope_equals_candle_at_every_position() {
    let mut random = Random(13);
    for (half, n_heads) in [(1, 1), (3, 2), (16, 5), (64, 3)] {
        let inv_freq: Vec<f32> = (0..half)
            .map(|k| 1e4f32.powf(-(k as f32) / half as f32))
            .collect();
        let cols = n_heads * 2 * half;
        for t_rows in ROWS {
            for position in [0, 1, 4031] {
                let what = format!("{t_rows} rows of {n_heads}×{} at {position}", 2 * half);
                let x = random.numbers(t_rows * cols, -2.0, 2.0);
                let rope = |be: &mut Cpu, position: usize, x: &[f32]| {
                    let rope = Rope {
                        inv_freq: inv_freq.clone(),
                        head_dim: 2 * half,
                    };
                    let mut x = rows(be, cols, x);
                    be.rope(&rope, position, &mut x);
                    read(be, &x)
                };
                let y = on_any_threads(&what, |be| rope(be, position, &x));
                assert_close(
                    &what,
                    ROPE,
                    &y,
                    &reference::rope(&inv_freq, position, &x, n_heads),
                );
                let last = (t_rows - 1) * cols;
                let alone = rope(&mut Cpu::new(1), position + t_rows - 1, &x[last..]);
                assert_same_bits(&what, &y[last..], &alone);
                if position == 0 {
                    assert_same_bits("position 0", &y[..cols], &x[..cols]);
                }
            }
        }
    }
}

/// Keys and values that come in pieces, each followed by the attention of its queries. Positions that have not come
/// are NaN: whoever reads them is found. // q [T, heads · d], k, v [T, kv · d]
fn attention(
    be: &mut Cpu,
    shape: AttentionShape,
    format: KvFormat,
    qkv: [&[f32]; 3],
    pieces: &[usize],
) -> Vec<f32> {
    let d = shape.head_dim;
    let widths = [
        shape.n_heads * d,
        shape.n_kv_heads * d,
        shape.n_kv_heads * d,
    ];
    let context = qkv[0].len() / widths[0] + 2;
    let mut cache = KvCache {
        rows: be.kv_rows(&shape, context, format),
        len: 0,
    };
    let unread = rows(be, widths[1], &vec![f32::NAN; context * widths[1]]);
    be.append_kv(&unread, &unread, &mut cache);
    cache.len = 0;
    let mut all = Vec::new();
    for &piece in pieces {
        let done = cache.len;
        let [q, k, v] = [0, 1, 2].map(|i| {
            let width = widths[i];
            rows(be, width, &qkv[i][done * width..][..piece * width])
        });
        be.append_kv(&k, &v, &mut cache);
        assert_eq!(cache.len, done + piece);
        let mut y = be.tensor(piece, widths[0]);
        be.attention(&shape, &q, &cache, &mut y);
        all.extend(read(be, &y));
    }
    all
}

/// Scores of up to 30 products within ±8, so exponentials are off by some 1e-6; up to 600 of them are summed.
const ATTENTION: f64 = 5e-6;
/// Queries and weights are integers of 16 bits in an 8-bit cache: a score within ±10 is off by up to 3e-4, which is how
/// far its weight is off, and hundreds of them average.
const ATTENTION_I8: f64 = 5e-4;

/// What an 8-bit cache keeps of keys or values: 127 steps to each side, for each head of each position.
fn in_eight_bits(x: &[f32], head_dim: usize) -> Vec<f32> {
    let heads = x.chunks(head_dim).flat_map(|head| {
        let peak = head.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        head.iter()
            .map(move |v| (v * (127.0 / peak)).round_ties_even() * (peak / 127.0))
    });
    heads.collect()
}

#[test]
fn attention_equals_candle_with_any_grouping_of_heads_and_in_pieces() {
    let mut random = Random(14);
    for (n_heads, n_kv_heads, head_dim) in [
        (1, 1, 1),
        (4, 4, 5),
        (4, 2, 12),
        (6, 1, 31),
        (3, 3, 8),
        (2, 1, 128),
    ] {
        let scale = (head_dim as f32 / 2.0).powf(-0.5);
        let shape = AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
            scale,
        };
        // 600 positions take more than two of the kernel's blocks.
        for t_rows in ROWS.into_iter().chain([600]) {
            let what = format!("{t_rows} tokens, {shape:?}");
            let q = random.numbers(t_rows * n_heads * head_dim, -2.0, 2.0);
            let k = random.numbers(t_rows * n_kv_heads * head_dim, -2.0, 2.0);
            let v = random.numbers(t_rows * n_kv_heads * head_dim, -2.0, 2.0);
            let qkv = [&q[..], &k, &v];
            let kept = [&k, &v].map(|x| in_eight_bits(x, head_dim));
            let exact =
                |k, v| reference::attention(n_heads, n_kv_heads, head_dim, scale, [&q, k, v]);
            for (format, tolerance, expected) in [
                (KvFormat::F32, ATTENTION, exact(&k, &v)),
                (KvFormat::I8, ATTENTION_I8, exact(&kept[0], &kept[1])),
            ] {
                let what = format!("{format:?}, {what}");
                let y = on_any_threads(&what, |be| attention(be, shape, format, qkv, &[t_rows]));
                assert_close(&what, tolerance, &y, &expected);
                for pieces in ways_to_cut(t_rows) {
                    let cut = attention(&mut Cpu::new(1), shape, format, qkv, &pieces);
                    assert_same_bits(&format!("{what} as {} pieces", pieces.len()), &cut, &y);
                }
            }
        }
    }
}

#[test]
fn a_cache_takes_the_bytes_of_its_format() {
    let shape = AttentionShape {
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        scale: 1.0,
    };
    // 2 · 4096 numbers a position and layer; a scale per head beside them in eight bits.
    assert_eq!(KvFormat::F32.bytes(&shape, 10), 10 * 2 * 4096 * 4);
    assert_eq!(KvFormat::I8.bytes(&shape, 10), 10 * 2 * (4096 + 32 * 4));
}

#[test]
fn attention_to_one_overwhelming_key_gives_its_value() {
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
    let y = attention(&mut Cpu::new(1), shape, KvFormat::F32, [&q, &k, &v], &[3]);
    assert_eq!(y[4..], [3.0, 4.0]);
    assert_eq!(y[2..4], [2.0, 3.0], "equal scores share");
}

/// An error function and three products. For a negative gate 1 + erf cancels, which costs half an ulp of the gate.
const GELU: f64 = 1e-6;

#[test]
fn gelu_mul_equals_the_exact_gelu_of_candle() {
    let mut random = Random(15);
    for d in WIDTHS {
        for t_rows in ROWS {
            let what = format!("{t_rows}×{d}");
            let x = random.numbers(t_rows * 2 * d, -5.0, 5.0);
            let gelu = |be: &mut Cpu, x: &[f32]| {
                let x = rows(be, 2 * d, x);
                let mut y = be.tensor(65, d);
                be.gelu_mul(&x, &mut y);
                read(be, &y)
            };
            let y = on_any_threads(&what, |be| gelu(be, &x));
            assert_close(&what, GELU, &y, &reference::gelu_mul(&x, d));
            let alone = gelu(&mut Cpu::new(1), &x[(t_rows - 1) * 2 * d..]);
            assert_same_bits(&what, &y[(t_rows - 1) * d..], &alone);
        }
    }
    let be = &mut Cpu::new(1);
    let x = rows(be, 8, &[1e30, -1e30, 0.0, -0.0, 1.0, 1.0, 1.0, 1.0]);
    let mut y = be.tensor(1, 4);
    be.gelu_mul(&x, &mut y);
    assert_eq!(read(be, &y), [1e30, 0.0, 0.0, 0.0]);
}

#[test]
fn concat_add_and_last_row_move_numbers_unchanged() {
    let mut random = Random(16);
    for t_rows in ROWS {
        for (left, right) in [(1, 1), (5, 31), (33, 37)] {
            let (a, b) = (
                random.numbers(t_rows * left, -1.0, 1.0),
                random.numbers(t_rows * right, -1.0, 1.0),
            );
            let c = random.numbers(t_rows * left, -1.0, 1.0);
            let got = on_any_threads("moved", |be| {
                let [x, y, z] =
                    [(left, &a), (right, &b), (left, &c)].map(|(cols, v)| rows(be, cols, v));
                let (mut wide, mut sum) = (be.tensor(65, left + right), be.tensor(65, left));
                let mut last = be.tensor(1, left + right);
                be.concat(&x, &y, &mut wide);
                be.add(&x, &z, &mut sum);
                be.last_row(&wide, &mut last);
                be.flush();
                [read(be, &wide), read(be, &sum), read(be, &last)].concat()
            });
            let wide = beside(t_rows, &[&a, &b]);
            let sum: Vec<f32> = a.iter().zip(&c).map(|(a, c)| a + c).collect();
            let last = wide[(t_rows - 1) * (left + right)..].to_vec();
            assert_same_bits("moved", &got, &[wide, sum, last].concat());
        }
    }
}

#[test]
fn a_destination_takes_the_row_count_of_its_source_up_and_down() {
    let be = &mut Cpu::new(1);
    let mut builder = QMatrixBuilder::new(1, 1, WeightFormat::F32);
    builder.push_row(&[2.0]);
    let double = linear(be, &builder.finish(), None);
    let mut y = be.tensor(65, 1);
    for t_rows in [65, 3, 64, 1, 65] {
        let x = rows(be, 1, &vec![t_rows as f32; t_rows]);
        be.linear(&double, &x, &mut y);
        assert_same_bits("y", &read(be, &y), &vec![2.0 * t_rows as f32; t_rows]);
    }
}

#[test]
fn a_scope_contains_the_spans_of_its_ops_with_their_work() {
    let be = &mut Cpu::new(1);
    let weight = Random(17).matrix(WeightFormat::Q4, 8, 33);
    let layer = linear(be, &weight, None);
    be.profiler().set_level(Level::Module);
    let name = be.profiler().intern("layers.0");
    let y = be.scope(name, |be| {
        let x = rows(be, 33, &[1.0; 33]);
        let mut y = be.tensor(1, 8);
        be.linear(&layer, &x, &mut y);
        y
    });
    assert_eq!(read(be, &y).len(), 8);
    let profile = be.profiler().take();
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
