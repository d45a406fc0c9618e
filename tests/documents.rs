//! The files and folders that documents name exist.

use std::fs;
use std::path::Path;

/// Documents in which names of files are checked, beside those in `docs/`.
const DOCUMENTS: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "www/README.md"];

/// A code span with one of these endings names a file or a folder.
const FILE_ENDINGS: [&str; 12] = [
    ".rs", ".js", ".wgsl", ".json", ".html", ".css", ".md", ".d.ts", ".mjs", ".py", ".toml", "/",
];

/// Names in documents of files and folders that are not in the repository.
const ELSEWHERE: [&str; 6] = [
    // Created by builds and tests.
    "pkg/",
    "target/logs/",
    // On a deployed site.
    "assets/",
    "build.json",
    // In the reference implementation.
    "modeling_zamba2.py",
    // An example of what trainers write.
    "checkpoint-10/",
];

/// The code spans of a document that name files or folders.
fn named_files(document: &str) -> Vec<&str> {
    let outside_of_blocks = document.split("```").step_by(2);
    let spans = outside_of_blocks.flat_map(|text| text.split('`').skip(1).step_by(2));
    let is_file = |span: &&str| {
        let has_ending = FILE_ENDINGS.iter().any(|ending| span.ends_with(ending));
        let is_ending = FILE_ENDINGS.contains(span);
        let is_address = span.starts_with('/') || span.contains("://");
        let is_command = span.contains(char::is_whitespace);
        has_ending && !is_ending && !is_address && !is_command
    };
    spans.filter(is_file).collect()
}

/// Whether the last components of `path` are those of `name`, where `<…>` and `*` stand for any part of a component.
fn is_named(path: &str, name: &str) -> bool {
    let mut components = path.split_inclusive('/').rev();
    name.split_inclusive('/').rev().all(|wanted| {
        let component = components.next().unwrap_or("");
        let Some((start, rest)) = wanted.split_once(['<', '*']) else {
            return component == wanted;
        };
        let end = rest.rsplit(['>', '*']).next().unwrap_or(rest);
        component.starts_with(start) && component.ends_with(end)
    })
}

/// All files and folders below `folder`, relative to it, without build outputs. A folder ends with `/`.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            found.push(name);
        } else if ![".git", "node_modules", "pkg", "target"].contains(&name.as_str()) {
            let inside = tree(&path).into_iter();
            found.extend(inside.map(|path| format!("{name}/{path}")));
            found.push(format!("{name}/"));
        }
    }
    found
}

#[test]
fn files_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let existing = tree(root);
    let is_doc = |path: &&str| path.starts_with("docs/") && path.ends_with(".md");
    let docs = existing.iter().map(String::as_str).filter(is_doc);
    let mut missing = Vec::new();
    for document in DOCUMENTS.into_iter().chain(docs) {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for name in named_files(&text) {
            let exists = existing.iter().any(|path| is_named(path, name));
            if !exists && !ELSEWHERE.contains(&name) {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn file_names_in_documents_are_found_and_compared_by_component() {
    let document =
        "`a/b.rs`, `b.rs:1`, `cargo run x.rs`, `.rs`, `/c/`, `hf://`\n```\n`d.rs`\n```\n`e/`";
    assert_eq!(named_files(document), ["a/b.rs", "e/"]);
    for name in ["b.rs", "a/b.rs", "*.rs", "<group>/b.rs", "<x>/a/<y>.rs"] {
        assert!(is_named("src/a/b.rs", name), "{name}");
    }
    for name in [
        "c.rs",
        "ab.rs",
        "a/",
        "b/b.rs",
        "*.js",
        "src/<x>.rs",
        "x/src/a/b.rs",
    ] {
        assert!(!is_named("src/a/b.rs", name), "{name}");
    }
    assert!(is_named("src/a/", "a/"));
}
