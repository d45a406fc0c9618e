//! Text to token ids and back, by the checkpoint's own tokenizer.json. It stands at both ends of generation: the
//! prompt comes in through [`Tokenizer::encode`], and tokens leave as text through [`TextStream`] and
//! [`StopStrings`]. It reads no files, applies no chat template, and does not know the model.

use std::mem;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::strip::Strip;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::{Decoder, Model};

use crate::error::{Error, Result};

/// A tokenizer.json, checked against the model's vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    file: String,
    inner: tokenizers::Tokenizer,
    /// The number of rows of the model's embedding. It may exceed the tokenizer's own vocabulary, as embeddings are
    /// often padded.
    model_vocab_size: usize,
    streaming: Streaming,
}

impl Tokenizer {
    /// Reads the bytes of a tokenizer.json. `file` is its name for error messages, and `vocab_size` is the number of
    /// tokens that the model knows.
    ///
    /// Fails with [`Error::Tokenizer`] if the bytes are no tokenizer.json, if the vocabulary is empty or holds an id
    /// that the model does not know, and if the decoder is none of those that [`TextStream`] can follow.
    ///
    /// Truncation and padding in the file are training leftovers and switched off: a prompt is never cut silently.
    pub fn from_bytes(file: &str, bytes: &[u8], vocab_size: usize) -> Result<Tokenizer> {
        let refuse = |fact: String| Error::Tokenizer {
            file: file.to_owned(),
            fact,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| refuse(format!("it is not UTF-8 text: {error}")))?;
        let mut inner: tokenizers::Tokenizer = text.parse().map_err(|error| {
            // The second, cheap parse tells a cut download from JSON that is something else.
            match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Err(syntax) => refuse(format!("it is not valid JSON: {syntax}")),
                Ok(_) => refuse(format!("it describes no tokenizer: {error}")),
            }
        })?;
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string()))?;

        let Some(largest_id) = inner.get_vocab(true).into_values().max() else {
            return Err(refuse("its vocabulary is empty".to_owned()));
        };
        if largest_id as usize >= vocab_size {
            return Err(refuse(format!(
                "its largest token id is {largest_id}, and the model's vocabulary has {vocab_size} tokens"
            )));
        }
        let streaming = Streaming::of(inner.get_decoder()).map_err(refuse)?;
        Ok(Tokenizer {
            file: file.to_owned(),
            inner,
            model_vocab_size: vocab_size,
            streaming,
        })
    }

    /// The ids of `text`. With `add_special`, the file's template adds its tokens, such as `<s>` in front. Special
    /// tokens that are written out in the text become their ids either way, as in the reference implementation.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|error| self.failure(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids` without special tokens. Bytes that form no UTF-8 become U+FFFD. Ids that only the model
    /// knows (a padded embedding) have no text; ids that not even the model knows fail with [`Error::Token`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        for &id in ids {
            self.check_id(id)?;
        }
        self.inner
            .decode(ids, true)
            .map_err(|error| self.failure(error))
    }

    /// The number of tokens that the file names, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token as the file writes it, such as `</s>` or `▁the`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as the decoder sees it; `None` for those that decoding skips.
    fn visible_token(&self, id: u32) -> Result<Option<String>> {
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

    fn failure(&self, error: tokenizers::Error) -> Error {
        Error::Tokenizer {
            file: self.file.clone(),
            fact: error.to_string(),
        }
    }
}

/// How the text of a token depends on its neighbours: the decoder of the file, read as a stream.
#[derive(Clone, Debug)]
enum Streaming {
    /// No decoder: tokens are words, joined by spaces.
    Words,
    /// Each character of a token stands for one byte (GPT-2); characters may be split over tokens.
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

impl Streaming {
    /// Reads the decoder; the error is a fact for the message.
    fn of(decoder: Option<&DecoderWrapper>) -> Result<Streaming, String> {
        let stages = match decoder {
            None => return Ok(Streaming::Words),
            Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
            Some(single) => std::slice::from_ref(single),
        };
        match stages {
            [DecoderWrapper::ByteLevel(_)] => return Ok(Streaming::ByteLevel),
            [DecoderWrapper::Metaspace(metaspace)] => {
                return Ok(Streaming::Metaspace(metaspace.clone()));
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
            // Stripping from the end needs the end, which a stream does not have.
            [DecoderWrapper::Fuse(_), DecoderWrapper::Strip(strip)] if strip.stop == 0 => {
                Some(strip.clone())
            }
            _ => {
                return Err(
                    "its decoder is none of ByteLevel, Metaspace, or Replace, ByteFallback, Fuse \
                     and Strip from the left in this order"
                        .to_owned(),
                );
            }
        };
        Ok(Streaming::Pieces {
            replacements: replacements.to_vec(),
            byte_fallback,
            strip,
        })
    }
}

/// Turns tokens into text one by one. Each piece is whole characters that no later token can change, and the pieces
/// with that of [`finish`](TextStream::finish) make exactly [`Tokenizer::decode`] of all ids.
///
/// Byte-level tokens hold back at most the three bytes of an unfinished character. Byte-fallback tokens hold back
/// more, because their decoder is all or nothing: one bad byte turns its whole run of byte tokens into U+FFFD. A
/// sound run thus waits for the next ordinary token, and a broken one flows as soon as it is broken:
///
/// ```text
/// <0xC3>  <0xA9>  ▁a      →  ""  ""   "é a"
/// <0xC3>  <0x28>  <0xA9>  →  ""  "��" "�"
/// ```
///
/// The cost of a token does not depend on how many came before.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    held: Held,
    /// How much the decoder still strips from the beginning of the text; `None` before the first visible token.
    leading: Option<Leading>,
}

/// What waits for later tokens.
#[derive(Clone, Debug, Default, PartialEq)]
enum Held {
    #[default]
    Nothing,
    /// The beginning of one character.
    Character(Vec<u8>),
    /// A run of byte tokens that is, or may become, UTF-8; the first `n_valid` bytes are whole characters.
    Run { bytes: Vec<u8>, n_valid: usize },
    /// A run that is broken already: every further byte of it is U+FFFD.
    BrokenRun,
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

    /// Adds one token, and returns the text that it completes; often that is empty. All tokens of a stream come from
    /// one tokenizer. Fails with [`Error::Token`] for an id outside the model's vocabulary, and the stream is then
    /// as before.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        let Some(token) = tokenizer.visible_token(id)? else {
            return Ok(String::new());
        };
        let first = self.leading.is_none();
        let leading = self.leading.get_or_insert(Leading {
            content: ' ',
            n_left: 0,
        });
        match &tokenizer.streaming {
            Streaming::Words if first => Ok(token),
            Streaming::Words => Ok(format!(" {token}")),
            Streaming::ByteLevel => Ok(self.push_bytes(&token)),
            Streaming::Metaspace(metaspace) => {
                // The decoder treats the first token of its list apart, so a later one gets an empty one before it.
                let mut tokens = vec![token];
                if !first {
                    tokens.insert(0, String::new());
                }
                metaspace
                    .decode(tokens)
                    .map_err(|error| tokenizer.failure(error))
            }
            Streaming::Pieces {
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
                let mut piece = token;
                for replacement in replacements {
                    piece = replacement
                        .decode(vec![piece])
                        .map_err(|error| tokenizer.failure(error))?;
                }
                let text = match fallback_byte(&piece).filter(|_| *byte_fallback) {
                    Some(byte) => self.push_fallback_byte(byte),
                    None => self.take_held() + &piece,
                };
                Ok(self.strip_leading(text))
            }
        }
    }

    /// Ends the text: returns what was held, with U+FFFD for what never became a character. The stream is then new.
    pub fn finish(&mut self) -> String {
        let text = self.take_held();
        let text = self.strip_leading(text);
        self.leading = None;
        text
    }

    fn push_bytes(&mut self, token: &str) -> String {
        let mut bytes = match mem::take(&mut self.held) {
            Held::Character(bytes) => bytes,
            _ => Vec::new(),
        };
        // A token with any character outside the alphabet was added by hand and stands for itself.
        match token.chars().map(byte_of_char).collect::<Option<Vec<u8>>>() {
            Some(mapped) => bytes.extend(mapped),
            None => bytes.extend(token.as_bytes()),
        }
        let n_whole = bytes.len() - unfinished_bytes(&bytes);
        let text = String::from_utf8_lossy(&bytes[..n_whole]).into_owned();
        bytes.drain(..n_whole);
        if !bytes.is_empty() {
            self.held = Held::Character(bytes);
        }
        text
    }

    fn push_fallback_byte(&mut self, byte: u8) -> String {
        let (mut bytes, n_valid) = match mem::take(&mut self.held) {
            Held::Run { bytes, n_valid } => (bytes, n_valid),
            Held::BrokenRun => {
                self.held = Held::BrokenRun;
                return String::from(char::REPLACEMENT_CHARACTER);
            }
            Held::Nothing | Held::Character(_) => (Vec::new(), 0),
        };
        bytes.push(byte);
        // At most one character lies after `n_valid`, so this look does not grow with the run.
        match std::str::from_utf8(&bytes[n_valid..]) {
            Ok(_) => {
                let n_valid = bytes.len();
                self.held = Held::Run { bytes, n_valid };
                String::new()
            }
            Err(error) if error.error_len().is_none() => {
                self.held = Held::Run { bytes, n_valid };
                String::new()
            }
            Err(_) => {
                self.held = Held::BrokenRun;
                replacements_for(bytes.len())
            }
        }
    }

    /// The held text, as it stands when nothing follows that could complete it.
    fn take_held(&mut self) -> String {
        match mem::take(&mut self.held) {
            Held::Nothing | Held::BrokenRun => String::new(),
            Held::Character(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Held::Run { bytes, .. } => {
                let n_bytes = bytes.len();
                String::from_utf8(bytes).unwrap_or_else(|_| replacements_for(n_bytes))
            }
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

/// The byte-fallback decoder writes one U+FFFD per byte, not one per broken character.
fn replacements_for(n_bytes: usize) -> String {
    String::from(char::REPLACEMENT_CHARACTER).repeat(n_bytes)
}

/// The byte of a token like `<0xE2>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The byte that a character of a byte-level token stands for (GPT-2, `bytes_to_unicode`): printable Latin-1
/// characters are themselves, and the 68 other bytes follow each other from U+0100 on.
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

/// How many bytes at the end begin a character that later bytes may complete; at most 3.
fn unfinished_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let Err(error) = std::str::from_utf8(rest) else {
            return 0;
        };
        let Some(n_broken) = error.error_len() else {
            return rest.len() - error.valid_up_to();
        };
        rest = &rest[error.valid_up_to() + n_broken..];
    }
}

/// Cuts generated text at the first stop string. Text that may be the beginning of one is held back until it is
/// decided, so that no part of a stop string is ever shown.
///
/// The stop string that is complete first wins, and of several complete at once the longest: the cut does not depend
/// on how the text falls into pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Fails with [`Error::Setting`] if a stop string is empty, as it would stop everywhere. No stop strings at all
    /// are fine: nothing is then held.
    pub fn new(stops: Vec<String>) -> Result<StopStrings> {
        if stops.iter().any(String::is_empty) {
            return Err(Error::Setting {
                name: "stop".to_owned(),
                fact: "a stop string is empty".to_owned(),
            });
        }
        Ok(StopStrings {
            stops,
            held: String::new(),
            stopped: false,
        })
    }

    /// Adds a piece of text. Returns what may be shown now, and whether a stop string was met, now or earlier. The
    /// stop string and all that follows it is dropped.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(piece);
        if let Some(start) = self.first_stop() {
            self.stopped = true;
            let mut text = mem::take(&mut self.held);
            text.truncate(start);
            return (text, true);
        }
        let undecided = self.held.split_off(self.held.len() - self.undecided_bytes());
        (mem::replace(&mut self.held, undecided), false)
    }

    /// Ends the text: releases what was held, which nothing can turn into a stop string any more.
    pub fn finish(&mut self) -> String {
        mem::take(&mut self.held)
    }

    /// Where the winning stop string starts.
    fn first_stop(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start))
            })
            .min()
            .map(|(_, start)| start)
    }

    /// The length of the longest end of the held text that begins a stop string.
    fn undecided_bytes(&self) -> usize {
        self.stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(|(end, _)| &stop[..end]))
            .filter(|beginning| self.held.ends_with(beginning))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }
}
