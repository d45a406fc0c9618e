//! The special tokens that tokenizer_config.json adds to a tokenizer.
//!
//! Its `add_bos_token` and `add_eos_token` are not read: if there is a tokenizer.json the reference ignores them, and
//! only the post-processor of that file adds tokens around a text.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::base::error::{Error, Fact, Result};
use crate::text::chat::{TOKEN_NAMES, TOKENIZER_CONFIG};
use crate::text::tokenizer::Tokenizer;
use crate::text::tokenizer::guard::guarded;

impl Tokenizer {
    /// Applies the text of a tokenizer_config.json as the reference does: its special tokens become special, and those
    /// that tokenizer.json does not have are added behind its ids.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the text is not a JSON object; the tokenizer is
    /// unchanged.
    pub fn apply_config(&mut self, text: &str) -> Result<()> {
        let config: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let fact = Fact::new("not_json_object").with("detail", error.to_string());
            Error::Tokenizer {
                file: TOKENIZER_CONFIG.to_owned(),
                fact,
            }
        })?;
        let tokens = self.special_tokens_of(&config);
        // The crate rebuilds its search for added tokens in each call.
        if tokens.is_empty() {
            return Ok(());
        }
        let mut inner = self.inner.clone();
        guarded(|| inner.add_special_tokens(tokens)).map_err(|fact| self.refusal(fact))?;
        self.inner = inner;
        Ok(())
    }

    /// The tokens of the configuration that are not special yet, or have other flags there.
    fn special_tokens_of(&self, config: &Map<String, Value>) -> Vec<AddedToken> {
        let decoder = config
            .get("added_tokens_decoder")
            .and_then(Value::as_object);
        let mut listed: Vec<(u64, AddedToken)> = decoder
            .into_iter()
            .flatten()
            .filter_map(|(id, token)| Some((id.parse().ok()?, described(token)?)))
            .collect();
        listed.sort_by_key(|(id, _)| *id);
        let mut tokens: Vec<AddedToken> = listed.into_iter().map(|(_, token)| token).collect();

        let named = TOKEN_NAMES.iter().filter_map(|name| config.get(*name));
        let more = ["extra_special_tokens", "additional_special_tokens"];
        let more = more.iter().find_map(|name| config.get(*name)?.as_array());
        for token in named.chain(more.into_iter().flatten()) {
            let token = match token.as_str() {
                Some(text) => Some(self.as_special(text, &tokens)),
                None => described(token),
            };
            tokens.extend(token);
        }
        let known = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        tokens.retain(|token| !known.values().any(|other| other == token));
        tokens
    }

    /// A token given by name only: with the flags that it already has.
    fn as_special(&self, text: &str, listed: &[AddedToken]) -> AddedToken {
        let known = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let same = |token: &&AddedToken| token.content == text;
        let found = listed
            .iter()
            .find(same)
            .or_else(|| known.values().find(same));
        let special = found.map(|token| AddedToken {
            special: true,
            ..token.clone()
        });
        special.unwrap_or_else(|| AddedToken::from(text, true))
    }
}

/// A token given as an object with its text and flags.
fn described(token: &Value) -> Option<AddedToken> {
    let content = token.get("content")?.as_str()?;
    let flag = |name: &str| token.get(name).and_then(Value::as_bool);
    Some(AddedToken {
        content: content.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(false),
        special: flag("special").unwrap_or(true),
    })
}
