//! Thread pool of the CPU kernels: a fixed set of workers, and a safe way to give each part of a job its own stripe of
//! an output. It does no work stealing and allocates nothing per job; with one thread it is a plain loop.
//!
//! A job has slots, and a worker must take one before it computes. The first worker that finds no part left closes the
//! job, so the caller waits only for workers that have joined, never for one that is asleep, late or has been
//! preempted.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::now_us;
use crate::threads::helper_limit::{HelperLimit, JobTimes};
use crate::threads::platform::{self, Thread};

/// How long a thread polls before it sleeps: about the cost of going to sleep and being woken, and longer than the gap
/// between two ops of a decode step.
const SPIN_US: f64 = 50.0;
/// Polls between two clock reads. A poll takes 1 to 50 ns: CPUs differ in what `spin_loop` does.
const POLLS: u32 = 64;
/// Upper bound for browsers that round the clock to milliseconds.
const MAX_POLLS: u32 = 1 << 15;

/// How often a sleeping caller checks whether a worker has trapped. Only an error ever takes this long.
const TRAP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One thread's loop over the parts of a job; it returns when no part is left.
type Share<'a> = &'a (dyn Fn() + Sync + 'a);

// Bit fields of `Shared::state`. They share one atomic so that they change together.
/// Workers that are computing for the job.
const ACTIVE: u64 = 0xffff;
const ONE_ACTIVE: u64 = 1;
/// Workers that may still join the job; 0 when it is closed.
const SLOTS: u64 = 0xffff << 16;
const ONE_SLOT: u64 = 1 << 16;
/// Workers that are asleep and have not been woken.
const ASLEEP: u64 = 0xffff << 32;
const ONE_ASLEEP: u64 = 1 << 32;
/// The caller is asleep until no worker is active.
const CALLER_ASLEEP: u64 = 1 << 48;
/// The pool is being dropped.
const STOP: u64 = 1 << 49;

struct Shared {
    state: AtomicU64,
    /// The open job's loop. Written only while no worker is active and the job is closed.
    share: AtomicPtr<Share<'static>>,
    /// Wake-ups that no worker has consumed yet.
    wakes: Mutex<usize>,
    wakeup: Condvar,
    done: Condvar,
    panicked: AtomicBool,
}

/// Not `Sync`, so only one job runs at a time and a job can't start another.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    /// Number of threads in use, including the calling one.
    threads: Cell<usize>,
    limit: HelperLimit,
}

impl Pool {
    /// A pool of `threads` threads, including the calling one; fewer if they can't be created.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            share: AtomicPtr::default(),
            wakes: Mutex::new(0),
            wakeup: Condvar::new(),
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

    /// Number of threads in use, including the calling one.
    pub fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Sets the number of threads in use, clamped to those that exist. The others sleep.
    pub fn set_threads(&self, threads: usize) {
        self.threads.set(threads.clamp(1, self.workers.len() + 1));
    }

    /// Calls `body(i, part i of outputs)` for every `i < parts`. Threads take parts dynamically: hyperthreads and cores
    /// with other load run at unequal speeds.
    pub fn run<S: Split>(&self, parts: usize, outputs: S, body: impl Fn(usize, S::Part) + Sync) {
        let next = AtomicUsize::new(0);
        let share = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= parts {
                    return;
                }
                // SAFETY: the counter returns each index once.
                body(index, unsafe { outputs.part(index) });
            }
        };
        match self.threads().min(parts) {
            0 | 1 => share(),
            2 => {
                self.run_with(1, &share);
            }
            // With one helper there is no limit to adapt, so the clock is read only for more.
            threads => {
                let start_us = now_us();
                let outcome = self.run_with(self.limit.helpers_of(threads - 1), &share);
                let (slept_us, wait_us) = outcome.sleep.unwrap_or_else(|| (now_us(), 0.0));
                // With about one part per thread, the wait depends on the slowest core, not on the number of helpers.
                let wait_us = if parts < 2 * threads { 0.0 } else { wait_us };
                self.limit.note(&JobTimes {
                    share_us: slept_us - start_us,
                    wait_us,
                    wakes: outcome.wakes,
                });
            }
        }
    }

    /// Runs `share` on the calling thread and on at most `helpers` workers.
    fn run_with(&self, helpers: usize, share: Share) -> Outcome {
        let shared = &*self.shared;
        assert!(!platform::trapped(), "a worker thread panicked");
        let close_on_drop = CloseOnDrop(shared);
        shared
            .share
            .store((&raw const share).cast_mut().cast(), Ordering::Relaxed);
        let slots = helpers as u64 * ONE_SLOT;
        let before = shared.state.fetch_add(slots, Ordering::AcqRel);
        let asleep = ((before & ASLEEP) / ONE_ASLEEP) as usize;
        let wakes = helpers.saturating_sub(self.workers.len() - asleep);
        shared.wake(wakes);
        share();
        std::mem::forget(close_on_drop);
        let sleep = shared.close();
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a worker thread panicked");
        Outcome { wakes, sleep }
    }
}

/// How a job was run.
struct Outcome {
    /// Workers that were asleep and had to be woken.
    wakes: usize,
    /// If the caller slept: when it began to wait for its helpers, and for how long, in microseconds.
    sleep: Option<(f64, f64)>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let before = self.shared.state.fetch_or(STOP, Ordering::AcqRel);
        self.shared.wake(((before & ASLEEP) / ONE_ASLEEP) as usize);
        for worker in self.workers.drain(..) {
            worker.end();
        }
    }
}

/// Closes the job, also when the caller's own share panics.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Result of trying to join a job.
#[derive(PartialEq)]
enum JoinResult {
    /// The worker has taken a slot.
    Job,
    Nothing,
    Stop,
}

impl Shared {
    /// Closes the job and waits until no worker is active. If the caller slept, returns when the wait began and its
    /// length.
    fn close(&self) -> Option<(f64, f64)> {
        let is_over = || self.state.load(Ordering::Acquire) & ACTIVE == 0;
        self.state.fetch_and(!SLOTS, Ordering::AcqRel);
        if is_over() {
            return None;
        }
        let from_us = now_us();
        if spin_until(is_over) {
            return None;
        }
        let mut wakes = lock(&self.wakes);
        self.state.fetch_or(CALLER_ASLEEP, Ordering::AcqRel);
        while !is_over() {
            assert!(!platform::trapped(), "a worker thread panicked");
            let woken = self.done.wait_timeout(wakes, TRAP_CHECK_INTERVAL);
            (wakes, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.state.fetch_and(!CALLER_ASLEEP, Ordering::AcqRel);
        Some((from_us, now_us() - from_us))
    }

    /// Takes a slot of the job if one is free.
    fn join(&self) -> JoinResult {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & STOP != 0 {
                return JoinResult::Stop;
            }
            if state & SLOTS == 0 {
                return JoinResult::Nothing;
            }
            let joined = state - ONE_SLOT + ONE_ACTIVE;
            let swapped = self.state.compare_exchange_weak(
                state,
                joined,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return JoinResult::Job,
                Err(now) => state = now,
            }
        }
    }

    /// Called after a worker's share: no part is left, so the job closes for the others too.
    fn leave(&self) {
        let leave = |state: u64| Some((state & !SLOTS) - ONE_ACTIVE);
        let before = self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, leave);
        let (Ok(before) | Err(before)) = before;
        if before & (CALLER_ASLEEP | ACTIVE) == CALLER_ASLEEP | ONE_ACTIVE {
            // Under the lock, so that the notification can't fall between the caller's check and its wait.
            let _guard = lock(&self.wakes);
            self.done.notify_one();
        }
    }

    /// Sleeps until woken, unless there is work.
    fn sleep(&self) {
        let mut wakes = lock(&self.wakes);
        // Checks for work and counts the sleeper in one step: a job opened after it sees this worker as asleep and
        // wakes it.
        let asleep = |state: u64| (state & (SLOTS | STOP) == 0).then_some(state + ONE_ASLEEP);
        let counted = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, asleep);
        if counted.is_err() {
            return;
        }
        while *wakes == 0 {
            wakes = self
                .wakeup
                .wait(wakes)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *wakes -= 1;
    }

    /// Wakes `n` sleeping workers.
    fn wake(&self, n: usize) {
        if n == 0 {
            return;
        }
        *lock(&self.wakes) += n;
        self.state
            .fetch_sub(n as u64 * ONE_ASLEEP, Ordering::Relaxed);
        for _ in 0..n {
            self.wakeup.notify_one();
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let mut result = JoinResult::Nothing;
        spin_until(|| {
            result = shared.join();
            result != JoinResult::Nothing
        });
        match result {
            JoinResult::Stop => return,
            JoinResult::Nothing => shared.sleep(),
            JoinResult::Job => {
                // SAFETY: the caller keeps `share` alive until no worker is active, and this worker is.
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

/// Polls `holds` for up to [`SPIN_US`]; returns whether it became true.
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

fn lock(wakes: &Mutex<usize>) -> MutexGuard<'_, usize> {
    wakes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that can be split into disjoint parts, one per index.
pub trait Split: Sync {
    type Part;

    /// # Safety
    /// Each index may be taken at most once.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

impl Split for () {
    type Part = ();

    unsafe fn part(&self, _index: usize) {}
}

impl<A: Split, B: Split> Split for (A, B) {
    type Part = (A::Part, B::Part);

    unsafe fn part(&self, index: usize) -> Self::Part {
        // SAFETY: the caller's contract is passed on unchanged.
        unsafe { (self.0.part(index), self.1.part(index)) }
    }
}

/// A matrix `[rows, cols]` cut into stripes of `width` columns; the last one may be narrower or, past the end, empty.
/// Each stripe may be cut into parts of `height` rows, which follow each other; the last one may have fewer.
pub struct Stripes<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    width: usize,
    height: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `Stripes` hands out its memory only through `part`, whose contract keeps the stripes disjoint.
unsafe impl Sync for Stripes<'_> {}

impl<'a> Stripes<'a> {
    /// Stripes of the columns of a row-major matrix.
    pub fn of_columns(data: &'a mut [f32], cols: usize, width: usize) -> Self {
        assert!(cols > 0 && width > 0 && data.len().is_multiple_of(cols));
        let rows = data.len() / cols;
        Stripes {
            rows,
            data: data.as_mut_ptr(),
            cols,
            width,
            height: rows.max(1),
            borrow: PhantomData,
        }
    }

    /// These stripes in parts of `height` rows.
    pub fn in_rows(self, height: usize) -> Self {
        assert!(height > 0);
        Stripes { height, ..self }
    }

    /// Parts per stripe.
    fn parts(&self) -> usize {
        self.rows.div_ceil(self.height).max(1)
    }
}

impl<'a> Split for Stripes<'a> {
    type Part = Stripe<'a>;

    unsafe fn part(&self, index: usize) -> Stripe<'a> {
        let start = (index / self.parts() * self.width).min(self.cols);
        let first = index % self.parts() * self.height;
        Stripe {
            // SAFETY: start ≤ cols, and first < rows unless there are no rows and first is 0, so the pointer stays
            // within the borrowed slice or one past row `first`.
            data: unsafe { self.data.add(first * self.cols + start) },
            rows: self.height.min(self.rows - first),
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
        // SAFETY: the row is one of `Stripes` and start + width ≤ cols, so the range lies in the slice that `Stripes`
        // borrows mutably; parts of different indices don't overlap, and `&mut self` keeps this one unique.
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

// SAFETY: as for `Stripes`; pieces are sent to other threads, hence `T: Send`.
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
mod tests;
