//! Passes over drafts: one pass over the last token and the tokens that `lookup` drafts after it computes the logits
//! after each of them. The sampler chooses from them one by one, as from those of decode steps. As long as it chooses
//! the drafted tokens, the next logits are available without a pass. Otherwise the cache is cut back to the accepted
//! tokens.
//!
//! The rows of such a pass are bit for bit decode steps ([`Device::MAX_EXACT_ROWS`]), and each token is sampled from
//! the model's own distribution with the same random number as without drafts, so drafts do not change the text. This
//! is the acceptance rule of speculative decoding (Leviathan et al. 2023) for a deterministic draft: it is accepted
//! with the probability that the model gives it, and otherwise another token is sampled from the rest.

use std::hint::black_box;

use serde::Serialize;

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::model::config::Config;
use crate::model::drafts::UndoRecord;
use crate::model::forward::ForwardPass;
use crate::ops::device::Device;
use crate::ops::trace::Level;
use crate::session::lookup::{DraftPolicy, Match};
use crate::session::sequence::{DeviceState, Sequence};
use crate::session::token_readback::{PendingToken, StepOutput};
use crate::session::{Session, not_started};

/// Why a session drafts no tokens, whatever `lookup` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoDrafts {
    /// The device's passes over several tokens could choose others than its decode steps.
    Device,
    /// The buffers do not fit into memory.
    Memory,
}

/// The logits after the last token and after its drafts, some of which have not been used yet.
pub(super) struct Drafts {
    /// Tokens of the history when the pass was made. The pass's first row is the last of them.
    n_history: usize,
    tokens: Vec<u32>,
    logits: Vec<f32>, // [1 + drafts, vocab]
}

/// Buffers for passes over drafts. Allocated on first use.
pub(super) struct DraftBuffers<B: Device> {
    pass: ForwardPass<B>,
    logits: B::Tensor, // [T, vocab]
}

impl Drafts {
    /// The draft for the token after the first `n_history` ones; `None` if they include all drafts.
    fn token_after(&self, n_history: usize) -> Option<u32> {
        let index = n_history.checked_sub(self.n_history)?;
        self.tokens.get(index).copied()
    }

    /// Whether the history has continued as drafted.
    fn agree_with(&self, history: &[u32]) -> bool {
        let since = &history[self.n_history.min(history.len())..];
        self.tokens.starts_with(since)
    }

    /// The logits after `n_history` tokens.
    fn row(&self, n_history: usize) -> Vec<f32> {
        let vocab_size = self.logits.len() / (1 + self.tokens.len());
        let row = n_history - self.n_history;
        self.logits[row * vocab_size..][..vocab_size].to_vec()
    }
}

impl<B: Device> DraftBuffers<B> {
    /// Bytes of all buffers, including the host's copy of the logits.
    pub fn bytes(config: &Config) -> u64 {
        let rows = B::MAX_EXACT_ROWS;
        let pass = 4 * (rows * (3 * config.hidden_size + 2 * config.vocab_size)) as u64;
        UndoRecord::<B>::bytes(config, rows) + pass
    }
}

/// Whether the host can allocate `bytes`. A failed allocation of a tensor would abort the program.
fn has_room(bytes: u64) -> bool {
    let mut probe = Vec::<u8>::new();
    let bytes = usize::try_from(bytes);
    let has_room = bytes.is_ok_and(|bytes| probe.try_reserve_exact(bytes).is_ok());
    // Without this the optimiser may remove the unused allocation and assume that it succeeded.
    black_box(&probe);
    has_room
}

impl<B: Device> Sequence<B> {
    /// Whether `token` is the draft for the next token: the logits after it are then available.
    pub fn is_draft(&self, token: u32) -> bool {
        let drafts = self.drafts.as_ref();
        drafts.and_then(|drafts| drafts.token_after(self.history.len())) == Some(token)
    }
}

impl<B: Device> Session<B> {
    pub fn set_draft_policy(&mut self, policy: DraftPolicy) {
        self.draft_policy = policy;
    }

    /// What prevents drafts. Lack of memory may be known only after the first attempt to make one.
    pub fn no_drafts(&self) -> Option<NoDrafts> {
        if B::MAX_EXACT_ROWS <= 1 {
            return Some(NoDrafts::Device);
        }
        (!self.drafts_fit).then_some(NoDrafts::Memory)
    }

    /// An earlier occurrence of the last tokens, if this run may make drafts at all.
    pub(super) fn find_match(&self) -> Option<Match> {
        let sequence = self.sequence.as_ref();
        let may_draft = self.no_drafts().is_none();
        let sequence = sequence.filter(|s| s.options.lookup > 0 && may_draft)?;
        Match::of(&sequence.history)
    }

    /// The next row of a pass over drafts, if the tokens chosen since then are the drafted ones. Otherwise cuts the
    /// cache back to those that are.
    pub(super) fn next_draft_row(&mut self) -> Option<PendingToken> {
        let sequence = self.sequence.as_mut()?;
        let (history, drafts) = (&sequence.history, sequence.drafts.as_ref()?);
        if !drafts.agree_with(history) {
            self.cut_back_drafts();
            return None;
        }
        let output = StepOutput::Logits(drafts.row(history.len()));
        if drafts.token_after(history.len()).is_none() {
            // The last row: the cache now has exactly the history.
            let n_tokens = 1 + drafts.tokens.len();
            sequence.drafts = None;
            self.pass_cost.note_outcome(n_tokens, 0.0);
        }
        Some(PendingToken::of(output))
    }

    /// If drafts are left, cuts the cache back to all tokens of the history but the last one.
    pub(super) fn cut_back_drafts(&mut self) {
        let Some(sequence) = &mut self.sequence else {
            return;
        };
        let (Some(drafts), Some(buffers)) = (sequence.drafts.take(), &mut self.draft_buffers)
        else {
            return;
        };
        sequence.device = DeviceState::nothing_pending();
        let start_us = now_us();
        let n_rows = sequence.history.len() - drafts.n_history;
        let (ops, model, s) = (&mut self.ops, &self.model, &mut self.scratch);
        let of_all = [n_rows, 1 + drafts.tokens.len()];
        (buffers.pass).keep_rows(ops, model, &mut self.cache, s, of_all);
        self.pass_cost.note_outcome(n_rows, now_us() - start_us);
    }

    /// With all tokens but the last one in the cache: makes a pass over it and as many drafts as pay, and returns its
    /// first row; `None` if no draft pays.
    pub(super) async fn try_drafts(
        &mut self,
        found: Option<Match>,
    ) -> Result<Option<PendingToken>> {
        let start_us = now_us();
        let drafts = found.map_or(Vec::new(), |found| self.draft(found));
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        let (n_history, n_drafts) = (sequence.history.len(), drafts.len());
        if n_drafts == 0 {
            return Ok(None);
        }
        // The run continues without drafts if their buffers cannot be allocated. Twice the size is required, to leave
        // some memory.
        if self.draft_buffers.is_none() {
            self.drafts_fit = has_room(2 * DraftBuffers::<B>::bytes(&self.model.config));
            if !self.drafts_fit {
                return Ok(None);
            }
        }
        // After a failure there are no logits to choose from.
        sequence.device = DeviceState::nothing_pending();
        let mut tokens = vec![sequence.history[n_history - 1]];
        tokens.extend(&drafts);
        let pass_number = sequence.pass_after(n_history);
        self.begin_pass(pass_number);
        let (ops, model) = (&mut self.ops, &self.model);
        let (cache, s) = (&mut self.cache, &mut self.scratch);
        let config = &model.config;
        // The first pass touches new memory, so its time is not representative.
        let is_first = self.draft_buffers.is_none();
        let buffers = self.draft_buffers.get_or_insert_with(|| DraftBuffers {
            pass: ForwardPass::for_drafts(ops, config, B::MAX_EXACT_ROWS),
            logits: ops.tensor(B::MAX_EXACT_ROWS, config.vocab_size),
        });
        let DraftBuffers { pass, logits } = buffers;
        pass.restart(ops, model, cache, &tokens);
        pass.advance(ops, model, cache, s, usize::MAX);
        pass.chunk_logits(ops, model, 0, s, logits);
        let logits = ops.read(&*logits).await?;
        let drafts = Drafts {
            n_history,
            tokens: drafts,
            logits,
        };
        let pending = PendingToken {
            blocks_us: self.take_blocks_us(Some(pass_number as u32)),
            drafted: n_drafts,
            ..PendingToken::of(StepOutput::Logits(drafts.row(n_history)))
        };
        let sequence = self.sequence.as_mut().ok_or_else(not_started)?;
        sequence.drafts = Some(drafts);
        if !is_first {
            self.pass_cost.note_pass(n_drafts, now_us() - start_us);
        }
        Ok(Some(pending))
    }

    /// The tokens to draft after the current history.
    fn draft(&self, found: Match) -> Vec<u32> {
        let n = self.sequence.as_ref().map_or(0, |sequence| {
            let n_history = sequence.history.len();
            let options = &sequence.options;
            let has_one_to_read = self.cache.len + 1 == n_history && n_history > sequence.n_prompt;
            let has_one_to_read = has_one_to_read && !sequence.is_prefill();
            // Profiles show decode steps, so there are no drafts while recording.
            if !has_one_to_read || self.recording != Level::Off || !self.reads_logits(sequence) {
                return 0;
            }
            // The last token of a full context is never computed.
            let room = self.cache.context.saturating_sub(n_history);
            // The last token of a run needs no logits after it.
            let wanted = (options.max_tokens).saturating_sub(sequence.generated() + 1);
            let most = (options.lookup).min(B::MAX_EXACT_ROWS - 1);
            let most = most.min(room).min(wanted);
            let most = most.min(self.tokens_before_checkpoint());
            match self.draft_policy {
                DraftPolicy::Always => most,
                DraftPolicy::WherePaying if !self.pass_cost.has_credit() => 0,
                DraftPolicy::WherePaying => {
                    (sequence.evidence).draft_len(found, most, &self.pass_cost)
                }
            }
        });
        let sequence = self.sequence.as_ref();
        sequence.map_or(Vec::new(), |sequence| found.draft(&sequence.history, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_megabyte_and_not_for_all_addresses() {
        assert!(has_room(1 << 20));
        assert!(!has_room(u64::MAX / 2 + 1));
    }
}
