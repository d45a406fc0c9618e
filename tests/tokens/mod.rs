//! Tokenizers from outside: damaged and contradictory files, start tokens, control tokens in messages, dates in chat
//! templates, and properties that hold for files and templates made at random.

mod bytes;
mod chat;
mod configuration;
mod dates;
mod files;
mod random;

use std::time::Duration;

use serde_json::{Map, Value, json};
use zamba2::base::error::{Error, Fact};
use zamba2::base::local_time::LocalTime;
use zamba2::text::chat::{ChatTemplate, Message, SpecialTokens};
use zamba2::text::tokenizer::Tokenizer;

use crate::support::sentencepiece_json;

const VOCAB_SIZE: usize = 400;
/// What one file or template may take: a second, and more in a build with checks, with other tests beside it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// Llama's kind: `<unk>`, `<s>`, `</s>`, the bytes from id 3, letters from id 259.
fn fallback() -> Value {
    let mut vocab = Map::new();
    let pieces = ["<unk>", "<s>", "</s>"].map(String::from).into_iter();
    let pieces = pieces.chain((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = pieces.chain(["▁", "▁▁", "t", "h", "e", "▁t", "he", "▁the"].map(String::from));
    let pieces = pieces.chain(('a'..='z').map(String::from));
    for piece in pieces {
        let id = vocab.len();
        vocab.entry(piece).or_insert(json!(id));
    }
    let merges = json!([["▁", "t"], ["h", "e"], ["▁t", "he"], ["▁", "▁"]]);
    sentencepiece_json(Value::Object(vocab), merges)
}

/// ChatML over bytes, as GPT-2's and Qwen's kind has them.
fn byte_level() -> Value {
    let mut vocab = Map::new();
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let c = if printable {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap()
        };
        vocab.insert(c.to_string(), json!(byte));
    }
    for (id, piece) in (256..).zip(["<|", "im", "|>", "Ġt", "us", "er"]) {
        vocab.insert(piece.into(), json!(id));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(262, "<|im_start|>"), special(263, "<|im_end|>"), special(264, "<|im_end|>x")],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["<", "|"], ["i", "m"], ["|", ">"], ["Ġ", "t"], ["u", "s"], ["e", "r"]]}
    })
}

fn read(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_bytes("tokenizer.json", json.to_string().as_bytes(), VOCAB_SIZE)
}

/// The fact of a refused tokenizer.json.
fn refusal(json: &Value) -> Fact {
    match read(json) {
        Err(Error::Tokenizer { file, fact }) if file == "tokenizer.json" => fact,
        other => panic!("{other:?}"),
    }
}

fn id_of(fact: &Fact) -> &str {
    match fact {
        Fact::Known { id, .. } => id,
        Fact::Text(_) => "text",
    }
}

fn changed(mut json: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut json);
    json
}

const NOON: LocalTime = LocalTime {
    year: 2026,
    month: 1,
    day: 4,
    hour: 12,
    minute: 0,
    second: 0,
    microsecond: 0,
};

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
    }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_jinja(source, SpecialTokens::default()).unwrap()
}
