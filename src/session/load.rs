//! Loading: settings and limits, the plan, then the bytes of the weights.

use std::sync::Arc;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::loader::safetensors::Shard;
use crate::loader::schedule::LoadSchedule;
use crate::loader::{Rest, WeightStream};
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::forward::{ForwardPass, Scratch};
use crate::model::{NumericSettings, Zamba2};
use crate::ops::Ops;
use crate::ops::device::{Device, KvFormat, ModelSizes};
use crate::ops::trace::Level;
use crate::session::draft_pass::DraftBuffers;
use crate::session::lookup::{DraftPolicy, PassCost};
use crate::session::state_checkpoints::CHECKPOINTS_BYTES;
use crate::session::{Lookahead, Session};
use crate::text::tokenizer::Tokenizer;

/// The default context is the longest that the model supports, up to this many tokens ...
const DEFAULT_CONTEXT: usize = 2048;
/// ... and up to this size of the KV cache.
pub const DEFAULT_KV_BYTES: u64 = 256 << 20;

/// The memory limit in WebAssembly: the address space of wasm32, less room for code, stacks, activations and pieces in
/// flight.
pub const WASM_MEMORY_LIMIT_BYTES: u64 = (4 << 30) - (384 << 20);

/// Settings of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadSettings {
    pub weights: WeightFormat,
    /// Tokens that the cache can hold. Default: [`context_length`].
    pub context: Option<usize>,
    pub numeric: NumericSettings,
    /// Limit of the host memory for weights and cache: a model that needs more is refused before it is loaded. It does
    /// not apply to devices with memory of their own.
    pub memory_limit_bytes: Option<u64>,
}

impl LoadSettings {
    /// The memory limit, if a model of `needed_bytes` on this device exceeds it.
    pub fn exceeded_limit<B: Device>(&self, needed_bytes: u64) -> Option<u64> {
        let limit = self.memory_limit_bytes.filter(|_| B::USES_HOST_MEMORY);
        limit.filter(|&limit_bytes| needed_bytes > limit_bytes)
    }
}

/// The format of the KV cache: f32 with f32 weights, 8 bits with quantised ones, which takes a quarter of the bytes
/// (`docs/quantization.md` has the effect).
pub fn kv_format(weights: WeightFormat) -> KvFormat {
    if weights.is_quantized() {
        KvFormat::I8
    } else {
        KvFormat::F32
    }
}

/// The context of a session: the requested one, or the default for this model.
pub fn context_length(
    config: &Config,
    weights: WeightFormat,
    wanted: Option<usize>,
) -> Result<usize> {
    let limit = config.max_position_embeddings;
    if let Some(context) = wanted {
        if context == 0 || context > limit {
            return Err(Error::Setting {
                name: "context".into(),
                fact: Fact::new("context_range")
                    .with("value", context)
                    .with("limit", limit),
            });
        }
        return Ok(context);
    }
    let kv_bytes = kv_format(weights).bytes(&config.attention_shape(), 1)
        * config.hybrid_blocks().len().max(1) as u64;
    let fits = (DEFAULT_KV_BYTES / kv_bytes).max(64) as usize;
    Ok(limit.min(DEFAULT_CONTEXT).min(fits))
}

impl<B: Device> Session<B> {
    /// Plans the load from the headers of the shards.
    ///
    /// # Errors
    /// A tensor that is missing or does not fit the configuration, too little memory, or a size that exceeds a limit of
    /// the device.
    pub fn open(
        device: B,
        config: Config,
        shards: &[Shard],
        tokenizer: Option<Tokenizer>,
        settings: LoadSettings,
    ) -> Result<Self> {
        let mut ops = Ops::new(device);
        let schedule = LoadSchedule::new(&config, shards, settings.weights)?;
        let context = context_length(&config, settings.weights, settings.context)?;
        let kv_format = kv_format(settings.weights);
        let needed_bytes = schedule.weights_bytes + Cache::<B>::bytes(&config, context, kv_format);
        if let Some(limit_bytes) = settings.exceeded_limit::<B>(needed_bytes) {
            return Err(Error::Memory {
                needed_bytes,
                limit_bytes,
            });
        }
        ops.check_sizes(&ModelSizes {
            attention: config.attention_shape(),
            d_state: config.d_state,
            context,
            kv_format,
        })?;
        let with_drafts = needed_bytes + DraftBuffers::<B>::bytes(&config);
        let drafts_fit = settings.exceeded_limit::<B>(with_drafts).is_none();
        let plan = Arc::clone(&schedule.plan);
        let model = Zamba2::empty(&mut ops, config, settings.numeric, plan);
        Ok(Session {
            cache: Cache::new(&mut ops, &model.config, context, kv_format),
            scratch: Scratch::new(&mut ops, &model.config),
            decode_pass: ForwardPass::with_room(&mut ops, &model.config, 1),
            lookahead: Lookahead::of::<B>(),
            top_list: None,
            penalty: None,
            stream: WeightStream::new(schedule, settings.weights),
            ops,
            model,
            tokenizer,
            draft_buffers: None,
            drafts_fit,
            draft_policy: DraftPolicy::default(),
            pass_cost: PassCost::default(),
            sequence: None,
            checkpoints_limit_bytes: CHECKPOINTS_BYTES,
            recording: Level::Off,
            block_times_every: usize::from(B::TIMES_BLOCKS_FREELY),
            kv_format,
            fingerprint: None,
        })
    }

    /// Ends a session without weights, whose device cannot be used, and returns its tokenizer for the next one.
    pub fn into_tokenizer(self) -> Option<Tokenizer> {
        self.tokenizer
    }

    pub fn schedule(&self) -> &LoadSchedule {
        self.stream.schedule()
    }

    /// Takes the next bytes of the schedule's ranges, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.push(&mut self.ops, &mut self.model, bytes)?;
        self.ops.check()
    }

    /// Takes the next bytes in the stored form, as [`Session::take_stored`] returns it.
    pub fn push_stored(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .push_stored(&mut self.ops, &mut self.model, bytes)?;
        self.ops.check()
    }

    /// From now on [`Session::take_stored`] returns the stored form of the bytes passed to [`Session::push`].
    pub fn keep_stored(&mut self) {
        self.stream.keep_stored();
    }

    /// The stored form of what was pushed since the last call.
    pub fn take_stored(&mut self) -> Vec<u8> {
        self.stream.take_stored()
    }

    /// What is still missing of the unit that is being loaded. Drops an incomplete row.
    pub fn rest(&mut self) -> Option<Rest> {
        self.stream.rest()
    }

    /// Fails if weights are missing.
    pub fn check_complete(&self) -> Result<()> {
        self.stream.finish()
    }

    /// Waits until the device has everything that was pushed.
    ///
    /// # Errors
    /// Failures of earlier calls: running out of device memory is reported late.
    pub async fn check_device(&mut self) -> Result<()> {
        self.ops.read(&self.scratch.last).await.map(drop)
    }
}
