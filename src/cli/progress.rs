//! Progress bars on standard error. There are none without a terminal, so that logs get no lines.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// No bar is drawn for shorter waits.
const REDRAW: Duration = Duration::from_millis(100);
const STEPS: &str = "{msg} {wide_bar:.dim} {pos} of {len}, {eta} left";
const BYTES: &str = "{msg} {wide_bar:.dim} {decimal_bytes} of {decimal_total_bytes}, {eta} left";

/// A bar that is cleared when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar of `n` steps.
    pub fn of_steps(what: &str, n: u64) -> Progress {
        Progress::new(what, n, STEPS)
    }

    /// A bar of `n` bytes.
    pub fn of_bytes(what: &str, n: u64) -> Progress {
        Progress::new(what, n, BYTES)
    }

    fn new(what: &str, n: u64, template: &str) -> Progress {
        let style = ProgressStyle::with_template(template).expect("the templates are valid");
        let bar = ProgressBar::new(n)
            .with_style(style)
            .with_message(what.to_owned());
        bar.enable_steady_tick(REDRAW);
        Progress(bar)
    }

    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }
}

/// A bar for the progress callback of `folder::open_watched` and `folder::pack`.
pub fn of_reading(dir: &Path) -> impl FnMut(u64, u64) {
    let mut bar = None;
    let what = format!("Reading {}", dir.display());
    move |more, total| {
        let bar = bar.get_or_insert_with(|| Progress::of_bytes(&what, total));
        bar.advance(more);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
