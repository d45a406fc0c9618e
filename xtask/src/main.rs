//! Developer commands of this workspace, run as `cargo xtask <command>`.
//!
//! They build the browser package, serve it locally and run all checks. They do not publish or deploy.

mod builds;
mod files;
mod ids;
mod installs;
mod kept;
mod package;
mod publish;
mod serve;
mod steps;
mod test;
mod totals;
mod trace;
mod workspace;
mod wrapper;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::builds::{BUILDS, Build, Effort, PACKAGED};
use crate::publish::Output;
use crate::serve::{Isolation, Options};
use crate::steps::Steps;
use crate::test::{Extent, STAGES, Stage};
use crate::workspace::Workspace;

const HELP: &str = "Builds, serves and tests Zamba2 in the browser.

cargo xtask serve          build what is missing and serve the page; rebuild and reload it after every edit
    --port N               listen on this port, or the next free one (8080)
    --host ADDRESS         listen on this address; only this machine can reach the default (127.0.0.1)
    --checkpoint DIR       serve this checkpoint folder under /checkpoints/NAME/; may be repeated
    --first BUILD          make this build first (relaxed-simd)
    --no-isolation         send no isolation headers, as hosts that cannot set them
cargo xtask test           run all checks but those that have passed and cannot have changed; install what is missing
    --fresh                run all
    --quick                the main path only, in under two minutes once everything is compiled
    --only STAGE           only this stage; may be repeated
    --list                 list the stages
cargo xtask build          make pkg/, the page's package: all builds, fully optimised (takes minutes)
    --quick                with the profile of `serve` and `test`: faster to build
cargo xtask package [OUT]  make the npm package zamba2-web, as a tarball in OUT (target/package)
    --quick                as for build
cargo xtask dist [OUT]     make the site as a folder for any static host, in OUT (target/site)
    --base PATH            its path on the host, for hosts that do not redirect to the final slash
    --quick                as for build
cargo xtask trace [FILE]   add function names to a stack trace from FILE or standard input

    --yes                  install Debian packages with sudo without asking
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // The stages have reported what failed; their totals are the last line.
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
    Package(Output),
    Dist(Output, Option<String>),
    Serve(Options),
    Test(Vec<Stage>, Extent, bool),
    ListStages,
    Trace(Option<PathBuf>),
}

// Whether all checks passed; a command that could not run is an error instead.
fn run() -> Result<bool> {
    if let Some(arguments) = wrapper::arguments() {
        wrapper::run(&arguments)?;
        return Ok(true);
    }
    let (command, assume_yes) = parse(Parser::from_env()).context("see `cargo xtask --help`")?;
    let workspace = Workspace::find(assume_yes)?;
    match command {
        Command::Help => print!("{HELP}"),
        Command::Build(effort) => {
            let steps = Steps::new(&workspace.target)?;
            package::make(&workspace, &steps, &PACKAGED, effort)?;
            package::print_sizes(&workspace, &steps)?;
        }
        Command::Package(output) => {
            publish::package(&workspace, &Steps::new(&workspace.target)?, &output)?;
        }
        Command::Dist(output, base) => {
            let steps = Steps::new(&workspace.target)?;
            publish::dist(&workspace, &steps, &output, base.as_deref())?;
        }
        Command::Serve(options) => serve::run(&workspace, &options)?,
        Command::Test(only, extent, is_fresh) => {
            return test::run(&workspace, &only, extent, is_fresh);
        }
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
    let (mut assume_yes, mut is_fresh, mut base) = (false, false, None);
    while let Some(argument) = arguments.next()? {
        match (name.as_str(), argument) {
            (_, Arg::Long("help") | Arg::Short('h')) => return Ok((Command::Help, false)),
            (_, Arg::Long("yes")) => assume_yes = true,
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
            ("test", Arg::Long("fresh")) => is_fresh = true,
            ("test" | "build" | "package" | "dist", Arg::Long("quick")) => is_quick = true,
            ("dist", Arg::Long("base")) => base = Some(arguments.value()?.string()?),
            ("trace" | "package" | "dist", Arg::Value(path)) if file.is_none() => {
                file = Some(path.into())
            }
            (_, other) => return Err(other.unexpected().into()),
        }
    }
    let effort = if is_quick {
        Effort::Quick
    } else {
        Effort::Full
    };
    let output = |folder| Output { folder, effort };
    let command = match name.as_str() {
        "serve" => Command::Serve(options),
        "test" if lists => Command::ListStages,
        "test" if is_quick => Command::Test(only, Extent::Quick, is_fresh),
        "test" => Command::Test(only, Extent::Whole, is_fresh),
        "build" => Command::Build(effort),
        "package" => Command::Package(output(file)),
        "dist" => Command::Dist(output(file), base),
        "trace" => Command::Trace(file),
        other => bail!("unknown command `{other}`"),
    };
    Ok((command, assume_yes))
}

fn build_named(name: &str) -> Result<Build> {
    let names = BUILDS.map(|build| build.name).join(", ");
    let found = BUILDS.into_iter().find(|build| build.name == name);
    found.with_context(|| format!("unknown build `{name}`; available: {names}"))
}

fn stage_named(name: &str) -> Result<Stage> {
    let names = STAGES.map(|stage| stage.name()).join(", ");
    let found = STAGES.into_iter().find(|stage| stage.name() == name);
    found.with_context(|| format!("unknown stage `{name}`; available: {names}"))
}

#[cfg(test)]
mod tests {
    use lexopt::Parser;

    use super::{Command, Effort, Extent, parse};

    fn parsed(words: &str) -> anyhow::Result<(Command, bool)> {
        parse(Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn options_are_passed_to_their_command() {
        let (command, assume_yes) =
            parsed("serve --port 9000 --checkpoint a --checkpoint b --yes").unwrap();
        let Command::Serve(options) = command else {
            panic!("not serve");
        };
        assert_eq!(
            (options.port, options.checkpoints.len(), assume_yes),
            (9000, 2, true)
        );
        assert_eq!(options.first.name, "relaxed-simd");
        let (command, _) = parsed("test --only docs --quick").unwrap();
        assert!(matches!(command, Command::Test(only, Extent::Quick, false) if only.len() == 1));
        assert!(matches!(
            parsed("test --fresh").unwrap().0,
            Command::Test(only, Extent::Whole, true) if only.is_empty()
        ));
        assert!(matches!(
            parsed("build").unwrap().0,
            Command::Build(Effort::Full)
        ));
        assert!(matches!(
            parsed("build --quick").unwrap().0,
            Command::Build(Effort::Quick)
        ));
        let (command, _) = parsed("dist out --base /zamba2/ --quick").unwrap();
        let Command::Dist(output, base) = command else {
            panic!("not dist");
        };
        assert_eq!(output.folder, Some("out".into()));
        assert!(output.effort == Effort::Quick && base.as_deref() == Some("/zamba2/"));
        assert!(matches!(
            parsed("package").unwrap().0,
            Command::Package(output) if output.folder.is_none()
        ));
        assert!(matches!(parsed("").unwrap().0, Command::Help));
    }

    #[test]
    fn an_unknown_argument_is_an_error_that_names_it() {
        for (words, named) in [
            ("frobnicate", "frobnicate"),
            ("build --port 1", "--port"),
            ("package --base /a/", "--base"),
            ("serve --port many", "many"),
            ("serve --first double", "simd128"),
            ("test --only everything", "kernels"),
            ("test extra", "extra"),
        ] {
            let error = parsed(words).map(drop).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{words}: {error:#}");
        }
    }
}
