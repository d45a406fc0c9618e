//! Edited files, told on the standard output: one line per file, after the editor has been still for a moment.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};

// Editors write a file in several steps, and a change of branch touches many.
const STILL: Duration = Duration::from_millis(150);

/// What is watched.
pub enum Watched {
    /// A folder with all that is below it.
    Tree(PathBuf),
    /// The files of a folder. Editors replace a file instead of writing it, so it can't be watched by itself.
    Files(PathBuf),
}

/// Watches until the result is dropped.
pub fn start(watched: &[Watched]) -> Result<Debouncer<RecommendedWatcher>> {
    let tell = |events: DebounceEventResult| {
        // What cannot be watched for a moment, such as a folder that was replaced, is no reason to stop.
        for event in events.unwrap_or_default() {
            println!("edited {}", event.path.display());
        }
    };
    let mut debouncer = new_debouncer(STILL, tell).context("cannot watch files for edits")?;
    for watched in watched {
        let (path, mode) = match watched {
            Watched::Tree(path) => (path, RecursiveMode::Recursive),
            Watched::Files(path) => (path, RecursiveMode::NonRecursive),
        };
        let watching = || format!("cannot watch {} for edits", path.display());
        debouncer
            .watcher()
            .watch(path, mode)
            .with_context(watching)?;
    }
    Ok(debouncer)
}
