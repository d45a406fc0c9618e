//! What the host reads to choose tokens, and how many the device chooses by itself before one reading. It stands on floor 4
//! as a part of the session. It draws nothing itself: the sampler does, from all logits or from a list that decides as
//! much. Tokens that have been read and not given yet wait in the run; the device's state is then ahead of the history.

use crate::backend::Backend;
use crate::clock::now_us;
use crate::error::{Error, Fact, Result};
use crate::model::forward;
use crate::profile::Level;
use crate::session::{Run, Session, not_started};
use crate::text::sampling::{Sampled, TokenProbability, Top, rank_of};

/// Longer bursts are seen as such.
const BURST_US: f64 = 50_000.0;

/// How far the device may run ahead of what has been read of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lookahead {
    /// Tokens of one reading. 1: the host reads all logits of every token.
    pub most_tokens: usize,
    /// How long the tokens of one reading may take, at the speed of those before.
    pub burst_us: f64,
}

impl Lookahead {
    /// What is best for backend `B`.
    pub fn of<B: Backend>() -> Lookahead {
        Lookahead {
            most_tokens: B::TOKENS_AHEAD,
            burst_us: BURST_US,
        }
    }
}

/// What is read for the tokens that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All logits of one token.
    Logits,
    /// The k most probable tokens; the host draws one of them.
    Top { k: usize },
    /// The k most probable tokens at each of several positions; the first of them is the one that comes.
    Burst { k: usize },
}

/// What has been read for one token.
pub(crate) enum Told {
    Logits(Vec<f32>),
    Top(Top),
}

/// One token's reading, with what it took.
pub(crate) struct Outlook {
    pub told: Told,
    /// Time per block; empty where no pass was made for this token, or nothing told its times.
    pub blocks_us: Vec<f32>,
    /// Its share of the time of the reading.
    pub us: f64,
}

/// Lists in the device's memory.
pub(crate) struct Lists<B: Backend> {
    k: usize,
    rows: B::Tensor, // [most_tokens, Top::row_len(k)]
}

/// The most probable tokens, and the place and probability of the one that was chosen.
pub(crate) type Standings = (Vec<TokenProbability>, usize, f64);

impl<B: Backend> Run<B> {
    /// Chooses the token that comes next.
    pub(crate) fn draw(&mut self, told: Told) -> Result<(Sampled, Option<Standings>)> {
        let n = self.options.alternatives;
        match told {
            Told::Top(top) => {
                let sampled = self.sampler.sample_top(&top)?;
                let standings = (n > 0).then(|| top.rank_of(sampled.token, n));
                Ok((sampled, standings))
            }
            Told::Logits(mut logits) => {
                let plain = (n > 0 || self.forced.is_some()).then(|| logits.clone());
                let mut sampled = self.sampler.sample(&mut logits, &self.history)?;
                if let (Some(token), Some(plain)) = (self.forced.take(), &plain) {
                    let (_, _, probability) = rank_of(token, plain, 0);
                    sampled = Sampled { token, probability };
                }
                let plain = plain.filter(|_| n > 0);
                Ok((
                    sampled,
                    plain.map(|plain| rank_of(sampled.token, &plain, n)),
                ))
            }
        }
    }
}

impl<B: Backend> Session<B> {
    /// How far the device may run ahead from the next reading on; at first what its backend likes.
    pub fn set_lookahead(&mut self, lookahead: Lookahead) {
        self.lookahead = lookahead;
        self.lists = None;
    }

    /// The one place that decides what is read.
    fn reading(&self, run: &Run<B>) -> Reading {
        let sampling = &run.options.sampling;
        let k = sampling.sufficient_top_k();
        let k = k.map(|k| k.max(run.options.alternatives));
        let k = k.filter(|k| *k <= Top::MOST);
        let is_host = self.lookahead.most_tokens <= 1
            || self.model.config.vocab_size > Top::MOST_VOCAB
            // A token that is put in may be none of the most probable ones.
            || run.forced.is_some();
        match k {
            Some(k) if !is_host && sampling.temperature == 0.0 => Reading::Burst { k },
            Some(k) if !is_host => Reading::Top { k },
            _ => Reading::Logits,
        }
    }

    /// How many tokens the next burst has. None of them may lie beyond the end.
    fn burst(&self, run: &Run<B>) -> usize {
        if self.recording == Level::Module || self.waits_for_blocks() {
            return 1;
        }
        let wanted = run.options.max_tokens.saturating_sub(run.generated());
        let room = (self.cache.context + 1).saturating_sub(run.history.len());
        run.burst.min(wanted).min(room).max(1)
    }

    /// Whether the device has read tokens that have not been given yet, or is about to give one that it has read for.
    pub(crate) fn is_ahead(&self) -> bool {
        self.run.as_ref().is_some_and(|run| {
            !run.ahead.is_empty() || run.prefill.is_none() && self.cache.len > run.history.len()
        })
    }

    /// Whether what is waiting in the run is what its options would have read.
    pub(crate) fn serves(&self) -> bool {
        let (run, lists) = (self.run.as_ref(), self.lists.as_ref());
        let mut pair = run.zip(lists).into_iter();
        pair.any(|(run, lists)| self.reading(run) == Reading::Burst { k: lists.k })
    }

    /// Takes the state back to where it has read all tokens but the last one, if it is ahead.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        if !self.is_ahead() {
            return Ok(());
        }
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let (generated, until) = (run.generated(), run.history.len() - 1);
        self.go_back(generated.saturating_sub(1));
        self.read_until(until).await
    }

    /// What the next token is chosen from; it may have come with the token before.
    pub(crate) async fn next_outlook(&mut self) -> Result<Outlook> {
        if self.run.as_ref().is_some_and(|run| run.ahead.is_empty()) {
            self.read_outlooks().await?;
        }
        let run = self.run.as_mut();
        let outlook = run.and_then(|run| run.ahead.pop_front());
        outlook.ok_or_else(not_started)
    }

    async fn read_outlooks(&mut self) -> Result<()> {
        let start_us = now_us();
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let (n_history, n_prompt) = (run.history.len(), run.n_prompt);
        let (n_before, reads_prompt) = (self.cache.len, run.prefill.is_some());
        self.read_until(n_history).await?;
        let run = self.run.as_mut().ok_or_else(not_started)?;
        if !std::mem::take(&mut run.is_predicted) {
            return Err(Error::Sequence {
                fact: Fact::new("device_failed_before"),
            });
        }
        let run = self.run.as_ref().ok_or_else(not_started)?;
        let told = match self.reading(run) {
            Reading::Logits => vec![Told::Logits(self.be.read(&self.scratch.logits).await?)],
            Reading::Top { k } => self.read_lists(k, 1).await?,
            Reading::Burst { k } => self.read_lists(k, self.burst(run)).await?,
        };
        let n = told.len();
        let us = (now_us() - start_us) / n as f64;
        let knows_times = self.be.times_spans() || self.waits_for_blocks();
        let profiler = self.be.profiler();
        let outlooks = (0..).zip(told).map(|(i, told)| {
            let pass = n_history - n_prompt + i;
            let has_pass = knows_times && pass > 0 && (i > 0 || n_before < n_history);
            let blocks_us = if has_pass {
                profiler.durations_us(&self.model.block_modules, pass as u32)
            } else {
                Vec::new()
            };
            Outlook {
                told,
                blocks_us,
                us,
            }
        });
        let run = self.run.as_mut().ok_or_else(not_started)?;
        run.ahead.extend(outlooks);
        if !reads_prompt && n_before + 1 == n_history {
            let affordable = (self.lookahead.burst_us / us) as usize;
            let most = self.lookahead.most_tokens.min(2 * n);
            run.burst = affordable.clamp(1, most);
        }
        Ok(())
    }

    /// Lists of the tokens at `n` positions, the present one and those after the first token of each list.
    async fn read_lists(&mut self, k: usize, n: usize) -> Result<Vec<Told>> {
        let lists = self.lists.take().filter(|lists| lists.k == k);
        let mut lists = lists.unwrap_or_else(|| Lists {
            k,
            rows: (self.be).tensor(self.lookahead.most_tokens, Top::row_len(k)),
        });
        forward::top(&mut self.be, &self.model, &self.scratch, 0, &mut lists.rows);
        for row in 1..n {
            let n_prompt = self.run.as_ref().map_or(0, |run| run.n_prompt);
            let pass = self.cache.len + 1 - n_prompt;
            self.be.profiler().set_pass(pass as u32);
            self.encode_chosen(&lists.rows, row - 1);
            self.mark();
            forward::top(
                &mut self.be,
                &self.model,
                &self.scratch,
                row,
                &mut lists.rows,
            );
        }
        let numbers = self.be.read(&lists.rows).await;
        self.lists = Some(lists);
        let numbers = numbers?;
        let rows = numbers.chunks(Top::row_len(k));
        Ok(rows.map(|row| Told::Top(Top::from_row(row))).collect())
    }
}
