//! The JavaScript interface: the `Engine` that the worker owns. Apart from the clock, only this folder uses JavaScript.
//! It computes nothing: it converts JS values to Rust values and calls the session.
//!
//! Small values are passed as JSON, arrays of numbers as typed arrays. One call is in flight at a time, because an
//! `async fn(&mut self)` holds its borrow while it waits; the worker queues calls.

/// Evaluates `$body` with `$session` bound to the session of either device.
macro_rules! on_session {
    ($any:expr, $session:ident => $body:expr) => {
        match $any {
            $crate::api::AnySession::Cpu($session) => $body,
            $crate::api::AnySession::WebGpu($session) => $body,
        }
    };
}

mod generate;
mod inspect;
mod js;
mod kernel_choice;
mod load;
mod profile;
mod report;
mod self_test;

use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, from_js, to_js, to_js_error};
use crate::base::error::{Error, Fact, Result};
use crate::device::cpu::Cpu;
use crate::device::webgpu::{AdapterOptions, HostThreads, WebGpu};
use crate::loader::safetensors::Shard;
use crate::model::NumericSettings;
use crate::model::config::Config;
use crate::ops::device::Device;
use crate::session::{LoadSettings, Session, WASM_MEMORY_LIMIT_BYTES};
use crate::text::chat::ChatTemplate;
use crate::text::tokenizer::Tokenizer;
use crate::threads::platform as threads;

/// The first panic on any thread that JavaScript has not taken. Later panics are consequences of it.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Writes every panic to the console and keeps its message for `take_panic`: the trap that ends a panic has none.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            console_error_panic_hook::hook(info);
            let mut kept = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert_with(|| info.to_string());
        }));
    });
}

/// The message of the first panic since the last call, if there was one.
#[wasm_bindgen]
pub fn take_panic() -> Option<String> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineOptions {
    weights: String,
    /// The calling worker and the workers that called `serve_as_thread`.
    threads: usize,
    context: Option<usize>,
}

/// Makes the calling worker one of the engine's threads; never returns. The engine's own worker must not call it.
#[wasm_bindgen]
pub fn serve_as_thread() {
    threads::serve()
}

/// Reports that a call of `serve_as_thread` ended in a trap, so that the engine fails instead of waiting for it.
#[wasm_bindgen]
pub fn note_thread_trap() {
    threads::note_trap();
}

/// The model on the device that it was planned for.
enum AnySession {
    Cpu(Box<Session<Cpu>>),
    WebGpu(Box<Session<WebGpu>>),
}

/// Options of `open_webgpu`; the defaults are the adapter's own limits and features.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebGpuOptions {
    /// Rejects software adapters.
    hardware_only: bool,
    max_binding_bytes: Option<u64>,
    timestamps: bool,
    /// Whether JavaScript requested the feature: wgpu cannot do that in a browser.
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

/// Properties of the open adapter, except its name, which JavaScript has.
#[derive(Serialize)]
struct AdapterInfo {
    software: bool,
    max_binding_bytes: u64,
    subgroups: bool,
    f16: bool,
    /// Changes with the kernels that have variants.
    shaders: String,
}

/// One model with one sequence.
#[wasm_bindgen]
pub struct Engine {
    settings: LoadSettings,
    threads: usize,
    /// The device of the next `plan`; the CPU if there is none.
    webgpu: Option<WebGpu>,
    config: Option<Config>,
    tokenizer: Option<Tokenizer>,
    chat: Result<ChatTemplate>,
    shards: Vec<Shard>,
    session: Option<AnySession>,
}

#[wasm_bindgen]
impl Engine {
    /// `options`: `{ weights: "f32" | "q8" | "q4", threads, context }`.
    #[wasm_bindgen(constructor)]
    pub fn new(options: JsValue) -> JsResult<Engine> {
        install_panic_hook();
        let options: EngineOptions = from_js("options", &options)?;
        Ok(Engine {
            settings: LoadSettings {
                weights: options.weights.parse().map_err(to_js_error)?,
                context: options.context,
                numeric: NumericSettings::default(),
                memory_limit_bytes: Some(WASM_MEMORY_LIMIT_BYTES),
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

    /// Opens a graphics adapter for the next `plan`: `{ software, max_binding_bytes, subgroups, f16, shaders }`.
    /// `options`: `{ hardware_only?, max_binding_bytes?, timestamps?, subgroups?, f16? }`.
    ///
    /// # Errors
    /// `no_adapter`; `plan` then uses the CPU.
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
            ..AdapterOptions::default()
        };
        let webgpu = self.open_adapter(options).await.map_err(to_js_error)?;
        let adapter = webgpu.adapter();
        let info = to_js(&AdapterInfo {
            software: adapter.software,
            max_binding_bytes: adapter.max_binding_bytes,
            subgroups: adapter.subgroups,
            f16: adapter.f16,
            shaders: webgpu.shader_version(),
        });
        self.webgpu = Some(webgpu);
        info
    }
}

impl Engine {
    async fn open_adapter(&self, options: AdapterOptions) -> Result<WebGpu> {
        let cpu = Cpu::new(self.threads);
        let host: HostThreads =
            Box::new(move |data, piece, body| cpu.for_each_piece(data, piece, body));
        WebGpu::open(options, host).await
    }

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

fn out_of_order(fact: &'static str) -> Error {
    Error::Sequence {
        fact: Fact::new(fact),
    }
}
