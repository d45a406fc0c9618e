//! Checks a tokenizer.json before the tokenizers crate builds anything from it. The crate returns an error for JSON of
//! the wrong shape, but it panics on inconsistent parts, and in a page a panic ends the engine. So this module refuses
//! everything that would panic, allocate without bound or run without end.
//!
//! JSON of a shape that is not checked here is left to the crate and its error.

use serde_json::{Map, Value};

use crate::base::error::Fact;
use crate::text::tokenizer::patterns::{PatternBudget, PatternError};

/// Ids above this are no rows of any embedding, and the crate continues counting from the largest one.
const LARGEST_ID: u64 = 1 << 30;
/// Bytes of a prefix, suffix or prepended text; the crate adds it to every character or to every piece of text.
const AFFIX_LIMIT_BYTES: usize = 256;
/// Characters of a word that WordPiece tries to split, at a cost that grows with their square.
const WORD_LIMIT_CHARS: u64 = 1000;
/// Special tokens that a post-processor may add.
const ADDED_LIMIT: usize = 1000;

/// Fields that make the crate mistake a part for one of another type, and the types that they belong to.
const TELLING_FIELDS: [(&str, &[&str]); 10] = [
    ("decoders", &["Sequence"]),
    ("length", &["FixedLength"]),
    ("normalizers", &["Sequence"]),
    ("pattern", &["Replace", "Split"]),
    ("precompiled_charsmap", &[]),
    ("prepend", &["Prepend"]),
    ("pretokenizers", &["Sequence"]),
    ("processors", &["Sequence"]),
    ("sep", &["BertProcessing", "RobertaProcessing"]),
    ("single", &["TemplateProcessing"]),
];

/// A tokenizer.json that is safe to build.
pub(super) struct Checked {
    /// The file without truncation, padding and dropout, which are for training.
    pub json: Value,
    /// Upper bound on the bytes of normalised text per byte of input.
    pub growth: usize,
}

/// Parses and checks a tokenizer.json.
pub(super) fn checked(text: &str) -> Result<Checked, Fact> {
    let mut json: Value = serde_json::from_str(text)
        .map_err(|error| Fact::new("not_json").with("detail", error.to_string()))?;
    let mut check = Check {
        growth: 1,
        patterns: PatternBudget::default(),
    };
    if let Some(file) = json.as_object_mut() {
        for setting in ["truncation", "padding"] {
            file.insert(setting.to_owned(), Value::Null);
        }
        let part = |name: &str| file.get(name).filter(|part| !part.is_null());
        if let Some(part) = part("normalizer") {
            check.walk("normalizer", part, "normalizers", Check::normalizer)?;
        }
        if let Some(part) = part("pre_tokenizer") {
            check.walk("pre_tokenizer", part, "pretokenizers", Check::pre_tokenizer)?;
        }
        if let Some(part) = part("decoder") {
            check.walk("decoder", part, "decoders", Check::decoder)?;
        }
        if let Some(part) = part("post_processor") {
            post_processor(part)?;
        }
        if let Some(model) = file.get_mut("model").and_then(Value::as_object_mut) {
            check_model(model)?;
        }
    }
    Ok(Checked {
        json,
        growth: check.growth,
    })
}

fn unsupported(part: &str, found: &str) -> Fact {
    Fact::new("tokenizer_part")
        .with("part", part)
        .with("found", found)
}

fn out_of_range(field: &str) -> Fact {
    Fact::new("tokenizer_field").with("field", field)
}

/// The type of a part. The crate guesses the type of parts without one; no published file has such parts.
fn kind<'a>(part: &str, value: &'a Value) -> Result<&'a str, Fact> {
    let kind = value.get("type").and_then(Value::as_str);
    let kind = kind.ok_or_else(|| Fact::new("tokenizer_part_no_type").with("part", part))?;
    let foreign =
        |(field, kinds): &&(&str, &[&str])| value.get(*field).is_some() && !kinds.contains(&kind);
    match TELLING_FIELDS.iter().find(foreign) {
        Some((field, _)) => Err(Fact::new("tokenizer_part_field")
            .with("part", part)
            .with("kind", kind)
            .with("field", *field)),
        None => Ok(kind),
    }
}

struct Check {
    growth: usize,
    patterns: PatternBudget,
}

impl Check {
    /// Calls `leaf` for the part, or for each part of a `Sequence`.
    fn walk(
        &mut self,
        part: &str,
        value: &Value,
        list: &str,
        leaf: fn(&mut Check, &str, &Value) -> Result<(), Fact>,
    ) -> Result<(), Fact> {
        let kind = kind(part, value)?;
        if kind != "Sequence" {
            return leaf(self, kind, value);
        }
        let stages = value.get(list).and_then(Value::as_array);
        for stage in stages.into_iter().flatten() {
            self.walk(part, stage, list, leaf)?;
        }
        Ok(())
    }

    fn normalizer(&mut self, kind: &str, value: &Value) -> Result<(), Fact> {
        match kind {
            "Replace" => {
                let grown = self.replacement("normalizer.pattern", value)?;
                self.grow(grown);
            }
            "Prepend" => {
                let prepended = text_bytes(value, "prepend");
                within(prepended, AFFIX_LIMIT_BYTES, "normalizer.prepend")?;
                // In front of every piece between added tokens, and a piece has a byte at least.
                self.grow(1 + prepended);
            }
            // The longest decompositions of Unicode, rounded up: 18 characters of two bytes for three bytes.
            "NFKC" | "NFKD" => self.grow(12),
            "NFC" | "NFD" | "Lowercase" | "ByteLevel" => self.grow(4),
            // Lower case, decomposition, and spaces around ideographs.
            "Bert" | "BertNormalizer" => self.grow(32),
            "Strip" | "StripAccents" | "Nmt" => {}
            // A table in a binary format that the crate reads without checking its offsets.
            other => return Err(unsupported("normalizer", other)),
        }
        Ok(())
    }

    fn pre_tokenizer(&mut self, kind: &str, value: &Value) -> Result<(), Fact> {
        match kind {
            "Split" => {
                if let Some(pattern) = regex(value) {
                    let spent = self.patterns.spend(pattern);
                    spent.map_err(|error| error.fact("pre_tokenizer.pattern"))?;
                }
            }
            "FixedLength" if value.get("length").and_then(Value::as_u64) == Some(0) => {
                return Err(out_of_range("pre_tokenizer.length"));
            }
            "ByteLevel" => self.grow(2),
            "Metaspace" => self.grow(8),
            "BertPreTokenizer" | "CharDelimiterSplit" | "Delimiter" | "Digits" | "FixedLength"
            | "Punctuation" | "UnicodeScripts" | "Whitespace" | "WhitespaceSplit" => {}
            other => return Err(unsupported("pre_tokenizer", other)),
        }
        Ok(())
    }

    /// Only the stages that the crate itself runs; [`StreamDecoder`](crate::text::stream::StreamDecoder) does the rest.
    fn decoder(&mut self, kind: &str, value: &Value) -> Result<(), Fact> {
        if kind == "Replace" {
            self.replacement("decoder.pattern", value)?;
        }
        Ok(())
    }

    /// Checks a replacement, and returns the largest factor by which it multiplies a text.
    fn replacement(&mut self, field: &str, value: &Value) -> Result<usize, Fact> {
        let content = text_bytes(value, "content");
        let pattern = value.get("pattern");
        let shortest = match (
            regex(value),
            pattern.and_then(|pattern| pattern.get("String")),
        ) {
            (Some(pattern), _) => {
                let shortest = self.patterns.spend(pattern);
                shortest.map_err(|error| error.fact(field))?
            }
            (None, Some(text)) => text.as_str().map_or(0, str::len),
            (None, None) => return Ok(1),
        };
        // A pattern that matches nothing would insert text where the crate does not expect any.
        if shortest == 0 {
            return Err(PatternError::Empty.fact(field));
        }
        Ok(content.div_ceil(shortest).max(1))
    }

    fn grow(&mut self, factor: usize) {
        self.growth = self.growth.saturating_mul(factor);
    }
}

fn regex(value: &Value) -> Option<&str> {
    value.get("pattern")?.get("Regex")?.as_str()
}

fn text_bytes(value: &Value, field: &str) -> usize {
    value.get(field).and_then(Value::as_str).map_or(0, str::len)
}

fn within(bytes: usize, limit: usize, field: &str) -> Result<(), Fact> {
    if bytes > limit {
        return Err(out_of_range(field));
    }
    Ok(())
}

/// A post-processor may add tokens once, around the one sequence; later ones may only trim offsets.
fn post_processor(value: &Value) -> Result<(), Fact> {
    let part = "post_processor";
    let stages = match kind(part, value)? {
        "Sequence" => value.get("processors").and_then(Value::as_array),
        _ => None,
    };
    let stages = stages.map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut adds = 0;
    for stage in stages {
        match kind(part, stage)? {
            "ByteLevel" => continue,
            "TemplateProcessing" => template(stage)?,
            "BertProcessing" | "RobertaProcessing" => {}
            other => return Err(unsupported(part, other)),
        }
        adds += 1;
    }
    match adds {
        0 | 1 => Ok(()),
        _ => Err(Fact::new("tokenizer_adds_twice").with("part", part)),
    }
}

fn template(value: &Value) -> Result<(), Fact> {
    let (Some(single), Some(special)) = (
        value.get("single").and_then(Value::as_array),
        value.get("special_tokens").and_then(Value::as_object),
    ) else {
        return Ok(());
    };
    let mut sequences = 0;
    let mut added = 0;
    for piece in single {
        if let Some(sequence) = piece.get("Sequence") {
            if sequence.get("id").and_then(Value::as_str) != Some("A") {
                return Err(out_of_range("post_processor.single"));
            }
            sequences += 1;
        } else if let Some(token) = piece.get("SpecialToken") {
            let id = token.get("id").and_then(Value::as_str).unwrap_or_default();
            let field = format!("post_processor.special_tokens.{id}");
            let token = special.get(id).ok_or_else(|| out_of_range(&field))?;
            let count = |list: &str| token.get(list).and_then(Value::as_array).map(Vec::len);
            if count("ids") != count("tokens") {
                return Err(out_of_range(&field));
            }
            added += count("ids").unwrap_or(0);
        }
    }
    if sequences != 1 || added > ADDED_LIMIT {
        return Err(out_of_range("post_processor.single"));
    }
    Ok(())
}

fn check_model(model: &mut Map<String, Value>) -> Result<(), Fact> {
    // Dropout makes the tokens of a text random: it is for training.
    if model.contains_key("dropout") {
        model.insert("dropout".to_owned(), Value::Null);
    }
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let bytes = model.get(field).and_then(Value::as_str).map_or(0, str::len);
        within(bytes, AFFIX_LIMIT_BYTES, &format!("model.{field}"))?;
    }
    let longest_word = model
        .get("max_input_chars_per_word")
        .and_then(Value::as_u64);
    if longest_word.is_some_and(|chars| chars > WORD_LIMIT_CHARS) {
        return Err(out_of_range("model.max_input_chars_per_word"));
    }
    let Some(vocab) = model.get("vocab").and_then(Value::as_object) else {
        return Ok(());
    };
    let too_large = |id: &Value| id.as_u64().is_some_and(|id| id > LARGEST_ID);
    if vocab.values().any(too_large) {
        return Err(out_of_range("model.vocab"));
    }
    let unknown = model.get("unk_token").and_then(Value::as_str);
    if let Some(token) = unknown.filter(|token| !vocab.contains_key(*token)) {
        return Err(Fact::new("unk_token_unknown").with("token", token));
    }
    let prefix = model
        .get("continuing_subword_prefix")
        .and_then(Value::as_str);
    let prefix = prefix.unwrap_or_default();
    let merges = model.get("merges").and_then(Value::as_array);
    for (index, merge) in merges.into_iter().flatten().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            pair => pair
                .get(0)
                .and_then(Value::as_str)
                .zip(pair.get(1).and_then(Value::as_str)),
        };
        let Some((left, right)) = pair else { continue };
        let merged = right
            .strip_prefix(prefix)
            .map(|right| format!("{left}{right}"));
        let in_vocab = |token: &str| vocab.contains_key(token);
        if !(in_vocab(left) && in_vocab(right) && merged.as_deref().is_some_and(in_vocab)) {
            return Err(Fact::new("merge_unknown")
                .with("index", index)
                .with("left", left)
                .with("right", right));
        }
    }
    Ok(())
}
