//! The stages that compile and run Rust: formatting, lints, native tests, kernels as WebAssembly, documentation.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Result;

use super::inputs::matters_to_rust;
use super::{Extent, Run, step};
use crate::builds::{self, BUILDS, Effort, GRAMMAR};
use crate::installs;
use crate::steps::{self, Step};
use crate::totals::Counts;
use crate::workspace::first_line;

const KERNEL_TARGET: &str = "wasm32-wasip1";

/// Dependencies in which the tests that run as wasm spend next to nothing, unlike their compiler.
const SLOW_TO_OPTIMISE: [&str; 7] = [
    "aho-corasick",
    "fancy-regex",
    "minijinja",
    "regex-automata",
    "regex-syntax",
    "serde_json",
    "tokenizers",
];

/// Parts of the names of the native tests that take most of the stage's time; `--quick` skips them.
const SLOW: [&str; 6] = [
    "webgpu",
    "graphics_adapter",
    "lookahead::",
    "quantization::",
    "cli::logits::bench",
    "cli::profile::",
];

impl Run<'_> {
    pub(super) fn format(&self) -> Result<Counts> {
        installs::rust_component(self.workspace, self.steps, "fmt", "rustfmt")?;
        self.cargo(
            step("rustfmt", "formatting", 2),
            &["fmt", "--all", "--check"],
        )?;
        Ok(Counts::one())
    }

    /// The lints of what the other stages compile: with nothing left to do, cargo repeats the compiler's warnings.
    pub(super) fn lint(&self) -> Result<Counts> {
        installs::rust_component(self.workspace, self.steps, "clippy", "clippy")?;
        let mut own = self.own_tests();
        let mut native = self.native_tests();
        let mut counts = Counts::default();
        for (step, command) in [
            (
                step("lint-commands", "lints of the developer commands", 20),
                own.arg("--no-run"),
            ),
            (
                step("lint-server", "lints of their server", 20),
                &mut builds::tools(self.workspace),
            ),
            (
                step("lint-native", "lints for this machine", 200),
                native.arg("--no-run"),
            ),
        ] {
            counts.add(self.warnings(&step, command)?);
        }
        if self.extent == Extent::Quick {
            return Ok(counts);
        }
        builds::install(self.workspace, self.steps)?;
        for (build, step) in [
            (BUILDS[1], step("lint-simd128", "lints for the browser", 80)),
            (
                GRAMMAR,
                step("lint-grammar", "lints of the module of grammars", 20),
            ),
        ] {
            let mut command = build.rustc(self.workspace, Effort::Quick);
            counts.add(self.warnings(&step, &mut command)?);
        }
        let step = step("lint-relaxed", "lints of kernels with relaxed SIMD", 110);
        let mut kernels = self.kernel_tests_command(true)?;
        counts.add(self.warnings(&step, kernels.arg("--no-run"))?);
        Ok(counts)
    }

    /// Compiles, and fails where the compiler warns.
    pub(super) fn warnings(&self, step: &Step, command: &mut Command) -> Result<Counts> {
        let finished = self.steps.finish(step, command)?;
        if finished.succeeded && !has_warnings(&finished.output) {
            return Ok(Counts::one());
        }
        self.steps.print_line(&steps::tail(&finished.output));
        Ok(Counts {
            failed: 1,
            ..Counts::default()
        })
    }

    /// The tests of the commands, with the profile they run in, which avoids compiling them again.
    pub(super) fn own_tests(&self) -> Command {
        let mut command = self.workspace.linting_cargo();
        command.args(["test", "--package", "xtask", "--package", "xtask-web"]);
        command.args(["--profile", "xtask"]);
        command
    }

    pub(super) fn native_tests(&self) -> Command {
        let mut command = self.workspace.linting_cargo();
        command.args(["test", "--package", "zamba2", "--package", "zamba2-grammar"]);
        if self.extent == Extent::Quick {
            command.args(["--lib", "--test", "integration"]);
        }
        command
    }

    pub(super) fn native(&self) -> Result<Counts> {
        installs::graphics_adapter(self.workspace, self.steps);
        let mut counts = self.tests(
            step("xtask tests", "tests of the developer commands", 20),
            &mut self.own_tests(),
        )?;
        let key = self.key(matters_to_rust, &[]);
        let slow = self.earlier("native-slow", key.as_deref());
        let mut all = self.native_tests();
        if self.extent == Extent::Quick || slow.is_some() {
            all.arg("--");
            all.args(SLOW.iter().flat_map(|name| ["--skip", name]));
        }
        let native = step("native tests", "Rust tests on this machine", 1050);
        let (ran, output) = self.tests_with_output(native, &mut all)?;
        if let Some(slow) = slow {
            counts.add(slow);
        } else if let (Some(key), true) = (key, ran.all_passed()) {
            self.keep("native-slow", &key, slow_passed(&output));
        }
        counts.add(ran);
        Ok(counts)
    }

    pub(super) fn kernels(&self) -> Result<Counts> {
        installs::rust_target(self.workspace, self.steps, KERNEL_TARGET)?;
        let path = installs::node(self.workspace, self.steps)?;
        let node = first_line(
            self.workspace
                .program("node")
                .arg("--version")
                .env("PATH", &path),
        );
        let key = self.key(matters_to_rust, &Vec::from_iter(node));
        self.unless_kept("kernels", key, || self.kernel_tests(&path))
    }

    pub(super) fn kernel_tests(&self, path: &OsStr) -> Result<Counts> {
        let mut counts = Counts::default();
        let plain = step("kernels", "kernel tests as WebAssembly", 350);
        let relaxed = step("kernels-relaxed", "the same with relaxed SIMD", 135);
        for (step, is_relaxed) in [(plain, false), (relaxed, true)] {
            let mut command = self.kernel_tests_command(is_relaxed)?;
            // A failed assertion ends a wasm program at once, and captured output would be lost.
            command.args(["--", "--nocapture"]);
            // The runner in .cargo/config.toml is `node`.
            command.env("PATH", path);
            counts.add(self.tests(step, &mut command)?);
        }
        Ok(counts)
    }

    fn kernel_tests_command(&self, is_relaxed: bool) -> Result<Command> {
        let mut command = self.workspace.cargo();
        command.args(["test", "--package", "zamba2", "--target", KERNEL_TARGET]);
        // A lock of its own: it compiles while the native tests do.
        command
            .arg("--target-dir")
            .arg(self.workspace.target.join("kernels"));
        command.arg("--lib");
        // They run for seconds: what they take longer, their compiler takes less.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        for package in SLOW_TO_OPTIMISE {
            let setting = format!("profile.dev.package.{package}.opt-level=0");
            command.args(["--config", &setting]);
        }
        if is_relaxed {
            builds::add_relaxed_simd(&mut command)?;
        }
        Ok(command)
    }

    pub(super) fn docs(&self) -> Result<Counts> {
        let mut command = self.workspace.cargo();
        // With the modules that only tests and `zamba2 verify` use.
        command.args([
            "doc",
            "--workspace",
            "--no-deps",
            "--features",
            "zamba2/candle",
        ]);
        command.env("RUSTDOCFLAGS", "--deny warnings");
        self.steps
            .run(&step("rustdoc", "documentation", 65), &mut command)?;
        Ok(Counts::one())
    }
}

/// Whether the compiler's output has warnings, apart from the one about the atomics that shared memory needs, which
/// cannot be turned off, and its own count of them.
fn has_warnings(output: &str) -> bool {
    let expected = [
        "unstable feature specified for `-Ctarget-feature`: `atomics`",
        "` (lib) generated ",
    ];
    let mut lines = output.lines().filter(|line| line.contains("warning"));
    lines.any(|line| !expected.iter().any(|part| line.contains(part)))
}

/// How many of the slow tests the output of the native tests says to have passed.
fn slow_passed(output: &str) -> usize {
    let passed = output
        .lines()
        .filter(|line| line.starts_with("test ") && line.ends_with(" ok"));
    passed
        .filter(|line| SLOW.iter().any(|name| line.contains(name)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::{has_warnings, slow_passed};

    #[test]
    fn every_warning_but_the_one_about_atomics_counts() {
        let atomics = "warning: unstable feature specified for `-Ctarget-feature`: `atomics`\n  |\n\
            warning: `zamba2` (lib) generated 1 warning\n    Finished `web` profile\n";
        assert!(!has_warnings(atomics));
        assert!(has_warnings(&format!(
            "warning: unused variable: `a`\n{atomics}"
        )));
        assert!(has_warnings(
            "warning: function `is generated here` is never used\n"
        ));
    }

    #[test]
    fn slow_tests_are_counted_in_the_output_of_the_runner() {
        let output = "test lookahead::a ... ok\ntest base::b ... ok\ntest webgpu::c ... FAILED\n\
            test webgpu::d - should panic ... ok\nwebgpu ok\n";
        assert_eq!(slow_passed(output), 2);
    }
}
