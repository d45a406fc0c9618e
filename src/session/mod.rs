//! One model with one sequence: prompt -> tokens -> logits -> tokens -> text. The caller owns the loop: one call of
//! [`Session::step`] generates one token, and generation stops when it is not called again.

mod ablate;
mod draft_pass;
mod inspect;
#[cfg(not(target_os = "wasi"))]
mod kernel_trial;
mod load;
#[cfg(not(target_arch = "wasm32"))]
pub mod lockstep;
mod lookup;
mod prompt_cache;
mod rewind;
mod runner;
mod separate_pass;
mod sequence;
mod snapshot;
mod state_checkpoints;
mod steps_in_flight;
mod thread_trial;
mod token_readback;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::{Error, Fact, Result};
use crate::loader::WeightStream;
use crate::model::Zamba2;
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::forward::{ForwardPass, Scratch};
use crate::ops::Ops;
use crate::ops::device::{Device, KvFormat};
use crate::ops::trace::{Level, Profile};
pub use crate::session::ablate::{
    AblatedPart, Ablation, AblationEffect, MAX_ABLATED_TOKENS, Prediction, PredictionLengths,
};
use crate::session::draft_pass::DraftBuffers;
pub use crate::session::draft_pass::NoDrafts;
pub use crate::session::inspect::{InspectOptions, Inspection, MAX_TOP_K, Visit};
#[cfg(not(target_os = "wasi"))]
pub use crate::session::kernel_trial::TRIAL_US;
pub use crate::session::load::{
    DEFAULT_KV_BYTES, LoadSettings, WASM_MEMORY_LIMIT_BYTES, context_length, kv_format,
};
pub use crate::session::lookup::DraftPolicy;
use crate::session::lookup::PassCost;
pub use crate::session::rewind::KeptPrefix;
use crate::session::sequence::Sequence;
pub use crate::session::sequence::{Alternative, RankedToken, Step, TokenRank};
pub use crate::session::snapshot::{RestoredSequence, snapshot_note};
pub use crate::session::steps_in_flight::Lookahead;
use crate::session::token_readback::{PenaltyBuffers, TopList};
pub use crate::text::sampling::argmax;
use crate::text::sampling::{LOOKUP, MAX_TOKENS, NumberOption, Sampler, SamplingOptions};
use crate::text::stop_strings::StopStrings;
use crate::text::tokenizer::Tokenizer;

/// What to generate and when to stop. Absent fields take their defaults. The docs of these fields are also those of the
/// JS module's type, which `tests/sampling_options.rs` generates.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct GenerateOptions {
    pub max_tokens: usize,
    pub lookup: usize,
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// In addition to the configuration's end tokens: a chat may end its turns with a token that config.json does not
    /// name.
    pub end_tokens: Vec<u32>,
    /// Continues past an end-of-text token.
    pub ignore_eos: bool,
    /// A JSON schema that the text follows: an object, or `true` for any JSON. A complete text ends with an end token,
    /// even with `ignore_eos`; `max_tokens`, `stop` and the context may end it before (docs/structured_output.md).
    pub json_schema: Option<Value>,
    /// A grammar that the text follows, in the Lark syntax of llguidance; not together with `json_schema`.
    pub grammar: Option<String>,
    /// How many of the most probable tokens each step lists; 0 avoids the work.
    pub alternatives: usize,
    /// Keeps state checkpoints every 32 tokens of the answer, too, so that `branch` has less to replay. All checkpoints
    /// together take at most 192 MB.
    pub checkpoints: bool,
    /// Reuses the state of the longest prefix that the prompt shares with the previous prompt and answer, as far as the
    /// current state or a state checkpoint covers it. With false the whole prompt is prefilled, and its logits are bit
    /// for bit those of a new model.
    pub cache_prompt: bool,
    /// Prefills answers within a cached prompt again, so that the text equals that of a prefill of the whole prompt.
    /// With false the prompt continues from the state of the decode steps, where the reference does not clamp dt; the
    /// logits of a long conversation then differ slightly (docs/conversations.md).
    pub reread_answers: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_tokens: MAX_TOKENS.default as usize,
            lookup: LOOKUP.default as usize,
            sampling: SamplingOptions::default(),
            stop: Vec::new(),
            end_tokens: Vec::new(),
            ignore_eos: false,
            json_schema: None,
            grammar: None,
            alternatives: 0,
            checkpoints: false,
            cache_prompt: true,
            reread_answers: false,
        }
    }
}

impl GenerateOptions {
    /// Sets an option of [`NUMBER_OPTIONS`](crate::text::sampling::NUMBER_OPTIONS).
    ///
    /// # Errors
    /// [`Error::Setting`] for a value out of range.
    pub fn set(&mut self, option: &NumberOption, value: f64) -> Result<()> {
        option.check(value)?;
        match option.name {
            name if name == MAX_TOKENS.name => self.max_tokens = value as usize,
            name if name == LOOKUP.name => self.lookup = value as usize,
            name => self.sampling.set(name, value),
        }
        Ok(())
    }

    /// Whether the text follows a schema or a grammar: each step must then get the tokens that it allows.
    fn is_constrained(&self) -> bool {
        self.json_schema.is_some() || self.grammar.is_some()
    }

    /// Whether anything may rewind to a state checkpoint.
    fn keeps_checkpoints(&self) -> bool {
        self.cache_prompt || self.checkpoints
    }

    /// A sampler and stop strings in their initial states.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first option that is out of range.
    fn checked(&self) -> Result<(Sampler, StopStrings)> {
        MAX_TOKENS.check(self.max_tokens as f64)?;
        LOOKUP.check(self.lookup as f64)?;
        let sampler = Sampler::new(self.sampling.clone())?;
        Ok((sampler, StopStrings::new(self.stop.clone())?))
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    Eos,
    Length,
    Stop,
    Context,
}

/// A model, whose weights may still be loading, and its one sequence.
pub struct Session<B: Device> {
    ops: Ops<B>,
    model: Zamba2<B>,
    stream: WeightStream<B>,
    cache: Cache<B>,
    scratch: Scratch<B>,
    tokenizer: Option<Tokenizer>,
    decode_pass: ForwardPass<B>,
    lookahead: Lookahead,
    /// Allocated on first use.
    top_list: Option<TopList<B>>,
    penalty: Option<PenaltyBuffers<B>>,
    draft_buffers: Option<DraftBuffers<B>>,
    /// Whether the buffers for drafts fit into memory.
    drafts_fit: bool,
    draft_policy: DraftPolicy,
    pass_cost: PassCost,
    sequence: Option<Sequence<B>>,
    checkpoints_limit_bytes: u64,
    recording: Level,
    /// Without recording, the blocks of every n-th decode step are timed; 0: never.
    block_times_every: usize,
    kv_format: KvFormat,
    /// Computed on first use.
    fingerprint: Option<String>,
}

impl<B: Device> Session<B> {
    pub fn config(&self) -> &Config {
        &self.model.config
    }

    pub fn context(&self) -> usize {
        self.cache.context
    }

    /// Rows of a prompt that are processed together.
    pub fn chunk_rows(&self) -> usize {
        B::CHUNK_ROWS
    }

    /// Tokens of the sequence in the cache, without those of steps that the device has computed ahead.
    pub fn len(&self) -> usize {
        let sequence = self.sequence.as_ref().filter(|_| self.is_ahead());
        sequence.map_or(self.cache.len, |sequence| sequence.history.len() - 1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn backend(&self) -> &B {
        self.ops.device()
    }

    pub fn backend_mut(&mut self) -> &mut B {
        self.ops.device_mut()
    }

    /// For self-tests of the device; gives no access to the model's tensors.
    pub fn ops_mut(&mut self) -> &mut Ops<B> {
        &mut self.ops
    }

    /// The actual format of the KV cache, which may be more exact than the requested one.
    pub fn kv_format(&self) -> KvFormat {
        let mut caches = self.cache.kv.iter().flatten();
        caches.next().map_or(self.kv_format, |kv| kv.format)
    }

    pub fn weights_bytes(&self) -> u64 {
        self.schedule().weights_bytes
    }

    pub fn cache_bytes(&self) -> u64 {
        Cache::<B>::bytes(&self.model.config, self.cache.context, self.kv_format)
    }

    /// The tokenizer, or the error for a checkpoint without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| Error::MissingFile {
            file: "tokenizer.json".into(),
        })
    }

    /// Drops the sequence.
    pub fn reset(&mut self) {
        self.sequence = None;
        self.cache.reset(&mut self.ops);
    }

    /// Without recording, measures block times in every n-th decode step; never if `every` is 0. By default a device
    /// that times blocks without extra cost measures each step.
    pub fn set_block_times(&mut self, every: usize) {
        self.block_times_every = every;
    }

    /// Sets the level of [`Session::take_profile`].
    pub fn set_recording(&mut self, level: Level) {
        // Ops have no times if blocks are timed by fences.
        let most = if self.ops.times_spans() {
            Level::Module
        } else {
            Level::Block
        };
        self.recording = level.min(most);
        self.ops.profiler().discard();
    }

    /// The spans since the last call, if recording is on.
    pub fn take_profile(&mut self) -> Profile {
        self.ops.profiler().take()
    }
}

fn not_started() -> Error {
    Error::Sequence {
        fact: Fact::new("not_started"),
    }
}
