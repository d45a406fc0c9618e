//! Converts panics of the tokenizers crate into errors. WebAssembly cannot catch panics, so there only the checks of
//! [`check`](super::check) protect the engine; the tests check that they leave no panic to catch.

pub(in crate::text) use platform::guarded;

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::cell::Cell;
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::Once;

    use crate::base::error::Fact;

    thread_local! {
        /// Whether a panic of this thread will be caught, so that it is not printed.
        static GUARDED: Cell<bool> = const { Cell::new(false) };
    }

    /// The result of `call`, or the reason of its failure.
    pub fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Fact> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let print = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                if !GUARDED.get() {
                    print(panicked);
                }
            }));
        });
        // Partial results are dropped: no caller keeps a tokenizer whose call failed.
        let outer = GUARDED.replace(true);
        let done = panic::catch_unwind(AssertUnwindSafe(call));
        GUARDED.set(outer);
        match done {
            Ok(done) => done.map_err(|error| error.to_string().into()),
            Err(_) => Err(Fact::new("tokenizer_panic")),
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use crate::base::error::Fact;

    /// The result of `call`, or the reason of its failure.
    pub fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Fact> {
        call().map_err(|error| error.to_string().into())
    }
}
