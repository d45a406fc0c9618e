//! `cargo xtask serve`: serves the page locally as soon as one build exists, makes the other builds in the background,
//! and reloads the page after every edit.
//!
//! The server is the program `xtask-web`; this file decides what it serves and when pages reload.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::builds::{self, BUILDS, Build, Effort, GRAMMAR, PACKAGED};
use crate::package::{self, Made};
use crate::steps::{Steps, in_words};
use crate::workspace::Workspace;

/// Edits within this time are handled together.
const BURST: Duration = Duration::from_millis(100);

/// The options of `serve`.
pub struct Options {
    pub host: String,
    pub port: u16,
    pub checkpoints: Vec<PathBuf>,
    pub isolation: Isolation,
    /// The build to make first.
    pub first: Build,
}

/// Whether responses have the headers that allow shared memory between threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ByHeaders,
    /// As on a host that cannot set headers: isolation is left to the page's service worker.
    LeftToThePage,
}

/// The folders of the page, by URL path.
pub fn page_folders(workspace: &Workspace) -> Vec<(String, PathBuf)> {
    ["www", "pkg"]
        .map(|name| (format!("/{name}"), workspace.root.join(name)))
        .into()
}

/// Builds what is missing and serves the page until the process ends.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let checkpoints = options.checkpoints.iter();
    let checkpoints = checkpoints
        .map(|folder| named_checkpoint(folder))
        .collect::<Result<Vec<_>>>()?;
    let mut folders = page_folders(workspace);
    for (name, folder) in &checkpoints {
        let path = format!("/checkpoints/{name}");
        if folders.iter().any(|(taken, _)| *taken == path) {
            bail!("two checkpoint folders are named {name}; rename one of them");
        }
        folders.push((path, folder.clone()));
    }

    let start = Instant::now();
    let steps = Steps::new(&workspace.target)?;
    if !builds::is_made(workspace, options.first) {
        let about_s = builds::first_build_s(&steps, options.first);
        steps.print_line(&format!(
            "Compiling the engine and the server: about {} the first time, seconds afterwards.",
            in_words(about_s)
        ));
    }
    let site = Site {
        workspace,
        steps: &steps,
        packaged: Mutex::default(),
    };
    site.make(&[options.first], 0)?;

    let mut server = Server::start(
        workspace,
        &options.host,
        options.port,
        &folders,
        options.isolation,
        Watch::Edits,
    )?;
    if options.port != 0 && !server.url.ends_with(&format!(":{}/", options.port)) {
        steps.print_line(&format!(
            "Port {} is in use; another one was chosen.",
            options.port
        ));
    }
    for (name, _) in &checkpoints {
        steps.print_line(&format!("Checkpoint: {}checkpoints/{name}/", server.url));
    }
    steps.print_line(&format!(
        "Zamba2 is served at {} after {} (Ctrl-C stops the server; edits rebuild and reload the page)",
        server.url,
        in_words(start.elapsed().as_secs_f32())
    ));
    thread::scope(|scope| {
        scope.spawn(|| site.make_others(options.first));
        site.follow_edits(&mut server, options.first)
    })
}

/// The package being served, and its builds.
struct Site<'a> {
    workspace: &'a Workspace,
    steps: &'a Steps,
    packaged: Mutex<Packaged>,
}

#[derive(Default)]
struct Packaged {
    made: Made,
    /// Counts edits of the engine; builds of earlier editions are stale.
    edition: u32,
}

impl Site<'_> {
    fn packaged(&self) -> MutexGuard<'_, Packaged> {
        self.packaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes builds of the engine as of `edition`, and serves each as soon as it is ready.
    fn make(&self, builds: &[Build], edition: u32) -> Result<()> {
        let mut keep = |build: Build, bindings: PathBuf| {
            let mut packaged = self.packaged();
            if packaged.edition != edition && build != GRAMMAR {
                return Ok(());
            }
            packaged.made.retain(|(other, _)| *other != build);
            packaged.made.push((build, bindings));
            package::put_in_place(self.workspace, &packaged.made)
        };
        package::make_each(self.workspace, self.steps, builds, Effort::Quick, &mut keep)
    }

    fn make_others(&self, first: Build) {
        let start = Instant::now();
        let others = PACKAGED.into_iter().filter(|other| *other != first);
        let others: Vec<Build> = others.collect();
        match self.make(&others, 0) {
            Ok(()) => self.steps.print_line(&format!(
                "All {} builds are ready after another {}.",
                PACKAGED.len(),
                in_words(start.elapsed().as_secs_f32())
            )),
            Err(error) => self
                .steps
                .print_line(&format!("The page works, but a build failed: {error:#}")),
        }
    }

    fn follow_edits(&self, server: &mut Server, first: Build) -> Result<()> {
        let mut in_use = first;
        loop {
            let events = server.next_events()?;
            for event in &events {
                if let Event::Loaded(build) = event {
                    in_use = *build;
                }
            }
            let edited = events.iter().filter_map(|event| match event {
                Event::Edited(path) => {
                    Some(Part::of(path.strip_prefix(&self.workspace.root).ok()?))
                }
                Event::Loaded(_) => None,
            });
            let result = match edited.max() {
                None | Some(Part::Nothing) => continue,
                Some(Part::Page) => Ok(()),
                Some(Part::Package) => package::put_in_place(self.workspace, &self.packaged().made),
                Some(Part::Engine) => self.make_again(in_use),
            };
            match result {
                Ok(()) => server.reload()?,
                Err(error) => self
                    .steps
                    .print_line(&format!("{error:#}\nThe page is unchanged.")),
            }
        }
    }

    // The engine's other builds are of the source before the edit, so they are removed from the package.
    fn make_again(&self, in_use: Build) -> Result<()> {
        let edition = {
            let mut packaged = self.packaged();
            packaged.edition += 1;
            packaged.edition
        };
        let start = Instant::now();
        let mut keep = |build: Build, bindings: PathBuf| {
            let mut packaged = self.packaged();
            packaged.made.retain(|(other, _)| *other == GRAMMAR);
            packaged.made.push((build, bindings));
            package::put_in_place(self.workspace, &packaged.made)
        };
        let steps = self.steps;
        package::make_each(self.workspace, steps, &[in_use], Effort::Quick, &mut keep)?;
        steps.print_line(&format!(
            "Edit {edition}: {} was rebuilt in {}, and the page reloads.",
            in_use.name,
            in_words(start.elapsed().as_secs_f32())
        ));
        Ok(())
    }
}

/// What an edited file belongs to, ordered by the work it causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Nothing,
    /// Served directly.
    Page,
    /// Copied into the package.
    Package,
    /// Compiled.
    Engine,
}

impl Part {
    /// `path` is relative to the root of the repository.
    fn of(path: &Path) -> Part {
        // Rust contains the sentences of errors and reports from www/words.
        let is_engine = ["src", ".cargo", "www/words"]
            .iter()
            .any(|folder| path.starts_with(folder));
        if is_engine || path == Path::new("Cargo.toml") || path == Path::new("Cargo.lock") {
            Part::Engine
        } else if path.starts_with("www/engine") {
            Part::Package
        } else if path.starts_with("www") || is_top_file(path) {
            Part::Page
        } else {
            Part::Nothing
        }
    }
}

fn is_top_file(path: &Path) -> bool {
    path == Path::new("index.html") || path == Path::new("isolation.js")
}

/// Events reported by the server.
enum Event {
    Edited(PathBuf),
    /// A page loaded this build.
    Loaded(Build),
}

/// Whether a server reports edits and reloads its pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    Nothing,
    Edits,
}

/// A running `xtask-web serve`; dropping it ends the process.
pub struct Server {
    child: Child,
    events: Receiver<Event>,
    /// The page's URL, with a trailing slash.
    pub url: String,
}

impl Server {
    /// Starts a server for the page and for `folders`, by URL path.
    pub fn start(
        workspace: &Workspace,
        host: &str,
        port: u16,
        folders: &[(String, PathBuf)],
        isolation: Isolation,
        watch: Watch,
    ) -> Result<Server> {
        let root = &workspace.root;
        let mut command: Command = workspace.program(builds::tools_program(workspace));
        command
            .arg("serve")
            .arg(root)
            .args([host, &port.to_string()]);
        if isolation == Isolation::LeftToThePage {
            command.arg("--no-isolation");
        }
        if watch == Watch::Edits {
            command.arg("--reload");
            command.arg("--watch-files").arg(root);
            for folder in ["src", "www", ".cargo"] {
                command.arg("--watch").arg(root.join(folder));
            }
        }
        for (path, folder) in folders {
            let mut argument = OsString::from(format!("{path}="));
            argument.push(folder);
            command.arg(argument);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start the server")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(output).lines();
        // The server has printed the error.
        let url = lines.next().context("the server did not start")??;
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            // If a line cannot be read or nobody receives it, the server or this command has ended.
            while let Some(Ok(line)) = lines.next() {
                if let Some(event) = Event::of(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        Ok(Server { child, events, url })
    }

    /// Waits for an event, and for those that follow closely.
    fn next_events(&self) -> Result<Vec<Event>> {
        let mut events = vec![self.events.recv().context("the server ended")?];
        loop {
            match self.events.recv_timeout(BURST) {
                Ok(event) => events.push(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(events);
                }
            }
        }
    }

    /// Reloads every page loaded from this server.
    fn reload(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut();
        let input = input.context("the server has no input")?;
        input.write_all(b"\n").context("the server ended")
    }
}

impl Event {
    fn of(line: &str) -> Option<Event> {
        let (kind, what) = line.split_once(' ')?;
        match kind {
            "edited" => Some(Event::Edited(what.into())),
            "loaded" => {
                let build = BUILDS.into_iter().find(|build| build.name == what)?;
                Some(Event::Loaded(build))
            }
            _ => None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has already ended does not matter.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn named_checkpoint(folder: &Path) -> Result<(String, PathBuf)> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot open the checkpoint folder {}", folder.display()))?;
    if !folder.join("config.json").is_file() {
        bail!(
            "{} has no config.json; --checkpoint takes the folder that holds it",
            folder.display()
        );
    }
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name to serve it under", folder.display()))?;
    // Braces are router syntax, the others URL syntax, and names with a leading dot are never served.
    if name.starts_with('.') || name.contains(|c: char| "{}?#%*".contains(c) || c.is_whitespace()) {
        bail!("the checkpoint folder name `{name}` does not suit a URL; rename the folder");
    }
    Ok((name.to_owned(), folder))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Event, Part};

    #[test]
    fn an_edit_causes_only_the_work_its_file_needs() {
        for (path, part) in [
            ("src/model/forward.rs", Part::Engine),
            (
                "src/device/webgpu/shaders/elementwise/add.wgsl",
                Part::Engine,
            ),
            ("Cargo.toml", Part::Engine),
            (".cargo/config.toml", Part::Engine),
            ("www/engine/worker.js", Part::Package),
            ("www/words/en.json", Part::Engine),
            ("www/app.css", Part::Page),
            ("index.html", Part::Page),
            ("pkg/zamba2.js", Part::Nothing),
            ("README.md", Part::Nothing),
        ] {
            assert_eq!(Part::of(Path::new(path)), part, "{path}");
        }
        assert!(Part::Engine > Part::Package && Part::Package > Part::Page);
    }

    #[test]
    fn a_line_from_the_server_is_an_edit_or_a_loaded_build() {
        assert!(
            matches!(Event::of("edited /a b.rs"), Some(Event::Edited(path)) if path == Path::new("/a b.rs"))
        );
        assert!(
            matches!(Event::of("loaded simd128"), Some(Event::Loaded(build)) if build.name == "simd128")
        );
        assert!(Event::of("loaded nothing").is_none());
        assert!(Event::of("hello").is_none());
    }
}
