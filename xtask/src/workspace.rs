//! Where the repository and its build outputs lie, and how other programs are started in it.
//!
//! Every other file of xtask builds on this one. It decides nothing about what is run.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The facts of this workspace that the commands need.
pub struct Workspace {
    /// The repository's root folder.
    pub root: PathBuf,
    /// Cargo's folder for build outputs.
    pub target: PathBuf,
    /// Whether the user has agreed beforehand to what needs `sudo`.
    pub agrees: bool,
}

impl Workspace {
    /// The workspace that this program was built from and in.
    pub fn find(agrees: bool) -> Result<Self> {
        // Cargo sets the variable for what it runs; a binary started by hand has the folder it was compiled in.
        let package =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = PathBuf::from(package)
            .parent()
            .map(PathBuf::from)
            .context("xtask lies in no folder")?;
        // This program is target/<profile>/xtask, wherever the user's configuration puts `target`.
        let program = env::current_exe().context("this program has no path")?;
        let target = program
            .ancestors()
            .nth(2)
            .map(PathBuf::from)
            .context("this program lies in no build folder")?;
        Ok(Self {
            root,
            target,
            agrees,
        })
    }

    /// A cargo command that runs in the repository's root.
    pub fn cargo(&self) -> Command {
        // Under `cargo run` this is the very cargo that started us, toolchain override included.
        self.program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// A command that runs in the repository's root.
    pub fn program(&self, name: impl Into<OsString>) -> Command {
        let mut command = Command::new(name.into());
        command.current_dir(&self.root);
        command
    }
}

/// The first line a command prints, or nothing when it is missing or fails.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A command as one would type it.
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
