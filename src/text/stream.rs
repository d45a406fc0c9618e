//! Streamed pieces of text from tokens, whole UTF-8 only.

use std::mem;

use tokenizers::Decoder;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::strip::Strip;
use tokenizers::pre_tokenizers::metaspace::Metaspace;

use crate::base::error::{Fact, Result};
use crate::text::tokenizer::Tokenizer;
use crate::text::tokenizer::guard::guarded;

/// The decoder of tokenizer.json in a form that works token by token.
#[derive(Clone, Debug)]
pub(super) enum StreamDecoder {
    /// No decoder: tokens are joined by spaces.
    Words,
    /// Each character of a token encodes one byte (GPT-2); UTF-8 sequences may be split over tokens.
    ByteLevel,
    /// `▁` is a space, except in the first token (SentencePiece without byte fallback).
    Metaspace(Metaspace),
    /// The Llama and Mistral chain, each part optional: replacements inside each token, tokens `<0x00>` to `<0xFF>`
    /// for single bytes, and characters stripped from the beginning of the whole text.
    Pieces {
        replacements: Vec<DecoderWrapper>,
        byte_fallback: bool,
        strip: Option<Strip>,
    },
}

impl StreamDecoder {
    /// # Errors
    /// The reason, for a decoder that needs the whole text.
    pub(super) fn new(decoder: Option<&DecoderWrapper>) -> Result<StreamDecoder, Fact> {
        let stages = match decoder {
            None => return Ok(StreamDecoder::Words),
            Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
            Some(single) => std::slice::from_ref(single),
        };
        match stages {
            [DecoderWrapper::ByteLevel(_)] => return Ok(StreamDecoder::ByteLevel),
            [DecoderWrapper::Metaspace(metaspace)] => {
                return Ok(StreamDecoder::Metaspace(metaspace.clone()));
            }
            _ => {}
        }
        let n_replacements = stages
            .iter()
            .take_while(|stage| matches!(stage, DecoderWrapper::Replace(_)))
            .count();
        let (replacements, rest) = stages.split_at(n_replacements);
        let (byte_fallback, rest) = match rest {
            [DecoderWrapper::ByteFallback(_), rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let strip = match rest {
            [] | [DecoderWrapper::Fuse(_)] => None,
            // Stripping at the end would need the end of the text, which a stream does not have.
            [DecoderWrapper::Fuse(_), DecoderWrapper::Strip(strip)] if strip.stop == 0 => {
                Some(strip.clone())
            }
            _ => {
                return Err(Fact::new("unknown_decoder"));
            }
        };
        Ok(StreamDecoder::Pieces {
            replacements: replacements.to_vec(),
            byte_fallback,
            strip,
        })
    }

    /// The text that a token adds unless it is the first, and whether it would add another one at the beginning.
    ///
    /// # Errors
    /// The message of the decoder.
    pub(super) fn bytes_of(&self, token: String) -> Result<(Vec<u8>, bool), Fact> {
        Ok(match self {
            StreamDecoder::Words => (format!(" {token}").into_bytes(), true),
            StreamDecoder::ByteLevel => (byte_level_bytes(&token), false),
            StreamDecoder::Metaspace(metaspace) => {
                let [first, later] = [true, false].map(|first| {
                    let token = token.clone();
                    metaspace_text(metaspace, token, first)
                });
                let (first, later) = (first?, later?);
                let differs = first != later;
                (later.into_bytes(), differs)
            }
            StreamDecoder::Pieces {
                replacements,
                byte_fallback,
                strip,
            } => {
                let piece = replaced(replacements, token)?;
                let byte = fallback_byte(&piece).filter(|_| *byte_fallback);
                let bytes = byte.map_or(piece.into_bytes(), |byte| vec![byte]);
                let strip = strip.as_ref().filter(|strip| strip.start > 0);
                let mut first = [0; 4];
                let differs = strip.is_some_and(|strip| {
                    bytes.starts_with(strip.content.encode_utf8(&mut first).as_bytes())
                });
                (bytes, differs)
            }
        })
    }
}

/// Incremental detokenisation. Each piece is whole characters that no later token can change, and a character is
/// released with the token that completes it; all pieces, with the one of [`finish`](TextStream::finish), concatenate
/// to [`Tokenizer::decode`] of all ids. At most three bytes are held back.
///
/// In one case this is not the text of the reference. Its decoder for byte-fallback tokens works on whole runs of them,
/// so one invalid byte turns the sound characters beside it into U+FFFD, too, and nothing of a run could be released
/// before its end. Here only the bytes of the broken character are U+FFFD, each of them, as there:
///
/// ```text
/// <0xC3>  <0xA9>  ▁a      →  ""  "é"  " a"
/// <0x0A>  <0xF0>  <0x9F>  →  "\n" ""  ""   and "��" in the end; the reference: "���"
/// ```
///
/// The cost per token does not grow with the text.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    held: Held,
    /// What the decoder still strips at the start of the text; `None` before the first visible token.
    leading: Option<Leading>,
}

/// The first bytes of a character that later tokens may complete.
#[derive(Clone, Debug, Default, PartialEq)]
enum Held {
    #[default]
    Nothing,
    /// From byte-level tokens: one U+FFFD if nothing completes them.
    ByteLevel(Vec<u8>),
    /// From byte-fallback tokens: one U+FFFD per byte.
    Fallback(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Leading {
    content: char,
    n_left: usize,
}

impl TextStream {
    pub fn new() -> TextStream {
        TextStream::default()
    }

    /// Adds one token and returns the text that it completes, often none. All tokens of a stream must come from one
    /// tokenizer.
    ///
    /// # Errors
    /// [`Error::Token`](crate::base::error::Error::Token) for an id outside the embedding; the stream is unchanged.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        let Some(token) = tokenizer.visible_token(id)? else {
            return Ok(String::new());
        };
        let first = self.leading.is_none();
        let leading = self.leading.get_or_insert(Leading {
            content: ' ',
            n_left: 0,
        });
        match &tokenizer.stream_decoder {
            StreamDecoder::Words if first => Ok(token),
            StreamDecoder::Words => Ok(format!(" {token}")),
            StreamDecoder::ByteLevel => Ok(self.push_bytes(&token)),
            StreamDecoder::Metaspace(metaspace) => {
                metaspace_text(metaspace, token, first).map_err(|fact| tokenizer.refusal(fact))
            }
            StreamDecoder::Pieces {
                replacements,
                byte_fallback,
                strip,
            } => {
                if let Some(strip) = strip.as_ref().filter(|_| first) {
                    *leading = Leading {
                        content: strip.content,
                        n_left: strip.start,
                    };
                }
                let piece = replaced(replacements, token);
                let piece = piece.map_err(|fact| tokenizer.refusal(fact))?;
                let text = match fallback_byte(&piece).filter(|_| *byte_fallback) {
                    Some(byte) => self.push_fallback_byte(byte),
                    None => self.take_held() + &piece,
                };
                Ok(self.strip_leading(text))
            }
        }
    }

    /// Ends the text: returns what was held, with U+FFFD for incomplete characters. The stream can then be reused.
    pub fn finish(&mut self) -> String {
        let text = self.take_held();
        let text = self.strip_leading(text);
        self.leading = None;
        text
    }

    fn push_bytes(&mut self, token: &str) -> String {
        let mut bytes = match mem::take(&mut self.held) {
            Held::ByteLevel(bytes) => bytes,
            _ => Vec::new(),
        };
        bytes.extend(byte_level_bytes(token));
        let n_whole = bytes.len() - incomplete_bytes(&bytes);
        let text = String::from_utf8_lossy(&bytes[..n_whole]).into_owned();
        bytes.drain(..n_whole);
        if !bytes.is_empty() {
            self.held = Held::ByteLevel(bytes);
        }
        text
    }

    fn push_fallback_byte(&mut self, byte: u8) -> String {
        let mut bytes = match mem::take(&mut self.held) {
            Held::Fallback(bytes) => bytes,
            _ => Vec::new(),
        };
        let n_held = bytes.len();
        bytes.push(byte);
        match std::str::from_utf8(&bytes) {
            Ok(character) => character.to_owned(),
            Err(error) if error.error_len().is_none() => {
                self.held = Held::Fallback(bytes);
                String::new()
            }
            // This byte does not continue the held ones, and may begin a character itself.
            Err(_) if n_held > 0 => replacements_for(n_held) + &self.push_fallback_byte(byte),
            Err(_) => replacements_for(1),
        }
    }

    /// The held bytes as text, given that nothing follows that could complete them.
    fn take_held(&mut self) -> String {
        match mem::take(&mut self.held) {
            Held::Nothing => String::new(),
            Held::ByteLevel(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Held::Fallback(bytes) => replacements_for(bytes.len()),
        }
    }

    fn strip_leading(&mut self, mut text: String) -> String {
        let Some(leading) = &mut self.leading else {
            return text;
        };
        while leading.n_left > 0 && text.starts_with(leading.content) {
            text.drain(..leading.content.len_utf8());
            leading.n_left -= 1;
        }
        if !text.is_empty() {
            leading.n_left = 0;
        }
        text
    }
}

/// The byte-fallback decoder writes one U+FFFD per byte, not one per invalid sequence.
fn replacements_for(n_bytes: usize) -> String {
    String::from(char::REPLACEMENT_CHARACTER).repeat(n_bytes)
}

/// The byte of a byte-fallback token such as `<0xE2>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

fn metaspace_text(metaspace: &Metaspace, token: String, first: bool) -> Result<String, Fact> {
    // The decoder strips the first token of its list, so a later token gets an empty one in front.
    let mut tokens = vec![token];
    if !first {
        tokens.insert(0, String::new());
    }
    guarded(|| metaspace.decode(tokens))
}

fn replaced(replacements: &[DecoderWrapper], token: String) -> Result<String, Fact> {
    let mut piece = token;
    for replacement in replacements {
        piece = guarded(|| replacement.decode(vec![piece]))?;
    }
    Ok(piece)
}

/// A token with a character outside the byte alphabet is an added token: its text is literal.
fn byte_level_bytes(token: &str) -> Vec<u8> {
    let mapped = token.chars().map(byte_of_char).collect::<Option<Vec<u8>>>();
    mapped.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that a character of a byte-level token encodes (GPT-2, `bytes_to_unicode`): printable Latin-1 characters
/// are their own bytes, and the 68 other bytes are U+0100 and up, in order.
fn byte_of_char(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Bytes at the end that begin a character which later bytes may complete; at most 3.
fn incomplete_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let Err(error) = std::str::from_utf8(rest) else {
            return 0;
        };
        let Some(n_invalid) = error.error_len() else {
            return rest.len() - error.valid_up_to();
        };
        rest = &rest[error.valid_up_to() + n_invalid..];
    }
}

#[cfg(test)]
mod tests;
