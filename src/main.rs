//! The entry point of the command line, which is in [`cli`]. A wasm build of the package gets an empty program.

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
