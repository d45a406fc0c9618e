//! The command line: `zamba2 logits | generate | make-checkpoint | bench`. It stands on floor 6 and only hands over to
//! [`cli`]; a wasm build of the package has no command line and gets an empty program.

use std::process::ExitCode;

#[cfg(not(target_arch = "wasm32"))]
mod cli;

#[cfg(target_arch = "wasm32")]
mod cli {
    use std::process::ExitCode;

    pub fn run() -> ExitCode {
        ExitCode::SUCCESS
    }
}

fn main() -> ExitCode {
    cli::run()
}
