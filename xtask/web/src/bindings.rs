//! Generates the JavaScript bindings of a wasm module, and the module without function names.
//!
//! Function names are a tenth of a module and are only needed for stack traces, so they go into a separate file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::names;

/// Writes `NAME.js`, `NAME.d.ts`, `NAME_bg.wasm` and `NAME_bg.names` into the folder `out`.
pub fn make(module: &Path, name: &str, out: &Path) -> Result<()> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    Bindgen::new()
        .input_bytes(name, bytes)
        .typescript(true)
        .remove_producers_section(true)
        // The engine gives the module's URL itself, but other users of the bindings may not.
        .omit_default_module_path(false)
        .web(true)
        .and_then(|bindgen| bindgen.generate(out))
        .with_context(|| format!("cannot make JavaScript bindings for {}", module.display()))?;

    // The generator renumbers functions, so the names are taken from its output.
    let path = out.join(format!("{name}_bg.wasm"));
    let named = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let split = names::split(&named)
        .with_context(|| format!("{} cannot be parsed as a module", path.display()))?;
    let list = out.join(format!("{name}_bg.names"));
    fs::write(&list, split.list).with_context(|| format!("cannot write {}", list.display()))?;
    fs::write(&path, split.module).with_context(|| format!("cannot write {}", path.display()))
}
