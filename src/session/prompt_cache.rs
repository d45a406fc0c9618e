//! Starting a sequence, and the prompt cache: a new prompt reuses the current state if it continues the sequence, or
//! else the nearest state checkpoint before the first token that differs. Only the rest of the prompt is prefilled.
//!
//! A state that decode steps have computed differs in its last bits from that of a prefill over the same tokens, and
//! the reference clamps dt in one and not in the other. `docs/conversations.md` describes the effect.

use crate::base::error::{Error, Fact, Result};
use crate::ops::device::Device;
use crate::session::lookup::Evidence;
use crate::session::sequence::{DeviceState, NextToken, Sequence};
use crate::session::state_checkpoints::Kind;
use crate::session::steps_in_flight::StepClock;
use crate::session::{GenerateOptions, Session};
use crate::text::stream::TextStream;

/// The state that a new prompt starts from.
enum Reuse {
    /// The state after all tokens of the cache.
    State,
    /// The checkpoint at this index.
    Checkpoint(usize),
    Nothing,
}

impl<B: Device> Session<B> {
    /// Starts a new sequence with `prompt`; the embedding must be loaded. The blocks run in [`Session::advance`], as
    /// far as they are loaded. Returns how many tokens of the prompt are cached, because the previous sequence begins
    /// with them; 0 without [`GenerateOptions::cache_prompt`].
    ///
    /// # Errors
    /// An empty or too long prompt, a token outside the vocabulary, an option out of range. The old sequence is kept if
    /// there is an error.
    pub fn start(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<usize> {
        self.check_prompt(prompt, 0)?;
        let (sampler, stops) = options.checked()?;
        if self.model.embed_tokens.is_none() {
            return Err(Error::Sequence {
                fact: Fact::new("no_embedding"),
            });
        }
        self.cut_back_drafts();
        let reuse = match options.cache_prompt {
            true => self.reusable(prompt, options.reread_answers),
            false => Reuse::Nothing,
        };
        let mut sequence = Sequence {
            options,
            sampler,
            text: TextStream::new(),
            stops,
            history: prompt.to_vec(),
            n_prompt: prompt.len(),
            prefills: Vec::new(),
            next: NextToken::Sampled,
            device: DeviceState::nothing_pending(),
            clock: StepClock::default(),
            evidence: Evidence::default(),
            drafts: None,
            returned_us: None,
            checkpoints: Vec::new(),
            rolling_tried: 0,
        };
        match reuse {
            Reuse::Nothing => self.reset(),
            Reuse::State => {}
            Reuse::Checkpoint(index) => self.restore_checkpoint(index),
        }
        let n_cached = self.cache.len;
        if let Some(before) = self.sequence.take() {
            sequence.prefills = before.prefills;
            sequence.prefills.retain(|read| read.end <= n_cached);
            sequence.checkpoints = before.checkpoints;
            for checkpoint in &mut sequence.checkpoints {
                if checkpoint.len == n_cached {
                    checkpoint.kind = Kind::Turn;
                }
            }
            (sequence.checkpoints)
                .retain(|checkpoint| checkpoint.len <= n_cached && checkpoint.kind == Kind::Turn);
        }
        if n_cached == prompt.len() {
            sequence.device = DeviceState::LogitsReady;
            self.sequence = Some(sequence);
            return Ok(n_cached);
        }
        sequence.prefills.push(n_cached..prompt.len());
        self.sequence = Some(sequence);
        if n_cached > 0 {
            // Without logits: a prefill follows.
            self.keep_checkpoint(Kind::Turn, false);
        }
        self.begin_prefill();
        Ok(n_cached)
    }

    /// The longest common prefix of `prompt` and the current sequence for which a state exists.
    fn reusable(&self, prompt: &[u32], reread_answers: bool) -> Reuse {
        let Some(sequence) = &self.sequence else {
            return Reuse::Nothing;
        };
        let pairs = prompt.iter().zip(&sequence.history);
        let n_common = pairs.take_while(|(new, old)| new == old).count();
        let most = if reread_answers || !self.model.steps_agree_with_prefill() {
            n_common.min(sequence.n_prefilled())
        } else {
            n_common
        };
        let n_read = self.cache.len;
        if n_read > 0 && n_read <= most && n_read < prompt.len() && self.is_state_known() {
            return Reuse::State;
        }
        let checkpoint = sequence.checkpoints.iter().rposition(|checkpoint| {
            let needs_logits = checkpoint.len == prompt.len();
            checkpoint.len <= most && (!needs_logits || checkpoint.has_logits())
        });
        checkpoint.map_or(Reuse::Nothing, Reuse::Checkpoint)
    }

    /// Whether the cache has the state after exactly its tokens of the history.
    fn is_state_known(&self) -> bool {
        let n_read = self.cache.len;
        self.sequence.as_ref().is_some_and(|sequence| {
            let n_history = sequence.history.len();
            match &sequence.device {
                // In the middle of a pass only some blocks have updated their states.
                DeviceState::Prefill { end, .. } => n_read == *end,
                DeviceState::LogitsReady => n_read <= n_history,
                // If nothing is pending after the last token, a readback has failed.
                DeviceState::Decoding { .. } => {
                    n_read < n_history || n_read == n_history && sequence.has_pending()
                }
            }
        })
    }
}
