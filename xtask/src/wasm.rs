//! Makes `pkg/`, the browser package: WebAssembly, its bindings, and the JavaScript module.
//!
//! The package is assembled beside the build outputs and then put in place by a rename, so a failed
//! build leaves the last good one. It neither shrinks nor publishes what it makes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use wasm_bindgen_cli_support::Bindgen;

use crate::installs;
use crate::workspace::{Workspace, run};

/// The target of the browser build.
pub const BROWSER_TARGET: &str = "wasm32-unknown-unknown";

// The name is part of the package: www/engine/ imports `./zamba2_wasm.js`.
const BINDINGS: &str = "zamba2_wasm";

/// Compiles the library for the browser and replaces `pkg/`.
pub fn build(workspace: &Workspace) -> Result<()> {
    installs::rust_target(workspace, BROWSER_TARGET)?;
    run(workspace.cargo().args([
        "build",
        "--release",
        "--lib",
        "--package",
        "zamba2",
        "--target",
        BROWSER_TARGET,
    ]))?;

    let fresh = workspace.target.join("pkg-fresh");
    remove_folder(&fresh)?;
    make_folder(&fresh)?;
    write_bindings(workspace, &fresh)?;
    copy_engine(workspace, &fresh)?;
    copy_root_texts(workspace, &fresh)?;
    write_manifest(workspace, &fresh)?;

    let place = workspace.root.join("pkg");
    put_in_place(workspace, &fresh, &place)?;
    println!("pkg/ is ready:");
    for name in file_names(&place)? {
        let path = place.join(&name);
        let bytes = fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        println!("  {bytes:>9} bytes  {name}");
    }
    Ok(())
}

fn write_bindings(workspace: &Workspace, folder: &Path) -> Result<()> {
    let module = workspace
        .target
        .join(BROWSER_TARGET)
        .join("release/zamba2.wasm");
    Bindgen::new()
        .input_path(&module)
        .out_name(BINDINGS)
        .typescript(true)
        // `init()` without an argument finds the module beside the script only with this path kept.
        .omit_default_module_path(false)
        .web(true)
        .and_then(|bindgen| bindgen.generate(folder))
        .with_context(|| format!("cannot make JavaScript bindings for {}", module.display()))
}

fn copy_engine(workspace: &Workspace, folder: &Path) -> Result<()> {
    let engine = workspace.root.join("www/engine");
    if !engine.join("zamba2.js").is_file() {
        bail!(
            "www/engine/zamba2.js is missing; it is the package's entry, restore it and build again"
        );
    }
    for name in file_names(&engine)? {
        copy(&engine.join(&name), &folder.join(&name))?;
    }
    Ok(())
}

fn copy_root_texts(workspace: &Workspace, folder: &Path) -> Result<()> {
    for name in file_names(&workspace.root)? {
        if name.starts_with("LICENSE") || name == "README.md" {
            copy(&workspace.root.join(&name), &folder.join(&name))?;
        }
    }
    Ok(())
}

fn write_manifest(workspace: &Workspace, folder: &Path) -> Result<()> {
    let manifest = json!({
        "name": "zamba2-web",
        "version": workspace.version,
        "description": workspace.description,
        "license": workspace.license,
        "type": "module",
        // TypeScript finds zamba2.d.ts beside it.
        "exports": "./zamba2.js",
        "types": "./zamba2.d.ts",
        "files": file_names(folder)?,
    });
    let path = folder.join("package.json");
    fs::write(&path, format!("{manifest:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

// Two renames: a reader sees the old package or the new one, and for an instant none, never a mix.
fn put_in_place(workspace: &Workspace, fresh: &Path, place: &Path) -> Result<()> {
    let stale = workspace.target.join("pkg-stale");
    remove_folder(&stale)?;
    if place.exists() {
        rename(place, &stale)?;
    }
    rename(fresh, place)?;
    remove_folder(&stale)
}

// The names of a folder's files, in order. Hidden files are editors' business, not the package's.
fn file_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let reading = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| {
        format!(
            "cannot move {} to {}; both must be on one disk",
            from.display(),
            to.display()
        )
    })
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

fn remove_folder(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}
