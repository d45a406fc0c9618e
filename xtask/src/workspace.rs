//! Where the repository lies, what Cargo knows of it, and how other programs are run in it.
//!
//! Every other file of xtask builds on this one. It decides nothing about what is run.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The facts of this workspace that the commands need.
pub struct Workspace {
    /// The repository's root folder.
    pub root: PathBuf,
    /// Cargo's folder for build outputs.
    pub target: PathBuf,
    /// The version of the `zamba2` package.
    pub version: String,
    /// The licence expression of the `zamba2` package.
    pub license: String,
    /// The one-line description of the `zamba2` package.
    pub description: String,
}

impl Workspace {
    /// Asks Cargo about the workspace that the current folder belongs to.
    pub fn find() -> Result<Self> {
        let output = Command::new(cargo_program())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed; its message is above");
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .context("`cargo metadata` wrote something that is not JSON")?;
        let package = metadata["packages"]
            .as_array()
            .and_then(|packages| packages.iter().find(|package| package["name"] == "zamba2"))
            .context(
                "this workspace has no package named zamba2; run from inside the repository",
            )?;
        Ok(Self {
            root: text(&metadata, "workspace_root")?.into(),
            target: text(&metadata, "target_directory")?.into(),
            version: text(package, "version")?,
            license: text(package, "license")?,
            description: text(package, "description")?,
        })
    }

    /// A cargo command that runs in the repository's root.
    pub fn cargo(&self) -> Command {
        self.program(cargo_program())
    }

    /// A command that runs in the repository's root.
    pub fn program(&self, name: impl Into<OsString>) -> Command {
        let mut command = Command::new(name.into());
        command.current_dir(&self.root);
        command
    }
}

fn text(value: &Value, field: &str) -> Result<String> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("`cargo metadata` names no {field}; is it set in Cargo.toml?"))
}

// Under `cargo run` this is the very cargo that started us, toolchain override included.
fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command to its end with our own output streams; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); its output is above");
    }
    Ok(())
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

fn shown(command: &Command) -> String {
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
