//! Chooses the number of CPU threads by a short trial. The cores of a hybrid CPU differ, a small model has little work
//! to share, and other programs use cores too: there is no way to query this, so it is measured. The sequence, its
//! logits and the profile are not changed.

use crate::base::clock::now_us;
use crate::device::cpu::Cpu;
use crate::model::cache::Cache;
use crate::model::forward::{ForwardPass, Scratch};
use crate::ops::Ops;
use crate::ops::trace::Level;
use crate::session::Session;

/// Larger models are limited by memory bandwidth and take many milliseconds per decode step: all threads help, and a
/// trial would take long.
const MAX_WEIGHTS_BYTES: u64 = 128 << 20;
/// No round begins later than this. A trial whose first round takes longer has no result.
const BUDGET_US: f64 = 120e3;
const MAX_ROUNDS: usize = 9;
/// Measured steps of each candidate in each round. An unmeasured step before them wakes sleeping threads.
const STEPS: usize = 2;
/// More threads are preferred if they are slower by at most this factor, because a prefill gains more from them.
const TOLERANCE: f64 = 1.05;

/// One candidate with the time of a decode step in each round.
struct Candidate {
    threads: usize,
    step_us: Vec<f64>,
}

impl Session<Cpu> {
    /// Times decode steps of the loaded model on one thread, half of the threads and all of them in turn, then uses the
    /// fastest number and returns it. A model that is incomplete or large keeps all threads.
    pub fn choose_threads(&mut self) -> usize {
        let all = self.ops.device().threads();
        if all == 1 || self.check_complete().is_err() || self.weights_bytes() > MAX_WEIGHTS_BYTES {
            return all;
        }
        let level = self.ops.profiler().level();
        self.ops.profiler().set_level(Level::Off);
        let chosen = self.time_threads(all).unwrap_or(all);
        self.ops.device_mut().set_threads(chosen);
        self.ops.profiler().set_level(level);
        chosen
    }

    /// The fastest number of threads; none if a step takes too long for a trial.
    fn time_threads(&mut self, all: usize) -> Option<usize> {
        let mut candidates = candidates(all);
        let (ops, model) = (&mut self.ops, &self.model);
        // Separate memory, so that the sequence and its logits are not changed.
        let mut cache = Cache::new(ops, &model.config, STEPS + 1, self.kv_format);
        let mut scratch = Scratch::new(ops, &model.config);
        let mut pass = ForwardPass::with_room(ops, &model.config, 1);
        let mut step = |ops: &mut Ops<Cpu>, cache: &mut Cache<Cpu>| {
            pass.restart(ops, model, cache, &[0]);
            pass.advance(ops, model, cache, &mut scratch, usize::MAX);
            pass.last_logits(ops, model, &mut scratch);
        };
        let start_us = now_us();
        for round in 0..MAX_ROUNDS {
            for candidate in &mut candidates {
                ops.device_mut().set_threads(candidate.threads);
                cache.reset(ops);
                step(ops, &mut cache);
                let from_us = now_us();
                for _ in 0..STEPS {
                    step(ops, &mut cache);
                }
                // The first round warms up: a browser runs new code in its baseline compiler.
                if round > 0 {
                    candidate.step_us.push((now_us() - from_us) / STEPS as f64);
                }
            }
            if now_us() - start_us > BUDGET_US {
                break;
            }
        }
        fastest(candidates)
    }
}

/// One thread, half of them and all, each number once.
fn candidates(all: usize) -> Vec<Candidate> {
    let mut counts = vec![1, all / 2, all];
    counts.dedup();
    let candidate = |threads| Candidate {
        threads,
        step_us: Vec::with_capacity(MAX_ROUNDS),
    };
    counts.into_iter().map(candidate).collect()
}

/// The most threads whose median is within [`TOLERANCE`] of the best; none if nothing was measured.
fn fastest(candidates: Vec<Candidate>) -> Option<usize> {
    let medians = candidates.into_iter().map(|mut candidate| {
        candidate.step_us.sort_by(f64::total_cmp);
        let middle = candidate.step_us.get(candidate.step_us.len() / 2)?;
        Some((candidate.threads, *middle))
    });
    let medians: Vec<(usize, f64)> = medians.collect::<Option<_>>()?;
    let best_us = medians
        .iter()
        .map(|(_, us)| *us)
        .fold(f64::INFINITY, f64::min);
    let near = medians.iter().filter(|(_, us)| *us <= best_us * TOLERANCE);
    near.map(|(threads, _)| *threads).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(times: &[(usize, &[f64])]) -> Option<usize> {
        let candidate = |(threads, step_us): &(usize, &[f64])| Candidate {
            threads: *threads,
            step_us: step_us.to_vec(),
        };
        fastest(times.iter().map(candidate).collect())
    }

    #[test]
    fn the_candidates_are_one_thread_half_of_them_and_all() {
        let counts = |all| -> Vec<usize> {
            let candidates = candidates(all).into_iter();
            candidates.map(|candidate| candidate.threads).collect()
        };
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(3), [1, 3]);
        assert_eq!(counts(8), [1, 4, 8]);
    }

    #[test]
    fn the_number_of_threads_with_the_lowest_median_is_chosen() {
        // A single outlier in either direction decides nothing.
        let times: [(usize, &[f64]); 3] = [
            (1, &[4.0, 4.0, 1.0]),
            (4, &[2.0, 2.0, 9.0]),
            (8, &[3.0, 3.0, 3.0]),
        ];
        assert_eq!(timed(&times), Some(4));
    }

    #[test]
    fn more_threads_win_a_near_tie() {
        assert_eq!(timed(&[(1, &[1.0]), (2, &[1.04])]), Some(2));
        assert_eq!(timed(&[(1, &[1.0]), (2, &[1.06])]), Some(1));
    }

    #[test]
    fn without_a_measurement_nothing_is_chosen() {
        assert_eq!(timed(&[(1, &[]), (2, &[])]), None);
    }
}
