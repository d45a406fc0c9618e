//! Calls into the tokenizers crate, where a panic becomes an error like any other. WebAssembly can't catch one: there
//! the checks of [`check`](super::check) are all there is, and the tests hold that they leave nothing to be caught.

pub(in crate::text) use platform::guarded;

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::cell::Cell;
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::Once;

    use crate::base::error::Fact;

    thread_local! {
        /// Whether a panic of this thread will be caught, and so is not to be printed.
        static GUARDED: Cell<bool> = const { Cell::new(false) };
    }

    /// The result of `call`, or why it failed.
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
        // What was half done is dropped: no caller keeps a tokenizer whose call failed.
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

    /// The result of `call`, or why it failed.
    pub fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Fact> {
        call().map_err(|error| error.to_string().into())
    }
}
