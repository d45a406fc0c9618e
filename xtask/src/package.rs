//! Puts `pkg/` together, the browser package: the JavaScript module, the builds that exist, and their list.
//!
//! The package is assembled beside the build outputs and then put in place by a rename, so a failed build leaves the
//! last good one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::builds::{BUILDS, Build, Effort, lanes, make_tools};
use crate::files::{copy, copy_files, file_names, make_folder, read, remove_folder, rename, write};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The builds that `pkg/` has, by the folders with their bindings.
pub type Made = Vec<(Build, PathBuf)>;

/// Makes `builds`, two at a time, and a package of them and no others.
pub fn make(workspace: &Workspace, steps: &Steps, builds: &[Build], effort: Effort) -> Result<()> {
    let made = Mutex::new(Made::new());
    make_each(workspace, steps, builds, effort, &|build, bindings| {
        made.lock().expect(NO_PANIC).push((build, bindings));
        Ok(())
    })?;
    put_in_place(workspace, &made.into_inner().expect(NO_PANIC))
}

const NO_PANIC: &str = "nothing panics while it holds the list";

/// Makes `builds`, two at a time, and gives each to `keep` with the folder of its bindings as soon as it is there.
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
    // The generator of bindings is compiled beside the first builds; who comes to it early waits.
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

/// Replaces `pkg/` by a package with the builds of `made`.
pub fn put_in_place(workspace: &Workspace, made: &[(Build, PathBuf)]) -> Result<()> {
    let fresh = workspace.target.join("pkg-fresh");
    remove_folder(&fresh)?;
    make_folder(&fresh)?;
    let engine = workspace.root.join("www/engine");
    if !engine.join("zamba2.js").is_file() {
        bail!(
            "www/engine/zamba2.js is missing; it is the package's entry, restore it and build again"
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

    // Two renames: whoever reads sees the old package or the new one, and for an instant none, never a mix.
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
pub fn tell_sizes(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.say("pkg/ is ready:");
    for build in BUILDS {
        let path = workspace
            .root
            .join("pkg")
            .join(build.name)
            .join("zamba2_wasm_bg.wasm");
        let bytes = fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        steps.say(&format!("  {bytes:>9} bytes  {} (WebAssembly)", build.name));
    }
    Ok(())
}

// Replaces www/engine/built.js, which lists all builds.
fn list_of(made: &[(Build, PathBuf)]) -> String {
    // In one order, whichever build was ready first.
    let names: Vec<String> = BUILDS
        .iter()
        .filter(|build| made.iter().any(|(other, _)| other == *build))
        .map(|build| format!("\"{}\"", build.name))
        .collect();
    format!(
        "// The builds of this package, by the folders they lie in.\nexport const BUILT = [{}];\n",
        names.join(", ")
    )
}

/// Replaces www/engine/error_words.js: the English sentences of errors. `words` has one entry per line.
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
    fn the_list_names_the_builds_that_were_made_in_one_order() {
        let made = [BUILDS[3], BUILDS[0]].map(|build| (build, PathBuf::new()));
        let list = list_of(&made);
        assert!(
            list.ends_with("export const BUILT = [\"threads-relaxed\", \"single\"];\n"),
            "{list}"
        );
        assert!(list_of(&[]).ends_with("export const BUILT = [];\n"));
    }

    #[test]
    fn the_package_has_the_sentences_of_errors_and_no_others() {
        let words = "{\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n  \"run\": \"Run\"\n}\n";
        let made = error_words(words);
        let expected =
            "export const SENTENCES = {\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n};\n";
        assert!(made.ends_with(expected), "{made}");
    }

    #[test]
    fn a_lane_holds_builds_of_one_kind_of_memory_and_together_they_hold_all() {
        let [threads, single] = lanes(&BUILDS);
        assert!(threads.iter().all(|build| build.threads));
        assert!(single.iter().all(|build| !build.threads));
        assert_eq!(threads.len() + single.len(), BUILDS.len());
    }
}
