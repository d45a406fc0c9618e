//! Files of the repository that are generated from others by a test.

use std::path::Path;
use std::{env, fs};

/// The command that writes the files of a test module again.
pub fn command(module: &str) -> String {
    format!("ZAMBA2_WRITE=1 cargo test --test integration {module}")
}

/// Holds the file to `text`; writes it first if the environment asks for it.
pub fn assert_generated(path: &str, text: &str, module: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("ZAMBA2_WRITE").is_some_and(|value| value == "1") {
        fs::write(&file, text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let command = command(module);
    assert!(
        found == text,
        "{path} is not what its sources generate; write it again: {command}"
    );
}
