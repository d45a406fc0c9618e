//! The engine as WebAssembly, in four builds, and their JavaScript bindings. `package.rs` puts them together.

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

/// The name of the bindings; `www/engine/` imports it from a build's folder.
const BINDINGS: &str = "zamba2_wasm";

/// An environment variable of this name replaces the target's rustflags in .cargo/config.toml.
const RUSTFLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

/// What the target's rustflags in .cargo/config.toml say, with the instructions of shared memory.
const ATOMICS_RUSTFLAGS: &str = "-C target-feature=+atomics,+bulk-memory,+mutable-globals,+simd128 \
    --cfg getrandom_backend=\"wasm_js\"";

/// Shared memory needs every one of these: without the first two links the memory is private or exported, without
/// --max-memory it can't grow, and the bindings generator looks for the four exports.
const SHARED_MEMORY_RUSTFLAGS: &str = "-C link-arg=--shared-memory -C link-arg=--import-memory \
    -C link-arg=--max-memory=4294967296 \
    -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size \
    -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base";

/// The feature that chooses no code: cargo tells builds of this crate apart by features, not by compiler arguments.
const RELAXED_FEATURE: &str = "relaxed-simd";
const RELAXED_ARGUMENTS: [&str; 2] = ["-C", "target-feature=+relaxed-simd"];

const TOOLS: Step = Step {
    name: "tools",
    purpose: "the local server and the generator of bindings",
    usual_s: 45,
};

/// How much time the compiler gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For `serve` and `test`: seconds after an edit.
    Quick,
    /// For what is given to others: every optimisation, minutes each.
    Full,
}

impl Effort {
    /// The cargo profile, and so the name of its folder.
    fn profile(self) -> &'static str {
        match self {
            Effort::Quick => "web",
            Effort::Full => "release",
        }
    }
}

/// One way to compile the library for browsers. The page chooses by what its browser and its host allow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Its folder in pkg/.
    pub name: &'static str,
    purpose: &'static str,
    usual_s: u32,
    /// Shared memory, for the pool's threads.
    pub threads: bool,
    /// Vector instructions that leave rare cases to the CPU; the kernels keep clear of those cases.
    pub relaxed_simd: bool,
}

/// All builds. The first is what most visitors run. Those that share their dependencies follow one another.
pub const BUILDS: [Build; 4] = [
    Build {
        name: "threads-relaxed",
        purpose: "the engine with threads and relaxed SIMD",
        usual_s: 110,
        threads: true,
        relaxed_simd: true,
    },
    Build {
        name: "threads",
        purpose: "the engine with threads",
        usual_s: 35,
        threads: true,
        relaxed_simd: false,
    },
    Build {
        name: "single-relaxed",
        purpose: "the engine with relaxed SIMD, on one thread",
        usual_s: 80,
        threads: false,
        relaxed_simd: true,
    },
    Build {
        name: "single",
        purpose: "the engine on one thread",
        usual_s: 35,
        threads: false,
        relaxed_simd: false,
    },
];

/// Makes `cargo test` compile this workspace's crates with relaxed SIMD, and the dependencies without.
pub fn add_relaxed_simd(cargo: &mut Command) -> Result<()> {
    cargo.args(["--features", RELAXED_FEATURE]);
    wrapper::add_arguments(cargo, &RELAXED_ARGUMENTS.join(" "))
}

/// Builds that share dependencies and so must wait for one another.
pub fn lanes(builds: &[Build]) -> [Vec<Build>; 2] {
    let (threads, single) = builds.iter().partition(|build| build.threads);
    [threads, single]
}

impl Build {
    /// What compiling it is called among the steps.
    pub fn step(self) -> Step {
        Step {
            name: self.name,
            purpose: self.purpose,
            usual_s: self.usual_s,
        }
    }

    /// Installs what this build needs beyond Rust itself.
    pub fn install(self, workspace: &Workspace, steps: &Steps) -> Result<()> {
        if self.threads {
            installs::rust_sources(workspace, steps)?;
        }
        installs::rust_target(workspace, steps, BROWSER_TARGET)
    }

    /// The lints over the library as this build has it. Nothing is linked, so Rust's own standard library will do.
    pub fn clippy(self, workspace: &Workspace, last: &[&str]) -> Command {
        let mut command = workspace.cargo();
        command.arg("clippy");
        if self.threads {
            command.env(RUSTFLAGS, ATOMICS_RUSTFLAGS);
        }
        self.finish_command(&mut command, last);
        command
    }

    fn rustc(self, workspace: &Workspace, effort: Effort) -> Command {
        let mut command = workspace.cargo();
        let profile = ["--profile", effort.profile()];
        command
            .args(["rustc", "--crate-type", "cdylib"])
            .args(profile);
        if self.threads {
            let flags = format!("{ATOMICS_RUSTFLAGS} {SHARED_MEMORY_RUSTFLAGS}");
            command
                .env(RUSTFLAGS, flags)
                // The standard library that rustup brings has no atomics, and building it is not yet offered to the
                // stable compiler. This makes the pinned release accept it, and changes nothing else.
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("-Zbuild-std=std,panic_abort")
                .arg("--target-dir")
                .arg(self.target(workspace));
        }
        self.finish_command(&mut command, &[]);
        command
    }

    fn finish_command(self, command: &mut Command, last: &[&str]) {
        command.args(["--lib", "--package", "zamba2", "--target", BROWSER_TARGET]);
        // Only this crate has kernels, so only it is compiled with the relaxed instructions, and the dependencies
        // once for both.
        let relaxed: &[&str] = if self.relaxed_simd {
            command.args(["--features", RELAXED_FEATURE]);
            &RELAXED_ARGUMENTS
        } else {
            &[]
        };
        command.arg("--").args(relaxed).args(last);
        // Cargo gives the file of a cdylib no hash of its own unless this is set (to anything), and the two builds
        // would overwrite each other while each counts as fresh.
        command.env("__CARGO_DEFAULT_LIB_METADATA", "zamba2");
    }

    fn target(self, workspace: &Workspace) -> PathBuf {
        if self.threads {
            // Other flags for every dependency, and a lock of its own, so that both kinds are compiled side by side.
            workspace.target.join("threads")
        } else {
            workspace.target.clone()
        }
    }

    pub fn compile(self, workspace: &Workspace, steps: &Steps, effort: Effort) -> Result<()> {
        steps.run(&self.step(), &mut self.rustc(workspace, effort))
    }

    /// Makes the bindings of the compiled build and gives the folder they lie in. The tools must be there.
    pub fn bind(self, workspace: &Workspace, steps: &Steps, effort: Effort) -> Result<PathBuf> {
        let module = self
            .target(workspace)
            .join(BROWSER_TARGET)
            .join(effort.profile())
            .join("zamba2.wasm");
        let bytes =
            fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        self.check(&bytes, &module)?;
        self.bindings(workspace, steps, &bytes)
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

    // Making bindings takes seconds, so they stay for the next build beside the module that they were made of.
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
        // Last, so that it vouches for complete bindings.
        fs::rename(&fresh, &input).with_context(|| format!("cannot write {}", input.display()))?;
        Ok(output)
    }

    /// What making its bindings is called among the steps.
    pub fn bindings_step(self) -> Step {
        let name = match (self.threads, self.relaxed_simd) {
            (true, true) => "bindings-tr",
            (true, false) => "bindings-t",
            (false, true) => "bindings-sr",
            (false, false) => "bindings-s",
        };
        Step {
            name,
            purpose: "its JavaScript bindings",
            usual_s: 6,
        }
    }
}

/// Compiles the program `xtask-web`.
pub fn make_tools(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "--package", "xtask-web", "--profile", "xtask"]);
    steps.run(&TOOLS, &mut command)
}

/// Where the program `xtask-web` lies.
pub fn tools_program(workspace: &Workspace) -> PathBuf {
    let name = format!("xtask-web{}", std::env::consts::EXE_SUFFIX);
    workspace.target.join("xtask").join(name)
}

/// Seconds until the first of `builds` can be used, as far as can be known before.
pub fn first_build_s(steps: &Steps, first: Build) -> f32 {
    let engine_s = steps.estimate_s(&first.step());
    engine_s.max(steps.estimate_s(&TOOLS)) + steps.estimate_s(&first.bindings_step())
}

/// Whether `build` has been compiled before, by either effort, so that compiling it again takes seconds.
pub fn is_made(workspace: &Workspace, build: Build) -> bool {
    let place = workspace.target.join("bindings").join(build.name);
    place.join("input.wasm").is_file()
}
