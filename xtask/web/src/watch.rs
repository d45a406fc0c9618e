//! Prints edited files to standard output: one line per file, after edits have paused for a moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};

// Editors write a file in several steps, and a branch switch touches many files.
const STILL: Duration = Duration::from_millis(150);

/// What is watched.
pub enum Watched {
    /// A folder and everything below it.
    Tree(PathBuf),
    /// The files of a folder. Editors replace a file instead of writing it, so it cannot be watched by itself.
    Files(PathBuf),
}

/// Watches until the result is dropped.
pub fn start(watched: &[Watched]) -> Result<Debouncer<RecommendedWatcher>> {
    let mut edits = Edits::since(SystemTime::now());
    let report = move |events: DebounceEventResult| {
        // Something that temporarily cannot be watched, such as a replaced folder, is no reason to stop.
        for event in events.unwrap_or_default() {
            if edits.is_new(&event.path) {
                println!("edited {}", event.path.display());
            }
        }
    };
    let mut debouncer = new_debouncer(STILL, report).context("cannot watch files for edits")?;
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

/// Distinguishes edits from other events: the system also reports files that were only read, and the compiler reads all
/// of them.
struct Edits {
    start: SystemTime,
    /// Last modification time of each file, if later than the start.
    reported: HashMap<PathBuf, SystemTime>,
}

impl Edits {
    fn since(start: SystemTime) -> Edits {
        Edits {
            start,
            reported: HashMap::new(),
        }
    }

    /// Whether the file was edited since the last call.
    fn is_new(&mut self, path: &Path) -> bool {
        let Ok(metadata) = path.metadata() else {
            return true; // it was deleted
        };
        // A folder changes together with its files, which are reported themselves.
        let Some(edited) = metadata.modified().ok().filter(|_| metadata.is_file()) else {
            return false;
        };
        let before = self.reported.insert(path.to_owned(), edited);
        edited > before.unwrap_or(self.start)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::Edits;

    #[test]
    fn reading_a_file_is_not_an_edit() {
        let path = std::env::temp_dir().join(format!("zamba2-watch-{}", std::process::id()));
        fs::write(&path, "text").unwrap();
        let mut edits = Edits::since(SystemTime::now() - Duration::from_secs(60));
        assert!(edits.is_new(&path));
        fs::read(&path).unwrap();
        assert!(!edits.is_new(&path));
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5))
            .unwrap();
        assert!(edits.is_new(&path));
        fs::remove_file(&path).unwrap();
        assert!(edits.is_new(&path));
        assert!(!edits.is_new(&std::env::temp_dir()));
    }
}
