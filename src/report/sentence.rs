//! A sentence independent of its language: a key of `www/words/*.json` and the values of its placeholders. Rust renders
//! it for Markdown, and the page for its views (`www/sentence.js`).

use serde::Serialize;

use crate::report::numbers;
use crate::words::{self, Language};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sentence {
    pub key: &'static str,
    #[serde(serialize_with = "as_map")]
    pub values: Vec<(&'static str, SentenceValue)>,
}

/// A value with its unit, which determines its format.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SentenceValue {
    /// A time in microseconds.
    Us(f64),
    Bytes(f64),
    /// Three significant digits.
    Figure(f64),
    /// Rounded to an integer.
    Whole(f64),
    /// Billions with this many digits after the decimal mark.
    Giga(f64, usize),
    /// A large count, with its digits in groups.
    Grouped(u64),
    /// Names from the model.
    Text(String),
    /// The key of a translated word.
    Word(&'static str),
}

impl Sentence {
    pub fn new(
        key: &'static str,
        values: impl IntoIterator<Item = (&'static str, SentenceValue)>,
    ) -> Sentence {
        Sentence {
            key,
            values: values.into_iter().collect(),
        }
    }

    pub fn text(&self, language: Language) -> String {
        let values: Vec<(&str, String)> = (self.values.iter())
            .map(|(name, value)| (*name, value.text(language)))
            .collect();
        let values: Vec<(&str, &str)> = (values.iter())
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        words::sentence(language, self.key, &values)
    }
}

impl SentenceValue {
    pub fn text(&self, language: Language) -> String {
        match self {
            SentenceValue::Us(us) => numbers::time(language, *us),
            SentenceValue::Bytes(bytes) => numbers::bytes(language, *bytes),
            SentenceValue::Figure(value) => numbers::figure(language, *value),
            SentenceValue::Whole(value) => numbers::decimal(language, *value, 0),
            SentenceValue::Giga(value, digits) => numbers::decimal(language, value / 1e9, *digits),
            SentenceValue::Grouped(number) => numbers::grouped(*number),
            SentenceValue::Text(text) => text.clone(),
            SentenceValue::Word(key) => words::get(language, key).into(),
        }
    }
}

fn as_map<S: serde::Serializer>(
    values: &[(&'static str, SentenceValue)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(name, value)| (name, value)))
}
