//! The work of each op from its shapes, the same for every device. These are the only FLOP and byte formulas: spans and
//! the report's counts use them.
//!
//! Conventions: a multiply-add is two FLOPs. Norms, copies, activation functions, rotations and biases count no FLOPs.
//! Bytes are the unavoidable traffic: weights once per call, states, keys and values read and written; activations are
//! not counted, because they stay in caches.
//!
//! Counts are integers, exact in f64 up to 2⁵³. Sizes may come from an untrusted file, so products must not overflow.

use crate::base::quant::WeightFormat;

/// FLOPs and bytes of an op.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub flops: f64,
    pub weight_bytes: f64,
    /// States, keys and values.
    pub state_bytes: f64,
}

impl Work {
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.state_bytes
    }

    /// The work of `calls` identical calls.
    pub fn times(self, calls: usize) -> Work {
        let calls = calls as f64;
        Work {
            flops: calls * self.flops,
            weight_bytes: calls * self.weight_bytes,
            state_bytes: calls * self.state_bytes,
        }
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.flops += other.flops;
        self.weight_bytes += other.weight_bytes;
        self.state_bytes += other.state_bytes;
    }
}

/// A product in f64: an operation count may exceed wasm's 32-bit usize.
fn product<const N: usize>(sizes: [usize; N]) -> f64 {
    sizes.into_iter().map(|size| size as f64).product()
}

/// Bytes of a `rows × cols` matrix in `format`.
fn matrix_bytes(format: WeightFormat, rows: usize, cols: usize) -> f64 {
    rows as f64 * format.bytes(1, cols) as f64
}

/// Bytes of `n` f32 values.
pub fn f32_bytes(n: f64) -> f64 {
    4.0 * n
}

/// Reads one row of the table per token.
pub fn embed(tokens: usize, cols: usize, format: WeightFormat) -> Work {
    Work {
        weight_bytes: matrix_bytes(format, tokens, cols),
        ..Work::default()
    }
}

/// W·x for `rows` rows.
pub fn linear(
    rows: usize,
    [d_out, d_in]: [usize; 2],
    format: WeightFormat,
    has_bias: bool,
) -> Work {
    let bias = if has_bias { d_out } else { 0 };
    Work {
        flops: 2.0 * product([rows, d_in, d_out]),
        weight_bytes: matrix_bytes(format, d_out, d_in) + f32_bytes(bias as f64),
        state_bytes: 0.0,
    }
}

/// `rms_norm` and `gated_rms_norm` of width `d`.
pub fn norm(d: usize) -> Work {
    Work {
        weight_bytes: f32_bytes(d as f64),
        ..Work::default()
    }
}

/// Depthwise: `d_conv` taps per channel.
pub fn causal_conv1d(rows: usize, d_conv: usize, channels: usize) -> Work {
    Work {
        flops: 2.0 * product([rows, d_conv, channels]),
        weight_bytes: f32_bytes(product([d_conv + 1, channels])),
        state_bytes: 2.0 * f32_bytes(product([d_conv - 1, channels])),
    }
}

/// The recurrence, whichever form computes it. Per element of the state: the decay, a multiply-add for the input and
/// one for the output; per channel: dt·x and D·x.
pub fn ssm_scan(rows: usize, n_heads: usize, head_dim: usize, d_state: usize) -> Work {
    let channels = product([n_heads, head_dim]);
    let state = channels * d_state as f64;
    Work {
        flops: rows as f64 * (5.0 * state + 3.0 * channels),
        // A, D and dt_bias.
        weight_bytes: 3.0 * f32_bytes(n_heads as f64),
        state_bytes: 2.0 * f32_bytes(state),
    }
}

/// `position_bytes`: bytes of the keys and values of one position.
pub fn append_kv(rows: usize, position_bytes: f64) -> Work {
    Work {
        state_bytes: rows as f64 * position_bytes,
        ..Work::default()
    }
}

/// `rows` queries of width `d_attention` after `past` earlier positions. Query t attends to `past + t + 1` positions,
/// with one multiply-add each for the score and for the value per column.
pub fn attention(rows: usize, past: usize, d_attention: usize, position_bytes: f64) -> Work {
    let pairs = product([rows, past]) + product([rows, rows + 1]) / 2.0;
    Work {
        flops: 4.0 * d_attention as f64 * pairs,
        weight_bytes: 0.0,
        state_bytes: (past + rows) as f64 * position_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calculated by hand; `tests/report/counts.rs` has the totals of the published models.
    #[test]
    fn the_work_of_small_ops_matches_hand_calculation() {
        let work = |flops, weight_bytes, state_bytes| Work {
            flops,
            weight_bytes,
            state_bytes,
        };
        let f32 = WeightFormat::F32;
        assert_eq!(embed(3, 5, f32), work(0.0, 60.0, 0.0));
        assert_eq!(linear(2, [3, 5], f32, true), work(60.0, 72.0, 0.0));
        let q4 = linear(1, [2, 64], WeightFormat::Q4, false);
        assert_eq!(q4, work(256.0, 2.0 * (4.0 + 2.0 * 18.0), 0.0));
        assert_eq!(norm(7), work(0.0, 28.0, 0.0));
        assert_eq!(causal_conv1d(3, 4, 10), work(240.0, 200.0, 240.0));
        assert_eq!(ssm_scan(2, 3, 4, 5), work(672.0, 36.0, 480.0));
        assert_eq!(append_kv(2, 10.0), work(0.0, 0.0, 20.0));
        // Queries of width 6 at positions 1 and 2 attend to 2 and 3 keys.
        assert_eq!(attention(2, 1, 6, 10.0), work(120.0, 0.0, 30.0));
    }

    #[test]
    fn huge_sizes_do_not_overflow() {
        let huge = usize::MAX / 2;
        let flops = linear(huge, [huge, 1 << 16], WeightFormat::F32, false).flops;
        // Exceeds every integer type, also a 32-bit usize.
        assert!(flops > u64::MAX as f64 && flops.is_finite());
        assert!(ssm_scan(huge, huge, huge, huge).flops.is_finite());
    }
}
