//! Makes `pkg/`, the browser package: WebAssembly in four variants, their bindings, and the JavaScript module.
//!
//! The package is assembled beside the build outputs and then put in place by a rename, so a failed
//! build leaves the last good one. It neither shrinks nor publishes what it makes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use wasm_bindgen_cli_support::Bindgen;

use crate::installs;
use crate::workspace::{Workspace, run};

/// The target of the browser build.
pub const BROWSER_TARGET: &str = "wasm32-unknown-unknown";

// The name is part of the package: www/engine/ imports it from the variant's folder.
const BINDINGS: &str = "zamba2_wasm";

/// The target-specific rustflags of .cargo/config.toml, which an environment variable of this name replaces.
const RUSTFLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

// Shared memory needs every one of these: without the first two links the memory is private or exported, without
// --max-memory it can't grow, and the bindings generator looks for the four exports. The `cfg` is that of
// .cargo/config.toml.
const THREADS_RUSTFLAGS: &str = "-C target-feature=+atomics,+bulk-memory,+mutable-globals,+simd128 \
    --cfg getrandom_backend=\"wasm_js\" \
    -C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=4294967296 \
    -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size \
    -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base";

/// One way to compile the library for browsers. The page picks by what its browser and its host allow.
#[derive(Clone, Copy)]
pub struct Variant {
    /// Its folder in pkg/.
    pub name: &'static str,
    /// Shared memory, for the pool's threads.
    threads: bool,
    /// Vector instructions that leave rare cases to the processor; the kernels keep clear of those cases.
    relaxed_simd: bool,
}

/// Plain before relaxed, so that both find the dependencies compiled.
pub const VARIANTS: [Variant; 4] = [
    Variant {
        name: "single",
        threads: false,
        relaxed_simd: false,
    },
    Variant {
        name: "single-relaxed",
        threads: false,
        relaxed_simd: true,
    },
    Variant {
        name: "threads",
        threads: true,
        relaxed_simd: false,
    },
    Variant {
        name: "threads-relaxed",
        threads: true,
        relaxed_simd: true,
    },
];

impl Variant {
    /// Installs what this variant needs beyond Rust itself.
    pub fn install(self, workspace: &Workspace) -> Result<()> {
        if self.threads {
            installs::rust_sources(workspace)?;
        }
        installs::rust_target(workspace, BROWSER_TARGET)
    }

    /// `cargo <subcommand>` over the library as this variant has it; `last` goes to the compiler.
    pub fn cargo(self, workspace: &Workspace, subcommand: &[&str], last: &[&str]) -> Command {
        let mut command = workspace.cargo();
        command
            .args(subcommand)
            .args(["--lib", "--package", "zamba2", "--target", BROWSER_TARGET]);
        if self.threads {
            command
                .env(RUSTFLAGS, THREADS_RUSTFLAGS)
                // The standard library that rustup brings has no atomics, and building it is not yet offered to the
                // stable compiler. This makes the pinned release accept it, and changes nothing else.
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("-Zbuild-std=std,panic_abort")
                .arg("--target-dir")
                .arg(self.target(workspace));
        }
        // Only this crate has kernels, so only it is compiled with the relaxed instructions, and the dependencies
        // once for both. Cargo tells the two builds of the crate apart by the feature, not by compiler arguments.
        let relaxed: &[&str] = if self.relaxed_simd {
            command.args(["--features", "relaxed-simd"]);
            &["-C", "target-feature=+relaxed-simd"]
        } else {
            &[]
        };
        command.arg("--").args(relaxed).args(last);
        // Cargo gives the file of a cdylib no hash of its own unless this is set (to anything), and the two builds
        // would overwrite each other while each counts as fresh.
        command.env("__CARGO_DEFAULT_LIB_METADATA", "zamba2");
        command
    }

    fn target(self, workspace: &Workspace) -> PathBuf {
        if self.threads {
            // Other flags for every dependency: in one folder the two kinds would push each other out.
            workspace.target.join("threads")
        } else {
            workspace.target.clone()
        }
    }

    fn compile(self, workspace: &Workspace, folder: &Path) -> Result<()> {
        println!("Compiling pkg/{}/", self.name);
        let subcommand = ["rustc", "--profile", "web", "--crate-type", "cdylib"];
        run(&mut self.cargo(workspace, &subcommand, &[]))?;
        let module = self
            .target(workspace)
            .join(BROWSER_TARGET)
            .join("web/zamba2.wasm");
        let bytes =
            fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        self.check(&bytes, &module)?;
        let bindings = self.bindings(workspace, &bytes)?;
        let folder = folder.join(self.name);
        make_folder(&folder)?;
        for name in file_names(&bindings)? {
            copy(&bindings.join(&name), &folder.join(&name))?;
        }
        Ok(())
    }

    // The linker writes the features it was given into the module. A stale or mixed-up file would run, only slower or
    // on one thread, and nobody would see why.
    fn check(self, module: &[u8], path: &Path) -> Result<()> {
        // The section `target_features` is the last one: for each feature a plus, the name's length and the name.
        let end = &module[module.len().saturating_sub(1024)..];
        for (feature, wanted) in [
            ("relaxed-simd", self.relaxed_simd),
            ("atomics", self.threads),
        ] {
            let entry = [&[b'+', feature.len() as u8], feature.as_bytes()].concat();
            let found = end.windows(entry.len()).any(|window| window == entry);
            if found != wanted {
                bail!(
                    "{} has {feature}: {found}, but {} wants it: {wanted}; delete it and build again",
                    path.display(),
                    self.name,
                );
            }
        }
        Ok(())
    }

    // The folder with the bindings of `module`. Making them takes seconds, so they stay for the next build beside the
    // module and the generator that they were made of.
    fn bindings(self, workspace: &Workspace, module: &[u8]) -> Result<PathBuf> {
        let place = workspace.target.join("bindings").join(self.name);
        let (input, output) = (place.join("input.wasm"), place.join("output"));
        let changed = |path: &Path| path.metadata()?.modified();
        let generator = env::current_exe().and_then(|program| changed(&program));
        let fresh = generator.is_ok_and(|made| changed(&input).is_ok_and(|used| made < used))
            && fs::read(&input).is_ok_and(|used| used == module);
        if !fresh {
            remove_folder(&place)?;
            make_folder(&place)?;
            Bindgen::new()
                .input_bytes(BINDINGS, module.to_vec())
                .typescript(true)
                // The engine names the module's address itself, but other users of the bindings may not.
                .omit_default_module_path(false)
                .web(true)
                .and_then(|bindgen| bindgen.generate(&output))
                .with_context(|| format!("cannot make JavaScript bindings for {}", self.name))?;
            // Last, so that it vouches for complete bindings.
            fs::write(&input, module)
                .with_context(|| format!("cannot write {}", input.display()))?;
        }
        Ok(output)
    }
}

/// Compiles the library for browsers, in every variant, and replaces `pkg/`.
pub fn build(workspace: &Workspace) -> Result<()> {
    let fresh = workspace.target.join("pkg-fresh");
    remove_folder(&fresh)?;
    make_folder(&fresh)?;
    for variant in VARIANTS {
        variant.install(workspace)?;
        variant.compile(workspace, &fresh)?;
    }
    copy_engine(workspace, &fresh)?;
    copy_root_texts(workspace, &fresh)?;
    write_manifest(workspace, &fresh)?;

    let place = workspace.root.join("pkg");
    put_in_place(workspace, &fresh, &place)?;
    println!("pkg/ is ready:");
    for variant in VARIANTS {
        let path = place.join(variant.name).join(format!("{BINDINGS}_bg.wasm"));
        let bytes = fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        println!("  {bytes:>9} bytes  {} (WebAssembly)", variant.name);
    }
    Ok(())
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
    let mut files = file_names(folder)?;
    files.extend(VARIANTS.map(|variant| variant.name.to_owned()));
    let manifest = json!({
        "name": "zamba2-web",
        "version": workspace.version,
        "description": workspace.description,
        "license": workspace.license,
        "type": "module",
        // TypeScript finds zamba2.d.ts beside it.
        "exports": "./zamba2.js",
        "types": "./zamba2.d.ts",
        "files": files,
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
