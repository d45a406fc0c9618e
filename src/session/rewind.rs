//! Going back in a sequence and going on from there: marks that are kept while tokens are made, another token in the
//! place of one, and more tokens after an end. It stands on floor 4 as a part of the session. It reads nothing again
//! in another way than it was read first, so that no bit depends on where the marks are.

use serde::Serialize;

use crate::backend::Backend;
use crate::error::{Error, Fact, Result};
use crate::model::cache::{MambaState, empty_mamba, mamba_bytes};
use crate::model::forward::ForwardPass;
use crate::session::{GenerateOptions, Run, Session, not_started};
use crate::text::sampling::Sampler;
use crate::text::stop_strings::StopStrings;
use crate::text::stream::TextStream;
use crate::text::tokenizer::Tokenizer;

/// Generated tokens between two marks: going back costs half as many steps on average.
const MARK_EVERY: usize = 32;
/// What all marks may take. The largest checkpoints have room for one or two, the first of them after the prompt.
const MARKS_BYTES: u64 = 192 << 20;

/// What stands before the tokens that come next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The text of the generated tokens that are kept.
    pub text: String,
    pub tokens: usize,
    pub prompt_tokens: usize,
}

/// The state after some tokens. Keys and values need no copy: those of earlier positions stay where they are.
pub(crate) struct Mark<B: Backend> {
    n_read: usize,
    mamba: Vec<MambaState<B>>,
    /// What follows the last of those tokens.
    logits: B::Tensor, // [1, vocab]
}

impl<B: Backend> Session<B> {
    /// Goes back to where generated token `index` was drawn, and puts `token` in its place: the next step gives it. The
    /// prompt or some tokens may have to be read again, which [`Session::advance`] and
    /// [`Session::reread`] do bit by bit, or else the next step as a whole.
    ///
    /// # Errors
    /// No such token in the sequence, a token outside the vocabulary, an option out of range; the sequence is then as
    /// it was.
    pub fn branch(&mut self, index: usize, token: u32, options: GenerateOptions) -> Result<Kept> {
        let vocab_size = self.model.config.vocab_size;
        if token as usize >= vocab_size {
            return Err(Error::Token { token, vocab_size });
        }
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let generated = run.generated();
        if index >= generated {
            return Err(Error::Setting {
                name: "index".into(),
                fact: Fact::new("no_such_token")
                    .with("index", index)
                    .with("generated", generated),
            });
        }
        let history = run.history[..run.n_prompt + index].to_vec();
        let kept = self.go_on(history, options)?;
        self.go_back(index);
        if let Some(run) = &mut self.run {
            run.forced = Some(token);
        }
        Ok(kept)
    }

    /// Goes on after the last token, with these options from now on; `max_tokens` counts from the prompt.
    ///
    /// # Errors
    /// No sequence, an option out of range.
    pub fn resume(&mut self, options: GenerateOptions) -> Result<Kept> {
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let kept = self.go_on(run.history.clone(), options)?;
        if self.is_ahead() && !self.serves() {
            self.go_back(kept.tokens);
        }
        Ok(kept)
    }

    /// Begins the sequence that another session had after `prompt` and `generated`: the next step gives what that one would
    /// have given. Everything has to be read, as after [`Session::branch`].
    ///
    /// # Errors
    /// As for [`Session::start`].
    pub fn take_up(
        &mut self,
        prompt: &[u32],
        generated: &[u32],
        options: GenerateOptions,
    ) -> Result<Kept> {
        self.start(prompt, options.clone())?;
        self.go_on([prompt, generated].concat(), options)
    }

    /// Reads at most `max` tokens again, all but the last one; gives how many are left.
    pub async fn reread(&mut self, max: usize) -> Result<usize> {
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let last = run.history.len() - 1;
        let until = last.min(self.cache.len.saturating_add(max));
        if until > self.cache.len {
            self.read_until(until).await?;
            self.wait().await?;
        }
        Ok(last.saturating_sub(self.cache.len))
    }

    /// A run whose tokens are `history`, with sampler and text as if it had made them.
    fn go_on(&mut self, history: Vec<u32>, options: GenerateOptions) -> Result<Kept> {
        let mut sampler = Sampler::new(options.sampling.clone())?;
        let fresh = StopStrings::new(options.stop.clone())?;
        let run = self.run.as_mut().ok_or_else(not_started)?;
        let generated = &history[run.n_prompt..];
        let tokens = generated.len();
        sampler.skip(tokens);
        let mut text = String::new();
        let (mut stream, mut stops) = (TextStream::new(), fresh.clone());
        if let Some(tokenizer) = &self.tokenizer {
            (text, stream, stops) = retold(tokenizer, generated, fresh)?;
        }
        run.history = history;
        run.options = options;
        run.sampler = sampler;
        run.text = stream;
        run.stops = stops;
        run.finished = false;
        run.forced = None;
        Ok(Kept {
            text,
            tokens,
            prompt_tokens: run.n_prompt,
        })
    }

    /// Takes the cache back to the last mark after at most `most_read` generated tokens, or to its beginning.
    pub(crate) fn go_back(&mut self, most_read: usize) {
        let Some(run) = self.run.as_mut() else { return };
        run.marks.retain(|mark| mark.n_read <= most_read);
        run.ahead.clear();
        run.is_predicted = false;
        let Some(mark) = run.marks.last() else {
            let prompt = run.history[..run.n_prompt].to_vec();
            self.cache.reset(&mut self.be);
            self.begin_pass(0);
            let pass = ForwardPass::new(&mut self.be, &self.model, &self.cache, &prompt);
            if let Some(run) = &mut self.run {
                run.prefill = Some(pass);
            }
            return;
        };
        self.be.copy(&mark.logits, &mut self.scratch.logits);
        run.is_predicted = true;
        let len = run.n_prompt + mark.n_read;
        for (kept, state) in mark.mamba.iter().zip(&mut self.cache.mamba) {
            self.be.copy(&kept.conv, &mut state.conv);
            self.be.copy(&kept.ssm, &mut state.ssm);
        }
        self.cache.truncate(len);
    }

    /// Keeps the state after the last token that was read and its logits, where a mark is due and has room.
    pub(crate) fn mark(&mut self) {
        let config = &self.model.config;
        let run = self.run.as_mut().filter(|run| run.options.marks);
        let Some(run) = run else { return };
        let n_read = self.cache.len - run.n_prompt;
        let bytes = mamba_bytes(config) + 4 * config.vocab_size as u64;
        let is_new = run.marks.last().is_none_or(|mark| mark.n_read < n_read);
        let has_room = (run.marks.len() as u64 + 1) * bytes <= MARKS_BYTES;
        if !(n_read.is_multiple_of(MARK_EVERY) && is_new && has_room) {
            return;
        }
        let mut mark = Mark {
            n_read,
            mamba: empty_mamba(&mut self.be, config),
            logits: self.be.tensor(1, config.vocab_size),
        };
        self.be.copy(&self.scratch.logits, &mut mark.logits);
        for (state, kept) in self.cache.mamba.iter().zip(&mut mark.mamba) {
            self.be.copy(&state.conv, &mut kept.conv);
            self.be.copy(&state.ssm, &mut kept.ssm);
        }
        run.marks.push(mark);
    }
}

impl<B: Backend> Run<B> {
    /// Tokens after the prompt.
    pub(crate) fn generated(&self) -> usize {
        self.history.len() - self.n_prompt
    }
}

/// The text of tokens that were generated before, and the two streams where they stand after it. A text that goes on
/// past its stop string is whole again, and what comes is watched anew.
fn retold(
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
