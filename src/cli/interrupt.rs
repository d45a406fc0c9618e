//! Ctrl-C while a conversation goes on: it ends the answer that is being written, or the program if there is none.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_ANSWERING: AtomicBool = AtomicBool::new(false);
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What shells report of a program that Ctrl-C has ended.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Takes Ctrl-C over. Where the system refuses it, Ctrl-C ends the program as before.
pub fn install() {
    let handler = || {
        let again = IS_INTERRUPTED.swap(true, Ordering::Relaxed);
        if again || !IS_ANSWERING.load(Ordering::Relaxed) {
            exit(ENDED_BY_INTERRUPT);
        }
    };
    ctrlc::set_handler(handler).ok();
}

/// While it lives, the first Ctrl-C ends the answer and a second one the program.
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
