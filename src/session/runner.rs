//! Forward passes: the prefill, block by block and in the parts that a cached prompt leaves, and decode steps over one
//! token. Also the calls without sampling: logits of every token, hidden states, and `append`. Choosing tokens is in
//! `sequence`.

use crate::base::error::{Error, Result};
use crate::model::forward::{ForwardPass, Progress};
use crate::ops::device::Device;
use crate::ops::trace::Level;
use crate::session::sequence::{DeviceState, Sequence};
use crate::session::{Session, not_started};
use crate::text::sampling::{check_finite, log_probability};

impl<B: Device> Session<B> {
    /// Starts a new sequence and returns the logits of every token, row-major. `[tokens, vocab]`
    ///
    /// # Errors
    /// As for [`Session::start`], with the old sequence kept; [`Error::NonFiniteLogits`]; the device's own failure.
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(tokens.len() * self.model.config.vocab_size);
        self.read_logits(tokens, |row| rows.extend_from_slice(row))
            .await?;
        Ok(rows)
    }

    /// The logprob of each token after the first, given those before it. Starts a new sequence.
    ///
    /// # Errors
    /// As for [`Session::logits`].
    pub async fn log_probabilities(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        let mut next = tokens.iter().skip(1);
        let mut all = Vec::with_capacity(tokens.len());
        self.read_logits(tokens, |row| {
            all.extend(next.next().map(|&token| log_probability(row, token)));
        })
        .await?;
        Ok(all)
    }

    /// Starts a new sequence and calls `take` with the logits of every token.
    async fn read_logits(&mut self, tokens: &[u32], mut take: impl FnMut(&[f32])) -> Result<()> {
        self.check_complete()?;
        self.check_prompt(tokens, 0)?;
        self.reset();
        self.begin_pass(0);
        let (ops, model) = (&mut self.ops, &self.model);
        let mut pass = ForwardPass::new(ops, model, &self.cache, tokens);
        pass.advance(ops, model, &mut self.cache, &mut self.scratch, usize::MAX);
        let vocab_size = model.config.vocab_size;
        let mut logits = ops.tensor(tokens.len().min(B::CHUNK_ROWS), vocab_size); // [T, vocab]
        for chunk in 0..pass.n_chunks() {
            pass.chunk_logits(ops, model, chunk, &mut self.scratch, &mut logits);
            for row in ops.read(&logits).await?.chunks(vocab_size) {
                check_finite(row)?;
                take(row);
            }
        }
        Ok(())
    }

    /// The residual stream after the embedding and after each block, to find the block where results differ.
    /// `[blocks + 1][tokens, h]`
    pub async fn hidden_states(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.check_complete()?;
        self.check_prompt(tokens, 0)?;
        self.reset();
        self.begin_pass(0);
        let (ops, model) = (&mut self.ops, &self.model);
        let mut pass = ForwardPass::new(ops, model, &self.cache, tokens);
        let mut states = Vec::new();
        loop {
            let mut state = Vec::new();
            for chunk in 0..pass.n_chunks() {
                state.extend(ops.read(pass.stream(chunk)).await?);
            }
            states.push(state);
            if states.len() > model.blocks.len() {
                return Ok(states);
            }
            pass.advance(ops, model, &mut self.cache, &mut self.scratch, 1);
        }
    }

    /// Appends `tokens` to the sequence and returns the logits after the last one. `[vocab]`
    ///
    /// # Errors
    /// Tokens that are refused, with the sequence kept; [`Error::NonFiniteLogits`]; the device's own failure.
    pub async fn append(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_complete()?;
        self.check_tokens(tokens)?;
        self.sync_to_history().await?;
        // The sampler and text of a generation do not include these tokens.
        self.sequence = None;
        self.begin_pass(1);
        if let [token] = tokens {
            self.encode_token(*token).await?;
        } else {
            let (ops, model) = (&mut self.ops, &self.model);
            let mut pass = ForwardPass::new(ops, model, &self.cache, tokens);
            pass.advance(ops, model, &mut self.cache, &mut self.scratch, usize::MAX);
            pass.last_logits(ops, model, &mut self.scratch);
        }
        let logits = self.ops.read(&self.scratch.logits).await?;
        check_finite(&logits)?;
        Ok(logits)
    }

    /// Runs at most `max_blocks` more blocks of the prefill.
    pub fn advance(&mut self, max_blocks: usize) -> Result<Progress> {
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let pass = match &mut sequence.device {
            DeviceState::Prefill { pass, end } if self.cache.len < *end => pass,
            _ => return Ok(Progress::Done),
        };
        let (ops, s) = (&mut self.ops, &mut self.scratch);
        Ok(pass.advance(ops, &self.model, &mut self.cache, s, max_blocks))
    }

    /// After [`Session::advance`]: waits for the device, if block times are not measured otherwise or if it is far
    /// behind.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn fence(&mut self) -> Result<()> {
        if self.waits_for_blocks() {
            return self.ops.fence().await;
        }
        self.ops.device_mut().ready().await;
        Ok(())
    }

    pub(super) fn begin_pass(&mut self, pass: usize) {
        self.set_pass(pass);
        if self.recording == Level::Off {
            self.ops.profiler().discard();
        }
    }

    /// Assigns what is encoded next to pass `pass`, and opens the spans that are to be measured of it.
    pub(super) fn set_pass(&mut self, pass: usize) {
        let every = self.block_times_every;
        // The first decode step, pass 1, is timed, so that short answers have block times too.
        let is_timed = every > 0 && pass > 0 && (pass - 1).is_multiple_of(every);
        let least = if is_timed { Level::Block } else { Level::Off };
        let profiler = self.ops.profiler();
        profiler.set_level(self.recording.max(least));
        profiler.set_pass(pass as u32);
    }

    /// Whether the current sequence can continue with `tokens`.
    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        self.check_room(tokens, self.cache.len, 0)
    }

    fn check_room(&self, tokens: &[u32], n_before: usize, n_after: usize) -> Result<()> {
        let vocab_size = self.model.config.vocab_size;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        let n_tokens = n_before.saturating_add(tokens.len());
        let n_tokens = n_tokens.saturating_add(n_after);
        if n_tokens > self.cache.context {
            return Err(Error::PromptTooLong {
                tokens: n_tokens,
                limit: self.cache.context,
            });
        }
        Ok(())
    }

    /// Whether a new sequence can begin with `tokens` and continue for `n_more`. Changes nothing.
    ///
    /// # Errors
    /// An empty prompt, a token outside the vocabulary, more tokens than the context holds.
    pub fn check_prompt(&self, tokens: &[u32], n_more: usize) -> Result<()> {
        self.check_room(tokens, 0, n_more)
    }

    /// Whether each block is fenced, because its time is not measured otherwise. That is slow, so only when recording.
    pub(super) fn waits_for_blocks(&self) -> bool {
        self.recording != Level::Off && !self.ops.times_spans()
    }

    /// How many blocks run before the next fence.
    pub(super) fn blocks_at_once(&self) -> usize {
        if self.waits_for_blocks() {
            1
        } else {
            usize::MAX
        }
    }

    /// Encodes the first `until` tokens of the history, as far as the cache lacks them, in the same passes as the first
    /// time: parts of the prompt at once, other tokens one by one. The scratch then has the logits after the last one.
    pub(super) async fn read_until(&mut self, until: usize) -> Result<()> {
        self.check_complete()?;
        self.finish_prefill().await?;
        while self.cache.len < until {
            if self.begin_prefill() {
                self.finish_prefill().await?;
                continue;
            }
            let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
            let token = sequence.history[self.cache.len];
            let pass = sequence.pass_after(self.cache.len + 1);
            self.begin_pass(pass);
            self.encode_token(token).await?;
            self.note_logits();
            if self.cache.len < until {
                self.wait().await?;
            }
        }
        Ok(())
    }

    /// Begins the pass over the part of the prompt that starts at the end of the cache, if there is one.
    pub(super) fn begin_prefill(&mut self) -> bool {
        let n_read = self.cache.len;
        let sequence = self.sequence.as_ref();
        let part =
            sequence.and_then(|s| s.prefills.iter().find(|part| part.start == n_read).cloned());
        let Some(part) = part else { return false };
        self.begin_pass(0);
        let Some(sequence) = &mut self.sequence else {
            return false;
        };
        let end = part.end;
        let tokens = &sequence.history[part];
        let pass = ForwardPass::new(&mut self.ops, &self.model, &self.cache, tokens);
        sequence.device = DeviceState::Prefill { pass, end };
        true
    }

    async fn finish_prefill(&mut self) -> Result<()> {
        while let Progress::Paused { .. } = self.advance(1)? {
            self.fence().await?;
        }
        self.fence().await?;
        let pass = self.sequence.as_mut().and_then(Sequence::take_prefill);
        if let Some(pass) = pass {
            pass.last_logits(&mut self.ops, &self.model, &mut self.scratch);
            self.note_logits();
        }
        Ok(())
    }

    /// Waits until the device has computed the last token.
    pub(super) async fn wait(&mut self) -> Result<()> {
        self.ops.read(&self.scratch.last).await.map(drop)
    }

    pub(super) fn note_logits(&mut self) {
        if let Some(sequence) = &mut self.sequence {
            sequence.device = DeviceState::LogitsReady;
        }
        self.keep_due_checkpoint();
    }

    /// Encodes one decode step over `token`, in memory that is reused from step to step.
    async fn encode_token(&mut self, token: u32) -> Result<()> {
        self.check_tokens(&[token])?;
        let (ops, model, cache) = (&mut self.ops, &self.model, &self.cache);
        self.decode_pass.restart(ops, model, cache, &[token]);
        let at_once = self.blocks_at_once();
        while let Progress::Paused { .. } = self.advance_step(at_once) {
            self.fence().await?;
        }
        self.fence().await?;
        self.encode_logits();
        Ok(())
    }

    /// Encodes one decode step over the token that the device has chosen, which the host does not have yet.
    pub(super) fn encode_chosen(&mut self, list: &B::Tensor) {
        let (ops, model, cache) = (&mut self.ops, &self.model, &self.cache);
        self.decode_pass.restart_chosen(ops, model, cache, list);
        self.advance_step(usize::MAX);
        self.encode_logits();
    }

    fn advance_step(&mut self, max_blocks: usize) -> Progress {
        let (ops, model, s) = (&mut self.ops, &self.model, &mut self.scratch);
        let pass = &mut self.decode_pass;
        pass.advance(ops, model, &mut self.cache, s, max_blocks)
    }

    fn encode_logits(&mut self) {
        let (ops, model, s) = (&mut self.ops, &self.model, &mut self.scratch);
        self.decode_pass.last_logits(ops, model, s);
    }
}
