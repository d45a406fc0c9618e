//! Ops without weights in several formats, at the sizes of Zamba2-1.2B, on any device.

use crate::bench::{MODULE, numbers};
use crate::ops::Ops;
use crate::ops::device::{
    AttentionShape, Cols, Device, GatedNorm, KvFormat, Ssm, SsmInput, Storage, split,
};
use crate::ops::work::{self, Work};

pub const HIDDEN: usize = 2048;
pub const D_INNER: usize = 4096;
pub const D_STATE: usize = 128;
pub const N_HEADS: usize = 64;
/// States that the scan cycles through: one per layer of the model, since a decode step touches each once.
pub const STATES: usize = 38;

/// What a call does to y; its index counts from 0.
type Run<D> = Box<dyn FnMut(&mut Ops<D>, usize, &mut <D as Storage>::Tensor)>;

/// An op with its tensors on a device.
pub struct Case<D: Device> {
    /// Of one call.
    pub work: Work,
    pub y: D::Tensor,
    pub(super) run: Run<D>,
}

impl<D: Device> Case<D> {
    pub fn call(&mut self, ops: &mut Ops<D>, at: usize) {
        (self.run)(ops, at, &mut self.y);
    }
}

pub fn tensor<D: Device>(ops: &mut Ops<D>, rows: usize, cols: usize) -> D::Tensor {
    ops.constant(rows, cols, numbers(rows * cols))
}

pub fn ssm_scan<D: Device + 'static>(ops: &mut Ops<D>, tokens: usize) -> Case<D> {
    let ssm = Ssm {
        module: MODULE,
        a: ops.constant(1, N_HEADS, vec![-1.0; N_HEADS]), // [1, H]
        d: tensor(ops, 1, N_HEADS),                       // [1, H]
        dt_bias: ops.constant(1, N_HEADS, vec![-3.0; N_HEADS]), // [1, H]
        n_heads: N_HEADS,
        head_dim: D_INNER / N_HEADS,
        d_state: D_STATE,
        n_groups: 1,
    };
    let xbc = tensor(ops, tokens, D_INNER + 2 * D_STATE); // [T, H·P + 2·N]
    let dt = tensor(ops, tokens, N_HEADS); // [T, H]
    let mut states: Vec<_> = (0..STATES).map(|_| tensor(ops, D_INNER, D_STATE)).collect(); // [H·P, N] each
    Case {
        work: work::ssm_scan(tokens, N_HEADS, D_INNER / N_HEADS, D_STATE),
        y: ops.tensor(tokens, D_INNER), // [T, H·P]
        run: Box::new(move |ops, at, y| {
            let [x, b, c] = split(&xbc, [D_INNER, D_STATE, D_STATE]);
            let dt = Cols {
                tensor: &dt,
                start: 0,
                len: N_HEADS,
            };
            let input = SsmInput {
                x,
                b,
                c,
                dt,
                dt_min: 0.001,
            };
            ops.ssm_scan(&ssm, input, &mut states[at % STATES], y);
        }),
    }
}

pub fn gated_rms_norm<D: Device + 'static>(ops: &mut Ops<D>, tokens: usize) -> Case<D> {
    let norm = GatedNorm {
        module: MODULE,
        weight: tensor(ops, 1, D_INNER), // [1, H·P]
        n_groups: 1,
        eps: 1e-5,
    };
    let (x, gate) = (tensor(ops, tokens, D_INNER), tensor(ops, tokens, D_INNER)); // [T, H·P] each
    Case {
        work: work::norm(D_INNER),
        y: ops.tensor(tokens, D_INNER), // [T, H·P]
        run: Box::new(move |ops, _, y| {
            let [gate] = split(&gate, [D_INNER]);
            ops.gated_rms_norm(&norm, &x, gate, y);
        }),
    }
}

/// The last `tokens` queries over `context` positions.
pub fn attention<D: Device + 'static>(
    ops: &mut Ops<D>,
    format: KvFormat,
    context: usize,
    tokens: usize,
) -> Case<D> {
    let shape = AttentionShape {
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        scale: 0.125,
    };
    let width = shape.n_heads * shape.head_dim;
    let mut cache = ops.kv_cache(&shape, context, format);
    let kv = tensor(ops, context, width); // [n, heads · d]
    ops.append_kv(MODULE, &kv, &kv, &mut cache);
    let q = tensor(ops, tokens, width); // [T, heads · d]
    let position_bytes = format.bytes(&shape, 1) as f64;
    Case {
        work: work::attention(tokens, context - tokens, width, position_bytes),
        y: ops.tensor(tokens, width), // [T, heads · d]
        run: Box::new(move |ops, _, y| ops.attention(MODULE, &shape, &q, &cache, y)),
    }
}
