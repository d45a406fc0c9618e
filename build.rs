//! Generates `enum Language` and the static tables of sentences for `src/words.rs` from `www/words/*.json`. Sentences
//! that only the page uses are left out, because they would only make the wasm larger.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDER: &str = "www/words";
/// Prefixes of keys that are needed in every language: reports and advice.
const IN_EVERY_LANGUAGE: [&str; 2] = ["report.", "advice."];
/// Prefixes of keys that Rust needs in English only, for the command line and `Error.message`; the page renders the
/// code and values of an error itself.
const IN_ENGLISH: [&str; 2] = ["error.", "fact."];

fn main() {
    println!("cargo::rerun-if-changed={FOLDER}");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let code = code_of(&root.join(FOLDER));
    fs::write(out.join("words.rs"), code).expect("the output folder is writable");
}

fn code_of(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    // English first: it is the default and the fallback.
    paths.sort_by_key(|path| {
        (
            path.file_stem().is_none_or(|stem| stem != "en"),
            path.clone(),
        )
    });

    let (mut variants, mut all, mut codes, mut tables) =
        (String::new(), String::new(), String::new(), String::new());
    for (index, path) in paths.iter().enumerate() {
        let code = path
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("names are ASCII");
        let variant = format!("{}{}", code[..1].to_uppercase(), &code[1..]);
        let default = if index == 0 { "#[default] " } else { "" };
        writeln!(variants, "    {default}{variant},").unwrap();
        write!(all, "Language::{variant}, ").unwrap();
        write!(codes, "{code:?}, ").unwrap();
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        writeln!(tables, "    &[\n{}    ],", table(&text, index == 0)).unwrap();
    }
    let n = paths.len();
    format!(
        "/// A language of `www/words/`: one variant per file.\n\
         #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\n\
         pub enum Language {{\n{variants}}}\n\n\
         const ALL: [Language; {n}] = [{all}];\n\
         const CODES: [&str; {n}] = [{codes}];\n\
         /// Sorted by key.\n\
         static TABLES: [&[(&str, &str)]; {n}] = [\n{tables}];\n"
    )
}

/// The entries of one file as Rust source. The files have one entry per line and no escapes but `\"`, `\\` and `\n`,
/// which Rust and JSON share (checked by `tests/words.rs`).
fn table(json: &str, is_english: bool) -> String {
    let used = |key: &str| {
        let prefixes = IN_ENGLISH
            .iter()
            .filter(|_| is_english)
            .chain(&IN_EVERY_LANGUAGE);
        prefixes.into_iter().any(|prefix| key.starts_with(prefix))
    };
    let mut entries: Vec<(&str, &str)> = json
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split_once(": "))
        .filter(|(key, _)| used(key.trim_start_matches('"')))
        .collect();
    entries.sort_by_key(|(key, _)| key.trim_matches('"'));
    entries
        .iter()
        .map(|(key, text)| format!("        ({key}, {text}),\n"))
        .collect()
}
