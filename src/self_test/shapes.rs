//! The sizes that the self-test uses: small ones with awkward remainders, and the model's own. A kernel may be right
//! for a narrow row and wrong for a wide one, of which each thread handles a larger part.

use crate::model::config::Config;
use crate::ops::device::AttentionShape;

/// Rows of the matrix at the model's width: many workgroups, and a last one that is not full.
const WIDE_ROWS: usize = 515;
/// Rows of the matrix with the model's longest rows.
const LONG_ROWS: usize = 64;
/// Positions in the cache before the first query at the model's head_dim: several workgroups share them.
const CACHED: usize = 300;

pub struct Shapes {
    /// Appended to the names of ops in errors.
    pub suffix: &'static str,
    /// Rows of activations.
    pub rows: &'static [usize],
    /// The same for linear layers.
    pub linear_rows: &'static [usize],
    /// Matrices: d_out and d_in.
    pub linear: Vec<[usize; 2]>,
    pub norm_width: usize,
    /// Groups, and channels per group.
    pub gated_norm: [usize; 2],
    pub n_ssm_heads: usize,
    pub ssm_head_dim: usize,
    pub d_state: usize,
    pub n_ssm_groups: usize,
    pub attention: AttentionShape,
    /// Positions in the KV cache before the first query.
    pub cached: usize,
}

impl Shapes {
    pub fn small() -> Shapes {
        Shapes {
            suffix: "",
            // A decode step, a few tokens, a prompt that does not fill a tile.
            rows: &[1, 3, 37],
            linear_rows: &[1, 3, 37],
            // The second has no round sizes; in the third, each thread of a workgroup loads more than one unit per row.
            linear: vec![[96, 128], [75, 101], [20, 4128]],
            norm_width: 100,
            gated_norm: [2, 50],
            n_ssm_heads: 4,
            ssm_head_dim: 12,
            d_state: 20,
            n_ssm_groups: 2,
            attention: AttentionShape {
                n_heads: 4,
                n_kv_heads: 2,
                head_dim: 20,
                scale: 0.22,
            },
            cached: 0,
        }
    }

    /// The widths of a model with few heads, for a decode step and for a prompt long enough for its kernels.
    pub fn of(config: &Config) -> Shapes {
        Shapes {
            rows: &[1, 9],
            // The last is more than kernels for a few tokens take.
            linear_rows: &[1, 9, 40],
            linear: vec![
                [WIDE_ROWS, config.hidden_size],
                [LONG_ROWS, config.intermediate_size],
            ],
            ..Shapes::of_decode_step(config)
        }
    }

    /// The widths of a model with few heads, for a decode step alone.
    pub fn of_decode_step(config: &Config) -> Shapes {
        let n_groups = config.n_groups;
        Shapes {
            suffix: ", at the model's sizes",
            rows: &[1],
            linear_rows: &[1],
            linear: vec![[WIDE_ROWS, config.hidden_size]],
            norm_width: config.hidden_size,
            gated_norm: [n_groups, config.d_inner / n_groups],
            n_ssm_heads: 2 * n_groups,
            ssm_head_dim: config.d_inner / config.n_mamba_heads,
            d_state: config.d_state,
            n_ssm_groups: n_groups,
            attention: AttentionShape {
                n_heads: 2,
                n_kv_heads: 1,
                ..config.attention_shape()
            },
            cached: CACHED,
        }
    }
}
