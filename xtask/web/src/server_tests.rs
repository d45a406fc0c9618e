//! Tests of the local server over a loopback socket.
//!
//! Requests are written by hand, because an HTTP client would normalise the paths under test.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use tokio::sync::watch;

use super::{Isolation, Server, Site, listen};

/// A temporary folder for one test, removed with it, and a server for it.
struct Fixture {
    folder: PathBuf,
    server: Server,
}

impl Fixture {
    fn new(name: &str) -> Self {
        Self::with(name, Isolation::ByHeaders)
    }

    fn with(name: &str, isolation: Isolation) -> Self {
        Self::serving(name, isolation, None)
    }

    fn serving(name: &str, isolation: Isolation, version: Option<watch::Receiver<u64>>) -> Self {
        let folder = env::temp_dir().join(format!("zamba2-serve-{name}-{}", process::id()));
        for (path, text) in [
            ("index.html", "<!doctype html><head></head>"),
            ("isolation.js", "export {};"),
            ("Cargo.toml", "secret"),
            ("www/app.js", "export {};"),
            ("www/app.css", "a{}"),
            ("www/icon.svg", "<svg/>"),
            ("www/perfetto.html", "<!doctype html>"),
            ("www/icon.png", "png"),
            ("www/a b.json", "{}"),
            ("www/.hidden", "secret"),
            ("pkg/zamba2.wasm", "\0asm"),
            ("checkpoints/tiny/model.safetensors", "0123456789"),
            ("checkpoints/tiny/.git/config", "secret"),
        ] {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let folders = ["/www", "/pkg", "/checkpoints/tiny"]
            .map(|path| (path.to_owned(), folder.join(&path[1..])))
            .into();
        let site = Site {
            root: folder.clone(),
            folders,
            isolation,
            version,
        };
        let server = Server::start(listen("127.0.0.1", 0).unwrap(), site).unwrap();
        Self { folder, server }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        let end = "Host: localhost\r\nConnection: close\r\n\r\n";
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}{end}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn range(&self, range: &str) -> Answer {
        let headers = format!("Range: bytes={range}\r\n");
        self.ask("GET", "/checkpoints/tiny/model.safetensors", &headers)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A folder left in the temporary directory is harmless and must not hide a failed assertion.
        fs::remove_dir_all(&self.folder).ok();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

#[test]
fn each_kind_of_file_has_its_media_type() {
    let fixture = Fixture::new("media");
    for (path, kind) in [
        ("/", "text/html"),
        ("/isolation.js", "text/javascript"),
        ("/www/app.js", "text/javascript"),
        ("/www/app.css", "text/css"),
        ("/www/icon.svg", "image/svg+xml"),
        ("/www/icon.png", "image/png"),
        ("/www/a%20b.json", "application/json"),
        ("/pkg/zamba2.wasm", "application/wasm"),
        (
            "/checkpoints/tiny/model.safetensors",
            "application/octet-stream",
        ),
    ] {
        let answer = fixture.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
    }
}

#[test]
fn every_response_has_isolation_headers_and_is_revalidated() {
    let fixture = Fixture::new("isolation");
    let answers = [
        fixture.get("/"),
        fixture.get("/pkg/zamba2.wasm"),
        fixture.get("/nothing"),
        fixture.get("/www/.hidden"),
        fixture.ask("POST", "/", ""),
        fixture.range("2-3"),
    ];
    for answer in answers {
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.head);
        }
    }
}

#[test]
fn the_page_that_opens_perfetto_is_not_isolated() {
    let answer = Fixture::new("perfetto").get("/www/perfetto.html");
    assert_eq!(answer.status, 200);
    for name in ["cross-origin-opener-policy", "cross-origin-embedder-policy"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
}

#[test]
fn isolation_headers_can_be_turned_off() {
    let fixture = Fixture::with("plain", Isolation::LeftToThePage);
    for path in ["/", "/isolation.js", "/www/app.js", "/nothing"] {
        let answer = fixture.get(path);
        for name in [
            "cross-origin-opener-policy",
            "cross-origin-embedder-policy",
            "cross-origin-resource-policy",
        ] {
            assert_eq!(answer.header(name), None, "{path}");
        }
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
    }
}

#[test]
fn a_range_request_returns_exactly_its_bytes() {
    let fixture = Fixture::new("range");
    for (range, content_range, body) in [
        ("2-4", "bytes 2-4/10", "234"),
        ("0-0", "bytes 0-0/10", "0"),
        ("7-", "bytes 7-9/10", "789"),
        ("-2", "bytes 8-9/10", "89"),
        ("8-99", "bytes 8-9/10", "89"),
    ] {
        let answer = fixture.range(range);
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert_eq!(answer.body, body, "{range}");
        let length = body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
    }
}

#[test]
fn a_range_outside_the_file_is_refused_with_the_files_length() {
    let fixture = Fixture::new("unsatisfiable");
    for range in ["10-", "10-12", "5-4", "-0"] {
        let answer = fixture.range(range);
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(
            answer.header("content-range"),
            Some("bytes */10"),
            "{range}"
        );
    }
}

#[test]
fn nothing_outside_the_served_folders_can_be_reached() {
    let fixture = Fixture::new("traversal");
    for path in [
        "/Cargo.toml",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/www/../Cargo.toml",
        "/www/%2e%2e/Cargo.toml",
        "/www/..%2fCargo.toml",
        "/www/%2E%2E%2FCargo.toml",
        "/www/..%5cCargo.toml",
        "/www/%252e%252e/Cargo.toml",
        "/www//../Cargo.toml",
        "/checkpoints/tiny/..%2f..%2fCargo.toml",
        "/checkpoints/",
        "/www/",
        "/www",
    ] {
        let answer = fixture.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
        assert!(!answer.body.contains("secret"), "{path}");
    }
}

#[test]
fn hidden_files_are_not_served() {
    let fixture = Fixture::new("hidden");
    for path in [
        "/www/.hidden",
        "/www/%2ehidden",
        "/checkpoints/tiny/.git/config",
        "/checkpoints/tiny/%2Egit%2Fconfig",
    ] {
        assert_eq!(fixture.get(path).status, 404, "{path}");
    }
}

#[test]
fn an_unchanged_file_is_not_sent_twice() {
    let fixture = Fixture::new("unchanged");
    let first = fixture.get("/www/app.js");
    let tag = first.header("etag").unwrap();
    let headers = format!("If-None-Match: {tag}\r\n");
    let second = fixture.ask("GET", "/www/app.js", &headers);
    assert_eq!(second.status, 304);
    assert_eq!(second.body, "");

    fs::write(fixture.folder.join("www/app.js"), "export { changed };").unwrap();
    let third = fixture.ask("GET", "/www/app.js", &headers);
    assert_eq!(third.status, 200);
    assert_eq!(third.body, "export { changed };");
}

#[test]
fn head_gives_the_length_and_no_body() {
    let fixture = Fixture::new("head");
    let answer = fixture.ask("HEAD", "/checkpoints/tiny/model.safetensors", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some("10"));
    assert_eq!(answer.body, "");
}

#[test]
fn a_missing_file_is_a_404_with_a_message() {
    let fixture = Fixture::new("missing");
    for path in [
        "/www/none.js",
        "/elsewhere",
        "/checkpoints/none/config.json",
    ] {
        let answer = fixture.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(answer.body.starts_with("Not found."), "{path}");
    }
}

#[test]
fn methods_other_than_get_and_head_are_refused() {
    let fixture = Fixture::new("method");
    for path in ["/", "/www/app.js"] {
        let answer = fixture.ask("POST", path, "");
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.body, "Only GET and HEAD are supported.\n");
    }
}

#[test]
fn a_client_that_disconnects_early_does_not_affect_others() {
    let fixture = Fixture::new("leaving");
    let large = fs::File::create(fixture.folder.join("www/large.bin")).unwrap();
    large.set_len(64 << 20).unwrap();
    for _ in 0..8 {
        let mut stream = fixture.connect();
        write!(
            stream,
            "GET /www/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        let mut first = [0; 16];
        stream.read_exact(&mut first).unwrap();
    }
    assert_eq!(fixture.get("/").status, 200);
}

#[test]
fn many_slow_clients_are_served_at_once() {
    let fixture = Fixture::new("many");
    let idle: Vec<_> = (0..32).map(|_| fixture.connect()).collect();
    assert_eq!(fixture.get("/").status, 200);
    assert_eq!(idle.len(), 32);
}

#[test]
fn if_a_port_is_in_use_the_next_free_one_is_taken() {
    let first = listen("127.0.0.1", 0).unwrap();
    let port = first.local_addr().unwrap().port();
    let second = listen("127.0.0.1", port).unwrap();
    assert!(second.local_addr().unwrap().port() > port);
}

#[test]
fn a_self_reloading_page_gets_the_next_version() {
    let (version, seen) = watch::channel(7);
    let fixture = Fixture::serving("reload", Isolation::ByHeaders, Some(seen));
    let page = fixture.get("/");
    assert!(page.body.contains("dev/reload.js"), "{}", page.body);
    assert_eq!(
        page.header("cross-origin-opener-policy"),
        Some("same-origin")
    );
    assert!(fixture.get("/dev/reload.js").body.contains("/dev/change?7"));
    assert_eq!(fixture.get("/isolation.js").status, 200);

    // A request with an outdated version is answered at once, one with the current version when it changes.
    assert_eq!(fixture.get("/dev/change?6").body, "changed");
    let mut waiting = fixture.connect();
    let request = "GET /dev/change?7 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    waiting.write_all(request.as_bytes()).unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut text = String::new();
    assert!(waiting.read_to_string(&mut text).is_err(), "{text}");
    version.send(8).unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    waiting.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("changed"), "{text}");
}

#[test]
fn without_reloading_the_page_has_no_reload_script() {
    let fixture = Fixture::new("still");
    assert!(!fixture.get("/").body.contains("reload"));
    assert_eq!(fixture.get("/dev/reload.js").status, 404);
}
