//! Multi-step decoding: how many tokens are chosen on the device per readback, and whether a readback is full logits or
//! top-k lists. The device draws with the sampler's own random numbers; the sampler then draws from the same list, and
//! where the two differ, which f32 sums can cause once in a great while, the sampler is right and the device goes back.

use std::collections::VecDeque;

use crate::base::clock::now_us;
use crate::base::error::{Error, Fact, Result};
use crate::model::forward;
use crate::ops::device::{Device, Draw};
use crate::ops::trace::Level;
use crate::session::checkpoints::Kind;
use crate::session::sequence::{DeviceState, Sequence};
use crate::session::{Session, not_started};
use crate::text::sampling::Top;

/// Text that appears in larger intervals looks jerky.
const MAX_READ_US: f64 = 50_000.0;

/// Bounds for the steps that the device chains before a readback.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lookahead {
    /// Steps per readback. 1: read all logits back after every token.
    pub max_steps: usize,
    /// Time of one readback's steps, at the speed of those before.
    pub max_read_us: f64,
}

impl Lookahead {
    /// The default of device `B`.
    pub fn of<B: Device>() -> Lookahead {
        Lookahead {
            max_steps: B::TOKENS_AHEAD,
            max_read_us: MAX_READ_US,
        }
    }
}

/// Temperatures below this are 0 for all numbers that f32 can tell apart, but do not divide by zero.
const LEAST_TEMPERATURE: f64 = 1e-30;

/// What the next readback contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadMode {
    /// All logits of one step.
    Logits,
    /// The k most probable tokens of each of several steps.
    TopK { k: usize },
}

/// The part of a readback that belongs to one step.
pub(super) enum StepOutput {
    Logits(Vec<f32>),
    TopK(Top),
}

/// A step that was read back, with its timing; its token is not chosen yet.
pub(super) struct PendingToken {
    pub output: StepOutput,
    /// The token from which the device has computed the next step, if it has.
    pub continued_with: Option<u32>,
    /// Time per block; empty if no pass was made for this token, or if blocks have no times.
    pub blocks_us: Vec<f32>,
    /// Its share of the readback's time.
    pub us: f64,
}

/// Top-k lists in device memory, one row per step.
pub(super) struct TopKRows<B: Device> {
    k: usize,
    rows: B::Tensor, // [max_steps, Top::row_len(k)]
}

impl<B: Device> Session<B> {
    /// Bounds the steps of the next readbacks; [`Lookahead::of`] is the default.
    pub fn set_lookahead(&mut self, lookahead: Lookahead) {
        self.lookahead = lookahead;
        self.top_k_rows = None;
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

    /// Steps of the next readback, none of them beyond the end of the generation.
    fn steps_per_read(&self, sequence: &Sequence<B>) -> usize {
        if self.recording == Level::Module || self.waits_for_blocks() {
            return 1;
        }
        let options = &sequence.options;
        let wanted = options.max_tokens.saturating_sub(sequence.generated());
        let room = (self.cache.context + 1).saturating_sub(sequence.history.len());
        sequence.steps_per_read.min(wanted).min(room).max(1)
    }

    /// Whether the cache is ahead of the history: tokens are pending, or a step failed after they were read back.
    pub(super) fn is_ahead(&self) -> bool {
        self.sequence.as_ref().is_some_and(|sequence| {
            let has_more = self.cache.len > sequence.history.len();
            match &sequence.device {
                DeviceState::Prefill { .. } => false,
                DeviceState::LogitsReady => has_more,
                DeviceState::ReadBack(pending) => !pending.is_empty() || has_more,
            }
        })
    }

    /// Whether the pending tokens are what the present options would read.
    pub(super) fn matches_mode(&self) -> bool {
        let (sequence, rows) = (self.sequence.as_ref(), self.top_k_rows.as_ref());
        sequence.zip(rows).is_some_and(|(sequence, rows)| {
            self.read_mode(sequence) == ReadMode::TopK { k: rows.k }
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

    /// The output from which the next token is chosen, from an earlier readback if one is pending.
    pub(super) async fn next_pending(&mut self) -> Result<PendingToken> {
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        if let Some(pending) = sequence.pop_pending() {
            return Ok(pending);
        }
        self.read_back().await?;
        let pending = self.sequence.as_mut().and_then(Sequence::pop_pending);
        pending.ok_or_else(not_started)
    }

    async fn read_back(&mut self) -> Result<()> {
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
        let outputs = match self.read_mode(sequence) {
            ReadMode::Logits => {
                vec![StepOutput::Logits(
                    self.be.read(&self.scratch.logits).await?,
                )]
            }
            ReadMode::TopK { k } => self.read_top_k(k, self.steps_per_read(sequence)).await?,
        };
        let n = outputs.len();
        let us = (now_us() - start_us) / n as f64;
        let has_times = self.be.times_spans() || self.waits_for_blocks();
        let profiler = self.be.profiler();
        let pending = (0..).zip(outputs).map(|(i, output)| {
            let pass = n_history - n_prompt + i;
            let has_pass = has_times && pass > 0 && (i > 0 || n_before < n_history);
            let blocks_us = match profiler.durations_us(&self.model.block_modules, pass as u32) {
                Some(durations_us) if has_pass => durations_us,
                _ => Vec::new(),
            };
            let continued_with = match &output {
                StepOutput::TopK(top) if i + 1 < n => Some(top.chosen),
                _ => None,
            };
            PendingToken {
                output,
                continued_with,
                blocks_us,
                us,
            }
        });
        let pending: VecDeque<_> = pending.collect();
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        sequence.device = DeviceState::ReadBack(pending);
        if !was_prefill && n_before + 1 == n_history {
            let affordable = (self.lookahead.max_read_us / us) as usize;
            let most = self.lookahead.max_steps.min(2 * n);
            sequence.steps_per_read = affordable.clamp(1, most);
        }
        Ok(())
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

    /// How the device draws each of the next `n` tokens; empty if it takes the most probable ones.
    fn draws(&self, n: usize) -> Vec<Draw> {
        let Some(sequence) = &self.sequence else {
            return Vec::new();
        };
        let sampling = &sequence.options.sampling;
        if sampling.temperature == 0.0 {
            return Vec::new();
        }
        let randoms = sequence.sampler.upcoming(n).into_iter();
        let draws = randoms.map(|random| Draw {
            top_k: sampling.top_k,
            temperature: sampling.temperature.max(LEAST_TEMPERATURE) as f32,
            top_p: sampling.top_p as f32,
            min_p: sampling.min_p as f32,
            random: random as f32,
        });
        draws.collect()
    }

    /// Top-k lists of `n` steps: of the present logits, and of those after the chosen token of each list.
    async fn read_top_k(&mut self, k: usize, n: usize) -> Result<Vec<StepOutput>> {
        let lists = self.top_k_rows.take().filter(|lists| lists.k == k);
        let mut lists = lists.unwrap_or_else(|| TopKRows {
            k,
            rows: (self.be).tensor(self.lookahead.max_steps, Top::row_len(k)),
        });
        if n > 1 {
            self.keep_checkpoint(Kind::Readback, true);
        }
        let draws = self.draws(n - 1);
        forward::top(&mut self.be, &self.model, &self.scratch, 0, &mut lists.rows);
        for row in 1..n {
            if let Some(draw) = draws.get(row - 1) {
                let module = self.model.plan.sampling;
                self.be.draw(module, draw, row - 1, &mut lists.rows);
            }
            let n_prompt = self.sequence.as_ref().map_or(0, |s| s.n_prompt);
            let pass = self.cache.len + 1 - n_prompt;
            self.set_pass(pass);
            self.encode_chosen(&lists.rows, row - 1);
            self.keep_due_checkpoint();
            forward::top(
                &mut self.be,
                &self.model,
                &self.scratch,
                row,
                &mut lists.rows,
            );
        }
        let numbers = self.be.read(&lists.rows).await;
        self.top_k_rows = Some(lists);
        let numbers = numbers?;
        let rows = numbers.chunks(Top::row_len(k));
        Ok(rows
            .map(|row| StepOutput::TopK(Top::from_row(row)))
            .collect())
    }
}
