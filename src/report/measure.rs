//! The measuring protocol of the command line, the page and the tests: which runs to make, in which order, on which
//! prompt. The caller makes the runs, natively in a loop and in a browser through a worker.

/// After a warm-up, unprofiled and profiled runs alternate, so that a drift of clock rate or temperature affects both
/// kinds alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Runs before the first measured one. They fill caches and page tables and raise the clock rate.
    pub warmup: usize,
    /// Measured runs of each kind.
    pub runs: usize,
    /// Whether to make profiled runs.
    pub is_recorded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRun {
    WarmUp,
    /// Without spans, for the times of whole passes.
    Unprofiled,
    /// With spans, for the times of blocks and modules.
    Profiled,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            warmup: WARMUP_RUNS,
            runs: RUNS,
            is_recorded: true,
        }
    }
}

impl Protocol {
    /// The next run after `n_done` runs, warm-up included; `None` at the end.
    pub fn next(self, n_done: usize) -> Option<NextRun> {
        let Some(n_measured) = n_done.checked_sub(self.warmup) else {
            return Some(NextRun::WarmUp);
        };
        let kinds = if self.is_recorded { 2 } else { 1 };
        (n_measured < kinds * self.runs).then(|| match n_measured % kinds {
            0 => NextRun::Unprofiled,
            _ => NextRun::Profiled,
        })
    }

    /// All runs in order.
    pub fn sequence(self) -> impl Iterator<Item = NextRun> {
        (0..).map_while(move |n_done| self.next(n_done))
    }
}

impl NextRun {
    /// Name used in the JavaScript API.
    pub fn name(self) -> &'static str {
        match self {
            NextRun::WarmUp => "warm_up",
            NextRun::Unprofiled => "unprofiled",
            NextRun::Profiled => "profiled",
        }
    }
}

/// Defaults of a report.
pub const PROMPT_TOKENS: usize = 35;
pub const DECODE_TOKENS: usize = 16;
pub const RUNS: usize = 5;
pub const WARMUP_RUNS: usize = 1;

/// Defaults of `profile` in the JavaScript API where they differ from those of a report.
pub const PROFILE_DECODE_TOKENS: usize = 8;
pub const PROFILE_RUNS: usize = 3;

/// From this resolution on, ticks of the clock are longer than decode steps and the rounds of measuring ceilings.
/// Firefox's clock ticks every 16.7 or 100 ms when it resists fingerprinting.
pub const COARSE_CLOCK_US: usize = 1000;

/// The token ids to measure with: `ids` cut or repeated to `length`. Without `ids`, the ids step through the vocabulary
/// by a prime: all ids take the same time, and each reads a different row of the embedding.
pub fn prompt(ids: Option<&[u32]>, length: usize, vocab_size: usize) -> Vec<u32> {
    match ids {
        Some(ids) => ids.iter().copied().cycle().take(length).collect(),
        None => (0..length as u64)
            .map(|i| (i * 7919 % vocab_size as u64) as u32)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprofiled_and_profiled_runs_alternate_after_the_warm_up() {
        use NextRun::{Profiled, Unprofiled, WarmUp};
        let protocol = Protocol {
            warmup: 2,
            runs: 2,
            is_recorded: true,
        };
        let all: Vec<NextRun> = protocol.sequence().collect();
        let expected = [WarmUp, WarmUp, Unprofiled, Profiled, Unprofiled, Profiled];
        assert_eq!(all, expected);
        assert_eq!(protocol.next(7), None);
    }

    #[test]
    fn without_recording_every_measured_run_is_unprofiled() {
        let protocol = Protocol {
            warmup: 0,
            runs: 3,
            is_recorded: false,
        };
        assert!(protocol.sequence().eq([NextRun::Unprofiled; 3]));
    }

    #[test]
    fn a_prompt_is_cut_or_repeated_to_its_length() {
        assert_eq!(prompt(Some(&[7, 8, 9]), 2, 100), [7, 8]);
        assert_eq!(prompt(Some(&[7, 8, 9]), 5, 100), [7, 8, 9, 7, 8]);
        assert_eq!(prompt(Some(&[]), 5, 100), [0u32; 0]);
        assert_eq!(prompt(None, 3, 100), [0, 19, 38]);
    }
}
