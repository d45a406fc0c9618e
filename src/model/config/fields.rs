//! Typed access to the fields of a checkpoint's JSON files. An error names the file, the field and what it must be.

use serde_json::{Map, Value};

use crate::base::error::{Error, Fact, Result};
use crate::base::json;

/// The fields of one JSON object. `null` counts as absent, as the reference treats it.
pub struct Fields {
    file: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    /// Parses the text of `file`, whose numbers may be Python's.
    pub fn parse(file: &'static str, text: &str) -> Result<Fields> {
        let config_error = |fact| Error::Config {
            file: file.into(),
            fact,
        };
        match json::parse(text) {
            Ok(Value::Object(map)) => Ok(Fields { file, map }),
            Ok(_) => Err(config_error(Fact::new("not_an_object"))),
            Err(detail) => Err(config_error(Fact::new("not_json").with("detail", detail))),
        }
    }

    /// An error of this file.
    pub fn error(&self, fact: Fact) -> Error {
        Error::Config {
            file: self.file.into(),
            fact,
        }
    }

    /// The error for a field whose value changes the numbers and is not implemented.
    pub fn unsupported(&self, field: &str, found: &Value) -> Error {
        Error::UnsupportedConfig {
            file: self.file.into(),
            field: field.into(),
            found: shown(found),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The fields inside the object `name`; none if it is absent or empty.
    pub fn object(&self, name: &str) -> Result<Option<Fields>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) if map.is_empty() => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields {
                file: self.file,
                map: map.clone(),
            })),
            Some(value) => Err(self.error(not_expected("field_object", name, value))),
        }
    }

    /// Fields that are objects themselves.
    pub fn nested_objects(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter().filter(|(_, value)| value.is_object())
    }

    pub fn missing(&self, name: &str) -> Error {
        self.error(Fact::new("field_missing").with("field", name))
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some)
            .ok_or_else(|| self.error(not_expected("field_text", name, value)))
    }

    pub fn required_size(&self, name: &str, max: usize) -> Result<usize> {
        if self.get(name).is_none() {
            return Err(self.missing(name));
        }
        self.size(name, 0, max)
    }

    pub fn size(&self, name: &str, default: usize, max: usize) -> Result<usize> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let size = value
            .as_u64()
            .filter(|&size| size >= 1 && size <= max as u64);
        size.map(|size| size as usize)
            .ok_or_else(|| self.error(not_expected("field_size", name, value).with("max", max)))
    }

    pub fn number(&self, name: &str, default: f32, min: f64, max: f64) -> Result<f32> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value.as_f64().filter(|number| (min..=max).contains(number));
        number.map(|number| number as f32).ok_or_else(|| {
            let fact = not_expected("field_number", name, value);
            self.error(fact.with("min", min).with("max", max))
        })
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| self.error(not_expected("field_flag", name, value)))
    }

    /// One id, a list of ids, or none. A negative id is no token: -1 is how some trainers write none.
    pub fn token_ids(&self, name: &str) -> Result<Vec<u32>> {
        let wrong = |value: &Value| self.error(not_expected("field_token_ids", name, value));
        let id = |value: &Value| match value.as_i64() {
            Some(id) if id < 0 => Ok(None),
            Some(id) => u32::try_from(id).map(Some).map_err(|_| wrong(value)),
            None => Err(wrong(value)),
        };
        let ids: Vec<Option<u32>> = match self.get(name) {
            None => Vec::new(),
            Some(Value::Array(ids)) => ids.iter().map(id).collect::<Result<_>>()?,
            Some(value) => vec![id(value)?],
        };
        Ok(ids.into_iter().flatten().collect())
    }
}

/// A field whose value is not of the kind that `id` names.
fn not_expected(id: &'static str, field: &str, found: &Value) -> Fact {
    Fact::new(id)
        .with("field", field)
        .with("found", shown(found))
}

/// A value in a sentence: as JSON, cut where it is long.
fn shown(value: &Value) -> String {
    const MOST_CHARACTERS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
