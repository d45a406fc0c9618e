//! The files of www/words/ compared with each other and with the sources that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::generated::{assert_generated, command};
use zamba2::base::error::{Error, Fact};
use zamba2::words::Language;

type Words = BTreeMap<String, String>;

/// The plural forms of a text. Which of them a language has is up to the language.
const PLURAL: [&str; 6] = [".zero", ".one", ".two", ".few", ".many", ".other"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json_of(language: Language) -> String {
    text_of(&format!("www/words/{}.json", language.code()))
}

fn words_of(language: Language) -> Words {
    serde_json::from_str(&json_of(language)).unwrap()
}

/// Sources that use words, without tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = vec![root().join("index.html")];
    let mut folders = vec![root().join("src"), root().join("www")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|e| ["rs", "js", "html"].iter().any(|other| e == *other))
            {
                files.push(path);
            }
        }
    }
    let texts = files
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap(), path));
    texts.map(|(text, path)| (path, text)).collect()
}

/// The key without the plural form.
fn family(key: &str) -> &str {
    PLURAL
        .iter()
        .find_map(|form| key.strip_suffix(form))
        .unwrap_or(key)
}

fn placeholders(text: &str) -> BTreeSet<&str> {
    let after_brace = text.split('{').skip(1);
    after_brace
        .map(|part| part.split_once('}').expect(text).0)
        .collect()
}

/// String literals of Rust, JavaScript and HTML.
fn literals(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for quote in ['"', '\'', '`'] {
        for line in text.lines() {
            let parts: Vec<&str> = line.split(quote).collect();
            // An apostrophe in a comment changes which parts are inside quotes, so all parts are taken.
            found.extend(parts);
        }
    }
    found
}

/// Whether `key` matches a literal, with `${…}` and `{…}` as wildcards.
fn fits(literal: &str, key: &str) -> bool {
    let mut rest = key;
    let mut parts = Vec::new();
    let mut text = literal.replace("${", "{");
    while let Some((before, after)) = text.clone().split_once('{') {
        let Some((_, after)) = after.split_once('}') else {
            return false;
        };
        parts.push(before.to_owned());
        text = after.to_owned();
    }
    // Without a leading name everything would match.
    if !parts.first().is_some_and(|first| first.contains('.')) {
        return false;
    }
    for (i, part) in parts.iter().enumerate() {
        match rest.find(part.as_str()) {
            Some(0) if i == 0 => rest = &rest[part.len()..],
            Some(at) if i > 0 && at > 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.len() > text.len() && rest.ends_with(&text)
}

#[test]
fn every_language_has_the_same_keys_with_the_same_placeholders() {
    let english = words_of(Language::En);
    for &language in Language::ALL {
        let words = words_of(language);
        let families = |words: &Words| -> BTreeSet<String> {
            words.keys().map(|key| family(key).to_owned()).collect()
        };
        assert_eq!(families(&words), families(&english), "{}", language.code());
        for (key, text) in &words {
            let same = english
                .get(key)
                .or_else(|| english.get(&format!("{}.other", family(key))));
            let same =
                same.unwrap_or_else(|| panic!("{}: {key} has no English form", language.code()));
            assert_eq!(
                placeholders(text),
                placeholders(same),
                "{}: {key}",
                language.code()
            );
        }
    }
}

#[test]
fn the_files_have_one_entry_per_line_in_the_order_of_keys() {
    for &language in Language::ALL {
        let lines: Vec<String> = words_of(language)
            .iter()
            .map(|(key, text)| format!("  {}: {}", serde_json::json!(key), serde_json::json!(text)))
            .collect();
        let expected = format!("{{\n{}\n}}\n", lines.join(",\n"));
        assert_eq!(json_of(language), expected, "{}", language.code());
    }
}

#[test]
fn texts_have_no_escapes_that_rust_writes_differently() {
    for &language in Language::ALL {
        let json = json_of(language)
            .replace("\\\\", "")
            .replace("\\\"", "")
            .replace("\\n", "");
        assert!(!json.contains('\\'), "{}", language.code());
    }
}

#[test]
fn the_page_offers_every_language() {
    let codes = Language::ALL.iter().map(|language| language.code());
    let lines: String = codes
        .map(|code| format!("  {code}: new URL(\"./words/{code}.json\", import.meta.url),\n"))
        .collect();
    let command = command("words");
    let text = format!(
        "\
// @ts-check
// The files of words/ by language. Each address is a literal, which the site's build finds. Generated by
// {command}

/** @type {{Record<string, URL>}} */
export const LANGUAGE_FILES = {{
{lines}}};
"
    );
    assert_generated("www/languages.js", &text, "words");
}

#[test]
fn every_key_is_used() {
    let sources = sources();
    let literals: BTreeSet<&str> = sources
        .iter()
        .flat_map(|(_, text)| literals(text))
        .collect();
    let patterns: Vec<&str> = literals
        .iter()
        .copied()
        .filter(|literal| literal.contains('{'))
        .collect();
    let is_used = |key: &str| {
        // Facts and some next steps are named by their ids alone.
        let id = key
            .strip_prefix("fact.")
            .or_else(|| Some(key.split_once(".next.")?.1));
        let named = |name: &str| literals.contains(name);
        let variant = id.is_some_and(named);
        let code = key
            .strip_prefix("error.")
            .is_some_and(|rest| named(rest.split('.').next().unwrap()));
        let by_pattern = || {
            let plain = !key.starts_with("fact.") && !key.starts_with("error.");
            plain && patterns.iter().any(|pattern| fits(pattern, key))
        };
        named(key)
            || named(family(key))
            || variant
            || (code && !key.contains(".next."))
            || by_pattern()
    };
    let unused: Vec<String> = words_of(Language::En)
        .into_keys()
        .filter(|key| !is_used(key))
        .collect();
    assert_eq!(unused, Vec::<String>::new(), "used nowhere");
}

/// `tsc` checks this for JavaScript; here are the uses that it does not see.
#[test]
fn every_key_in_the_markup_and_in_rust_exists() {
    let words = words_of(Language::En);
    let mut missing = Vec::new();
    for (path, text) in sources() {
        let starts: &[&str] = match path.extension().and_then(|e| e.to_str()) {
            Some("html") => &["data-t=\"", "data-t-label=\""],
            Some("rs") => &[
                "Fact::new(\"",
                "not_expected(\"",
                "unwritable(\"",
                "words::get(language, \"",
                "words::sentence(language, \"",
            ],
            _ => &["fact(\""],
        };
        for start in starts {
            for part in text.split(start).skip(1) {
                let name = part.split('"').next().unwrap();
                let key = match *start {
                    "Fact::new(\"" | "not_expected(\"" | "unwritable(\"" | "fact(\"" => {
                        format!("fact.{name}")
                    }
                    _ => name.to_owned(),
                };
                if !words.contains_key(&key) {
                    missing.push(format!("{}: {key}", path.display()));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// The markup is shown until the words are loaded.
#[test]
fn the_text_in_the_markup_equals_the_english_words() {
    let words = words_of(Language::En);
    for path in ["index.html", "www/perfetto.html"] {
        let html = text_of(path);
        for part in html.split("data-t=\"").skip(1) {
            let (key, rest) = part.split_once('"').unwrap();
            let text = rest.split_once('>').unwrap().1.split_once('<').unwrap().0;
            assert!(
                text.is_empty() || text == words[key],
                "{path}: {key}: {text}"
            );
        }
    }
}

#[test]
fn every_error_has_a_sentence_and_a_next_step() {
    let words = words_of(Language::En);
    for code in Error::CODES {
        for key in [format!("error.{code}"), format!("error.{code}.next")] {
            assert!(words.contains_key(&key), "{key}");
        }
    }
}

#[test]
fn the_package_types_every_code_of_an_error() {
    let types = text_of("www/engine/zamba2.d.ts");
    let union = types
        .split_once("export type ErrorCode =")
        .unwrap()
        .1
        .split_once(';')
        .unwrap()
        .0;
    let typed: BTreeSet<&str> = union.split('"').skip(1).step_by(2).collect();
    let words = words_of(Language::En);
    let codes = words
        .keys()
        .filter_map(|key| key.strip_prefix("error."))
        .map(|rest| rest.split('.').next().unwrap());
    assert_eq!(
        typed,
        codes.collect::<BTreeSet<&str>>(),
        "zamba2.d.ts and www/words/en.json"
    );
    for code in Error::CODES {
        assert!(typed.contains(code), "zamba2.d.ts lacks {code}");
    }
}

#[test]
fn an_error_is_displayed_as_its_sentence_with_its_values() {
    let error = Error::Memory {
        needed_bytes: 2_500_000_000,
        limit_bytes: 1_000_000_000,
    };
    assert_eq!(
        error.to_string(),
        "the model needs about 2.50 GB of memory, but only 1.00 GB is available"
    );
    let fact = Fact::new("field_size")
        .with("field", "hidden_size")
        .with("max", 9)
        .with("found", "-3");
    let error = Error::Config {
        file: "config.json".into(),
        fact,
    };
    assert_eq!(
        error.to_string(),
        "config.json: `hidden_size` must be an integer from 1 to 9, found -3"
    );
    let values = serde_json::json!({
        "file": "config.json", "fact": {"id": "field_size", "field": "hidden_size", "max": 9, "found": "-3"},
    });
    assert_eq!(serde_json::Value::Object(error.values()), values);
    let error = Error::Io {
        file: "a".into(),
        fact: "{broken}".into(),
    };
    assert_eq!(error.to_string(), "a could not be read: {broken}");
    let shape = Error::Shape {
        file: "a".into(),
        tensor: "b".into(),
        expected: vec![1, 2],
        found: vec![3],
    };
    assert_eq!(
        shape.to_string(),
        "a: tensor b has shape [3], and config.json implies [1, 2]"
    );
}
