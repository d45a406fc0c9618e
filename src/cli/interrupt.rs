//! Ctrl-C in a conversation: ends the answer that is being generated, or the program if there is none.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_ANSWERING: AtomicBool = AtomicBool::new(false);
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The exit code that shells expect after Ctrl-C.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Installs the handler. If the system refuses it, Ctrl-C ends the program as usual.
pub fn install() {
    let handler = || {
        let again = IS_INTERRUPTED.swap(true, Ordering::Relaxed);
        if again || !IS_ANSWERING.load(Ordering::Relaxed) {
            exit(ENDED_BY_INTERRUPT);
        }
    };
    ctrlc::set_handler(handler).ok();
}

/// While it exists, the first Ctrl-C ends the answer and the second one the program.
pub struct Answering;

impl Answering {
    pub fn begin() -> Answering {
        IS_INTERRUPTED.store(false, Ordering::Relaxed);
        IS_ANSWERING.store(true, Ordering::Relaxed);
        Answering
    }

    pub fn is_interrupted(&self) -> bool {
        IS_INTERRUPTED.load(Ordering::Relaxed)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        IS_ANSWERING.store(false, Ordering::Relaxed);
    }
}
