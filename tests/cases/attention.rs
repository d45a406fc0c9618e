//! Rotary embedding and attention with a KV cache.

use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, Device, KvFormat, Rope};

use super::{MODULE, ROWS, Random, read, rows};

/// A sine, a cosine and two products; the angle itself is f32 on both sides.
pub const ROPE: f64 = 1e-6;

/// Keys and values arrive in pieces, each followed by the attention of its queries. Later positions are NaN, so reading
/// them is detected. // q [T, heads · d], k, v [T, kv · d]
pub fn attention<D: Device>(
    ops: &mut Ops<D>,
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
    let mut cache = ops.kv_cache(&shape, context, format);
    let unread = rows(ops, widths[1], &vec![f32::NAN; context * widths[1]]);
    ops.append_kv(MODULE, &unread, &unread, &mut cache);
    cache.len = 0;
    let mut all = Vec::new();
    for &piece in pieces {
        let done = cache.len;
        let [q, k, v] = [0, 1, 2].map(|i| {
            let width = widths[i];
            rows(ops, width, &qkv[i][done * width..][..piece * width])
        });
        ops.append_kv(MODULE, &k, &v, &mut cache);
        assert_eq!(cache.len, done + piece);
        let mut y = ops.tensor(piece, widths[0]);
        ops.attention(MODULE, &shape, &q, &cache, &mut y);
        all.extend(read(ops, &y));
    }
    all
}

/// Scores within ±8 of up to 30 products, so exponentials differ by some 1e-6; up to 520 of them are summed.
pub const ATTENTION: f64 = 5e-6;
/// With an 8-bit cache, queries and attention weights are 16-bit integers: a score within ±10 is off by up to 3e-4, and
/// so is its weight; hundreds of them average out.
pub const ATTENTION_I8: f64 = 5e-4;

/// Keys or values as an 8-bit cache stores them: 127 steps to each side, one scale per head and position.
pub fn in_eight_bits(x: &[f32], head_dim: usize) -> Vec<f32> {
    let heads = x.chunks(head_dim).flat_map(|head| {
        let peak = head.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        head.iter()
            .map(move |v| (v * (127.0 / peak)).round_ties_even() * (peak / 127.0))
    });
    heads.collect()
}

/// Input of rope: `x` starts at `position` and has `n_heads` heads. // x [T, heads · 2 · frequencies]
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

/// Rotates `x`, which starts at `position`, with the frequencies of `case`.
pub fn rope<D: Device>(ops: &mut Ops<D>, case: &RopeCase, position: usize, x: &[f32]) -> Vec<f32> {
    let head_dim = 2 * case.inv_freq.len();
    let rope = Rope {
        inv_freq: case.inv_freq.clone(),
        head_dim,
    };
    let mut x = rows(ops, case.n_heads * head_dim, x);
    ops.rope(MODULE, &rope, position, &mut [&mut x]);
    read(ops, &x)
}

/// `body(what, tokens, shape, [q, k, v])`. 520 positions are more than two blocks of any kernel.
pub fn for_attention_cases(mut body: impl FnMut(&str, usize, AttentionShape, [&[f32]; 3])) {
    let mut random = Random(14);
    let shapes = [
        (1, 1, 1),
        (4, 4, 5),
        (4, 2, 12),
        (6, 1, 31),
        (3, 3, 8),
        (2, 1, 128),
        // Too wide for kernels in which queries share what they read.
        (2, 1, 260),
    ];
    let cases = shapes
        .into_iter()
        .flat_map(|shape| ROWS.map(|t_rows| (t_rows, shape)));
    // More positions than one workgroup handles. The work grows with the square, so there are few heads.
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
