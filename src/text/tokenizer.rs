//! Text to token ids and back, by the checkpoint's own tokenizer.json. It stands at both ends of generation: the
//! prompt comes in through [`Tokenizer::encode`], and tokens leave as text through [`TextStream`] and
//! [`StopStrings`]. It reads no files, applies no chat template, and does not know the model.

use std::mem;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::strip::Strip;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::{Decoder, Model};

use crate::error::{Error, Fact, Result};

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
        let refuse = |fact: Fact| Error::Tokenizer {
            file: file.to_owned(),
            fact,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| refuse(Fact::new("not_utf8").with("detail", error.to_string())))?;
        let mut inner: tokenizers::Tokenizer =
            text.parse().map_err(|error: tokenizers::Error| {
                // The second, cheap parse tells a cut download from JSON that is something else.
                match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                    Err(syntax) => refuse(Fact::new("not_json").with("detail", syntax.to_string())),
                    Ok(_) => refuse(Fact::new("not_a_tokenizer").with("detail", error.to_string())),
                }
            })?;
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string().into()))?;

        let Some(largest_id) = inner.get_vocab(true).into_values().max() else {
            return Err(refuse(Fact::new("empty_vocabulary")));
        };
        if largest_id as usize >= vocab_size {
            let fact = Fact::new("large_token_id")
                .with("largest", largest_id)
                .with("vocab_size", vocab_size);
            return Err(refuse(fact));
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

    /// A token as people may read it by itself, in the middle of a text: its text if it has whole characters, or else
    /// its name in the file.
    pub fn token_text(&self, id: u32) -> Result<String> {
        let mut stream = TextStream::new();
        // The first token of a text may lose its leading space.
        stream.push(self, id)?;
        let text = stream.push(self, id)?;
        if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(text);
        }
        Ok(self.inner.id_to_token(id).unwrap_or_default())
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
            fact: error.to_string().into(),
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
    /// Reads the decoder; the error goes into the message.
    fn of(decoder: Option<&DecoderWrapper>) -> Result<Streaming, Fact> {
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
                return Err(Fact::new("unknown_decoder"));
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
                fact: Fact::new("empty_stop"),
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
        let undecided = self
            .held
            .split_off(self.held.len() - self.undecided_bytes());
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

#[cfg(test)]
mod tests {
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Larger than every vocabulary below, like a padded embedding.
    const MODEL_VOCAB_SIZE: usize = 320;

    fn special(id: usize, content: &str) -> Value {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    }

    fn bpe(tokens: &[String], merges: &[[&str; 2]], unk_token: Option<&str>) -> Value {
        let vocab: Map<String, Value> = tokens
            .iter()
            .zip(0u32..)
            .map(|(token, id)| (token.clone(), json!(id)))
            .collect();
        json!({
            "type": "BPE", "dropout": null, "unk_token": unk_token, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": unk_token.is_some(),
            "ignore_merges": false, "vocab": vocab, "merges": merges
        })
    }

    /// The byte alphabet as its paper's code builds it: printable bytes first, then the others in their order.
    fn byte_alphabet() -> Vec<String> {
        let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut next = 0x100;
        (0..=255u8)
            .map(|byte| {
                if printable(&byte) {
                    return char::from(byte).to_string();
                }
                next += 1;
                char::from_u32(next - 1).unwrap().to_string()
            })
            .collect()
    }

    /// GPT-2's kind: ids 0 to 255 are the bytes, then a few merges, then a special token.
    fn byte_level_json() -> Value {
        let mut tokens = byte_alphabet();
        tokens.extend(["Ġt", "he", "Ġthe", "Ð¿", "ðŁ"].map(String::from));
        let merges = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["Ð", "¿"], ["ð", "Ł"]];
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(261, "</s>")],
            "normalizer": null,
            "pre_tokenizer": {
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
            },
            "post_processor": null,
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
            },
            "model": bpe(&tokens, &merges, None)
        })
    }

    /// Mistral's kind: `<unk>`, `<s>`, `</s>`, the bytes as ids 3 to 258, then pieces.
    fn mistral_json() -> Value {
        let mut tokens = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(
            [
                "▁", "t", "h", "e", "▁t", "he", "▁the", "a", "й", "п", "▁п", "e\u{301}", "▁▁",
            ]
            .map(String::from),
        );
        let merges = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["▁", "п"], ["▁", "▁"]];
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
            ]},
            "pre_tokenizer": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
            },
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}
            ]},
            "model": bpe(&tokens, &merges, Some("<unk>"))
        })
    }

    fn with_decoder(mut json: Value, decoder: Value) -> Value {
        json["decoder"] = decoder;
        json
    }

    fn read(json: &Value) -> Result<Tokenizer> {
        Tokenizer::from_bytes(
            "tokenizer.json",
            json.to_string().as_bytes(),
            MODEL_VOCAB_SIZE,
        )
    }

    fn byte_level() -> Tokenizer {
        read(&byte_level_json()).unwrap()
    }

    fn mistral() -> Tokenizer {
        read(&mistral_json()).unwrap()
    }

    /// The ids of tokens as the file writes them.
    fn ids(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<u32> {
        let id = |token: &&str| {
            tokenizer
                .token_id(token)
                .unwrap_or_else(|| panic!("{token}"))
        };
        tokens.iter().map(id).collect()
    }

    /// The pieces of all tokens, and that of the end as the last.
    fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new();
        let mut pieces: Vec<String> = ids
            .iter()
            .map(|&id| stream.push(tokenizer, id).unwrap())
            .collect();
        pieces.push(stream.finish());
        pieces
    }

    /// The pieces, after a check that together they are what `decode` says.
    fn pieces(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<String> {
        let ids = ids(tokenizer, tokens);
        let pieces = stream(tokenizer, &ids);
        assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
        pieces
    }

    #[test]
    fn text_survives_both_ways() {
        for tokenizer in [byte_level(), mistral()] {
            for text in [
                "the the",
                "привет, мир",
                "cafe\u{301} 🦀 👩‍👩‍👧",
                "  two  spaces ",
                "日本\n\ttabs\0",
                "",
            ] {
                let ids = tokenizer.encode(text, false).unwrap();
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
                assert_eq!(stream(&tokenizer, &ids).concat(), text);
            }
        }
    }

    #[test]
    fn the_template_adds_its_special_tokens_only_when_asked() {
        let tokenizer = mistral();
        assert_eq!(
            tokenizer.encode("the", true).unwrap(),
            ids(&tokenizer, &["<s>", "▁the"])
        );
        assert_eq!(
            tokenizer.encode("the", false).unwrap(),
            ids(&tokenizer, &["▁the"])
        );
    }

    #[test]
    fn a_streams_pieces_make_the_decoded_text_for_any_tokens_at_all() {
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let no_strip = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}
        ]});
        let tokenizers = [
            byte_level(),
            mistral(),
            read(&with_decoder(mistral_json(), metaspace)).unwrap(),
            read(&with_decoder(mistral_json(), no_strip)).unwrap(),
            read(&with_decoder(mistral_json(), Value::Null)).unwrap(),
        ];
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for tokenizer in &tokenizers {
            for round in 0..4000u32 {
                let n_tokens = rng.next_u64() % 12;
                let sequence: Vec<u32> = (0..n_tokens)
                    .map(|_| match rng.next_u64() % 4 {
                        // Bytes of one emoji, so that whole, cut and spoilt characters are frequent.
                        0 | 1 if round % 2 == 0 => {
                            let byte =
                                [0xF0, 0x9F, 0xA6, 0x80, 0x20][(rng.next_u64() % 5) as usize];
                            let offset = if tokenizer.token_id("<0x00>").is_some() {
                                3
                            } else {
                                0
                            };
                            byte + offset
                        }
                        _ => (rng.next_u64() % MODEL_VOCAB_SIZE as u64) as u32,
                    })
                    .collect();
                let decoded = tokenizer.decode(&sequence).unwrap();
                assert_eq!(
                    stream(tokenizer, &sequence).concat(),
                    decoded,
                    "{sequence:?}"
                );
            }
        }
    }

    #[test]
    fn an_emoji_split_over_four_tokens_comes_out_whole() {
        let tokenizer = byte_level();
        assert_eq!(
            pieces(&tokenizer, &["ð", "Ł", "¦", "Ģ", "h"]),
            ["", "", "", "🦀", "h", ""]
        );
        let tokenizer = mistral();
        let tokens = ["a", "<0xF0>", "<0x9F>", "<0xA6>", "<0x80>", "h"];
        assert_eq!(
            pieces(&tokenizer, &tokens),
            ["a", "", "", "", "", "🦀h", ""]
        );
    }

    #[test]
    fn words_keep_the_spaces_between_them_and_lose_the_first() {
        let tokenizer = mistral();
        assert_eq!(
            pieces(&tokenizer, &["▁the", "▁the", "▁п", "й"]),
            ["the", " the", " п", "й", ""]
        );
        assert_eq!(
            pieces(&tokenizer, &["<s>", "▁", "▁the"]),
            ["", "", " the", ""]
        );
        assert_eq!(pieces(&tokenizer, &["▁▁", "a"]), [" ", "a", ""]);
        assert_eq!(
            pieces(&tokenizer, &["a", "▁", "</s>", "▁", "a"]),
            ["a", " ", "", " ", "a", ""]
        );
        // A space written as a byte is the first character too.
        assert_eq!(
            pieces(&tokenizer, &["<0x20>", "<0x20>", "a"]),
            ["", "", " a", ""]
        );
        assert_eq!(pieces(&tokenizer, &["<0x20>"]), ["", ""]);
    }

    #[test]
    fn cyrillic_and_combining_marks_come_out_at_once() {
        let tokenizer = byte_level();
        assert_eq!(pieces(&tokenizer, &["Ð¿", "Ð", "¹"]), ["п", "", "й", ""]);
        // A combining mark is a character of its own: its base does not wait for it.
        assert_eq!(
            pieces(&tokenizer, &["e", "Ì", "ģ"]),
            ["e", "", "\u{301}", ""]
        );
        let tokenizer = mistral();
        assert_eq!(
            pieces(&tokenizer, &["▁п", "й", "e\u{301}"]),
            ["п", "й", "e\u{301}", ""]
        );
        assert_eq!(
            pieces(&tokenizer, &["e", "<0xCC>", "<0x81>", "a"]),
            ["e", "", "", "\u{301}a", ""]
        );
    }

    #[test]
    fn special_tokens_are_skipped_even_inside_a_character() {
        assert_eq!(
            pieces(&byte_level(), &["Ð", "</s>", "¹"]),
            ["", "", "й", ""]
        );
        let tokens = ["<s>", "<0xD0>", "</s>", "<0xB9>", "a"];
        assert_eq!(pieces(&mistral(), &tokens), ["", "", "", "", "йa", ""]);
    }

    #[test]
    fn a_stop_after_half_a_character_shows_it_as_broken() {
        assert_eq!(
            pieces(&byte_level(), &["a", "ð", "Ł"]),
            ["a", "", "", "\u{FFFD}"]
        );
        assert_eq!(
            pieces(&mistral(), &["a", "<0xF0>", "<0x9F>"]),
            ["a", "", "", "\u{FFFD}\u{FFFD}"]
        );
    }

    #[test]
    fn broken_bytes_flow_as_soon_as_they_are_broken() {
        // ÿ is 0xFF, which begins no character; Ģ is 0x80, which only continues one.
        let tokens = ["ÿ", "Ģ", "ð", "a", "ð", "ð"];
        let expected = [
            "\u{FFFD}",
            "\u{FFFD}",
            "",
            "\u{FFFD}a",
            "",
            "\u{FFFD}",
            "\u{FFFD}",
        ];
        assert_eq!(pieces(&byte_level(), &tokens), expected);

        let tokens = ["<0xC3>", "<0x28>", "<0xA9>", "<0x41>", "a", "<0x41>", "a"];
        let expected = [
            "",
            "\u{FFFD}\u{FFFD}",
            "\u{FFFD}",
            "\u{FFFD}",
            "a",
            "",
            "Aa",
            "",
        ];
        assert_eq!(pieces(&mistral(), &tokens), expected);
    }

    #[test]
    fn one_bad_byte_spoils_the_whole_run_so_a_sound_run_waits_for_its_end() {
        let sound = ["<0xC3>", "<0xA9>", "a"];
        assert_eq!(pieces(&mistral(), &sound), ["", "", "éa", ""]);
        let spoilt = ["<0xC3>", "<0xA9>", "<0xFF>", "a"];
        assert_eq!(
            pieces(&mistral(), &spoilt),
            ["", "", "\u{FFFD}\u{FFFD}\u{FFFD}", "a", ""]
        );
    }

    #[test]
    fn a_long_text_holds_no_more_than_a_short_one() {
        for (tokenizer, cycle) in [
            (byte_level(), vec!["Ġthe", "ð", "Ł", "¦", "Ģ", "ÿ", "ð"]),
            (
                mistral(),
                vec!["▁the", "<0xF0>", "<0x9F>", "<0xA6>", "<0x80>"],
            ),
            (mistral(), vec!["<0xFF>"]),
        ] {
            let mut stream = TextStream::new();
            for &id in ids(&tokenizer, &cycle).iter().cycle().take(20_000) {
                stream.push(&tokenizer, id).unwrap();
                let n_held = match &stream.held {
                    Held::Nothing | Held::BrokenRun => 0,
                    Held::Character(bytes) | Held::Run { bytes, .. } => bytes.len(),
                };
                assert!(n_held <= 4, "{n_held}");
            }
        }
    }

    #[test]
    fn a_token_by_itself_keeps_its_space_and_is_named_where_it_is_no_text() {
        for (tokenizer, token, text) in [
            (byte_level(), "Ġthe", " the"),
            (byte_level(), "ð", "ð"),
            (mistral(), "▁the", " the"),
            (mistral(), "<0xF0>", "<0xF0>"),
            (mistral(), "</s>", "</s>"),
        ] {
            let id = tokenizer.token_id(token).unwrap();
            assert_eq!(tokenizer.token_text(id).unwrap(), text, "{token}");
        }
    }

    #[test]
    fn a_finished_stream_begins_a_new_text() {
        let tokenizer = mistral();
        let mut stream = TextStream::new();
        for _ in 0..2 {
            assert_eq!(
                stream
                    .push(&tokenizer, tokenizer.token_id("▁the").unwrap())
                    .unwrap(),
                "the"
            );
            assert_eq!(
                stream
                    .push(&tokenizer, tokenizer.token_id("<0xFF>").unwrap())
                    .unwrap(),
                "\u{FFFD}"
            );
            assert_eq!(stream.finish(), "");
        }
    }

    #[test]
    fn an_id_that_only_the_model_knows_has_no_text_and_one_that_nobody_knows_is_named() {
        let tokenizer = mistral();
        let padded = MODEL_VOCAB_SIZE as u32 - 1;
        assert_eq!(tokenizer.decode(&[padded]).unwrap(), "");
        assert_eq!(stream(&tokenizer, &[padded]).concat(), "");
        let unknown = Error::Token {
            token: MODEL_VOCAB_SIZE as u32,
            vocab_size: MODEL_VOCAB_SIZE,
        };
        assert_eq!(
            tokenizer.decode(&[padded, padded + 1]),
            Err(unknown.clone())
        );
        assert_eq!(TextStream::new().push(&tokenizer, padded + 1), Err(unknown));
    }

    #[test]
    fn the_byte_alphabet_is_the_published_one() {
        for (character, byte) in byte_alphabet().iter().zip(0..=255) {
            assert_eq!(byte_of_char(character.chars().next().unwrap()), Some(byte));
        }
        for outside in [' ', '\u{7F}', '\u{A0}', '\u{AD}', '\u{144}', '日'] {
            assert_eq!(byte_of_char(outside), None);
        }
    }

    fn refusal(bytes: &[u8], vocab_size: usize) -> String {
        match Tokenizer::from_bytes("a/tokenizer.json", bytes, vocab_size) {
            Err(Error::Tokenizer { file, fact }) => {
                assert_eq!(file, "a/tokenizer.json");
                fact.to_string()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_that_are_no_tokenizer_are_refused_with_the_reason() {
        assert!(refusal(b"\xFF{}", 10).contains("not UTF-8"));
        assert!(refusal(b"", 10).contains("not valid JSON"));
        let whole = mistral_json().to_string();
        assert!(refusal(&whole.as_bytes()[..whole.len() / 2], 320).contains("not valid JSON"));
        assert!(refusal(b"{\"model_type\": \"zamba2\"}", 10).contains("describes no tokenizer"));
    }

    #[test]
    fn an_empty_vocabulary_is_refused() {
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": bpe(&[], &[], None)
        });
        assert!(refusal(json.to_string().as_bytes(), 10).contains("vocabulary is empty"));
    }

    #[test]
    fn ids_that_do_not_fit_the_model_are_refused_with_both_numbers() {
        let json = byte_level_json().to_string();
        let fact = refusal(json.as_bytes(), 261);
        assert!(
            fact.contains("261") && fact.contains("261 tokens"),
            "{fact}"
        );
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", json.as_bytes(), 262).unwrap();
        assert_eq!(tokenizer.vocab_size(), 262);
    }

    #[test]
    fn a_decoder_that_a_stream_cannot_follow_is_refused_at_once() {
        for decoder in [
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!({"type": "Sequence", "decoders": [
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}
            ]}),
        ] {
            let json = with_decoder(mistral_json(), decoder).to_string();
            assert!(refusal(json.as_bytes(), MODEL_VOCAB_SIZE).contains("decoder"));
        }
    }

    #[test]
    fn truncation_in_the_file_cuts_no_prompt() {
        let mut json = mistral_json();
        json["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<unk>"
        });
        let tokenizer = read(&json).unwrap();
        assert_eq!(tokenizer.encode("the the the the", false).unwrap().len(), 4);
    }

    fn stops(stops: &[&str]) -> StopStrings {
        StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap()
    }

    #[test]
    fn a_possible_beginning_is_held_until_it_is_decided() {
        let mut stop = stops(&["\n\nUser:"]);
        assert_eq!(stop.push("Hi.\n"), ("Hi.".to_owned(), false));
        assert_eq!(stop.push("\nUs"), (String::new(), false));
        assert_eq!(stop.push("ing\n"), ("\n\nUsing".to_owned(), false));
        assert_eq!(stop.push("\nUser: no"), (String::new(), true));
        assert_eq!(stop.push("more"), (String::new(), true));
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn the_end_releases_what_was_held() {
        let mut stop = stops(&["END"]);
        assert_eq!(stop.push("the EN"), ("the ".to_owned(), false));
        assert_eq!(stop.finish(), "EN");
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        let mut stop = stops(&[]);
        assert_eq!(stop.push("anything"), ("anything".to_owned(), false));
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let refused = StopStrings::new(vec!["a".to_owned(), String::new()]);
        assert!(matches!(refused, Err(Error::Setting { name, .. }) if name == "stop"));
    }

    /// The rule in its plainest form: add one character at a time, and cut as soon as the text ends with a stop.
    fn cut(text: &str, stops: &[&str]) -> String {
        let mut seen = String::new();
        for c in text.chars() {
            seen.push(c);
            let ended = stops.iter().filter(|stop| seen.ends_with(**stop));
            if let Some(stop) = ended.max_by_key(|stop| stop.len()) {
                seen.truncate(seen.len() - stop.len());
                return seen;
            }
        }
        seen
    }

    #[test]
    fn the_cut_is_the_same_however_the_text_falls_into_pieces() {
        let alphabet = ["a", "b", "é", "🦀"];
        let lists: [&[&str]; 5] = [
            &["aab"],
            &["abéa", "bé"],
            &["éé", "é🦀"],
            &["aaa", "aa🦀"],
            &["🦀", "ab🦀"],
        ];
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        for round in 0..5000 {
            let list = lists[round % lists.len()];
            let characters: Vec<&str> = (0..rng.next_u64() % 10)
                .map(|_| alphabet[(rng.next_u64() % 4) as usize])
                .collect();
            let mut stop = stops(list);
            let mut shown = String::new();
            let mut rest = characters.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + rng.next_u64() as usize % rest.len());
                shown += &stop.push(&piece.concat()).0;
                rest = after;
            }
            shown += &stop.finish();
            let text = characters.concat();
            assert_eq!(shown, cut(&text, list), "{text} with {list:?}");
        }
    }
}
