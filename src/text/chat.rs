//! Chat templates: renders a conversation to the text that an instruct model was trained on, with the jinja template of
//! its checkpoint. It reads no files, handles no token ids, and passes no tools or documents.

mod limits;
mod literal;
mod python;
mod source;
mod strftime;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Fact, Result};
use crate::base::local_time::LocalTime;
use crate::text::chat::limits::{FUEL, RECURSION_LIMIT, Unwritable, print, unwritable};
use crate::text::chat::python::{python_method, to_json};
use crate::text::chat::source::{TAG_LIMIT_BYTES, longest_tag, without_generation_tags};
use crate::text::chat::strftime::{FORMAT_LIMIT_BYTES, strftime};
use crate::text::tokenizer::Tokenizer;

/// The file of the special tokens and, in older checkpoints, of the template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The file of the template in newer checkpoints; it takes precedence over [`TOKENIZER_CONFIG`].
pub const JINJA: &str = "chat_template.jinja";

/// The special tokens with a name of their own in tokenizer_config.json, which templates may use, in the reference's
/// order.
pub const TOKEN_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant` in most templates.
    pub role: String,
    pub content: String,
}

impl Message {
    /// Keys are in the reference's order, which `tojson` prints.
    fn value(&self) -> Value {
        let (role, content) = (self.role.as_str(), self.content.as_str());
        Value::from_pairs([("role", role), ("content", content)])
    }
}

/// What control tokens written in the messages of a user or a tool become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Text: `<|im_end|>` in a message is ten characters and ends nothing. Control tokens of the template stay tokens.
    #[default]
    Plain,
    /// Tokens, as in the reference: the text of a message may end its turn and begin another role's.
    Control,
}

impl FromStr for Content {
    type Err = Error;

    fn from_str(name: &str) -> Result<Content> {
        match name {
            "plain" => Ok(Content::Plain),
            "control" => Ok(Content::Control),
            _ => Err(Error::Setting {
                name: "content".to_owned(),
                fact: Fact::not_one_of(name, "plain, control"),
            }),
        }
    }
}

/// The special tokens of a checkpoint as text, by the variable names of templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpecialTokens(BTreeMap<&'static str, String>);

impl SpecialTokens {
    /// Reads `bos_token`, `eos_token` and so on from the text of a tokenizer_config.json. Absent and null ones are left
    /// out; templates print nothing for them.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the text is not a JSON object or a token has no text.
    pub fn from_tokenizer_config(text: &str) -> Result<SpecialTokens> {
        let config = parsed(text)?;
        let mut tokens = BTreeMap::new();
        for name in TOKEN_NAMES {
            let token = match config.get(name) {
                None | Some(serde_json::Value::Null) => continue,
                Some(token) => token.as_str().or_else(|| token.get("content")?.as_str()),
            };
            let token = token.ok_or_else(|| {
                damaged(
                    TOKENIZER_CONFIG,
                    Fact::new("token_not_text").with("name", name),
                )
            })?;
            tokens.insert(name, token.to_owned());
        }
        Ok(SpecialTokens(tokens))
    }

    /// The text of a token, by a name such as `eos_token`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A compiled chat template.
///
/// The rendered text already contains the special tokens, the start token included: encode it with
/// `add_special = false`, as the reference does, or the start token may appear twice.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    file: &'static str,
    environment: Environment<'static>,
    tokens: SpecialTokens,
}

impl ChatTemplate {
    /// The template of a checkpoint, from the texts of the two files that may hold it; `None` if neither does. A
    /// chat_template.jinja takes precedence.
    ///
    /// # Errors
    /// As for [`ChatTemplate::from_tokenizer_config`] and [`ChatTemplate::from_jinja`].
    pub fn of_checkpoint(
        tokenizer_config: Option<&str>,
        jinja: Option<&str>,
    ) -> Result<Option<ChatTemplate>> {
        let Some(jinja) = jinja else {
            return tokenizer_config.map_or(Ok(None), ChatTemplate::from_tokenizer_config);
        };
        let tokens = tokenizer_config.map(SpecialTokens::from_tokenizer_config);
        ChatTemplate::from_jinja(jinja, tokens.transpose()?.unwrap_or_default()).map(Some)
    }

    /// Like [`ChatTemplate::of_checkpoint`], from the bytes of the files.
    ///
    /// # Errors
    /// The same; [`Error::ChatTemplate`] for a file that is not UTF-8.
    pub fn of_files(
        tokenizer_config: Option<&[u8]>,
        jinja: Option<&[u8]>,
    ) -> Result<Option<ChatTemplate>> {
        let text = |file: &str, bytes: Option<&'_ [u8]>| {
            let text = bytes.map(|bytes| str::from_utf8(bytes).map(str::to_owned));
            text.transpose().map_err(|error| {
                damaged(
                    file,
                    Fact::new("not_utf8").with("detail", error.to_string()),
                )
            })
        };
        let tokenizer_config = text(TOKENIZER_CONFIG, tokenizer_config)?;
        let jinja = text(JINJA, jinja)?;
        ChatTemplate::of_checkpoint(tokenizer_config.as_deref(), jinja.as_deref())
    }

    /// The template in the text of a tokenizer_config.json, if it has one. Of several, the one named `default`, or else
    /// the first.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the text is not a JSON object, if a template or a token has the wrong type, or if the
    /// template's syntax is wrong.
    pub fn from_tokenizer_config(text: &str) -> Result<Option<ChatTemplate>> {
        let mut config = parsed(text)?;
        let source = match config.remove("chat_template") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(source)) => Some(source),
            Some(named) => chosen(named)?,
        };
        let tokens = SpecialTokens::from_tokenizer_config(text)?;
        let compiled = source.map(|source| compile(TOKENIZER_CONFIG, &source, tokens));
        compiled.transpose()
    }

    /// The template in the text of a chat_template.jinja.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if its syntax is wrong.
    pub fn from_jinja(template: &str, tokens: SpecialTokens) -> Result<ChatTemplate> {
        compile(JINJA, template, tokens)
    }

    /// The special tokens that the template prints.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// The token ids of a conversation up to the start of the assistant's next message. Without control tokens in a
    /// message they are those of [`render`](ChatTemplate::render), encoded with `add_special = false`.
    ///
    /// # Errors
    /// As for [`render`](ChatTemplate::render) and [`Tokenizer::encode`].
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        content: Content,
        now: LocalTime,
    ) -> Result<Vec<u32>> {
        let text = self.render_at(messages, true, now)?;
        let literal = match content {
            Content::Plain => {
                literal::starts(messages, &tokenizer.control_tokens(), &text, |marked| {
                    self.render_at(marked, true, now)
                })
            }
            Content::Control => Vec::new(),
        };
        tokenizer.encode_literal(&text, &literal)
    }

    /// The text of a conversation; with `add_generation_prompt`, up to the start of the assistant's next message. A
    /// template that prints the date prints today's.
    ///
    /// # Errors
    /// [`Error::ChatRefused`], with the template's own message, if it does not accept the conversation;
    /// [`Error::ChatTemplate`] if it fails or does not terminate.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_at(messages, add_generation_prompt, LocalTime::now())
    }

    /// Like [`render`](ChatTemplate::render), where `now` is the time that `strftime_now` prints.
    ///
    /// # Errors
    /// The same.
    pub fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: LocalTime,
    ) -> Result<String> {
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        let tokens = self.tokens.0.iter();
        let tokens = tokens.map(|(name, token)| (*name, Value::from(token.as_str())));
        let context = Value::from_pairs(tokens.chain([
            ("messages", Value::from(messages)),
            // The reference always defines both, and templates test whether they are none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("strftime_now", Value::from_function(strftime_at(now))),
        ]));
        let template = self.environment.get_template(self.file);
        let rendered = template.and_then(|template| template.render(context));
        rendered.map_err(|error| failure(self.file, &error))
    }
}

fn parsed(text: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(text).map_err(|error| {
        let fact = Fact::new("not_json_object").with("detail", error.to_string());
        damaged(TOKENIZER_CONFIG, fact)
    })
}

/// The default of a list of `{name, template}`; `None` if it is empty.
fn chosen(named: serde_json::Value) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        template: String,
    }
    let named: Vec<Named> = serde_json::from_value(named).map_err(|error| {
        let fact = Fact::new("template_list").with("detail", error.to_string());
        damaged(TOKENIZER_CONFIG, fact)
    })?;
    let default = named.iter().position(|entry| entry.name == "default");
    let chosen = named.into_iter().nth(default.unwrap_or(0));
    Ok(chosen.map(|entry| entry.template))
}

/// Compiles a template in the dialect of `transformers`: jinja2 with its two whitespace options, Python's methods, and
/// a few extra functions.
fn compile(file: &'static str, source: &str, tokens: SpecialTokens) -> Result<ChatTemplate> {
    let mut environment = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the delimiters are jinja's own");
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(print);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |words: String| -> Result<Value, _> {
        let error = minijinja::Error::from(ErrorKind::InvalidOperation);
        Err(error.with_source(Refusal(words)))
    });
    // As jinja2 does.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    if longest_tag(&source) > TAG_LIMIT_BYTES {
        let fact = Fact::new("long_tag").with("limit", TAG_LIMIT_BYTES);
        return Err(damaged(file, fact));
    }
    environment
        .add_template_owned(file, without_generation_tags(&source))
        .map_err(|error| failure(file, &error))?;
    Ok(ChatTemplate {
        file,
        environment,
        tokens,
    })
}

/// The template's function `strftime_now`.
fn strftime_at(now: LocalTime) -> impl Fn(String) -> Result<String, minijinja::Error> {
    move |format| {
        if format.len() > FORMAT_LIMIT_BYTES {
            return Err(unwritable("chat_date_format"));
        }
        Ok(strftime(now, &format))
    }
}

/// The message of a template's `raise_exception`, passed through the engine's errors.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn damaged(file: &str, fact: Fact) -> Error {
    Error::ChatTemplate {
        file: file.to_owned(),
        fact,
    }
}

fn failure(file: &'static str, error: &minijinja::Error) -> Error {
    // The innermost error has the place of the failure; those around it are its callers.
    let (mut innermost, mut unwritable) = (error, None);
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        if let Some(Refusal(words)) = next.downcast_ref() {
            return Error::ChatRefused {
                file: file.to_owned(),
                words: words.clone(),
            };
        }
        unwritable = unwritable.or(next.downcast_ref());
        innermost = next.downcast_ref().unwrap_or(innermost);
        source = next.source();
    }
    let line = innermost.line().or_else(|| error.line());
    let detail = match unwritable {
        Some(Unwritable(id)) => Fact::new(id),
        None => {
            let detail = innermost.detail().map(|detail| format!(": {detail}"));
            Fact::Text(format!(
                "{}{}",
                innermost.kind(),
                detail.unwrap_or_default()
            ))
        }
    };
    let fact = match line {
        Some(line) => Fact::new("template_fails_at").with("line", line),
        None => Fact::new("template_fails"),
    };
    damaged(file, fact.with("detail", detail))
}
