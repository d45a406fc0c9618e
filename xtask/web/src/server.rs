//! The local web server: the page, the package, and checkpoints from this machine's disk.
//!
//! It serves only the given folders, to one developer or one test run. It is not a production server: no TLS, no
//! compression, no log.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::{RawQuery, Request};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower_http::services::{ServeDir, ServeFile};

// Few enough that a wrong --host fails soon, and enough for all servers of a developer.
const PORTS_TO_TRY: u16 = 20;

// Checkpoints are read in pieces of this size, large enough that the disk is the bottleneck.
const PIECE: usize = 1 << 20;

/// Whether responses have the headers that allow shared memory between threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ByHeaders,
    /// As on a host that cannot set headers: isolation is left to the page's service worker.
    LeftToThePage,
}

// The page, and its service worker, which must be beside it; the only files outside of folders.
const TOP_FILES: [(&str, &str); 2] = [("/", "index.html"), ("/isolation.js", "isolation.js")];

/// Listens on `port`, or on the next free port after it.
pub fn listen(host: &str, port: u16) -> Result<TcpListener> {
    for candidate in port..=port.saturating_add(PORTS_TO_TRY) {
        match TcpListener::bind((host, candidate)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {host}:{candidate}"));
            }
        }
    }
    bail!(
        "port {port} and the {PORTS_TO_TRY} after it are all in use on {host}; choose one with --port"
    )
}

/// What a server serves.
pub struct Site {
    /// The folder of the page and its service worker.
    pub root: PathBuf,
    /// Folders by URL path.
    pub folders: Vec<(String, PathBuf)>,
    pub isolation: Isolation,
    /// The version of the served files, if pages reload when it changes.
    pub version: Option<watch::Receiver<u64>>,
}

impl Site {
    fn router(self) -> Router {
        let mut site = Router::new();
        for (path, name) in TOP_FILES {
            site = site.route_service(path, ServeFile::new(self.root.join(name)));
        }
        if let Some(version) = self.version {
            site = reloading(&self.root, version);
        }
        for (path, folder) in &self.folders {
            let files = ServeDir::new(folder)
                .append_index_html_on_directories(false)
                .with_buf_chunk_size(PIECE)
                .not_found_service(tower_fallback());
            site = site.nest_service(path, files);
        }
        let site = site
            .fallback(not_found)
            .layer(middleware::from_fn(refuse_hidden))
            .layer(middleware::from_fn(report_modules))
            .layer(middleware::map_response(add_headers));
        match self.isolation {
            Isolation::ByHeaders => site.layer(middleware::from_fn(isolate)),
            Isolation::LeftToThePage => site,
        }
    }
}

// The top files with a script that reloads the page. The page's CSP forbids inline scripts, so it is a file.
fn reloading(root: &Path, version: watch::Receiver<u64>) -> Router {
    let [(page_path, page_name), (worker_path, worker_name)] = TOP_FILES;
    let page = root.join(page_name);
    let index = move || async move {
        let text = fs::read_to_string(page).unwrap_or_default();
        let script = r#"<script type="module" src="dev/reload.js"></script></head>"#;
        Html(text.replacen("</head>", script, 1))
    };
    let now = version.clone();
    let script = move || async move {
        let text = RELOAD_SCRIPT.replace("VERSION", &now.borrow().to_string());
        ([(CONTENT_TYPE, "text/javascript")], text)
    };
    // Responds once the version differs from the one the page was loaded with.
    let change = move |RawQuery(known): RawQuery| async move {
        let known = known.and_then(|known| known.parse().ok());
        let mut version = version;
        // An error means that the server is ending; the page then asks the next server.
        version
            .wait_for(|version| Some(*version) != known)
            .await
            .ok();
        "changed"
    };
    Router::new()
        .route(page_path, get(index))
        .route_service(worker_path, ServeFile::new(root.join(worker_name)))
        .route("/dev/reload.js", get(script))
        .route("/dev/change", get(change))
}

// A server that stopped may come back with another version.
const RELOAD_SCRIPT: &str = r#"// Reloads the page when what the local server serves has changed.
for (;;) {
  try {
    if ((await fetch("/dev/change?VERSION")).ok) break;
  } catch {
    // The server is not running.
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
location.reload();
"#;

fn tower_fallback() -> Router {
    Router::new().fallback(not_found)
}

async fn not_found() -> Response {
    let text =
        "Not found. This server has /, /isolation.js, /www/, /pkg/ and the folders given to it.\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

// Folders may contain .git or .env beside the weights. A `..` segment also starts with a dot.
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

// Reported so that an edit rebuilds the build that the page uses.
async fn report_modules(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some(build) = path
        .strip_prefix("/pkg/")
        .and_then(|path| path.strip_suffix(MODULE))
    {
        println!("loaded {build}");
    }
    next.run(request).await
}

const MODULE: &str = "/zamba2_wasm_bg.wasm";

async fn add_headers(mut response: Response) -> Response {
    let status = response.status();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(HeaderName::from_static("x-content-type-options"), "nosniff");
    // Browsers may cache a file but must revalidate it every time.
    set(CACHE_CONTROL, "no-cache");
    set(ACCEPT_RANGES, "bytes");
    if status == StatusCode::METHOD_NOT_ALLOWED {
        set(CONTENT_TYPE, "text/plain; charset=utf-8");
        *response.body_mut() = "Only GET and HEAD are supported.\n".into();
    }
    response
}

// An isolated page gets no handle to windows it opens, and this page needs one.
const NOT_ISOLATED: &str = "/www/perfetto.html";

// These three headers make the page cross-origin isolated: threads need SharedArrayBuffer.
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

/// A server running on its own threads; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    end: mpsc::Receiver<std::io::Result<()>>,
    _runtime: Runtime,
}

impl Server {
    /// Starts serving `site` on `listener`.
    pub fn start(listener: TcpListener, site: Site) -> Result<Self> {
        let address = listener.local_addr().context("the socket has no address")?;
        listener
            .set_nonblocking(true)
            .context("the socket cannot be made non-blocking")?;
        let runtime = Runtime::new().context("cannot start the server's threads")?;
        let (sender, end) = mpsc::channel();
        let router = site.router();
        runtime.spawn(async move {
            let result = accept(listener, router).await;
            // If the server was dropped, nobody waits for the result.
            sender.send(result).ok();
        });
        Ok(Self {
            address,
            end,
            _runtime: runtime,
        })
    }

    /// The page's URL, with a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Waits until the server stops, which only an error causes.
    pub fn wait(self) -> Result<()> {
        self.end
            .recv()
            .context("the server's thread has ended")?
            .context("the server stopped")
    }
}

async fn accept(listener: TcpListener, site: Router) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // The head and body of a range response are two writes; without this the second waits for the acknowledgement
        // of the first. An error only causes that delay.
        stream.set_nodelay(true).ok();
    });
    axum::serve(listener, site).await
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
