//! `cargo xtask test`: all checks of the repository, in stages.
//!
//! A failed stage does not stop the others. The stages run other programs and evaluate their exit status and counts.
//! Two lanes run in parallel, because compiling sometimes leaves a core idle; the stages of browsers run alone, because
//! a page that waits for a core looks as if it hangs.

use std::env;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::builds::{self, BUILDS, Build, Effort, GRAMMAR, PACKAGED};
use crate::installs;
use crate::package;
use crate::publish::{self, Site};
use crate::serve::{Isolation, Server, Watch, page_folders};
use crate::steps::{Step, Steps, in_words};
use crate::workspace::Workspace;

const KERNEL_TARGET: &str = "wasm32-wasip1";

/// Parts of the names of the native tests that take most of the stage's time; `--quick` skips them.
const SLOW: [&str; 6] = [
    "webgpu",
    "graphics_adapter",
    "lookahead::",
    "quantization::",
    "cli::logits::bench",
    "cli::profile::",
];

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// The main path, for every commit.
    Quick,
}

/// A part of the checks that can be run alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Format,
    Lint,
    Native,
    Docs,
    Kernels,
    Types,
    Package,
    Browser,
    Engines,
}

/// In the order of `--list`.
pub const STAGES: [Stage; 9] = [
    Stage::Format,
    Stage::Lint,
    Stage::Native,
    Stage::Docs,
    Stage::Kernels,
    Stage::Types,
    Stage::Package,
    Stage::Browser,
    Stage::Engines,
];

/// Stages that run in parallel, each lane in order. The lanes lock different build folders.
const LANES: [&[Stage]; 2] = [
    // The lints are those of the programs that the native tests compile, and of the package's builds.
    &[Stage::Format, Stage::Native, Stage::Lint, Stage::Docs],
    // The package's site is packed by a program that the native tests compile.
    &[Stage::Types, Stage::Kernels, Stage::Package],
];

/// Stages that run after the lanes, one by one.
const ALONE: [Stage; 2] = [Stage::Browser, Stage::Engines];

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Format => "format",
            Stage::Lint => "lint",
            Stage::Native => "native",
            Stage::Docs => "docs",
            Stage::Kernels => "kernels",
            Stage::Types => "types",
            Stage::Package => "package",
            Stage::Browser => "browser",
            Stage::Engines => "engines",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Stage::Format => "Rust formatting",
            Stage::Lint => "Rust lints, for this machine and for the browser",
            Stage::Native => "Rust tests on this machine",
            Stage::Docs => "Rust documentation",
            Stage::Kernels => {
                "kernel tests and unit tests as WebAssembly in Node.js, with plain and relaxed SIMD"
            }
            Stage::Types => "JavaScript types and formatting",
            Stage::Package => {
                "the npm package in projects that use it, the site, and the crate's files"
            }
            Stage::Browser => "the page and the package in Chromium",
            Stage::Engines => "the page's main path in Firefox and WebKit",
        }
    }

    fn check(self, run: &Run) -> Result<Counts> {
        match self {
            Stage::Format => run.format(),
            Stage::Lint => run.lint(),
            Stage::Native => run.native(),
            Stage::Docs => run.docs(),
            Stage::Kernels => run.kernels(),
            Stage::Types => run.types(),
            Stage::Package => run.package(),
            Stage::Browser => run.browser(),
            Stage::Engines => run.engines(),
        }
    }
}

/// Prints every stage with its description.
pub fn list() {
    for stage in STAGES {
        println!("{:<8} {}", stage.name(), stage.purpose());
    }
}

/// Runs the stages in `only`, or all of them, and returns whether all tests passed.
pub fn run(workspace: &Workspace, only: &[Stage], extent: Extent) -> Result<bool> {
    let wanted = |stage: &Stage| match extent {
        _ if !only.is_empty() => only.contains(stage),
        Extent::Whole => true,
        // Two would recompile the crate for what the native tests already cover; the package needs all builds, and the
        // engines need three of them.
        Extent::Quick => !matches!(
            stage,
            Stage::Kernels | Stage::Docs | Stage::Package | Stage::Engines
        ),
    };
    let steps = Steps::new(&workspace.target)?;
    let run = Run {
        workspace,
        steps: &steps,
        extent,
    };
    let start = Instant::now();
    let results = Mutex::new(Vec::new());
    let check = |stage: Stage| {
        let start = Instant::now();
        let counts = stage.check(&run);
        let seconds = start.elapsed().as_secs_f32();
        let result = StageResult::new(stage, seconds, counts);
        steps.print_line(&result.line());
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.push(result);
    };
    let pages = [Stage::Package, Stage::Browser, Stage::Engines];
    let needs_package = pages.iter().any(wanted);
    thread::scope(|scope| {
        scope.spawn(|| LANES[0].iter().copied().filter(wanted).for_each(check));
        scope.spawn(|| {
            // The stages meet the same error and report it.
            if needs_package {
                run.make_package().ok();
            }
            LANES[1].iter().copied().filter(wanted).for_each(check);
        });
    });
    ALONE.iter().copied().filter(wanted).for_each(check);
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|result| STAGES.iter().position(|stage| *stage == result.stage));
    println!("{}", summary(&results, start.elapsed().as_secs_f32()));
    Ok(results.iter().all(StageResult::passed))
}

/// How many tests a stage has run.
#[derive(Default, PartialEq, Eq, Debug)]
struct Counts {
    passed: usize,
    failed: usize,
    /// What was skipped, and why.
    skipped: Vec<String>,
}

impl Counts {
    /// A check that counts as one test.
    fn one() -> Counts {
        Counts {
            passed: 1,
            ..Counts::default()
        }
    }

    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }

    /// Parses the output of test runners: totals, and the tests' own lines about skipped parts.
    fn of_output(output: &str) -> Counts {
        let mut counts = Counts::default();
        for line in output.lines() {
            if let Some((_, reason)) = line.split_once("SKIPPED: ") {
                counts.skipped.push(reason.to_owned());
                continue;
            }
            // "test result: ok. 12 passed; 0 failed; …" of Rust, and "12 passed, 0 failed" of tests/browser/run.js.
            let totals = line.strip_prefix("test result: ").unwrap_or(line);
            let totals = totals
                .trim_start_matches("ok. ")
                .trim_start_matches("FAILED. ");
            let (Some(passed), Some(failed)) =
                (number_of("passed", totals), number_of("failed", totals))
            else {
                continue;
            };
            counts.passed += passed;
            counts.failed += failed;
        }
        counts
    }
}

/// The number before a word in "12 passed; 0 failed".
fn number_of(word: &str, totals: &str) -> Option<usize> {
    let part = totals.split([';', ',']).find(|part| part.ends_with(word))?;
    part.trim().strip_suffix(word)?.trim().parse().ok()
}

struct StageResult {
    stage: Stage,
    seconds: f32,
    counts: Counts,
    error: Option<String>,
}

impl StageResult {
    fn new(stage: Stage, seconds: f32, counts: Result<Counts>) -> StageResult {
        let (mut counts, error) = match counts {
            Ok(counts) => (counts, None),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        if error.is_some() {
            counts.failed += 1;
        }
        StageResult {
            stage,
            seconds,
            counts,
            error,
        }
    }

    fn passed(&self) -> bool {
        self.counts.failed == 0
    }

    fn line(&self) -> String {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let error = self.error.iter().map(|error| format!(": {error}"));
        format!(
            "== {} {verdict}{}",
            self.stage.name(),
            error.collect::<String>()
        )
    }
}

/// A table of the stages, what was skipped, and the totals in the last line.
fn summary(results: &[StageResult], seconds: f32) -> String {
    let mut lines = vec![format!(
        "\n{:<8} {:>7} {:>7} {:>8}",
        "stage", "passed", "failed", "time"
    )];
    let mut total = Counts::default();
    for result in results {
        let Counts {
            passed,
            failed,
            skipped,
        } = &result.counts;
        let time = in_words(result.seconds);
        lines.push(format!(
            "{:<8} {passed:>7} {failed:>7} {time:>8}",
            result.stage.name()
        ));
        total.passed += passed;
        total.failed += failed;
        total.skipped.extend(
            skipped
                .iter()
                .map(|why| format!("{}: {why}", result.stage.name())),
        );
    }
    lines.extend(total.skipped.iter().map(|why| format!("skipped in {why}")));
    if total.failed > 0 {
        lines.push("Run a single stage with `cargo xtask test --only STAGE`.".to_owned());
    }
    lines.push(format!("Total time: {}.", in_words(seconds)));
    lines.push(format!(
        "{} passed, {} failed, {} skipped",
        total.passed,
        total.failed,
        total.skipped.len()
    ));
    lines.join("\n")
}

/// The context of all stages.
struct Run<'a> {
    workspace: &'a Workspace,
    steps: &'a Steps,
    extent: Extent,
}

const fn step(name: &'static str, purpose: &'static str, usual_s: u32) -> Step {
    Step {
        name,
        purpose,
        usual_s,
    }
}

impl Run<'_> {
    fn format(&self) -> Result<Counts> {
        installs::rust_component(self.workspace, self.steps, "fmt", "rustfmt")?;
        self.cargo(
            step("rustfmt", "formatting", 2),
            &["fmt", "--all", "--check"],
        )?;
        Ok(Counts::one())
    }

    /// The lints of what the other stages compile: with nothing left to do, cargo repeats the compiler's warnings.
    fn lint(&self) -> Result<Counts> {
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
        // Threads and relaxed SIMD select modules independently, so two builds of the engine cover every line.
        for (build, step) in [
            (
                BUILDS[0],
                step("lint-threads", "lints for the browser, with threads", 110),
            ),
            (
                BUILDS[3],
                step("lint-single", "lints for the browser, on one thread", 80),
            ),
            (
                GRAMMAR,
                step("lint-grammar", "lints of the module of grammars", 20),
            ),
        ] {
            build.install(self.workspace, self.steps)?;
            let mut command = build.rustc(self.workspace, Effort::Quick);
            counts.add(self.warnings(&step, &mut command)?);
        }
        Ok(counts)
    }

    /// Compiles, and fails where the compiler warns.
    fn warnings(&self, step: &Step, command: &mut Command) -> Result<Counts> {
        let finished = self.steps.finish(step, command)?;
        if finished.succeeded && !finished.output.contains("warning") {
            return Ok(Counts::one());
        }
        self.steps.print_line(&crate::steps::tail(&finished.output));
        Ok(Counts {
            failed: 1,
            ..Counts::default()
        })
    }

    /// The tests of the commands, with the profile they run in, which avoids compiling them again.
    fn own_tests(&self) -> Command {
        let mut command = self.workspace.linting_cargo();
        command.args(["test", "--package", "xtask", "--package", "xtask-web"]);
        command.args(["--profile", "xtask"]);
        command
    }

    fn native_tests(&self) -> Command {
        let mut command = self.workspace.linting_cargo();
        command.args(["test", "--package", "zamba2", "--package", "zamba2-grammar"]);
        if self.extent == Extent::Quick {
            command.args(["--lib", "--test", "integration"]);
        }
        command
    }

    fn native(&self) -> Result<Counts> {
        installs::graphics_adapter(self.workspace, self.steps);
        let mut counts = self.tests(
            step("xtask tests", "tests of the developer commands", 20),
            &mut self.own_tests(),
        )?;
        let mut all = self.native_tests();
        if self.extent == Extent::Quick {
            all.arg("--");
            all.args(SLOW.iter().flat_map(|name| ["--skip", name]));
        }
        counts.add(self.tests(
            step("native tests", "Rust tests on this machine", 200),
            &mut all,
        )?);
        Ok(counts)
    }

    fn kernels(&self) -> Result<Counts> {
        installs::rust_target(self.workspace, self.steps, KERNEL_TARGET)?;
        let path = installs::node(self.workspace, self.steps)?;
        let mut counts = Counts::default();
        let plain = step("kernels", "kernel tests as WebAssembly", 90);
        let relaxed = step("kernels-relaxed", "the same with relaxed SIMD", 45);
        for (step, is_relaxed) in [(plain, false), (relaxed, true)] {
            let mut command = self.workspace.cargo();
            // A failed assertion ends a wasm program at once, and captured output would be lost.
            command.args(["test", "--package", "zamba2", "--target", KERNEL_TARGET]);
            // A lock of its own: it compiles while the native tests do.
            command
                .arg("--target-dir")
                .arg(self.workspace.target.join("kernels"));
            command.args(["--lib", "--test", "kernels"]);
            if is_relaxed {
                builds::add_relaxed_simd(&mut command)?;
            }
            command.args(["--", "--nocapture"]);
            // The runner in .cargo/config.toml is `node`.
            command.env("PATH", &path);
            counts.add(self.tests(step, &mut command)?);
        }
        Ok(counts)
    }

    fn types(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        // `--no` keeps npx from downloading a compiler that is not in the lock file.
        let arguments = ["--no", "--", "tsc", "--noEmit", "-p", "jsconfig.json"];
        let mut command = self.workspace.program("npx");
        let tsc = step("tsc", "JavaScript types", 10);
        self.steps
            .run(&tsc, command.args(arguments).env("PATH", &path))?;
        let mut command = self.workspace.program("npm");
        command.args(["run", "--silent", "format:check"]);
        let prettier = step("prettier", "JavaScript formatting", 5);
        self.steps.run(&prettier, command.env("PATH", &path))?;
        Ok(Counts {
            passed: 2,
            ..Counts::default()
        })
    }

    fn docs(&self) -> Result<Counts> {
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
            .run(&step("rustdoc", "documentation", 20), &mut command)?;
        Ok(Counts::one())
    }

    fn browser(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        let browser = installs::browser(self.workspace, self.steps)?;
        let servers = self.page_servers()?;
        let mut node = self.workspace.program("node");
        node.arg("tests/browser/run.js");
        if self.extent == Extent::Quick {
            node.arg("--quick");
        }
        node.env("PATH", &path);
        node.env(installs::BROWSER_VARIABLE, &browser);
        self.tests(
            step("browser tests", "the page in Chromium", 240),
            node.envs(addresses(&servers)),
        )
    }

    fn engines(&self) -> Result<Counts> {
        if env::consts::OS != "linux" {
            let why = "WebKit is driven as WebKitGTK, which only Linux has";
            return Ok(Counts {
                skipped: vec![why.to_owned()],
                ..Counts::default()
            });
        }
        let path = installs::node_packages(self.workspace, self.steps)?;
        let firefox = installs::firefox(self.workspace, self.steps)?;
        let webkit = installs::webkit(self.workspace, self.steps)?;
        let servers = self.page_servers()?;
        let mut node = self.workspace.program("node");
        node.arg("tests/engines/run.js").env("PATH", &path);
        node.env(installs::FIREFOX_VARIABLE, &firefox);
        node.env(installs::WEBKIT_VARIABLE, &webkit);
        self.tests(
            step("engine tests", "the page in Firefox and WebKit", 40),
            node.envs(addresses(&servers)),
        )
    }

    /// Makes the package, and serves the page and the fixtures: with isolation headers, and without.
    fn page_servers(&self) -> Result<[Server; 2]> {
        self.make_package()?;
        let mut folders = page_folders(self.workspace);
        let fixtures = self.workspace.root.join("tests/fixtures");
        folders.push(("/tests/fixtures".to_owned(), fixtures));
        let server = |isolation| {
            Server::start(
                self.workspace,
                "127.0.0.1",
                0,
                &folders,
                isolation,
                Watch::Nothing,
            )
        };
        Ok([
            server(Isolation::ByHeaders)?,
            server(Isolation::LeftToThePage)?,
        ])
    }

    fn package(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        let browser = installs::browser(self.workspace, self.steps)?;
        self.make_package()?;
        let Run {
            workspace, steps, ..
        } = self;
        publish::tarball(workspace, steps, &workspace.target.join("package"))?;
        let site = Site {
            folder: &workspace.target.join("site"),
            effort: Effort::Quick,
            base: None,
        };
        // Without the tests' own dependencies the program would be compiled with other features, and most of its
        // dependencies twice.
        let mut program = workspace.linting_cargo();
        program.args(["test", "--package", "zamba2", "--test", "integration"]);
        site.make(workspace, steps, program.arg("--no-run"))?;
        // CI also compiles what is packed, which is a build from scratch.
        self.cargo(
            step("crate", "the files of the crates", 2),
            &[
                "package",
                "--package",
                "zamba2",
                "--package",
                "zamba2-grammar",
                "--allow-dirty",
                "--no-verify",
            ],
        )?;
        let mut counts = Counts::one();
        let mut node = self.workspace.program("node");
        node.arg("tests/package/run.js").env("PATH", &path);
        node.env(installs::BROWSER_VARIABLE, &browser);
        counts.add(self.tests(
            step("package tests", "projects that use the package", 50),
            &mut node,
        )?);
        Ok(counts)
    }

    fn make_package(&self) -> Result<()> {
        let builds: &[Build] = match self.extent {
            Extent::Whole => &PACKAGED,
            Extent::Quick => &BUILDS[..1],
        };
        package::make(self.workspace, self.steps, builds, Effort::Quick)
    }

    /// Runs tests and counts them. On failure their output is printed.
    fn tests(&self, step: Step, command: &mut Command) -> Result<Counts> {
        let finished = self.steps.finish(&step, command)?;
        let counts = Counts::of_output(&finished.output);
        if !finished.succeeded {
            self.steps.print_line(&crate::steps::tail(&finished.output));
            if counts.failed == 0 {
                bail!("{} ended without totals; its output is above", step.name);
            }
        } else if counts.passed + counts.failed == 0 {
            bail!("{} ran no tests", step.name);
        }
        Ok(counts)
    }

    fn cargo(&self, step: Step, arguments: &[&str]) -> Result<()> {
        self.steps
            .run(&step, self.workspace.cargo().args(arguments))
    }
}

/// The variables with the addresses of the servers, for tests/browser/harness.js.
fn addresses(servers: &[Server; 2]) -> [(&'static str, &str); 2] {
    let [isolated, plain] = servers
        .each_ref()
        .map(|server| server.url.trim_end_matches('/'));
    [("ZAMBA2_URL", isolated), ("ZAMBA2_PLAIN_URL", plain)]
}

#[cfg(test)]
mod tests {
    use super::{ALONE, Counts, LANES, STAGES, Stage, StageResult, summary};

    #[test]
    fn totals_of_both_runners_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\
            SKIPPED: no adapter\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured\n\
            40 passed, 2 failed, 1 skipped\n\
            the page passed, which failed nobody\n";
        let counts = Counts {
            passed: 45,
            failed: 3,
            skipped: vec!["no adapter".to_owned()],
        };
        assert_eq!(Counts::of_output(output), counts);
    }

    #[test]
    fn every_stage_runs_in_one_lane_or_alone() {
        for stage in STAGES {
            let lanes = LANES.iter().filter(|lane| lane.contains(&stage)).count();
            assert_eq!(
                lanes,
                usize::from(!ALONE.contains(&stage)),
                "{}",
                stage.name()
            );
        }
    }

    #[test]
    fn the_last_line_has_the_totals_and_a_stage_with_an_error_counts_as_failed() {
        let results = [
            StageResult::new(Stage::Format, 1.0, Ok(Counts::one())),
            StageResult::new(Stage::Lint, 2.0, Err(anyhow::anyhow!("no clippy"))),
        ];
        assert_eq!(results[1].line(), "== lint FAILED: no clippy");
        let text = summary(&results, 3.0);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
    }
}
