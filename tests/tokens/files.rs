//! Damaged tokenizer.json files: each is refused with its reason, or read.

use serde_json::{Value, json};
use zamba2::base::error::Error;
use zamba2::text::tokenizer::Tokenizer;

use super::{VOCAB_SIZE, byte_level, changed, fallback, id_of, read, refusal};

#[test]
fn a_file_cut_anywhere_is_not_json() {
    for json in [fallback(), byte_level()] {
        let whole = json.to_string();
        let parts = [
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
            "model",
            "added_tokens",
        ];
        let starts = parts
            .iter()
            .map(|part| whole.find(&format!("\"{part}\":")).unwrap());
        // Every byte of the first two hundred of each part, and some of all others.
        let cuts = starts.flat_map(|start| start..start + 200);
        for cut in cuts
            .chain((0..whole.len()).step_by(97))
            .filter(|cut| *cut < whole.len())
        {
            let Some(text) = whole.get(..cut) else {
                continue;
            };
            match Tokenizer::from_bytes("tokenizer.json", text.as_bytes(), VOCAB_SIZE) {
                Err(Error::Tokenizer { fact, .. }) => assert_eq!(id_of(&fact), "not_json", "{cut}"),
                other => panic!("{cut}: {other:?}"),
            }
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn parts_that_contradict_one_another_are_refused_with_the_reason() {
    let model =
        |field: &str, value: Value| changed(fallback(), |json| json["model"][field] = value);
    let part = |name: &str, value: Value| changed(fallback(), |json| json[name] = value);
    let post = |single: Value, special: Value| {
        part(
            "post_processor",
            json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special}),
        )
    };
    let a = || json!({"Sequence": {"id": "A", "type_id": 0}});
    let s = || json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    for (json, id) in [
        // A prefix that no merge has, one in the middle of a character, and one longer than what it should begin.
        (
            model("continuing_subword_prefix", json!("@@")),
            "merge_unknown",
        ),
        (
            model("continuing_subword_prefix", json!("@".repeat(300))),
            "tokenizer_field",
        ),
        (model("merges", json!([["▁", "nowhere"]])), "merge_unknown"),
        (model("merges", json!([["t", "h"]])), "merge_unknown"),
        (model("merges", json!(["t"])), "not_a_tokenizer"),
        (model("merges", json!([["t", "h", "e"]])), "merge_unknown"),
        (model("unk_token", json!("<none>")), "unk_token_unknown"),
        (
            model("vocab", json!({"a": 4_000_000_000u32})),
            "tokenizer_field",
        ),
        (model("vocab", json!({})), "unk_token_unknown"),
        (model("vocab", json!([["a", 0.0]])), "not_a_tokenizer"),
        (
            part(
                "model",
                json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}),
            ),
            "not_a_tokenizer",
        ),
        (
            part(
                "model",
                json!({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100_000_000, "vocab": {"a": 0}}),
            ),
            "tokenizer_field",
        ),
        (part("decoder", json!("Fuse")), "tokenizer_part_no_type"),
        (
            part(
                "decoder",
                json!({"type": "Strip", "content": "x", "start": 0, "stop": 99}),
            ),
            "unknown_decoder",
        ),
        (part("decoder", json!({"type": "Strip"})), "not_a_tokenizer"),
        (
            part("decoder", json!({"type": "Nonsense"})),
            "not_a_tokenizer",
        ),
        (
            part(
                "decoder",
                json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
            ),
            "pattern_syntax",
        ),
        (
            part(
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            ),
            "tokenizer_part_field",
        ),
        (
            part("normalizer", json!({"type": "Precompiled"})),
            "tokenizer_part",
        ),
        (
            part(
                "normalizer",
                json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
            ),
            "tokenizer_field",
        ),
        (
            part(
                "normalizer",
                json!({"type": "Replace", "pattern": {"Regex": "(a+)+(?!b)"}, "content": ""}),
            ),
            "pattern_cost",
        ),
        // Parts that would be taken for others than they say.
        (
            part(
                "decoder",
                json!({"type": "Nonsense", "pattern": {"Regex": "("}, "content": ""}),
            ),
            "tokenizer_part_field",
        ),
        (
            part(
                "normalizer",
                json!({"type": "BertNormalizer", "precompiled_charsmap": "AAAA"}),
            ),
            "tokenizer_part_field",
        ),
        (
            part(
                "post_processor",
                json!({"type": "ByteLevel", "single": [], "pair": [], "special_tokens": {}}),
            ),
            "tokenizer_part_field",
        ),
        (
            part("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
            "tokenizer_field",
        ),
        (post(json!([s(), a()]), json!({})), "tokenizer_field"),
        (post(json!([]), json!({})), "tokenizer_field"),
        (post(json!([a(), a()]), json!({})), "tokenizer_field"),
        (
            post(json!([{"Sequence": {"id": "B", "type_id": 0}}]), json!({})),
            "tokenizer_field",
        ),
        (
            post(
                json!([s(), a()]),
                json!({"<s>": {"id": "<s>", "ids": [1, 2], "tokens": ["<s>"]}}),
            ),
            "tokenizer_field",
        ),
        (
            part(
                "post_processor",
                json!({"type": "Sequence", "processors": [
                    {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
                    {"type": "TemplateProcessing", "single": [a()], "pair": [], "special_tokens": {}}
                ]}),
            ),
            "tokenizer_adds_twice",
        ),
    ] {
        let fact = refusal(&json);
        assert_eq!(id_of(&fact), id, "{fact}: {}", json["decoder"]);
    }
}

#[test]
fn a_prefix_that_merges_begin_with_is_read() {
    let json = changed(fallback(), |json| {
        json["model"]["continuing_subword_prefix"] = json!("@@");
        json["model"]["vocab"]["@@h"] = json!(390);
        json["model"]["vocab"]["th"] = json!(391);
        json["model"]["merges"] = json!([["t", "@@h"]]);
        json["normalizer"] = Value::Null;
    });
    assert_eq!(read(&json).unwrap().encode("th", false).unwrap(), [391]);
}

#[test]
fn a_text_that_normalizers_would_blow_up_is_refused_before_they_run() {
    let grow = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    let json = changed(fallback(), |json| {
        json["normalizer"] = json!({"type": "Sequence", "normalizers": vec![grow; 30]});
    });
    let tokenizer = read(&json).unwrap();
    let Err(Error::Tokenizer { fact, .. }) = tokenizer.encode("a", false) else {
        panic!("a text of 8^30 letters");
    };
    assert_eq!(id_of(&fact), "long_text");
}

#[test]
fn dropout_in_the_file_makes_no_tokens_random() {
    let json = changed(fallback(), |json| json["model"]["dropout"] = json!(0.9));
    let (with, without) = (read(&json).unwrap(), read(&fallback()).unwrap());
    let text = "the the the the the the";
    for _ in 0..20 {
        assert_eq!(with.encode(text, true), without.encode(text, true));
    }
}
