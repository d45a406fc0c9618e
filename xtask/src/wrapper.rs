//! This program as cargo's `RUSTC_WORKSPACE_WRAPPER`: runs the compiler with additional arguments for the workspace's
//! crates, and prints lints.
//!
//! `cargo test` takes no compiler arguments, and `RUSTFLAGS` would recompile every dependency.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{CLIPPY, has_program};

/// The environment variable with the arguments, separated by spaces. If it is set, this program is the wrapper.
const ARGUMENTS: &str = "ZAMBA2_RUSTC_ARGUMENTS";

/// Adds `arguments` to the compilations of the workspace's crates that `cargo` starts.
pub fn add_arguments(cargo: &mut Command, arguments: &str) -> Result<()> {
    let program = env::current_exe().context("the path of this program is unknown")?;
    cargo.env("RUSTC_WORKSPACE_WRAPPER", program);
    cargo.env(ARGUMENTS, arguments);
    Ok(())
}

/// The wrapper's arguments, if cargo has started this program as one.
pub fn arguments() -> Option<String> {
    env::var(ARGUMENTS).ok()
}

/// Runs the compiler as requested by cargo, with `arguments` added if it compiles a crate. Build scripts and cargo's
/// queries to the compiler are unchanged.
pub fn run(arguments: &str) -> Result<()> {
    let mut given = env::args_os().skip(1);
    let compiler = given.next().context("cargo gave no compiler")?;
    let given: Vec<OsString> = given.collect();
    let after = |name: &str| given.iter().skip_while(move |word| *word != name).nth(1);
    let mut command = if has_program(CLIPPY) {
        let mut clippy = Command::new(CLIPPY);
        clippy.arg(compiler);
        clippy
    } else {
        Command::new(compiler)
    };
    command.args(&given);
    // Cargo asks about a crate of this name.
    let is_crate = |name: &OsString| name != "___" && name != "build_script_build";
    if after("--crate-name").is_some_and(is_crate) {
        command.args(arguments.split_whitespace());
        // The pinned release accepts a -Z option with this, and changes nothing else.
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let status = command.status().context("cannot start the compiler")?;
    if !status.success() {
        bail!("the compiler failed: {status}");
    }
    Ok(())
}
