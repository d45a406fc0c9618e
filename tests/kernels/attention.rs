//! Rotary positions, attention and the KV cache.

use zamba2::ops::device::{AttentionShape, KvFormat};

use crate::cases::*;
use crate::kernels::{assert_same_bits, cpu, on_any_threads};
use crate::reference;

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
