//! `zamba2 completions` and `zamba2 man`: shell completions and the manual page, generated from the commands'
//! definition.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, Failure, print};

/// Print a completion script for a shell.
///
/// For bash: `zamba2 completions bash > ~/.local/share/bash-completion/completions/zamba2`.
#[derive(Args)]
pub struct Arguments {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut CommandLine::command(),
        "zamba2",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}

pub fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(CommandLine::command());
    man.render(&mut page)
        .map_err(|error| Failure::output(&error))?;
    print(&String::from_utf8_lossy(&page))
}
