//! The undo record of a pass over drafted tokens, which can be cut back to its first rows: the states before it, and
//! the input of each mixer's convolution and scan. Only these two have states that cannot be truncated, and replaying
//! them needs none of the matrices. The session decides which tokens are drafted and how many of them are kept.

use std::mem;

use crate::model::Zamba2;
use crate::model::cache::{Cache, MambaState, empty_mamba, mamba_bytes};
use crate::model::config::Config;
use crate::model::forward::Scratch;
use crate::model::mixer::MixerState;
use crate::ops::Ops;
use crate::ops::device::{Device, Tensor};

pub struct UndoRecord<D: Device> {
    /// The states before the pass, by block; before the first pass, memory for them.
    before: Vec<MambaState<D>>,
    /// The output of each block's `in_proj`. // [T, d_in_proj]
    zxbcdt: Vec<D::Tensor>,
}

impl<D: Device> UndoRecord<D> {
    pub fn new(ops: &mut Ops<D>, config: &Config, n_tokens: usize) -> Self {
        let inputs = (0..config.n_blocks()).map(|_| ops.tensor(n_tokens, config.d_in_proj()));
        UndoRecord {
            zxbcdt: inputs.collect(),
            before: empty_mamba(ops, config),
        }
    }

    /// Bytes of a record of `n_tokens`.
    pub fn bytes(config: &Config, n_tokens: usize) -> u64 {
        mamba_bytes(config) + 4 * (config.n_blocks() * n_tokens * config.d_in_proj()) as u64
    }

    /// The state of block `index` before the pass, once it was entered.
    pub fn before(&self, index: usize) -> &MambaState<D> {
        &self.before[index]
    }

    /// Called before block `index`: keeps its state and lets `in_proj` write into this record. The SSM state is not
    /// copied, because the scan continues from the kept one.
    pub fn enter(
        &mut self,
        ops: &mut Ops<D>,
        index: usize,
        state: &mut MambaState<D>,
        s: &mut Scratch<D>,
    ) {
        mem::swap(&mut self.before[index], state);
        ops.copy(&self.before[index].conv, &mut state.conv);
        mem::swap(&mut self.zxbcdt[index], &mut s.zxbcdt);
    }

    /// Called after block `index`.
    pub fn leave(&mut self, index: usize, s: &mut Scratch<D>) {
        mem::swap(&mut self.zxbcdt[index], &mut s.zxbcdt);
    }

    /// Restores the states of all blocks as after the first `n_rows` rows of the pass.
    pub fn keep_rows(
        &mut self,
        ops: &mut Ops<D>,
        model: &Zamba2<D>,
        (cache, dt_min): (&mut Cache<D>, f32),
        s: &mut Scratch<D>,
        n_rows: usize,
    ) {
        let blocks = model.blocks.iter().flatten();
        let states = cache.mamba.iter_mut().zip(&mut self.before);
        for ((block, zxbcdt), (state, before)) in blocks.zip(&mut self.zxbcdt).zip(states) {
            mem::swap(state, before);
            if n_rows > 0 {
                zxbcdt.truncate(n_rows);
                let state = MixerState {
                    state,
                    ssm_before: None,
                    dt_min,
                };
                (block.mixer).scan(ops, zxbcdt, state, &mut s.xbc, &mut s.y);
            }
        }
    }
}
