//! Every check of the repository, in stages: `cargo xtask test`.
//!
//! A failed stage does not stop the ones after it; the run's last line counts both kinds. The stages
//! run other programs and judge their exit status. What they check is written elsewhere.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::installs;
use crate::serve::{Isolation, Server, listen, page_folders, site};
use crate::wasm::{self, VARIANTS};
use crate::workspace::{self, Workspace};

const KERNEL_TARGET: &str = "wasm32-wasip1";

// The tests that also run as wasm: arithmetic whose SIMD code differs there. Files under tests/.
const KERNEL_TESTS: [&str; 1] = ["kernels"];

// The kernels' two vector instruction sets in browsers. The first is what .cargo/config.toml says.
const KERNEL_RUSTFLAGS: [&str; 2] = [
    "-C target-feature=+simd128",
    "-C target-feature=+simd128,+relaxed-simd",
];

/// A part of the whole check that can be run alone.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Rust formatting
    Format,
    /// Rust lints, for this machine and for the browser
    Lint,
    /// Rust tests on this machine
    Native,
    /// The kernels' tests and the crate's own as WebAssembly, plain and relaxed, in Node.js
    Kernels,
    /// Types of the JavaScript modules
    Types,
    /// The page and the package in a real browser
    Browser,
    /// Rust documentation
    Docs,
}

impl Stage {
    fn check(self, workspace: &Workspace) -> Result<()> {
        match self {
            Stage::Format => format(workspace),
            Stage::Lint => lint(workspace),
            Stage::Native => native(workspace),
            Stage::Kernels => kernels(workspace),
            Stage::Types => types(workspace),
            Stage::Browser => browser(workspace),
            Stage::Docs => docs(workspace),
        }
    }

    fn name_and_purpose(self) -> (String, String) {
        let value = self.to_possible_value();
        let name = value.as_ref().map(|value| value.get_name().to_owned());
        let purpose = value.as_ref().and_then(|value| value.get_help());
        (
            name.unwrap_or_default(),
            purpose.map(ToString::to_string).unwrap_or_default(),
        )
    }
}

/// Prints every stage with what it checks.
pub fn list() {
    for stage in Stage::value_variants() {
        let (name, purpose) = stage.name_and_purpose();
        println!("{name:<8} {purpose}");
    }
}

/// Runs the stages of `only`, or all of them, and tells whether every one passed.
pub fn run(workspace: &Workspace, only: &[Stage]) -> bool {
    let stages = Stage::value_variants()
        .iter()
        .filter(|stage| only.is_empty() || only.contains(stage));
    let (mut passed, mut failures) = (0, Vec::new());
    for stage in stages {
        let (name, purpose) = stage.name_and_purpose();
        println!("\n== {name}: {purpose}");
        let start = Instant::now();
        let result = stage.check(workspace);
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                println!("== {name} passed in {seconds:.1} s");
                passed += 1;
            }
            Err(error) => {
                println!("== {name} FAILED in {seconds:.1} s: {error:#}");
                failures.push(format!("{name}: {error:#}"));
            }
        }
    }
    println!();
    for failure in &failures {
        println!("failed: {failure}");
    }
    if !failures.is_empty() {
        println!("Run one stage alone with `cargo xtask test --only STAGE`.");
    }
    println!("{passed} passed, {} failed", failures.len());
    failures.is_empty()
}

fn format(workspace: &Workspace) -> Result<()> {
    installs::rust_component(workspace, "fmt", "rustfmt")?;
    cargo(workspace, &["fmt", "--all", "--check"])
}

fn lint(workspace: &Workspace) -> Result<()> {
    installs::rust_component(workspace, "clippy", "clippy")?;
    let strict = ["--deny", "warnings"];
    let native = ["clippy", "--workspace", "--all-targets", "--"];
    cargo(workspace, &[&native[..], &strict].concat())?;
    for variant in VARIANTS {
        variant.install(workspace)?;
        workspace::run(&mut variant.cargo(workspace, &["clippy"], &strict))?;
    }
    Ok(())
}

fn native(workspace: &Workspace) -> Result<()> {
    installs::graphics_adapter(workspace);
    // xtask is tested under the profile it already runs in, which spares compiling it once more.
    cargo(
        workspace,
        &["test", "--package", "xtask", "--profile", "xtask"],
    )?;
    cargo(workspace, &["test", "--workspace", "--exclude", "xtask"])
}

fn kernels(workspace: &Workspace) -> Result<()> {
    installs::rust_target(workspace, KERNEL_TARGET)?;
    let path = installs::node(workspace)?;
    let mut arguments = vec!["test", "--package", "zamba2", "--target", KERNEL_TARGET];
    arguments.push("--lib");
    for test in KERNEL_TESTS {
        arguments.extend(["--test", test]);
    }
    // A failed assertion ends a wasm program at once, and a captured message would be lost with it.
    arguments.extend(["--", "--nocapture"]);
    for flags in KERNEL_RUSTFLAGS {
        println!("With {flags}:");
        // The runner in .cargo/config.toml is `node`.
        workspace::run(
            workspace
                .cargo()
                .args(&arguments)
                .env("PATH", &path)
                .env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags),
        )?;
    }
    Ok(())
}

fn types(workspace: &Workspace) -> Result<()> {
    let path = node_packages(workspace)?;
    require(workspace, "jsconfig.json")?;
    // The tests import the package's types from pkg/, which must be those of this source.
    wasm::build(workspace)?;
    // `--no` keeps npx from fetching a compiler that the lock file does not name.
    let arguments = ["--no", "--", "tsc", "--noEmit", "-p", "jsconfig.json"];
    workspace::run(workspace.program("npx").args(arguments).env("PATH", path))
}

fn browser(workspace: &Workspace) -> Result<()> {
    let path = node_packages(workspace)?;
    let tests = browser_tests(workspace)?;
    let browser = installs::browser(workspace)?;
    wasm::build(workspace)?;

    let mut folders = page_folders(workspace);
    folders.push((
        "/tests/fixtures".to_owned(),
        workspace.root.join("tests/fixtures"),
    ));
    let server = |isolation| {
        let site = site(&workspace.root, &folders, isolation);
        Server::start(listen("127.0.0.1", 0)?, site)
    };
    let isolated = server(Isolation::ByHeaders)?;
    let plain = server(Isolation::LeftToThePage)?;
    let run = |tests: Vec<PathBuf>, browsers: usize| {
        let mut node = workspace.program("node");
        node.args(["--test", &format!("--test-concurrency={browsers}")]);
        node.args(tests).env("PATH", &path);
        node.env("ZAMBA2_URL", isolated.url().trim_end_matches('/'));
        node.env("ZAMBA2_PLAIN_URL", plain.url().trim_end_matches('/'));
        workspace::run(node.env(installs::BROWSER_VARIABLE, &browser))
    };
    // A software adapter compiles shaders on one core, and these tests wait for nothing else.
    let is_webgpu = |test: &PathBuf| test.to_string_lossy().contains("webgpu");
    let (webgpu, others) = tests.into_iter().partition(is_webgpu);
    // One browser at a time: several would starve one another of the machine's cores.
    let (others, webgpu) = (run(others, 1), run(webgpu, 2));
    others.and(webgpu)
}

// The files are named one by one because Node's reading of a folder after `--test` differs between
// its releases.
fn browser_tests(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = Path::new("tests/browser");
    require(workspace, "tests/browser")?;
    let mut tests = Vec::new();
    for entry in fs::read_dir(workspace.root.join(folder)).context("cannot read tests/browser")? {
        let name = entry.context("cannot read tests/browser")?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".test.js") || text.ends_with(".test.mjs") {
            tests.push(folder.join(name));
        }
    }
    if tests.is_empty() {
        bail!("tests/browser has no file named *.test.js or *.test.mjs");
    }
    tests.sort();
    Ok(tests)
}

fn docs(workspace: &Workspace) -> Result<()> {
    workspace::run(
        workspace
            .cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

// Installs exactly what package-lock.json names and gives the PATH for it. npm writes its record last,
// so a record that is newer than the lock file means a complete folder.
fn node_packages(workspace: &Workspace) -> Result<OsString> {
    let path = installs::node(workspace)?;
    require(workspace, "package-lock.json")?;
    let changed = |path: &str| workspace.root.join(path).metadata()?.modified();
    let lock = changed("package-lock.json").context("cannot read package-lock.json")?;
    if changed("node_modules/.package-lock.json").is_ok_and(|record| record >= lock) {
        return Ok(path);
    }
    println!("Installing what package-lock.json names: npm ci");
    workspace::run(workspace.program("npm").arg("ci").env("PATH", &path))?;
    Ok(path)
}

fn require(workspace: &Workspace, path: &str) -> Result<()> {
    if workspace.root.join(path).exists() {
        return Ok(());
    }
    bail!("{path} is missing from the repository; restore it and run again")
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    workspace::run(workspace.cargo().args(arguments))
}
