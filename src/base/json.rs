//! JSON as Python's `json` module writes and reads it: `NaN`, `Infinity` and `-Infinity` are numbers there. serde_json
//! rejects them, and would so reject a file because of a field that is not used.

use serde_json::Value;

/// Parses `text`. A number that JSON does not have becomes a string with its name: a field that needs a number rejects
/// it like any other string, and in an unused field it does no harm.
///
/// # Errors
/// The parser's words.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text)
        .or_else(|error| match quoted(text) {
            Some(text) => serde_json::from_str(&text),
            None => Err(error),
        })
        .map_err(|error| error.to_string())
}

/// The text with numbers outside of JSON's range as strings; `None` if it has none.
fn quoted(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut any = false;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || is_word(c)) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = match from.strip_prefix('"') {
            Some(inside) => 1 + string_end(inside),
            None => from.find(|c| !is_word(c)).unwrap_or(from.len()),
        };
        let (token, after) = from.split_at(end);
        match out_of_range(token) {
            Some(name) => {
                any = true;
                out.extend(["\"", name, "\""]);
            }
            None => out.push_str(token),
        }
        rest = after;
    }
    out.push_str(rest);
    any.then_some(out)
}

/// The characters of literals and numbers.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')
}

/// Bytes up to and including the quote that ends a string.
fn string_end(inside: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return at + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    inside.len()
}

/// Python's name of a number that is none in JSON. A literal such as 1e999 is infinite in Python.
fn out_of_range(token: &str) -> Option<&'static str> {
    match token {
        "NaN" => return Some("NaN"),
        "Infinity" => return Some("Infinity"),
        "-Infinity" => return Some("-Infinity"),
        _ => {}
    }
    // Rust also parses `inf`, which neither JSON nor Python does.
    let digits = token.strip_prefix('-').unwrap_or(token);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
    let number: f64 = token.parse().ok().filter(|_| is_number)?;
    match number {
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_become_their_names_and_strings_stay() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, -1e999], "c": "NaN, \"Infinity\" \\", "d": -1.5e3}"#;
        assert_eq!(
            parse(text).unwrap(),
            serde_json::json!({
                "a": "NaN", "b": ["-Infinity", "Infinity", "-Infinity"], "c": "NaN, \"Infinity\" \\", "d": -1500.0
            })
        );
    }

    #[test]
    fn other_words_are_still_refused() {
        for text in [
            "{\"a\": nan}",
            "{\"a\": -inf}",
            "{\"NaN",
            "[NaN",
            "NaNs",
            "\"\\",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("\u{feff}[1]").unwrap(), serde_json::json!([1]));
    }
}
