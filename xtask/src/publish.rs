//! What others use: the npm package `zamba2-web`, and the site as a folder for a static host.
//!
//! The engine is compiled here; the rest is done by scripts in `tools/`, with Node.js. Nothing is published.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::builds::{Effort, PACKAGED};
use crate::installs;
use crate::package;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;

/// Where to write, and how much the compiler optimises.
pub struct Output {
    /// A folder; the default is in the build folder.
    pub folder: Option<PathBuf>,
    pub effort: Effort,
}

const SITE: Step = Step {
    name: "site",
    purpose: "the site, with compressed files",
    usual_s: 60,
};

const PACKER: Step = Step {
    name: "packer",
    purpose: "the program that packs the embedded model",
    usual_s: 90,
};

const PACK: Step = Step {
    name: "pack",
    purpose: "the embedded model, packed",
    usual_s: 2,
};

/// The formats of weights that the site has the embedded model packed in.
const PACKED: [&str; 2] = ["q8", "q4"];

const TARBALL: Step = Step {
    name: "tarball",
    purpose: "the npm package",
    usual_s: 10,
};

/// Makes the tarball of the npm package.
pub fn package(workspace: &Workspace, steps: &Steps, output: &Output) -> Result<()> {
    package::make(workspace, steps, &PACKAGED, output.effort)?;
    let folder = output_folder(workspace, output, "package")?;
    tarball(workspace, steps, &folder)?;
    steps.print_line(&format!("The npm package is in {}.", folder.display()));
    Ok(())
}

/// Makes the tarball of the npm package from `pkg/`.
pub fn tarball(workspace: &Workspace, steps: &Steps, folder: &Path) -> Result<()> {
    let path = installs::node_packages(workspace, steps)?;
    let mut command = workspace.program("node");
    command.arg("tools/package/make.js").arg(folder);
    steps.run(&TARBALL, command.env("PATH", &path))
}

/// Makes the site; `base` is its path on the host, if its pages are to name it.
pub fn dist(
    workspace: &Workspace,
    steps: &Steps,
    output: &Output,
    base: Option<&str>,
) -> Result<()> {
    package::make(workspace, steps, &PACKAGED, output.effort)?;
    let folder = output_folder(workspace, output, "site")?;
    let site = Site {
        folder: &folder,
        effort: output.effort,
        base,
    };
    let mut program = workspace.cargo();
    program.args(["build", "--package", "zamba2", "--bin", "zamba2"]);
    site.make(workspace, steps, &mut program)?;
    steps.print_line(&format!(
        "The site is in {}; docs/deploy.md says how hosts serve it.",
        folder.display()
    ));
    Ok(())
}

/// How the site is made from `pkg/`.
pub struct Site<'a> {
    pub folder: &'a Path,
    /// How much the files are compressed.
    pub effort: Effort,
    pub base: Option<&'a str>,
}

impl Site<'_> {
    /// `native` builds the program that packs the embedded model.
    pub fn make(&self, workspace: &Workspace, steps: &Steps, native: &mut Command) -> Result<()> {
        let packs = workspace.target.join("packs");
        steps.run(&PACKER, native)?;
        let program = format!("debug/zamba2{}", std::env::consts::EXE_SUFFIX);
        // Files of an earlier form of packs would go to the site as well.
        if packs.exists() {
            std::fs::remove_dir_all(&packs)?;
        }
        for weights in PACKED {
            let mut pack = workspace.program(workspace.target.join(&program));
            pack.args(["pack", "www/models/rustdoc-5m"]);
            pack.arg(packs.join(weights));
            pack.args(["--weights", weights, "--force"]);
            steps.run(&PACK, &mut pack)?;
        }
        let path = installs::node_packages(workspace, steps)?;
        let mut command = workspace.program("node");
        command
            .arg("tools/site/make.js")
            .arg(self.folder)
            .arg(packs);
        if self.effort == Effort::Quick {
            command.arg("--quick");
        }
        if let Some(base) = self.base {
            command.args(["--base", base]);
        }
        steps.run(&SITE, command.env("PATH", &path))
    }
}

/// As an absolute path: the scripts run in the root of the repository.
fn output_folder(workspace: &Workspace, output: &Output, name: &str) -> Result<PathBuf> {
    match &output.folder {
        Some(folder) => {
            std::path::absolute(folder).with_context(|| format!("{} is no path", folder.display()))
        }
        None => Ok(workspace.target.join(name)),
    }
}
