use serde_json::json;

use super::*;
use crate::text::tokenizer::fixtures::{
    MODEL_VOCAB_SIZE, bpe, byte_level, byte_level_json, ids, mistral, mistral_json, read, stream,
    with_decoder,
};

#[test]
fn text_survives_both_ways() {
    for tokenizer in [byte_level(), mistral()] {
        for text in [
            "the the",
            "привет, мир",
            "cafe\u{301} 🦀 👩‍👩‍👧",
            "  two  spaces ",
            "日本\n\ttabs\0",
            "",
        ] {
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(stream(&tokenizer, &ids).concat(), text);
        }
    }
}

#[test]
fn the_template_adds_its_special_tokens_only_when_asked() {
    let tokenizer = mistral();
    assert_eq!(
        tokenizer.encode("the", true).unwrap(),
        ids(&tokenizer, &["<s>", "▁the"])
    );
    assert_eq!(
        tokenizer.encode("the", false).unwrap(),
        ids(&tokenizer, &["▁the"])
    );
}

#[test]
fn a_token_by_itself_keeps_its_space_and_is_named_where_it_is_no_text() {
    for (tokenizer, token, text) in [
        (byte_level(), "Ġthe", " the"),
        (byte_level(), "ð", "ð"),
        (mistral(), "▁the", " the"),
        (mistral(), "<0xF0>", "<0xF0>"),
        (mistral(), "</s>", "</s>"),
    ] {
        let id = tokenizer.token_id(token).unwrap();
        assert_eq!(tokenizer.token_text(id).unwrap(), text, "{token}");
    }
}

#[test]
fn a_tokens_bytes_are_what_it_adds_to_a_text_even_if_that_is_part_of_a_character() {
    for (tokenizer, token, bytes) in [
        (byte_level(), "Ġthe", Some(" the".as_bytes())),
        (byte_level(), "ð", Some(&[0xf0])),
        (mistral(), "▁the", Some(b" the")),
        (mistral(), "<0xF0>", Some(&[0xf0])),
        (mistral(), "</s>", None),
    ] {
        let id = tokenizer.token_id(token).unwrap();
        let got = tokenizer.bytes_in_text(id).unwrap();
        assert_eq!(got.as_deref(), bytes, "{token}");
    }
}

#[test]
fn an_id_that_only_the_model_knows_has_no_text_and_one_that_nobody_knows_is_named() {
    let tokenizer = mistral();
    let padded = MODEL_VOCAB_SIZE as u32 - 1;
    assert_eq!(tokenizer.decode(&[padded]).unwrap(), "");
    assert_eq!(stream(&tokenizer, &[padded]).concat(), "");
    let unknown = Error::Token {
        token: MODEL_VOCAB_SIZE as u32,
        vocab_size: MODEL_VOCAB_SIZE,
    };
    assert_eq!(
        tokenizer.decode(&[padded, padded + 1]),
        Err(unknown.clone())
    );
    assert_eq!(TextStream::new().push(&tokenizer, padded + 1), Err(unknown));
}

impl Tokenizer {
    /// What the tokenizers crate makes of ids.
    pub(in crate::text) fn reference_decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap()
    }
}

fn refusal(bytes: &[u8], vocab_size: usize) -> String {
    match Tokenizer::from_bytes("a/tokenizer.json", bytes, vocab_size) {
        Err(Error::Tokenizer { file, fact }) => {
            assert_eq!(file, "a/tokenizer.json");
            fact.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_are_no_tokenizer_are_refused_with_the_reason() {
    assert!(refusal(b"\xFF{}", 10).contains("not UTF-8"));
    assert!(refusal(b"", 10).contains("not valid JSON"));
    let whole = mistral_json().to_string();
    assert!(refusal(&whole.as_bytes()[..whole.len() / 2], 320).contains("not valid JSON"));
    assert!(refusal(b"{\"model_type\": \"zamba2\"}", 10).contains("describes no tokenizer"));
}

#[test]
fn an_empty_vocabulary_is_refused() {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": bpe(&[], &[], None)
    });
    assert!(refusal(json.to_string().as_bytes(), 10).contains("vocabulary is empty"));
}

#[test]
fn a_token_that_the_embedding_has_no_row_for_refuses_the_prompt_and_not_the_model() {
    let json = byte_level_json().to_string();
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", json.as_bytes(), 261).unwrap();
    assert_eq!(tokenizer.vocab_size(), 262);
    assert!(tokenizer.encode("the", true).is_ok());
    assert_eq!(
        tokenizer.encode("the</s>", true),
        Err(Error::PromptToken {
            token: 261,
            text: "</s>".into(),
            vocab_size: 261,
        })
    );
}

#[test]
fn a_decoder_that_a_stream_cannot_follow_is_refused_at_once() {
    for decoder in [
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "Sequence", "decoders": [
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}
        ]}),
    ] {
        let json = with_decoder(mistral_json(), decoder).to_string();
        assert!(refusal(json.as_bytes(), MODEL_VOCAB_SIZE).contains("decoder"));
    }
}

#[test]
fn truncation_in_the_file_cuts_no_prompt() {
    let mut json = mistral_json();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<unk>"
    });
    let tokenizer = read(&json).unwrap();
    assert_eq!(tokenizer.encode("the the the the", false).unwrap().len(), 4);
}
