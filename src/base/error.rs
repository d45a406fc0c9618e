//! The one error type of the crate: a code and its values. The sentences are in `www/words/`: `error.<code>`, and
//! `error.<code>.next` for what to do about it. An error never contains a secret or a prompt.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::words::{self, Language};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Values of the placeholders of a sentence: text, numbers, lists of numbers and [`Fact`]s.
pub type Values = Map<String, Value>;

/// Defines all errors by variant, code and fields. Generates the enum, [`Error::code`], [`Error::values`] and
/// [`Error::CODES`].
macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $({ $($field:ident: $type:ty),* })?,)*) => {
        /// Errors caused by a user, a checkpoint or a device. Programmer errors are assertions instead.
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
    /// Size or SHA-256 differ from the manifest.
    Damaged = "damaged" { file: String },
    /// Invalid header of a safetensors file.
    Header = "bad_header" { file: String, fact: Fact },
    Config = "bad_config" { file: String, fact: Fact },
    /// A field whose value changes the numbers and is not implemented.
    UnsupportedConfig = "unsupported_config" { file: String, field: String, found: String },
    Architecture = "wrong_architecture" { file: String, found: String, supported: String },
    /// A git-lfs pointer instead of the file.
    LfsPointer = "lfs_pointer" { file: String },
    WebPage = "web_page" { file: String },
    Gguf = "gguf" { file: String },
    /// Weights as torch.save writes them.
    TorchOnly = "torch_only" { file: String },
    /// A LoRA adapter alone, or beside the weights that it adapts.
    UnmergedAdapter = "unmerged_adapter" { file: String },
    AlreadyQuantised = "already_quantised" { file: String, method: String },
    /// A Zamba2 checkpoint in the layout of another program.
    ForeignLayout = "foreign_layout" { file: String, fact: Fact },
    Dtype = "unknown_dtype" { file: String, tensor: String, dtype: String },
    MissingTensor = "missing_tensor" { file: String, tensor: String },
    Shape = "bad_shape" { file: String, tensor: String, expected: Vec<usize>, found: Vec<usize> },
    NonFinite = "non_finite_weight" { file: String, tensor: String, row: usize },
    Tokenizer = "bad_tokenizer" { file: String, fact: Fact },
    ChatTemplate = "bad_chat_template" { file: String, fact: Fact },
    /// `words` is the message of the template's `raise_exception`.
    ChatRefused = "chat_refused" { file: String, words: String },
    NoChatTemplate = "no_chat_template",
    EmptyPrompt = "empty_prompt",
    PromptTooLong = "prompt_too_long" { tokens: usize, limit: usize },
    Token = "bad_token" { token: u32, vocab_size: usize },
    /// A text with a token of the tokenizer for which the embedding has no row.
    PromptToken = "bad_prompt_token" { token: u32, text: String, vocab_size: usize },
    Setting = "bad_option" { name: String, fact: Fact },
    /// A JSON schema or a grammar that no text can follow, or that needs what is not implemented.
    Grammar = "bad_grammar" { fact: Fact },
    /// Too large for the memory limit, refused before anything is allocated. A failed allocation is `out_of_memory`,
    /// which only JavaScript can observe.
    Memory = "memory_limit" { needed_bytes: u64, limit_bytes: u64 },
    /// A call that is not allowed in the current state.
    Sequence = "out_of_order" { fact: Fact },
    Run = "bad_run" { field: String, fact: Fact },
    Snapshot = "bad_snapshot" { fact: Fact },
    OtherModel = "other_model" { found: String, own: String },
    /// NaN or infinity in the logits, which comes from the weights and not from the device: a retry gives the same.
    NonFiniteLogits = "non_finite_logits" { token: u32, logit: String },
    NoAdapter = "no_adapter" { fact: Fact },
    SelfTest = "self_test" { fact: Fact },
    DeviceLost = "device_lost" { fact: Fact },
    DeviceMemory = "device_memory" { fact: Fact },
    DeviceLimit = "device_limit" { fact: Fact },
    Device = "device" { fact: Fact },
}

/// The reason of an error: a sentence `fact.<id>` of `www/words/` with its values, or the unchanged message of the
/// system or of a library.
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

    /// Sets the value of the placeholder `name`. A float that may be NaN must be passed as text: JSON has no NaN.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Fact {
        let Fact::Known { values, .. } = &mut self else {
            panic!("a text has no placeholders");
        };
        values.insert(name.to_owned(), value.into());
        self
    }

    /// A value outside a list of allowed ones.
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

impl From<Fact> for Value {
    fn from(fact: Fact) -> Value {
        value_of(&fact)
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

/// An error as passed to JavaScript, which has the sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorReport {
    pub code: &'static str,
    pub values: Values,
}

/// An error as `--json` prints it, with its English sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorInWords {
    #[serde(flatten)]
    pub report: ErrorReport,
    pub message: String,
    pub next_step: &'static str,
}

impl Error {
    /// The file concerned, if any.
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
        }
    }

    pub fn in_words(&self) -> ErrorInWords {
        ErrorInWords {
            report: self.report(),
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
