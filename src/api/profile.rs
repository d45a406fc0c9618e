//! Profiles, benchmarks, and the facts about the loaded model for run files.

use js_sys::{Float32Array, Float64Array, Int32Array, Object, Uint16Array, Uint32Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, set, to_js, to_js_error};
use crate::api::{AnySession, Engine, out_of_order};
use crate::base::error::{Error, Fact};
use crate::bench;
use crate::device::cpu::Cpu;
use crate::ops::trace::Level;
use crate::report;
use crate::report::measure::{self, Protocol};
use crate::report::run::{Memory, ModelFacts};

const PAGE_BYTES: u64 = 1 << 16;

#[derive(Serialize)]
struct MemoryInfo {
    weights_bytes: u64,
    cache_bytes: u64,
    wasm_bytes: u64,
}

#[derive(Serialize)]
struct RunFacts {
    model: ModelFacts,
    memory: Memory,
    context: usize,
    chunk_rows: usize,
    /// The default prompt of a report.
    prompt: &'static str,
}

#[wasm_bindgen]
impl Engine {
    /// `level`: `off`, `block` or `module`.
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

    /// Measures block times in every n-th decode step without profiling; never if `every` is 0.
    pub fn set_block_times(&mut self, every: usize) -> JsResult<()> {
        let session = self.session_mut().map_err(to_js_error)?;
        // The CPU times every step, which costs two clock reads per block.
        if let AnySession::WebGpu(session) = session {
            session.set_block_times(every);
        }
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
        let fused_with = Int32Array::from(&profile.fused_with[..]);
        set(&object, "fused_with", fused_with.into())?;
        Ok(object.into())
    }

    /// Measures single kernels and the ceilings of this machine, on this engine's threads. Only before `plan`, because
    /// a model owns the threads.
    pub fn bench_kernels(&self) -> JsResult<JsValue> {
        if self.session.is_some() {
            return Err(to_js_error(out_of_order("before_plan")));
        }
        to_js(&bench::run(Cpu::new(self.threads)))
    }

    /// The facts about the loaded model for a run file, independent of the measurement: [`RunFacts`].
    pub fn run_facts(&self, name: &str) -> JsResult<JsValue> {
        let session = self.session().map_err(to_js_error)?;
        let (config, schedule) = on_session!(session, s => (s.config(), s.schedule()));
        let (context, chunk_rows, kv_format) =
            on_session!(session, s => (s.context(), s.chunk_rows(), s.kv_format()));
        let mut memory = Memory::new(config, schedule, kv_format);
        memory.process_bytes = Some(wasm_bytes());
        to_js(&RunFacts {
            model: ModelFacts {
                name: name.into(),
                parameters: schedule.parameters,
                config: config.into(),
            },
            memory,
            context,
            chunk_rows,
            prompt: report::PROMPT,
        })
    }

    /// The kind of the run after `n_done` runs: `warm_up`, `unprofiled` or `profiled`; none after the last run.
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

    /// The ceilings of the model's device; takes one to three seconds.
    pub async fn ceilings(&mut self) -> JsResult<JsValue> {
        match self.session_mut().map_err(to_js_error)? {
            AnySession::Cpu(session) => to_js(&session.backend().ceilings(session.weights_bytes())),
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
            wasm_bytes: wasm_bytes(),
        })
    }
}

/// Size of WebAssembly's linear memory.
fn wasm_bytes() -> u64 {
    core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES
}
