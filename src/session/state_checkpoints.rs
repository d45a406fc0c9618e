//! State checkpoints: copies of the SSM and conv states after some tokens of a sequence, and which of them are kept
//! within the budget. Rewinding to one is in `rewind`, reusing one for another prompt in `prompt_cache`.

use crate::model::cache::{MambaState, empty_mamba, mamba_bytes};
use crate::ops::device::Device;
use crate::session::Session;

/// Generated tokens between two checkpoints of a run: a rewind replays half as many on average.
const CHECKPOINT_EVERY: usize = 32;
/// Tokens after the last checkpoint at which a rolling one is due, for each step in flight: a checkpoint waits for all
/// but one of them, and a device that is fast enough for many reads the tokens since then again all the sooner.
const ROLLING_EVERY: usize = 16;
/// The default limit for all checkpoints of a sequence. The largest models have room for one or two.
pub(super) const CHECKPOINTS_BYTES: u64 = 192 << 20;

/// Why a checkpoint is kept. It decides which one is evicted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of a prompt, or of an answer that the next prompt continues.
    Turn,
    /// Every [`CHECKPOINT_EVERY`] tokens within an answer, until the next prompt.
    Interval,
    /// Some tokens behind the newest, because steps in flight may compute beyond the end of the answer. There is at
    /// most one.
    Rolling,
}

/// The SSM and conv states after some tokens. Keys and values need no copy: a rewind only truncates the KV cache.
pub(super) struct StateCheckpoint<B: Device> {
    /// Tokens of the history that the state includes.
    pub len: usize,
    pub kind: Kind,
    mamba: Vec<MambaState<B>>,
    /// After the last of these tokens. `None` if the logits were not available any more; a prefill always follows such
    /// a checkpoint.
    logits: Option<B::Tensor>, // [1, vocab]
}

impl<B: Device> StateCheckpoint<B> {
    pub fn has_logits(&self) -> bool {
        self.logits.is_some()
    }
}

/// The index in `kinds`, oldest first, of the checkpoint to evict for a new one; `None` if the new one is not kept.
/// Among checkpoints of turns the second oldest is evicted first: the oldest is useful for a new conversation with the
/// same system message, the newest for the next turn.
fn victim(kinds: &[Kind], new: Kind) -> Option<usize> {
    let first_of = |kind| kinds.iter().position(|&other| other == kind);
    let turns: Vec<usize> = (0..kinds.len())
        .filter(|&i| kinds[i] == Kind::Turn)
        .collect();
    match new {
        Kind::Interval => None,
        Kind::Rolling => match turns[..] {
            [] | [_] => first_of(Kind::Interval),
            [first, _] => first_of(Kind::Interval).or(Some(first)),
            [_, second, ..] => first_of(Kind::Interval).or(Some(second)),
        },
        Kind::Turn => {
            let second_turn = turns.get(1).or(turns.first()).copied();
            first_of(Kind::Interval)
                .or(first_of(Kind::Rolling))
                .or(second_turn)
        }
    }
}

impl<B: Device> Session<B> {
    /// Limits the bytes of the state checkpoints that are kept from now on; the default is 192 MB.
    pub fn set_checkpoints_limit(&mut self, bytes: u64) {
        self.checkpoints_limit_bytes = bytes;
    }

    /// Bytes of one state checkpoint.
    pub fn checkpoint_bytes(&self) -> u64 {
        let config = &self.model.config;
        mamba_bytes(config) + 4 * config.vocab_size as u64
    }

    /// Bytes that the state checkpoints of the current sequence take.
    pub fn checkpoints_bytes(&self) -> u64 {
        let n = self.sequence.as_ref().map_or(0, |s| s.checkpoints.len());
        n as u64 * self.checkpoint_bytes()
    }

    /// Keeps a checkpoint of the state after the last token of the cache, whose logits are in the scratch, if one is
    /// due at this token and there is room.
    pub(super) fn keep_due_checkpoint(&mut self) {
        let Some(sequence) = &self.sequence else {
            return;
        };
        let (len, options) = (self.cache.len, &sequence.options);
        let n_generated = len.saturating_sub(sequence.n_prompt);
        let kind = if sequence.prefills.iter().any(|prefill| prefill.end == len) {
            Kind::Turn
        } else if options.checkpoints
            && n_generated > 0
            && n_generated.is_multiple_of(CHECKPOINT_EVERY)
        {
            Kind::Interval
        } else {
            return;
        };
        self.keep_checkpoint(kind, true);
    }

    /// How many tokens can be processed together after the next one, so that none of them ends where a checkpoint is
    /// due.
    pub(super) fn tokens_before_checkpoint(&self) -> usize {
        let sequence = self.sequence.as_ref();
        sequence
            .filter(|s| s.options.checkpoints)
            .map_or(usize::MAX, |sequence| {
                let n_generated = (self.cache.len + 1).saturating_sub(sequence.n_prompt);
                let due = n_generated.next_multiple_of(CHECKPOINT_EVERY);
                due.saturating_sub(n_generated + 1)
            })
    }

    /// Whether the last checkpoint is so far behind the cache that another one should be kept.
    pub(super) fn is_rolling_checkpoint_due(&self) -> bool {
        self.sequence.as_ref().is_some_and(|sequence| {
            let last = sequence.checkpoints.last().map_or(0, |last| last.len);
            let every = ROLLING_EVERY * sequence.clock.steps_in_flight(self.lookahead);
            let is_far = self.cache.len >= last.max(sequence.rolling_tried) + every;
            is_far && sequence.options.keeps_checkpoints()
        })
    }

    /// Keeps a checkpoint of the state after the last token of the cache, if the options ask for checkpoints. It
    /// replaces another one if there is no room.
    pub(super) fn keep_checkpoint(&mut self, kind: Kind, has_logits: bool) {
        let room = (self.checkpoints_limit_bytes / self.checkpoint_bytes()) as usize;
        let (config, len) = (&self.model.config, self.cache.len);
        let Some(sequence) = &mut self.sequence else {
            return;
        };
        if kind == Kind::Rolling {
            sequence.rolling_tried = len;
        }
        let checkpoints = &mut sequence.checkpoints;
        let is_wanted = sequence.options.keeps_checkpoints();
        if !is_wanted || checkpoints.iter().any(|other| other.len >= len) {
            return;
        }
        let kinds: Vec<Kind> = checkpoints.iter().map(|other| other.kind).collect();
        let rolling = kinds.iter().position(|&kind| kind == Kind::Rolling);
        let replaced = match kind {
            Kind::Rolling if rolling.is_some() => rolling,
            _ if checkpoints.len() < room => None,
            _ => match victim(&kinds, kind) {
                Some(index) => Some(index),
                None => return,
            },
        };
        // The memory of the evicted checkpoint is reused, so allocations stay within the budget.
        let mut checkpoint = match replaced {
            Some(index) => checkpoints.remove(index),
            None => StateCheckpoint {
                len,
                kind,
                mamba: empty_mamba(&mut self.ops, config),
                logits: None,
            },
        };
        checkpoint.len = len;
        checkpoint.kind = kind;
        for (state, kept) in self.cache.mamba.iter().zip(&mut checkpoint.mamba) {
            self.ops.copy(&state.conv, &mut kept.conv);
            self.ops.copy(&state.ssm, &mut kept.ssm);
        }
        if has_logits {
            let ops = &mut self.ops;
            let logits = checkpoint.logits.take();
            let mut logits = logits.unwrap_or_else(|| ops.tensor(1, config.vocab_size));
            ops.copy(&self.scratch.logits, &mut logits);
            checkpoint.logits = Some(logits);
        } else {
            checkpoint.logits = None;
        }
        checkpoints.push(checkpoint);
    }

    /// Restores the state of the checkpoint at `index` of the current sequence, and its logits into the scratch.
    pub(super) fn restore_checkpoint(&mut self, index: usize) {
        let sequence = self.sequence.as_ref();
        let checkpoint = &sequence.expect("a sequence has the checkpoint").checkpoints[index];
        for (kept, state) in checkpoint.mamba.iter().zip(&mut self.cache.mamba) {
            self.ops.copy(&kept.conv, &mut state.conv);
            self.ops.copy(&kept.ssm, &mut state.ssm);
        }
        if let Some(logits) = &checkpoint.logits {
            self.ops.copy(logits, &mut self.scratch.logits);
        }
        self.cache.truncate(checkpoint.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_newest_turn_stay_when_there_is_room_for_two() {
        // The end of an answer is evicted for the end of the next prompt.
        assert_eq!(victim(&[Kind::Turn, Kind::Turn], Kind::Turn), Some(1));
        assert_eq!(victim(&[Kind::Turn; 5], Kind::Turn), Some(1));
        assert_eq!(victim(&[Kind::Turn], Kind::Turn), Some(0));
        assert_eq!(victim(&[], Kind::Turn), None);
    }

    #[test]
    fn checkpoints_within_an_answer_give_way_before_those_of_turns() {
        let kinds = [Kind::Turn, Kind::Interval, Kind::Interval, Kind::Rolling];
        assert_eq!(victim(&kinds, Kind::Turn), Some(1));
        assert_eq!(victim(&[Kind::Turn, Kind::Rolling], Kind::Turn), Some(1));
        assert_eq!(victim(&kinds, Kind::Interval), None);
    }

    #[test]
    fn a_rolling_checkpoint_never_takes_the_place_of_the_newest_turn() {
        assert_eq!(victim(&[Kind::Turn], Kind::Rolling), None);
        assert_eq!(victim(&[Kind::Turn, Kind::Turn], Kind::Rolling), Some(0));
        assert_eq!(victim(&[Kind::Turn; 3], Kind::Rolling), Some(1));
    }
}
