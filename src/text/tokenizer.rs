//! Converts text to token ids and back with the checkpoint's tokenizer.json. It reads no files and applies no chat
//! template.

mod check;
mod config;
pub(super) mod guard;
mod literal;
mod patterns;

use tokenizers::Model;

use crate::base::error::{Error, Fact, Result};
use crate::text::stream::{StreamDecoder, TextStream};
use crate::text::tokenizer::check::checked;
use crate::text::tokenizer::guard::guarded;

/// Bytes of text, as the normalizers leave it, that one call may encode. The tokenizers crate keeps 17 bytes per byte.
const ENCODE_LIMIT_BYTES: usize = 1 << 26;

/// A parsed tokenizer.json. Its ids may reach beyond the model's embedding: a prompt with such a token is refused, and
/// the model can't generate one.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    file: String,
    inner: tokenizers::Tokenizer,
    /// Rows of the model's embedding, which is padded in many checkpoints.
    model_vocab_size: usize,
    /// Upper bound on the growth factor of a text's bytes in the normalizers.
    growth: usize,
    pub(super) stream_decoder: StreamDecoder,
}

/// The tokens of a model as bytes, for structured output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBytes {
    /// The bytes of all tokens, as in the middle of a text, in the order of their ids. Tokens without visible text have
    /// none.
    pub bytes: Vec<u8>,
    /// Where the bytes of each token end. `[vocab]`
    pub ends: Vec<u32>,
    /// Tokens that are decoded differently at the beginning of a text, where decoders strip a space.
    pub not_first: Vec<u32>,
}

impl Tokenizer {
    /// Parses a tokenizer.json. `file` is its name for error messages, `vocab_size` the number of rows of the model's
    /// embedding. Truncation, padding and dropout, which files keep from training, are switched off: a prompt is never
    /// cut silently.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the bytes are not a tokenizer.json, if its parts contradict one another, if the
    /// vocabulary is empty, or if [`TextStream`] does not support the decoder. A vocabulary
    /// with more tokens than the embedding has rows is no fault: files name added tokens that no text uses, and
    /// [`Tokenizer::encode`] refuses a text that does.
    pub fn from_bytes(file: &str, bytes: &[u8], vocab_size: usize) -> Result<Tokenizer> {
        let refuse = |fact: Fact| Error::Tokenizer {
            file: file.to_owned(),
            fact,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| refuse(Fact::new("not_utf8").with("detail", error.to_string())))?;
        let file_parts = checked(text).map_err(refuse)?;
        let inner = guarded(|| {
            Ok(serde_json::from_value::<tokenizers::Tokenizer>(
                file_parts.json,
            )?)
        });
        let inner = inner.map_err(|fact| match fact {
            Fact::Text(detail) => refuse(Fact::new("not_a_tokenizer").with("detail", detail)),
            fact => refuse(fact),
        })?;
        if inner.get_vocab_size(true) == 0 {
            return Err(refuse(Fact::new("empty_vocabulary")));
        }
        let stream_decoder = StreamDecoder::new(inner.get_decoder()).map_err(refuse)?;
        Ok(Tokenizer {
            file: file.to_owned(),
            inner,
            model_vocab_size: vocab_size,
            growth: file_parts.growth,
            stream_decoder,
        })
    }

    /// The token ids of `text`. With `add_special`, the post-processor adds its special tokens, such as a leading
    /// `<s>`. Special tokens written in the text become their ids in both cases, as in the reference implementation.
    ///
    /// # Errors
    /// [`Error::PromptToken`] if the text has a token that the model's embedding has no row for; [`Error::Tokenizer`]
    /// if the text is too long, or unknown to a vocabulary without a token for what is unknown.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let ids = self.ids(&self.inner, text, add_special)?;
        self.check_prompt(&ids)?;
        Ok(ids)
    }

    fn ids(
        &self,
        inner: &tokenizers::Tokenizer,
        text: &str,
        add_special: bool,
    ) -> Result<Vec<u32>> {
        if text.len().saturating_mul(self.growth) > ENCODE_LIMIT_BYTES {
            let limit = ENCODE_LIMIT_BYTES / self.growth;
            return Err(self.refusal(Fact::new("long_text").with("limit", limit)));
        }
        let encoding = guarded(|| inner.encode_fast(text, add_special));
        let encoding = encoding.map_err(|fact| self.refusal(fact))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn check_prompt(&self, ids: &[u32]) -> Result<()> {
        let outside = ids.iter().find(|id| **id as usize >= self.model_vocab_size);
        outside.map_or(Ok(()), |&token| {
            Err(Error::PromptToken {
                token,
                text: self.inner.id_to_token(token).unwrap_or_default(),
                vocab_size: self.model_vocab_size,
            })
        })
    }

    /// The text of `ids` without special tokens, equal to that of a [`TextStream`]: bytes that are not UTF-8 become
    /// U+FFFD, and ids of the embedding's padding have no text.
    ///
    /// # Errors
    /// [`Error::Token`] for an id outside the embedding.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut stream = TextStream::new();
        let mut text = String::new();
        for &id in ids {
            text += &stream.push(self, id)?;
        }
        Ok(text + &stream.finish())
    }

    /// Tokens in the file, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token as the file spells it, such as `</s>` or `▁the`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A single token for display, as in the middle of a text: its text if that is whole characters, otherwise its name
    /// in the file.
    pub fn token_text(&self, id: u32) -> Result<String> {
        let mut stream = TextStream::new();
        // Pushed twice, because decoders strip the leading space of the first token.
        stream.push(self, id)?;
        let text = stream.push(self, id)?;
        if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(text);
        }
        Ok(self.inner.id_to_token(id).unwrap_or_default())
    }

    /// The text that every token adds.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the decoder refuses a token.
    pub fn token_bytes(&self) -> Result<TokenBytes> {
        let mut all = TokenBytes::default();
        for id in 0..self.model_vocab_size as u32 {
            if let Some((bytes, differs)) = self.bytes_of(id)? {
                all.bytes.extend(bytes);
                if differs {
                    all.not_first.push(id);
                }
            }
            all.ends.push(all.bytes.len() as u32);
        }
        Ok(all)
    }

    /// The bytes that a token adds in the middle of a text, which may be part of a character; `None` for tokens that
    /// decoding skips.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the decoder refuses the token.
    pub fn bytes_in_text(&self, id: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.bytes_of(id)?.map(|(bytes, _)| bytes))
    }

    // The bytes in the middle of a text, and whether the token is decoded differently at its beginning.
    fn bytes_of(&self, id: u32) -> Result<Option<(Vec<u8>, bool)>> {
        let token = self.visible_token(id)?;
        let bytes = token.map(|token| self.stream_decoder.bytes_of(token));
        bytes.transpose().map_err(|fact| self.refusal(fact))
    }

    /// The decoder's input for a token; `None` for tokens that decoding skips.
    pub(super) fn visible_token(&self, id: u32) -> Result<Option<String>> {
        self.check_id(id)?;
        let special = self.inner.get_added_vocabulary();
        let token = special
            .simple_id_to_token(id)
            .or_else(|| self.inner.get_model().id_to_token(id));
        Ok(token.filter(|token| !special.is_special_token(token)))
    }

    fn check_id(&self, id: u32) -> Result<()> {
        if (id as usize) < self.model_vocab_size {
            return Ok(());
        }
        Err(Error::Token {
            token: id,
            vocab_size: self.model_vocab_size,
        })
    }

    pub(super) fn refusal(&self, fact: Fact) -> Error {
        Error::Tokenizer {
            file: self.file.clone(),
            fact,
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
