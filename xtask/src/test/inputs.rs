//! Which files of the repository the results of tests depend on.

/// Whether results of the slow native tests and of the kernels' depend on a file: not on the page, the package, their
/// tests and the developer commands. What the crate includes of www/ is JSON.
pub fn matters_to_rust(file: &str) -> bool {
    let folders = [
        "tests/browser/",
        "tests/engines/",
        "tests/package/",
        "examples/",
        "npm/",
        "xtask/",
        ".github/",
    ];
    let endings = [".js", ".ts", ".css", ".html", ".md", ".png", ".svg"];
    let is_other = folders.iter().any(|folder| file.starts_with(folder));
    !is_other && !endings.iter().any(|end| file.ends_with(end))
}

/// Whether results of all browser tests depend on a file. The sources in Rust count as `pkg/`, which is made from them,
/// and a file of tests counts for itself (tests/browser/run.js).
pub fn matters_to_pages(file: &str) -> bool {
    let folders = [
        "src/",
        "grammar/",
        "tests/engines/",
        "tests/package/",
        ".github/",
    ];
    let is_other = folders.iter().any(|folder| file.starts_with(folder));
    let is_test = file.starts_with("tests/browser/") && file.ends_with(".test.js");
    let is_text = file.starts_with("docs/") && file.ends_with(".md");
    !is_other && !is_test && !is_text
}

#[cfg(test)]
mod tests {
    use super::{matters_to_pages, matters_to_rust};

    #[test]
    fn results_of_rust_depend_on_rust_and_those_of_pages_on_pages() {
        for (file, rust, pages) in [
            ("src/lib.rs", true, false),
            ("tests/kernels.rs", true, true),
            ("tests/fixtures/gqa/model.safetensors", true, true),
            ("www/words/ru.json", true, true),
            ("xtask/src/serve.rs", false, true),
            ("www/main.js", false, true),
            ("index.html", false, true),
            ("tests/browser/harness.js", false, true),
            ("tests/browser/page.test.js", false, false),
            ("tests/package/visits.test.js", false, false),
            ("SECURITY.md", false, true),
            ("docs/inside.md", false, false),
            ("docs/example/run.json", true, true),
        ] {
            assert_eq!(matters_to_rust(file), rust, "{file}");
            assert_eq!(matters_to_pages(file), pages, "{file}");
        }
    }
}
