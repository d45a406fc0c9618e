//! Threads for the CPU kernels: a fixed set of workers, and a safe way to hand each of them its own stripe of an output.
//! It steals no work and allocates nothing per call. With one thread it is a plain loop, which is what a browser without
//! shared memory gets.
//!
//! A job has places, and a worker computes for it only after it has taken one. Whoever finds no part left closes the
//! job, so the caller waits for the workers that are inside and never for one that sleeps, comes late or has lost its
//! core.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::now_us;
use crate::threads::helper_limit::{HelperLimit, JobTimes};
use crate::threads::platform::{self, Thread};

/// How long a thread polls before it sleeps: about what falling asleep and being woken cost, and longer than the gap
/// between two ops of a token.
const SPIN_US: f64 = 50.0;
/// Polls between two readings of the clock. A poll takes from 1 to 50 ns: processors differ in what `spin_loop` does.
const POLLS: u32 = 64;
/// Ends the polling where a browser rounds its clock to milliseconds.
const MAX_POLLS: u32 = 1 << 15;

/// How often a caller that sleeps looks whether the thread it waits for has died. Only a fault ever takes so long.
const TRAP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The share of one thread in a job: it computes parts until none is left.
type Share<'a> = &'a (dyn Fn() + Sync + 'a);

// The fields of `Shared::state`, which change together: no thread ever sees one of them without the others.
/// Workers that compute for the job.
const INSIDE: u64 = 0xffff;
const ONE_INSIDE: u64 = 1;
/// Workers that may still join the job; 0 when it is closed.
const PLACES: u64 = 0xffff << 16;
const ONE_PLACE: u64 = 1 << 16;
/// Workers that sleep and have not been called.
const ASLEEP: u64 = 0xffff << 32;
const ONE_ASLEEP: u64 = 1 << 32;
/// The caller sleeps until nobody is inside.
const CALLER_ASLEEP: u64 = 1 << 48;
/// The pool is being dropped.
const STOP: u64 = 1 << 49;

struct Shared {
    state: AtomicU64,
    /// Of the open job. It is written while no worker is inside or can join.
    share: AtomicPtr<Share<'static>>,
    /// Sleepers that have been called and have not woken yet.
    calls: Mutex<usize>,
    called: Condvar,
    done: Condvar,
    panicked: AtomicBool,
}

/// It is not `Sync`, so one job runs at a time and a job's body can't start another.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    /// The threads that compute, the calling one included.
    threads: Cell<usize>,
    limit: HelperLimit,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included. Where threads can't be had it has fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            share: AtomicPtr::default(),
            calls: Mutex::new(0),
            called: Condvar::new(),
            done: Condvar::new(),
            panicked: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            platform::spawn(format!("cpu-{index}"), move || work(&shared))
        };
        let workers: Vec<Thread> = (1..threads.max(1)).map_while(spawn).collect();
        Pool {
            threads: Cell::new(workers.len() + 1),
            limit: HelperLimit::new(workers.len()),
            shared,
            workers,
        }
    }

    /// The threads that compute.
    pub fn threads(&self) -> usize {
        self.threads.get()
    }

    /// From now on `threads` threads compute, as far as there are so many; the others sleep.
    pub fn set_threads(&self, threads: usize) {
        self.threads.set(threads.clamp(1, self.workers.len() + 1));
    }

    /// Calls `body(i, part i of outputs)` for every `i < parts`. A thread takes the next part when it is done with one:
    /// processors that share their core with others run at unequal speeds.
    pub fn run<S: Split>(&self, parts: usize, outputs: S, body: impl Fn(usize, S::Part) + Sync) {
        let next = AtomicUsize::new(0);
        let share = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= parts {
                    return;
                }
                // SAFETY: the counter gives each index once.
                body(index, unsafe { outputs.part(index) });
            }
        };
        match self.threads().min(parts) {
            0 | 1 => share(),
            2 => {
                self.run_with(1, &share);
            }
            // Only of several helpers one may be too many, so only then the clock is read.
            threads => {
                let start_us = now_us();
                let outcome = self.run_with(self.limit.helpers_of(threads - 1), &share);
                let (slept_us, wait_us) = outcome.sleep.unwrap_or_else(|| (now_us(), 0.0));
                // With one part for each thread the slowest core is waited for however many there are.
                let wait_us = if parts < 2 * threads { 0.0 } else { wait_us };
                self.limit.note(&JobTimes {
                    share_us: slept_us - start_us,
                    wait_us,
                    calls: outcome.calls,
                });
            }
        }
    }

    /// Computes `share` here and on at most `helpers` workers.
    fn run_with(&self, helpers: usize, share: Share) -> Outcome {
        let shared = &*self.shared;
        assert!(!platform::trapped(), "a worker thread panicked");
        let closing = Closing(shared);
        shared
            .share
            .store((&raw const share).cast_mut().cast(), Ordering::Relaxed);
        let places = helpers as u64 * ONE_PLACE;
        let before = shared.state.fetch_add(places, Ordering::AcqRel);
        let asleep = ((before & ASLEEP) / ONE_ASLEEP) as usize;
        let calls = helpers.saturating_sub(self.workers.len() - asleep);
        shared.call(calls);
        share();
        std::mem::forget(closing);
        let sleep = shared.close();
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a worker thread panicked");
        Outcome { calls, sleep }
    }
}

/// Of one job.
struct Outcome {
    /// Workers that had to be woken.
    calls: usize,
    /// When the caller began to wait for its helpers and for how long, in microseconds; if it had to sleep.
    sleep: Option<(f64, f64)>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let before = self.shared.state.fetch_or(STOP, Ordering::AcqRel);
        self.shared.call(((before & ASLEEP) / ONE_ASLEEP) as usize);
        for worker in self.workers.drain(..) {
            worker.end();
        }
    }
}

/// Closes the job when the caller's own share panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a worker finds when it looks for work.
#[derive(PartialEq)]
enum Offer {
    /// It has taken a place.
    Job,
    Nothing,
    Stop,
}

impl Shared {
    /// Lets no worker join any more and waits until nobody is inside; from when and for how long, if the caller slept.
    fn close(&self) -> Option<(f64, f64)> {
        let is_over = || self.state.load(Ordering::Acquire) & INSIDE == 0;
        self.state.fetch_and(!PLACES, Ordering::AcqRel);
        if is_over() {
            return None;
        }
        let from_us = now_us();
        if spin_until(is_over) {
            return None;
        }
        let mut calls = lock(&self.calls);
        self.state.fetch_or(CALLER_ASLEEP, Ordering::AcqRel);
        while !is_over() {
            assert!(!platform::trapped(), "a worker thread panicked");
            let woken = self.done.wait_timeout(calls, TRAP_CHECK_INTERVAL);
            (calls, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.state.fetch_and(!CALLER_ASLEEP, Ordering::AcqRel);
        Some((from_us, now_us() - from_us))
    }

    /// Takes a place in the job if there is one.
    fn join(&self) -> Offer {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & STOP != 0 {
                return Offer::Stop;
            }
            if state & PLACES == 0 {
                return Offer::Nothing;
            }
            let joined = state - ONE_PLACE + ONE_INSIDE;
            let swapped = self.state.compare_exchange_weak(
                state,
                joined,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Offer::Job,
                Err(now) => state = now,
            }
        }
    }

    /// After a worker's share: no part is left, so nobody else may join.
    fn leave(&self) {
        let leave = |state: u64| Some((state & !PLACES) - ONE_INSIDE);
        let before = self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, leave);
        let (Ok(before) | Err(before)) = before;
        if before & (CALLER_ASLEEP | INSIDE) == CALLER_ASLEEP | ONE_INSIDE {
            // Under the lock, so that the wake-up can't fall between the caller's check and its wait.
            let _calls = lock(&self.calls);
            self.done.notify_one();
        }
    }

    /// Sleeps until the worker is called, unless there is work.
    fn sleep(&self) {
        let mut calls = lock(&self.calls);
        // One step with the look for work: a job that opens after it finds this worker counted, and calls it.
        let asleep = |state: u64| (state & (PLACES | STOP) == 0).then_some(state + ONE_ASLEEP);
        let counted = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, asleep);
        if counted.is_err() {
            return;
        }
        while *calls == 0 {
            calls = self
                .called
                .wait(calls)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *calls -= 1;
    }

    /// Wakes `n` of the workers that are asleep.
    fn call(&self, n: usize) {
        if n == 0 {
            return;
        }
        *lock(&self.calls) += n;
        self.state
            .fetch_sub(n as u64 * ONE_ASLEEP, Ordering::Relaxed);
        for _ in 0..n {
            self.called.notify_one();
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let mut offer = Offer::Nothing;
        spin_until(|| {
            offer = shared.join();
            offer != Offer::Nothing
        });
        match offer {
            Offer::Stop => return,
            Offer::Nothing => shared.sleep(),
            Offer::Job => {
                // SAFETY: the caller's frame holds the share until nobody is inside, and this worker is.
                let share = unsafe { *shared.share.load(Ordering::Relaxed) };
                let run = std::panic::AssertUnwindSafe(share);
                if std::panic::catch_unwind(run).is_err() {
                    shared.panicked.store(true, Ordering::Relaxed);
                }
                shared.leave();
            }
        }
    }
}

/// Polls `holds` for a short while; whether it came to hold.
fn spin_until(mut holds: impl FnMut() -> bool) -> bool {
    if holds() {
        return true;
    }
    let start_us = now_us();
    for poll in 1..=MAX_POLLS {
        std::hint::spin_loop();
        if holds() {
            return true;
        }
        if poll % POLLS == 0 && now_us() - start_us > SPIN_US {
            return false;
        }
    }
    false
}

fn lock(calls: &Mutex<usize>) -> MutexGuard<'_, usize> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that falls into disjoint parts, one for each index.
pub trait Split: Sync {
    type Part;

    /// # Safety
    /// Each index may be taken once in the life of the whole.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

impl Split for () {
    type Part = ();

    unsafe fn part(&self, _index: usize) {}
}

impl<A: Split, B: Split> Split for (A, B) {
    type Part = (A::Part, B::Part);

    unsafe fn part(&self, index: usize) -> Self::Part {
        // SAFETY: passed on unchanged.
        unsafe { (self.0.part(index), self.1.part(index)) }
    }
}

/// A matrix `[rows, cols]` cut into stripes of `width` columns; the last one may be narrower or, past the end, empty.
pub struct Stripes<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Stripes` gives out its memory only through `part`, whose contract keeps the stripes apart.
unsafe impl Sync for Stripes<'_> {}

impl<'a> Stripes<'a> {
    /// The columns of a row-major matrix.
    pub fn of_columns(data: &'a mut [f32], cols: usize, width: usize) -> Self {
        assert!(cols > 0 && width > 0 && data.len().is_multiple_of(cols));
        Stripes {
            rows: data.len() / cols,
            data: data.as_mut_ptr(),
            cols,
            width,
            borrow: PhantomData,
        }
    }
}

impl<'a> Split for Stripes<'a> {
    type Part = Stripe<'a>;

    unsafe fn part(&self, index: usize) -> Stripe<'a> {
        let start = (index * self.width).min(self.cols);
        Stripe {
            // SAFETY: start ≤ cols, so the pointer stays within the borrowed slice or one past its first row.
            data: unsafe { self.data.add(start) },
            rows: self.rows,
            stride: self.cols,
            width: self.width.min(self.cols - start),
            borrow: PhantomData,
        }
    }
}

/// One stripe, writable row by row.
pub struct Stripe<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl Stripe<'_> {
    /// The part of row `row` inside the stripe.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: row < rows and start + width ≤ cols, so the range lies in the slice that `Stripes` borrows
        // mutably; stripes of different indices don't overlap, and `&mut self` keeps this one unique.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.width) }
    }
}

/// A slice cut into consecutive pieces of `width`; the last one may be shorter or, past the end, empty.
pub struct Pieces<'a, T> {
    data: *mut T,
    len: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `Stripes`; the pieces go to other threads, so what they hold must be sendable.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        Pieces {
            len: data.len(),
            data: data.as_mut_ptr(),
            width,
            borrow: PhantomData,
        }
    }
}

impl<'a, T: Send> Split for Pieces<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        let start = (index * self.width).min(self.len);
        let len = self.width.min(self.len - start);
        // SAFETY: start + len ≤ self.len, pieces of different indices don't overlap, and the contract of `part` takes
        // each index once.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for parts in [1, 2, 7, 64] {
                let mut data = vec![0.0; 3 * parts * 2];
                let stripes = Stripes::of_columns(&mut data, parts * 2, 2);
                pool.run(parts, stripes, |index, mut stripe| {
                    for row in 0..3 {
                        stripe
                            .row(row)
                            .iter_mut()
                            .for_each(|v| *v += 1.0 + index as f32);
                    }
                });
                for (i, v) in data.iter().enumerate() {
                    assert_eq!(*v, 1.0 + (i % (parts * 2) / 2) as f32);
                }
            }
        }
    }

    #[test]
    fn the_last_stripe_may_be_narrow_or_empty() {
        let mut data = vec![0.0; 5];
        let pool = Pool::new(2);
        pool.run(
            4,
            Stripes::of_columns(&mut data, 5, 2),
            |index, mut stripe| {
                assert_eq!(stripe.row(0).len(), [2, 2, 1, 0][index]);
            },
        );
        pool.run(4, Pieces::new(&mut data, 2), |index, piece| {
            assert_eq!(piece.len(), [2, 2, 1, 0][index]);
        });
    }

    #[test]
    fn a_worker_that_never_comes_holds_no_job_up() {
        let mut pool = Pool::new(1);
        // It ends without ever looking for work. Where there are no threads there is nothing to wait for either.
        pool.workers.extend(platform::spawn("idle".into(), || ()));
        pool.set_threads(2);
        let mut data = vec![0.0; 64];
        pool.run(64, Pieces::new(&mut data, 1), |_, piece| piece[0] = 1.0);
        assert_eq!(data, [1.0; 64]);
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod threaded {
        use std::collections::HashSet;
        use std::panic::{AssertUnwindSafe, catch_unwind};
        use std::sync::Barrier;
        use std::thread::{self, ThreadId, sleep};

        use super::*;

        #[test]
        fn a_job_wakes_a_worker_whether_it_polls_or_sleeps() {
            let pool = Pool::new(2);
            // No thread gets past it alone, so a job that the worker misses would never end.
            let both = Barrier::new(2);
            for pause_us in [0, 20, 45, 50, 55, 100, 500].repeat(40) {
                sleep(Duration::from_micros(pause_us));
                pool.run(2, (), |_, ()| {
                    both.wait();
                });
            }
        }

        #[test]
        fn no_more_threads_compute_than_were_set() {
            let pool = Pool::new(5);
            for (threads, most) in [(1, 1), (2, 2), (3, 3), (9, 5), (0, 1)] {
                pool.set_threads(threads);
                assert_eq!(pool.threads(), most);
                for _ in 0..10 {
                    let seen: Mutex<HashSet<ThreadId>> = Mutex::default();
                    pool.run(16, (), |_, ()| {
                        seen.lock().unwrap().insert(thread::current().id());
                        // Long enough for every worker to come that may.
                        sleep(Duration::from_micros(100));
                    });
                    assert!(seen.into_inner().unwrap().len() <= most);
                }
            }
        }

        #[test]
        fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_lives_on() {
            let pool = Pool::new(2);
            let caller = thread::current().id();
            for on_worker in [true, false] {
                let both = Barrier::new(2);
                let run = AssertUnwindSafe(|| {
                    pool.run(2, (), |_, ()| {
                        both.wait();
                        let is_worker = thread::current().id() != caller;
                        assert_ne!(is_worker, on_worker, "meant to fail");
                    });
                });
                assert!(catch_unwind(run).is_err());
                let mut data = vec![0.0; 2];
                pool.run(2, Pieces::new(&mut data, 1), |_, piece| piece[0] = 1.0);
                assert_eq!(data, [1.0, 1.0]);
            }
        }

        #[test]
        fn more_threads_than_any_machine_has_cores_lose_no_part() {
            let pool = Pool::new(64);
            for parts in (1..200).rev() {
                let mut data = vec![0.0; parts];
                pool.run(parts, Pieces::new(&mut data, 1), |index, piece| {
                    piece[0] += index as f32;
                });
                assert!(data.iter().enumerate().all(|(i, v)| *v == i as f32));
            }
        }
    }
}
