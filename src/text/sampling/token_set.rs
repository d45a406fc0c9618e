//! The set of tokens that a schema or a grammar allows next.

use crate::base::error::{Error, Fact, Result};

/// A set of token ids, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet(Vec<u32>);

impl TokenSet {
    /// Token `id` is bit `id % 32` of word `id / 32`. Ids beyond the words are not in the set.
    pub fn from_words(words: Vec<u32>) -> TokenSet {
        TokenSet(words)
    }

    pub fn contains(&self, token: u32) -> bool {
        let word = self.0.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// # Errors
    /// [`Error::Grammar`] if none of the tokens below `vocab_size` is in the set.
    pub(super) fn check(&self, vocab_size: usize) -> Result<()> {
        match (0..vocab_size as u32).any(|token| self.contains(token)) {
            true => Ok(()),
            false => Err(Error::Grammar {
                fact: Fact::new("no_token_fits"),
            }),
        }
    }

    /// `masked` becomes the logits, with -inf for tokens outside the set.
    pub(super) fn mask(&self, logits: &[f32], masked: &mut Vec<f32>) {
        masked.clear();
        masked.extend(
            (0u32..)
                .zip(logits)
                .map(|(token, &logit)| match self.contains(token) {
                    true => logit,
                    false => f32::NEG_INFINITY,
                }),
        );
    }
}
