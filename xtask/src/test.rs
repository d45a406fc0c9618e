//! `cargo xtask test`: all checks of the repository, in stages.
//!
//! A failed stage does not stop the others. The stages run other programs and evaluate their exit status and counts.
//! Two lanes run in parallel, because compiling sometimes leaves a core idle; the stages of browsers run alone, because
//! a page that waits for a core looks as if it hangs.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::builds::{self, BUILDS, Build, Effort, GRAMMAR, PACKAGED};
use crate::files::remove_file;
use crate::installs;
use crate::kept::{Kept, Sources, id_of_folder};
use crate::package;
use crate::publish::{self, Site};
use crate::serve::{Isolation, Server, Watch, page_folders};
use crate::steps::{Step, Steps};
use crate::totals::{Counts, StageResult, summary};
use crate::workspace::{Workspace, first_line};

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
///
/// What has passed before and still holds is not run again, unless a stage is named or `is_fresh` is set.
pub fn run(workspace: &Workspace, only: &[Stage], extent: Extent, is_fresh: bool) -> Result<bool> {
    let wanted = |stage: &Stage| match extent {
        _ if !only.is_empty() => only.contains(stage),
        Extent::Whole => true,
        // Two would recompile the crate for what the native tests already cover; the package and the engines need all
        // builds.
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
        kept: Kept::open(&workspace.target.join("logs")),
        reuses: only.is_empty() && !is_fresh,
        sources: match extent {
            Extent::Whole => Sources::read(workspace),
            Extent::Quick => None,
        },
    };
    let start = Instant::now();
    let results = Mutex::new(Vec::new());
    let check = |stage: Stage| {
        let start = Instant::now();
        let counts = stage.check(&run);
        let seconds = start.elapsed().as_secs_f32();
        let result = StageResult::new(stage.name(), seconds, counts);
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
    results.sort_by_key(|result| STAGES.iter().position(|stage| stage.name() == result.name));
    println!("{}", summary(&results, start.elapsed().as_secs_f32()));
    Ok(results.iter().all(StageResult::passed))
}

/// The context of all stages.
struct Run<'a> {
    workspace: &'a Workspace,
    steps: &'a Steps,
    extent: Extent,
    kept: Kept,
    /// Whether results of earlier runs count.
    reuses: bool,
    /// None without git, and where less than everything runs.
    sources: Option<Sources>,
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
        builds::install(self.workspace, self.steps)?;
        for (build, step) in [
            (
                BUILDS[0],
                step(
                    "lint-relaxed",
                    "lints for the browser, with relaxed SIMD",
                    110,
                ),
            ),
            (
                BUILDS[1],
                step("lint-simd128", "lints for the browser, without", 80),
            ),
            (
                GRAMMAR,
                step("lint-grammar", "lints of the module of grammars", 20),
            ),
        ] {
            let mut command = build.rustc(self.workspace, Effort::Quick);
            counts.add(self.warnings(&step, &mut command)?);
        }
        Ok(counts)
    }

    /// Compiles, and fails where the compiler warns.
    fn warnings(&self, step: &Step, command: &mut Command) -> Result<Counts> {
        let finished = self.steps.finish(step, command)?;
        if finished.succeeded && !has_warnings(&finished.output) {
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

    /// An id of the files for which `matters` holds, of the compiler and of `others`; None where nothing is kept.
    fn key(&self, matters: impl Fn(&str) -> bool, others: &[String]) -> Option<String> {
        let sources = self.sources.as_ref()?;
        let compiler = first_line(self.workspace.program("rustc").arg("--version"))?;
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        Some(sources.key(matters, &[others, &[compiler, flags]].concat()))
    }

    /// The result of an earlier run with this key.
    fn earlier(&self, name: &str, key: Option<&str>) -> Option<Counts> {
        let passed = self.kept.passed(name, key?)?;
        self.reuses.then(|| Counts::kept(passed))
    }

    /// The earlier result of a stage if it still holds; otherwise runs the stage.
    fn unless_kept(
        &self,
        name: &str,
        key: Option<String>,
        run: impl FnOnce() -> Result<Counts>,
    ) -> Result<Counts> {
        if let Some(counts) = self.earlier(name, key.as_deref()) {
            return Ok(counts);
        }
        let counts = run()?;
        if let (Some(key), true) = (key, counts.all_passed()) {
            self.keep(name, &key, counts.passed);
        }
        Ok(counts)
    }

    /// Keeps a result, unless a file was edited meanwhile: then it is not known which version has passed.
    fn keep(&self, name: &str, key: &str, passed: usize) {
        if self.is_unedited() {
            self.kept.keep(name, key, passed);
        }
    }

    /// Whether the repository's files are those that the keys were made of.
    fn is_unedited(&self) -> bool {
        Sources::read(self.workspace) == self.sources
    }

    /// An id of `pkg/`, which is made from the sources in Rust and the modules in www/engine/, and of the programs that
    /// run its tests.
    fn page_programs(&self, path: &OsStr, browsers: &[&Path]) -> Result<Vec<String>> {
        let mut others = vec![id_of_folder(&self.workspace.root.join("pkg"))?];
        let node = self.workspace.program("node");
        for mut program in browsers
            .iter()
            .map(|browser| self.workspace.program(*browser))
            .chain([node])
        {
            program.arg("--version").env("PATH", path);
            others.extend(first_line(&mut program));
        }
        Ok(others)
    }

    fn kernels(&self) -> Result<Counts> {
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

    fn kernel_tests(&self, path: &OsStr) -> Result<Counts> {
        let mut counts = Counts::default();
        let plain = step("kernels", "kernel tests as WebAssembly", 350);
        let relaxed = step("kernels-relaxed", "the same with relaxed SIMD", 135);
        for (step, is_relaxed) in [(plain, false), (relaxed, true)] {
            let mut command = self.workspace.cargo();
            // A failed assertion ends a wasm program at once, and captured output would be lost.
            command.args(["test", "--package", "zamba2", "--target", KERNEL_TARGET]);
            // A lock of its own: it compiles while the native tests do.
            command
                .arg("--target-dir")
                .arg(self.workspace.target.join("kernels"));
            command.args(["--lib", "--test", "kernels"]);
            // They run for seconds: what they take longer, their compiler takes less.
            command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            if is_relaxed {
                builds::add_relaxed_simd(&mut command)?;
            }
            command.args(["--", "--nocapture"]);
            // The runner in .cargo/config.toml is `node`.
            command.env("PATH", path);
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
            .run(&step("rustdoc", "documentation", 65), &mut command)?;
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
        let programs = self.page_programs(&path, &[&browser])?;
        let record = self.workspace.target.join("logs/passed-browser.json");
        if !self.reuses {
            remove_file(&record)?;
        }
        let key = self.key(matters_to_pages, &programs);
        if let Some(key) = &key {
            node.env("ZAMBA2_INPUTS", key).env("ZAMBA2_PASSED", &record);
        }
        let counts = self.tests(
            step("browser tests", "the page in Chromium", 690),
            node.envs(addresses(&servers)),
        )?;
        if key.is_some() && !self.is_unedited() {
            remove_file(&record)?;
        }
        Ok(counts)
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
        let programs = self.page_programs(&path, &[&firefox, &webkit])?;
        let matters = |file: &str| matters_to_pages(file) || file.starts_with("tests/engines/");
        let key = self.key(matters, &programs);
        let mut node = self.workspace.program("node");
        node.arg("tests/engines/run.js").env("PATH", &path);
        node.env(installs::FIREFOX_VARIABLE, &firefox);
        node.env(installs::WEBKIT_VARIABLE, &webkit);
        self.unless_kept("engines", key, || {
            self.tests(
                step("engine tests", "the page in Firefox and WebKit", 40),
                node.envs(addresses(&servers)),
            )
        })
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
        let programs = self.page_programs(&path, &[&browser])?;
        let others = ["tests/browser/", "tests/engines/", ".github/"];
        let matters = |file: &str| !others.iter().any(|folder| file.starts_with(folder));
        let key = self.key(matters, &programs);
        self.unless_kept("package", key, || self.package_tests(&path, &browser))
    }

    fn package_tests(&self, path: &OsStr, browser: &Path) -> Result<Counts> {
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
        node.arg("tests/package/run.js").env("PATH", path);
        node.env(installs::BROWSER_VARIABLE, browser);
        counts.add(self.tests(
            step("package tests", "projects that use the package", 75),
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
        Ok(self.tests_with_output(step, command)?.0)
    }

    fn tests_with_output(&self, step: Step, command: &mut Command) -> Result<(Counts, String)> {
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
        Ok((counts, finished.output))
    }

    fn cargo(&self, step: Step, arguments: &[&str]) -> Result<()> {
        self.steps
            .run(&step, self.workspace.cargo().args(arguments))
    }
}

/// Whether results of the slow native tests and of the kernels' depend on a file: not on the page, the package, their
/// tests and the developer commands. What the crate includes of www/ is JSON.
fn matters_to_rust(file: &str) -> bool {
    let folders = [
        "tests/browser/",
        "tests/engines/",
        "tests/package/",
        "examples/",
        "npm/",
        "xtask/",
        ".github/",
    ];
    let endings = [".js", ".ts", ".css", ".html", ".md", ".png", ".svg"];
    let is_other = folders.iter().any(|folder| file.starts_with(folder));
    !is_other && !endings.iter().any(|end| file.ends_with(end))
}

/// Whether results of all browser tests depend on a file. The sources in Rust count as `pkg/`, which is made from them,
/// and a file of tests counts for itself (tests/browser/run.js).
fn matters_to_pages(file: &str) -> bool {
    let folders = [
        "src/",
        "grammar/",
        "tests/engines/",
        "tests/package/",
        ".github/",
    ];
    let is_other = folders.iter().any(|folder| file.starts_with(folder));
    let is_test = file.starts_with("tests/browser/") && file.ends_with(".test.js");
    let is_text = file.starts_with("docs/") && file.ends_with(".md");
    !is_other && !is_test && !is_text
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

/// The variables with the addresses of the servers, for tests/browser/harness.js.
fn addresses(servers: &[Server; 2]) -> [(&'static str, &str); 2] {
    let [isolated, plain] = servers
        .each_ref()
        .map(|server| server.url.trim_end_matches('/'));
    [("ZAMBA2_URL", isolated), ("ZAMBA2_PLAIN_URL", plain)]
}

#[cfg(test)]
mod tests {
    use super::{
        ALONE, LANES, STAGES, has_warnings, matters_to_pages, matters_to_rust, slow_passed,
    };

    #[test]
    fn results_of_rust_depend_on_rust_and_those_of_pages_on_pages() {
        for (file, rust, pages) in [
            ("src/lib.rs", true, false),
            ("tests/kernels.rs", true, true),
            ("tests/fixtures/gqa/model.safetensors", true, true),
            ("www/words/ru.json", true, true),
            ("xtask/src/serve.rs", false, true),
            ("www/main.js", false, true),
            ("index.html", false, true),
            ("tests/browser/harness.js", false, true),
            ("tests/browser/page.test.js", false, false),
            ("tests/package/visits.test.js", false, false),
            ("SECURITY.md", false, true),
            ("docs/inside.md", false, false),
            ("docs/example/run.json", true, true),
        ] {
            assert_eq!(matters_to_rust(file), rust, "{file}");
            assert_eq!(matters_to_pages(file), pages, "{file}");
        }
    }

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
}
