//! Small tokenizers for the tests of tokens and streams.

use serde_json::{Map, Value, json};

use crate::base::error::Result;
use crate::text::stream::TextStream;
use crate::text::tokenizer::Tokenizer;

/// Larger than every vocabulary below, like a padded embedding.
pub const MODEL_VOCAB_SIZE: usize = 320;

fn special(id: usize, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    })
}

pub fn bpe(tokens: &[String], merges: &[[&str; 2]], unk_token: Option<&str>) -> Value {
    let vocab: Map<String, Value> = tokens
        .iter()
        .zip(0u32..)
        .map(|(token, id)| (token.clone(), json!(id)))
        .collect();
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk_token, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": unk_token.is_some(),
        "ignore_merges": false, "vocab": vocab, "merges": merges
    })
}

/// The byte alphabet as `bytes_to_unicode` of GPT-2 builds it.
pub fn byte_alphabet() -> Vec<String> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            if printable(&byte) {
                return char::from(byte).to_string();
            }
            next += 1;
            char::from_u32(next - 1).unwrap().to_string()
        })
        .collect()
}

/// As GPT-2: ids 0 to 255 are the bytes, then a few merges, then a special token.
pub fn byte_level_json() -> Value {
    let mut tokens = byte_alphabet();
    tokens.extend(["Ġt", "he", "Ġthe", "Ð¿", "ðŁ"].map(String::from));
    let merges = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["Ð", "¿"], ["ð", "Ł"]];
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(261, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
        },
        "model": bpe(&tokens, &merges, None)
    })
}

/// As Mistral: `<unk>`, `<s>`, `</s>`, the bytes as ids 3 to 258, then pieces.
pub fn mistral_json() -> Value {
    let mut tokens = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(
        [
            "▁", "t", "h", "e", "▁t", "he", "▁the", "a", "й", "п", "▁п", "e\u{301}", "▁▁",
        ]
        .map(String::from),
    );
    let merges = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["▁", "п"], ["▁", "▁"]];
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]},
        "model": bpe(&tokens, &merges, Some("<unk>"))
    })
}

pub fn with_decoder(mut json: Value, decoder: Value) -> Value {
    json["decoder"] = decoder;
    json
}

pub fn read(json: &Value) -> Result<Tokenizer> {
    Tokenizer::from_bytes(
        "tokenizer.json",
        json.to_string().as_bytes(),
        MODEL_VOCAB_SIZE,
    )
}

pub fn byte_level() -> Tokenizer {
    read(&byte_level_json()).unwrap()
}

pub fn mistral() -> Tokenizer {
    read(&mistral_json()).unwrap()
}

/// The ids of tokens as the file writes them.
pub fn ids(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<u32> {
    let id = |token: &&str| {
        tokenizer
            .token_id(token)
            .unwrap_or_else(|| panic!("{token}"))
    };
    tokens.iter().map(id).collect()
}

/// The piece of each token, and last the one of `finish`.
pub fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::new();
    let mut pieces: Vec<String> = ids
        .iter()
        .map(|&id| stream.push(tokenizer, id).unwrap())
        .collect();
    pieces.push(stream.finish());
    pieces
}
