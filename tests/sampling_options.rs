//! `text::sampling::NUMBER_OPTIONS` compared with the places that repeat its numbers because they need them before the
//! engine is loaded: the JS module's defaults, its types, and the page's fields and presets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zamba2::session::GenerateOptions;
use zamba2::text::sampling::{NUMBER_OPTIONS, NumberOption, SamplingOptions};

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no `{start}`"));
    rest.split_once(end)
        .unwrap_or_else(|| panic!("no `{end}` after `{start}`"))
        .0
}

/// The numeric entries of a flat JS object.
fn numbers_of(object: &str) -> BTreeMap<&str, f64> {
    let entries = object.split(',').filter_map(|entry| entry.split_once(':'));
    let numbers =
        entries.filter_map(|(name, value)| Some((name.trim(), value.trim().parse().ok()?)));
    numbers.collect()
}

#[test]
fn the_defaults_of_the_js_module_are_those_of_the_engine() {
    let options = text_of("www/engine/options.js");
    let mut defaults = numbers_of(between(&options, "GENERATE_DEFAULTS = {", "};"));
    for option in NUMBER_OPTIONS {
        assert_eq!(
            defaults.remove(option.name),
            Some(option.default),
            "{}",
            option.name
        );
    }
    assert_eq!(
        defaults.into_iter().collect::<Vec<_>>(),
        [("alternatives", 0.0)]
    );
}

#[test]
fn the_defaults_in_the_types_docs_are_those_of_the_engine() {
    let types = text_of("www/engine/zamba2.d.ts");
    let interface = between(&types, "export interface GenerateOptions {", "\n}");
    for NumberOption { name, default, .. } in NUMBER_OPTIONS {
        let before = interface
            .split(&format!("  {name}?: number"))
            .next()
            .unwrap();
        let doc = before.rsplit("/**").next().unwrap();
        let documented = doc
            .trim_start()
            .strip_prefix("Default ")
            .unwrap_or_else(|| panic!("{name}: {doc}"));
        let end = documented.find([';', ',', ' ', '*']).unwrap();
        let number = documented[..end].trim_end_matches('.');
        assert_eq!(number.parse(), Ok(default), "{name}");
    }
}

#[test]
fn the_fields_of_the_page_offer_only_values_that_the_engine_accepts() {
    let page = text_of("index.html");
    let attribute = |field: &str, name: &str| {
        let start = format!(" {name}=\"");
        field
            .contains(&start)
            .then(|| between(field, &start, "\"").to_owned())
    };
    for option in NUMBER_OPTIONS {
        let name = option.name;
        let field = between(
            &page,
            &format!("<input type=\"number\" name=\"{name}\""),
            ">",
        );
        let number = |of: &str| attribute(field, of).map(|value| value.parse::<f64>().unwrap());
        for bound in ["min", "max"] {
            let value = number(bound).unwrap_or_else(|| panic!("{name} has no {bound}"));
            assert!(option.contains(value), "{name}: {bound} {value}");
        }
        assert!(
            number("min") <= Some(option.default) && number("max") >= Some(option.default),
            "{name}"
        );
        // `Sampling.read` treats a step of 1 as a whole number.
        assert_eq!(number("step") == Some(1.0), option.is_integer, "{name}");
    }
    let seed = between(&page, "name=\"seed\"", ">");
    assert_eq!(
        attribute(seed, "value"),
        Some(SamplingOptions::default().seed.to_string())
    );
}

#[test]
fn the_presets_of_the_page_are_in_range_and_balanced_equals_the_defaults() {
    let script = text_of("www/playground/sampling.js");
    let presets = between(&script, "PRESETS = {", "};");
    for preset in ["greedy", "balanced", "creative"] {
        let values = numbers_of(between(presets, &format!("{preset}: {{"), "}"));
        for (name, value) in &values {
            let option = NUMBER_OPTIONS
                .into_iter()
                .find(|option| option.name == *name);
            let option = option.unwrap_or_else(|| panic!("{preset}: {name}"));
            assert!(option.contains(*value), "{preset}: {name}");
            assert!(preset != "balanced" || *value == option.default, "{name}");
        }
        // All options except the seed and the length.
        assert_eq!(values.len(), NUMBER_OPTIONS.len() - 2, "{preset}");
    }
}

#[test]
fn the_default_generate_options_are_those_of_the_table() {
    let GenerateOptions {
        max_tokens,
        sampling,
        ..
    } = GenerateOptions::default();
    let SamplingOptions {
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty,
        seed,
    } = sampling;
    let values = [
        max_tokens as f64,
        temperature,
        top_k as f64,
        top_p,
        min_p,
        repetition_penalty,
        seed as f64,
    ];
    assert_eq!(values, NUMBER_OPTIONS.map(|option| option.default));
}
