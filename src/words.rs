//! Looks up sentences of `www/words/*.json` by key: reports and advice in every language, errors in English. It does
//! not format numbers: values are passed as text.

use std::str::FromStr;

use crate::base::error::{Error, Fact};

include!(concat!(env!("OUT_DIR"), "/words.rs"));

impl Language {
    /// All languages: English first, the others sorted by code.
    pub const ALL: &'static [Language] = &ALL;

    /// The file's name, a BCP 47 tag: `en`.
    pub fn code(self) -> &'static str {
        CODES[self as usize]
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(code: &str) -> Result<Language, Error> {
        let found = Language::ALL
            .iter()
            .find(|language| language.code() == code);
        found.copied().ok_or_else(|| Error::Setting {
            name: "language".into(),
            fact: Fact::not_one_of(code, &CODES.join(", ")),
        })
    }
}

/// The sentence of `key` with its `{placeholders}`. Falls back to English if this language does not have it.
///
/// # Panics
///
/// If English does not have it either; `tests/words.rs` checks that every key in the sources exists.
pub fn get(language: Language, key: &str) -> &'static str {
    find(language, key)
        .or_else(|| find(Language::En, key))
        .unwrap_or_else(|| panic!("www/words/en.json has no `{key}`"))
}

fn find(language: Language, key: &str) -> Option<&'static str> {
    let table = TABLES[language as usize];
    let found = table.binary_search_by_key(&key, |(key, _)| key);
    found.ok().map(|index| table[index].1)
}

/// Replaces each `{name}` in `template` by its value. Braces in values are left alone.
///
/// # Panics
///
/// If a placeholder has no value.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .unwrap_or_else(|| panic!("`{template}` has an open brace"));
        let value = values.iter().find(|(other, _)| *other == name);
        let (_, value) = value.unwrap_or_else(|| panic!("`{template}` has no value for `{name}`"));
        text.push_str(before);
        text.push_str(value);
        rest = after;
    }
    text + rest
}

/// [`get`] and [`fill`].
pub fn sentence(language: Language, key: &str, values: &[(&str, &str)]) -> String {
    fill(get(language, key), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_once() {
        let text = fill("{a} and {b}, {a}", &[("a", "{b}"), ("b", "2")]);
        assert_eq!(text, "{b} and 2, {b}");
    }

    #[test]
    fn a_missing_sentence_falls_back_to_english() {
        let key = "error.empty_prompt";
        assert_eq!(get(Language::Ru, key), get(Language::En, key));
    }

    #[test]
    fn languages_are_found_by_their_codes() {
        assert_eq!("ru".parse(), Ok(Language::Ru));
        assert_eq!("xx".parse::<Language>().unwrap_err().code(), "bad_option");
    }
}
