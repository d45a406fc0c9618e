//! The developer's commands of this workspace, run as `cargo xtask <command>`.
//!
//! They build the browser package, serve it on this machine and run every check. They do not publish, deploy, or do
//! anything that a user's page needs.

mod builds;
mod files;
mod installs;
mod package;
mod serve;
mod steps;
mod test;
mod trace;
mod workspace;
mod wrapper;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::builds::{BUILDS, Build, Effort};
use crate::serve::{Isolation, Options};
use crate::steps::Steps;
use crate::test::{Extent, STAGES, Stage};
use crate::workspace::Workspace;

const HELP: &str = "Builds, serves and tests Zamba2 in the browser.

cargo xtask serve          build what is missing and serve the page; rebuild and reload it after every edit
    --port N               listen on this port, or the next free one (8080)
    --host ADDRESS         listen on this address; only this machine can reach the default (127.0.0.1)
    --checkpoint DIR       serve this checkpoint folder under /checkpoints/NAME/; may be repeated
    --first BUILD          make this build first (threads-relaxed)
    --no-isolation         leave the isolation headers off, as hosts do where they can't be set
cargo xtask test           run every check, and install what this machine lacks
    --quick                the main path only, in under two minutes once everything is compiled
    --only STAGE           this stage alone; may be repeated
    --list                 name the stages
cargo xtask build          make pkg/ for others: every build, with all optimisations (minutes)
    --quick                as `serve` and `test` make it
cargo xtask trace [FILE]   put function names into a stack trace, from FILE or the standard input

    --yes                  install Debian packages with sudo without asking
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // The stages have said what failed, and their count is the last line.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
enum Command {
    Help,
    Build(Effort),
    Serve(Options),
    Test(Vec<Stage>, Extent),
    ListStages,
    Trace(Option<PathBuf>),
}

// Whether all went well; a fault that stops a command is an error instead.
fn run() -> Result<bool> {
    if let Some(arguments) = wrapper::arguments() {
        wrapper::run(&arguments)?;
        return Ok(true);
    }
    let (command, agrees) = parse(Parser::from_env()).context("see `cargo xtask --help`")?;
    let workspace = Workspace::find(agrees)?;
    match command {
        Command::Help => print!("{HELP}"),
        Command::Build(effort) => {
            let steps = Steps::new(&workspace.target)?;
            package::make(&workspace, &steps, &BUILDS, effort)?;
            package::tell_sizes(&workspace, &steps)?;
        }
        Command::Serve(options) => serve::run(&workspace, &options)?,
        Command::Test(only, extent) => return test::run(&workspace, &only, extent),
        Command::ListStages => test::list(),
        Command::Trace(file) => trace::run(&workspace, file.as_deref())?,
    }
    Ok(true)
}

fn parse(mut arguments: Parser) -> Result<(Command, bool)> {
    let name = match arguments.next()? {
        None | Some(Arg::Long("help") | Arg::Short('h')) => return Ok((Command::Help, false)),
        Some(Arg::Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected().into()),
    };
    let mut options = Options {
        host: "127.0.0.1".to_owned(),
        port: 8080,
        checkpoints: Vec::new(),
        isolation: Isolation::ByHeaders,
        first: BUILDS[0],
    };
    let (mut only, mut is_quick, mut lists, mut file) = (Vec::new(), false, false, None);
    let mut agrees = false;
    while let Some(argument) = arguments.next()? {
        match (name.as_str(), argument) {
            (_, Arg::Long("help") | Arg::Short('h')) => return Ok((Command::Help, false)),
            (_, Arg::Long("yes")) => agrees = true,
            ("serve", Arg::Long("port")) => options.port = arguments.value()?.parse()?,
            ("serve", Arg::Long("host")) => options.host = arguments.value()?.string()?,
            ("serve", Arg::Long("checkpoint")) => {
                options.checkpoints.push(arguments.value()?.into());
            }
            ("serve", Arg::Long("first")) => {
                options.first = build_named(&arguments.value()?.string()?)?;
            }
            ("serve", Arg::Long("no-isolation")) => options.isolation = Isolation::LeftToThePage,
            ("test", Arg::Long("only")) => only.push(stage_named(&arguments.value()?.string()?)?),
            ("test", Arg::Long("list")) => lists = true,
            ("test" | "build", Arg::Long("quick")) => is_quick = true,
            ("trace", Arg::Value(path)) if file.is_none() => file = Some(path.into()),
            (_, other) => return Err(other.unexpected().into()),
        }
    }
    let command = match name.as_str() {
        "serve" => Command::Serve(options),
        "test" if lists => Command::ListStages,
        "test" if is_quick => Command::Test(only, Extent::Quick),
        "test" => Command::Test(only, Extent::Whole),
        "build" if is_quick => Command::Build(Effort::Quick),
        "build" => Command::Build(Effort::Full),
        "trace" => Command::Trace(file),
        other => bail!("there is no command `{other}`"),
    };
    Ok((command, agrees))
}

fn build_named(name: &str) -> Result<Build> {
    let names = BUILDS.map(|build| build.name).join(", ");
    let found = BUILDS.into_iter().find(|build| build.name == name);
    found.with_context(|| format!("there is no build `{name}`; there are {names}"))
}

fn stage_named(name: &str) -> Result<Stage> {
    let names = STAGES.map(|stage| stage.name()).join(", ");
    let found = STAGES.into_iter().find(|stage| stage.name() == name);
    found.with_context(|| format!("there is no stage `{name}`; there are {names}"))
}

#[cfg(test)]
mod tests {
    use lexopt::Parser;

    use super::{Command, Effort, Extent, parse};

    fn parsed(words: &str) -> anyhow::Result<(Command, bool)> {
        parse(Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn options_reach_their_command() {
        let (command, agrees) =
            parsed("serve --port 9000 --checkpoint a --checkpoint b --yes").unwrap();
        let Command::Serve(options) = command else {
            panic!("not serve");
        };
        assert_eq!(
            (options.port, options.checkpoints.len(), agrees),
            (9000, 2, true)
        );
        assert_eq!(options.first.name, "threads-relaxed");
        let (command, _) = parsed("test --only docs --quick").unwrap();
        assert!(matches!(command, Command::Test(only, Extent::Quick) if only.len() == 1));
        assert!(matches!(
            parsed("build").unwrap().0,
            Command::Build(Effort::Full)
        ));
        assert!(matches!(
            parsed("build --quick").unwrap().0,
            Command::Build(Effort::Quick)
        ));
        assert!(matches!(parsed("").unwrap().0, Command::Help));
    }

    #[test]
    fn what_a_command_does_not_know_is_an_error_that_names_it() {
        for (words, named) in [
            ("frobnicate", "frobnicate"),
            ("build --port 1", "--port"),
            ("serve --port many", "many"),
            ("serve --first double", "single-relaxed"),
            ("test --only everything", "kernels"),
            ("test extra", "extra"),
        ] {
            let error = parsed(words).map(drop).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{words}: {error:#}");
        }
    }
}
