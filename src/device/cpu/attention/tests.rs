//! Attention with vectors of each width. Its results are tested in `tests/kernels/attention.rs`.

use super::*;
use crate::ops::device::KvFormat;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..n).map(|_| next()).collect()
}

/// Queries before and after a block's end, more than a strip of them; the last position holds NaN.
#[test]
fn every_width_gives_the_same_bits() {
    let (before, n_rows) = (240, 37);
    for (n_heads, n_kv_heads, head_dim) in [(1, 1, 5), (4, 2, 24), (2, 2, 64)] {
        for format in [KvFormat::F32, KvFormat::I8] {
            let shape = AttentionShape {
                n_heads,
                n_kv_heads,
                head_dim,
                scale: 0.3,
            };
            let len = before + n_rows;
            let mut rows = CpuKvRows::new(&shape, len, format);
            for position in 0..len {
                let [mut k, v] =
                    [1, 2].map(|i| numbers(n_kv_heads * head_dim, i + 2 * position as u32));
                if position == len - 1 {
                    k[0] = f32::NAN;
                }
                rows.append(position, &k, &v);
            }
            let cache = KvCache {
                rows,
                len,
                context: len,
                shape,
                format,
            };
            let width = n_heads * head_dim;
            let q = CpuTensor::new(n_rows, width, numbers(n_rows * width, 7));
            let results: Vec<_> = Width::available()
                .map(|vectors| {
                    let mut y = CpuTensor::new(n_rows, width, vec![f32::NAN; n_rows * width]);
                    attention(&Pool::new(2), vectors, &cache.shape, &q, &cache, &mut y);
                    (vectors, y)
                })
                .collect();
            let (_, first) = &results[0];
            let finite = first.values().iter().filter(|y| y.is_finite()).count();
            // The first head of the last query reads the NaN.
            let heads = n_heads / n_kv_heads;
            assert_eq!(finite, n_rows * width - heads * head_dim);
            for (vectors, y) in &results[1..] {
                let same =
                    |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                let what = format!("{format:?}, {n_heads} heads of {head_dim}, {vectors:?}");
                assert!(y.values().iter().zip(first.values()).all(same), "{what}");
            }
        }
    }
}
