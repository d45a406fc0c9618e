//! Separates the function names of a wasm module from the module.

use std::fmt::Write;

use anyhow::Result;
use rustc_demangle::demangle;
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// A module without names, and the names of its functions.
pub struct Split {
    pub module: Vec<u8>,
    /// A line per function: its index as in stack traces, a tab, and its name.
    pub list: String,
}

/// Removes the name section from `module`.
pub fn split(module: &[u8]) -> Result<Split> {
    let mut list = String::new();
    let (mut kept, mut kept_until) = (Vec::with_capacity(module.len()), 0);
    let mut section_start = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let section_end = payload.as_section().map(|(_, range)| range.end);
        if let Payload::CustomSection(custom) = &payload
            && let KnownCustom::Name(names) = custom.as_known()
        {
            for part in names {
                if let Name::Function(functions) = part? {
                    for function in functions {
                        let function = function?;
                        // The alternate form omits the hash.
                        let name = demangle(function.name);
                        writeln!(list, "{}\t{name:#}", function.index)?;
                    }
                }
            }
            kept.extend(&module[kept_until..section_start]);
            kept_until = custom.range().end;
        }
        if let Some(end) = section_end {
            section_start = end;
        } else if let Payload::Version { range, .. } = &payload {
            section_start = range.end;
        } else if let Payload::CodeSectionEntry(body) = &payload {
            section_start = body.range().end;
        }
    }
    kept.extend(&module[kept_until..]);
    Ok(Split { module: kept, list })
}

#[cfg(test)]
mod tests {
    use super::split;

    /// A section of a module: id, length and contents, all shorter than 128 bytes.
    fn section(id: u8, contents: &[u8]) -> Vec<u8> {
        [&[id, contents.len() as u8], contents].concat()
    }

    fn custom(name: &str, contents: &[u8]) -> Vec<u8> {
        section(
            0,
            &[&[name.len() as u8], name.as_bytes(), contents].concat(),
        )
    }

    #[test]
    fn only_the_name_section_is_removed_from_the_module() {
        let head = [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, &[1, 0x60, 0, 0]),  // one type, () -> ()
            section(3, &[1, 0]),           // one function of it
            section(10, &[1, 2, 0, 0x0b]), // its body: no locals, end
        ]
        .concat();
        let mangled = "_ZN6zamba24scan17h0123456789abcdefE";
        let function = [&[1, 0, mangled.len() as u8], mangled.as_bytes()].concat();
        let names = custom("name", &section(1, &function));
        let tail = custom("target_features", &[0]);

        let split = split(&[head.clone(), names, tail.clone()].concat()).unwrap();
        assert_eq!(split.module, [head, tail].concat());
        assert_eq!(split.list, "0\tzamba2::scan\n");
    }

    #[test]
    fn a_module_without_names_is_unchanged() {
        let module = b"\0asm\x01\0\0\0".to_vec();
        let split = split(&module).unwrap();
        assert_eq!((split.module, split.list.as_str()), (module, ""));
    }

    #[test]
    fn bytes_that_are_not_a_module_are_an_error() {
        assert!(split(b"<!doctype html>").is_err());
    }
}
