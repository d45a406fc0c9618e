//! How many helpers a job of the pool is worth on this machine now. Where there are more threads than free cores, those
//! that are woken take the cores of those that compute, and one that loses its core in the middle of a part keeps all
//! others waiting; then fewer helpers are faster. It is told how jobs went, and neither reads a clock nor knows threads.

use std::cell::Cell;

/// What waking a helper costs: it polls for as long before it sleeps again (`pool.rs`).
const CALL_US: f64 = 50.0;
/// A caller may wait for this part of its own time: a slow core that has begun the last part is waited for.
const ALLOWED_WAIT: f64 = 0.5;
/// A helper may be woken for each so many calls' worth of the caller's time: all are, between two tokens.
const ALLOWED_CALLS: f64 = 0.25;
/// A caller whose share takes longer has lost its core, perhaps to those that it woke.
const MAX_SHARE_US: f64 = 500.0;
/// Losses beyond what is allowed that are forgiven: another program's turn costs no helper.
const CREDIT_US: f64 = 5e3;
/// Jobs within the credit before one helper more is tried, at first and at most: a few tokens, and some hundred.
const FIRST_PATIENCE: u32 = 1 << 10;
const MAX_PATIENCE: u32 = 1 << 17;

/// How a job of several helpers went.
pub struct JobTimes {
    /// For how long the caller computed.
    pub share_us: f64,
    /// For how long it then waited for its helpers, if it had to sleep.
    pub wait_us: f64,
    /// Helpers that had to be woken.
    pub calls: usize,
}

pub struct HelperLimit {
    helpers: Cell<usize>,
    credit_us: Cell<f64>,
    /// Jobs since the last change.
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

    /// The helpers for a job that could use `wanted` of them; at least one.
    pub fn helpers_of(&self, wanted: usize) -> usize {
        if wanted > self.helpers.get() && self.jobs.get() >= self.patience.get() {
            self.change(self.helpers.get() + 1);
        }
        wanted.min(self.helpers.get())
    }

    pub fn note(&self, job: &JobTimes) {
        self.jobs.set(self.jobs.get().saturating_add(1));
        let wait_us = (job.wait_us - job.share_us * ALLOWED_WAIT).max(0.0);
        let gain_us = job.share_us.min(MAX_SHARE_US) * ALLOWED_CALLS;
        let credit_us = self.credit_us.get() + gain_us - wait_us - job.calls as f64 * CALL_US;
        self.credit_us.set(credit_us.min(CREDIT_US));
        if credit_us >= 0.0 {
            return;
        }
        // The helper that was added last was one too many: it is tried again later than this time.
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

    fn note(limit: &HelperLimit, jobs: u32, wait_us: f64, calls: usize) {
        let job = JobTimes {
            share_us: 100.0,
            wait_us,
            calls,
        };
        (0..jobs).for_each(|_| limit.note(&job));
    }

    /// Jobs whose losses use the credit up: each loses 500 µs beyond what it may and gains 25.
    fn strained(limit: &HelperLimit) {
        note(limit, 11, 550.0, 0);
    }

    #[test]
    fn jobs_that_wait_long_for_their_helpers_halve_them_down_to_one() {
        let limit = HelperLimit::new(15);
        let after = [(); 4].map(|()| {
            strained(&limit);
            limit.helpers_of(15)
        });
        assert_eq!(after, [7, 3, 1, 1]);
    }

    #[test]
    fn jobs_that_wake_their_helpers_each_time_have_too_many() {
        let limit = HelperLimit::new(15);
        note(&limit, 100, 0.0, 15);
        assert!(limit.helpers_of(15) <= 3);
    }

    #[test]
    fn a_long_wait_now_and_then_and_waking_all_for_a_token_cost_no_helper() {
        let limit = HelperLimit::new(15);
        for _ in 0..100 {
            note(&limit, 1, 4e3, 15);
            note(&limit, 300, 40.0, 0);
        }
        // No more than there are, so patience decides nothing.
        assert_eq!(limit.helpers_of(15), 15);
    }

    #[test]
    fn calm_jobs_bring_helpers_back_one_at_a_time() {
        let limit = HelperLimit::new(3);
        strained(&limit);
        assert_eq!(limit.helpers_of(3), 1);
        // The credit was used up early, so patience has doubled.
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
    fn a_helper_that_was_one_too_many_is_tried_again_later_each_time() {
        let limit = HelperLimit::new(2);
        let waits = [(); 3].map(|()| {
            strained(&limit);
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
