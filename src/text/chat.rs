//! A conversation as the text that an instruct model was trained on, by the jinja template of its checkpoint. It stands
//! on floor 0, before the tokenizer. It reads no files, knows no tokens' ids, keeps no conversation, and leaves tools
//! and documents empty.

use std::collections::BTreeMap;
use std::fmt;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Fact, Result};

/// Where checkpoints keep the template and the special tokens.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Where newer checkpoints keep the template; it wins over the one in [`TOKENIZER_CONFIG`].
pub const JINJA: &str = "chat_template.jinja";

/// The special tokens that templates may name.
const TOKEN_NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A template is a stranger's program. This much work renders thousands of messages in well under a second, and a loop
/// without an end stops there; the data it may make meanwhile is [`FUEL_BYTES`] for each unit. The engine charges for a
/// list's text only when it is whole, and lists in lists, each twice, have no end that memory holds: what is printed is
/// measured first ([`print`]). A gap is left where the engine turns such a list into text or compares it by itself,
/// as in `x ~ ''` and `x == y`: there memory or the reader's patience is the bound.
const FUEL: u64 = 1 << 20;
/// What minijinja gives for one unit of fuel.
const FUEL_BYTES: u64 = 64;
/// Far above what templates need, and far below what a browser worker's stack holds.
const RECURSION_LIMIT: usize = 100;

/// The engine parses an expression by one level of the stack for each operator, without a bound of its own. Strings
/// aside, tags of templates are a few hundred bytes long.
const TAG_LIMIT_BYTES: usize = 1500;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` with most templates.
    pub role: String,
    pub content: String,
}

impl Message {
    /// With its keys in the reference's order, which `tojson` shows.
    fn value(&self) -> Value {
        let (role, content) = (self.role.as_str(), self.content.as_str());
        Value::from_pairs([("role", role), ("content", content)])
    }
}

/// The special tokens of a checkpoint as text, by the names that templates know them under.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpecialTokens(BTreeMap<&'static str, String>);

impl SpecialTokens {
    /// Reads `bos_token`, `eos_token` and their like out of the text of a tokenizer_config.json. Those that are absent
    /// or null stay out, and templates print nothing for them.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the text is no JSON object or a token has no text.
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

/// A checkpoint's template, compiled.
///
/// The rendered text already has the special tokens that the model expects, the first one included where it expects
/// one: encode it with `add_special = false`, as the reference does, or there may be two.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    file: &'static str,
    environment: Environment<'static>,
    tokens: SpecialTokens,
}

impl ChatTemplate {
    /// The template of a checkpoint out of the two files that may hold it, each as far as it is there; none if neither
    /// does. A chat_template.jinja wins.
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

    /// As [`ChatTemplate::of_checkpoint`], with the files as they were read.
    ///
    /// # Errors
    /// As there; [`Error::ChatTemplate`] for a file that is no UTF-8.
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

    /// The template in the text of a tokenizer_config.json, if it has one. Of several, that is the one named `default`,
    /// or else the first.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the text is no JSON object, if what it has for a template or a token is none, and if
    /// the template's syntax is wrong.
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

    /// The special tokens that the template was made with.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// The text of a conversation; with `add_generation_prompt`, up to where the model is to go on as the assistant.
    ///
    /// # Errors
    /// [`Error::ChatRefused`], with the template's own words, if the template does not take such a conversation;
    /// [`Error::ChatTemplate`] if it fails or does not come to an end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        let tokens = self.tokens.0.iter();
        let tokens = tokens.map(|(name, token)| (*name, Value::from(token.as_str())));
        let context = Value::from_pairs(tokens.chain([
            ("messages", Value::from(messages)),
            // The reference defines both always, and templates ask whether they are none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
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

/// The template to take of a list of `{name, template}`; none of an empty one.
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

/// Compiles a template for the dialect of `transformers`: jinja2 with its two whitespace options, Python's methods, and
/// a few functions of its own. `strftime_now` is left undefined, as a checkpoint's text should not depend on the day;
/// templates that ask whether it is defined have a date of their own.
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
    // jinja2 reads every kind of line end as a line feed.
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

/// Prints a value of which the fuel that is left can pay for the text.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    if value.as_str().is_none() {
        measure(value, 0, &mut text_limit(state))?;
    }
    escape_formatter(out, state, value)
}

/// Takes what `value` prints from `left`, and for each item inside what a step of the engine costs.
fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), minijinja::Error> {
    if depth > RECURSION_LIMIT {
        return Err(unwritable("the value is nested too deeply"));
    }
    let step_bytes = FUEL_BYTES as usize;
    let rest = left.checked_sub(step_bytes + value.as_str().map_or(0, str::len));
    *left = rest.ok_or_else(|| unwritable("the text is too long"))?;
    let is_map = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => false,
        ValueKind::Map => true,
        _ => return Ok(()),
    };
    // What has items and can't be asked for them prints as something else.
    for item in value.try_iter().into_iter().flatten() {
        measure(&item, depth + 1, left)?;
        if is_map {
            measure(&value.get_item(&item)?, depth + 1, left)?;
        }
    }
    Ok(())
}

/// The bytes of text that the rest of the fuel pays for.
fn text_limit(state: &State) -> usize {
    (state.fuel_levels().map_or(FUEL, |(_, left)| left) * FUEL_BYTES) as usize
}

/// Python's methods of strings, dicts and lists.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    match (value.as_str(), method, arguments) {
        (Some(text), "title", []) => Ok(Value::from(titled(text))),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// Python begins a word after everything that is no letter, where jinja's own filter goes by spaces and brackets.
fn titled(text: &str) -> String {
    let mut inside = false;
    let mut titled = String::new();
    for c in text.chars() {
        if inside {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    titled
}

/// The words of a template's `raise_exception`, carried through the engine's own errors.
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
    // The innermost error is where it happened; those around it are the calls that led there.
    let mut innermost = error;
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        if let Some(Refusal(words)) = next.downcast_ref() {
            return Error::ChatRefused {
                file: file.to_owned(),
                words: words.clone(),
            };
        }
        innermost = next.downcast_ref().unwrap_or(innermost);
        source = next.source();
    }
    let line = innermost.line().or_else(|| error.line());
    let detail = innermost.detail().map(|detail| format!(": {detail}"));
    let detail = format!("{}{}", innermost.kind(), detail.unwrap_or_default());
    let fact = match line {
        Some(line) => Fact::new("template_fails_at").with("line", line),
        None => Fact::new("template_fails"),
    };
    damaged(file, fact.with("detail", detail))
}

/// The bytes of the longest tag, without those inside its strings.
fn longest_tag(source: &str) -> usize {
    let (mut longest, mut rest) = (0, source);
    while let Some(at) = rest.find('{') {
        let tag = rest[at..].split_at_checked(2);
        let Some((open, body)) = tag.filter(|(open, _)| ["{%", "{{", "{#"].contains(open)) else {
            rest = &rest[at + 1..];
            continue;
        };
        let word = body.trim_start_matches(|c: char| c.is_whitespace() || "+-".contains(c));
        let verbatim = match open {
            "{#" => Some("#}"),
            "{%" if word.starts_with("raw") => Some("endraw"),
            _ => None,
        };
        if let Some(end) = verbatim {
            rest = body.split_once(end).map_or("", |(_, rest)| rest);
            continue;
        }
        let close = if open == "{{" { "}}" } else { "%}" };
        let (mut quote, mut escaped, mut length, mut end) = (None, false, 0, body.len());
        for (i, c) in body.char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if c == '\\' => escaped = true,
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if body[i..].starts_with(close) => {
                    end = i;
                    break;
                }
                None => {
                    quote = Some(c).filter(|c| "'\"".contains(*c));
                    length += c.len_utf8();
                }
            }
        }
        longest = longest.max(length);
        rest = &body[end..];
    }
    longest
}

/// Training marks the assistant's words with `{% generation %}`, a tag of the reference's own, which prints its body as
/// it is. A condition that always holds does the same.
fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rewritten.push_str("{%");
        let tag = part.split_once("%}").and_then(|(tag, rest)| {
            let word = tag.trim_matches(|c: char| c.is_whitespace() || "+-".contains(c));
            let replacement = match word {
                "generation" => "if true",
                "endgeneration" => "endif",
                _ => return None,
            };
            Some(format!("{}%}}{rest}", tag.replace(word, replacement)))
        });
        rewritten.push_str(tag.as_deref().unwrap_or(part));
    }
    rewritten
}

/// The filter `tojson` of the reference: Python's `json.dumps`, which puts spaces where others don't and escapes
/// nothing for HTML.
fn to_json(state: &State, value: &Value, arguments: Kwargs) -> Result<Value, minijinja::Error> {
    let indent = given(&arguments, "indent")?;
    let indent = indent.map(usize::try_from).transpose()?;
    let (item, key) = match given(&arguments, "separators")? {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let flag = |name| given(&arguments, name).map(|flag| flag.is_some_and(|flag| flag.is_true()));
    let mut json = PythonJson {
        text: String::new(),
        item,
        key,
        indent,
        only_ascii: flag("ensure_ascii")?,
        sort_keys: flag("sort_keys")?,
        limit_bytes: text_limit(state),
    };
    arguments.assert_all_used()?;
    json.write(value, 0)?;
    Ok(Value::from(json.text))
}

/// A keyword argument; Python's `None` is as good as none.
fn given(arguments: &Kwargs, name: &str) -> Result<Option<Value>, minijinja::Error> {
    let value: Option<Value> = arguments.get(name)?;
    Ok(value.filter(|value| !value.is_none()))
}

fn separator(pair: &Value, index: usize) -> Result<String, minijinja::Error> {
    let separator = pair.get_item(&Value::from(index))?;
    let separator = separator.as_str().map(str::to_owned);
    separator.ok_or_else(|| unwritable("separators are two strings"))
}

fn unwritable(fact: &'static str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::BadSerialization, fact)
}

/// A JSON text in the making. The engine charges for a filter's result only when it is there, and lists inside one
/// another, each twice, have no end that memory holds: the bounds are kept while writing.
struct PythonJson {
    text: String,
    item: String,
    key: String,
    indent: Option<usize>,
    only_ascii: bool,
    sort_keys: bool,
    limit_bytes: usize,
}

impl PythonJson {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        if depth > RECURSION_LIMIT {
            return Err(unwritable("the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.push("[")?;
                let mut first = true;
                for item in value.try_iter()? {
                    self.next(&mut first, depth + 1)?;
                    self.write(&item, depth + 1)?;
                }
                self.close("]", first, depth)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.push("{")?;
                let mut first = true;
                for key in keys {
                    self.next(&mut first, depth + 1)?;
                    let name = key.as_str();
                    self.string(name.ok_or_else(|| unwritable("a key is not a string"))?)?;
                    self.push(&self.key.clone())?;
                    self.write(&value.get_item(&key)?, depth + 1)?;
                }
                self.close("}", first, depth)
            }
            _ => Err(unwritable("the value has no form in JSON")),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), minijinja::Error> {
        let quoted = serde_json::to_string(text).expect("a string is JSON");
        if !self.only_ascii {
            return self.push(&quoted);
        }
        let mut escaped = String::new();
        for c in quoted.chars() {
            if c.is_ascii() {
                escaped.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
        self.push(&escaped)
    }

    fn next(&mut self, first: &mut bool, depth: usize) -> Result<(), minijinja::Error> {
        if !*first {
            self.push(&self.item.clone())?;
        }
        *first = false;
        self.line(depth)
    }

    fn close(&mut self, bracket: &str, empty: bool, depth: usize) -> Result<(), minijinja::Error> {
        if !empty {
            self.line(depth)?;
        }
        self.push(bracket)
    }

    fn line(&mut self, depth: usize) -> Result<(), minijinja::Error> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        let spaces = indent.saturating_mul(depth);
        self.reserve(spaces)?;
        self.push("\n")?;
        self.text.extend(std::iter::repeat_n(' ', spaces));
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), minijinja::Error> {
        self.reserve(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<(), minijinja::Error> {
        if self.text.len().saturating_add(bytes) > self.limit_bytes {
            return Err(unwritable("the JSON text is too long"));
        }
        Ok(())
    }
}
