//! The door to JavaScript: the `Engine` that the worker owns. It stands on floor 5 and is, with the clock, the only
//! file that knows JavaScript exists. Plain data crosses it: JSON for small things, typed arrays for numbers. One call
//! is in flight at a time; the worker sees to that, because an `async fn(&mut self)` holds its borrow while it waits.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use js_sys::{
    Float32Array, Float64Array, Int32Array, JSON, Object, Reflect, Uint16Array, Uint32Array,
};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::webgpu::{AdapterOptions, HostThreads, WebGpu};
use crate::bench;
use crate::error::{Error, ErrorReport, Fact, Result};
use crate::family;
use crate::loader::packed::Manifest;
use crate::loader::safetensors::{self, Shard};
use crate::loader::schedule::{ByteRange, PlannedUnit};
use crate::model::NumericSettings;
use crate::model::config::{BlockKind, Config};
use crate::model::forward::Progress;
use crate::model::module::Unit;
use crate::profile::Level;
use crate::report::measure::{self, Protocol};
use crate::report::run::{Memory, ModelFacts, Run};
use crate::report::{self, reference, summary};
use crate::self_test;
use crate::session::{self, GenerateOptions, LoadSettings, Session, context_length};
use crate::text::chat::{ChatTemplate, Message};
use crate::text::tokenizer::Tokenizer;
#[cfg(target_feature = "atomics")]
use crate::threads::platform as threads;

/// What wasm32 can address, less room for code, stacks, activations and the pieces in flight.
const MEMORY_LIMIT_BYTES: u64 = (4 << 30) - (384 << 20);
const PAGE_BYTES: u64 = 1 << 16;

/// The first panic that JavaScript has not taken, on whichever thread: a panic that follows it is its consequence.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Makes every panic write to the console, and keeps its text for `take_panic`. The trap that ends a panic carries none.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            console_error_panic_hook::hook(info);
            let mut kept = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert_with(|| info.to_string());
        }));
    });
}

/// The text of the first panic since the last call, if there was one.
#[wasm_bindgen]
pub fn take_panic() -> Option<String> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).take()
}

type JsResult<T> = std::result::Result<T, JsValue>;

#[derive(Deserialize)]
struct EngineOptions {
    weights: String,
    /// The calling worker and those that serve as threads.
    #[serde(default = "one_thread")]
    threads: usize,
    context: Option<usize>,
    dt_min_prefill: Option<f32>,
    dt_min_step: Option<f32>,
    #[serde(default)]
    rescale_rope_for_long_context: bool,
}

fn one_thread() -> usize {
    1
}

#[derive(Serialize)]
struct ModelInfo<'a> {
    model_type: &'static str,
    hidden_size: usize,
    vocab_size: usize,
    n_blocks: usize,
    kinds: &'a [BlockKind],
    n_shared_blocks: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    context: usize,
    bos_token_id: Option<u32>,
    eos_token_ids: &'a [u32],
    parameters: u64,
    rope: bool,
    attention_adapters: bool,
    tied: bool,
}

#[derive(Serialize)]
struct UnitInfo<'a> {
    name: String,
    block: Option<usize>,
    bytes: u64,
    /// Of its stored form.
    stored_bytes: u64,
    ranges: &'a [ByteRange],
}

#[derive(Serialize)]
struct RestInfo {
    stored_bytes: u64,
    ranges: Vec<ByteRange>,
}

#[derive(Serialize)]
struct MemoryInfo {
    weights_bytes: u64,
    cache_bytes: u64,
    wasm_bytes: u64,
}

#[derive(Serialize)]
struct ChatInfo {
    /// Whether there is a template that can be used.
    chat: bool,
    /// What is wrong with one that is there.
    fault: Option<ErrorReport>,
}

#[derive(Serialize)]
struct AdvanceInfo {
    done: bool,
    /// The next block to run.
    block: usize,
    /// Whether that block has not arrived.
    waiting: bool,
}

/// Makes the calling worker one of the engine's threads, for ever; the engine's own worker must not call it.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn serve_as_thread() {
    threads::serve()
}

/// Says that a call of `serve_as_thread` ended in a trap, so that the engine fails instead of waiting for it.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn note_thread_trap() {
    threads::note_trap();
}

/// The model on the device that it was opened for.
enum AnySession {
    Cpu(Box<Session<Cpu>>),
    WebGpu(Box<Session<WebGpu>>),
}

/// Evaluates `$body` with `$session` as the session of whichever backend.
macro_rules! on_session {
    ($any:expr, $session:ident => $body:expr) => {
        match $any {
            AnySession::Cpu($session) => $body,
            AnySession::WebGpu($session) => $body,
        }
    };
}

/// How a graphics adapter is to be opened; what is left out is as the adapter has it.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebGpuOptions {
    /// Takes no software adapter.
    hardware_only: bool,
    max_binding_bytes: Option<u64>,
    timestamps: bool,
    /// Whether the device was asked for them: wgpu can't do that in a browser.
    subgroups: bool,
    f16: bool,
}

impl Default for WebGpuOptions {
    fn default() -> Self {
        WebGpuOptions {
            hardware_only: false,
            max_binding_bytes: None,
            timestamps: true,
            subgroups: false,
            f16: true,
        }
    }
}

/// What is known of the open adapter; its name is the browser's business.
#[derive(Serialize)]
struct AdapterInfo {
    software: bool,
    max_binding_bytes: u64,
    subgroups: bool,
    f16: bool,
}

/// One model in this worker: first its files, then its one sequence.
#[wasm_bindgen]
pub struct Engine {
    settings: LoadSettings,
    threads: usize,
    /// The device that the model will be on, if it is not the processor.
    webgpu: Option<WebGpu>,
    config: Option<Config>,
    tokenizer: Option<Tokenizer>,
    chat: Result<ChatTemplate>,
    shards: Vec<Shard>,
    session: Option<AnySession>,
}

#[wasm_bindgen]
impl Engine {
    /// `options`: `{ weights: "f32" | "q8" | "q4", threads?, context?, dt_min_prefill?, dt_min_step? }`.
    #[wasm_bindgen(constructor)]
    pub fn new(options: JsValue) -> JsResult<Engine> {
        keep_panics();
        let options: EngineOptions = from_js("options", &options)?;
        Ok(Engine {
            settings: LoadSettings {
                weights: options.weights.parse().map_err(to_js_error)?,
                context: options.context,
                numeric: NumericSettings {
                    dt_min_prefill: options.dt_min_prefill,
                    dt_min_step: options.dt_min_step,
                    rescale_rope_for_long_context: options.rescale_rope_for_long_context,
                },
                memory_limit_bytes: Some(MEMORY_LIMIT_BYTES),
            },
            threads: options.threads,
            webgpu: None,
            config: None,
            tokenizer: None,
            chat: Err(Error::NoChatTemplate),
            shards: Vec::new(),
            session: None,
        })
    }

    /// Opens the browser's graphics adapter for the model: `{ software, max_binding_bytes }`.
    /// `options`: `{ hardware_only?, max_binding_bytes?, timestamps?, subgroups?, f16? }`.
    ///
    /// # Errors
    /// `no_adapter`; the model can then be on the processor.
    pub async fn open_webgpu(&mut self, options: JsValue) -> JsResult<JsValue> {
        if self.session.is_some() {
            return Err(to_js_error(out_of_order("before_plan")));
        }
        let options: WebGpuOptions = from_js("webgpu", &options)?;
        let options = AdapterOptions {
            hardware_only: options.hardware_only,
            max_binding_bytes: options.max_binding_bytes,
            no_timestamps: !options.timestamps,
            no_subgroups: !options.subgroups,
            no_f16: !options.f16,
            browser_subgroups: options.subgroups,
        };
        let cpu = Cpu::new(self.threads);
        let host: HostThreads =
            Box::new(move |data, piece, body| cpu.for_each_piece(data, piece, body));
        let webgpu = WebGpu::open(options, host).await.map_err(to_js_error)?;
        let adapter = webgpu.adapter();
        let info = to_js(&AdapterInfo {
            software: adapter.software,
            max_binding_bytes: adapter.max_binding_bytes,
            subgroups: adapter.subgroups,
            f16: adapter.f16,
        });
        self.webgpu = Some(webgpu);
        // Weights will not stay in the memory that this limits.
        self.settings.memory_limit_bytes = None;
        info
    }

    /// After `plan`, while the first weights are on their way: holds a graphics device against the processor, and gives
    /// the step of its clock in microseconds, `null` where it has none. The processor itself is taken at its word.
    ///
    /// # Errors
    /// `self_test`, or the device's own failure; the model can't be on this device.
    pub async fn prove_device(&mut self) -> JsResult<JsValue> {
        let weights = self.settings.weights;
        match self.session_mut().map_err(to_js_error)? {
            AnySession::Cpu(_) => Ok(JsValue::NULL),
            AnySession::WebGpu(session) => {
                let ops = session.ops_mut();
                // With times, which tell the step of the clock.
                ops.profiler().set_level(Level::Module);
                let tested = self_test::run(ops, weights, session::kv_format(weights)).await;
                ops.profiler().set_level(Level::Off);
                ops.profiler().discard();
                tested.map_err(to_js_error)?;
                to_js(&ops.device().timestamp_step_us())
            }
        }
    }

    /// Takes `config.json` and describes the model.
    pub fn open_config(&mut self, text: &str) -> JsResult<JsValue> {
        let config = Config::from_json(text).map_err(to_js_error)?;
        let context = context_length(&config, self.settings.weights, self.settings.context)
            .map_err(to_js_error)?;
        let info = to_js(&ModelInfo {
            model_type: "zamba2",
            hidden_size: config.hidden_size,
            vocab_size: config.vocab_size,
            n_blocks: config.n_blocks(),
            kinds: &config.kinds,
            n_shared_blocks: config.num_mem_blocks,
            intermediate_size: config.intermediate_size,
            max_position_embeddings: config.max_position_embeddings,
            context,
            bos_token_id: config.bos_token_id,
            eos_token_ids: &config.eos_token_ids,
            parameters: family::full_plan(&config).parameters(),
            rope: config.use_mem_rope,
            attention_adapters: config.use_shared_attention_adapter,
            tied: config.tie_word_embeddings,
        });
        self.config = Some(config);
        info
    }

    /// Takes `tokenizer.json`; a model without one still has logits.
    pub fn open_tokenizer(&mut self, bytes: &[u8]) -> JsResult<()> {
        let vocab_size = self.config().map_err(to_js_error)?.vocab_size;
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", bytes, vocab_size);
        self.tokenizer = Some(tokenizer.map_err(to_js_error)?);
        Ok(())
    }

    /// Takes the files that may hold a chat template, each as far as the checkpoint has it: `{ chat, fault }`. A template
    /// that can't be used keeps no model from loading; `render_chat` refuses with the same fault.
    pub fn open_chat_template(
        &mut self,
        tokenizer_config: Option<Vec<u8>>,
        jinja: Option<Vec<u8>>,
    ) -> JsResult<JsValue> {
        let template = ChatTemplate::of_files(tokenizer_config.as_deref(), jinja.as_deref());
        let fault = template.as_ref().err().map(Error::report);
        self.chat = template.and_then(|template| template.ok_or(Error::NoChatTemplate));
        to_js(&ChatInfo {
            chat: self.chat.is_ok(),
            fault,
        })
    }

    /// The text of `[{ role, content }]` up to the assistant's next turn; it is tokenised without special tokens.
    pub fn render_chat(&self, messages: JsValue) -> JsResult<String> {
        let messages: Vec<Message> = from_js("messages", &messages)?;
        let template = self
            .chat
            .as_ref()
            .map_err(|error| report_to_js(&error.report()))?;
        template.render(&messages, true).map_err(to_js_error)
    }

    /// The tokens that end a turn of the chat, beside those of config.json.
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

    /// The shard files that `model.safetensors.index.json` names.
    pub fn open_index(&self, text: &str) -> JsResult<Vec<String>> {
        safetensors::shard_files("model.safetensors.index.json", text).map_err(to_js_error)
    }

    /// The length of the header that follows a shard's first eight bytes, checked against the file's size.
    pub fn header_bytes(&self, file: &str, file_bytes: f64, first8: &[u8]) -> JsResult<f64> {
        let bytes = safetensors::header_bytes(file, file_bytes as u64, first8);
        Ok(bytes.map_err(to_js_error)? as f64)
    }

    /// Takes a shard's header.
    pub fn open_shard(&mut self, file: &str, file_bytes: f64, header: &[u8]) -> JsResult<()> {
        let shard = Shard::parse(file, file_bytes as u64, header).map_err(to_js_error)?;
        self.shards.push(shard);
        Ok(())
    }

    /// The checked manifest of a packed checkpoint.
    pub fn open_manifest(&self, text: &str) -> JsResult<JsValue> {
        let manifest = Manifest::parse(text).map_err(to_js_error)?;
        let (here, wanted) = (&manifest.weights, self.settings.weights.name());
        if here != wanted {
            return Err(to_js_error(Error::Setting {
                name: "weights".into(),
                fact: Fact::new("other_weights")
                    .with("found", &here[..])
                    .with("wanted", wanted),
            }));
        }
        to_js(&manifest)
    }

    /// The byte ranges of the weights in execution order, by unit.
    pub fn plan(&mut self) -> JsResult<JsValue> {
        let config = self.config().map_err(to_js_error)?.clone();
        let (tokenizer, settings) = (self.tokenizer.take(), self.settings);
        let session = match self.webgpu.take() {
            Some(webgpu) => Session::open(webgpu, config, &self.shards, tokenizer, settings)
                .map(|session| AnySession::WebGpu(Box::new(session))),
            None => Session::open(
                Cpu::new(self.threads),
                config,
                &self.shards,
                tokenizer,
                settings,
            )
            .map(|session| AnySession::Cpu(Box::new(session))),
        };
        let session = self.session.insert(session.map_err(to_js_error)?);
        let schedule = on_session!(session, session => session.schedule());
        let units: Vec<UnitInfo> = schedule.units.iter().map(unit_info).collect();
        to_js(&units)
    }

    /// Takes the bytes of the plan's ranges, in order, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) -> JsResult<()> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.push(bytes)).map_err(to_js_error)
    }

    /// Takes the next weights in their stored form, in pieces of any size.
    pub fn push_stored(&mut self, bytes: &[u8]) -> JsResult<()> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.push_stored(bytes)).map_err(to_js_error)
    }

    /// From now on `take_stored` gives what comes by `push`.
    pub fn keep_stored(&mut self) -> JsResult<()> {
        on_session!(self.session_mut().map_err(to_js_error)?, s => s.keep_stored());
        Ok(())
    }

    /// The stored form of the rows that `push` has brought since the last call.
    pub fn take_stored(&mut self) -> JsResult<Vec<u8>> {
        let session = self.session_mut().map_err(to_js_error)?;
        Ok(on_session!(session, s => s.take_stored()))
    }

    /// `{ stored_bytes, ranges }`: how much of the arriving unit's stored form has been taken, to the last whole row, and
    /// which bytes of the checkpoint it still needs. `null` when all units are there.
    pub fn rest(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        let rest = on_session!(session, s => s.rest());
        to_js(&rest.map(|rest| RestInfo {
            stored_bytes: rest.stored_bytes,
            ranges: rest.ranges,
        }))
    }

    /// Says that every byte has come, and waits until the device has them.
    pub async fn finish(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => {
            s.check_complete().map_err(to_js_error)?;
            s.check_device().await.map_err(to_js_error)?;
        });
        self.memory()
    }

    /// After `finish`, where nobody asked for a number: computes on as many threads as a short trial found fastest, and
    /// gives their number.
    pub fn choose_threads(&mut self) -> JsResult<usize> {
        match self.session_mut().map_err(to_js_error)? {
            AnySession::Cpu(session) => Ok(session.choose_threads()),
            AnySession::WebGpu(_) => Ok(self.threads),
        }
    }

    pub fn tokenize(&self, text: &str, add_special: bool) -> JsResult<Vec<u32>> {
        let ids = self.tokenizer().and_then(|t| t.encode(text, add_special));
        ids.map_err(to_js_error)
    }

    pub fn detokenize(&self, ids: &[u32]) -> JsResult<String> {
        let text = self.tokenizer().and_then(|t| t.decode(ids));
        text.map_err(to_js_error)
    }

    /// Begins a new sequence. The blocks run in `advance`.
    pub fn start(&mut self, prompt: &[u32], options: JsValue) -> JsResult<()> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.start(prompt, options)).map_err(to_js_error)
    }

    /// Takes the prompt through at most `max_blocks` more blocks, as far as they are there: `{ done, block, waiting }`.
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

    /// Makes one token: `{ token, text, done, probability, token_rank, us, blocks_us }`.
    pub async fn step(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        let step = on_session!(session, s => s.step().await).map_err(to_js_error)?;
        let object = Object::new();
        set(&object, "token", step.token.into())?;
        set(&object, "text", step.text.into())?;
        set(&object, "done", to_js(&step.done)?)?;
        set(&object, "probability", step.probability.into())?;
        set(&object, "token_rank", to_js(&step.standing)?)?;
        set(&object, "us", step.us.into())?;
        set(
            &object,
            "blocks_us",
            Float32Array::from(&step.blocks_us[..]).into(),
        )?;
        Ok(object.into())
    }

    /// Goes back to generated token `index` and puts `token` in its place: `{ text, tokens, prompt_tokens }` of what is
    /// kept before it. `advance` and `replay` then bring the state there, and the next `step` gives the token.
    pub fn branch(&mut self, index: usize, token: u32, options: JsValue) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let kept = on_session!(session, s => s.branch(index, token, options));
        to_js(&kept.map_err(to_js_error)?)
    }

    /// Continues after the last token of the sequence: `{ text, tokens, prompt_tokens }` of what is there.
    pub fn continue_sequence(&mut self, options: JsValue) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        to_js(&on_session!(session, s => s.resume(options)).map_err(to_js_error)?)
    }

    /// Takes the sequence of another engine, after `generated`: `{ text, tokens, prompt_tokens }` of what is there. `advance`
    /// and `replay` then bring the state there.
    pub fn adopt(
        &mut self,
        prompt: &[u32],
        generated: &[u32],
        options: JsValue,
    ) -> JsResult<JsValue> {
        let options: GenerateOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let kept = on_session!(session, s => s.take_up(prompt, generated, options));
        to_js(&kept.map_err(to_js_error)?)
    }

    /// Replays at most `max` tokens of a rewound sequence; gives how many are left.
    pub async fn replay(&mut self, max: usize) -> JsResult<usize> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.reread(max).await).map_err(to_js_error)
    }

    /// The sequence as bytes, for `restore` in this model or a later load of it.
    pub async fn snapshot(&mut self, note: &str) -> JsResult<Vec<u8>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.snapshot(note).await).map_err(to_js_error)
    }

    /// Takes a snapshot's sequence in the place of the present one: `{ tokens, prompt_tokens, note }`.
    pub async fn restore(&mut self, bytes: &[u8]) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        to_js(&on_session!(session, s => s.restore(bytes).await).map_err(to_js_error)?)
    }

    /// Starts a new sequence and gives the logits of every token. `[ids, vocab]`
    pub async fn logits(&mut self, ids: &[u32]) -> JsResult<Vec<f32>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.logits(ids).await).map_err(to_js_error)
    }

    /// Appends one token to the sequence and gives the logits that follow it. `[vocab]`
    pub async fn append(&mut self, token: u32) -> JsResult<Vec<f32>> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.extend(&[token]).await).map_err(to_js_error)
    }

    pub fn reset(&mut self) -> JsResult<()> {
        on_session!(self.session_mut().map_err(to_js_error)?, s => s.reset());
        Ok(())
    }

    /// `off`, `block` or `module`.
    pub fn set_profiling(&mut self, level: &str) -> JsResult<()> {
        let level = match level {
            "off" => Ok(Level::Off),
            "block" => Ok(Level::Block),
            "module" => Ok(Level::Module),
            _ => Err(Error::Setting {
                name: "level".into(),
                fact: Fact::not_one_of(level, "off, block, module"),
            }),
        };
        let level = level.map_err(to_js_error)?;
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.set_recording(level));
        Ok(())
    }

    /// The spans recorded since the last call, in columns.
    pub fn take_profile(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        let profile = on_session!(session, s => s.take_profile());
        let object = Object::new();
        set(&object, "names", to_js(&profile.names)?)?;
        set(&object, "name", Uint16Array::from(&profile.name[..]).into())?;
        set(
            &object,
            "parent",
            Int32Array::from(&profile.parent[..]).into(),
        )?;
        set(&object, "pass", Uint32Array::from(&profile.pass[..]).into())?;
        set(
            &object,
            "start_us",
            Float64Array::from(&profile.start_us[..]).into(),
        )?;
        let duration_us = Float32Array::from(&profile.duration_us[..]);
        set(&object, "duration_us", duration_us.into())?;
        set(
            &object,
            "flops",
            Float64Array::from(&profile.flops[..]).into(),
        )?;
        set(
            &object,
            "bytes",
            Float64Array::from(&profile.bytes[..]).into(),
        )?;
        Ok(object.into())
    }

    /// Single kernels against the ceilings of this machine, on this engine's threads; no model is needed.
    /// A loading or loaded model has the threads for itself.
    pub fn bench_kernels(&self) -> JsResult<JsValue> {
        if self.session.is_some() {
            return Err(to_js_error(out_of_order("before_plan")));
        }
        to_js(&bench::run(Cpu::new(self.threads)))
    }

    // ---- reports on this model ----

    /// What a run file says of the loaded model whatever was measured: `{ model, memory, context, prompt }`. `prompt` is
    /// what a report reads where nothing else is asked for.
    pub fn run_facts(&self, name: &str) -> JsResult<JsValue> {
        let session = self.session().map_err(to_js_error)?;
        let (config, schedule, context, kv_format) =
            on_session!(session, s => (s.config(), s.schedule(), s.context(), s.kv_format()));
        let mut memory = Memory::new(config, schedule, kv_format);
        memory.process_bytes = Some(core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES);
        to_js(&RunFacts {
            model: ModelFacts {
                name: name.into(),
                parameters: schedule.parameters,
                config: config.into(),
            },
            memory,
            context,
            prompt: report::PROMPT,
        })
    }

    /// What the measuring protocol runs after `n_done` runs: `warm_up`, `unprofiled`, `profiled`, or nothing more.
    pub fn next_run(&self, warmup: usize, runs: usize, n_done: usize) -> Option<String> {
        let protocol = Protocol {
            warmup,
            runs,
            is_recorded: true,
        };
        protocol.next(n_done).map(|next| next.name().into())
    }

    /// The ids to measure with: `ids` cut or repeated to `length`, or a walk through the vocabulary.
    pub fn measured_prompt(&self, ids: Option<Vec<u32>>, length: usize) -> JsResult<Vec<u32>> {
        let session = self.session().map_err(to_js_error)?;
        let vocab_size = on_session!(session, s => s.config().vocab_size);
        Ok(measure::prompt(ids.as_deref(), length, vocab_size))
    }

    /// What the model's device can do at best; takes about a second.
    pub async fn ceilings(&mut self) -> JsResult<JsValue> {
        match self.session_mut().map_err(to_js_error)? {
            AnySession::Cpu(session) => to_js(&session.backend().ceilings()),
            AnySession::WebGpu(session) => {
                let ceilings = session.backend_mut().ceilings().await;
                to_js(&ceilings.map_err(to_js_error)?)
            }
        }
    }

    /// `{ weights_bytes, cache_bytes, wasm_bytes }`.
    pub fn memory(&self) -> JsResult<JsValue> {
        let (weights_bytes, cache_bytes) = match &self.session {
            Some(session) => on_session!(session, s => (s.weights_bytes(), s.cache_bytes())),
            None => (0, 0),
        };
        to_js(&MemoryInfo {
            weights_bytes,
            cache_bytes,
            wasm_bytes: core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES,
        })
    }
}

impl Engine {
    fn config(&self) -> Result<&Config> {
        self.config
            .as_ref()
            .ok_or_else(|| out_of_order("no_config"))
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        on_session!(self.session()?, s => s.tokenizer())
    }

    fn session(&self) -> Result<&AnySession> {
        self.session
            .as_ref()
            .ok_or_else(|| out_of_order("not_loaded"))
    }

    fn session_mut(&mut self) -> Result<&mut AnySession> {
        self.session
            .as_mut()
            .ok_or_else(|| out_of_order("not_loaded"))
    }
}

// ---- reports on runs, which need no engine ----

#[derive(Serialize)]
struct RunFacts {
    model: ModelFacts,
    memory: Memory,
    context: usize,
    prompt: &'static str,
}

/// The checked run in the text of a run file.
#[wasm_bindgen]
pub fn parse_run(text: &str) -> JsResult<JsValue> {
    to_js(&Run::parse(text).map_err(to_js_error)?)
}

/// Everything that is derived from the run in `text`.
#[wasm_bindgen]
pub fn summarise(text: &str) -> JsResult<JsValue> {
    let run = Run::parse(text).map_err(to_js_error)?;
    to_js(&summary::summarise(&run))
}

/// The run in `text` as `markdown`, `json`, `csv` or `trace`.
#[wasm_bindgen]
pub fn export_run(text: &str, format: &str, language: &str) -> JsResult<String> {
    let language = language.parse().map_err(to_js_error)?;
    let format = format.parse().map_err(to_js_error)?;
    let run = Run::parse(text).map_err(to_js_error)?;
    Ok(report::export(&run, format, language))
}

/// The reference report, `published` or `recomputed`.
#[wasm_bindgen]
pub fn reference_report(kind: &str) -> JsResult<JsValue> {
    let kind = kind.parse().map_err(to_js_error)?;
    to_js(&reference::report(kind))
}

fn unit_info(planned: &PlannedUnit) -> UnitInfo<'_> {
    UnitInfo {
        name: planned.unit.name(),
        block: match planned.unit {
            Unit::Block(index) => Some(index),
            _ => None,
        },
        bytes: planned
            .ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum(),
        stored_bytes: planned.stored_bytes,
        ranges: &planned.ranges,
    }
}

fn out_of_order(fact: &'static str) -> Error {
    Error::Sequence {
        fact: Fact::new(fact),
    }
}

fn to_js_error(error: Error) -> JsValue {
    report_to_js(&error.report())
}

fn report_to_js(report: &ErrorReport) -> JsValue {
    to_js(report).unwrap_or_else(|_| JsValue::from_str(&report.message))
}

/// Plain data to a plain object.
fn to_js(value: &impl Serialize) -> JsResult<JsValue> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|error| JsValue::from_str(&error.to_string()))?;
    JSON::parse(&text)
}

/// A plain object to plain data; what does not fit is the caller's bad option `name`.
fn from_js<T: for<'a> Deserialize<'a>>(name: &str, value: &JsValue) -> JsResult<T> {
    let text = JSON::stringify(value)?.as_string().unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| {
        to_js_error(Error::Setting {
            name: name.into(),
            fact: error.to_string().into(),
        })
    })
}

fn set(object: &Object, name: &str, value: JsValue) -> JsResult<()> {
    Reflect::set(object, &name.into(), &value).map(drop)
}
