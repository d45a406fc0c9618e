//! Text to token ids and back, by the checkpoint's tokenizer.json. It reads no files and applies no chat template.

use tokenizers::Model;

use crate::base::error::{Error, Fact, Result};
use crate::text::stream::{StreamDecoder, TextStream};

/// A parsed tokenizer.json that fits the model's embedding.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    file: String,
    inner: tokenizers::Tokenizer,
    /// Rows of the model's embedding; more than the tokenizer's vocabulary where the embedding is padded.
    model_vocab_size: usize,
    pub(super) stream_decoder: StreamDecoder,
}

impl Tokenizer {
    /// Parses a tokenizer.json. `file` is its name for error messages, `vocab_size` the number of rows of the model's
    /// embedding. Truncation and padding, which files keep from training, are switched off: a prompt is never cut
    /// silently.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the bytes are not a tokenizer.json, if the vocabulary is empty, or if [`TextStream`] does
    /// not support the decoder. A vocabulary with more tokens than the embedding has rows is no fault: files name added
    /// tokens that no text uses, and [`Tokenizer::encode`] refuses a text that does.
    pub fn from_bytes(file: &str, bytes: &[u8], vocab_size: usize) -> Result<Tokenizer> {
        let refuse = |fact: Fact| Error::Tokenizer {
            file: file.to_owned(),
            fact,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| refuse(Fact::new("not_utf8").with("detail", error.to_string())))?;
        let mut inner: tokenizers::Tokenizer =
            text.parse().map_err(|error: tokenizers::Error| {
                // A second, cheap parse distinguishes a truncated download from JSON of another kind.
                match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                    Err(syntax) => refuse(Fact::new("not_json").with("detail", syntax.to_string())),
                    Ok(_) => refuse(Fact::new("not_a_tokenizer").with("detail", error.to_string())),
                }
            })?;
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string().into()))?;

        if inner.get_vocab_size(true) == 0 {
            return Err(refuse(Fact::new("empty_vocabulary")));
        }
        let stream_decoder = StreamDecoder::new(inner.get_decoder()).map_err(refuse)?;
        Ok(Tokenizer {
            file: file.to_owned(),
            inner,
            model_vocab_size: vocab_size,
            stream_decoder,
        })
    }

    /// The token ids of `text`. With `add_special`, the file's post-processor adds its special tokens, such as a
    /// leading `<s>`. Special tokens written in the text become their ids in both cases, as in the reference
    /// implementation.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that the embedding has no row for.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|error| self.failure(error))?;
        let ids = encoding.get_ids();
        ids.iter().try_for_each(|&id| self.check_id(id))?;
        Ok(ids.to_vec())
    }

    /// The text of `ids` without special tokens. Invalid UTF-8 becomes U+FFFD. Ids of the embedding's padding have no
    /// text.
    ///
    /// # Errors
    /// [`Error::Token`] for an id outside the embedding.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        for &id in ids {
            self.check_id(id)?;
        }
        self.inner
            .decode(ids, true)
            .map_err(|error| self.failure(error))
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

    pub(super) fn failure(&self, error: tokenizers::Error) -> Error {
        Error::Tokenizer {
            file: self.file.clone(),
            fact: error.to_string().into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
