//! Limits the work of a submission, so that no watchdog mistakes a slow device for a hung one (drivers reset a device
//! after about two seconds) and a page is drawn in between. The limit follows the device's measured rate.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Batches of submissions that may be waiting or running while more work is recorded: one runs, and the next is ready.
pub const MAX_RUNNING: usize = 2;
/// Target time of a submission.
const SUBMISSION_US: f64 = 100_000.0;
/// The limit before the rate is known: 0.1 s at 200 GFLOP/s.
const FIRST_BOUND_FLOPS: f64 = 2e10;
/// The part of the limit that a batch has. The ends of shorter ones are not worth a callback.
const LEAST_BATCH: f64 = 0.25;

/// Submissions one after another, without a readback in between. A single decode step is none: it waits for memory and
/// for the host, and says little about the rate of a prompt.
struct Batch {
    flops: f64,
    /// When the first of them was submitted.
    submitted_us: f64,
}

pub struct Pacer {
    /// Work that is recorded but not submitted.
    pending_flops: f64,
    bound_flops: f64,
    /// Submissions that are no whole batch yet.
    begun: Option<Batch>,
    /// Batches that are not done, oldest first.
    running: VecDeque<Batch>,
    last_done_us: f64,
    /// Of the future that waits for the next one to be done.
    waker: Option<Waker>,
}

impl Default for Pacer {
    fn default() -> Self {
        Pacer {
            pending_flops: 0.0,
            bound_flops: FIRST_BOUND_FLOPS,
            begun: None,
            running: VecDeque::new(),
            last_done_us: 0.0,
            waker: None,
        }
    }
}

impl Pacer {
    /// Whether to submit the recorded work before an op of `flops`.
    pub fn is_due(&self, flops: f64) -> bool {
        self.pending_flops > 0.0 && self.pending_flops + flops > self.bound_flops
    }

    /// Records that an op of `flops` was added.
    pub fn add(&mut self, flops: f64) {
        self.pending_flops += flops;
    }

    /// Records that the pending work was submitted, and whether a readback is the end of it. Returns whether it
    /// completes a batch: [`Pacer::note_done`] must then be called when it has finished.
    pub fn note_submission(&mut self, now_us: f64, is_read: bool) -> bool {
        let mut batch = self.begun.take().unwrap_or(Batch {
            flops: 0.0,
            submitted_us: now_us,
        });
        batch.flops += std::mem::take(&mut self.pending_flops);
        let is_whole = batch.flops >= LEAST_BATCH * self.bound_flops;
        if is_whole {
            self.running.push_back(batch);
        } else if !is_read {
            self.begun = Some(batch);
        }
        is_whole
    }

    /// Records that the oldest batch has finished.
    pub fn note_done(&mut self, now_us: f64) {
        let Some(Batch {
            flops,
            submitted_us,
        }) = self.running.pop_front()
        else {
            return;
        };
        let took_us = now_us - self.last_done_us.max(submitted_us);
        self.last_done_us = now_us;
        if took_us > 0.0 {
            // At most doubled, because a single short time may be an outlier.
            self.bound_flops = (flops / took_us * SUBMISSION_US).min(2.0 * self.bound_flops);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub fn lock(pacer: &Mutex<Pacer>) -> MutexGuard<'_, Pacer> {
    pacer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Completes when at most [`MAX_RUNNING`] batches are not done.
pub fn fewer_running(pacer: &Arc<Mutex<Pacer>>) -> impl Future<Output = ()> + use<> {
    let pacer = Arc::clone(pacer);
    poll_fn(move |context| {
        let mut pacer = lock(&pacer);
        if pacer.running.len() <= MAX_RUNNING {
            return Poll::Ready(());
        }
        pacer.waker = Some(context.waker().clone());
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    /// The times of the submissions of ops of `op_flops` each on a device of `flops_per_us`.
    fn submission_times_us(ops: impl Iterator<Item = f64>, flops_per_us: f64) -> Vec<f64> {
        let mut pacer = Pacer::default();
        let mut now_us = 0.0;
        let mut times_us = Vec::new();
        let mut submit = |pacer: &mut Pacer| {
            let took_us = pacer.pending_flops / flops_per_us;
            let is_whole = pacer.note_submission(now_us, false);
            now_us += took_us;
            if is_whole {
                pacer.note_done(now_us);
            }
            times_us.push(took_us);
        };
        for flops in ops {
            if pacer.is_due(flops) {
                submit(&mut pacer);
            }
            pacer.add(flops);
        }
        submit(&mut pacer);
        times_us
    }

    /// A prompt of 4,000 tokens through one block of 1.2B: chunks of 256 rows, three matrices each.
    fn long_prompt() -> impl Iterator<Item = f64> {
        let linear = |d_in: f64, d_out: f64| 2.0 * 256.0 * d_in * d_out;
        let ops = [
            linear(2048.0, 8512.0),
            linear(4096.0, 2048.0),
            linear(2048.0, 128.0),
        ];
        std::iter::repeat_n(ops, 16).flatten()
    }

    #[test]
    fn on_a_slow_device_a_long_prompt_is_cut_into_submissions_of_a_tenth_of_a_second() {
        // 100 GFLOP/s. The first submission is limited before the rate is known.
        let times_us = submission_times_us(long_prompt(), 1e5);
        assert!(times_us.len() > 10, "{times_us:?}");
        assert!(times_us[0] <= 1e6 * FIRST_BOUND_FLOPS / 1e11);
        let longest = times_us[1..]
            .iter()
            .fold(0.0f64, |most, time| most.max(*time));
        assert!(longest <= SUBMISSION_US, "{times_us:?}");
    }

    #[test]
    fn on_a_fast_device_submissions_grow_to_a_whole_block() {
        // 5 TFLOP/s: all of the prompt takes 0.05 s.
        let four_blocks = long_prompt().chain(long_prompt()).chain(long_prompt());
        let times_us = submission_times_us(four_blocks, 5e6);
        assert!(times_us.len() <= 8, "{times_us:?}");
    }

    #[test]
    fn a_single_op_is_never_split_and_its_time_is_not_counted_from_before_the_one_ahead_was_done() {
        let mut pacer = Pacer::default();
        assert!(!pacer.is_due(1e12), "nothing is recorded before it");
        for _ in 0..2 {
            pacer.add(6e9);
            assert!(pacer.note_submission(0.0, false));
        }
        pacer.note_done(100_000.0);
        pacer.note_done(200_000.0);
        // 6 GFLOP in 0.1 s each.
        pacer.add(6e9);
        assert!(pacer.is_due(1e6));
        assert!(pacer.note_submission(200_000.0, false));
        pacer.add(5e9);
        assert!(!pacer.is_due(1e9));
    }

    /// A decode step of 1.2B waits for memory: 2.4 GFLOP in 10 ms on a device that computes ten times as fast.
    #[test]
    fn decode_steps_do_not_lower_the_limit_of_a_prompts_submissions() {
        let mut pacer = Pacer::default();
        for _ in 0..100 {
            pacer.add(2.4e9);
            assert!(!pacer.note_submission(0.0, true));
        }
        pacer.add(1.5e10);
        assert!(!pacer.is_due(4e9), "the limit is the first one");
    }

    /// A prompt of 64 tokens: a submission per block, 4 GFLOP each, on a device that runs at the rate of the limit.
    #[test]
    fn short_submissions_of_a_prompt_count_together() {
        let mut pacer = Pacer::default();
        let is_whole = [0.0, 1.0, 2.0, 3.0].map(|now_us| {
            pacer.add(4e9);
            pacer.note_submission(now_us, false)
        });
        assert_eq!(is_whole, [false, true, false, true]);
        assert_eq!(pacer.running.len(), 2);
        // 8 GFLOP in 20 ms: the limit may double.
        pacer.note_done(20_000.0);
        assert!((pacer.bound_flops / (2.0 * FIRST_BOUND_FLOPS) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn whoever_waits_continues_when_two_batches_are_left() {
        let pacer = Arc::new(Mutex::new(Pacer::default()));
        let mut waiting = pin!(fewer_running(&pacer));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(()));
        for _ in 0..4 {
            lock(&pacer).add(6e9);
            assert!(lock(&pacer).note_submission(0.0, false));
        }
        for done_us in [0.0, 1.0] {
            let mut waiting = pin!(fewer_running(&pacer));
            assert_eq!(waiting.as_mut().poll(&mut context), Poll::Pending);
            lock(&pacer).note_done(done_us);
            let is_next = lock(&pacer).running.len() == MAX_RUNNING;
            assert_eq!(waiting.as_mut().poll(&mut context).is_ready(), is_next);
        }
    }
}
