//! Shared by inspections and ablations: passes with their own cache and buffers, progress, checks of options.

use crate::base::error::{Error, Fact, Result};
use crate::model::Zamba2;
use crate::model::cache::Cache;
use crate::model::forward::{BlockPart, ForwardPass, Progress, Scratch};
use crate::ops::Ops;
use crate::ops::device::{Device, KvFormat};

/// A pass with its own cache and buffers.
pub struct SeparatePass<B: Device> {
    pub pass: ForwardPass<B>,
    pub cache: Cache<B>,
    pub scratch: Scratch<B>,
}

impl<B: Device> SeparatePass<B> {
    /// A pass over `tokens`, with a cache for `room` of them.
    pub fn new(
        ops: &mut Ops<B>,
        model: &Zamba2<B>,
        kv_format: KvFormat,
        tokens: &[u32],
        room: usize,
    ) -> Self {
        let cache = Cache::new(ops, &model.config, room, kv_format);
        SeparatePass {
            pass: ForwardPass::new(ops, model, &cache, tokens),
            cache,
            scratch: Scratch::new(ops, &model.config),
        }
    }

    pub fn run_chunk(
        &mut self,
        ops: &mut Ops<B>,
        model: &Zamba2<B>,
        chunk: usize,
        part: BlockPart,
    ) {
        let (cache, scratch) = (&mut self.cache, &mut self.scratch);
        self.pass.run_chunk(ops, model, cache, scratch, chunk, part);
    }

    pub fn advance(&mut self, ops: &mut Ops<B>, model: &Zamba2<B>, max_blocks: usize) -> Progress {
        let (cache, scratch) = (&mut self.cache, &mut self.scratch);
        self.pass.advance(ops, model, cache, scratch, max_blocks)
    }
}

/// Progress of a call: reports the number of steps done and the total to the caller.
pub struct Steps<F> {
    done: usize,
    of: usize,
    on_step: F,
}

impl<F: AsyncFnMut(usize, usize) -> bool> Steps<F> {
    pub fn new(of: usize, on_step: F) -> Self {
        Steps {
            done: 0,
            of,
            on_step,
        }
    }

    /// Reports one more step; false if the caller cancels.
    pub async fn next(&mut self) -> bool {
        self.done += 1;
        (self.on_step)(self.done, self.of).await
    }
}

pub fn check_range(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting {
        name: name.into(),
        fact: Fact::new("not_whole_range")
            .with("value", value)
            .with("least", least)
            .with("most", most),
    })
}

pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest
        + values
            .map(|value| (value - largest).exp())
            .sum::<f64>()
            .ln()
}
