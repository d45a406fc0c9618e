//! Conversions between Rust and JavaScript values.

use js_sys::{JSON, Object, Reflect};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};

use crate::base::error::{Error, ErrorReport};

pub(super) type JsResult<T> = Result<T, JsValue>;

pub(super) fn to_js_error(error: Error) -> JsValue {
    report_to_js(&error.report())
}

pub(super) fn report_to_js(report: &ErrorReport) -> JsValue {
    to_js(report).unwrap_or_else(|_| JsValue::from_str(report.code))
}

/// A plain JavaScript object, by way of JSON.
pub(super) fn to_js(value: &impl Serialize) -> JsResult<JsValue> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|error| JsValue::from_str(&error.to_string()))?;
    JSON::parse(&text)
}

/// A Rust value from a plain object. A mismatch is reported as an invalid option `name`.
pub(super) fn from_js<T: for<'a> Deserialize<'a>>(name: &str, value: &JsValue) -> JsResult<T> {
    let refused = |detail: String| {
        to_js_error(Error::Setting {
            name: name.into(),
            fact: detail.into(),
        })
    };
    // JSON has no BigInt and no cycles.
    let text = JSON::stringify(value).map_err(|thrown| {
        let error = thrown.dyn_into::<js_sys::Error>();
        refused(error.map_or_else(|_| String::new(), |error| error.message().into()))
    })?;
    serde_json::from_str(&text.as_string().unwrap_or_default())
        .map_err(|error| refused(error.to_string()))
}

pub(super) fn set(object: &Object, name: &str, value: JsValue) -> JsResult<()> {
    Reflect::set(object, &name.into(), &value).map(drop)
}
