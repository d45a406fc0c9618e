//! Encodes a conversation in which the text of a message spells control tokens: these stay text, and the template's own
//! become tokens.

use std::collections::HashMap;

use tokenizers::AddedToken;

use crate::base::error::Result;
use crate::text::tokenizer::Tokenizer;
use crate::text::tokenizer::guard::guarded;

/// The characters that stand for the template's control tokens: a private-use plane.
const ALIASES: std::ops::RangeInclusive<char> = '\u{F0100}'..='\u{FFFFD}';

impl Tokenizer {
    /// The special tokens that a text can spell, as text.
    pub fn control_tokens(&self) -> Vec<String> {
        let tokens = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let special = tokens.values().filter(|token| token.special);
        let mut tokens: Vec<String> = special.map(|token| token.content.clone()).collect();
        tokens.sort_unstable();
        tokens
    }

    /// The token ids of a text whose control tokens at the byte offsets `literal` are text, as if the vocabulary did
    /// not have them there. `literal` is in ascending order.
    ///
    /// # Errors
    /// As for [`encode`](Tokenizer::encode).
    pub fn encode_literal(&self, text: &str, literal: &[usize]) -> Result<Vec<u32>> {
        if literal.is_empty() {
            return self.encode(text, false);
        }
        // The crate treats all special tokens of a text alike. So the intended ones are replaced by characters which a
        // copy of the tokenizer has as tokens with the same behaviour, and special tokens are disabled in the copy.
        let (aliased, aliases) = self.with_aliases(text, literal);
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(true);
        let tokens = aliases.iter().map(|(alias, token)| AddedToken {
            content: alias.clone(),
            special: false,
            single_word: false,
            ..token.clone()
        });
        guarded(|| inner.add_tokens(tokens)).map_err(|fact| self.refusal(fact))?;
        let meant: HashMap<u32, u32> = aliases
            .iter()
            .filter_map(|(alias, token)| {
                let id = self.inner.token_to_id(&token.content)?;
                Some((inner.token_to_id(alias)?, id))
            })
            .collect();
        let mut ids = self.ids(&inner, &aliased, false)?;
        for id in &mut ids {
            *id = meant.get(id).copied().unwrap_or(*id);
        }
        self.check_prompt(&ids)?;
        Ok(ids)
    }

    /// The text with an unused character for each intended control token, and the token of each such character. As in
    /// the crate, the leftmost and longest token wins.
    fn with_aliases(&self, text: &str, literal: &[usize]) -> (String, Vec<(String, AddedToken)>) {
        let tokens = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let mut special: Vec<&AddedToken> = tokens.values().filter(|token| token.special).collect();
        special.sort_unstable_by_key(|token| std::cmp::Reverse(token.content.len()));
        let unused =
            |c: &char| !text.contains(*c) && self.inner.token_to_id(&c.to_string()).is_none();
        let mut unused = ALIASES.filter(unused);

        let mut aliased = String::with_capacity(text.len());
        let mut aliases: Vec<(String, AddedToken)> = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let start = text.len() - rest.len();
            let token = match literal.binary_search(&start) {
                Ok(_) => None,
                Err(_) => special
                    .iter()
                    .find(|token| rest.starts_with(token.content.as_str())),
            };
            let known =
                token.and_then(|token| aliases.iter().position(|(_, other)| other == *token));
            let alias = match (token, known) {
                (None, _) => None,
                (Some(_), Some(index)) => Some(index),
                (Some(token), None) => unused.next().map(|alias| {
                    aliases.push((alias.to_string(), (*token).clone()));
                    aliases.len() - 1
                }),
            };
            match alias {
                Some(index) => {
                    let (alias, token) = &aliases[index];
                    aliased.push_str(alias);
                    rest = &rest[token.content.len()..];
                }
                None => {
                    aliased.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        (aliased, aliases)
    }
}
