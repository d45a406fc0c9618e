//! This program as cargo's `RUSTC_WORKSPACE_WRAPPER`: the compiler with more arguments for the workspace's own crates.
//!
//! `cargo test` takes no compiler arguments, and `RUSTFLAGS` would compile every dependency again.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Holds the arguments, separated by spaces. Set, it makes this program the wrapper.
const ARGUMENTS: &str = "ZAMBA2_RUSTC_ARGUMENTS";

/// Adds `arguments` to the compilations of the workspace's own crates that `cargo` starts for `--target` targets.
pub fn add_arguments(cargo: &mut Command, arguments: &str) -> Result<()> {
    let program = env::current_exe().context("this program has no path")?;
    cargo.env("RUSTC_WORKSPACE_WRAPPER", program);
    cargo.env(ARGUMENTS, arguments);
    Ok(())
}

/// The wrapper's arguments, if cargo has started this program as one.
pub fn arguments() -> Option<String> {
    env::var(ARGUMENTS).ok()
}

/// Runs the compiler as cargo asks, with `arguments` where it compiles for a target other than this machine: build
/// scripts and the questions cargo asks the compiler beforehand stay as they are.
pub fn run(arguments: &str) -> Result<()> {
    let mut given = env::args_os().skip(1);
    let compiler = given.next().context("cargo has named no compiler")?;
    let given: Vec<OsString> = given.collect();
    let has = |name: &str| given.iter().any(|argument| argument == name);
    let mut command = Command::new(compiler);
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
