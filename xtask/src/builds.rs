//! The engine as WebAssembly, in two builds, the module of grammars, and their JavaScript bindings. `package.rs`
//! assembles them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::files::{make_folder, remove_folder};
use crate::installs;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use crate::wrapper;

/// The target of the browser builds.
pub const BROWSER_TARGET: &str = "wasm32-unknown-unknown";

/// Base name of the bindings; `www/engine/` imports it from a build's folder.
const BINDINGS: &str = "zamba2_wasm";

/// Set, this environment variable replaces the target's rustflags in .cargo/config.toml.
const RUSTFLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

/// The target's rustflags in .cargo/config.toml, plus the features that shared memory needs. All modules have them, so
/// that dependencies are compiled once.
const ATOMICS_RUSTFLAGS: &str = "-C target-feature=+atomics,+bulk-memory,+mutable-globals,+simd128 \
    --cfg getrandom_backend=\"wasm_js\"";

/// All of these are needed for shared memory: without the first two the memory is not shared or not imported, without
/// --max-memory it cannot grow, and wasm-bindgen needs the four exports.
const SHARED_MEMORY_ARGUMENTS: [&str; 7] = [
    "-Clink-arg=--shared-memory",
    "-Clink-arg=--import-memory",
    "-Clink-arg=--max-memory=4294967296",
    "-Clink-arg=--export=__wasm_init_tls",
    "-Clink-arg=--export=__tls_size",
    "-Clink-arg=--export=__tls_align",
    "-Clink-arg=--export=__tls_base",
];

/// A feature that selects no code: cargo distinguishes builds of this crate by features, not by compiler arguments.
const RELAXED_FEATURE: &str = "relaxed-simd";
const RELAXED_ARGUMENTS: [&str; 2] = ["-C", "target-feature=+relaxed-simd"];

const TOOLS: Step = Step {
    name: "tools",
    purpose: "the local server and the bindings generator",
    usual_s: 85,
};

/// How much the compiler optimises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For `serve` and `test`: seconds after an edit.
    Quick,
    /// For distribution: full optimisation, minutes per build.
    Full,
}

impl Effort {
    /// The cargo profile, which is also the name of its output folder.
    fn profile(self) -> &'static str {
        match self {
            Effort::Quick => "web",
            Effort::Full => "release",
        }
    }
}

/// One way to compile a library for browsers. Of the engine there are two, and the page chooses by the features of the
/// browser.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Its folder in pkg/.
    pub name: &'static str,
    /// The cargo package that is compiled.
    package: &'static str,
    purpose: &'static str,
    usual_s: u32,
    /// The name of the step that generates its bindings.
    bindings: &'static str,
    /// Shared memory, for the thread pool. Where a page may not share memory, the same module gets memory of its own
    /// (www/engine/unshared.js).
    shared_memory: bool,
    /// Relaxed SIMD, whose results in some edge cases depend on the CPU; the kernels avoid those cases.
    relaxed_simd: bool,
}

/// The builds of the engine. Most visitors get the first one.
pub const BUILDS: [Build; 2] = [
    Build {
        name: "relaxed-simd",
        package: "zamba2",
        purpose: "the engine with relaxed SIMD",
        usual_s: 200,
        bindings: "bindings-r",
        shared_memory: true,
        relaxed_simd: true,
    },
    Build {
        name: "simd128",
        package: "zamba2",
        purpose: "the engine for browsers without relaxed SIMD",
        usual_s: 60,
        bindings: "bindings-s",
        shared_memory: true,
        relaxed_simd: false,
    },
];

/// The grammar module, for structured output: the engine's worker loads it on first use.
pub const GRAMMAR: Build = Build {
    name: "grammar",
    package: "zamba2-grammar",
    purpose: "the module of grammars",
    usual_s: 30,
    bindings: "bindings-g",
    shared_memory: false,
    relaxed_simd: false,
};

/// What a complete package contains.
pub const PACKAGED: [Build; 3] = [BUILDS[0], BUILDS[1], GRAMMAR];

/// Makes `cargo test` compile this workspace's crates with relaxed SIMD, and the dependencies without.
pub fn add_relaxed_simd(cargo: &mut Command) -> Result<()> {
    cargo.args(["--features", RELAXED_FEATURE]);
    wrapper::add_arguments(cargo, &RELAXED_ARGUMENTS.join(" "))
}

impl Build {
    /// The step that compiles this build.
    pub fn step(self) -> Step {
        Step {
            name: self.name,
            purpose: self.purpose,
            usual_s: self.usual_s,
        }
    }

    /// Whether compiling it at `Effort::Quick` prints lints. Not with relaxed SIMD: the first page and the page after
    /// an edit wait for that build, a fifth of its last crate's time would be lints, and the tests of the kernels
    /// compile the same code with them.
    fn lints(self) -> bool {
        !self.relaxed_simd
    }

    /// The command that compiles it.
    pub fn rustc(self, workspace: &Workspace, effort: Effort) -> Command {
        let mut command = match effort {
            Effort::Quick if self.lints() => workspace.linting_cargo(),
            _ => workspace.cargo(),
        };
        command
            .args(["rustc", "--lib", "--crate-type", "cdylib"])
            .args(["--package", self.package, "--target", BROWSER_TARGET])
            .args(["--profile", effort.profile()])
            .arg("--target-dir")
            .arg(folder(workspace))
            .env(RUSTFLAGS, ATOMICS_RUSTFLAGS)
            // The precompiled standard library has no atomics, and stable cargo cannot build it yet. This makes the
            // pinned release accept the option, and changes nothing else.
            .env("RUSTC_BOOTSTRAP", "1")
            .arg("-Zbuild-std=std,panic_abort")
            // Shorter algorithms for sorting and numbers, and no backtraces, which wasm lacks anyway: 3 % less to
            // download, and 8 crates fewer to compile.
            .arg("-Zbuild-std-features=optimize_for_size")
            // Cargo gives the output of a cdylib no hash unless this is set (to anything), and the two builds would
            // overwrite each other while both are considered fresh.
            .env("__CARGO_DEFAULT_LIB_METADATA", "zamba2");
        if self.relaxed_simd {
            command.args(["--features", RELAXED_FEATURE]);
        }
        // Only the engine's own crate has kernels, so only it is compiled with relaxed instructions.
        command.arg("--");
        if self.relaxed_simd {
            command.args(RELAXED_ARGUMENTS);
        }
        if self.shared_memory {
            command.args(SHARED_MEMORY_ARGUMENTS);
        }
        command
    }

    pub fn compile(self, workspace: &Workspace, steps: &Steps, effort: Effort) -> Result<()> {
        steps.run(&self.step(), &mut self.rustc(workspace, effort))
    }

    /// Generates the bindings of the compiled build and returns their folder. The tools must have been built.
    pub fn bind(self, workspace: &Workspace, steps: &Steps, effort: Effort) -> Result<PathBuf> {
        let module = folder(workspace)
            .join(BROWSER_TARGET)
            .join(effort.profile())
            .join(format!("{}.wasm", self.package.replace('-', "_")));
        let bytes =
            fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        self.check(&bytes, &module)?;
        self.bindings(workspace, steps, &bytes)
    }

    // The linker records the enabled features in the module. A stale or mixed-up file would run, only slower or on one
    // thread, without anyone noticing.
    fn check(self, module: &[u8], path: &Path) -> Result<()> {
        // The section `target_features` is the last one: for each feature a plus, the length of its name, and its name.
        let end = &module[module.len().saturating_sub(1024)..];
        for (feature, wanted) in [("relaxed-simd", self.relaxed_simd), ("atomics", true)] {
            let entry = [&[b'+', feature.len() as u8], feature.as_bytes()].concat();
            let found = end.windows(entry.len()).any(|window| window == entry);
            if found != wanted {
                bail!(
                    "{} has {feature}: {found}, but {} requires it: {wanted}; delete it and build again",
                    path.display(),
                    self.name,
                );
            }
        }
        Ok(())
    }

    // Generating bindings takes seconds, so they are cached beside the module they were made from.
    fn bindings(self, workspace: &Workspace, steps: &Steps, module: &[u8]) -> Result<PathBuf> {
        let place = workspace.target.join("bindings").join(self.name);
        let (input, output) = (place.join("input.wasm"), place.join("output"));
        let generator = tools_program(workspace);
        let changed = |path: &Path| path.metadata()?.modified();
        let is_fresh = changed(&generator)
            .is_ok_and(|made| changed(&input).is_ok_and(|used| made < used))
            && fs::read(&input).is_ok_and(|used| used == module);
        if is_fresh {
            return Ok(output);
        }
        remove_folder(&place)?;
        make_folder(&output)?;
        let fresh = place.join("fresh.wasm");
        fs::write(&fresh, module).with_context(|| format!("cannot write {}", fresh.display()))?;
        let mut command = workspace.program(generator);
        command
            .arg("bindings")
            .arg(&fresh)
            .arg(BINDINGS)
            .arg(&output);
        steps.run(&self.bindings_step(), &mut command)?;
        // Written last, so that it marks the bindings as complete.
        fs::rename(&fresh, &input).with_context(|| format!("cannot write {}", input.display()))?;
        Ok(output)
    }

    /// The step that generates this build's bindings.
    pub fn bindings_step(self) -> Step {
        Step {
            name: self.bindings,
            purpose: "its JavaScript bindings",
            usual_s: 6,
        }
    }
}

/// The folder of all compiled modules: its lock is not that of the programs for this machine, which are compiled
/// meanwhile.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("wasm")
}

/// Installs what compiling the modules needs in addition to Rust.
pub fn install(workspace: &Workspace, steps: &Steps) -> Result<()> {
    installs::rust_sources(workspace, steps)?;
    installs::rust_target(workspace, steps, BROWSER_TARGET)
}

/// The command that compiles the program `xtask-web`, and prints lints.
pub fn tools(workspace: &Workspace) -> Command {
    let mut command = workspace.linting_cargo();
    command.args(["build", "--package", "xtask-web", "--profile", "xtask"]);
    command
}

/// Compiles the program `xtask-web`.
pub fn make_tools(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.run(&TOOLS, &mut tools(workspace))
}

/// The path of the program `xtask-web`.
pub fn tools_program(workspace: &Workspace) -> PathBuf {
    let name = format!("xtask-web{}", std::env::consts::EXE_SUFFIX);
    workspace.target.join("xtask").join(name)
}

/// Estimated seconds until the first of `builds` can be used.
pub fn first_build_s(steps: &Steps, first: Build) -> f32 {
    let engine_s = steps.estimate_s(&first.step());
    engine_s.max(steps.estimate_s(&TOOLS)) + steps.estimate_s(&first.bindings_step())
}

/// Whether `build` has been compiled before at either effort, so that compiling it again takes seconds.
pub fn is_made(workspace: &Workspace, build: Build) -> bool {
    let place = workspace.target.join("bindings").join(build.name);
    place.join("input.wasm").is_file()
}
