//! Reading tokens back. The device chooses a token from a top-k list and embeds it, so the next step is submitted before
//! the host has read the list; `depth` has the number of such steps. The device draws with the sampler's own random
//! numbers; the sampler then draws from the same list, and where the two differ, which f32 sums can cause once in a great
//! while, the sampler is right and the device goes back. If a list does not suffice, the host reads all logits of one
//! step at a time.

use crate::base::clock::now_us;
use crate::base::error::{Error, Fact, Result};
use crate::model::forward;
use crate::ops::device::{Device, Draw};
use crate::ops::trace::Level;
use crate::session::checkpoints::Kind;
use crate::session::depth::Lookahead;
use crate::session::sequence::{DeviceState, Sequence};
use crate::session::{Session, not_started};
use crate::text::sampling::Top;

/// Temperatures below this are 0 for all numbers that f32 can tell apart, but do not divide by zero.
const LEAST_TEMPERATURE: f64 = 1e-30;

/// What a readback contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadMode {
    Logits,
    /// The k most probable tokens.
    TopK {
        k: usize,
    },
}

/// The contents of a readback.
pub(super) enum StepOutput {
    Logits(Vec<f32>),
    TopK(Top),
}

/// A step that was read back; its token is not chosen yet.
pub(super) struct PendingToken {
    pub output: StepOutput,
    /// The token from which the device has computed the next step, if it has.
    pub continued_with: Option<u32>,
    /// Time per block; empty if no pass was made for this token, or if blocks have no times.
    pub blocks_us: Vec<f32>,
}

/// A step that was submitted with the readback of its list.
pub(super) struct StepInFlight<B: Device> {
    readback: B::Readback,
    /// The pass that has computed its logits; none if they were there before.
    pass: Option<u32>,
    /// When it was submitted, if the device was idle then.
    alone_since_us: Option<f64>,
}

/// The top-k list of the last step in device memory.
pub(super) struct TopList<B: Device> {
    k: usize,
    row: B::Tensor, // [1, Top::row_len(k)]
}

impl<B: Device> Session<B> {
    /// Bounds the steps in flight; [`Lookahead::of`] is the default.
    pub fn set_lookahead(&mut self, lookahead: Lookahead) {
        self.lookahead = lookahead;
    }

    fn read_mode(&self, sequence: &Sequence<B>) -> ReadMode {
        let sampling = &sequence.options.sampling;
        let k = sampling.sufficient_top_k();
        let k = k.map(|k| k.max(sequence.options.alternatives));
        let k = k.filter(|k| *k <= Top::MOST);
        let needs_logits = self.lookahead.max_steps <= 1
            || self.model.config.vocab_size > Top::MOST_VOCAB
            // A forced token may not be in the list.
            || sequence.is_forced();
        match k {
            Some(k) if !needs_logits => ReadMode::TopK { k },
            _ => ReadMode::Logits,
        }
    }

    /// Steps to have in flight, none of them beyond the end of the generation.
    fn steps_in_flight(&self, sequence: &Sequence<B>) -> usize {
        if self.recording == Level::Module || self.waits_for_blocks() {
            return 1;
        }
        let options = &sequence.options;
        let wanted = options.max_tokens.saturating_sub(sequence.generated());
        let room = (self.cache.context + 1).saturating_sub(sequence.history.len());
        // A checkpoint before which the host knows all tokens is of use after any stop.
        let most = if self.is_rolling_checkpoint_due() {
            2
        } else {
            usize::MAX
        };
        let steps = sequence.clock.steps_in_flight(self.lookahead);
        steps.min(wanted).min(room).min(most).max(1)
    }

    /// Whether the cache is ahead of the history: steps are in flight, or one failed after it was read back.
    pub(super) fn is_ahead(&self) -> bool {
        self.sequence.as_ref().is_some_and(|sequence| {
            let has_more = self.cache.len > sequence.history.len();
            match &sequence.device {
                DeviceState::Prefill { .. } => false,
                DeviceState::LogitsReady => has_more,
                DeviceState::Decoding { .. } => has_more || sequence.has_pending(),
            }
        })
    }

    /// Whether the steps in flight are what the present options would read.
    pub(super) fn matches_mode(&self) -> bool {
        let (sequence, list) = (self.sequence.as_ref(), self.top_list.as_ref());
        sequence.zip(list).is_some_and(|(sequence, list)| {
            self.read_mode(sequence) == ReadMode::TopK { k: list.k }
        })
    }

    /// If the cache is ahead, brings it back to all tokens of the history but the last one.
    pub(super) async fn sync_to_history(&mut self) -> Result<()> {
        if !self.is_ahead() {
            return Ok(());
        }
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let until = sequence.history.len() - 1;
        self.rewind_to(until.max(sequence.n_prompt));
        self.read_until(until).await
    }

    /// The output from which the next token is chosen. Before it waits, it submits the steps that are to be in flight.
    pub(super) async fn next_pending(&mut self) -> Result<PendingToken> {
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        if let Some(pending) = sequence.take_put_back() {
            return Ok(pending);
        }
        if sequence.n_in_flight() == 0
            && let Some(pending) = self.begin_decoding().await?
        {
            return Ok(pending);
        }
        loop {
            let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
            if sequence.n_in_flight() >= self.steps_in_flight(sequence) {
                break;
            }
            self.submit_next();
        }
        self.finish_step().await
    }

    /// With nothing in flight: computes the logits after the last token of the history, and either reads them, or
    /// submits the list of them.
    async fn begin_decoding(&mut self) -> Result<Option<PendingToken>> {
        let start_us = now_us();
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let (n_history, n_prompt) = (sequence.history.len(), sequence.n_prompt);
        let (n_before, was_prefill) = (self.cache.len, sequence.is_prefill());
        self.read_until(n_history).await?;
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let DeviceState::LogitsReady = sequence.device else {
            return Err(Error::Sequence {
                fact: Fact::new("device_failed_before"),
            });
        };
        // From here on, a failure leaves no logits to choose from.
        sequence.device = DeviceState::nothing_pending();
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let has_pass = n_before < n_history && n_history > n_prompt;
        let pass = has_pass.then(|| (n_history - n_prompt) as u32);
        match self.read_mode(sequence) {
            ReadMode::Logits => {
                let logits = self.be.read(&self.scratch.logits).await?;
                Ok(Some(PendingToken {
                    output: StepOutput::Logits(logits),
                    continued_with: None,
                    blocks_us: self.take_blocks_us(pass),
                }))
            }
            ReadMode::TopK { k } => {
                let is_one_step = !was_prefill && n_before + 1 == n_history;
                self.submit_list(k, pass, is_one_step.then_some(start_us));
                Ok(None)
            }
        }
    }

    /// Submits a step over the token that the device chooses from the last list.
    fn submit_next(&mut self) {
        let (Some(sequence), Some(list)) = (&self.sequence, self.top_list.take()) else {
            return;
        };
        let pass = self.cache.len + 1 - sequence.n_prompt;
        if self.is_rolling_checkpoint_due() {
            self.keep_checkpoint(Kind::Rolling, true);
        }
        self.set_pass(pass);
        self.encode_chosen(&list.row);
        self.keep_due_checkpoint();
        let k = list.k;
        self.top_list = Some(list);
        self.submit_list(k, Some(pass as u32), None);
    }

    /// Submits what is encoded, with the list of the present logits and the token that the device chooses from it.
    fn submit_list(&mut self, k: usize, pass: Option<u32>, alone_since_us: Option<f64>) {
        let list = self.top_list.take().filter(|list| list.k == k);
        let mut list = list.unwrap_or_else(|| TopList {
            k,
            row: self.be.tensor(1, Top::row_len(k)),
        });
        forward::top(&mut self.be, &self.model, &self.scratch, &mut list.row);
        if let Some(draw) = self.draw() {
            (self.be).draw(self.model.plan.sampling, &draw, &mut list.row);
        }
        let readback = self.be.begin_read(&[&list.row]);
        self.top_list = Some(list);
        if let Some(sequence) = &mut self.sequence {
            sequence.push_in_flight(StepInFlight {
                readback,
                pass,
                alone_since_us,
            });
        }
    }

    /// Waits for the first step in flight.
    async fn finish_step(&mut self) -> Result<PendingToken> {
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let step = sequence.pop_in_flight().ok_or_else(not_started)?;
        let numbers = self.be.finish_read(step.readback).await;
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let numbers = numbers.inspect_err(|_| sequence.device = DeviceState::nothing_pending())?;
        let now_us = now_us();
        sequence.clock.note_arrival(now_us);
        if let Some(since_us) = step.alone_since_us {
            sequence.clock.note_alone(now_us - since_us);
        }
        let top = Top::from_row(&numbers);
        Ok(PendingToken {
            continued_with: (sequence.n_in_flight() > 0).then_some(top.chosen),
            output: StepOutput::TopK(top),
            blocks_us: self.take_blocks_us(step.pass),
        })
    }

    /// The times of the blocks in `pass`, whose readback has arrived; empty if they have none.
    fn take_blocks_us(&mut self, pass: Option<u32>) -> Vec<f32> {
        let has_times = self.be.times_spans() || self.waits_for_blocks();
        let Some(pass) = pass.filter(|_| has_times) else {
            return Vec::new();
        };
        let (profiler, modules) = (self.be.profiler(), &self.model.block_modules);
        let blocks_us = profiler.durations_us(modules, pass).unwrap_or_default();
        if self.recording == Level::Off {
            // Nobody will take them, and those of later passes may still get their times.
            profiler.forget_through(pass);
        }
        blocks_us
    }

    /// If the device went on with another token than the sampler chose, takes back what it has computed since. The
    /// chosen token must be the last of the history.
    pub(super) fn check_device_choice(&mut self, continued_with: Option<u32>) {
        let Some(sequence) = &self.sequence else {
            return;
        };
        let chosen = sequence.history.last();
        if continued_with.is_some_and(|token| chosen != Some(&token)) {
            self.rewind_to(sequence.history.len() - 1);
        }
    }

    /// How the device draws the token of the list that is submitted next; `None` if it takes the most probable one.
    fn draw(&self) -> Option<Draw> {
        let sequence = self.sequence.as_ref()?;
        let sampling = &sequence.options.sampling;
        (sampling.temperature > 0.0).then(|| Draw {
            top_k: sampling.top_k,
            temperature: sampling.temperature.max(LEAST_TEMPERATURE) as f32,
            top_p: sampling.top_p as f32,
            min_p: sampling.min_p as f32,
            random: sequence.sampler.upcoming(sequence.n_in_flight()) as f32,
        })
    }
}
