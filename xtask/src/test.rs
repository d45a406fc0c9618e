//! `cargo xtask test`: all checks of the repository, in stages.
//!
//! A failed stage does not stop the others. The stages run other programs and evaluate their exit status and counts.
//! Two lanes run in parallel, because compiling sometimes leaves a core idle; the stages of browsers run alone, because
//! a page that waits for a core looks as if it hangs.

mod inputs;
mod pages;
mod rust;
mod stage;

use std::env;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::kept::{Kept, Sources};
use crate::steps::{Step, Steps};
use crate::totals::{Counts, StageResult, summary};
use crate::workspace::{Workspace, first_line};
use stage::{ALONE, LANES};
pub use stage::{STAGES, Stage};

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// The main path, for every commit.
    Quick,
}

impl Stage {
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
