//! `cargo xtask trace`: adds function names to a stack trace of the shipped wasm, which has none.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};

use crate::builds::PACKAGED;
use crate::workspace::Workspace;

/// How browsers write a function of a module without names.
const MARK: &str = "wasm-function[";

/// Prints the stack trace in `file`, or from standard input, with the names of `pkg/`'s functions.
pub fn run(workspace: &Workspace, file: Option<&Path>) -> Result<()> {
    let trace = match file {
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the trace {}", path.display()))?,
        None => {
            let mut trace = String::new();
            io::stdin()
                .read_to_string(&mut trace)
                .context("cannot read the trace")?;
            trace
        }
    };
    let package = workspace.root.join("pkg");
    let mut lists = HashMap::new();
    for line in trace.lines() {
        let named = build_of(line).and_then(|build| {
            let names = lists.entry(build).or_insert_with(|| {
                let list = package.join(build).join("zamba2_wasm_bg.names");
                fs::read_to_string(list).unwrap_or_default()
            });
            named(line, names)
        });
        println!("{}", named.as_deref().unwrap_or(line));
    }
    Ok(())
}

/// The build whose module is named in the URL of a trace line.
fn build_of(line: &str) -> Option<&'static str> {
    let names = PACKAGED.map(|build| build.name);
    names
        .into_iter()
        .find(|name| line.contains(&format!("/{name}/")))
}

/// The line with the function's name after its index, if `list` has it.
fn named(line: &str, list: &str) -> Option<String> {
    let start = line.find(MARK)? + MARK.len();
    let end = start + line[start..].find(']')?;
    let index = &line[start..end];
    let name = list
        .lines()
        .filter_map(|entry| entry.split_once('\t'))
        .find_map(|(other, name)| (other == index).then_some(name))?;
    Some(format!("{}]<{name}>{}", &line[..end], &line[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{build_of, named};

    const LIST: &str = "7\tzamba2::scan\n17\tzamba2::norm\n";

    #[test]
    fn a_line_gets_the_name_of_its_function() {
        let line = "    at http://localhost/pkg/simd128/zamba2_wasm_bg.wasm:wasm-function[17]:0x1f";
        assert_eq!(build_of(line), Some("simd128"));
        assert!(
            named(line, LIST)
                .unwrap()
                .ends_with("wasm-function[17]<zamba2::norm>:0x1f")
        );
    }

    #[test]
    fn lines_of_javascript_and_of_unknown_functions_are_unchanged() {
        assert_eq!(named("    at step (worker.js:12:3)", LIST), None);
        assert_eq!(named("wasm-function[1]", LIST), None);
        assert_eq!(build_of("worker.js:12:3"), None);
    }
}
