//! A tokenizer.json, and texts and ids through the tokenizer that it describes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::text::tokenizer::Tokenizer;

fuzz_target!(
    init: {
        // libFuzzer's own hook ends the process at every panic. The tokenizers crate panics on some files, and the
        // boundary makes an error of it; a panic that passes the boundary still ends the process.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |bytes: &[u8]| {
        let Ok(tokenizer) = Tokenizer::from_bytes("tokenizer.json", bytes, 1000) else {
            return;
        };
        for text in ["", " ", "Hello, world\n", "naïve 👩‍👩‍👧 ﬁ 한국어", "<s>[INST]</s>\u{0}"] {
            if let Ok(ids) = tokenizer.encode(text, true) {
                tokenizer.decode(&ids).ok();
            }
        }
        tokenizer.decode(&[0, 1, 2, 999, u32::MAX]).ok();
    }
);
