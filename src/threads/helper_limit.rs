//! How many workers ("helpers") a job of the pool wakes. With more threads than free cores, helpers displace threads
//! that are already computing, and a job waits for every part that was interrupted; fewer helpers are then faster. It
//! adapts to the timings of past jobs; it reads no clock and starts no threads.

use std::cell::Cell;

/// Cost of waking a helper: it polls for this long before it sleeps again (`pool.rs`).
const WAKE_US: f64 = 50.0;
/// Wait allowed per unit of the caller's computing time: a slow core may be computing the last part.
const ALLOWED_WAIT: f64 = 0.5;
/// Wake-up cost allowed per unit of the caller's computing time. Waking every helper once per token stays below it.
const ALLOWED_WAKES: f64 = 0.25;
/// A longer share means that the caller itself was interrupted, perhaps by a helper that it woke.
const MAX_SHARE_US: f64 = 500.0;
/// Cost beyond the allowance that is tolerated, so that a short burst of other load does not lower the limit.
const CREDIT_US: f64 = 5e3;
/// Jobs within the credit before one more helper is tried, initially and at most: a few tokens, and some hundred.
const FIRST_PATIENCE: u32 = 1 << 10;
const MAX_PATIENCE: u32 = 1 << 17;

/// Timings of a job with helpers.
pub struct JobTimes {
    /// Computing time of the caller.
    pub share_us: f64,
    /// How long the caller then waited for its helpers, if it had to sleep.
    pub wait_us: f64,
    /// Helpers that were asleep and had to be woken.
    pub wakes: usize,
}

pub struct HelperLimit {
    helpers: Cell<usize>,
    credit_us: Cell<f64>,
    /// Jobs since the limit last changed.
    jobs: Cell<u32>,
    patience: Cell<u32>,
}

impl HelperLimit {
    pub fn new(helpers: usize) -> HelperLimit {
        HelperLimit {
            helpers: Cell::new(helpers),
            credit_us: Cell::new(CREDIT_US),
            jobs: Cell::new(0),
            patience: Cell::new(FIRST_PATIENCE),
        }
    }

    /// The number of helpers, at least one, for a job that could use `wanted`.
    pub fn helpers_of(&self, wanted: usize) -> usize {
        if wanted > self.helpers.get() && self.jobs.get() >= self.patience.get() {
            self.change(self.helpers.get() + 1);
        }
        wanted.min(self.helpers.get())
    }

    pub fn note(&self, job: &JobTimes) {
        self.jobs.set(self.jobs.get().saturating_add(1));
        let wait_us = (job.wait_us - job.share_us * ALLOWED_WAIT).max(0.0);
        let gain_us = job.share_us.min(MAX_SHARE_US) * ALLOWED_WAKES;
        let credit_us = self.credit_us.get() + gain_us - wait_us - job.wakes as f64 * WAKE_US;
        self.credit_us.set(credit_us.min(CREDIT_US));
        if credit_us >= 0.0 {
            return;
        }
        // The helper added last did not pay off: wait longer before the next attempt.
        if self.jobs.get() < self.patience.get() {
            self.patience
                .set((self.patience.get() * 2).min(MAX_PATIENCE));
        }
        self.change((self.helpers.get() / 2).max(1));
    }

    fn change(&self, helpers: usize) {
        self.helpers.set(helpers);
        self.credit_us.set(CREDIT_US);
        self.jobs.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(limit: &HelperLimit, jobs: u32, wait_us: f64, wakes: usize) {
        let job = JobTimes {
            share_us: 100.0,
            wait_us,
            wakes,
        };
        (0..jobs).for_each(|_| limit.note(&job));
    }

    /// Jobs that use up the credit: each costs 500 µs beyond the allowance and earns 25.
    fn use_up_credit(limit: &HelperLimit) {
        note(limit, 11, 550.0, 0);
    }

    #[test]
    fn long_waits_halve_the_limit_down_to_one_helper() {
        let limit = HelperLimit::new(15);
        let after = [(); 4].map(|()| {
            use_up_credit(&limit);
            limit.helpers_of(15)
        });
        assert_eq!(after, [7, 3, 1, 1]);
    }

    #[test]
    fn waking_helpers_for_every_job_lowers_the_limit() {
        let limit = HelperLimit::new(15);
        note(&limit, 100, 0.0, 15);
        assert!(limit.helpers_of(15) <= 3);
    }

    #[test]
    fn occasional_long_waits_and_one_wake_per_token_keep_all_helpers() {
        let limit = HelperLimit::new(15);
        for _ in 0..100 {
            note(&limit, 1, 4e3, 15);
            note(&limit, 300, 40.0, 0);
        }
        // The limit never exceeds the number of helpers, so patience does not matter here.
        assert_eq!(limit.helpers_of(15), 15);
    }

    #[test]
    fn jobs_within_the_allowance_raise_the_limit_one_helper_at_a_time() {
        let limit = HelperLimit::new(3);
        use_up_credit(&limit);
        assert_eq!(limit.helpers_of(3), 1);
        // The limit fell before patience had elapsed, so patience has doubled.
        for helpers in [2, 3] {
            note(&limit, 2 * FIRST_PATIENCE - 1, 0.0, 0);
            assert_eq!(limit.helpers_of(3), helpers - 1);
            note(&limit, 1, 0.0, 0);
            assert_eq!(limit.helpers_of(3), helpers);
        }
        note(&limit, 3 * FIRST_PATIENCE, 0.0, 0);
        assert_eq!(limit.helpers_of(3), 3);
    }

    #[test]
    fn each_failed_attempt_doubles_the_time_until_the_next() {
        let limit = HelperLimit::new(2);
        let waits = [(); 3].map(|()| {
            use_up_credit(&limit);
            let jobs = (1..).find(|_| {
                note(&limit, 1, 0.0, 0);
                limit.helpers_of(2) == 2
            });
            jobs.unwrap()
        });
        let first = 2 * FIRST_PATIENCE;
        assert_eq!(waits, [first, 2 * first, 4 * first]);
    }
}
