//! Random tokenizers and templates: no panic, and no hang.

use std::time::Instant;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use zamba2::base::error::Error;
use zamba2::text::chat::{ChatTemplate, Content, SpecialTokens};
use zamba2::text::stream::TextStream;

use super::{NOON, PATIENCE, VOCAB_SIZE, byte_level, fallback, id_of, message, read};

/// A number below `n`.
fn below(rng: &mut Pcg64Mcg, n: usize) -> usize {
    (rng.next_u64() % n as u64) as usize
}

fn text(rng: &mut Pcg64Mcg) -> String {
    const PARTS: [&str; 24] = [
        "the",
        " ",
        "  ",
        "\n",
        "\t",
        "<s>",
        "</s>",
        "<|im_end|>",
        "é",
        "e\u{301}",
        "🦀",
        "👩‍👩‍👧",
        "▁",
        "日本",
        "\0",
        "İ",
        "ﷺ",
        "\u{AD}",
        "\u{FFFD}",
        "\u{10FFFF}",
        "a1b2",
        "\u{300}",
        "ſt",
        "...",
    ];
    (0..below(rng, 12))
        .map(|_| PARTS[below(rng, PARTS.len())])
        .collect()
}

/// Whether a result is an error from a panic that was caught: natively it is harmless, in a page it ends the engine.
fn panicked<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Tokenizer { fact, .. }) if id_of(fact) == "tokenizer_panic")
}

/// Uses a tokenizer.json in every way; gives what it took to read, and how many texts it encoded.
fn exercise(json: &Value, rng: &mut Pcg64Mcg) -> usize {
    let start = Instant::now();
    let tokenizer = read(json);
    assert!(!panicked(&tokenizer), "{json}");
    let mut n_encoded = 0;
    if let Ok(mut tokenizer) = tokenizer {
        for round in 0..6 {
            let text = text(rng);
            let ids = tokenizer.encode(&text, round % 2 == 0);
            assert!(!panicked(&ids), "{text:?}: {json}");
            let literal: Vec<usize> = text.match_indices("<").map(|(start, _)| start).collect();
            let aliased = tokenizer.encode_literal(&text, &literal);
            assert!(!panicked(&aliased), "{text:?}: {json}");
            let random: Vec<u32> = (0..8).map(|_| below(rng, VOCAB_SIZE) as u32).collect();
            for ids in [ids.unwrap_or_default(), random] {
                n_encoded += usize::from(!ids.is_empty());
                let mut stream = TextStream::new();
                let mut streamed = String::new();
                for &id in &ids {
                    streamed += &stream.push(&tokenizer, id).unwrap();
                }
                streamed += &stream.finish();
                assert_eq!(streamed, tokenizer.decode(&ids).unwrap(), "{json}");
            }
            if round == 3 {
                let config = json!({"bos_token": "<s>", "add_bos_token": true, "pad_token": text});
                let applied = tokenizer.apply_config(&config.to_string());
                assert!(!panicked(&applied), "{config}: {json}");
            }
        }
    }
    let took = start.elapsed();
    assert!(took < PATIENCE, "{took:?}: {json}");
    n_encoded
}

/// One of the values in `json`, at random.
fn spot<'a>(json: &'a mut Value, rng: &mut Pcg64Mcg) -> &'a mut Value {
    let n_inside = match json {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if n_inside == 0 || below(rng, 6) == 0 {
        return json;
    }
    let index = below(rng, n_inside);
    let inside = match json {
        Value::Array(items) => items.get_mut(index),
        Value::Object(fields) => fields.values_mut().nth(index),
        _ => None,
    };
    spot(inside.expect("the index is below the length"), rng)
}

fn mutate(json: &mut Value, rng: &mut Pcg64Mcg) {
    let other = spot(&mut json.clone(), rng).clone();
    let text = text(rng);
    let spot = spot(json, rng);
    let kind = below(rng, 10);
    match spot {
        Value::Array(items) if kind < 3 && !items.is_empty() => {
            let index = below(rng, items.len());
            let item = items.remove(index);
            items.extend(vec![item; kind]);
        }
        Value::Object(fields) if kind < 3 && !fields.is_empty() => {
            let key = fields
                .keys()
                .nth(below(rng, fields.len()))
                .cloned()
                .unwrap();
            let value = fields.remove(&key).unwrap();
            if kind > 0 {
                fields.insert(text, value);
            }
        }
        Value::String(old) if kind < 5 => {
            *old = match kind {
                0 => String::new(),
                1 => old.chars().skip(1).collect(),
                2 => old.repeat(3),
                3 => format!("{old}{text}"),
                _ => text,
            }
        }
        Value::Number(_) if kind < 6 => {
            let numbers = [
                json!(0),
                json!(1),
                json!(-1),
                json!(u32::MAX),
                json!(1u64 << 40),
                json!(0.5),
            ];
            *spot = numbers[kind].clone();
        }
        Value::Bool(flag) if kind < 8 => *flag = !*flag,
        spot => *spot = if kind < 5 { other } else { json!(text) },
    }
}

#[test]
fn files_with_random_changes_neither_panic_nor_hang() {
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let mut n_encoded = 0;
    for case in 0..1500 {
        let mut json = if case % 2 == 0 {
            fallback()
        } else {
            byte_level()
        };
        // The vocabulary is most of the file, and has its turn in a quarter of the cases.
        let vocab = (case % 4 > 0).then(|| json["model"]["vocab"].take());
        for _ in 0..=below(&mut rng, 3) {
            mutate(&mut json, &mut rng);
        }
        if let (Some(vocab), Some(model)) = (
            vocab,
            json.get_mut("model").filter(|model| model.is_object()),
        ) {
            model["vocab"] = vocab;
        }
        n_encoded += exercise(&json, &mut rng);
    }
    assert!(n_encoded > 2000, "{n_encoded}");
}

#[test]
fn chains_of_random_parts_neither_panic_nor_hang() {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let split = |pattern: Value, behavior: &str, invert: bool| {
        let (kind, behavior) = ("Split", behavior.to_owned());
        json!({"type": kind, "pattern": pattern, "behavior": behavior, "invert": invert})
    };
    let normalizers = [
        json!({"type": "NFC"}),
        json!({"type": "NFD"}),
        json!({"type": "NFKC"}),
        json!({"type": "NFKD"}),
        json!({"type": "Lowercase"}),
        json!({"type": "StripAccents"}),
        json!({"type": "Nmt"}),
        json!({"type": "ByteLevel"}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Strip", "strip_left": false, "strip_right": true}),
        json!({"type": "Prepend", "prepend": "▁"}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true}),
        replace(json!({"String": " "}), "▁"),
        replace(json!({"String": "e"}), ""),
        replace(json!({"Regex": " {2,}"}), "▁▁"),
        replace(json!({"Regex": r"\s+(?!\S)"}), "€"),
    ];
    let pre_tokenizers = [
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}),
        json!({"type": "BertPreTokenizer"}),
        json!({"type": "Whitespace"}),
        json!({"type": "WhitespaceSplit"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        json!({"type": "UnicodeScripts"}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "CharDelimiterSplit", "delimiter": "e"}),
        split(json!({"String": "e"}), "Removed", false),
        split(
            json!({"Regex": r"\s+(?!\S)|\p{L}"}),
            "MergedWithPrevious",
            false,
        ),
        split(json!({"Regex": r"\d|"}), "MergedWithNext", true),
        split(json!({"Regex": r"\w*"}), "Contiguous", true),
    ];
    let mut rng = Pcg64Mcg::seed_from_u64(8);
    let mut n_encoded = 0;
    for case in 0..1500 {
        let mut chain = |parts: &[Value]| -> Vec<Value> {
            (0..below(&mut rng, 4))
                .map(|_| parts[below(&mut rng, parts.len())].clone())
                .collect()
        };
        let (normalizers, pre_tokenizers) = (chain(&normalizers), chain(&pre_tokenizers));
        let mut json = if case % 2 == 0 {
            fallback()
        } else {
            byte_level()
        };
        json["normalizer"] = json!({"type": "Sequence", "normalizers": normalizers});
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": pre_tokenizers});
        for token in json["added_tokens"].as_array_mut().unwrap() {
            for flag in ["single_word", "lstrip", "rstrip", "normalized"] {
                token[flag] = json!(below(&mut rng, 3) == 0);
            }
        }
        n_encoded += exercise(&json, &mut rng);
    }
    assert!(n_encoded > 5000, "{n_encoded}");
}

/// What templates are made of; the first eight are their brackets.
const TEMPLATE_PARTS: [&str; 44] = [
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{%- ",
    " -%}",
    "{# ",
    " #}",
    "for m in messages",
    "endfor",
    "if ",
    "else",
    "endif",
    "set x = ",
    "set ns.x = [ns.x, ns.x]",
    "macro f(a)",
    "endmacro",
    "f(1)",
    "m.content",
    "messages",
    "[0]",
    "[::-1]",
    " + ",
    " ~ ",
    " * 99999",
    " | tojson",
    " | upper",
    " | join(', ')",
    ".split('e')",
    ".strip()",
    "raise_exception('no')",
    "strftime_now('%c%c%c')",
    "range(99999)",
    "namespace(x=['a'])",
    "set ns = ",
    "loop.index",
    "'text'",
    "123",
    "not ",
    " and ",
    " == ",
    "(",
    ")",
    "\n",
];

#[test]
fn random_templates_neither_panic_nor_hang() {
    let messages = [
        message("user", "Hello\n<|im_end|>"),
        message("assistant", "é🦀"),
    ];
    let tokenizer = read(&byte_level()).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(9);
    let mut n_rendered = 0;
    for _ in 0..20_000 {
        let mut source = String::from("{% set ns = namespace(x=['a']) %}");
        for _ in 0..=below(&mut rng, 4) {
            let n_parts = 1 + below(&mut rng, 4);
            let inside: String = (0..n_parts)
                .map(|_| TEMPLATE_PARTS[8 + below(&mut rng, TEMPLATE_PARTS.len() - 8)])
                .collect();
            source += &match below(&mut rng, 8) {
                0 => TEMPLATE_PARTS[below(&mut rng, TEMPLATE_PARTS.len())].to_owned(),
                1 => format!("{{% for i in range(99) %}}{{{{ {inside} }}}}{{% endfor %}}"),
                2 => format!("{{% if {inside} %}}x{{% endif %}}"),
                3 => format!("{{% {inside} %}}"),
                _ => format!("{{{{ {inside} }}}}"),
            };
        }
        let start = Instant::now();
        let template = ChatTemplate::from_jinja(&source, SpecialTokens::default());
        let rendered = template.and_then(|template| {
            let text = template.render_at(&messages, true, NOON)?;
            Ok((template, text))
        });
        let took = start.elapsed();
        assert!(took < PATIENCE, "{took:?}: {source}");
        if let Ok((template, text)) = rendered {
            n_rendered += 1;
            // What a long text takes to tokenise is not the template's.
            if text.len() < 10_000 {
                let plain = template.encode(&tokenizer, &messages, Content::Plain, NOON);
                assert!(!panicked(&plain), "{source}");
            }
        }
    }
    assert!(n_rendered > 1000, "{n_rendered}");
}
