//! Generates `www/engine/generate_options.js` and `.d.ts`, the weight formats and the options of `generate` in the JS
//! module, from `WeightFormat`, `NUMBER_OPTIONS` and `GenerateOptions`, and checks what the page adds to them: labels
//! and presets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::generated::{assert_generated, command};
use serde_json::Value;
use zamba2::base::quant::WeightFormat;
use zamba2::session::GenerateOptions;
use zamba2::text::sampling::{NUMBER_OPTIONS, NumberOption};
use zamba2::words::Language;

/// What the command that generates the files selects.
const MODULE: &str = "sampling_options";
const MAX_COLUMNS: usize = 120;
/// Fields of `GenerateOptions` that are not in the type of the JS module by themselves: those of the table, and those
/// that the module itself sets.
const NOT_IN_JS: [&str; 4] = ["max_tokens", "lookup", "sampling", "end_tokens"];

fn path_of(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text_of(path: &str) -> String {
    fs::read_to_string(path_of(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
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

/// The default of every option, by its name.
fn defaults() -> Value {
    serde_json::to_value(GenerateOptions::default()).unwrap()
}

/// An option of the JS module.
struct JsOption {
    name: String,
    doc: String,
    default: String,
    ts_type: &'static str,
}

fn number_options() -> Vec<JsOption> {
    let options = NUMBER_OPTIONS.iter().map(|option| JsOption {
        name: option.name.to_owned(),
        doc: option.doc.to_owned(),
        default: option.default.to_string(),
        // A caller may have an integer of more than 32 bits as a BigInt.
        ts_type: match option.is_integer && option.max > f64::from(u32::MAX) {
            true => "number | bigint",
            false => "number",
        },
    });
    options.collect()
}

/// The options that are not in the table, with the docs and types of the fields in Rust.
fn other_options() -> Vec<JsOption> {
    let source = text_of("src/session/mod.rs");
    let defaults = defaults();
    let (mut found, mut doc) = (Vec::new(), Vec::new());
    for line in between(&source, "pub struct GenerateOptions {\n", "\n}").lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(text);
        }
        let Some((name, rust_type)) = line
            .strip_prefix("pub ")
            .and_then(|field| field.trim_end_matches(',').split_once(": "))
        else {
            continue;
        };
        let doc = std::mem::take(&mut doc).join(" ");
        if NOT_IN_JS.contains(&name) {
            continue;
        }
        found.push(JsOption {
            name: name.to_owned(),
            doc,
            default: defaults[name].to_string(),
            ts_type: match rust_type {
                "bool" => "boolean",
                "usize" => "number",
                "Vec<String>" => "string[]",
                "Option<String>" => "string | null",
                "Option<Value>" => "object | boolean | null",
                other => panic!("{name}: {other}"),
            },
        });
    }
    found
}

/// A doc comment of a field, in lines of at most [`MAX_COLUMNS`].
fn doc_comment(text: &str) -> String {
    let short = format!("  /** {text} */\n");
    if short.trim_end().len() <= MAX_COLUMNS {
        return short;
    }
    let mut lines = vec!["  /**".to_owned(), "   *".to_owned()];
    for word in text.split(' ') {
        if lines[lines.len() - 1].len() + 1 + word.len() > MAX_COLUMNS {
            lines.push("   *".to_owned());
        }
        write!(lines.last_mut().unwrap(), " {word}").unwrap();
    }
    format!("{}\n   */\n", lines.join("\n"))
}

fn fields(options: &[JsOption]) -> String {
    let fields = options.iter().map(|option| {
        let JsOption {
            name,
            doc,
            default,
            ts_type,
        } = option;
        let doc = doc_comment(&format!("{doc} Default {default}."));
        format!("{doc}  {name}?: {ts_type};\n")
    });
    fields.collect()
}

fn types() -> String {
    let command = command(MODULE);
    format!(
        "// Types of the options of `generate`, and the weight formats. Generated from src/base/quant.rs,
// src/text/sampling/options.rs and src/session/mod.rs; do not edit. To regenerate it:
// {command}

/** How the weights are held in memory: 4, 1.06 or 0.56 bytes per parameter. */
export type Weights = {};

/** The most exact format first. */
export declare const WEIGHTS: readonly Weights[];

export interface NumberOptions {{
{}}}

export interface GenerateOptions extends NumberOptions {{
{}}}

/** An option that is a number: its range, and how a page offers it. */
export interface NumberOption {{
  readonly name: keyof NumberOptions;
  readonly default: number;
  /** The value at which the option has no effect; null if it is not about the distribution that is sampled from. */
  readonly off: number | null;
  readonly min: number;
  /** Whether `min` itself is out of range. */
  readonly above_min: boolean;
  /** Infinity if there is no limit. */
  readonly max: number;
  readonly is_integer: boolean;
  /** The distance of neighbouring values in a field of a page. */
  readonly step: number;
  /** The largest value that a field of a page offers. */
  readonly usual_max: number;
}}

/** In the order of fields on a page. */
export declare const NUMBER_OPTIONS: readonly NumberOption[];

export declare const GENERATE_DEFAULTS: Required<GenerateOptions>;
",
        weights(" | "),
        fields(&number_options()),
        fields(&other_options()),
    )
}

fn js_number(value: f64) -> String {
    match value.is_infinite() {
        true => "Infinity".to_owned(),
        false => value.to_string(),
    }
}

fn table_entry(option: &NumberOption) -> String {
    let NumberOption {
        name,
        default,
        off,
        min,
        above_min,
        max,
        is_integer,
        step,
        usual_max,
        ..
    } = option;
    let off = off.map_or("null".to_owned(), js_number);
    let max = js_number(*max);
    format!(
        "  {{
    name: \"{name}\",
    default: {default},
    off: {off},
    min: {min},
    above_min: {above_min},
    max: {max},
    is_integer: {is_integer},
    step: {step},
    usual_max: {usual_max},
  }},
"
    )
}

fn module() -> String {
    let table: String = NUMBER_OPTIONS.iter().map(table_entry).collect();
    let options = number_options().into_iter().chain(other_options());
    let defaults: String = options
        .map(|JsOption { name, default, .. }| format!("  {name}: {default},\n"))
        .collect();
    let command = command(MODULE);
    format!(
        "// @ts-check
// The options of `generate`: the table of those that are numbers, and the defaults of all; the weight formats.
// Generated from src/base/quant.rs, src/text/sampling/options.rs and src/session/mod.rs; do not edit. To regenerate it:
// {command}

/** @type {{typeof import(\"./generate_options.d.ts\").WEIGHTS}} */
export const WEIGHTS = [{}];

/** @type {{typeof import(\"./generate_options.d.ts\").NUMBER_OPTIONS}} */
export const NUMBER_OPTIONS = [
{table}];

/** @type {{typeof import(\"./generate_options.d.ts\").GENERATE_DEFAULTS}} */
export const GENERATE_DEFAULTS = {{
{defaults}}};
",
        weights(", ")
    )
}

/// The names of all weight formats in quotes.
fn weights(separator: &str) -> String {
    let names = WeightFormat::ALL.map(|format| format!("{:?}", format.name()));
    names.join(separator)
}

#[test]
fn the_options_in_the_js_module_are_generated_from_those_of_the_engine() {
    assert_generated("www/engine/generate_options.d.ts", &types(), MODULE);
    assert_generated("www/engine/generate_options.js", &module(), MODULE);
}

#[test]
fn every_number_is_an_option_of_generate_with_the_default_of_the_table_and_can_be_set() {
    let mut options = GenerateOptions::default();
    for option in NUMBER_OPTIONS {
        assert_eq!(defaults()[option.name], option.default, "{}", option.name);
        options.set(option, option.usual_max).unwrap();
        let set = serde_json::to_value(&options).unwrap();
        assert_eq!(set[option.name], option.usual_max, "{}", option.name);
        options.set(option, option.min - 1.0).unwrap_err();
    }
}

#[test]
fn every_number_has_a_label_in_every_language() {
    for language in Language::ALL {
        let path = format!("www/words/{}.json", language.code());
        let words: BTreeMap<String, String> = serde_json::from_str(&text_of(&path)).unwrap();
        for option in NUMBER_OPTIONS {
            let label = format!("option.{}", option.name);
            assert!(words.contains_key(&label), "{path}: {label}");
        }
    }
}

/// A preset of the page is a list of what differs from another preset, or from every option being off.
#[test]
fn the_numbers_in_the_presets_of_the_page_are_in_range() {
    let script = text_of("www/playground/sampling.js");
    let presets = between(&script, "PRESETS = {", "};");
    for (preset, n_numbers) in [("greedy", 1), ("creative", 2)] {
        let object = between(presets, &format!("{preset}: {{"), "}");
        let numbers = object.split(',').filter_map(|entry| entry.split_once(':'));
        let numbers: Vec<(&str, &str)> = numbers.collect();
        assert_eq!(numbers.len(), n_numbers, "{preset}");
        for (name, value) in numbers {
            let option = NUMBER_OPTIONS.iter().find(|o| o.name == name.trim());
            let option = option.unwrap_or_else(|| panic!("{preset}: {name}"));
            assert!(option.off.is_some(), "{preset}: {name}");
            option.check(value.trim().parse().unwrap()).unwrap();
        }
    }
}
