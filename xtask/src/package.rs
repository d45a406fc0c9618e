//! Assembles `pkg/`, the browser package: the JavaScript module, the available builds, and their list.
//!
//! The package is assembled beside the build outputs and then moved into place by a rename, so a failed build leaves
//! the last good one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::builds::{BUILDS, Build, Effort, lanes, make_tools};
use crate::files::{copy, copy_files, file_names, make_folder, read, remove_folder, rename, write};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The builds in `pkg/`, with the folders of their bindings.
pub type Made = Vec<(Build, PathBuf)>;

/// Makes `builds`, two at a time, and a package with exactly these.
pub fn make(workspace: &Workspace, steps: &Steps, builds: &[Build], effort: Effort) -> Result<()> {
    let made = Mutex::new(Made::new());
    make_each(workspace, steps, builds, effort, &|build, bindings| {
        made.lock().expect(NO_PANIC).push((build, bindings));
        Ok(())
    })?;
    put_in_place(workspace, &made.into_inner().expect(NO_PANIC))
}

const NO_PANIC: &str = "nothing panics while it holds the list";

/// Makes `builds`, two at a time, and passes each to `keep` with the folder of its bindings as soon as it is ready.
pub fn make_each(
    workspace: &Workspace,
    steps: &Steps,
    builds: &[Build],
    effort: Effort,
    keep: &(dyn Fn(Build, PathBuf) -> Result<()> + Sync),
) -> Result<()> {
    for build in builds {
        build.install(workspace, steps)?;
    }
    // The bindings generator is compiled in parallel with the first builds; a build that is ready earlier waits for it.
    let tools = OnceLock::new();
    let need_tools = || -> Result<()> {
        let made = tools.get_or_init(|| make_tools(workspace, steps).map_err(|e| format!("{e:#}")));
        made.clone().map_err(anyhow::Error::msg)
    };
    let lane = |builds: Vec<Build>| -> Result<()> {
        for build in builds {
            build.compile(workspace, steps, effort)?;
            need_tools()?;
            keep(build, build.bind(workspace, steps, effort)?)?;
        }
        Ok(())
    };
    let [threads, single] = lanes(builds);
    thread::scope(|scope| {
        let tools = scope.spawn(need_tools);
        let other = scope.spawn(|| lane(single));
        let own = lane(threads);
        let joined = [tools.join(), other.join()];
        let [tools, other] = joined.map(|end| end.expect("making a build does not panic"));
        own.and(other).and(tools)
    })
}

/// Replaces `pkg/` with a package of the builds in `made`.
pub fn put_in_place(workspace: &Workspace, made: &[(Build, PathBuf)]) -> Result<()> {
    let fresh = workspace.target.join("pkg-fresh");
    remove_folder(&fresh)?;
    make_folder(&fresh)?;
    let engine = workspace.root.join("www/engine");
    if !engine.join("zamba2.js").is_file() {
        bail!(
            "www/engine/zamba2.js is missing; it is the package's entry point; restore it and build again"
        );
    }
    copy_files(&engine, &fresh)?;
    for (build, bindings) in made {
        copy_files(bindings, &fresh.join(build.name))?;
    }
    write(&fresh.join("built.js"), &list_of(made))?;
    let words = read(&workspace.root.join("www/words/en.json"))?;
    write(&fresh.join("error_words.js"), &error_words(&words))?;
    for name in file_names(&workspace.root)? {
        if name.starts_with("LICENSE") || name == "README.md" {
            copy(&workspace.root.join(&name), &fresh.join(&name))?;
        }
    }
    write_manifest(&fresh)?;

    // Two renames: a reader sees the old package or the new one, or none for an instant, but never a mix.
    let (place, stale) = (
        workspace.root.join("pkg"),
        workspace.target.join("pkg-stale"),
    );
    remove_folder(&stale)?;
    if place.exists() {
        rename(&place, &stale)?;
    }
    rename(&fresh, &place)?;
    remove_folder(&stale)
}

/// Prints the sizes of the package's modules.
pub fn print_sizes(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.print_line("pkg/ is ready:");
    for build in BUILDS {
        let path = workspace
            .root
            .join("pkg")
            .join(build.name)
            .join("zamba2_wasm_bg.wasm");
        let bytes = fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        steps.print_line(&format!("  {bytes:>9} bytes  {} (WebAssembly)", build.name));
    }
    Ok(())
}

// Contents that replace www/engine/built.js, which lists all builds.
fn list_of(made: &[(Build, PathBuf)]) -> String {
    // In a fixed order, whichever build was ready first.
    let names: Vec<String> = BUILDS
        .iter()
        .filter(|build| made.iter().any(|(other, _)| other == *build))
        .map(|build| format!("\"{}\"", build.name))
        .collect();
    format!(
        "// The builds in this package, by their folders.\nexport const BUILT = [{}];\n",
        names.join(", ")
    )
}

/// Contents that replace www/engine/error_words.js: the English sentences of errors. `words` has one entry per line.
fn error_words(words: &str) -> String {
    let is_error = |line: &&str| {
        let key = line.trim_start();
        key.starts_with("\"error.") || key.starts_with("\"fact.")
    };
    let lines: Vec<&str> = words.lines().filter(is_error).collect();
    format!(
        "// The English sentences of errors, from www/words/en.json.\nexport const SENTENCES = {{\n{}\n}};\n",
        lines.join("\n")
    )
}

fn write_manifest(folder: &Path) -> Result<()> {
    let mut names = file_names(folder)?;
    names.extend(BUILDS.map(|build| build.name.to_owned()));
    let files: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let manifest = format!(
        r#"{{
  "name": "zamba2-web",
  "version": "{}",
  "description": "Zamba2 hybrid state-space language models in the browser, with a profile of every block",
  "license": "{}",
  "type": "module",
  "exports": "./zamba2.js",
  "types": "./zamba2.d.ts",
  "files": [{}]
}}
"#,
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_LICENSE"),
        files.join(", ")
    );
    write(&folder.join("package.json"), &manifest)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{error_words, list_of};
    use crate::builds::{BUILDS, lanes};

    #[test]
    fn the_list_names_the_available_builds_in_a_fixed_order() {
        let made = [BUILDS[3], BUILDS[0]].map(|build| (build, PathBuf::new()));
        let list = list_of(&made);
        assert!(
            list.ends_with("export const BUILT = [\"threads-relaxed\", \"single\"];\n"),
            "{list}"
        );
        assert!(list_of(&[]).ends_with("export const BUILT = [];\n"));
    }

    #[test]
    fn the_package_contains_only_the_sentences_of_errors() {
        let words = "{\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n  \"run\": \"Run\"\n}\n";
        let made = error_words(words);
        let expected =
            "export const SENTENCES = {\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n};\n";
        assert!(made.ends_with(expected), "{made}");
    }

    #[test]
    fn each_lane_has_builds_of_one_kind_of_memory_and_together_they_have_all() {
        let [threads, single] = lanes(&BUILDS);
        assert!(threads.iter().all(|build| build.threads));
        assert!(single.iter().all(|build| !build.threads));
        assert_eq!(threads.len() + single.len(), BUILDS.len());
    }
}
