//! Chat templates, tokens and the sequence: prefill, decode steps, branches, replays and snapshots.

use js_sys::{Float32Array, Object, Uint8Array, Uint32Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::api::Engine;
use crate::api::js::{JsResult, from_js, report_to_js, set, to_js, to_js_error};
use crate::base::error::{Error, ErrorReport};
use crate::base::local_time::LocalTime;
use crate::loader::end_tokens;
use crate::model::forward::Progress;
use crate::session::GenerateOptions;
use crate::text::chat::{ChatTemplate, Content, Message};
use crate::text::sampling::{TokenSet, argmax};
use crate::text::tokenizer::Tokenizer;

#[derive(Serialize)]
struct ChatInfo {
    /// Whether there is a usable template.
    chat: bool,
    /// The error of an unusable template.
    fault: Option<ErrorReport>,
}

#[derive(Serialize)]
struct AdvanceInfo {
    done: bool,
    /// The next block to run.
    block: usize,
    /// Whether that block is not loaded yet.
    waiting: bool,
}

impl Engine {
    fn add_end_token(&mut self, tokenizer_config: Option<&[u8]>) {
        let text = tokenizer_config.and_then(|bytes| str::from_utf8(bytes).ok());
        if let (Some(text), Some(config), Some(tokenizer)) =
            (text, &mut self.config, &self.tokenizer)
        {
            end_tokens::add_tokenizer_config(config, text, tokenizer);
        }
    }
}

#[wasm_bindgen]
impl Engine {
    /// Opens the chat template from the files that may contain it, as far as the checkpoint has them: `{ chat, fault
    /// }`. An unusable template does not prevent loading the model; `render_chat` fails with the same error. The
    /// tokenizer gets its special tokens from the first of the files, so it has to be open before.
    pub fn open_chat_template(
        &mut self,
        tokenizer_config: Option<Vec<u8>>,
        jinja: Option<Vec<u8>>,
    ) -> JsResult<JsValue> {
        let config = tokenizer_config
            .as_deref()
            .and_then(|bytes| str::from_utf8(bytes).ok());
        // A damaged file is reported as the template's fault, below.
        if let (Some(tokenizer), Some(config)) = (&mut self.tokenizer, config) {
            tokenizer.apply_config(config).unwrap_or_default();
        }
        self.add_end_token(tokenizer_config.as_deref());
        let template = ChatTemplate::of_files(tokenizer_config.as_deref(), jinja.as_deref());
        let fault = template.as_ref().err().map(Error::report);
        self.chat = template.and_then(|template| template.ok_or(Error::NoChatTemplate));
        to_js(&ChatInfo {
            chat: self.chat.is_ok(),
            fault,
        })
    }

    /// The text of `[{ role, content }]` up to the assistant's next turn. Tokenise it without special tokens.
    pub fn render_chat(&self, messages: JsValue) -> JsResult<String> {
        let messages: Vec<Message> = from_js("messages", &messages)?;
        let template = self
            .chat
            .as_ref()
            .map_err(|error| report_to_js(&error.report()))?;
        template.render(&messages, true).map_err(to_js_error)
    }

    /// The tokens of `[{ role, content }]` up to the assistant's next turn. `content` determines what control tokens in
    /// a message become: `plain` (the default) or `control`.
    pub fn encode_chat(&self, messages: JsValue, content: Option<String>) -> JsResult<Vec<u32>> {
        let messages: Vec<Message> = from_js("messages", &messages)?;
        let content = content.map_or(Ok(Content::default()), |content| content.parse());
        let content = content.map_err(to_js_error)?;
        let template = self
            .chat
            .as_ref()
            .map_err(|error| report_to_js(&error.report()))?;
        let tokenizer = self.tokenizer().map_err(to_js_error)?;
        let ids = template.encode(tokenizer, &messages, content, LocalTime::now());
        ids.map_err(to_js_error)
    }

    /// The tokens that end a turn of the chat, in addition to those of config.json.
    pub fn chat_end_tokens(&self) -> JsResult<Vec<u32>> {
        let template = self
            .chat
            .as_ref()
            .map_err(|error| report_to_js(&error.report()))?;
        let tokenizer = self.tokenizer().map_err(to_js_error)?;
        let token = template.special_tokens().get("eos_token");
        Ok(token
            .and_then(|token| tokenizer.token_id(token))
            .into_iter()
            .collect())
    }

    /// `{ bytes, ends, not_first, end_tokens }`: the bytes of all tokens, those of token `i` up to `ends[i]`; tokens
    /// that are decoded differently at the beginning of a text; the end tokens of the checkpoint.
    pub fn token_bytes(&self) -> JsResult<JsValue> {
        let tokens = self.tokenizer().and_then(Tokenizer::token_bytes);
        let tokens = tokens.map_err(to_js_error)?;
        let session = self.session().map_err(to_js_error)?;
        let end_tokens = on_session!(session, s => &s.config().eos_token_ids[..]);
        let object = Object::new();
        set(&object, "bytes", Uint8Array::from(&tokens.bytes[..]).into())?;
        for (name, ids) in [
            ("ends", &tokens.ends[..]),
            ("not_first", &tokens.not_first),
            ("end_tokens", end_tokens),
        ] {
            set(&object, name, Uint32Array::from(ids).into())?;
        }
        Ok(object.into())
    }

    pub fn tokenize(&self, text: &str, add_special: bool) -> JsResult<Vec<u32>> {
        let ids = self.tokenizer().and_then(|t| t.encode(text, add_special));
        ids.map_err(to_js_error)
    }

    pub fn detokenize(&self, ids: &[u32]) -> JsResult<String> {
        let text = self.tokenizer().and_then(|t| t.decode(ids));
        text.map_err(to_js_error)
    }

    /// Fails if `start` would refuse `ids`, with room for `n_more` tokens after them. Changes nothing.
    pub fn check_prompt(&self, ids: &[u32], n_more: usize) -> JsResult<()> {
        let session = self.session().map_err(to_js_error)?;
        on_session!(session, s => s.check_prompt(ids, n_more)).map_err(to_js_error)
    }

    /// Starts a new sequence; the prefill runs in `advance`. Returns how many tokens of the prompt are cached.
    pub fn start(&mut self, prompt: &[u32], options: JsValue) -> JsResult<usize> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.start(prompt, options)).map_err(to_js_error)
    }

    /// Runs at most `max_blocks` more blocks of the prefill, as far as they are loaded: `{ done, block, waiting }`.
    pub async fn advance(&mut self, max_blocks: usize) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        let (n_blocks, progress) =
            on_session!(session, s => (s.config().n_blocks(), s.advance(max_blocks)));
        let progress = progress.map_err(to_js_error)?;
        on_session!(session, s => s.fence().await).map_err(to_js_error)?;
        let (done, block, waiting) = match progress {
            Progress::Done => (true, n_blocks, false),
            Progress::Paused { next } => (false, next, false),
            Progress::Waiting { block } => (false, block, true),
        };
        to_js(&AdvanceInfo {
            done,
            block,
            waiting,
        })
    }

    /// Generates one token: `{ token, text, done, probability, token_rank, us, blocks_us, drafted, accepted_draft }`.
    /// `allowed` has a bit per token, for a text that follows a schema or a grammar.
    pub async fn step(&mut self, allowed: Option<Vec<u32>>) -> JsResult<JsValue> {
        let allowed = allowed.map(TokenSet::from_words);
        let session = self.session_mut().map_err(to_js_error)?;
        let step = on_session!(session, s => s.step_among(allowed.as_ref()).await);
        let step = step.map_err(to_js_error)?;
        let object = Object::new();
        set(&object, "token", step.token.into())?;
        set(&object, "text", step.text.into())?;
        set(&object, "done", to_js(&step.done)?)?;
        set(&object, "probability", step.probability.into())?;
        set(&object, "token_rank", to_js(&step.token_rank)?)?;
        set(&object, "us", step.us.into())?;
        set(&object, "drafted", step.drafted.into())?;
        set(&object, "accepted_draft", step.accepted_draft.into())?;
        set(
            &object,
            "blocks_us",
            Float32Array::from(&step.blocks_us[..]).into(),
        )?;
        Ok(object.into())
    }

    /// Why the model drafts no tokens, whatever `lookup` is: `"device"`, `"memory"`, or null.
    pub fn no_drafts(&self) -> JsResult<JsValue> {
        let session = self.session().map_err(to_js_error)?;
        to_js(&on_session!(session, s => s.no_drafts()))
    }

    /// Rewinds to generated token `index` and replaces it by `token`: `{ text, tokens, prompt_tokens }` of the prefix
    /// that is kept. `advance` and `replay` then restore the state, and the next `step` returns `token`.
    pub fn branch(&mut self, index: usize, token: u32, options: JsValue) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let kept = on_session!(session, s => s.branch(index, token, options));
        to_js(&kept.map_err(to_js_error)?)
    }

    /// Continues after the last token of the sequence: `{ text, tokens, prompt_tokens }` of the sequence so far.
    pub fn continue_sequence(&mut self, options: JsValue) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        to_js(&on_session!(session, s => s.continue_sequence(options)).map_err(to_js_error)?)
    }

    /// Adopts the sequence of another engine, after `generated`: `{ text, tokens, prompt_tokens }` of it. `advance` and
    /// `replay` then restore the state.
    pub fn adopt(
        &mut self,
        prompt: &[u32],
        generated: &[u32],
        options: JsValue,
    ) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let kept = on_session!(session, s => s.adopt(prompt, generated, options));
        to_js(&kept.map_err(to_js_error)?)
    }

    /// Replays at most `max` tokens of a rewound sequence; returns how many are left.
    pub async fn replay(&mut self, max: usize) -> JsResult<usize> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.replay(max).await).map_err(to_js_error)
    }

    /// The sequence as bytes, for `restore` in this model or a later load of it.
    pub async fn snapshot(&mut self, note: &str) -> JsResult<Vec<u8>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.snapshot(note).await).map_err(to_js_error)
    }

    /// Replaces the sequence by that of a snapshot: `{ tokens, prompt_tokens, note }`.
    pub async fn restore(&mut self, bytes: &[u8]) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        to_js(&on_session!(session, s => s.restore(bytes).await).map_err(to_js_error)?)
    }

    /// Starts a new sequence and returns the logits of every token. `[ids, vocab]`
    pub async fn logits(&mut self, ids: &[u32]) -> JsResult<Vec<f32>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.logits(ids).await).map_err(to_js_error)
    }

    /// Appends one token to the sequence and returns the logits after it. `[vocab]`
    pub async fn append(&mut self, token: u32) -> JsResult<Vec<f32>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.append(&[token]).await).map_err(to_js_error)
    }

    /// The token that greedy decoding takes.
    pub fn argmax(&self, logits: &[f32]) -> u32 {
        argmax(logits)
    }

    pub fn reset(&mut self) -> JsResult<()> {
        on_session!(self.session_mut().map_err(to_js_error)?, s => s.reset());
        Ok(())
    }
}
