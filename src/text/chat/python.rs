//! What chat templates expect of Python: methods of its values, and `json.dumps`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::text::chat::limits::{RECURSION_LIMIT, text_limit, unwritable};

/// Methods of strings, dicts and lists.
pub(super) fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    match (value.as_str(), method, arguments) {
        (Some(text), "title", []) => Ok(Value::from(titled(text))),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// Python's `str.title`: a word starts after anything that is not a letter. Jinja's filter splits at spaces and
/// brackets.
fn titled(text: &str) -> String {
    let mut inside = false;
    let mut titled = String::new();
    for c in text.chars() {
        if inside {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    titled
}

/// The reference's filter `tojson`: Python's `json.dumps`, which puts spaces after separators and does not escape for
/// HTML.
pub(super) fn to_json(
    state: &State,
    value: &Value,
    arguments: Kwargs,
) -> Result<Value, minijinja::Error> {
    let indent = given(&arguments, "indent")?;
    let indent = indent.map(usize::try_from).transpose()?;
    let (item, key) = match given(&arguments, "separators")? {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let flag = |name| given(&arguments, name).map(|flag| flag.is_some_and(|flag| flag.is_true()));
    let mut json = PythonJson {
        text: String::new(),
        item,
        key,
        indent,
        only_ascii: flag("ensure_ascii")?,
        sort_keys: flag("sort_keys")?,
        limit_bytes: text_limit(state),
    };
    arguments.assert_all_used()?;
    json.write(value, 0)?;
    Ok(Value::from(json.text))
}

/// A keyword argument; `None` counts as absent.
fn given(arguments: &Kwargs, name: &str) -> Result<Option<Value>, minijinja::Error> {
    let value: Option<Value> = arguments.get(name)?;
    Ok(value.filter(|value| !value.is_none()))
}

fn separator(pair: &Value, index: usize) -> Result<String, minijinja::Error> {
    let separator = pair.get_item(&Value::from(index))?;
    let separator = separator.as_str().map(str::to_owned);
    separator.ok_or_else(|| unwritable("chat_separators"))
}

/// A JSON writer with a bound on its output: the engine charges for a filter's result only when it is complete.
struct PythonJson {
    text: String,
    item: String,
    key: String,
    indent: Option<usize>,
    only_ascii: bool,
    sort_keys: bool,
    limit_bytes: usize,
}

impl PythonJson {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        if depth > RECURSION_LIMIT {
            return Err(unwritable("chat_nested"));
        }
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.push("[")?;
                let mut first = true;
                for item in value.try_iter()? {
                    self.next(&mut first, depth + 1)?;
                    self.write(&item, depth + 1)?;
                }
                self.close("]", first, depth)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.push("{")?;
                let mut first = true;
                for key in keys {
                    self.next(&mut first, depth + 1)?;
                    let name = key.as_str();
                    self.string(name.ok_or_else(|| unwritable("chat_json_key"))?)?;
                    self.push(&self.key.clone())?;
                    self.write(&value.get_item(&key)?, depth + 1)?;
                }
                self.close("}", first, depth)
            }
            _ => Err(unwritable("chat_no_json")),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), minijinja::Error> {
        let quoted = serde_json::to_string(text).expect("a string is JSON");
        if !self.only_ascii {
            return self.push(&quoted);
        }
        let mut escaped = String::new();
        for c in quoted.chars() {
            if c.is_ascii() {
                escaped.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
        self.push(&escaped)
    }

    fn next(&mut self, first: &mut bool, depth: usize) -> Result<(), minijinja::Error> {
        if !*first {
            self.push(&self.item.clone())?;
        }
        *first = false;
        self.line(depth)
    }

    fn close(&mut self, bracket: &str, empty: bool, depth: usize) -> Result<(), minijinja::Error> {
        if !empty {
            self.line(depth)?;
        }
        self.push(bracket)
    }

    fn line(&mut self, depth: usize) -> Result<(), minijinja::Error> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        let spaces = indent.saturating_mul(depth);
        self.reserve(spaces)?;
        self.push("\n")?;
        self.text.extend(std::iter::repeat_n(' ', spaces));
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), minijinja::Error> {
        self.reserve(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<(), minijinja::Error> {
        if self.text.len().saturating_add(bytes) > self.limit_bytes {
            return Err(unwritable("chat_json_long"));
        }
        Ok(())
    }
}
