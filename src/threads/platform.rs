//! Where the pool's threads come from: the operating system, or the web workers that JavaScript starts. It schedules
//! nothing and calls no JavaScript.

pub use source::{Thread, spawn, trapped};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub use source::{note_trap, serve};

/// Threads of the standard library. On targets without threads, such as wasip1, spawning fails.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod source {
    use std::thread::{Builder, JoinHandle};

    pub struct Thread(JoinHandle<()>);

    /// Runs `body` on a new thread; `None` if no thread can be created.
    pub fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
        Builder::new().name(name).spawn(body).ok().map(Thread)
    }

    impl Thread {
        /// Joins the thread.
        pub fn end(self) {
            // The pool catches panics inside its bodies, so there is no error to handle here.
            let _ = self.0.join();
        }
    }

    /// Whether a thread died inside its body. Never natively: a panic unwinds and the body catches it.
    pub fn trapped() -> bool {
        false
    }
}

/// WebAssembly can't start a thread itself. The page starts web workers on the same memory, each of which calls
/// [`serve`]; a spawned body waits in a queue until a worker runs it.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod source {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    type Body = Box<dyn FnOnce() + Send>;

    static WAITING: Mutex<VecDeque<Body>> = Mutex::new(VecDeque::new());
    static ADDED: Condvar = Condvar::new();
    static TRAPPED: AtomicBool = AtomicBool::new(false);

    pub struct Thread;

    /// Queues `body` for a worker. The pool's size comes from JavaScript, which knows the number of workers.
    pub fn spawn(_name: String, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
        waiting().push_back(Box::new(body));
        ADDED.notify_one();
        Some(Thread)
    }

    impl Thread {
        /// Does not block: a worker whose body has returned serves the queue again.
        pub fn end(self) {}
    }

    /// Runs queued bodies on the calling worker, forever.
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

    /// Records that a worker trapped. A trap does not unwind, so the body can't report it; the worker's JavaScript
    /// does.
    pub fn note_trap() {
        TRAPPED.store(true, Ordering::Release);
    }

    /// Whether a worker trapped inside its body.
    pub fn trapped() -> bool {
        TRAPPED.load(Ordering::Acquire)
    }
}
