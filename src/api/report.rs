//! Reports on run files. They need no engine.

use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, to_js, to_js_error};
use crate::report::run::Run;
use crate::report::{self, reference, summary};

/// Checks the text of a run file and returns the run.
#[wasm_bindgen]
pub fn parse_run(text: &str) -> JsResult<JsValue> {
    to_js(&Run::parse(text).map_err(to_js_error)?)
}

/// The summary of the run in `text`.
#[wasm_bindgen]
pub fn summarise(text: &str) -> JsResult<JsValue> {
    let run = Run::parse(text).map_err(to_js_error)?;
    to_js(&summary::summarise(&run))
}

/// The run in `text` as `markdown`, `json`, `csv` or `trace`.
#[wasm_bindgen]
pub fn export_run(text: &str, format: &str, language: &str) -> JsResult<String> {
    let language = language.parse().map_err(to_js_error)?;
    let format = format.parse().map_err(to_js_error)?;
    let run = Run::parse(text).map_err(to_js_error)?;
    Ok(report::export(&run, format, language))
}

/// The reference report, `published` or `recomputed`.
#[wasm_bindgen]
pub fn reference_report(kind: &str) -> JsResult<JsValue> {
    let kind = kind.parse().map_err(to_js_error)?;
    to_js(&reference::report(kind))
}
