//! The tokens that end a text. A checkpoint names them in three places, and tools often change only one of them:
//! config.json, generation_config.json and the tokenizer. A generation ends at any of them.

use crate::base::error::Result;
use crate::loader::foreign;
use crate::model::config::Config;
use crate::model::config::fields::Fields;
use crate::text::chat::SpecialTokens;
use crate::text::tokenizer::Tokenizer;

/// The reference's file of options for generation.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Adds the end tokens of a generation_config.json.
///
/// # Errors
/// Text that is not a JSON object, or end tokens that are no token ids.
pub fn add_generation_config(config: &mut Config, text: &str) -> Result<()> {
    // The file is optional, and some servers respond with a page for a missing file.
    if foreign::is_markup(text.as_bytes()) {
        return Ok(());
    }
    foreign::check_text(GENERATION_CONFIG, text.as_bytes())?;
    let fields = Fields::parse(GENERATION_CONFIG, text)?;
    add(config, fields.token_ids("eos_token_id")?);
    Ok(())
}

/// Adds the end token that a tokenizer_config.json names. Other faults of that file are reported with the chat
/// template.
pub fn add_tokenizer_config(config: &mut Config, text: &str, tokenizer: &Tokenizer) {
    let Ok(tokens) = SpecialTokens::from_tokenizer_config(text) else {
        return;
    };
    let token = tokens.get("eos_token");
    add(config, token.and_then(|token| tokenizer.token_id(token)));
}

fn add(config: &mut Config, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        if !config.eos_token_ids.contains(&id) {
            config.eos_token_ids.push(id);
        }
    }
}
