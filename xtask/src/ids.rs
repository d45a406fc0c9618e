//! Ids by which the browser package detects files of different versions: after a deployment a page that is still open
//! may get newer ones. An id is a hash of the contents, without any security purpose.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use anyhow::{Context, Result};

/// The custom section of a module with the id of its build; www/engine/wasm_engine.js reads it.
const SECTION: &str = "zamba2_build";

/// An id of contents, in 16 hexadecimal digits.
pub fn id_of<'a>(contents: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = DefaultHasher::new();
    for content in contents {
        hasher.write_usize(content.len());
        hasher.write(content);
    }
    format!("{:016x}", hasher.finish())
}

/// Adds an id of both files to a build's bindings and module, and returns it.
pub fn stamp_build(folder: &Path) -> Result<String> {
    let [bindings_path, module_path] =
        ["zamba2_wasm.js", "zamba2_wasm_bg.wasm"].map(|name| folder.join(name));
    let [mut bindings, mut module] = [read(&bindings_path)?, read(&module_path)?];
    let id = id_of([&bindings[..], &module]);
    bindings.extend(format!("\nexport const BUILD_ID = \"{id}\";\n").into_bytes());
    module.extend(custom_section(SECTION, id.as_bytes()));
    for (path, bytes) in [(bindings_path, bindings), (module_path, module)] {
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(id)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A custom section of the WebAssembly format, which may be at the end of a module: the number 0, the length of the
/// rest, the length of the name, the name, the content. Lengths below 128 are one byte.
fn custom_section(name: &str, content: &[u8]) -> Vec<u8> {
    let rest_bytes = 1 + name.len() + content.len();
    assert!(rest_bytes < 128, "a length of several bytes");
    let mut section = vec![0, rest_bytes as u8, name.len() as u8];
    section.extend(name.as_bytes());
    section.extend(content);
    section
}

#[cfg(test)]
mod tests {
    use super::{custom_section, id_of};

    #[test]
    fn ids_differ_with_the_contents_and_with_their_borders() {
        let id = id_of([&b"ab"[..], b"c"]);
        assert_eq!(id, id_of([&b"ab"[..], b"c"]));
        assert_ne!(id, id_of([&b"a"[..], b"bc"]));
        assert_eq!(id.len(), 16);
    }

    #[test]
    fn a_custom_section_is_as_the_format_says() {
        let section = custom_section("id", b"xyz");
        assert_eq!(section, [0, 6, 2, b'i', b'd', b'x', b'y', b'z']);
    }
}
