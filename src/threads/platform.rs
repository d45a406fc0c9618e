//! Where the pool's threads come from: the operating system, or the web workers that JavaScript lends. Only
//! `pool.rs` and the JavaScript API call it; it knows neither their work nor JavaScript.

pub use source::{Thread, spawn, trapped};
#[cfg(target_feature = "atomics")]
pub use source::{note_trap, serve};

/// Where there are no threads, WebAssembly without shared memory for one, the standard library refuses to spawn.
#[cfg(not(target_feature = "atomics"))]
mod source {
    use std::thread::{Builder, JoinHandle};

    pub struct Thread(JoinHandle<()>);

    /// Runs `body` on a thread of its own, or gives nothing where none can be had.
    pub fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
        Builder::new().name(name).spawn(body).ok().map(Thread)
    }

    impl Thread {
        /// Waits until the body has returned.
        pub fn end(self) {
            // The pool's bodies catch the panics of their tasks, so there is nothing to do about one here.
            let _ = self.0.join();
        }
    }

    /// Whether a thread died in the middle of its body; here a panic unwinds and the body catches it.
    pub fn trapped() -> bool {
        false
    }
}

/// WebAssembly can't start a thread. The page's workers share one memory and call [`serve`]; a spawned body waits in
/// a queue until one of them takes it.
#[cfg(target_feature = "atomics")]
mod source {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    type Body = Box<dyn FnOnce() + Send>;

    static WAITING: Mutex<VecDeque<Body>> = Mutex::new(VecDeque::new());
    static ADDED: Condvar = Condvar::new();
    static TRAPPED: AtomicBool = AtomicBool::new(false);

    pub struct Thread;

    /// Queues `body` for a worker. JavaScript says how many workers serve, so nobody asks for more than there are.
    pub fn spawn(_name: String, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
        waiting().push_back(Box::new(body));
        ADDED.notify_one();
        Some(Thread)
    }

    impl Thread {
        /// Waits for nothing: a worker whose body returns goes back to the queue.
        pub fn end(self) {}
    }

    /// Makes the calling worker a thread: it takes bodies and runs them, for ever.
    pub fn serve() -> ! {
        loop {
            let body = next();
            body();
        }
    }

    fn next() -> Body {
        let mut bodies = waiting();
        loop {
            if let Some(body) = bodies.pop_front() {
                return body;
            }
            bodies = ADDED.wait(bodies).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn waiting() -> MutexGuard<'static, VecDeque<Body>> {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A trap unwinds nothing, so the body can't report it; the worker's JavaScript catches it and does.
    pub fn note_trap() {
        TRAPPED.store(true, Ordering::Release);
    }

    /// Whether a thread died in the middle of its body.
    pub fn trapped() -> bool {
        TRAPPED.load(Ordering::Acquire)
    }
}
