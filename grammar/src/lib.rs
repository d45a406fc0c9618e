//! Constrained generation: which tokens a JSON schema or a grammar allows next. It knows tokens as bytes, and no model.
//! This is the narrow interface of the engine `llguidance`, so that the rest of the project does not depend on it.
//!
//! Errors are the engine's own English sentences: a schema or a grammar is a program, and they name its parts.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod js;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

/// A sentence on what is wrong with a schema or a grammar.
pub type Result<T> = std::result::Result<T, String>;

/// White space between the parts of a JSON text, unless its schema specifies it. A text in one line takes the fewest
/// tokens, and small models would continue indentation forever.
const WHITE_SPACE: &str = " ";

/// What the text has to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON schema, as JSON.
    JsonSchema,
    /// A grammar in llguidance's variant of the Lark syntax.
    Grammar,
}

/// The tokens of a model, prepared once for all constraints.
pub struct Vocabulary {
    factory: ParserFactory,
    /// Tokens that read differently at the beginning of a text.
    not_first: Vec<u32>,
}

/// The tokens of a model as bytes.
#[derive(Clone, Copy, Debug)]
pub struct TokenBytes<'a> {
    /// The bytes of all tokens, in the order of their ids. A token without bytes never occurs in a text.
    pub bytes: &'a [u8],
    /// Where the bytes of each token end. `[vocab]`
    pub ends: &'a [u32],
    /// Tokens that read differently at the beginning of a text.
    pub not_first: &'a [u32],
    /// Any of these ends a text, and none occurs in it.
    pub end_tokens: &'a [u32],
}

impl Vocabulary {
    /// # Errors
    /// No end token among the tokens: a text could not end.
    pub fn new(tokens: TokenBytes<'_>) -> Result<Vocabulary> {
        let n_tokens = tokens.ends.len() as u32;
        let mut words: Vec<Vec<u8>> = Vec::with_capacity(tokens.ends.len());
        let mut start = 0;
        for &end in tokens.ends {
            let end = end as usize;
            words.push(tokens.bytes[start..end].to_vec());
            start = end;
        }
        let end_tokens = tokens.end_tokens.iter().copied();
        let end_tokens: Vec<u32> = end_tokens.filter(|token| *token < n_tokens).collect();
        let Some(&first) = end_tokens.first() else {
            return Err("the model has no end token".into());
        };
        for &token in &end_tokens {
            words[token as usize].clear();
        }
        let trie = TokTrie::from(&TokRxInfo::new(n_tokens, first), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(&end_tokens)));
        let factory = ParserFactory::new(
            &env,
            InferenceCapabilities::default(),
            &SlicedBiasComputer::general_slices(),
        );
        let mut factory = factory.map_err(sentence)?;
        factory.quiet();
        // The grammar and the tokens so far would fill an error of pages.
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary {
            factory,
            not_first: tokens.not_first.to_vec(),
        })
    }
}

/// A text in progress that follows a schema or a grammar.
pub struct Constraint {
    matcher: Matcher,
    end_tokens: Vec<u32>,
    /// Until the first token.
    not_first: Vec<u32>,
    allowed: Vec<u32>,
}

impl Constraint {
    /// # Errors
    /// A text that is no schema or grammar, one that needs what the engine lacks, or one that no text can follow.
    pub fn new(vocabulary: &Vocabulary, form: Form, text: &str) -> Result<Constraint> {
        let grammar = match form {
            Form::JsonSchema => TopLevelGrammar::from_json_schema(schema_of(text)?),
            Form::Grammar => TopLevelGrammar::from_lark(text.to_owned()),
        };
        let create = || vocabulary.factory.create_parser(grammar);
        let parser = catch_unwind(AssertUnwindSafe(create)).map_err(sentence)?;
        Ok(Constraint {
            matcher: Matcher::new(Ok(parser)),
            end_tokens: vocabulary
                .factory
                .tok_env()
                .tok_trie()
                .eos_tokens()
                .to_vec(),
            not_first: vocabulary.not_first.clone(),
            allowed: Vec::new(),
        })
    }

    /// The tokens that may come next, one bit per id, in words of 32 bits. Once the text is complete and nothing can
    /// follow it, these are the end tokens.
    ///
    /// # Errors
    /// The limits of the engine, which a grammar with very many continuations can reach.
    pub fn allowed(&mut self) -> Result<&[u32]> {
        let mask = self.matcher.compute_mask_or_eos().map_err(sentence)?;
        let reason = self.matcher.stop_reason();
        if !reason.is_ok() {
            return Err(format!("the grammar is too complex: {reason}"));
        }
        self.allowed.clear();
        self.allowed.extend_from_slice(mask.as_slice());
        for &token in &self.not_first {
            self.allowed[token as usize / 32] &= !(1 << (token % 32));
        }
        Ok(&self.allowed)
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// A token that is not allowed here.
    pub fn commit(&mut self, token: u32) -> Result<()> {
        self.not_first.clear();
        if self.matcher.stop_reason() == StopReason::NoExtension && self.end_tokens.contains(&token)
        {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(sentence)
    }
}

fn schema_of(text: &str) -> Result<Value> {
    let mut schema = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(fields) = schema.as_object_mut() {
        let own = json!({ "whitespace_pattern": WHITE_SPACE });
        fields.entry("x-guidance").or_insert(own);
    }
    Ok(schema)
}

/// The sentence of an error with those of its causes, without the engine's state, which it adds in tags.
fn sentence(error: impl Display) -> String {
    let text = format!("{error:#}");
    let sentence = text.split("\n<").next();
    sentence.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
