//! Rewinding and continuing: state checkpoints that are kept during generation, a branch with another token, more
//! tokens after an end, the sequence of another session.
//!
//! A replay makes the same passes as the first run (the prompt at once, then single tokens), so that results do not
//! depend on which checkpoints exist, to the last bit.

use serde::Serialize;

use crate::base::error::{Error, Fact, Result};
use crate::model::cache::{MambaState, empty_mamba, mamba_bytes};
use crate::model::forward::ForwardPass;
use crate::ops::device::Device;
use crate::session::sequence::{DeviceState, NextToken};
use crate::session::{GenerateOptions, Session, not_started};
use crate::text::sampling::Sampler;
use crate::text::stop_strings::StopStrings;
use crate::text::stream::TextStream;
use crate::text::tokenizer::Tokenizer;

/// Generated tokens between two checkpoints: a rewind replays half as many on average.
const CHECKPOINT_EVERY: usize = 32;
/// Limit for all checkpoints of a sequence. The largest models have room for one or two, the first of them after the
/// prompt.
const CHECKPOINTS_BYTES: u64 = 192 << 20;

/// The part of a sequence that a branch, a continuation or an adoption keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptPrefix {
    /// Of the generated tokens.
    pub text: String,
    /// Generated tokens.
    pub tokens: usize,
    pub prompt_tokens: usize,
}

/// The SSM and conv states and the logits after some tokens. Keys and values need no copy: a rewind only truncates the
/// KV cache.
pub(super) struct StateCheckpoint<B: Device> {
    /// Generated tokens that the state includes.
    n_read: usize,
    mamba: Vec<MambaState<B>>,
    /// After the last of these tokens.
    logits: B::Tensor, // [1, vocab]
}

impl<B: Device> Session<B> {
    /// Rewinds to generated token `index` and forces `token` in its place: the next step returns it. The prompt or some
    /// tokens may have to be replayed: by [`Session::advance`] and [`Session::replay`] in parts, or else by the next
    /// step as a whole.
    ///
    /// # Errors
    /// No such token in the sequence, a token outside the vocabulary, an option out of range. The sequence is then
    /// unchanged.
    pub fn branch(
        &mut self,
        index: usize,
        token: u32,
        options: GenerateOptions,
    ) -> Result<KeptPrefix> {
        let vocab_size = self.model.config.vocab_size;
        if token as usize >= vocab_size {
            return Err(Error::Token { token, vocab_size });
        }
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let generated = sequence.generated();
        if index >= generated {
            return Err(Error::Setting {
                name: "index".into(),
                fact: Fact::new("no_such_token")
                    .with("index", index)
                    .with("generated", generated),
            });
        }
        let history = sequence.history[..sequence.n_prompt + index].to_vec();
        let kept = self.rebuild(history, options)?;
        self.rewind_to(index);
        if let Some(sequence) = &mut self.sequence {
            sequence.next = NextToken::Forced(token);
        }
        Ok(kept)
    }

    /// Continues after the last token with new options; their `max_tokens` counts from the prompt.
    ///
    /// # Errors
    /// No sequence, an option out of range.
    pub fn continue_sequence(&mut self, options: GenerateOptions) -> Result<KeptPrefix> {
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let kept = self.rebuild(sequence.history.clone(), options)?;
        if self.is_ahead() && !self.matches_mode() {
            self.rewind_to(kept.tokens);
        }
        Ok(kept)
    }

    /// Adopts the sequence that another session had after `prompt` and `generated`: the next step returns what that one
    /// would have returned. All tokens have to be replayed, as after [`Session::branch`].
    ///
    /// # Errors
    /// As for [`Session::start`].
    pub fn adopt(
        &mut self,
        prompt: &[u32],
        generated: &[u32],
        options: GenerateOptions,
    ) -> Result<KeptPrefix> {
        self.start(prompt, options.clone())?;
        self.rebuild([prompt, generated].concat(), options)
    }

    /// Replays at most `max` tokens, up to the one before the last; returns how many are left.
    ///
    /// # Errors
    /// No sequence; the device's own failure.
    pub async fn replay(&mut self, max: usize) -> Result<usize> {
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let last = sequence.history.len() - 1;
        let until = last.min(self.cache.len.saturating_add(max));
        if until > self.cache.len {
            self.read_until(until).await?;
            self.wait().await?;
        }
        Ok(last.saturating_sub(self.cache.len))
    }

    /// Sets the history, with sampler and text in the state after it.
    fn rebuild(&mut self, history: Vec<u32>, options: GenerateOptions) -> Result<KeptPrefix> {
        let mut sampler = Sampler::new(options.sampling.clone())?;
        let fresh = StopStrings::new(options.stop.clone())?;
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let generated = &history[sequence.n_prompt..];
        let tokens = generated.len();
        sampler.skip(tokens);
        let mut text = String::new();
        let (mut stream, mut stops) = (TextStream::new(), fresh.clone());
        if let Some(tokenizer) = &self.tokenizer {
            (text, stream, stops) = replay_text(tokenizer, generated, fresh)?;
        }
        sequence.history = history;
        sequence.options = options;
        sequence.sampler = sampler;
        sequence.text = stream;
        sequence.stops = stops;
        sequence.next = NextToken::Sampled;
        Ok(KeptPrefix {
            text,
            tokens,
            prompt_tokens: sequence.n_prompt,
        })
    }

    /// Rewinds the cache to the last checkpoint with at most `most_read` generated tokens, or to its beginning.
    pub(super) fn rewind_to(&mut self, most_read: usize) {
        let Some(sequence) = self.sequence.as_mut() else {
            return;
        };
        let checkpoints = &mut sequence.checkpoints;
        checkpoints.retain(|checkpoint| checkpoint.n_read <= most_read);
        let Some(checkpoint) = checkpoints.last() else {
            let prompt = sequence.history[..sequence.n_prompt].to_vec();
            self.cache.reset(&mut self.be);
            self.begin_pass(0);
            let pass = ForwardPass::new(&mut self.be, &self.model, &self.cache, &prompt);
            if let Some(sequence) = &mut self.sequence {
                sequence.device = DeviceState::Prefill(pass);
            }
            return;
        };
        self.be.copy(&checkpoint.logits, &mut self.scratch.logits);
        sequence.device = DeviceState::LogitsReady;
        let len = sequence.n_prompt + checkpoint.n_read;
        for (kept, state) in checkpoint.mamba.iter().zip(&mut self.cache.mamba) {
            self.be.copy(&kept.conv, &mut state.conv);
            self.be.copy(&kept.ssm, &mut state.ssm);
        }
        self.cache.truncate(len);
    }

    /// Keeps a checkpoint of the state after the last token of the cache, if one is due and has room.
    pub(super) fn keep_checkpoint(&mut self) {
        let config = &self.model.config;
        let sequence = self
            .sequence
            .as_mut()
            .filter(|sequence| sequence.options.marks);
        let Some(sequence) = sequence else { return };
        let n_read = self.cache.len - sequence.n_prompt;
        let bytes = mamba_bytes(config) + 4 * config.vocab_size as u64;
        let is_new = sequence
            .checkpoints
            .last()
            .is_none_or(|last| last.n_read < n_read);
        let has_room = (sequence.checkpoints.len() as u64 + 1) * bytes <= CHECKPOINTS_BYTES;
        if !(n_read.is_multiple_of(CHECKPOINT_EVERY) && is_new && has_room) {
            return;
        }
        let mut checkpoint = StateCheckpoint {
            n_read,
            mamba: empty_mamba(&mut self.be, config),
            logits: self.be.tensor(1, config.vocab_size),
        };
        self.be.copy(&self.scratch.logits, &mut checkpoint.logits);
        for (state, kept) in self.cache.mamba.iter().zip(&mut checkpoint.mamba) {
            self.be.copy(&state.conv, &mut kept.conv);
            self.be.copy(&state.ssm, &mut kept.ssm);
        }
        sequence.checkpoints.push(checkpoint);
    }
}

/// The text of generated tokens, and the state of both streams after it. If it contains a stop string, the text is
/// returned beyond it, and only later text is searched for stop strings.
fn replay_text(
    tokenizer: &Tokenizer,
    tokens: &[u32],
    fresh: StopStrings,
) -> Result<(String, TextStream, StopStrings)> {
    let (mut stream, mut stops) = (TextStream::new(), fresh.clone());
    let (mut whole, mut watched, mut stopped) = (String::new(), String::new(), false);
    for &token in tokens {
        let piece = stream.push(tokenizer, token)?;
        if !stopped {
            let (certain, stop) = stops.push(&piece);
            watched.push_str(&certain);
            stopped = stop;
        }
        whole.push_str(&piece);
    }
    Ok(if stopped {
        (whole, stream, fresh)
    } else {
        (watched, stream, stops)
    })
}
