//! Structured output on the command line: the files of a JSON schema or a grammar, and the tokens that they allow,
//! computed by the crate `zamba2-grammar`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use zamba2::base::error::{Error, Fact};
use zamba2::ops::device::Device;
use zamba2::session::{GenerateOptions, Session};
use zamba2::text::sampling::TokenSet;
use zamba2_grammar::{Constraint, Form, TokenBytes, Vocabulary};

#[derive(Args)]
pub struct GrammarArguments {
    /// A file with a JSON schema that the text must follow.
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,

    /// A file with a grammar in the Lark syntax of llguidance that the text must follow.
    #[arg(long, value_name = "FILE", conflicts_with = "json_schema")]
    grammar: Option<PathBuf>,
}

impl GrammarArguments {
    /// # Errors
    /// A file that cannot be read; [`Error::Grammar`] for a schema that is no JSON.
    pub fn apply(&self, options: &mut GenerateOptions) -> Result<(), Error> {
        if let Some(file) = &self.json_schema {
            let schema = serde_json::from_str::<Value>(&text_of(file)?);
            let schema = schema.map_err(|error| Error::Grammar {
                fact: Fact::new("not_json").with("detail", error.to_string()),
            })?;
            options.json_schema = Some(schema);
        }
        if let Some(file) = &self.grammar {
            options.grammar = Some(text_of(file)?);
        }
        Ok(())
    }
}

fn text_of(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(|error| Error::Io {
        file: file.display().to_string(),
        fact: error.to_string().into(),
    })
}

/// The schema or grammar that a generation follows, if any.
pub struct Follow(Option<Constraint>);

impl Follow {
    /// # Errors
    /// [`Error::Grammar`] for a schema or a grammar that cannot be followed; no tokenizer.
    pub fn new<B: Device>(
        session: &Session<B>,
        options: &GenerateOptions,
    ) -> Result<Follow, Error> {
        let (form, text) = match (&options.json_schema, &options.grammar) {
            (Some(schema), _) => (Form::JsonSchema, schema.to_string()),
            (None, Some(grammar)) => (Form::Grammar, grammar.clone()),
            (None, None) => return Ok(Follow(None)),
        };
        let tokens = session.tokenizer()?.token_bytes()?;
        let end_tokens = [&session.config().eos_token_ids[..], &options.end_tokens].concat();
        let vocabulary = Vocabulary::new(TokenBytes {
            bytes: &tokens.bytes,
            ends: &tokens.ends,
            not_first: &tokens.not_first,
            end_tokens: &end_tokens,
        });
        let constraint =
            vocabulary.and_then(|vocabulary| Constraint::new(&vocabulary, form, &text));
        Ok(Follow(Some(constraint.map_err(refusal)?)))
    }

    /// The tokens that are allowed next; `None` if all are.
    pub fn allowed(&mut self) -> Result<Option<TokenSet>, Error> {
        let words = self.0.as_mut().map(Constraint::allowed).transpose();
        let words = words.map_err(refusal)?;
        Ok(words.map(|words| TokenSet::from_words(words.to_vec())))
    }

    /// Advances by the token that was chosen.
    pub fn commit(&mut self, token: u32) -> Result<(), Error> {
        let committed = self.0.as_mut().map(|constraint| constraint.commit(token));
        committed.transpose().map_err(refusal).map(drop)
    }
}

fn refusal(detail: String) -> Error {
    Error::Grammar {
        fact: detail.into(),
    }
}
