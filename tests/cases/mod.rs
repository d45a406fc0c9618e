//! The cases of every op, at every awkward shape, and how a device runs them: one table for all devices. What an op should
//! give is in `reference`; tolerances are here, and what else holds for a device is in the tests that walk the table.

#![allow(dead_code, reason = "each test file uses some of it")]

use pollster::block_on;
use zamba2::base::quant::{BLOCK, Q4Values, Q8Values, QMatrix, Values, WeightFormat};
use zamba2::ops::Ops;
use zamba2::ops::device::{
    AttentionShape, Cols, Conv1d, Device, GatedNorm, KvFormat, Linear, Norm, Rope, Ssm, SsmInput,
    split,
};
use zamba2::ops::trace::ModuleId;
use zamba2::text::sampling::Top;

use crate::reference::Scan;

/// The module of every op here; its span is the first one of a table of names.
pub const MODULE: ModuleId = ModuleId(0);

/// Every remainder of a tile of four rows, a chunk of a prompt and its neighbours, and an ordinary prompt.
pub const ROWS: [usize; 8] = [1, 2, 3, 4, 35, 63, 64, 65];
/// Below, at and above four lanes, a block of 32, and three blocks; most divide by nothing.
pub const WIDTHS: [usize; 8] = [1, 5, 31, 32, 33, 37, 64, 100];
pub const QUANTIZED: [WeightFormat; 2] = [WeightFormat::Q8, WeightFormat::Q4];
pub const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4];

/// Matrices of the published models, one row of activations each: format, columns, rows.
pub const MODEL_WIDTHS: [(&str, WeightFormat, usize, usize); 3] = [
    ("1.2B mamba.in_proj", WeightFormat::Q4, 2048, 8512),
    ("1.2B mamba.out_proj", WeightFormat::Q8, 4096, 2048),
    ("7B down_proj, its first rows", WeightFormat::Q4, 14336, 130),
];

/// Numbers that look random and are the same everywhere (Knuth's MMIX generator).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Within low .. high.
    pub fn number(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    pub fn numbers(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.number(low, high)).collect()
    }

    /// A matrix of any quants at all: it owes nothing to the quantiser, and −8 and negative scales are as frequent as
    /// the rest. Weights are within ±1.2; padding is zero, as the format demands.
    pub fn matrix(&mut self, format: WeightFormat, rows: usize, cols: usize) -> QMatrix {
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

pub fn read<D: Device>(be: &mut Ops<D>, x: &D::Tensor) -> Vec<f32> {
    block_on(be.read(x)).unwrap()
}

/// A tensor of rows of `cols` numbers.
pub fn rows<D: Device>(be: &mut Ops<D>, cols: usize, values: &[f32]) -> D::Tensor {
    be.constant(values.len() / cols, cols, values.to_vec())
}

/// Lays matrices of `t_rows` rows side by side.
pub fn beside(t_rows: usize, parts: &[&[f32]]) -> Vec<f32> {
    let row = |t: usize| {
        let cut =
            move |part: &&[f32]| part[t * (part.len() / t_rows)..][..part.len() / t_rows].to_vec();
        parts.iter().flat_map(cut)
    };
    (0..t_rows).flat_map(row).collect()
}

/// No number is further off than `tolerance` times the largest expected one.
pub fn assert_close(what: &str, tolerance: f64, got: &[f32], expected: &[f64]) {
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

pub fn linear<D: Device>(be: &mut Ops<D>, weight: &QMatrix, bias: Option<&[f32]>) -> Linear<D> {
    Linear {
        module: MODULE,
        weight: be.upload(weight.clone()).into(),
        bias: bias.map(|bias| rows(be, bias.len(), bias)),
    }
}

/// W·x without a bias. // x [T, cols] → [T, rows]
pub fn product<D: Device>(be: &mut Ops<D>, weight: &QMatrix, x: &[f32]) -> Vec<f32> {
    let linear = linear(be, weight, None);
    let x = rows(be, weight.cols, x);
    let mut y = be.tensor(65, weight.rows);
    be.linear(&linear, &x, &mut y);
    read(be, &y)
}

/// `body(name, weight, x)` for each format, width and number of rows.
pub fn for_linear_cases(formats: &[WeightFormat], mut body: impl FnMut(&str, &QMatrix, &[f32])) {
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

/// f32 sums of at most 100 products in four lanes: 25 additions and a rounded product each, relative to the terms,
/// which are within a tenth of the largest result.
pub const LINEAR_F32: f64 = 2e-6;

/// A mean of at most 100 squares, a root and two products.
pub const NORM: f64 = 2e-6;

pub fn rms_norm<D: Device>(be: &mut Ops<D>, weight: &[f32], eps: f32, x: &[f32]) -> Vec<f32> {
    let d = weight.len();
    let norm = Norm {
        module: MODULE,
        weight: rows(be, d, weight),
        eps,
    };
    let x = rows(be, d, x);
    let mut y = be.tensor(65, d);
    be.rms_norm(&norm, &x, &mut y);
    read(be, &y)
}

/// The gate lies inside a wider tensor, as z does in zxbcdt.
pub fn gated_rms_norm<D: Device>(
    be: &mut Ops<D>,
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
        module: MODULE,
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

/// The convolution of `t_rows` tokens that come in pieces of the given lengths; gives y and then the state.
/// // x [T, conv_dim], state [d_conv − 1, conv_dim]
pub fn conv1d<D: Device>(be: &mut Ops<D>, case: &ConvCase, pieces: &[usize]) -> Vec<f32> {
    let conv_dim = case.bias.len();
    let conv = Conv1d {
        module: MODULE,
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

pub struct ConvCase {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub state: Vec<f32>,
    pub x: Vec<f32>,
}

/// Two halves, and one token after the other.
pub fn ways_to_cut(t_rows: usize) -> [Vec<usize>; 3] {
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
pub const CONV: f64 = 1e-6;

/// The scan with x, B and C side by side and dt at the end of a wider tensor, as in the model; gives y and then the
/// state.
pub fn ssm_scan<D: Device>(be: &mut Ops<D>, scan: &Scan, pieces: &[usize]) -> Vec<f32> {
    let (heads, n) = (scan.n_heads, scan.d_state);
    let widths = [heads * scan.head_dim, scan.n_groups * n, scan.n_groups * n];
    let ssm = Ssm {
        module: MODULE,
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

pub fn random_scan(random: &mut Random, t_rows: usize, [heads, p, n, groups]: [usize; 4]) -> Scan {
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
pub const SCANS: [[usize; 4]; 6] = [
    [1, 1, 1, 1],
    [2, 3, 5, 1],
    [4, 5, 6, 2],
    [6, 4, 64, 2],
    [3, 8, 32, 1],
    [2, 64, 128, 1],
];

/// Each step multiplies the state by at most one and adds a rounding of 1e-7; the slowest head remembers some hundred
/// steps, and y sums up to 64 numbers of the state.
pub const SCAN: f64 = 1e-5;

/// A sine, a cosine and two products; the angle itself is rounded to f32 on both sides.
pub const ROPE: f64 = 1e-6;

/// Keys and values that come in pieces, each followed by the attention of its queries. Positions that have not come
/// are NaN: whoever reads them is found. // q [T, heads · d], k, v [T, kv · d]
pub fn attention<D: Device>(
    be: &mut Ops<D>,
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
    let mut cache = be.kv_cache(&shape, context, format);
    let unread = rows(be, widths[1], &vec![f32::NAN; context * widths[1]]);
    be.append_kv(MODULE, &unread, &unread, &mut cache);
    cache.len = 0;
    let mut all = Vec::new();
    for &piece in pieces {
        let done = cache.len;
        let [q, k, v] = [0, 1, 2].map(|i| {
            let width = widths[i];
            rows(be, width, &qkv[i][done * width..][..piece * width])
        });
        be.append_kv(MODULE, &k, &v, &mut cache);
        assert_eq!(cache.len, done + piece);
        let mut y = be.tensor(piece, widths[0]);
        be.attention(MODULE, &shape, &q, &cache, &mut y);
        all.extend(read(be, &y));
    }
    all
}

/// Scores of up to 30 products within ±8, so exponentials are off by some 1e-6; up to 520 of them are summed.
pub const ATTENTION: f64 = 5e-6;
/// Queries and weights are integers of 16 bits in an 8-bit cache: a score within ±10 is off by up to 3e-4, which is how
/// far its weight is off, and hundreds of them average.
pub const ATTENTION_I8: f64 = 5e-4;

/// What an 8-bit cache keeps of keys or values: 127 steps to each side, for each head of each position.
pub fn in_eight_bits(x: &[f32], head_dim: usize) -> Vec<f32> {
    let heads = x.chunks(head_dim).flat_map(|head| {
        let peak = head.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        head.iter()
            .map(move |v| (v * (127.0 / peak)).round_ties_even() * (peak / 127.0))
    });
    heads.collect()
}

/// An error function and three products. For a negative gate 1 + erf cancels, which costs half an ulp of the gate.
pub const GELU: f64 = 1e-6;

/// `body(what, weight, x)` for each width and number of rows.
pub fn for_rms_norm_cases(mut body: impl FnMut(&str, &[f32], &[f32])) {
    let mut random = Random(7);
    for d in WIDTHS {
        for t_rows in ROWS {
            let weight = random.numbers(d, 0.5, 1.5);
            let x = random.numbers(t_rows * d, -3.0, 3.0);
            body(&format!("{t_rows}×{d}"), &weight, &x);
        }
    }
}

/// `body(what, weight, groups, x, gate)`.
pub fn for_gated_rms_norm_cases(mut body: impl FnMut(&str, &[f32], usize, &[f32], &[f32])) {
    let mut random = Random(8);
    for (d, n_groups) in [(1, 1), (5, 1), (33, 1), (33, 3), (100, 1), (100, 2)] {
        for t_rows in ROWS {
            let what = format!("{t_rows}×{d} in {n_groups} groups");
            let weight = random.numbers(d, 0.5, 1.5);
            let x = random.numbers(t_rows * d, -3.0, 3.0);
            let gate = random.numbers(t_rows * d, -4.0, 4.0);
            body(&what, &weight, n_groups, &x, &gate);
        }
    }
}

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

/// `body(what, tokens, scan)`.
pub fn for_scan_cases(mut body: impl FnMut(&str, usize, &Scan)) {
    let mut random = Random(10);
    for sizes in SCANS {
        for t_rows in [1, 2, 3, 4, 5, 35, 64, 65, 200] {
            for dt_min in [0.0, 0.001, 0.5] {
                let scan = Scan {
                    dt_min,
                    ..random_scan(&mut random, t_rows, sizes)
                };
                let what = format!("{t_rows} tokens, {sizes:?}, dt ≥ {dt_min}");
                body(&what, t_rows, &scan);
            }
        }
    }
}

/// What is rotated: `x` stands at `position` and has `n_heads` heads. // x [T, heads · 2 · frequencies]
pub struct RopeCase {
    pub inv_freq: Vec<f32>,
    pub n_heads: usize,
    pub position: usize,
    pub x: Vec<f32>,
}

/// `body(what, case)`.
pub fn for_rope_cases(mut body: impl FnMut(&str, &RopeCase)) {
    let mut random = Random(13);
    for (half, n_heads) in [(1, 1), (3, 2), (16, 5), (64, 3)] {
        let inv_freq = (0..half).map(|k| 1e4f32.powf(-(k as f32) / half as f32));
        let inv_freq: Vec<f32> = inv_freq.collect();
        for t_rows in ROWS {
            for position in [0, 1, 4031] {
                let case = RopeCase {
                    inv_freq: inv_freq.clone(),
                    n_heads,
                    position,
                    x: random.numbers(t_rows * n_heads * 2 * half, -2.0, 2.0),
                };
                let what = format!("{t_rows} rows of {n_heads}×{} at {position}", 2 * half);
                body(&what, &case);
            }
        }
    }
}

/// Rotates `x`, which stands at `position`, with the frequencies of `case`.
pub fn rope<D: Device>(be: &mut Ops<D>, case: &RopeCase, position: usize, x: &[f32]) -> Vec<f32> {
    let head_dim = 2 * case.inv_freq.len();
    let rope = Rope {
        inv_freq: case.inv_freq.clone(),
        head_dim,
    };
    let mut x = rows(be, case.n_heads * head_dim, x);
    be.rope(MODULE, &rope, position, &mut x);
    read(be, &x)
}

/// `body(what, tokens, shape, [q, k, v])`. 520 positions take more than two blocks of any kernel.
pub fn for_attention_cases(mut body: impl FnMut(&str, usize, AttentionShape, [&[f32]; 3])) {
    let mut random = Random(14);
    let shapes = [
        (1, 1, 1),
        (4, 4, 5),
        (4, 2, 12),
        (6, 1, 31),
        (3, 3, 8),
        (2, 1, 128),
    ];
    let cases = shapes
        .into_iter()
        .flat_map(|shape| ROWS.map(|t_rows| (t_rows, shape)));
    // More positions than one workgroup of a device takes. Their work grows with the square, so few heads must do.
    let many = [(520, (2, 2, 12)), (520, (2, 1, 31))];
    for (t_rows, (n_heads, n_kv_heads, head_dim)) in cases.chain(many) {
        let shape = AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
            scale: (head_dim as f32 / 2.0).powf(-0.5),
        };
        let q = random.numbers(t_rows * n_heads * head_dim, -2.0, 2.0);
        let k = random.numbers(t_rows * n_kv_heads * head_dim, -2.0, 2.0);
        let v = random.numbers(t_rows * n_kv_heads * head_dim, -2.0, 2.0);
        let what = format!("{t_rows} tokens, {shape:?}");
        body(&what, t_rows, shape, [&q, &k, &v]);
    }
}

/// `body(what, d, x)`. // x [T, 2d]
pub fn for_gelu_cases(mut body: impl FnMut(&str, usize, &[f32])) {
    let mut random = Random(15);
    for d in WIDTHS {
        for t_rows in ROWS {
            let x = random.numbers(t_rows * 2 * d, -5.0, 5.0);
            body(&format!("{t_rows}×{d}"), d, &x);
        }
    }
}

pub fn gelu_mul<D: Device>(be: &mut Ops<D>, d: usize, x: &[f32]) -> Vec<f32> {
    let x = rows(be, 2 * d, x);
    let mut y = be.tensor(65, d);
    be.gelu_mul(MODULE, &x, &mut y);
    read(be, &y)
}

/// Rows to be laid side by side, added, and taken the last of. // a, c [T, left], b [T, right]
pub struct MoveCase {
    pub t_rows: usize,
    pub left: usize,
    pub right: usize,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
}

impl MoveCase {
    /// [a, b], then a + c, then the last row of the first.
    pub fn run<D: Device>(&self, be: &mut Ops<D>) -> Vec<f32> {
        let a = rows(be, self.left, &self.a);
        let b = rows(be, self.right, &self.b);
        let c = rows(be, self.left, &self.c);
        let both = self.left + self.right;
        let (mut wide, mut sum) = (be.tensor(65, both), be.tensor(65, self.left));
        let mut last = be.tensor(1, both);
        be.concat(MODULE, &a, &b, &mut wide);
        be.add(MODULE, &a, &c, &mut sum);
        be.last_row(&wide, &mut last);
        be.flush();
        [read(be, &wide), read(be, &sum), read(be, &last)].concat()
    }

    pub fn expected(&self) -> Vec<f32> {
        let wide = beside(self.t_rows, &[&self.a, &self.b]);
        let sum = self.a.iter().zip(&self.c).map(|(a, c)| a + c).collect();
        let last = wide[(self.t_rows - 1) * (self.left + self.right)..].to_vec();
        [wide, sum, last].concat()
    }
}

pub fn for_move_cases(mut body: impl FnMut(&MoveCase)) {
    let mut random = Random(16);
    for t_rows in ROWS {
        for (left, right) in [(1, 1), (5, 31), (33, 37)] {
            body(&MoveCase {
                t_rows,
                left,
                right,
                a: random.numbers(t_rows * left, -1.0, 1.0),
                b: random.numbers(t_rows * right, -1.0, 1.0),
                c: random.numbers(t_rows * left, -1.0, 1.0),
            });
        }
    }
}

/// Tokens with repetitions and both ends of a table of eleven.
pub const TOKENS: [u32; 5] = [10, 0, 3, 3, 7];

/// `body(what, table)` for each format and width.
pub fn for_embed_cases(mut body: impl FnMut(&str, &QMatrix)) {
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

pub fn embed<D: Device>(be: &mut Ops<D>, table: &QMatrix, tokens: &[u32]) -> Vec<f32> {
    let mut y = be.tensor(tokens.len() + 3, table.cols);
    let table = be.upload(table.clone());
    be.embed(MODULE, &table, tokens, &mut y);
    read(be, &y)
}

/// Logits and the places of a list.
pub struct TopCase {
    pub what: String,
    pub logits: Vec<f32>,
    pub k: usize,
}

/// `body(case)` for vocabularies of one token, around a group of 1024, and of the published models; with ties, both zeros
/// and the ends of f32's range; more places than tokens, and the most that there are.
pub fn for_top_cases(mut body: impl FnMut(&TopCase)) {
    let mut random = Random(30);
    for n in [1, 5, 63, 1023, 1024, 1025, 4099, 32_000] {
        let mut kinds = vec![
            ("random", random.numbers(n, -12.0, 12.0)),
            ("equal", vec![-3.5; n]),
            ("rising", (0..n).map(|i| i as f32 / 64.0).collect()),
            (
                "far apart",
                (0..n)
                    .map(|_| f32::MAX * random.number(-1.0, 1.0))
                    .collect(),
            ),
        ];
        let few = [0.0, -0.0, 2.5, -1.0];
        let few = (0..n).map(|_| few[random.bits() as usize % 4]);
        kinds.push(("few values", few.collect()));
        for (kind, logits) in kinds {
            for k in [1, 2, 7, 40, Top::MOST] {
                body(&TopCase {
                    what: format!("{kind}, {n} tokens, {k} places"),
                    logits: logits.clone(),
                    k,
                });
            }
        }
    }
}

/// What the device says in the second of two rows; the first one stays.
pub fn top<D: Device>(be: &mut Ops<D>, logits: &[f32], k: usize) -> Top {
    let width = Top::row_len(k);
    let zeros = rows(be, logits.len(), &vec![0.0; logits.len()]);
    let logits = rows(be, logits.len(), logits);
    let mut y = be.tensor(3, width);
    be.top(MODULE, &zeros, 0, &mut y);
    let before = read(be, &y);
    be.top(MODULE, &logits, 1, &mut y);
    let both = read(be, &y);
    assert_eq!(both.len(), 2 * width);
    assert_eq!(both[..width], before);
    Top::from_row(&both[width..])
}

/// Sorted as a whole, with sums in f64.
pub fn check_top(case: &TopCase, got: &Top) {
    let TopCase { what, logits, k } = case;
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(*k);
    assert_eq!(got.tokens, all, "{what}");
    let largest = f64::from(all[0].1);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - largest).exp())
        .sum();
    // WGSL's exponential of −25, which still counts, may be off by 53 · 2⁻²⁴; the sums of f32 are as exact as that.
    let off = (got.sum - sum).abs();
    assert!(
        off <= 5e-6 * sum,
        "{what}: the sum is {} and not {sum}",
        got.sum
    );
    assert_eq!(got.fault, None, "{what}");
}

/// `body(what, logits, token)` where that token's logit is the first that is not finite.
pub fn for_fault_cases(mut body: impl FnMut(&str, &[f32], u32)) {
    for n in [1, 1025, 5000] {
        for fault in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, n / 2, n - 1] {
                let mut logits = vec![0.5; n];
                logits[at..].fill(f32::NAN);
                logits[at] = fault;
                body(&format!("{fault} at {at} of {n}"), &logits, at as u32);
            }
        }
    }
}

/// The embedding of the token that a list has first, in the second row of the lists.
pub fn embed_top<D: Device>(be: &mut Ops<D>, table: &QMatrix, token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; table.rows];
    let mut lists = be.tensor(2, Top::row_len(2));
    for (row, largest) in [(0, (token + 1) % table.rows as u32), (1, token)] {
        logits.fill(0.0);
        logits[largest as usize] = 1.0;
        let logits = rows(be, table.rows, &logits);
        be.top(MODULE, &logits, row, &mut lists);
    }
    let mut y = be.tensor(1, table.cols);
    let table = be.upload(table.clone());
    be.embed_top(MODULE, &table, &lists, 1, &mut y);
    read(be, &y)
}
