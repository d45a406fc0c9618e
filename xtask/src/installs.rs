//! Installs missing prerequisites: Rust targets and components, Node.js, a browser, a graphics driver.
//!
//! Every install is announced with its reason first, and permission is asked for `sudo`. What cannot be installed is an
//! error with instructions; nothing is skipped silently. Rust and a C linker are assumed, because this program could
//! not have been built without them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::steps::{Step, Steps};
use crate::workspace::{Workspace, first_line};

/// The environment variables with the paths of the browsers for the tests.
pub const BROWSER_VARIABLE: &str = "ZAMBA2_CHROMIUM";
pub const FIREFOX_VARIABLE: &str = "ZAMBA2_FIREFOX";
pub const WEBKIT_VARIABLE: &str = "ZAMBA2_WEBKIT";

const INSTALL: Step = Step {
    name: "install",
    purpose: "as announced above",
    usual_s: 40,
};

// Any Chromium-based browser runs the tests; these are its names in package managers. The headless shell is Chromium
// without its own windows: the same engine, and less work for each page.
const BROWSERS: [&str; 6] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

const FIREFOXES: [&str; 2] = ["firefox-esr", "firefox"];

// Debian's package of WebKit's driver, until and since Debian 13.
const WEBKIT_DRIVERS: [&str; 2] = ["webkit2gtk-driver", "webkitgtk-webdriver"];

// Required by playwright-core, and the first version with the present WASI API.
const OLDEST_NODE: u32 = 20;

// The npm package with a Node.js binary, for machines whose Node.js is too old.
const OWN_NODE: &str = "node@22.23.3";

// Folders in which the system and its packages register Vulkan drivers.
const VULKAN_DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// Held while something is looked for and installed: the lanes of `test` would otherwise start the same package manager
/// twice, and both rustup and dpkg allow one.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    INSTALLING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ensures that Rust can compile for `target`.
pub fn rust_target(workspace: &Workspace, steps: &Steps, target: &str) -> Result<()> {
    let _installing = one_at_a_time();
    // rustc works for every way of installing Rust; rustup only for its own toolchains.
    let libraries = first_line(workspace.program("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        target,
    ]));
    if libraries.is_some_and(|folder| Path::new(&folder).is_dir()) {
        return Ok(());
    }
    rustup(workspace, steps, &["target", "add", target])
}

/// Ensures that the standard library's sources are installed, for the builds that compile it.
pub fn rust_sources(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let _installing = one_at_a_time();
    let root = first_line(workspace.program("rustc").args(["--print", "sysroot"]));
    let manifest = "lib/rustlib/src/rust/library/std/Cargo.toml";
    if root.is_some_and(|root| Path::new(&root).join(manifest).is_file()) {
        return Ok(());
    }
    rustup(workspace, steps, &["component", "add", "rust-src"])
}

/// Ensures that `cargo <subcommand>` exists, which is part of the rustup component `component`.
pub fn rust_component(
    workspace: &Workspace,
    steps: &Steps,
    subcommand: &str,
    component: &str,
) -> Result<()> {
    let _installing = one_at_a_time();
    if first_line(workspace.cargo().args([subcommand, "--version"])).is_some() {
        return Ok(());
    }
    rustup(workspace, steps, &["component", "add", component])
}

fn rustup(workspace: &Workspace, steps: &Steps, arguments: &[&str]) -> Result<()> {
    let shown = arguments.join(" ");
    if first_line(Command::new("rustup").arg("--version")).is_none() {
        bail!(
            "Rust's {} {} is missing and so is rustup, which would add it; install rustup from \
             https://rustup.rs, or add it the way this Rust was installed, and run again",
            arguments[0],
            arguments[2]
        );
    }
    steps.print_line(&format!("Installing a Rust component: rustup {shown}"));
    steps.run(&INSTALL, workspace.program("rustup").args(arguments))
}

/// Returns a PATH with sufficiently new `node` and `npm`.
pub fn node(workspace: &Workspace, steps: &Steps) -> Result<OsString> {
    let _installing = one_at_a_time();
    let path = env::var_os("PATH").unwrap_or_default();
    if node_major(&path).is_none() {
        debian_packages(
            workspace,
            steps,
            "Node.js, which runs the browser tests,",
            &["nodejs"],
        )?;
    }
    if first_line(Command::new("npm").arg("--version")).is_none() {
        debian_packages(
            workspace,
            steps,
            "npm, which installs the packages of the browser tests,",
            &["npm"],
        )?;
    }
    if node_major(&path).is_some_and(|major| major >= OLDEST_NODE) {
        return Ok(path);
    }

    // Debian 12 has Node.js 18. A newer one is installed with npm into the build folder.
    let folder = workspace.target.join("node");
    let folders = [folder.join("node_modules/node/bin")];
    let own = env::join_paths(folders.into_iter().chain(env::split_paths(&path)))
        .context("the build folder's path cannot be part of PATH; move the repository")?;
    if node_major(&own).is_none_or(|major| major < OLDEST_NODE) {
        steps.print_line(&format!(
            "Installing {OWN_NODE} with npm into {}: this machine's Node.js is older than {OLDEST_NODE}",
            folder.display()
        ));
        let mut install = workspace.program("npm");
        install.args(["install", "--no-save", "--prefix"]);
        steps.run(
            &INSTALL,
            install.args([folder.as_os_str(), OWN_NODE.as_ref()]),
        )?;
    }
    if node_major(&own).is_none_or(|major| major < OLDEST_NODE) {
        bail!("Node.js is older than {OLDEST_NODE}; install a newer one and run again");
    }
    Ok(own)
}

/// Installs exactly the packages in package-lock.json and returns the PATH for them. npm writes its record last, so a
/// record newer than the lock file means a complete folder.
pub fn node_packages(workspace: &Workspace, steps: &Steps) -> Result<OsString> {
    let path = node(workspace, steps)?;
    let _installing = one_at_a_time();
    let changed = |path: &str| workspace.root.join(path).metadata()?.modified();
    let lock = changed("package-lock.json").context("cannot read package-lock.json")?;
    if changed("node_modules/.package-lock.json").is_ok_and(|record| record >= lock) {
        return Ok(path);
    }
    let mut command = workspace.program("npm");
    let npm = Step {
        name: "npm",
        purpose: "the packages in package-lock.json",
        usual_s: 10,
    };
    steps.run(&npm, command.arg("ci").env("PATH", &path))?;
    Ok(path)
}

fn node_major(path: &OsStr) -> Option<u32> {
    let version = first_line(Command::new("node").arg("--version").env("PATH", path))?;
    let major = version.trim_start_matches('v').split('.').next()?;
    major.parse().ok()
}

/// Finds a Chromium-based browser, or installs one.
pub fn browser(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let _installing = one_at_a_time();
    if let Some(named) = named_browser(BROWSER_VARIABLE)? {
        return Ok(named);
    }
    if let Some(found) = on_path(&BROWSERS) {
        return Ok(found);
    }
    let wanted = "A Chromium-based browser, which runs the browser tests,";
    // Not every release of Debian has the headless shell.
    let shell = debian_packages(workspace, steps, wanted, &["chromium-headless-shell"]);
    if shell.is_err() {
        debian_packages(workspace, steps, wanted, &["chromium"])?;
    }
    on_path(&BROWSERS).with_context(|| not_found(BROWSER_VARIABLE))
}

/// Finds Firefox, or installs Debian's.
pub fn firefox(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let _installing = one_at_a_time();
    if let Some(named) = named_browser(FIREFOX_VARIABLE)? {
        return Ok(named);
    }
    if let Some(found) = on_path(&FIREFOXES) {
        return Ok(found);
    }
    let wanted = "Firefox, which runs the page's main path,";
    debian_packages(workspace, steps, wanted, &["firefox-esr"])?;
    on_path(&FIREFOXES).with_context(|| not_found(FIREFOX_VARIABLE))
}

/// Finds WebKitGTK's MiniBrowser, or installs it, together with WebKit's driver and a display without a screen, which
/// are found on PATH.
pub fn webkit(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let _installing = one_at_a_time();
    if on_path(&["Xvfb"]).is_none() {
        let wanted = "Xvfb, a display without a screen for WebKit,";
        debian_packages(workspace, steps, wanted, &["xvfb"])?;
    }
    if on_path(&["WebKitWebDriver"]).is_none() {
        let wanted = "WebKit's driver, which runs the page's main path,";
        let [until, since] = WEBKIT_DRIVERS;
        if debian_packages(workspace, steps, wanted, &[until]).is_err() {
            debian_packages(workspace, steps, wanted, &[since])?;
        }
    }
    if let Some(named) = named_browser(WEBKIT_VARIABLE)? {
        return Ok(named);
    }
    mini_browser().with_context(|| not_found(WEBKIT_VARIABLE))
}

/// The MiniBrowser that is installed together with the library, such as
/// `/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser`.
fn mini_browser() -> Option<PathBuf> {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_webkit = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("webkit")
    };
    let libraries = [folders(Path::new("/usr/lib")), vec!["/usr/libexec".into()]];
    let versions = libraries
        .iter()
        .flatten()
        .flat_map(|folder| folders(folder));
    versions
        .filter(is_webkit)
        .map(|folder| folder.join("MiniBrowser"))
        .find(|candidate| candidate.is_file())
}

/// The browser that an environment variable names.
fn named_browser(variable: &str) -> Result<Option<PathBuf>> {
    let Some(named) = env::var_os(variable).map(PathBuf::from) else {
        return Ok(None);
    };
    if !named.is_file() {
        bail!(
            "{variable} names {}, which is not a file; set it to the browser's program or unset it",
            named.display()
        );
    }
    Ok(Some(named))
}

fn not_found(variable: &str) -> String {
    format!("a browser was installed but was not found; set {variable} to its path")
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    names.iter().find_map(|name| {
        env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.is_file())
    })
}

/// Installs a graphics adapter for the WebGPU tests, a software adapter if needed. Without one these tests report that
/// they were skipped, so a failed install affects nothing else.
pub fn graphics_adapter(workspace: &Workspace, steps: &Steps) {
    let _installing = one_at_a_time();
    let is_linux = env::consts::OS == "linux";
    if !is_linux
        || VULKAN_DRIVERS
            .iter()
            .any(|folder| Path::new(folder).is_dir())
    {
        return;
    }
    let packages = ["libvulkan1", "mesa-vulkan-drivers"];
    let wanted = "A Vulkan driver, which the WebGPU tests need,";
    if let Err(error) = debian_packages(workspace, steps, wanted, &packages) {
        steps.print_line(&format!("The WebGPU tests will be skipped: {error:#}"));
    }
}

/// `wanted` is what is missing and its purpose, the latter between commas.
fn debian_packages(
    workspace: &Workspace,
    steps: &Steps,
    wanted: &str,
    packages: &[&str],
) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!(
        "{wanted} is missing; install it (on Debian: `apt-get install {list}`) and run again"
    );
    if first_line(Command::new("apt-get").arg("--version")).is_none() {
        bail!("{by_hand}");
    }
    let is_root = first_line(Command::new("id").arg("-u")).as_deref() == Some("0");
    if !is_root && first_line(Command::new("sudo").arg("--version")).is_none() {
        bail!("{by_hand} (it cannot be installed automatically without root or sudo)");
    }
    if !is_root && !may_use_sudo(workspace, wanted, &list)? {
        bail!("{by_hand}");
    }
    steps.print_line(&format!(
        "{wanted} is missing; installing with apt-get: {list}"
    ));
    apt_get(workspace, steps, is_root, &["update", "--quiet"]).context(by_hand.clone())?;
    let mut install = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt_get(workspace, steps, is_root, &install).context(by_hand)
}

fn may_use_sudo(workspace: &Workspace, wanted: &str, list: &str) -> Result<bool> {
    if workspace.assume_yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        // There is no terminal to ask on; `--yes` gives permission in advance.
        return Ok(false);
    }
    print!("{wanted} is missing. Install it with `sudo apt-get install {list}`? [y/N] ");
    io::stdout().flush().context("cannot ask")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn apt_get(workspace: &Workspace, steps: &Steps, is_root: bool, arguments: &[&str]) -> Result<()> {
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    // A desktop's own updates may hold dpkg's lock.
    words.extend(["-o", "DPkg::Lock::Timeout=300"]);
    words.extend(arguments);
    if !is_root {
        // The password is asked for here, because the command itself runs without a terminal.
        let mut ask = workspace.program("sudo");
        let status = ask
            .arg("--validate")
            .status()
            .context("cannot start sudo")?;
        if !status.success() {
            bail!("sudo was denied");
        }
        words.insert(0, "sudo");
    }
    steps.run(&INSTALL, workspace.program(words[0]).args(&words[1..]))
}
