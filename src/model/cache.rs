//! The state of a sequence: a conv state and an SSM state of constant size per mixer, and a KV cache per hybrid block.
//! Weights may be shared between blocks; caches never are.

use crate::model::config::{BlockKind, Config};
use crate::ops::Ops;
use crate::ops::device::{Device, KvCache, KvFormat};

pub struct MambaState<D: Device> {
    /// The last inputs of the convolution, oldest first; zeros before the first token.
    pub conv: D::Tensor, // [d_conv − 1, conv_dim]
    /// Always f32, whatever the weight format, as in the reference.
    pub ssm: D::Tensor, // [H·P, N]
}

pub struct Cache<D: Device> {
    pub mamba: Vec<MambaState<D>>,
    /// One per block; `None` for a block without attention.
    pub kv: Vec<Option<KvCache<D>>>,
    /// Tokens processed so far.
    pub len: usize,
    pub context: usize,
}

impl<D: Device> Cache<D> {
    /// An empty cache for up to `context` tokens, fully allocated, so that decoding allocates nothing.
    pub fn new(ops: &mut Ops<D>, config: &Config, context: usize, format: KvFormat) -> Self {
        let mamba = empty_mamba(ops, config);
        let shape = config.attention_shape();
        let kv = config.kinds.iter().map(|kind| {
            (*kind == BlockKind::Hybrid).then(|| ops.kv_cache(&shape, context, format))
        });
        Cache {
            mamba,
            kv: kv.collect(),
            len: 0,
            context,
        }
    }

    /// Empties the cache without freeing memory.
    pub fn reset(&mut self, ops: &mut Ops<D>) {
        for state in &mut self.mamba {
            ops.clear(&mut state.conv);
            ops.clear(&mut state.ssm);
        }
        for kv in self.kv.iter_mut().flatten() {
            kv.len = 0;
        }
        self.len = 0;
    }

    /// Drops the keys and values from position `len` on. Conv and SSM states can't be truncated: the caller restores
    /// them from a state checkpoint at `len`.
    pub fn truncate(&mut self, len: usize) {
        for kv in self.kv.iter_mut().flatten() {
            kv.len = kv.len.min(len);
        }
        self.len = len;
    }

    /// Bytes of a cache for up to `context` tokens.
    pub fn bytes(config: &Config, context: usize, format: KvFormat) -> u64 {
        let kv = format.bytes(&config.attention_shape(), context);
        mamba_bytes(config) + kv * config.hybrid_blocks().len() as u64
    }
}

/// The initial states of all mixers.
pub fn empty_mamba<D: Device>(ops: &mut Ops<D>, config: &Config) -> Vec<MambaState<D>> {
    let states = (0..config.n_blocks()).map(|_| MambaState {
        conv: ops.tensor(config.d_conv - 1, config.conv_dim()), // [d_conv − 1, conv_dim]
        ssm: ops.tensor(config.d_inner, config.d_state),        // [H·P, N]
    });
    states.collect()
}

/// Bytes of the states of all mixers; independent of the number of tokens.
pub fn mamba_bytes(config: &Config) -> u64 {
    let numbers = (config.d_conv - 1) * config.conv_dim() + config.d_inner * config.d_state;
    4 * (config.n_blocks() * numbers) as u64
}
