//! Multi-step decoding: readbacks of logits or of top-k lists. If the device can choose a token from such a list, it
//! embeds the token and computes the next step before the host has read the list; `steps_in_flight` decides how many
//! steps are submitted ahead. The device draws with the sampler's own random numbers, and the sampler draws again from
//! the same list. Rarely the two differ, because of f32 sums; the sampler's token counts, and the device state is
//! rewound. All logits are read back with the list if ranks need them. If the device cannot choose, the host reads the
//! logits of one step at a time.

use crate::base::clock::now_us;
use crate::base::error::{Error, Fact, Result};
use crate::ops::device::{Device, Draw};
use crate::ops::trace::Level;
use crate::session::lookup::Match;
use crate::session::sequence::{DeviceState, Sequence};
use crate::session::state_checkpoints::Kind;
use crate::session::steps_in_flight::Lookahead;
use crate::session::{GenerateOptions, Session, not_started};
use crate::text::sampling::TopK;

/// Lower temperatures give the same f32 results as this one, which avoids a division by zero.
const LEAST_TEMPERATURE: f64 = 1e-30;

/// Penalties for which products and quotients with usual logits stay in the range of f32.
const DEVICE_PENALTIES: std::ops::Range<f64> = 1e-20..1e20;

/// What a readback contains.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ReadMode {
    /// The logits of the one step in flight.
    Logits,
    /// The list from which the device has chosen a token.
    Choice(Choice),
}

/// How the device chooses tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    /// Length of the top-k list.
    k: usize,
    penalty: Option<f64>,
    /// Whether all logits are read back, too, because the list is that after the penalty or has too few ranks.
    reads_logits: bool,
}

/// The contents of a readback.
pub(super) enum StepOutput {
    Logits(Vec<f32>),
    TopK(TopK),
}

/// A step that was read back; its token is not chosen yet.
pub(super) struct PendingToken {
    pub output: StepOutput,
    /// The token from which the device has computed the next step, if it has.
    pub continued_with: Option<u32>,
    /// Time per block; empty if no pass was made for this token, or if blocks have no times.
    pub blocks_us: Vec<f32>,
    /// Tokens that this step's pass has drafted after this one.
    pub drafted: usize,
}

impl PendingToken {
    /// A token for which no pass was made.
    pub fn of(output: StepOutput) -> Self {
        PendingToken {
            output,
            continued_with: None,
            blocks_us: Vec::new(),
            drafted: 0,
        }
    }
}

/// A step that was submitted with the readback of its list.
pub(super) struct StepInFlight<B: Device> {
    choice: Choice,
    readback: B::Readback,
    /// The pass that computes its logits; none if they were computed before.
    pass: Option<u32>,
    /// When it was submitted, if the device was idle then.
    alone_since_us: Option<f64>,
}

/// The top-k list in device memory from which the device has chosen the last token.
pub(super) struct TopList<B: Device> {
    choice: Choice,
    row: B::Tensor, // [1, TopK::row_len(k)]
}

/// Buffers for the repetition penalty on the device. Allocated on first use.
pub(super) struct PenaltyBuffers<B: Device> {
    /// 1 for each token of the history and each that the device has chosen since then.
    seen: B::Tensor, // [1, vocab]
    logits: B::Tensor, // [1, vocab]
}

impl<B: Device> Session<B> {
    /// Bounds the steps in flight; [`Lookahead::of`] is the default.
    pub fn set_lookahead(&mut self, lookahead: Lookahead) {
        self.lookahead = lookahead;
    }

    fn read_mode(&self, sequence: &Sequence<B>) -> ReadMode {
        let GenerateOptions {
            sampling,
            alternatives,
            ..
        } = &sequence.options;
        let penalty = sampling.repetition_penalty;
        let needs_logits = self.lookahead.max_steps <= 1
            || self.model.config.vocab_size > TopK::MOST_VOCAB
            || !DEVICE_PENALTIES.contains(&penalty)
            // A forced token may not be in the list, nor any token that a grammar allows.
            || sequence.is_forced()
            || sequence.options.is_constrained();
        let penalty = (penalty != 1.0).then_some(penalty);
        let ranks_are_listed = penalty.is_none() && *alternatives <= TopK::MOST;
        let reads_logits = *alternatives > 0 && !ranks_are_listed;
        let n_ranks = if reads_logits { 0 } else { *alternatives };
        match sampling.sufficient_top_k().map(|k| k.max(n_ranks)) {
            Some(k) if k <= TopK::MOST && !needs_logits => ReadMode::Choice(Choice {
                k,
                penalty,
                reads_logits,
            }),
            _ => ReadMode::Logits,
        }
    }

    /// Whether the next token is sampled from logits that the host reads.
    pub(super) fn reads_logits(&self, sequence: &Sequence<B>) -> bool {
        !sequence.is_forced() && self.read_mode(sequence) == ReadMode::Logits
    }

    /// Steps to have in flight, none of them beyond the end of the generation.
    fn steps_in_flight(&self, sequence: &Sequence<B>) -> usize {
        if self.recording == Level::Module || self.waits_for_blocks() {
            return 1;
        }
        let options = &sequence.options;
        let wanted = options.max_tokens.saturating_sub(sequence.generated());
        let room = (self.cache.context + 1).saturating_sub(sequence.history.len());
        // After any stop, a checkpoint is useful only if the host has all tokens before it.
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

    /// Whether the steps in flight read back what the current options need.
    pub(super) fn matches_mode(&self) -> bool {
        let (sequence, list) = (self.sequence.as_ref(), self.top_list.as_ref());
        sequence.zip(list).is_some_and(|(sequence, list)| {
            self.read_mode(sequence) == ReadMode::Choice(list.choice)
        })
    }

    /// If the cache is ahead, rewinds it to all tokens of the history but the last one.
    pub(super) async fn sync_to_history(&mut self) -> Result<()> {
        self.cut_back_drafts();
        if !self.is_ahead() {
            return Ok(());
        }
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        let until = sequence.history.len() - 1;
        self.rewind_to(until.max(sequence.n_prompt));
        self.read_until(until).await
    }

    /// The output from which the next token is chosen. Before waiting for it, submits further steps up to the number
    /// that is to be in flight. `found` is where the last tokens occurred before, if drafts may be made.
    pub(super) async fn next_pending(&mut self, found: Option<Match>) -> Result<PendingToken> {
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        if let Some(pending) = sequence.take_put_back() {
            return Ok(pending);
        }
        if let Some(pending) = self.next_draft_row() {
            return Ok(pending);
        }
        if let Some(pending) = self.try_drafts(found).await? {
            return Ok(pending);
        }
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
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

    /// With nothing in flight: computes the logits after the last token of the history, and either reads them back or
    /// submits the choice of a token from them.
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
        let pass = has_pass.then(|| sequence.pass_after(n_history) as u32);
        let is_one_step = !was_prefill && n_before + 1 == n_history;
        match self.read_mode(sequence) {
            ReadMode::Logits => {
                let logits = self.ops.read(&self.scratch.logits).await?;
                if is_one_step {
                    self.pass_cost.note_step(now_us() - start_us);
                }
                Ok(Some(PendingToken {
                    blocks_us: self.take_blocks_us(pass),
                    ..PendingToken::of(StepOutput::Logits(logits))
                }))
            }
            ReadMode::Choice(choice) => {
                self.mark_history(choice);
                self.submit_choice(choice, pass, is_one_step.then_some(start_us));
                Ok(None)
            }
        }
    }

    /// Submits a step over the token that the device chooses from the previous list.
    fn submit_next(&mut self) {
        let (Some(sequence), Some(list)) = (&self.sequence, self.top_list.take()) else {
            return;
        };
        let pass = sequence.pass_after(self.cache.len + 1);
        if self.is_rolling_checkpoint_due() {
            self.keep_checkpoint(Kind::Rolling, true);
        }
        self.set_pass(pass);
        self.encode_chosen(&list.row);
        self.keep_due_checkpoint();
        let choice = list.choice;
        self.top_list = Some(list);
        self.submit_choice(choice, Some(pass as u32), None);
    }

    /// Uploads which tokens are penalised. From here on the device adds those that it chooses itself.
    fn mark_history(&mut self, choice: Choice) {
        let (Some(sequence), Some(_)) = (&self.sequence, choice.penalty) else {
            return;
        };
        let (ops, vocab_size) = (&mut self.ops, self.model.config.vocab_size);
        let mut seen = vec![0.0; vocab_size];
        for &token in &sequence.history {
            seen[token as usize] = 1.0;
        }
        let penalty = self.penalty.get_or_insert_with(|| PenaltyBuffers {
            seen: ops.tensor(1, vocab_size),
            logits: ops.tensor(1, vocab_size),
        });
        ops.write(&seen, &mut penalty.seen);
    }

    /// Submits what is encoded, the device's choice of a token from the current logits, and its readback.
    fn submit_choice(&mut self, choice: Choice, pass: Option<u32>, alone_since_us: Option<f64>) {
        let draw = self.draw();
        let is_chained = self.sequence.as_ref().is_some_and(|s| s.n_in_flight() > 0);
        let (ops, module) = (&mut self.ops, self.model.plan.sampling);
        let list = self.top_list.take().filter(|list| list.choice == choice);
        let mut list = list.unwrap_or_else(|| TopList {
            choice,
            row: ops.tensor(1, TopK::row_len(choice.k)),
        });
        let mut logits = &self.scratch.logits;
        if let (Some(factor), Some(penalty)) = (choice.penalty, &mut self.penalty) {
            let chosen = is_chained.then_some(&list.row);
            let PenaltyBuffers { seen, logits: y } = penalty;
            ops.penalise((module, factor), chosen, logits, seen, y);
            logits = y;
        }
        ops.top(module, logits, &mut list.row);
        if let Some(draw) = draw {
            ops.draw(module, &draw, &mut list.row);
        }
        let readback = match choice.reads_logits {
            true => ops.begin_read(&[&self.scratch.logits, &list.row]),
            false => ops.begin_read(&[&list.row]),
        };
        self.top_list = Some(list);
        if let Some(sequence) = &mut self.sequence {
            sequence.push_in_flight(StepInFlight {
                choice,
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
        let numbers = self.ops.finish_read(step.readback).await;
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let mut logits =
            numbers.inspect_err(|_| sequence.device = DeviceState::nothing_pending())?;
        let now_us = now_us();
        sequence.clock.note_arrival(now_us);
        if let Some(since_us) = step.alone_since_us {
            sequence.clock.note_alone(now_us - since_us);
        }
        // The list comes after the logits, if they are read: then they stay in the buffer that was read into.
        let row = logits.split_off(logits.len() - TopK::row_len(step.choice.k));
        let top = TopK::from_row(&row);
        Ok(PendingToken {
            continued_with: (sequence.n_in_flight() > 0).then_some(top.chosen),
            output: match step.choice.reads_logits {
                true => StepOutput::Logits(logits),
                false => StepOutput::TopK(top),
            },
            blocks_us: self.take_blocks_us(step.pass),
            drafted: 0,
        })
    }

    /// The times of the blocks in `pass`, whose readback has arrived; empty if they have none.
    pub(super) fn take_blocks_us(&mut self, pass: Option<u32>) -> Vec<f32> {
        let has_times = self.ops.times_spans() || self.waits_for_blocks();
        let Some(pass) = pass.filter(|_| has_times) else {
            return Vec::new();
        };
        let (profiler, modules) = (self.ops.profiler(), &self.model.block_modules);
        let blocks_us = profiler.durations_us(modules, pass).unwrap_or_default();
        if self.recording == Level::Off {
            // Nothing is recorded, so these spans are not needed any more; later passes may still get their times.
            profiler.forget_through(pass);
        }
        blocks_us
    }

    /// If the device continued with another token than the sampler chose, rewinds the steps that it has computed since.
    /// The chosen token must be the last of the history.
    pub(super) fn check_device_choice(&mut self, continued_with: Option<u32>) {
        let Some(sequence) = &self.sequence else {
            return;
        };
        let chosen = sequence.history.last();
        if continued_with.is_some_and(|token| chosen != Some(&token)) {
            self.rewind_to(sequence.history.len() - 1);
        }
    }

    /// How the device draws a token from the list that is submitted next; `None` if it takes the most probable one.
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
