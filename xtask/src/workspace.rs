//! Paths of the repository and its build outputs, and how other programs are started in it.
//!
//! The lowest file of xtask: all others may use it. It decides nothing about what is run.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Clippy as a compiler.
pub const CLIPPY: &str = "clippy-driver";

/// Properties of this workspace that the commands need.
pub struct Workspace {
    /// The repository's root folder.
    pub root: PathBuf,
    /// Cargo's folder for build outputs.
    pub target: PathBuf,
    /// Whether the user has given permission for `sudo` in advance (`--yes`).
    pub assume_yes: bool,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub fn find(assume_yes: bool) -> Result<Self> {
        // Cargo sets the variable for programs it runs; a binary started directly uses the folder it was compiled in.
        let package =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = PathBuf::from(package)
            .parent()
            .map(PathBuf::from)
            .context("xtask's manifest has no parent folder")?;
        // This program is target/<profile>/xtask, wherever the user's configuration puts `target`.
        let program = env::current_exe().context("the path of this program is unknown")?;
        let target = program
            .ancestors()
            .nth(2)
            .map(PathBuf::from)
            .context("this program is not in a build folder")?;
        Ok(Self {
            root,
            target,
            assume_yes,
        })
    }

    /// A cargo command that runs in the root of the repository.
    pub fn cargo(&self) -> Command {
        // `cargo run` sets this to the running cargo, including a toolchain override.
        self.program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// A cargo command that compiles the workspace's crates with clippy, which is the compiler with more lints: its
    /// warnings come with a build, and are repeated by a build with nothing to do. `cargo clippy` would check all
    /// dependencies once more. Without clippy it is a plain build.
    pub fn linting_cargo(&self) -> Command {
        let mut cargo = self.cargo();
        if has_program(CLIPPY) {
            cargo.env("RUSTC_WORKSPACE_WRAPPER", CLIPPY);
        }
        cargo
    }

    /// A command that runs in the root of the repository.
    pub fn program(&self, name: impl Into<OsString>) -> Command {
        let mut command = Command::new(name.into());
        command.current_dir(&self.root);
        command
    }
}

/// Whether `name` is a program that tells its version.
pub fn has_program(name: &str) -> bool {
    first_line(Command::new(name).arg("--version")).is_some()
}

/// The first line a command prints, or None if it is missing or fails.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A command as typed in a shell.
pub fn shown(command: &Command) -> String {
    let name = PathBuf::from(command.get_program());
    let name = name.file_stem().unwrap_or_else(|| name.as_os_str());
    let mut words = vec![name.to_string_lossy()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy()),
    );
    words.join(" ")
}
