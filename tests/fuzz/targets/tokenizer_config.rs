//! A tokenizer_config.json: special tokens, the template in it, and what it changes in a tokenizer.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use zamba2::text::chat::{ChatTemplate, SpecialTokens};
use zamba2::text::tokenizer::Tokenizer;

const TOKENIZER: &[u8] = include_bytes!("../../fixtures/wild/end_token_in_generation_config/tokenizer.json");

thread_local! {
    static TOKENS: RefCell<Tokenizer> =
        RefCell::new(Tokenizer::from_bytes("tokenizer.json", TOKENIZER, 1000).unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    ChatTemplate::of_files(Some(bytes), None).ok();
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    SpecialTokens::from_tokenizer_config(text).ok();
    TOKENS.with_borrow(|tokenizer| {
        let mut tokenizer = tokenizer.clone();
        if tokenizer.apply_config(text).is_ok() {
            tokenizer.encode("Hello <s> there", true).ok();
        }
    });
});
