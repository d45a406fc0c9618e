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

/// Adds `arguments` to the compilations of the workspace's crates that `cargo` starts for a `--target`.
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

/// Runs the compiler as requested by cargo, with `arguments` added if it compiles for a `--target`. Build scripts and
/// cargo's queries to the compiler are unchanged.
pub fn run(arguments: &str) -> Result<()> {
    let mut given = env::args_os().skip(1);
    let compiler = given.next().context("cargo gave no compiler")?;
    let given: Vec<OsString> = given.collect();
    let has = |name: &str| given.iter().any(|argument| argument == name);
    let mut command = if has_program(CLIPPY) {
        let mut clippy = Command::new(CLIPPY);
        clippy.arg(compiler);
        clippy
    } else {
        Command::new(compiler)
    };
    command.args(&given);
    if has("--target") && has("--crate-name") && !has("___") {
        command.args(arguments.split_whitespace());
    }
    let status = command.status().context("cannot start the compiler")?;
    if !status.success() {
        bail!("the compiler failed: {status}");
    }
    Ok(())
}
