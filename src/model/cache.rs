//! What a sequence remembers: a constant-size state per mixer and a key/value cache per hybrid block. It stands on
//! floor 2. Weights may be shared between blocks; caches never are.

use crate::backend::{Backend, KvCache, KvFormat};
use crate::model::config::{BlockKind, Config};

pub struct MambaState<B: Backend> {
    /// The last inputs of the convolution, oldest first; zeros before the first token.
    pub conv: B::Tensor, // [d_conv − 1, conv_dim]
    /// f32 whatever the weights are, as in the reference.
    pub ssm: B::Tensor, // [H·P, N]
}

pub struct Cache<B: Backend> {
    pub mamba: Vec<MambaState<B>>,
    /// One per block; `None` for a plain one.
    pub kv: Vec<Option<KvCache<B>>>,
    /// Tokens read so far.
    pub len: usize,
    pub context: usize,
}

impl<B: Backend> Cache<B> {
    /// An empty cache with room for `context` tokens, allocated whole: a token allocates nothing.
    pub fn new(be: &mut B, config: &Config, context: usize, format: KvFormat) -> Self {
        let mamba = empty_mamba(be, config);
        let kv = (config.kinds.iter())
            .map(|kind| {
                (*kind == BlockKind::Hybrid).then(|| KvCache {
                    rows: be.kv_rows(&config.attention_shape(), context, format),
                    len: 0,
                })
            })
            .collect();
        Cache {
            mamba,
            kv,
            len: 0,
            context,
        }
    }

    /// Forgets the sequence and keeps the memory.
    pub fn reset(&mut self, be: &mut B) {
        for state in &mut self.mamba {
            be.clear(&mut state.conv);
            be.clear(&mut state.ssm);
        }
        for kv in self.kv.iter_mut().flatten() {
            kv.len = 0;
        }
        self.len = 0;
    }

    /// Forgets the keys and values from position `len` on. The mixers' states have no positions: the caller puts back
    /// those of that time.
    pub fn truncate(&mut self, len: usize) {
        for kv in self.kv.iter_mut().flatten() {
            kv.len = kv.len.min(len);
        }
        self.len = len;
    }

    /// Bytes of a cache with room for `context` tokens.
    pub fn bytes(config: &Config, context: usize, format: KvFormat) -> u64 {
        let kv = format.bytes(&config.attention_shape(), context);
        mamba_bytes(config) + kv * config.hybrid_blocks().len() as u64
    }
}

/// The states of all mixers before the first token.
pub fn empty_mamba<B: Backend>(be: &mut B, config: &Config) -> Vec<MambaState<B>> {
    let states = (0..config.n_blocks()).map(|_| MambaState {
        conv: be.tensor(config.d_conv - 1, config.conv_dim()),
        ssm: be.tensor(config.d_inner, config.d_state),
    });
    states.collect()
}

/// Bytes of the states of all mixers, whatever the number of tokens.
pub fn mamba_bytes(config: &Config) -> u64 {
    let numbers = (config.d_conv - 1) * config.conv_dim() + config.d_inner * config.d_state;
    4 * (config.n_blocks() * numbers) as u64
}
