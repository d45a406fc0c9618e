//! The developer's commands of this workspace, run as `cargo xtask <command>`.
//!
//! Where it stands: outside the product. It builds the browser package, serves it on this machine
//! and runs every check. What it does not do: publish, deploy, or anything a user's page needs.

mod installs;
mod serve;
mod test;
mod wasm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::serve::Isolation;
use crate::test::Stage;
use crate::workspace::Workspace;

/// Builds, serves and tests Zamba2 in the browser.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make pkg/: the WebAssembly module, its bindings and the JavaScript module.
    Build,
    /// Build, then serve the page on this machine.
    Serve {
        /// The port to listen on; the next free one is taken when it is busy.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// The address to listen on; only this machine can reach the default.
        #[arg(long, default_value = "127.0.0.1")]
        host: String,
        /// A checkpoint folder to serve under /checkpoints/NAME/ by its folder name; may be repeated.
        #[arg(long = "checkpoint", value_name = "DIR")]
        checkpoints: Vec<PathBuf>,
        /// Leave the isolation headers off, as hosts do where they can't be set.
        #[arg(long)]
        no_isolation: bool,
    },
    /// Run every check, installing what this machine lacks.
    Test {
        /// Run this stage alone; may be repeated.
        #[arg(long = "only", value_name = "STAGE")]
        only: Vec<Stage>,
        /// Name the stages and stop.
        #[arg(long)]
        list: bool,
    },
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        // The stages have told what failed, and their count is the last line.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

// Tells whether all went well; a fault that stops a command is an error instead.
fn run(command: Command) -> Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Build => wasm::build(&workspace)?,
        Command::Serve {
            port,
            host,
            checkpoints,
            no_isolation,
        } => {
            let isolation = if no_isolation {
                Isolation::LeftToThePage
            } else {
                Isolation::ByHeaders
            };
            serve::build_and_serve(&workspace, &host, port, &checkpoints, isolation)?;
        }
        Command::Test { list: true, .. } => test::list(),
        Command::Test { only, .. } => return Ok(test::run(&workspace, &only)),
    }
    Ok(true)
}
