//! The sequence: prompt, generated tokens, sampler and text, and the choice of the next token. It is started in
//! `prompt_cache`; forward passes are in `runner`, readbacks in `token_readback`.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use serde::Serialize;

use crate::base::clock::now_us;
use crate::base::error::{Error, Fact, Result};
use crate::model::forward::ForwardPass;
use crate::ops::device::Device;
use crate::ops::work::Work;
use crate::session::draft_pass::Drafts;
use crate::session::lookup::Evidence;
use crate::session::state_checkpoints::StateCheckpoint;
use crate::session::steps_in_flight::StepClock;
use crate::session::token_readback::{PendingToken, StepInFlight, StepOutput};
use crate::session::{GenerateOptions, Session, StopReason, not_started};
use crate::text::sampling::{Sampled, Sampler, TokenProbability, TokenSet, rank_of};
use crate::text::stop_strings::StopStrings;
use crate::text::stream::TextStream;
use crate::text::tokenizer::Tokenizer;

/// One of the most probable tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    pub token: u32,
    /// The token decoded on its own.
    pub text: String,
    /// Before penalty, temperature and filters.
    pub probability: f64,
}

/// An [`Alternative`] to a generated token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankedToken {
    pub token: u32,
    pub text: String,
    /// What it adds to a text; `None` if decoding skips it.
    pub bytes: Option<Vec<u8>>,
    pub probability: f64,
}

/// The rank of a token in the whole vocabulary, before penalty, temperature and filters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenRank {
    /// The token decoded on its own.
    pub text: String,
    /// What it adds to a text; `None` if decoding skips it.
    pub bytes: Option<Vec<u8>>,
    /// 1 is the most probable.
    pub rank: usize,
    pub probability: f64,
    /// The most probable tokens, in descending order.
    pub alternatives: Vec<RankedToken>,
}

/// One generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub token: u32,
    /// The text that this token completes; it may be empty or cover several tokens.
    pub text: String,
    pub done: Option<StopReason>,
    /// The token's probability in the distribution that it was drawn from; for a forced token, in the model's own.
    pub probability: f64,
    /// Present if alternatives were requested.
    pub token_rank: Option<TokenRank>,
    /// Since the token before, if the step was in flight by then; otherwise the time of the call.
    pub us: f64,
    /// Time per block; empty if no pass was made for this token: after a prefill, after a rewind to a state checkpoint
    /// with logits, and after an accepted draft.
    pub blocks_us: Vec<f32>,
    /// Tokens that this step's pass has drafted after this one.
    pub drafted: usize,
    /// Whether this token was drafted, so that the next one needs no pass.
    pub accepted_draft: bool,
}

/// The state of the device relative to the tokens that were returned.
pub(super) enum DeviceState<B: Device> {
    /// A pass over the prompt, or over the part of it that ends before token `end`, is being encoded or has not begun.
    Prefill { pass: ForwardPass<B>, end: usize },
    /// The scratch has the logits after the last token of the cache, and no token was chosen from them.
    LogitsReady,
    /// Tokens were chosen from those logits.
    Decoding {
        /// Read back, but choosing a token from it failed. Comes before the steps in flight.
        put_back: Option<PendingToken>,
        /// The cache is ahead of the history by all of them but one.
        in_flight: VecDeque<StepInFlight<B>>,
    },
}

/// The most probable tokens, and rank and probability of the chosen one.
type Rank = (Vec<TokenProbability>, usize, f64);

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextToken {
    Sampled,
    /// This token replaces the one that the sampler draws, so that the sampler's random numbers stay in step.
    Forced(u32),
    /// The generation has ended.
    None,
}

/// The tokens of a generation and all of its state outside the cache.
pub(super) struct Sequence<B: Device> {
    pub options: GenerateOptions,
    pub sampler: Sampler,
    pub text: TextStream,
    pub stops: StopStrings,
    /// The prompt and the generated tokens. The cache usually has all but the last one; fewer after a rewind, and more
    /// if steps are in flight.
    pub history: Vec<u32>,
    pub n_prompt: usize,
    /// Which tokens of the prompt are prefilled together, in order. The others, which an earlier run has generated,
    /// were computed by decode steps. A replay makes the same passes.
    pub prefills: Vec<Range<usize>>,
    pub next: NextToken,
    pub device: DeviceState<B>,
    pub clock: StepClock,
    pub evidence: Evidence,
    /// The unused part of a pass over drafts; the cache is then ahead.
    pub drafts: Option<Drafts>,
    /// When the last token was returned; none if an earlier generation returned it.
    pub returned_us: Option<f64>,
    pub checkpoints: Vec<StateCheckpoint<B>>,
    /// Tokens that the cache had when a rolling checkpoint was last due.
    pub rolling_tried: usize,
}

impl<B: Device> DeviceState<B> {
    pub fn nothing_pending() -> Self {
        DeviceState::Decoding {
            put_back: None,
            in_flight: VecDeque::new(),
        }
    }
}

impl<B: Device> Sequence<B> {
    /// Tokens after the prompt.
    pub fn generated(&self) -> usize {
        self.history.len() - self.n_prompt
    }

    /// Tokens at the beginning that were prefilled, up to the first one that a decode step has computed.
    pub fn n_prefilled(&self) -> usize {
        let prefills = self.prefills.iter();
        prefills.fold(0, |n, pass| if pass.start == n { pass.end } else { n })
    }

    pub fn is_prefill(&self) -> bool {
        matches!(self.device, DeviceState::Prefill { .. })
    }

    /// Takes the pass over the prompt; `None` after the first call.
    pub fn take_prefill(&mut self) -> Option<ForwardPass<B>> {
        match mem::replace(&mut self.device, DeviceState::nothing_pending()) {
            DeviceState::Prefill { pass, .. } => Some(pass),
            other => {
                self.device = other;
                None
            }
        }
    }

    pub fn is_forced(&self) -> bool {
        matches!(self.next, NextToken::Forced(_))
    }

    /// Makes `token` the next pending one again.
    fn put_back(&mut self, token: PendingToken) {
        if let DeviceState::Decoding { put_back, .. } = &mut self.device {
            *put_back = Some(token);
        }
    }

    pub fn take_put_back(&mut self) -> Option<PendingToken> {
        match &mut self.device {
            DeviceState::Decoding { put_back, .. } => put_back.take(),
            _ => None,
        }
    }

    /// The number of the pass whose logits follow `n_tokens` tokens: 0 is the prefill, n the n-th decode step.
    pub fn pass_after(&self, n_tokens: usize) -> usize {
        n_tokens.saturating_sub(self.n_prompt)
    }

    /// Steps that were submitted and not waited for.
    pub fn n_in_flight(&self) -> usize {
        match &self.device {
            DeviceState::Decoding { in_flight, .. } => in_flight.len(),
            _ => 0,
        }
    }

    /// Whether there are outputs that no token was chosen from. Drafts count: the cache has them already.
    pub fn has_pending(&self) -> bool {
        let has_put_back = matches!(
            self.device,
            DeviceState::Decoding {
                put_back: Some(_),
                ..
            }
        );
        has_put_back || self.drafts.is_some() || self.n_in_flight() > 0
    }

    pub fn push_in_flight(&mut self, step: StepInFlight<B>) {
        if let DeviceState::Decoding { in_flight, .. } = &mut self.device {
            in_flight.push_back(step);
        }
    }

    pub fn pop_in_flight(&mut self) -> Option<StepInFlight<B>> {
        match &mut self.device {
            DeviceState::Decoding { in_flight, .. } => in_flight.pop_front(),
            _ => None,
        }
    }

    /// Chooses the next token, and its rank if alternatives were requested. An error leaves `output` unchanged.
    fn choose(
        &mut self,
        output: &mut StepOutput,
        allowed: Option<&TokenSet>,
    ) -> Result<(Sampled, Option<Rank>)> {
        let n = self.options.alternatives;
        match output {
            StepOutput::TopK(top) => {
                let sampled = self.sampler.sample_top(top)?;
                let rank = (n > 0).then(|| top.rank_of(sampled.token, n));
                Ok((sampled, rank))
            }
            StepOutput::Logits(logits) => {
                let (sampler, history) = (&mut self.sampler, &self.history);
                let mut sampled = match allowed {
                    Some(allowed) => sampler.sample_among(allowed, logits, history)?,
                    None => sampler.sample(logits, history)?,
                };
                if let NextToken::Forced(token) = self.next {
                    let (_, _, probability) = rank_of(token, logits, 0);
                    sampled = Sampled { token, probability };
                    self.next = NextToken::Sampled;
                }
                let rank = (n > 0).then(|| rank_of(sampled.token, logits, n));
                Ok((sampled, rank))
            }
        }
    }

    /// Appends `token`. Returns the text that it completes, and the reason if the generation ends with it.
    fn push(
        &mut self,
        token: u32,
        is_eos: bool,
        tokenizer: Option<&Tokenizer>,
        context: usize,
    ) -> Result<(String, Option<StopReason>)> {
        self.history.push(token);
        let ends_turn = is_eos || self.options.end_tokens.contains(&token);
        // After a complete text only an end token is allowed, so it ends the generation in any case.
        let ended_by_eos = ends_turn && (!self.options.ignore_eos || self.options.is_constrained());
        let mut text = String::new();
        let mut done = None;
        if let (Some(tokenizer), false) = (tokenizer, ended_by_eos) {
            let (piece, stopped) = self.stops.push(&self.text.push(tokenizer, token)?);
            text = piece;
            done = stopped.then_some(StopReason::Stop);
        }
        if done.is_none() {
            done = match () {
                () if ended_by_eos => Some(StopReason::Eos),
                () if self.generated() >= self.options.max_tokens => Some(StopReason::Length),
                () if self.history.len() > context => Some(StopReason::Context),
                () => None,
            };
            if done.is_some() {
                let (piece, stopped) = self.stops.push(&self.text.finish());
                text.push_str(&piece);
                if stopped {
                    done = Some(StopReason::Stop);
                } else {
                    text.push_str(&self.stops.finish());
                }
            }
        }
        if done.is_some() {
            self.next = NextToken::None;
        }
        Ok((text, done))
    }
}

impl<B: Device> Session<B> {
    /// Generates the next token: from the prefill's logits the first time, then with a decode step over the last token.
    ///
    /// # Errors
    /// No sequence, or one that has ended; weights that are not loaded; [`Error::NonFiniteLogits`], also from every
    /// further step; the device's own failure.
    pub async fn step(&mut self) -> Result<Step> {
        self.step_among(None).await
    }

    /// Like [`Session::step`], restricted to the tokens that the schema or the grammar of the options allows next.
    ///
    /// # Errors
    /// Also [`Error::Sequence`] if there are options of that kind and no tokens, or tokens without such options;
    /// [`Error::Grammar`] for an empty set.
    pub async fn step_among(&mut self, allowed: Option<&TokenSet>) -> Result<Step> {
        let start_us = now_us();
        self.check_complete()?;
        let sequence = self.sequence.as_ref().ok_or_else(not_started)?;
        if sequence.next == NextToken::None {
            return Err(Error::Sequence {
                fact: Fact::new("generation_ended"),
            });
        }
        if sequence.options.is_constrained() != allowed.is_some() {
            return Err(Error::Sequence {
                fact: Fact::new("needs_allowed_tokens"),
            });
        }
        let is_in_flight = sequence.n_in_flight() > 0;
        let from_us = sequence.returned_us.filter(|_| is_in_flight);
        let found = self.find_match();
        let mut pending = self.next_pending(found).await?;
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let tokenizer = self.tokenizer.as_ref();
        let span = self.ops.profiler().open_op(self.model.plan.sampling);
        let chosen = sequence.choose(&mut pending.output, allowed);
        self.ops.profiler().close(span, Work::default);
        let (sampled, rank) = match chosen {
            Ok(chosen) => chosen,
            Err(error) => {
                // The next call uses the same logits, so it returns the same error and not one of the device.
                sequence.put_back(pending);
                return Err(error);
            }
        };
        let token_rank = rank.map(|rank| token_rank(tokenizer, rank, sampled.token));
        let token_rank = token_rank.transpose()?;
        let accepted_draft = sequence.is_draft(sampled.token);
        if let Some(found) = found {
            let Sequence {
                evidence, history, ..
            } = &mut *sequence;
            evidence.note(found, history, sampled.token);
        }
        let is_eos = self.model.config.eos_token_ids.contains(&sampled.token);
        let context = self.cache.context;
        let (text, done) = sequence.push(sampled.token, is_eos, tokenizer, context)?;
        let now_us = now_us();
        sequence.returned_us = Some(now_us);
        self.check_device_choice(pending.continued_with);
        Ok(Step {
            token: sampled.token,
            text,
            done,
            probability: sampled.probability,
            token_rank,
            us: now_us - from_us.unwrap_or(start_us),
            blocks_us: pending.blocks_us,
            drafted: pending.drafted,
            accepted_draft,
        })
    }
}

fn token_rank(
    tokenizer: Option<&Tokenizer>,
    (top, rank, probability): Rank,
    chosen: u32,
) -> Result<TokenRank> {
    let ranked = alternatives(tokenizer, &top)?.into_iter().map(|other| {
        Ok(RankedToken {
            token: other.token,
            text: other.text,
            bytes: bytes_in_text(tokenizer, other.token)?,
            probability: other.probability,
        })
    });
    Ok(TokenRank {
        text: display_text(tokenizer, chosen)?,
        bytes: bytes_in_text(tokenizer, chosen)?,
        rank,
        probability,
        alternatives: ranked.collect::<Result<_>>()?,
    })
}

/// `top` with the tokens' texts.
pub(super) fn alternatives(
    tokenizer: Option<&Tokenizer>,
    top: &[TokenProbability],
) -> Result<Vec<Alternative>> {
    let alternatives = top.iter().map(|ranked| {
        Ok(Alternative {
            token: ranked.token,
            text: display_text(tokenizer, ranked.token)?,
            probability: ranked.probability,
        })
    });
    alternatives.collect()
}

/// The token decoded on its own; empty without a tokenizer.
pub(super) fn display_text(tokenizer: Option<&Tokenizer>, token: u32) -> Result<String> {
    tokenizer.map_or(Ok(String::new()), |tokenizer| tokenizer.token_text(token))
}

fn bytes_in_text(tokenizer: Option<&Tokenizer>, token: u32) -> Result<Option<Vec<u8>>> {
    tokenizer.map_or(Ok(None), |tokenizer| tokenizer.bytes_in_text(token))
}
