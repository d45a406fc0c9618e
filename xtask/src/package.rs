//! Assembles `pkg/`, the browser package: the JavaScript module, the available builds, and their list.
//!
//! The package is assembled beside the build outputs and then moved into place by a rename, so a failed build leaves
//! the last good one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::builds::{Build, Effort, PACKAGED, install, make_tools};
use crate::files::{copy, copy_files, file_names, make_folder, read, remove_folder, rename, write};
use crate::ids::{id_of, stamp_build};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The builds in `pkg/`, with the folders of their bindings.
pub type Made = Vec<(Build, PathBuf)>;

/// Makes `builds`, and a package with exactly these.
pub fn make(workspace: &Workspace, steps: &Steps, builds: &[Build], effort: Effort) -> Result<()> {
    let mut made = Made::new();
    make_each(workspace, steps, builds, effort, &mut |build, bindings| {
        made.push((build, bindings));
        Ok(())
    })?;
    put_in_place(workspace, &made)
}

/// Makes `builds` one by one, and passes each to `keep` with the folder of its bindings as soon as it is ready.
pub fn make_each(
    workspace: &Workspace,
    steps: &Steps,
    builds: &[Build],
    effort: Effort,
    keep: &mut dyn FnMut(Build, PathBuf) -> Result<()>,
) -> Result<()> {
    install(workspace, steps)?;
    thread::scope(|scope| {
        // The bindings generator is compiled in parallel with the first build, which waits for it if that takes longer.
        let mut tools = Some(scope.spawn(|| make_tools(workspace, steps)));
        for build in builds {
            build.compile(workspace, steps, effort)?;
            if let Some(tools) = tools.take() {
                tools.join().expect("making the tools does not panic")?;
            }
            keep(*build, build.bind(workspace, steps, effort)?)?;
        }
        Ok(())
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
    let words = read(&workspace.root.join("www/words/en.json"))?;
    write(
        &fresh.join("packaged_sentences.js"),
        &packaged_sentences(&words),
    )?;
    let mut ids = Vec::new();
    for (build, bindings) in made {
        copy_files(bindings, &fresh.join(build.name))?;
        ids.push((*build, stamp_build(&fresh.join(build.name))?));
    }
    write(
        &fresh.join("built.js"),
        &list_of(&ids, &scripts_id(&fresh)?),
    )?;
    for name in file_names(&workspace.root)? {
        if name.starts_with("LICENSE") {
            copy(&workspace.root.join(&name), &fresh.join(&name))?;
        }
    }

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
    for build in PACKAGED {
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

/// An id of the package's scripts, without the builds of the engine: these have ids of their own, and `serve` adds them
/// one by one under an open page.
fn scripts_id(folder: &Path) -> Result<String> {
    let mut texts = Vec::new();
    for name in file_names(folder)? {
        texts.push(read(&folder.join(&name))?);
    }
    Ok(id_of(texts.iter().map(|text| text.as_bytes())))
}

/// Contents that replace www/engine/built.js.
fn list_of(ids: &[(Build, String)], scripts_id: &str) -> String {
    // In a fixed order, whichever build was ready first.
    let entries: Vec<String> = PACKAGED
        .iter()
        .filter_map(|build| ids.iter().find(|(other, _)| other == build))
        .map(|(build, id)| format!("  \"{}\": \"{id}\",\n", build.name))
        .collect();
    format!(
        "// The builds in this package, with ids of their files, and one of its scripts.\n\
         export const BUILT = {{\n{}}};\nexport const SCRIPTS_ID = \"{scripts_id}\";\n",
        entries.concat()
    )
}

/// Contents that replace www/engine/packaged_sentences.js: the English sentences of errors. `words` has one entry per
/// line.
fn packaged_sentences(words: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::{list_of, packaged_sentences};
    use crate::builds::{BUILDS, GRAMMAR};

    #[test]
    fn the_list_names_the_available_builds_in_a_fixed_order() {
        let made = [(GRAMMAR, "d"), (BUILDS[1], "b"), (BUILDS[0], "a")];
        let made = made.map(|(build, id)| (build, id.to_owned()));
        let list = list_of(&made, "c");
        let expected = "BUILT = {\n  \"relaxed-simd\": \"a\",\n  \"simd128\": \"b\",\n  \"grammar\": \"d\",\n};\n\
            export const SCRIPTS_ID = \"c\";\n";
        assert!(list.ends_with(expected), "{list}");
        assert!(list_of(&[], "c").contains("BUILT = {\n};\n"));
    }

    #[test]
    fn the_package_contains_only_the_sentences_of_errors() {
        let words = "{\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n  \"run\": \"Run\"\n}\n";
        let made = packaged_sentences(words);
        let expected =
            "export const SENTENCES = {\n  \"error.a\": \"A {b}\",\n  \"fact.c\": \"C\",\n};\n";
        assert!(made.ends_with(expected), "{made}");
    }
}
