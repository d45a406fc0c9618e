//! Checks the sizes of the Rust and WGSL sources: lines per file and per function in `src/`, without unit tests, and
//! columns per line everywhere. `tests/browser/floors.test.js` checks JavaScript.

use std::fs;
use std::path::Path;

use crate::architecture::{files, without_tests};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 80;
const MAX_COLUMNS: usize = 120;

/// The name of the function that the line declares.
fn function_name(line: &str) -> Option<&str> {
    let qualifiers = ["pub ", "pub(", "async ", "const ", "unsafe ", "fn "];
    let start = line.trim_start();
    if !qualifiers
        .iter()
        .any(|qualifier| start.starts_with(qualifier))
    {
        return None;
    }
    let (before, after) = start.split_once("fn ")?;
    let is_function = before.is_empty() || before.ends_with(' ');
    let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    (is_function && end > 0).then(|| &after[..end])
}

/// Every function with a body, and its number of lines. rustfmt ends a signature in `{`, `;` or `{}` at the end of a
/// line, and indents a function's closing brace like its first line; the shaders are formatted in the same way.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let rest = &lines[start..];
        let signature_end = rest.iter().find(|line| line.ends_with(['{', ';', '}']));
        if !signature_end.is_some_and(|line| line.ends_with('{')) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_end = |line: &&str| line.strip_prefix(indent) == Some("}");
        let end = rest.iter().position(is_end);
        found.push((name, end.expect("a function ends") + 1));
    }
    found
}

/// All violations in the file at `path` below the repository's root.
fn problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > MAX_COLUMNS {
            problems.push(format!("{path}:{}: {columns} columns", index + 1));
        }
    }
    if !path.starts_with("src/") || path.ends_with("/tests.rs") {
        return problems;
    }
    let code = without_tests(text);
    let lines = code.lines().count();
    if lines > MAX_FILE_LINES {
        problems.push(format!("{path}: {lines} lines"));
    }
    for (name, lines) in functions(code) {
        if lines > MAX_FUNCTION_LINES {
            problems.push(format!("{path}: {lines} lines in `{name}`"));
        }
    }
    problems
}

#[test]
fn files_functions_and_lines_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build_script = fs::read_to_string(root.join("build.rs")).unwrap();
    let mut found = problems("build.rs", &build_script);
    for folder in ["src", "tests", "grammar/src", "xtask/src", "xtask/web/src"] {
        for (path, text) in files(&root.join(folder), &["rs", "wgsl"]) {
            found.extend(problems(&format!("{folder}/{path}"), &text));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_kind_of_length_is_measured() {
    let function = |indent: &str, start: &str, lines: usize| {
        let body = format!("{indent}    x();\n").repeat(lines - 2);
        format!("{indent}{start} {{\n{body}{indent}}}\n")
    };
    let in_impl = |start: &str, lines| format!("impl A {{\n{}}}\n", function("    ", start, lines));
    let many_lines = |lines: usize| "x();\n".repeat(lines);
    let columns = |columns: usize| format!("// {}\n", "ü".repeat(columns - 3));
    for (path, text) in [
        ("src/a.rs", many_lines(501)),
        ("src/a.rs", columns(121)),
        ("tests/a.rs", columns(121)),
        ("src/a.rs", function("", "fn a()", 81)),
        ("src/a.rs", in_impl("pub(crate) async fn a(&self)", 81)),
        ("src/a.rs", in_impl("fn b(&self);\n    fn a(&self)", 81)),
        ("src/a.rs", function("", "fn a(\n    b: B,\n) -> C", 79)),
        ("src/a.wgsl", function("", "fn main()", 81)),
    ] {
        assert_eq!(problems(path, &text).len(), 1, "in {path}:\n{text}");
    }
    for (path, text) in [
        ("src/a.rs", many_lines(500)),
        ("src/a.rs", columns(120)),
        ("src/a.rs", function("", "fn a()", 80)),
        (
            "src/a.rs",
            in_impl("fn a(&self)", 80) + &in_impl("fn b(&self)", 80),
        ),
        (
            "src/a.rs",
            format!("trait A {{\n    fn a(&self);\n{}}}\n", many_lines(90)),
        ),
        (
            "src/a.rs",
            format!("#[cfg(test)]\nmod tests {{\n{}}}\n", many_lines(600)),
        ),
        ("src/a/tests.rs", many_lines(600)),
        ("tests/a.rs", many_lines(600)),
    ] {
        assert_eq!(problems(path, &text), [""; 0], "in {path}:\n{text}");
    }
}
