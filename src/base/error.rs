//! The one error type of the crate. It stands on floor 0: every floor may return it, and it knows none of them.
//! Each error says what is wrong, in which file, and what to do next; it never carries a secret or a prompt.

use serde::Serialize;

/// Anything a user, a checkpoint or a device can get wrong. Programmer errors assert instead.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{file} is missing")]
    MissingFile { file: String },
    #[error("{file} could not be read: {fact}")]
    Io { file: String, fact: String },
    #[error("{file} could not be written: {fact}")]
    Write { file: String, fact: String },
    #[error("{file} ends after {actual_bytes} bytes where {expected_bytes} are needed")]
    Truncated {
        file: String,
        expected_bytes: u64,
        actual_bytes: u64,
    },
    #[error("{file} is damaged: its size or SHA-256 is not the manifest's")]
    Damaged { file: String },
    #[error("{file} has a bad safetensors header: {fact}")]
    Header { file: String, fact: String },
    #[error("{file}: {fact}")]
    Config { file: String, fact: String },
    #[error("{file} describes `{found}`, and only `zamba2` is supported")]
    Architecture { file: String, found: String },
    #[error("{file}: tensor {tensor} has dtype {dtype}; F32, F16 and BF16 are supported")]
    Dtype {
        file: String,
        tensor: String,
        dtype: String,
    },
    #[error("{file}: tensor {tensor} is missing")]
    MissingTensor { file: String, tensor: String },
    #[error("{file}: tensor {tensor} has shape {found:?}, and config.json implies {expected:?}")]
    Shape {
        file: String,
        tensor: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("{file}: tensor {tensor} holds a NaN or an infinity in row {row}")]
    NonFinite {
        file: String,
        tensor: String,
        row: usize,
    },
    #[error("{file}: {fact}")]
    Tokenizer { file: String, fact: String },
    #[error("{file}: {fact}")]
    ChatTemplate { file: String, fact: String },
    #[error("the chat template refuses this conversation: {words}")]
    ChatRefused { file: String, words: String },
    #[error("the checkpoint has no chat template")]
    NoChatTemplate,
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {tokens} tokens, and the context holds {limit}")]
    PromptTooLong { tokens: usize, limit: usize },
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    Token { token: u32, vocab_size: usize },
    #[error("option `{name}`: {fact}")]
    Setting { name: String, fact: String },
    #[error(
        "the model needs about {:.2} GB of memory, and {:.2} GB can be had",
        *needed_bytes as f64 / 1e9,
        *limit_bytes as f64 / 1e9
    )]
    Memory { needed_bytes: u64, limit_bytes: u64 },
    #[error("{fact}")]
    Sequence { fact: String },
    #[error("the run file is not valid: {field}: {fact}")]
    Run { field: String, fact: String },
    #[error("this is not a saved state that can be used: {fact}")]
    Snapshot { fact: String },
    #[error(
        "the saved state belongs to another model or to other weights (its fingerprint is {found}, this model's is {own})"
    )]
    OtherModel { found: String, own: String },
    #[error("there is no graphics adapter to compute on: {fact}")]
    NoAdapter { fact: String },
    #[error("the graphics adapter computes wrongly: {fact}")]
    SelfTest { fact: String },
    #[error("the graphics device was lost: {fact}")]
    DeviceLost { fact: String },
    #[error("the graphics device has no memory left: {fact}")]
    DeviceMemory { fact: String },
    #[error("the graphics device can't take this model: {fact}")]
    DeviceLimit { fact: String },
    #[error("the device failed: {fact}")]
    Device { fact: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The form in which an error crosses to JavaScript and into `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorReport {
    pub code: &'static str,
    pub message: String,
    pub file: Option<String>,
    pub next_step: &'static str,
}

impl Error {
    /// A stable name for programs; the message is for people and may change.
    pub fn code(&self) -> &'static str {
        match self {
            Error::MissingFile { .. } => "missing_file",
            Error::Io { .. } => "io",
            Error::Write { .. } => "write",
            Error::Truncated { .. } => "truncated",
            Error::Damaged { .. } => "damaged",
            Error::Header { .. } => "bad_header",
            Error::Config { .. } => "bad_config",
            Error::Architecture { .. } => "wrong_architecture",
            Error::Dtype { .. } => "unknown_dtype",
            Error::MissingTensor { .. } => "missing_tensor",
            Error::Shape { .. } => "bad_shape",
            Error::NonFinite { .. } => "non_finite_weight",
            Error::Tokenizer { .. } => "bad_tokenizer",
            Error::ChatTemplate { .. } => "bad_chat_template",
            Error::ChatRefused { .. } => "chat_refused",
            Error::NoChatTemplate => "no_chat_template",
            Error::EmptyPrompt => "empty_prompt",
            Error::PromptTooLong { .. } => "prompt_too_long",
            Error::Token { .. } => "bad_token",
            Error::Setting { .. } => "bad_option",
            Error::Memory { .. } => "out_of_memory",
            Error::Sequence { .. } => "out_of_order",
            Error::Run { .. } => "bad_run",
            Error::Snapshot { .. } => "bad_snapshot",
            Error::OtherModel { .. } => "other_model",
            Error::NoAdapter { .. } => "no_adapter",
            Error::SelfTest { .. } => "self_test",
            Error::DeviceLost { .. } => "device_lost",
            Error::DeviceMemory { .. } => "device_memory",
            Error::DeviceLimit { .. } => "device_limit",
            Error::Device { .. } => "device",
        }
    }

    /// The file at fault, if one is.
    pub fn file(&self) -> Option<&str> {
        match self {
            Error::MissingFile { file }
            | Error::Io { file, .. }
            | Error::Write { file, .. }
            | Error::Truncated { file, .. }
            | Error::Damaged { file }
            | Error::Header { file, .. }
            | Error::Config { file, .. }
            | Error::Architecture { file, .. }
            | Error::Dtype { file, .. }
            | Error::MissingTensor { file, .. }
            | Error::Shape { file, .. }
            | Error::NonFinite { file, .. }
            | Error::Tokenizer { file, .. }
            | Error::ChatTemplate { file, .. }
            | Error::ChatRefused { file, .. } => Some(file),
            _ => None,
        }
    }

    /// One sentence on what the reader can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Error::MissingFile { .. } => {
                "Check the folder: it needs config.json and model.safetensors (or its shards and their index)."
            }
            Error::Io { .. } => "Check that the file is there and readable, then load again.",
            Error::Write { .. } => "Make room or choose another place, then run again.",
            Error::Damaged { .. } => "Fetch the file again, or pack the checkpoint anew.",
            Error::Truncated { .. } => "The download was cut short: fetch the file again.",
            Error::Header { .. } => "The file is damaged or not safetensors: fetch it again.",
            Error::Config { .. } => "Take config.json from the checkpoint's own repository.",
            Error::Architecture { .. } => "Choose a Zamba2 checkpoint (1.2B, 2.7B or 7B).",
            Error::Dtype { .. } => "Save the checkpoint in bf16, f16 or f32.",
            Error::MissingTensor { .. } | Error::Shape { .. } => {
                "config.json and the weights do not belong together: take both from one revision."
            }
            Error::NonFinite { .. } => "The weights are damaged: fetch the file again.",
            Error::Tokenizer { .. } => "Take tokenizer.json from the checkpoint's own repository.",
            Error::ChatTemplate { .. } => {
                "Take tokenizer_config.json and chat_template.jinja from the checkpoint's own repository, or continue plain text."
            }
            Error::ChatRefused { .. } => {
                "Change the conversation as the template asks, or continue plain text."
            }
            Error::NoChatTemplate => "Continue plain text, or choose an instruct checkpoint.",
            Error::EmptyPrompt => "Type a prompt.",
            Error::PromptTooLong { .. } => "Shorten the prompt or load with a larger context.",
            Error::Token { .. } => "Use token ids of this model's own tokenizer.",
            Error::Setting { .. } => "Change the option and run again.",
            Error::Memory { .. } => "Choose q4 weights, a smaller context or a smaller model.",
            Error::Sequence { .. } => "Reload the model.",
            Error::Run { .. } => "Take a run file that this program wrote, whole and unchanged.",
            Error::Snapshot { .. } => "Choose a file that was saved here, or run the prompt again.",
            Error::OtherModel { .. } => {
                "Load the model with the weight format that the state was saved with, then open it again."
            }
            Error::NoAdapter { .. } => {
                "Choose the CPU backend, or install a driver for Vulkan, Metal or DirectX 12."
            }
            Error::SelfTest { .. } => "Choose the CPU backend, or update the graphics driver.",
            Error::DeviceMemory { .. } => {
                "Choose the CPU backend, q4 weights or a smaller model, or close what else uses the graphics card."
            }
            Error::DeviceLimit { .. } => "Choose the CPU backend, or a smaller context.",
            Error::DeviceLost { .. } | Error::Device { .. } => {
                "Load the model again, or choose the CPU backend."
            }
        }
    }

    pub fn report(&self) -> ErrorReport {
        ErrorReport {
            code: self.code(),
            message: self.to_string(),
            file: self.file().map(str::to_owned),
            next_step: self.next_step(),
        }
    }
}
