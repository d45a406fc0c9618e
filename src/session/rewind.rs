//! Rewinding and continuing: a branch with another token, more tokens after the end, adopting the sequence of another
//! session. The state checkpoints for this are kept in `checkpoints`.
//!
//! A replay makes the same passes as the first run (the prompt in its parts, then single tokens), so results are the
//! same to the last bit whichever checkpoints exist.

use serde::Serialize;

use crate::base::error::{Error, Fact, Result};
use crate::ops::device::Device;
use crate::session::sequence::{DeviceState, NextToken};
use crate::session::{GenerateOptions, Session, not_started};
use crate::text::stop_strings::StopStrings;
use crate::text::stream::TextStream;
use crate::text::tokenizer::Tokenizer;

/// The part of a sequence that a branch, a continuation or an adoption keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptPrefix {
    /// Text of the generated tokens.
    pub text: String,
    /// The number of generated tokens.
    pub tokens: usize,
    pub prompt_tokens: usize,
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
        let n_prompt = sequence.n_prompt;
        let history = sequence.history[..n_prompt + index].to_vec();
        let kept = self.rebuild(history, options)?;
        self.rewind_to(n_prompt + index);
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
        self.cut_back_drafts();
        if self.is_ahead() && !self.matches_mode() {
            self.rewind_to(kept.prompt_tokens + kept.tokens);
        }
        Ok(kept)
    }

    /// Adopts the sequence that another session had after `prompt` and `generated`: the next step returns what that one
    /// would have returned. All tokens have to be replayed, as after [`Session::branch`], with the prompt in one part.
    ///
    /// # Errors
    /// As for [`Session::start`].
    pub fn adopt(
        &mut self,
        prompt: &[u32],
        generated: &[u32],
        options: GenerateOptions,
    ) -> Result<KeptPrefix> {
        let afresh = GenerateOptions {
            cache_prompt: false,
            ..options.clone()
        };
        self.start(prompt, afresh)?;
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
        let (mut sampler, fresh) = options.checked()?;
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
        sequence.returned_us = None;
        Ok(KeptPrefix {
            text,
            tokens,
            prompt_tokens: sequence.n_prompt,
        })
    }

    /// Rewinds the cache to the last checkpoint with at most `most_read` tokens of the history, or to its beginning.
    /// [`Session::advance`] and [`Session::replay`] process the tokens after it.
    pub(super) fn rewind_to(&mut self, most_read: usize) {
        let Some(sequence) = self.sequence.as_mut() else {
            return;
        };
        let checkpoints = &mut sequence.checkpoints;
        checkpoints.retain(|checkpoint| checkpoint.len <= most_read);
        sequence.device = DeviceState::LogitsReady;
        sequence.drafts = None;
        sequence.rolling_tried = 0;
        match sequence.checkpoints.len().checked_sub(1) {
            Some(last) => self.restore_checkpoint(last),
            None => self.cache.reset(&mut self.ops),
        }
        self.begin_prefill();
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
