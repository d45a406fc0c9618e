//! The local web server: the page, the package, and checkpoints from this machine's disk.
//!
//! It serves files that it is told of and nothing else, to one developer or one test run. It is no
//! production server: no TLS, no compression, no log.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::runtime::Runtime;
use tower_http::services::{ServeDir, ServeFile};

use crate::wasm;
use crate::workspace::Workspace;

// Few enough that a wrong --host fails soon, enough for every server a developer runs.
const PORTS_TO_TRY: u16 = 20;

// Checkpoints are read in pieces of this size: large enough that the disk, not the loop, is the limit.
const PIECE: usize = 1 << 20;

/// Builds the package and serves the page until the process is stopped.
pub fn build_and_serve(
    workspace: &Workspace,
    host: &str,
    port: u16,
    checkpoints: &[PathBuf],
    isolation: Isolation,
) -> Result<()> {
    let checkpoints = checkpoints
        .iter()
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
    wasm::build(workspace)?;

    let listener = listen(host, port)?;
    let server = Server::start(listener, site(&workspace.root, &folders, isolation))?;
    for (name, _) in &checkpoints {
        println!("Checkpoint: {}checkpoints/{name}/", server.url());
    }
    println!("Zamba2 is at {} (Ctrl-C stops it)", server.url());
    server.wait()
}

/// Whether answers carry the headers that let the page share memory between threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ByHeaders,
    /// As on a host where headers can't be set: it is left to the page's service worker.
    LeftToThePage,
}

// The page, and its service worker, which must lie beside it; the only files outside the folders.
const TOP_FILES: [(&str, &str); 2] = [("/", "index.html"), ("/isolation.js", "isolation.js")];

/// The folders that the page needs, by the path they are served under.
pub fn page_folders(workspace: &Workspace) -> Vec<(String, PathBuf)> {
    ["www", "pkg"]
        .map(|name| (format!("/{name}"), workspace.root.join(name)))
        .into()
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
    // The router reads braces as a pattern, a URL reads the others as syntax, and a leading dot is
    // never served.
    if name.starts_with('.') || name.contains(|c: char| "{}?#%*".contains(c) || c.is_whitespace()) {
        bail!("the checkpoint folder name `{name}` does not suit a URL; rename the folder");
    }
    Ok((name.to_owned(), folder))
}

/// Listens on `port`, or on the next free port after it.
pub fn listen(host: &str, port: u16) -> Result<TcpListener> {
    for candidate in port..=port.saturating_add(PORTS_TO_TRY) {
        match TcpListener::bind((host, candidate)) {
            Ok(listener) => {
                if candidate != port {
                    println!("Port {port} is taken; using {candidate} instead.");
                }
                return Ok(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {host}:{candidate}"));
            }
        }
    }
    bail!(
        "port {port} and the {PORTS_TO_TRY} after it are all taken on {host}; name one with --port"
    )
}

/// The whole site: the page at `root` and some folders, each under its own path.
pub fn site(root: &Path, folders: &[(String, PathBuf)], isolation: Isolation) -> Router {
    let mut site = Router::new();
    for (path, name) in TOP_FILES {
        site = site.route_service(path, ServeFile::new(root.join(name)));
    }
    for (path, folder) in folders {
        let files = ServeDir::new(folder)
            .append_index_html_on_directories(false)
            .with_buf_chunk_size(PIECE)
            .not_found_service(tower_fallback());
        site = site.nest_service(path, files);
    }
    let site = site
        .fallback(not_found)
        .layer(middleware::from_fn(refuse_hidden))
        .layer(middleware::map_response(add_headers));
    match isolation {
        Isolation::ByHeaders => site.layer(middleware::from_fn(isolate)),
        Isolation::LeftToThePage => site,
    }
}

fn tower_fallback() -> Router {
    Router::new().fallback(not_found)
}

async fn not_found() -> Response {
    let text =
        "Not found. This server has /, /isolation.js, /www/, /pkg/ and the folders given to it.\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

// Folders may hold .git or .env beside the weights. A `..` segment starts with a dot as well.
async fn refuse_hidden(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_ascii_lowercase();
    let plain = path
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    if plain.split(['/', '\\']).any(|part| part.starts_with('.')) {
        return not_found().await;
    }
    next.run(request).await
}

async fn add_headers(mut response: Response) -> Response {
    let status = response.status();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(HeaderName::from_static("x-content-type-options"), "nosniff");
    // The browser may keep a file but asks each time whether it changed.
    set(CACHE_CONTROL, "no-cache");
    set(ACCEPT_RANGES, "bytes");
    if status == StatusCode::METHOD_NOT_ALLOWED {
        set(CONTENT_TYPE, "text/plain; charset=utf-8");
        *response.body_mut() = "Only GET and HEAD are served here.\n".into();
    }
    response
}

// An isolated page keeps no handle on windows that it opens, and this one lives from that.
const NOT_ISOLATED: &str = "/www/perfetto.html";

// These three make the page cross-origin isolated: threads need SharedArrayBuffer.
async fn isolate(request: Request, next: Next) -> Response {
    let isolated = request.uri().path() != NOT_ISOLATED;
    let mut response = next.run(request).await;
    if !isolated {
        return response;
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        let headers = response.headers_mut();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// A server at work on its own threads; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    end: mpsc::Receiver<std::io::Result<()>>,
    _runtime: Runtime,
}

impl Server {
    /// Starts serving `site` on `listener`.
    pub fn start(listener: TcpListener, site: Router) -> Result<Self> {
        let address = listener.local_addr().context("the socket has no address")?;
        listener
            .set_nonblocking(true)
            .context("the socket cannot be made non-blocking")?;
        let runtime = Runtime::new().context("cannot start the server's threads")?;
        let (sender, end) = mpsc::channel();
        runtime.spawn(async move {
            let result = accept(listener, site).await;
            // Nobody listens once the server is dropped, and then the result is of no use.
            sender.send(result).ok();
        });
        Ok(Self {
            address,
            end,
            _runtime: runtime,
        })
    }

    /// The address of the page, with a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Waits for the server's end, which only a fault brings.
    fn wait(self) -> Result<()> {
        self.end
            .recv()
            .context("the server's thread is gone")?
            .context("the server stopped")
    }
}

async fn accept(listener: TcpListener, site: Router) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // A range's head and body are two writes; without this the second waits for the first's
        // acknowledgement. A refusal only costs that delay.
        stream.set_nodelay(true).ok();
    });
    axum::serve(listener, site).await
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
