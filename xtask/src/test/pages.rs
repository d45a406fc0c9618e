//! The stages of the page and the package: types and formatting of JavaScript, projects that use the package, browsers.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use super::inputs::matters_to_pages;
use super::{Extent, Run, step};
use crate::builds::{BUILDS, Build, Effort, PACKAGED};
use crate::files::remove_file;
use crate::installs;
use crate::kept::id_of_folder;
use crate::package;
use crate::publish::{self, Site};
use crate::serve::{Isolation, Server, Watch, page_folders};
use crate::totals::Counts;
use crate::workspace::first_line;

impl Run<'_> {
    pub(super) fn types(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        // `--no` keeps npx from downloading a compiler that is not in the lock file.
        let arguments = ["--no", "--", "tsc", "--noEmit", "-p", "jsconfig.json"];
        let mut command = self.workspace.program("npx");
        let tsc = step("tsc", "JavaScript types", 10);
        self.steps
            .run(&tsc, command.args(arguments).env("PATH", &path))?;
        let mut command = self.workspace.program("npm");
        command.args(["run", "--silent", "format:check"]);
        let prettier = step("prettier", "JavaScript formatting", 5);
        self.steps.run(&prettier, command.env("PATH", &path))?;
        Ok(Counts {
            passed: 2,
            ..Counts::default()
        })
    }

    pub(super) fn browser(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        let browser = installs::browser(self.workspace, self.steps)?;
        let servers = self.page_servers()?;
        let mut node = self.workspace.program("node");
        node.arg("tests/browser/run.js");
        if self.extent == Extent::Quick {
            node.arg("--quick");
        }
        node.env("PATH", &path);
        node.env(installs::BROWSER_VARIABLE, &browser);
        let programs = self.page_programs(&path, &[&browser])?;
        let record = self.workspace.target.join("logs/passed-browser.json");
        if !self.reuses {
            remove_file(&record)?;
        }
        let key = self.key(matters_to_pages, &programs);
        if let Some(key) = &key {
            node.env("ZAMBA2_INPUTS", key).env("ZAMBA2_PASSED", &record);
        }
        let counts = self.tests(
            step("browser tests", "the page in Chromium", 690),
            node.envs(addresses(&servers)),
        )?;
        if key.is_some() && !self.is_unedited() {
            remove_file(&record)?;
        }
        Ok(counts)
    }

    pub(super) fn engines(&self) -> Result<Counts> {
        if env::consts::OS != "linux" {
            let why = "WebKit is driven as WebKitGTK, which only Linux has";
            return Ok(Counts {
                skipped: vec![why.to_owned()],
                ..Counts::default()
            });
        }
        let path = installs::node_packages(self.workspace, self.steps)?;
        let firefox = installs::firefox(self.workspace, self.steps)?;
        let webkit = installs::webkit(self.workspace, self.steps)?;
        let servers = self.page_servers()?;
        let programs = self.page_programs(&path, &[&firefox, &webkit])?;
        let matters = |file: &str| matters_to_pages(file) || file.starts_with("tests/engines/");
        let key = self.key(matters, &programs);
        let mut node = self.workspace.program("node");
        node.arg("tests/engines/run.js").env("PATH", &path);
        node.env(installs::FIREFOX_VARIABLE, &firefox);
        node.env(installs::WEBKIT_VARIABLE, &webkit);
        self.unless_kept("engines", key, || {
            self.tests(
                step("engine tests", "the page in Firefox and WebKit", 40),
                node.envs(addresses(&servers)),
            )
        })
    }

    /// Makes the package, and serves the page and the fixtures: with isolation headers, and without.
    pub(super) fn page_servers(&self) -> Result<[Server; 2]> {
        self.make_package()?;
        let mut folders = page_folders(self.workspace);
        let fixtures = self.workspace.root.join("tests/fixtures");
        folders.push(("/tests/fixtures".to_owned(), fixtures));
        let server = |isolation| {
            Server::start(
                self.workspace,
                "127.0.0.1",
                0,
                &folders,
                isolation,
                Watch::Nothing,
            )
        };
        Ok([
            server(Isolation::ByHeaders)?,
            server(Isolation::LeftToThePage)?,
        ])
    }

    pub(super) fn package(&self) -> Result<Counts> {
        let path = installs::node_packages(self.workspace, self.steps)?;
        let browser = installs::browser(self.workspace, self.steps)?;
        self.make_package()?;
        let programs = self.page_programs(&path, &[&browser])?;
        let others = ["tests/browser/", "tests/engines/", ".github/"];
        let matters = |file: &str| !others.iter().any(|folder| file.starts_with(folder));
        let key = self.key(matters, &programs);
        self.unless_kept("package", key, || self.package_tests(&path, &browser))
    }

    pub(super) fn package_tests(&self, path: &OsStr, browser: &Path) -> Result<Counts> {
        let Run {
            workspace, steps, ..
        } = self;
        publish::tarball(workspace, steps, &workspace.target.join("package"))?;
        let site = Site {
            folder: &workspace.target.join("site"),
            effort: Effort::Quick,
            base: None,
        };
        // Without the tests' own dependencies the program would be compiled with other features, and most of its
        // dependencies twice.
        let mut program = workspace.linting_cargo();
        program.args(["test", "--package", "zamba2", "--test", "integration"]);
        site.make(workspace, steps, program.arg("--no-run"))?;
        // CI also compiles what is packed, which is a build from scratch.
        self.cargo(
            step("crate", "the files of the crates", 2),
            &[
                "package",
                "--package",
                "zamba2",
                "--package",
                "zamba2-grammar",
                "--allow-dirty",
                "--no-verify",
            ],
        )?;
        let mut counts = Counts::one();
        let mut node = self.workspace.program("node");
        node.arg("tests/package/run.js").env("PATH", path);
        node.env(installs::BROWSER_VARIABLE, browser);
        counts.add(self.tests(
            step("package tests", "projects that use the package", 75),
            &mut node,
        )?);
        Ok(counts)
    }

    pub(super) fn make_package(&self) -> Result<()> {
        let builds: &[Build] = match self.extent {
            Extent::Whole => &PACKAGED,
            Extent::Quick => &BUILDS[..1],
        };
        package::make(self.workspace, self.steps, builds, Effort::Quick)
    }

    /// An id of `pkg/`, which is made from the sources in Rust and the modules in www/engine/, and of the programs that
    /// run its tests.
    pub(super) fn page_programs(&self, path: &OsStr, browsers: &[&Path]) -> Result<Vec<String>> {
        let mut others = vec![id_of_folder(&self.workspace.root.join("pkg"))?];
        let node = self.workspace.program("node");
        for mut program in browsers
            .iter()
            .map(|browser| self.workspace.program(*browser))
            .chain([node])
        {
            program.arg("--version").env("PATH", path);
            others.extend(first_line(&mut program));
        }
        Ok(others)
    }
}

/// The variables with the addresses of the servers, for tests/browser/harness.js.
fn addresses(servers: &[Server; 2]) -> [(&'static str, &str); 2] {
    let [isolated, plain] = servers
        .each_ref()
        .map(|server| server.url.trim_end_matches('/'));
    [("ZAMBA2_URL", isolated), ("ZAMBA2_PLAIN_URL", plain)]
}
