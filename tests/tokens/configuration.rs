//! What tokenizer_config.json adds to a tokenizer.

use serde_json::{Value, json};
use zamba2::base::error::Error;
use zamba2::text::tokenizer::Tokenizer;

use super::{changed, fallback, read, special};

#[test]
fn a_token_beyond_the_embedding_refuses_only_the_prompt_that_has_it() {
    let json = changed(fallback(), |json| {
        let added = json["added_tokens"].as_array_mut().unwrap();
        added.push(special(293, "<image>"));
    });
    let n_tokens = read(&json).unwrap().vocab_size();
    let id = n_tokens as u32 - 1;
    let tokenizer =
        Tokenizer::from_bytes("tokenizer.json", json.to_string().as_bytes(), n_tokens - 1).unwrap();
    assert!(tokenizer.encode("the image", true).is_ok());
    let refused = tokenizer.encode("the <image>", true).unwrap_err();
    assert_eq!(
        refused,
        Error::PromptToken {
            token: id,
            text: "<image>".into(),
            vocab_size: n_tokens - 1,
        }
    );
    assert!(refused.to_string().contains("<image>"), "{refused}");
}

#[test]
fn special_tokens_of_the_configuration_are_added_as_the_reference_adds_them() {
    // What transformers 5.24.0 makes of such files, in the ids of this vocabulary.
    let base = read(&fallback()).unwrap();
    let next = base.vocab_size() as u32;
    for (config, text, tail) in [
        // A new token comes behind the others, and one of the vocabulary becomes special.
        (json!({"pad_token": "[NEW]"}), "the[NEW]", vec![next]),
        (
            json!({"extra_special_tokens": ["the"]}),
            "xthe",
            vec![base.token_id("the").unwrap_or(next)],
        ),
        (
            json!({"extra_special_tokens": [], "additional_special_tokens": ["[NEW]"]}),
            "[NEW]",
            vec![base.token_id("]").unwrap_or(3 + 0x5D)],
        ),
        (
            json!({"added_tokens_decoder": {"999": {"content": "[A]"}, "998": {"content": "[B]"}}}),
            "the[A][B]",
            vec![next + 1, next],
        ),
        (
            json!({"bos_token": {"content": "</s>", "lstrip": true}}),
            "the </s>",
            vec![base.token_id("▁the").unwrap(), 2],
        ),
        // What decides about the start token is the post-processor.
        (
            json!({"bos_token": "<s>", "add_bos_token": false, "add_eos_token": true, "eos_token": "</s>"}),
            "the",
            vec![1, base.token_id("▁the").unwrap()],
        ),
    ] {
        let mut tokenizer = base.clone();
        tokenizer.apply_config(&config.to_string()).unwrap();
        let ids = tokenizer.encode(text, true).unwrap();
        assert!(ids.ends_with(&tail), "{config}: {ids:?}");
    }
    let mut bare = read(&changed(fallback(), |json| {
        json["post_processor"] = Value::Null
    }))
    .unwrap();
    bare.apply_config(&json!({"bos_token": "<s>", "add_bos_token": true}).to_string())
        .unwrap();
    assert_eq!(bare.encode("the", true), bare.encode("the", false));
}

#[test]
fn a_configuration_that_is_no_object_is_named_and_leaves_the_tokenizer_as_it_was() {
    let mut tokenizer = read(&fallback()).unwrap();
    for config in ["", "{", "[]"] {
        let refused = tokenizer.apply_config(config).unwrap_err();
        assert_eq!(
            refused.file().as_deref(),
            Some("tokenizer_config.json"),
            "{config}"
        );
    }
    assert!(tokenizer.encode("the", true).is_ok());
}
