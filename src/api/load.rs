//! Loading: configuration, tokenizer, shard headers, the plan, then the bytes of the weights.

use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, to_js, to_js_error};
use crate::api::{AnySession, Engine};
use crate::base::error::{Error, Fact, Result};
use crate::device::cpu::Cpu;
use crate::family;
use crate::loader::packed::Manifest;
use crate::loader::safetensors::{self, Shard};
use crate::loader::schedule::{ByteRange, PlannedUnit};
use crate::loader::{end_tokens, foreign};
use crate::model::config::{BlockKind, Config};
use crate::model::module::{ModelPlan, Unit};
use crate::session::{Session, context_length};
use crate::text::tokenizer::Tokenizer;

#[derive(Serialize)]
struct ModelInfo<'a> {
    model_type: &'static str,
    hidden_size: usize,
    vocab_size: usize,
    n_blocks: usize,
    kinds: &'a [BlockKind],
    n_shared_transformers: usize,
    shared_of_block: Vec<Option<usize>>,
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
    /// Bytes of the stored (quantised) form.
    stored_bytes: u64,
    ranges: &'a [ByteRange],
}

#[derive(Serialize)]
struct RestInfo {
    stored_bytes: u64,
    ranges: Vec<ByteRange>,
}

#[wasm_bindgen]
impl Engine {
    /// Parses `config.json` and describes the model.
    pub fn open_config(&mut self, text: &str) -> JsResult<JsValue> {
        foreign::check_text("config.json", text.as_bytes()).map_err(to_js_error)?;
        let config = Config::from_json(text).map_err(to_js_error)?;
        let plan = family::full_plan(&config);
        let info = self.describe(&config, &plan, plan.parameters())?;
        self.config = Some(config);
        Ok(info)
    }

    /// After `plan`, the description by the tensors that the checkpoint has: they decide what is shared. Equal copies
    /// of a tensor are counted until they have been read.
    pub fn model_info(&self) -> JsResult<JsValue> {
        let session = self.session().map_err(to_js_error)?;
        let schedule = on_session!(session, session => session.schedule());
        let config = self.config().map_err(to_js_error)?;
        self.describe(config, &schedule.plan, schedule.parameters)
    }

    /// Parses `tokenizer.json`. Without it the model has logits, but no text.
    pub fn open_tokenizer(&mut self, bytes: &[u8]) -> JsResult<()> {
        foreign::check_text("tokenizer.json", bytes).map_err(to_js_error)?;
        let vocab_size = self.config().map_err(to_js_error)?.vocab_size;
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", bytes, vocab_size);
        self.tokenizer = Some(tokenizer.map_err(to_js_error)?);
        Ok(())
    }

    /// Adds the end tokens of `generation_config.json`, if the checkpoint has one, and returns the ids of all.
    pub fn open_generation_config(&mut self, text: Option<String>) -> JsResult<Vec<u32>> {
        self.config().map_err(to_js_error)?;
        let config = self.config.as_mut().expect("it was asked for above");
        if let Some(text) = text {
            end_tokens::add_generation_config(config, &text).map_err(to_js_error)?;
        }
        Ok(config.eos_token_ids.clone())
    }

    /// Names of files whose presence shows what a checkpoint without `config.json` or safetensors is.
    pub fn telltale_files(&self) -> Vec<String> {
        foreign::TELLTALES.map(str::to_owned).to_vec()
    }

    /// Fails with the kind of such a checkpoint, if the names of its files show it.
    pub fn check_names(&self, names: Vec<String>) -> JsResult<()> {
        let refusal = foreign::folder_refusal(names.iter().map(String::as_str));
        refusal.map_or(Ok(()), |error| Err(to_js_error(error)))
    }

    /// The shard files that `model.safetensors.index.json` names.
    pub fn open_index(&self, text: &str) -> JsResult<Vec<String>> {
        safetensors::shard_files("model.safetensors.index.json", text).map_err(to_js_error)
    }

    /// The length of a shard's header, from the file's first eight bytes; checked against the file's size.
    pub fn header_bytes(&self, file: &str, file_bytes: f64, first8: &[u8]) -> JsResult<f64> {
        let bytes = safetensors::header_bytes(file, file_bytes as u64, first8);
        Ok(bytes.map_err(to_js_error)? as f64)
    }

    /// Parses a shard's header.
    pub fn open_shard(&mut self, file: &str, file_bytes: f64, header: &[u8]) -> JsResult<()> {
        let shard = Shard::parse(file, file_bytes as u64, header).map_err(to_js_error)?;
        self.shards.push(shard);
        Ok(())
    }

    /// Parses and checks the manifest of a packed checkpoint.
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
        let tokenizer = self.tokenizer.take();
        let session = self.open_session(tokenizer).map_err(to_js_error)?;
        let schedule = on_session!(session, session => session.schedule());
        let units: Vec<UnitInfo> = schedule.units.iter().map(unit_info).collect();
        to_js(&units)
    }

    /// Takes the next bytes of the plan's ranges, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) -> JsResult<()> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.push(bytes)).map_err(to_js_error)
    }

    /// Takes the next bytes of the stored form, in pieces of any size.
    pub fn push_stored(&mut self, bytes: &[u8]) -> JsResult<()> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => s.push_stored(bytes)).map_err(to_js_error)
    }

    /// From now on `take_stored` returns the stored form of the bytes passed to `push`.
    pub fn keep_stored(&mut self) -> JsResult<()> {
        on_session!(self.session_mut().map_err(to_js_error)?, s => s.keep_stored());
        Ok(())
    }

    /// The stored form of the rows that `push` has completed since the last call.
    pub fn take_stored(&mut self) -> JsResult<Vec<u8>> {
        let session = self.session_mut().map_err(to_js_error)?;
        Ok(on_session!(session, s => s.take_stored()))
    }

    /// `{ stored_bytes, ranges }` of the unit that is being loaded: bytes of its stored form up to the last whole row,
    /// and the ranges of the checkpoint that are still missing. `null` when all units are loaded.
    pub fn rest(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        let rest = on_session!(session, s => s.rest());
        to_js(&rest.map(|rest| RestInfo {
            stored_bytes: rest.stored_bytes,
            ranges: rest.ranges,
        }))
    }

    /// Checks that every byte has arrived, waits until the device has them, and repeats a short part of the self-test:
    /// full memory may change what a device computes.
    pub async fn finish(&mut self) -> JsResult<JsValue> {
        let session = self.session_mut().map_err(to_js_error)?;
        on_session!(session, s => {
            s.check_complete().map_err(to_js_error)?;
            s.check_device().await.map_err(to_js_error)?;
        });
        self.test_device_again().await.map_err(to_js_error)?;
        self.memory()
    }

    /// After `finish`, if the caller set no number of threads: sets the number that is fastest in a short trial, and
    /// returns it.
    pub fn choose_threads(&mut self) -> JsResult<usize> {
        match self.session_mut().map_err(to_js_error)? {
            AnySession::Cpu(session) => Ok(session.choose_threads()),
            AnySession::WebGpu(_) => Ok(self.threads),
        }
    }
}

impl Engine {
    fn describe(&self, config: &Config, plan: &ModelPlan, parameters: u64) -> JsResult<JsValue> {
        let context = context_length(config, self.settings.weights, self.settings.context)
            .map_err(to_js_error)?;
        to_js(&ModelInfo {
            model_type: config.family.model_type(),
            hidden_size: config.hidden_size,
            vocab_size: config.vocab_size,
            n_blocks: config.n_blocks(),
            kinds: &config.kinds,
            n_shared_transformers: plan.shared.len(),
            shared_of_block: plan.shared_of_block(),
            intermediate_size: config.intermediate_size,
            max_position_embeddings: config.max_position_embeddings,
            context,
            bos_token_id: config.bos_token_id,
            eos_token_ids: &config.eos_token_ids,
            parameters,
            rope: config.use_mem_rope,
            attention_adapters: config.use_shared_attention_adapter,
            tied: config.tie_word_embeddings,
        })
    }

    /// A session on the device of `open_webgpu`, otherwise on the CPU.
    pub(super) fn open_session(&mut self, tokenizer: Option<Tokenizer>) -> Result<&AnySession> {
        let (config, settings) = (self.config()?.clone(), self.settings);
        let session = match self.webgpu.take() {
            Some(webgpu) => Session::open(webgpu, config, &self.shards, tokenizer, settings)
                .map(|session| AnySession::WebGpu(Box::new(session))),
            None => {
                let cpu = Cpu::new(self.threads);
                Session::open(cpu, config, &self.shards, tokenizer, settings)
                    .map(|session| AnySession::Cpu(Box::new(session)))
            }
        };
        Ok(self.session.insert(session?))
    }
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
