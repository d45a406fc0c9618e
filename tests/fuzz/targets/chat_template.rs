//! A chat_template.jinja, rendered for a conversation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::text::chat::{ChatTemplate, Message, SpecialTokens};

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::from_jinja(source, SpecialTokens::default()) else {
        return;
    };
    let message = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let messages = [
        message("system", "Be brief."),
        message("user", "Hello {{ messages }}"),
        message("assistant", "<|im_end|>"),
        message("user", "…"),
    ];
    template.render(&messages, true).ok();
});
