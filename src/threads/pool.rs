//! Threads for the CPU kernels: a fixed set of workers that wake within microseconds, and a safe way to hand each of
//! them its own stripe of an output. It steals no work and allocates nothing per
//! call. With one thread it is a plain loop, which is what a browser without shared memory gets.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::threads::platform::{self, Thread};

/// Polls before a thread goes to sleep: some tens of microseconds, longer than the gap between two ops of one token,
/// short enough that an oversubscribed machine gets its core back.
const SPINS: u32 = 20_000;

/// How often a caller that sleeps looks whether the thread it waits for has died. Only a fault ever takes so long.
const TRAP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

type Task = &'static (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts the jobs; a change wakes the workers.
    epoch: AtomicU32,
    task: Mutex<Option<Task>>,
    wake: Condvar,
    /// Workers that have not finished the current job.
    busy: AtomicUsize,
    done: Condvar,
    panicked: AtomicBool,
    stop: AtomicBool,
}

pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included. Where threads can't be had it has fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            task: Mutex::new(None),
            wake: Condvar::new(),
            busy: AtomicUsize::new(0),
            done: Condvar::new(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            platform::spawn(format!("cpu-{index}"), move || work(&shared, index))
        };
        let workers = (1..threads.max(1)).map_while(spawn).collect();
        Pool { shared, workers }
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(i, part i of outputs)` for every `i < parts`. A thread takes the next part when it is done with one:
    /// processors that share their core with others run at unequal speeds.
    pub fn run<S: Split>(&self, parts: usize, outputs: S, body: impl Fn(usize, S::Part) + Sync) {
        let next = AtomicUsize::new(0);
        let share = |_thread: usize| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= parts {
                    return;
                }
                // SAFETY: the counter gives each index once.
                body(index, unsafe { outputs.part(index) });
            }
        };
        if self.workers.is_empty() || parts == 1 {
            share(0);
        } else {
            self.run_on_all(&share);
        }
    }

    fn run_on_all(&self, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The reference is used by the workers between the change of epoch and
        // the moment `busy` is zero, and `Finish` waits for that moment before `task` can go out of scope, also
        // when the caller's own share panics.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        {
            let mut slot = lock(&self.shared.task);
            *slot = Some(task);
            self.shared
                .busy
                .store(self.workers.len(), Ordering::Relaxed);
            self.shared.epoch.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
        let finish = Finish(&self.shared);
        task(0);
        drop(finish);
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _slot = lock(&self.shared.task);
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.epoch.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            worker.end();
        }
    }
}

/// Waits, when dropped, until no worker is busy.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for _ in 0..SPINS {
            if self.0.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut slot = lock(&self.0.task);
        while self.0.busy.load(Ordering::Acquire) != 0 {
            assert!(!platform::trapped(), "a worker thread panicked");
            let woken = self.0.done.wait_timeout(slot, TRAP_CHECK_INTERVAL);
            (slot, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        seen = next_epoch(shared, seen);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let task = lock(&shared.task).expect("a new epoch comes with a task");
        let run = std::panic::AssertUnwindSafe(|| task(thread));
        if std::panic::catch_unwind(run).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        if shared.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock, so that the wake-up can't fall between the caller's check and its wait.
            let _slot = lock(&shared.task);
            shared.done.notify_one();
        }
    }
}

/// Waits until the epoch is no longer `seen`: first by spinning, then asleep.
fn next_epoch(shared: &Shared, seen: u32) -> u32 {
    for _ in 0..SPINS {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let mut slot = lock(&shared.task);
    loop {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        slot = shared
            .wake
            .wait(slot)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock(task: &Mutex<Option<Task>>) -> MutexGuard<'_, Option<Task>> {
    task.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn a_panic_on_a_worker_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let run = std::panic::AssertUnwindSafe(|| {
            pool.run(2, (), |index, ()| assert_eq!(index, 0, "meant to fail"));
        });
        assert!(std::panic::catch_unwind(run).is_err());
        let mut data = vec![0.0; 2];
        pool.run(2, Pieces::new(&mut data, 1), |_, piece| piece[0] = 1.0);
        assert_eq!(data, [1.0, 1.0]);
    }
}
