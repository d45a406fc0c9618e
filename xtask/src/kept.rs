//! Cached results: what has passed is not run again while everything it depends on is unchanged.
//!
//! Files are those that git tracks or would track, compared by contents. Without git nothing is cached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::ids::id_of;
use crate::workspace::Workspace;

/// The repository's files.
#[derive(PartialEq, Eq)]
pub struct Sources {
    /// Paths with `/`, sorted, and an id of the contents.
    files: Vec<(String, String)>,
}

impl Sources {
    /// None where there is no git, or no repository.
    pub fn read(workspace: &Workspace) -> Option<Sources> {
        let mut git = workspace.program("git");
        git.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let output = git.output().ok().filter(|output| output.status.success())?;
        let names = String::from_utf8(output.stdout).ok()?;
        let mut files: Vec<_> = names
            .split_terminator('\0')
            // A file that was deleted is still tracked until the next commit.
            .filter_map(|name| Some((name.to_owned(), id_of_file(&workspace.root.join(name))?)))
            .collect();
        files.sort();
        files.dedup();
        Some(Sources { files })
    }

    /// An id of the relevant files and of the other inputs.
    pub fn key(&self, matters: impl Fn(&str) -> bool, others: &[String]) -> String {
        let files = self.files.iter().filter(|(name, _)| matters(name));
        let parts = files.flat_map(|(name, id)| [name, id]).chain(others);
        id_of(parts.map(String::as_bytes))
    }
}

fn id_of_file(path: &Path) -> Option<String> {
    Some(id_of([&fs::read(path).ok()?[..]]))
}

/// An id of all files below a folder.
pub fn id_of_folder(folder: &Path) -> Result<String> {
    let mut ids = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let reading = || format!("cannot read the folder {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(id) = id_of_file(&path) {
                ids.push(format!("{} {id}", path.display()));
            }
        }
    }
    ids.sort();
    Ok(id_of(ids.iter().map(String::as_bytes)))
}

/// The tests that have passed, by name: the key at that time, and the number of tests.
pub struct Kept {
    path: PathBuf,
    passed: Mutex<BTreeMap<String, (String, usize)>>,
}

impl Kept {
    pub fn open(logs: &Path) -> Kept {
        let path = logs.join("passed");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let entry = |line: &str| {
            let [name, key, passed] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            Some((name.to_owned(), (key.to_owned(), passed.parse().ok()?)))
        };
        Kept {
            passed: Mutex::new(text.lines().filter_map(entry).collect()),
            path,
        }
    }

    /// The number of tests of this name that passed with this key.
    pub fn passed(&self, name: &str, key: &str) -> Option<usize> {
        let all = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, passed) = all.get(name)?;
        (known == key).then_some(*passed)
    }

    pub fn keep(&self, name: &str, key: &str, passed: usize) {
        let mut all = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), (key.to_owned(), passed));
        let lines = all.iter();
        let lines = lines.map(|(name, (key, passed))| format!("{name} {key} {passed}\n"));
        // If it cannot be saved, the tests run again next time.
        fs::write(&self.path, lines.collect::<String>()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Kept, Sources, id_of_folder};
    use crate::workspace::Workspace;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let file = |(name, id): &(&str, &str)| ((*name).to_owned(), (*id).to_owned());
        Sources {
            files: files.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_key_changes_with_the_files_that_matter_and_with_nothing_else() {
        let before = sources(&[("src/a.rs", "1"), ("www/a.js", "1")]);
        let other_page = sources(&[("src/a.rs", "1"), ("www/a.js", "2")]);
        let moved = sources(&[("src/b.rs", "1"), ("www/a.js", "1")]);
        let rust = |sources: &Sources, others: &[String]| {
            sources.key(|name| name.ends_with(".rs"), others)
        };
        let key = rust(&before, &[]);
        assert_eq!(rust(&other_page, &[]), key);
        assert_ne!(rust(&moved, &[]), key);
        assert_ne!(rust(&before, &["rustc 2".to_owned()]), key);
        assert_ne!(before.key(|_| true, &[]), other_page.key(|_| true, &[]));
    }

    #[test]
    fn the_files_of_this_repository_are_found() {
        let workspace = Workspace::find(false).unwrap();
        // A source archive has no repository.
        let Some(sources) = Sources::read(&workspace) else {
            assert!(!workspace.root.join(".git").exists());
            return;
        };
        assert!(
            sources
                .files
                .iter()
                .any(|(name, _)| name == "xtask/src/kept.rs")
        );
        assert!(
            sources
                .files
                .iter()
                .all(|(name, _)| !name.starts_with("target/"))
        );
    }

    #[test]
    fn results_are_kept_by_name_and_key_across_runs() {
        let folder = std::env::temp_dir().join(format!("zamba2-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let kept = Kept::open(&folder);
        kept.keep("kernels", "key1", 372);
        kept.keep("native", "key2", 10);
        kept.keep("native", "key3", 11);
        let again = Kept::open(&folder);
        assert_eq!(again.passed("kernels", "key1"), Some(372));
        assert_eq!(again.passed("native", "key2"), None);
        assert_eq!(again.passed("native", "key3"), Some(11));
        assert_eq!(again.passed("browser", "key1"), None);
        let before = id_of_folder(&folder).unwrap();
        fs::write(folder.join("more"), "text").unwrap();
        assert_ne!(id_of_folder(&folder).unwrap(), before);
        fs::remove_dir_all(&folder).unwrap();
    }
}
