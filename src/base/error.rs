//! The one error type of the crate: a code and values. The sentences are `error.<code>` in `www/words/`, and what to do
//! next is `error.<code>.next`. An error never carries a secret or a prompt.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::words::{self, Language};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The placeholders of a sentence. Text, numbers, lists of numbers and [`Fact`]s.
pub type Values = Map<String, Value>;

/// The one list of errors: variant, code, fields. From it come the enum, [`Error::code`], [`Error::values`] and
/// [`Error::CODES`].
macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $({ $($field:ident: $type:ty),* })?,)*) => {
        /// Anything a user, a checkpoint or a device can get wrong. Programmer errors assert instead.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Error {
            $($(#[$doc])* $variant $({ $($field: $type),* })?,)*
        }

        impl Error {
            /// Every code that Rust can return; `www/engine/zamba2.d.ts` has them all as a type.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// A stable name for programs.
            pub fn code(&self) -> &'static str {
                match self {
                    $(Error::$variant { .. } => $code,)*
                }
            }

            /// The fields by name.
            pub fn values(&self) -> Values {
                match self {
                    $(Error::$variant $({ $($field),* })? => Values::from_iter([
                        $($((stringify!($field).to_owned(), value_of($field)),)*)?
                    ]),)*
                }
            }
        }
    };
}

errors! {
    MissingFile = "missing_file" { file: String },
    Io = "io" { file: String, fact: Fact },
    Write = "write" { file: String, fact: Fact },
    FolderNotEmpty = "folder_not_empty" { file: String },
    Truncated = "truncated" { file: String, expected_bytes: u64, actual_bytes: u64 },
    /// Its size or SHA-256 is not the manifest's.
    Damaged = "damaged" { file: String },
    /// A bad header of a safetensors file.
    Header = "bad_header" { file: String, fact: Fact },
    Config = "bad_config" { file: String, fact: Fact },
    Architecture = "wrong_architecture" { file: String, found: String },
    Dtype = "unknown_dtype" { file: String, tensor: String, dtype: String },
    MissingTensor = "missing_tensor" { file: String, tensor: String },
    Shape = "bad_shape" { file: String, tensor: String, expected: Vec<usize>, found: Vec<usize> },
    NonFinite = "non_finite_weight" { file: String, tensor: String, row: usize },
    Tokenizer = "bad_tokenizer" { file: String, fact: Fact },
    ChatTemplate = "bad_chat_template" { file: String, fact: Fact },
    /// `words` are those of the template's `raise_exception`.
    ChatRefused = "chat_refused" { file: String, words: String },
    NoChatTemplate = "no_chat_template",
    EmptyPrompt = "empty_prompt",
    PromptTooLong = "prompt_too_long" { tokens: usize, limit: usize },
    Token = "bad_token" { token: u32, vocab_size: usize },
    /// A text that holds a token of the tokenizer's which the embedding has no row for.
    PromptToken = "bad_prompt_token" { token: u32, text: String, vocab_size: usize },
    Setting = "bad_option" { name: String, fact: Fact },
    /// A plan that is refused before anything is allocated. An allocation that fails is `out_of_memory`, which only
    /// JavaScript can observe.
    Memory = "memory_limit" { needed_bytes: u64, limit_bytes: u64 },
    /// A call that the present state does not allow.
    Sequence = "out_of_order" { fact: Fact },
    Run = "bad_run" { field: String, fact: Fact },
    Snapshot = "bad_snapshot" { fact: Fact },
    OtherModel = "other_model" { found: String, own: String },
    /// A NaN or an infinity among the logits. The numbers are at fault, not the device: computing them again gives the
    /// same.
    NonFiniteLogits = "non_finite_logits" { token: u32, logit: String },
    NoAdapter = "no_adapter" { fact: Fact },
    SelfTest = "self_test" { fact: Fact },
    DeviceLost = "device_lost" { fact: Fact },
    DeviceMemory = "device_memory" { fact: Fact },
    DeviceLimit = "device_limit" { fact: Fact },
    Device = "device" { fact: Fact },
}

/// Why: a sentence `fact.<id>` of `www/words/` with its values, or the text of the system or a library as it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    Known {
        id: &'static str,
        #[serde(flatten)]
        values: Values,
    },
    Text(String),
}

impl Fact {
    /// The sentence `fact.<id>`.
    pub fn new(id: &'static str) -> Fact {
        Fact::Known {
            id,
            values: Values::new(),
        }
    }

    /// Gives the placeholder `name` its value. A float that may be NaN goes in as text: JSON has no NaN.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Fact {
        let Fact::Known { values, .. } = &mut self else {
            panic!("a text has no placeholders");
        };
        values.insert(name.to_owned(), value.into());
        self
    }

    /// A value that is none of a fixed list.
    pub fn not_one_of(value: &str, allowed: &str) -> Fact {
        Fact::new("not_one_of")
            .with("value", value)
            .with("allowed", allowed)
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Fact {
        Fact::Text(text)
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Fact {
        Fact::Text(text.to_owned())
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Known { id, values } => f.write_str(&english(&format!("fact.{id}"), values)),
            Fact::Text(text) => f.write_str(text),
        }
    }
}

/// The form in which an error leaves the program, to JavaScript or as `--json`, with its English sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorReport {
    pub code: &'static str,
    pub values: Values,
    pub message: String,
    pub next_step: &'static str,
}

impl Error {
    /// The file at fault, if one is.
    pub fn file(&self) -> Option<String> {
        self.values()
            .get("file")
            .and_then(Value::as_str)
            .map(str::to_owned)
    }

    /// One English sentence on what to do about it.
    pub fn next_step(&self) -> &'static str {
        words::get(Language::En, &format!("error.{}.next", self.code()))
    }

    pub fn report(&self) -> ErrorReport {
        ErrorReport {
            code: self.code(),
            values: self.values(),
            message: self.to_string(),
            next_step: self.next_step(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&english(&format!("error.{}", self.code()), &self.values()))
    }
}

impl std::error::Error for Error {}

fn value_of(field: &impl Serialize) -> Value {
    serde_json::to_value(field).expect("fields are text, integers, lists of them and facts")
}

/// The English sentence of `key`. `www/engine/errors.js` formats values the same way.
fn english(key: &str, values: &Values) -> String {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (name, value) in values {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Object(fact) => fact_text(fact),
            Value::Array(list) => {
                let list: Vec<String> = list.iter().map(Value::to_string).collect();
                format!("[{}]", list.join(", "))
            }
            other => other.to_string(),
        };
        if let Some(bytes) = value.as_f64().filter(|_| name.ends_with("_bytes")) {
            texts.push((format!("{name}:size"), format!("{:.2} GB", bytes / 1e9)));
        }
        texts.push((name.clone(), text));
    }
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (&name[..], &text[..]))
        .collect();
    words::sentence(Language::En, key, &texts)
}

fn fact_text(fact: &Values) -> String {
    let id = fact["id"].as_str().expect("a fact has an id");
    english(&format!("fact.{id}"), fact)
}
