//! One conversation with one model: prompt → tokens → logits → tokens → text. It stands on floor 4 and owns the
//! backend, the model and its cache. The caller owns the loop: one call of [`Session::step`] makes one token, and not
//! calling it again is how generation stops.

mod ahead;
mod rewind;
mod snapshot;
mod thread_trial;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, KvFormat, ModelSizes};
use crate::clock::now_us;
use crate::error::{Error, Fact, Result};
use crate::loader::safetensors::Shard;
use crate::loader::schedule::LoadSchedule;
use crate::loader::{Rest, WeightStream};
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::forward::{ForwardPass, Progress, Scratch};
use crate::model::{NumericSettings, Zamba2};
use crate::ops::Ops;
use crate::ops::work::Work;
use crate::profile::{Level, Profile};
use crate::quant::WeightFormat;
use crate::sampling::{Sampler, SamplingOptions};
pub use crate::session::ahead::Lookahead;
use crate::session::ahead::{Lists, Outlook, Standings};
pub use crate::session::rewind::Kept;
use crate::session::rewind::Mark;
pub use crate::session::snapshot::Restored;
use crate::tokenizer::{StopStrings, TextStream, Tokenizer};

/// The context that is taken when none is asked for: as long as the model knows, up to this many tokens …
const DEFAULT_CONTEXT: usize = 2048;
/// … and as long as keys and values fit in this.
const DEFAULT_KV_BYTES: u64 = 256 << 20;

/// How a checkpoint is to be loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadSettings {
    pub weights: WeightFormat,
    /// Tokens that the cache has room for.
    pub context: Option<usize>,
    pub numeric: NumericSettings,
    /// Host memory for weights and cache: a model that needs more is refused before it is loaded. A device with memory
    /// of its own is not bound by it.
    pub memory_limit_bytes: Option<u64>,
}

/// Keys and values are no more exact than what they come from: exact weights get an exact cache, quantised ones a
/// quarter of its bytes (`docs/quantization.md` has the effect).
pub fn kv_format(weights: WeightFormat) -> KvFormat {
    match weights {
        WeightFormat::F32 => KvFormat::F32,
        WeightFormat::Q8 | WeightFormat::Q4 => KvFormat::I8,
    }
}

/// Tokens that a session of this model has room for, given what was asked for.
pub fn context_length(
    config: &Config,
    weights: WeightFormat,
    wanted: Option<usize>,
) -> Result<usize> {
    let limit = config.max_position_embeddings;
    if let Some(context) = wanted {
        if context == 0 || context > limit {
            return Err(Error::Setting {
                name: "context".into(),
                fact: Fact::new("context_range")
                    .with("value", context)
                    .with("limit", limit),
            });
        }
        return Ok(context);
    }
    let kv_bytes = kv_format(weights).bytes(&config.attention_shape(), 1)
        * config.hybrid_blocks().len().max(1) as u64;
    let fits = (DEFAULT_KV_BYTES / kv_bytes).max(64) as usize;
    Ok(limit.min(DEFAULT_CONTEXT).min(fits))
}

/// What to generate and when to stop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerateOptions {
    pub max_tokens: usize,
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    /// Generation ends before the first of these appears in the text.
    pub stop: Vec<String>,
    /// End this generation like the configuration's end tokens: a chat may end its turns with one that config.json
    /// doesn't name.
    pub end_tokens: Vec<u32>,
    pub ignore_eos: bool,
    /// How many of the most probable tokens each step tells; 0 spares the work.
    pub alternatives: usize,
    /// Keeps states on the way, so that [`Session::branch`] has less to read again.
    pub marks: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_tokens: 256,
            sampling: SamplingOptions::default(),
            stop: Vec::new(),
            end_tokens: Vec::new(),
            ignore_eos: false,
            alternatives: 0,
            marks: false,
        }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    Eos,
    Length,
    Stop,
    Context,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    pub token: u32,
    /// As people may read it by itself.
    pub text: String,
    /// Before penalty, temperature and filters.
    pub probability: f64,
}

/// Where a token stands among all that the model could have said, before penalty, temperature and filters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The token as people may read it by itself.
    pub text: String,
    /// 1 is the most probable.
    pub rank: usize,
    pub probability: f64,
    /// The most probable tokens, most probable first.
    pub alternatives: Vec<Alternative>,
}

/// One generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub token: u32,
    /// The text that has become certain with this token; it may be empty or cover several tokens.
    pub text: String,
    pub done: Option<StopReason>,
    /// The token's share of the distribution that it was drawn from; of one that was put in its place, the plain one.
    pub probability: f64,
    /// If alternatives were asked for.
    pub standing: Option<Standing>,
    /// Tokens that are read together share their time evenly.
    pub us: f64,
    /// Time per block; empty for the first token, whose logits are the prefill's, and for one whose logits were kept.
    pub blocks_us: Vec<f32>,
}

/// What one generation remembers beside the cache.
struct Run<B: Backend> {
    /// The prompt's pass, until its logits are read.
    prefill: Option<ForwardPass<B>>,
    options: GenerateOptions,
    sampler: Sampler,
    text: TextStream,
    stops: StopStrings,
    /// The prompt and the generated tokens. The cache has read a beginning of them: all but the last one as a rule, and
    /// fewer after going back. It has read all and more where tokens are `ahead`.
    history: Vec<u32>,
    n_prompt: usize,
    finished: bool,
    /// What the next step gives instead of what it draws.
    forced: Option<u32>,
    /// Whether the logits in the scratch are what follows the last token that was read, and nothing was chosen from them.
    is_predicted: bool,
    /// What has been read for tokens that have not been given yet.
    ahead: VecDeque<Outlook>,
    /// How many tokens the next reading may be for, at the speed of those before.
    burst: usize,
    marks: Vec<Mark<B>>,
}

/// A model, whose weights may still be arriving, and its one sequence.
pub struct Session<B: Backend> {
    be: Ops<B>,
    model: Zamba2<B>,
    stream: WeightStream<B>,
    cache: Cache<B>,
    scratch: Scratch<B>,
    tokenizer: Option<Tokenizer>,
    decode_pass: ForwardPass<B>,
    lookahead: Lookahead,
    /// Made when they are first needed.
    lists: Option<Lists<B>>,
    run: Option<Run<B>>,
    recording: Level,
    kv_format: KvFormat,
    /// Made when it is first asked for.
    fingerprint: Option<String>,
}

impl<B: Backend> Session<B> {
    /// Plans the load. Nothing of the weights is needed yet, only the shards' headers.
    ///
    /// # Errors
    /// A tensor that is missing or does not fit the configuration; too little memory.
    pub fn open(
        be: B,
        config: Config,
        shards: &[Shard],
        tokenizer: Option<Tokenizer>,
        settings: LoadSettings,
    ) -> Result<Self> {
        let mut be = Ops::new(be);
        let schedule = LoadSchedule::new(&config, shards, settings.weights)?;
        let context = context_length(&config, settings.weights, settings.context)?;
        let kv_format = kv_format(settings.weights);
        let needed_bytes = schedule.weights_bytes + Cache::<B>::bytes(&config, context, kv_format);
        if let Some(limit_bytes) = settings
            .memory_limit_bytes
            .filter(|&limit| B::USES_HOST_MEMORY && needed_bytes > limit)
        {
            return Err(Error::Memory {
                needed_bytes,
                limit_bytes,
            });
        }
        be.check_sizes(&ModelSizes {
            attention: config.attention_shape(),
            d_state: config.d_state,
            context,
            kv_format,
        })?;
        let plan = Arc::clone(&schedule.plan);
        let model = Zamba2::empty(&mut be, config, settings.numeric, plan);
        Ok(Session {
            cache: Cache::new(&mut be, &model.config, context, kv_format),
            scratch: Scratch::new(&mut be, &model.config),
            decode_pass: ForwardPass::with_room(&mut be, &model.config, 1),
            lookahead: Lookahead::of::<B>(),
            lists: None,
            stream: WeightStream::new(schedule, settings.weights),
            be,
            model,
            tokenizer,
            run: None,
            recording: Level::Off,
            kv_format,
            fingerprint: None,
        })
    }

    pub fn schedule(&self) -> &LoadSchedule {
        self.stream.schedule()
    }

    /// Takes the next bytes of the schedule's ranges, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.push(&mut self.be, &mut self.model, bytes)?;
        self.be.check()
    }

    /// Takes the next bytes in the form that [`Session::take_stored`] gave.
    pub fn push_stored(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .push_stored(&mut self.be, &mut self.model, bytes)?;
        self.be.check()
    }

    /// Wants what comes from the checkpoint back in its stored form.
    pub fn keep_stored(&mut self) {
        self.stream.keep_stored();
    }

    /// The stored form of what has come from the checkpoint since the last call.
    pub fn take_stored(&mut self) -> Vec<u8> {
        self.stream.take_stored()
    }

    /// Drops a row that has not come whole; what is missing of the unit that is arriving.
    pub fn rest(&mut self) -> Option<Rest> {
        self.stream.rest()
    }

    /// The error for weights that have not all come.
    pub fn check_complete(&self) -> Result<()> {
        self.stream.finish()
    }

    /// Waits until the device has everything that was pushed.
    ///
    /// # Errors
    /// What failed on the way: a device that has no room left tells late.
    pub async fn check_device(&mut self) -> Result<()> {
        self.be.read(&self.scratch.last).await.map(drop)
    }

    pub fn config(&self) -> &Config {
        &self.model.config
    }

    pub fn context(&self) -> usize {
        self.cache.context
    }

    /// Tokens of the sequence read so far; the device may have read ahead of it.
    pub fn len(&self) -> usize {
        let run = self.run.as_ref().filter(|_| self.is_ahead());
        run.map_or(self.cache.len, |run| run.history.len() - 1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn backend(&self) -> &B {
        self.be.device()
    }

    pub fn backend_mut(&mut self) -> &mut B {
        self.be.device_mut()
    }

    /// For a test of the device; the model's own tensors are out of its reach.
    pub fn ops_mut(&mut self) -> &mut Ops<B> {
        &mut self.be
    }

    /// How keys and values are really kept; as asked for where no block has any.
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

    /// The tokenizer, or the error for a checkpoint that came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| Error::MissingFile {
            file: "tokenizer.json".into(),
        })
    }

    /// Forgets the sequence.
    pub fn reset(&mut self) {
        self.run = None;
        self.cache.reset(&mut self.be);
    }

    /// How much [`Session::take_profile`] will have. Block times are always measured; they cost two readings of the
    /// clock per block.
    pub fn set_recording(&mut self, level: Level) {
        // Ops have no times where each block has to be waited for.
        let most = if self.be.times_spans() {
            Level::Module
        } else {
            Level::Block
        };
        self.recording = level.min(most);
        self.be.profiler().discard();
    }

    /// The spans since the last call, if recording is on.
    pub fn take_profile(&mut self) -> Profile {
        self.be.profiler().take()
    }

    fn begin_pass(&mut self, pass: usize) {
        let level = self.recording.max(Level::Block);
        let profiler = self.be.profiler();
        profiler.set_level(level);
        profiler.set_pass(pass as u32);
        if self.recording == Level::Off {
            profiler.discard();
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.model.config.vocab_size;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        if self.cache.len + tokens.len() > self.cache.context {
            return Err(Error::PromptTooLong {
                tokens: self.cache.len + tokens.len(),
                limit: self.cache.context,
            });
        }
        Ok(())
    }

    /// Checks `tokens` as the beginning of a new sequence, and leaves the present one.
    fn check_new_sequence(&mut self, tokens: &[u32]) -> Result<()> {
        let kept = std::mem::replace(&mut self.cache.len, 0);
        let checked = self.check_tokens(tokens);
        self.cache.len = kept;
        checked
    }

    /// Begins a new sequence with `prompt`; the embedding must have arrived. The blocks run in [`Session::advance`], as far
    /// as they are there.
    ///
    /// # Errors
    /// An empty or too long prompt, a token outside the vocabulary, an option out of range. The old sequence is gone
    /// only when there is no error.
    pub fn start(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<()> {
        self.check_new_sequence(prompt)?;
        if options.max_tokens == 0 {
            return Err(Error::Setting {
                name: "max_tokens".into(),
                fact: Fact::new("no_tokens"),
            });
        }
        let sampler = Sampler::new(options.sampling.clone())?;
        let stops = StopStrings::new(options.stop.clone())?;
        if self.model.embed_tokens.is_none() {
            return Err(Error::Sequence {
                fact: Fact::new("no_embedding"),
            });
        }
        self.reset();
        self.begin_pass(0);
        let prefill = ForwardPass::new(&mut self.be, &self.model, &self.cache, prompt);
        self.run = Some(Run {
            prefill: Some(prefill),
            options,
            sampler,
            text: TextStream::new(),
            stops,
            history: prompt.to_vec(),
            n_prompt: prompt.len(),
            finished: false,
            forced: None,
            is_predicted: false,
            ahead: VecDeque::new(),
            burst: 1,
            marks: Vec::new(),
        });
        Ok(())
    }

    /// Takes the prompt through at most `max_blocks` more blocks.
    pub fn advance(&mut self, max_blocks: usize) -> Result<Progress> {
        let run = self.run.as_mut().ok_or_else(not_started)?;
        let Some(pass) = run.prefill.as_mut().filter(|_| self.cache.len == 0) else {
            return Ok(Progress::Done);
        };
        let (be, s) = (&mut self.be, &mut self.scratch);
        Ok(pass.advance(be, &self.model, &mut self.cache, s, max_blocks))
    }

    /// Whether each block is waited for, because nothing else tells its time. It costs more than a record that nobody wants.
    pub(crate) fn waits_for_blocks(&self) -> bool {
        self.recording != Level::Off && !self.be.times_spans()
    }

    /// After [`Session::advance`]: gives the last block its time, where nothing else does.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn fence(&mut self) -> Result<()> {
        if self.waits_for_blocks() {
            self.be.fence().await?;
        }
        Ok(())
    }

    /// How many blocks run before the next wait.
    fn blocks_at_once(&self) -> usize {
        if self.waits_for_blocks() {
            1
        } else {
            usize::MAX
        }
    }

    /// Makes the next token: from the prefill's logits the first time, with one pass over the last token afterwards.
    pub async fn step(&mut self) -> Result<Step> {
        let start_us = now_us();
        self.check_complete()?;
        let run = self.run.as_ref().ok_or_else(not_started)?;
        if run.finished {
            return Err(Error::Sequence {
                fact: Fact::new("generation_ended"),
            });
        }
        let read_from_us = now_us();
        let outlook = self.next_outlook().await?;
        let others_us = now_us() - read_from_us - outlook.us;

        let run = self.run.as_mut().ok_or_else(not_started)?;
        let span = self.be.profiler().open_op(self.model.plan.sampling);
        let drawn = run.draw(outlook.told);
        self.be.profiler().close(span, Work::default);
        if drawn.is_err() {
            // They were chosen after a fault.
            run.ahead.clear();
        }
        let (sampled, standings) = drawn?;
        let standing = standings
            .map(|standings| standing(self.tokenizer.as_ref(), standings, sampled.token))
            .transpose()?;
        run.history.push(sampled.token);
        let generated = run.generated();
        let mut end_tokens =
            (self.model.config.eos_token_ids.iter()).chain(&run.options.end_tokens);
        let is_eos = end_tokens.any(|&token| token == sampled.token);
        let ended_by_eos = is_eos && !run.options.ignore_eos;
        let mut text = String::new();
        let mut done = None;
        if let (Some(tokenizer), false) = (&self.tokenizer, ended_by_eos) {
            let (piece, stopped) = run.stops.push(&run.text.push(tokenizer, sampled.token)?);
            text = piece;
            done = stopped.then_some(StopReason::Stop);
        }
        if done.is_none() {
            done = match () {
                () if ended_by_eos => Some(StopReason::Eos),
                () if generated >= run.options.max_tokens => Some(StopReason::Length),
                () if run.history.len() > self.cache.context => Some(StopReason::Context),
                () => None,
            };
            if done.is_some() {
                let (piece, stopped) = run.stops.push(&run.text.finish());
                text.push_str(&piece);
                if stopped {
                    done = Some(StopReason::Stop);
                } else {
                    text.push_str(&run.stops.finish());
                }
            }
        }
        run.finished = done.is_some();
        Ok(Step {
            token: sampled.token,
            text,
            done,
            probability: sampled.probability,
            standing,
            us: now_us() - start_us - others_us,
            blocks_us: outlook.blocks_us,
        })
    }

    /// Reads the first `until` tokens of the run, as far as that has not been done: the prompt at once, then one token
    /// after the other. The scratch then has the logits that follow, as soon as the device is there.
    async fn read_until(&mut self, until: usize) -> Result<()> {
        self.check_complete()?;
        let at_once = self.blocks_at_once();
        while let Progress::Paused { .. } = self.advance(at_once)? {
            self.fence().await?;
        }
        self.fence().await?;
        if let Some(pass) = self.run.as_mut().and_then(|run| run.prefill.take()) {
            pass.last_logits(&mut self.be, &self.model, &mut self.scratch);
            self.note_logits();
        }
        while self.cache.len < until {
            let run = self.run.as_ref().ok_or_else(not_started)?;
            let token = run.history[self.cache.len];
            self.begin_pass(self.cache.len + 1 - run.n_prompt);
            self.encode_token(token).await?;
            self.note_logits();
            if self.cache.len < until {
                self.wait().await?;
            }
        }
        Ok(())
    }

    /// Waits until the last token has been read.
    async fn wait(&mut self) -> Result<()> {
        self.be.read(&self.scratch.last).await.map(drop)
    }

    fn note_logits(&mut self) {
        if let Some(run) = &mut self.run {
            run.is_predicted = true;
        }
        self.mark();
    }

    /// Starts a new sequence and gives the logits of every token, row-major. `[tokens, vocab]`
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_complete()?;
        self.check_new_sequence(tokens)?;
        self.reset();
        self.begin_pass(0);
        let (be, model) = (&mut self.be, &self.model);
        let mut pass = ForwardPass::new(be, model, &self.cache, tokens);
        pass.advance(be, model, &mut self.cache, &mut self.scratch, usize::MAX);
        let mut rows = Vec::with_capacity(tokens.len() * model.config.vocab_size);
        for chunk in 0..pass.n_chunks() {
            pass.chunk_logits(be, model, chunk, &mut self.scratch);
            rows.extend(be.read(&self.scratch.logits).await?);
        }
        Ok(rows)
    }

    /// The residual stream after the embedding and after each block, for finding the block at fault.
    /// `[blocks + 1][tokens, h]`
    pub async fn hidden_states(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.check_complete()?;
        self.check_new_sequence(tokens)?;
        self.reset();
        self.begin_pass(0);
        let (be, model) = (&mut self.be, &self.model);
        let mut pass = ForwardPass::new(be, model, &self.cache, tokens);
        let mut states = Vec::new();
        loop {
            let mut state = Vec::new();
            for chunk in 0..pass.n_chunks() {
                state.extend(be.read(pass.stream(chunk)).await?);
            }
            states.push(state);
            if states.len() > model.blocks.len() {
                return Ok(states);
            }
            pass.advance(be, model, &mut self.cache, &mut self.scratch, 1);
        }
    }

    /// Appends `tokens` to the sequence and gives the logits that follow the last one. `[vocab]`
    pub async fn extend(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_complete()?;
        self.check_tokens(tokens)?;
        self.settle().await?;
        // A generation knows nothing of these tokens.
        self.run = None;
        self.begin_pass(1);
        if let [token] = tokens {
            self.encode_token(*token).await?;
            return self.be.read(&self.scratch.logits).await;
        }
        let (be, model) = (&mut self.be, &self.model);
        let mut pass = ForwardPass::new(be, model, &self.cache, tokens);
        pass.advance(be, model, &mut self.cache, &mut self.scratch, usize::MAX);
        pass.last_logits(be, model, &mut self.scratch);
        be.read(&self.scratch.logits).await
    }

    /// Encodes one cached step over `token`, in memory that is kept from step to step.
    async fn encode_token(&mut self, token: u32) -> Result<()> {
        self.check_tokens(&[token])?;
        let (be, model, cache) = (&mut self.be, &self.model, &self.cache);
        self.decode_pass.restart(be, model, cache, &[token]);
        let at_once = self.blocks_at_once();
        while let Progress::Paused { .. } = self.advance_step(at_once) {
            self.fence().await?;
        }
        self.fence().await?;
        self.encode_logits();
        Ok(())
    }

    /// Encodes one cached step over the first token of row `row` of `lists`, which the host does not know yet.
    fn encode_chosen(&mut self, lists: &B::Tensor, row: usize) {
        let (be, model, cache) = (&mut self.be, &self.model, &self.cache);
        self.decode_pass
            .restart_chosen(be, model, cache, lists, row);
        self.advance_step(usize::MAX);
        self.encode_logits();
    }

    fn advance_step(&mut self, max_blocks: usize) -> Progress {
        let (be, model, s) = (&mut self.be, &self.model, &mut self.scratch);
        let pass = &mut self.decode_pass;
        pass.advance(be, model, &mut self.cache, s, max_blocks)
    }

    fn encode_logits(&mut self) {
        let (be, model, s) = (&mut self.be, &self.model, &mut self.scratch);
        self.decode_pass.last_logits(be, model, s);
    }
}

fn standing(
    tokenizer: Option<&Tokenizer>,
    (top, rank, probability): Standings,
    chosen: u32,
) -> Result<Standing> {
    let text = |token| tokenizer.map_or(Ok(String::new()), |tokenizer| tokenizer.token_text(token));
    let alternatives = top.iter().map(|ranked| {
        Ok(Alternative {
            token: ranked.token,
            text: text(ranked.token)?,
            probability: ranked.probability,
        })
    });
    Ok(Standing {
        text: text(chosen)?,
        rank,
        probability,
        alternatives: alternatives.collect::<Result<_>>()?,
    })
}

fn not_started() -> Error {
    Error::Sequence {
        fact: Fact::new("not_started"),
    }
}

/// The index of the largest logit; the lowest one of several.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}
