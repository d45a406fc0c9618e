//! Commands of the developer tools that need heavy libraries, as a program run by `cargo xtask`: the local server and
//! the JavaScript bindings of a wasm module. What is built or served is decided by the caller.
//!
//! ```text
//! xtask-web serve ROOT HOST PORT [--no-isolation] [--reload] [--watch DIR]... [--watch-files DIR] PATH=DIR...
//! xtask-web bindings MODULE.wasm NAME OUT
//! ```

mod bindings;
mod names;
mod server;
mod watch;

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lexopt::{Arg, ValueExt};

use crate::server::{Isolation, Server, Site, listen};
use crate::watch::Watched;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Arg::Value(command)) if command == "serve" => serve(arguments),
        Some(Arg::Value(command)) if command == "bindings" => {
            let [module, name, out] = [(); 3].map(|()| arguments.value());
            bindings::make(
                &PathBuf::from(module?),
                &name?.string()?,
                &PathBuf::from(out?),
            )
        }
        _ => bail!("this program is run by `cargo xtask`; its commands are serve and bindings"),
    }
}

// Serves until standard input ends; each byte there makes pages reload. Prints the URL, then a line for each edited
// file and for each module loaded by a page.
fn serve(mut arguments: lexopt::Parser) -> Result<()> {
    let root = PathBuf::from(arguments.value()?);
    let host = arguments.value()?.string()?;
    let port = arguments.value()?.parse()?;
    let (mut isolation, mut reloads) = (Isolation::ByHeaders, false);
    let (mut watched, mut folders) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("no-isolation") => isolation = Isolation::LeftToThePage,
            Arg::Long("reload") => reloads = true,
            Arg::Long("watch") => watched.push(Watched::Tree(arguments.value()?.into())),
            Arg::Long("watch-files") => watched.push(Watched::Files(arguments.value()?.into())),
            Arg::Value(folder) => folders.push(served_folder(folder)?),
            other => return Err(other.unexpected().into()),
        }
    }

    // Different from the version of any earlier server, so that a page loaded from one reloads.
    let start = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let (version, seen) = tokio::sync::watch::channel(start);
    let listener = listen(&host, port)?;
    let site = Site {
        root,
        folders,
        isolation,
        version: reloads.then_some(seen),
    };
    let server = Server::start(listener, site)?;
    println!("{}", server.url());
    let _watcher = watch::start(&watched)?;
    std::thread::spawn(move || {
        // End of input means that the command that started this program has ended.
        while std::io::stdin().read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            version.send_modify(|version| *version += 1);
        }
        std::process::exit(0);
    });
    server.wait()
}

fn served_folder(argument: OsString) -> Result<(String, PathBuf)> {
    let text = argument.into_string().ok();
    let (path, folder) = text
        .as_deref()
        .and_then(|text| text.split_once('='))
        .context("a served folder has the form PATH=DIR")?;
    Ok((path.to_owned(), folder.into()))
}
