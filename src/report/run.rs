//! `zamba2-run/1`: the file format of a measured run, with everything needed to recompute its figures
//! (docs/run-format.md). The figures themselves are derived in `summary`.

mod check;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::loader::schedule::LoadSchedule;
use crate::model::config::{BlockKind, Config, Family};
use crate::model::module::Unit;
use crate::ops::device::{Ceilings, KernelChoice, KvFormat};
use crate::ops::trace::Profile;
use crate::report::count::Formats;
use crate::report::sentence::SentenceValue;
use check::bad;
pub use check::{MAX_RUNS, MAX_TEXT_CHARS, MAX_TOKENS};

pub const SCHEMA: &str = "zamba2-run/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub schema: String,
    /// Milliseconds since 1970.
    pub made_ms: f64,
    pub label: String,
    pub model: ModelFacts,
    pub conditions: Conditions,
    pub timer: Timer,
    pub ceilings: Option<Ceilings>,
    pub memory: Memory,
    pub prompt_tokens: usize,
    pub decode_tokens: usize,
    pub warmup: usize,
    pub runs: Vec<ProfiledRun>,
    /// The same work without spans: the difference is the cost of recording.
    pub unprofiled: Vec<UnprofiledRun>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    pub name: String,
    pub parameters: u64,
    pub config: Shapes,
}

/// The fields of a [`Config`] that counting needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shapes {
    /// Runs of earlier versions have none, because there was only one family.
    #[serde(default)]
    pub family: Family,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub kinds: Vec<BlockKind>,
    pub d_state: usize,
    pub d_conv: usize,
    pub d_inner: usize,
    pub n_mamba_heads: usize,
    pub n_groups: usize,
    pub n_attention_heads: usize,
    pub n_kv_heads: usize,
    pub intermediate_size: usize,
    pub num_mem_blocks: usize,
    pub use_shared_attention_adapter: bool,
    pub adapter_rank: usize,
    pub use_mem_rope: bool,
    pub add_bias_linear: bool,
    pub tie_word_embeddings: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub backend: String,
    /// `f32`, `q8` or `q4`.
    pub weights: String,
    pub threads: usize,
    /// Whether the page was cross-origin isolated; `None` for a native run.
    pub isolated: Option<bool>,
    pub context: usize,
    /// Rows of a prompt that were processed together. Runs without this field had 64 on every device.
    #[serde(default = "former_chunk_rows")]
    pub chunk_rows: usize,
    /// The variants that a trial has chosen on a graphics device; empty in runs from before there was a trial.
    #[serde(default)]
    pub kernels: Vec<KernelChoice>,
    pub level: RecordedLevel,
    pub host: String,
    /// How long the page was in the background.
    pub hidden_ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedLevel {
    Block,
    Module,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    /// The id of a clock, or a name that is the same in every language, such as "performance.now".
    pub source: String,
    pub resolution_us: f64,
}

/// What may measure the spans, with the keys of its names.
const TIMERS: [(&str, &str); 4] = [
    ("clock", "report.timer.clock"),
    ("clock_after_blocks", "report.timer.clock_after_blocks"),
    ("clock_after_spans", "report.timer.clock_after_spans"),
    ("timestamp_query", "report.timer.timestamp_query"),
];

impl Timer {
    pub fn name(&self) -> SentenceValue {
        let known = TIMERS.iter().find(|(source, _)| *source == self.source);
        known.map_or_else(
            || SentenceValue::Text(self.source.clone()),
            |(_, key)| SentenceValue::Word(key),
        )
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub weights_bytes: u64,
    /// The part of `weights_bytes` in shared transformers.
    pub shared_bytes: u64,
    pub ssm_state_bytes: u64,
    pub conv_state_bytes: u64,
    pub kv_bytes_per_token: u64,
    /// Memory of the process or of the wasm instance, if known.
    pub process_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfiledRun {
    /// From submitting the token ids to the first token.
    pub prefill_us: f64,
    pub step_us: Vec<f64>,
    pub spans: Spans,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnprofiledRun {
    pub prefill_us: f64,
    pub step_us: Vec<f64>,
}

/// A [`Profile`] in columns of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spans {
    pub names: Vec<String>,
    pub name: Vec<usize>,
    /// Row of the parent span, or −1.
    pub parent: Vec<i64>,
    /// 0 is the prefill, n the n-th decode step.
    pub pass: Vec<usize>,
    pub start_us: Vec<f64>,
    pub duration_us: Vec<f64>,
    pub flops: Vec<f64>,
    pub bytes: Vec<f64>,
    /// The first span of the same fused kernel, or −1; empty if no kernels are fused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fused_with: Vec<i64>,
}

fn former_chunk_rows() -> usize {
    64
}

impl From<&Config> for Shapes {
    fn from(config: &Config) -> Shapes {
        Shapes {
            family: config.family,
            hidden_size: config.hidden_size,
            vocab_size: config.vocab_size,
            kinds: config.kinds.clone(),
            d_state: config.d_state,
            d_conv: config.d_conv,
            d_inner: config.d_inner,
            n_mamba_heads: config.n_mamba_heads,
            n_groups: config.n_groups,
            n_attention_heads: config.n_attention_heads,
            n_kv_heads: config.n_kv_heads,
            intermediate_size: config.intermediate_size,
            num_mem_blocks: config.num_mem_blocks,
            use_shared_attention_adapter: config.use_shared_attention_adapter,
            adapter_rank: config.adapter_rank,
            use_mem_rope: config.use_mem_rope,
            add_bias_linear: config.add_bias_linear,
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }
}

impl Shapes {
    /// The configuration with these shapes, validated like a checkpoint's `config.json`.
    ///
    /// # Errors
    /// The invalid field, named as in the checkpoint.
    pub fn config(&self) -> Result<Config> {
        let expand = self.d_inner / self.hidden_size.max(1);
        if expand * self.hidden_size != self.d_inner {
            let fact = Fact::new("run_multiple_of_hidden_size");
            return Err(bad("model.config.d_inner", fact));
        }
        let text = json!({
            "model_type": self.family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.kinds.len(),
            "layers_block_type": self.kinds,
            "mamba_d_state": self.d_state,
            "mamba_d_conv": self.d_conv,
            "mamba_expand": expand,
            "mamba_ngroups": self.n_groups,
            "n_mamba_heads": self.n_mamba_heads,
            "num_attention_heads": self.n_attention_heads,
            "num_key_value_heads": self.n_kv_heads,
            "intermediate_size": self.intermediate_size,
            "num_mem_blocks": self.num_mem_blocks,
            "use_shared_attention_adapter": self.use_shared_attention_adapter,
            "adapter_rank": self.adapter_rank,
            "use_mem_rope": self.use_mem_rope,
            "add_bias_linear": self.add_bias_linear,
            "tie_word_embeddings": self.tie_word_embeddings,
        });
        Config::from_json(&text.to_string()).map_err(|error| match error {
            Error::Config { fact, .. } => bad("model.config", fact),
            other => other,
        })
    }
}

impl Memory {
    /// Memory of the weights of `schedule` and of the caches of `config`.
    pub fn new(config: &Config, schedule: &LoadSchedule, kv: KvFormat) -> Memory {
        let shared = |unit: Unit| matches!(unit, Unit::SharedTransformer(_));
        let units = schedule.units.iter().filter(|unit| shared(unit.unit));
        let n_blocks = config.n_blocks() as u64;
        let kv_position_bytes = kv.bytes(&config.attention_shape(), 1);
        Memory {
            weights_bytes: schedule.weights_bytes,
            shared_bytes: units.map(|unit| unit.stored_bytes).sum(),
            ssm_state_bytes: 4 * n_blocks * (config.d_inner * config.d_state) as u64,
            conv_state_bytes: 4 * n_blocks * ((config.d_conv - 1) * config.conv_dim()) as u64,
            kv_bytes_per_token: kv_position_bytes * config.hybrid_blocks().len() as u64,
            process_bytes: None,
        }
    }
}

impl From<Profile> for Spans {
    fn from(profile: Profile) -> Spans {
        let has_fused = profile.fused_with.iter().any(|&first| first >= 0);
        let fused_with = if has_fused {
            profile.fused_with.into_iter().map(i64::from).collect()
        } else {
            Vec::new()
        };
        Spans {
            names: profile.names,
            name: profile.name.into_iter().map(usize::from).collect(),
            parent: profile.parent.into_iter().map(i64::from).collect(),
            pass: profile.pass.into_iter().map(|pass| pass as usize).collect(),
            start_us: profile.start_us.into_iter().map(thousandths).collect(),
            duration_us: profile
                .duration_us
                .into_iter()
                .map(|us| thousandths(us.into()))
                .collect(),
            flops: profile.flops,
            bytes: profile.bytes,
            fused_with,
        }
    }
}

/// Rounds a time or a rate to three decimals: further digits are noise, and every JSON parser restores a number of at
/// most fifteen digits exactly.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl UnprofiledRun {
    pub fn new(prefill_us: f64, step_us: Vec<f64>) -> UnprofiledRun {
        UnprofiledRun {
            prefill_us: thousandths(prefill_us),
            step_us: step_us.into_iter().map(thousandths).collect(),
        }
    }
}

impl ProfiledRun {
    pub fn new(times: UnprofiledRun, profile: Profile) -> ProfiledRun {
        ProfiledRun {
            prefill_us: times.prefill_us,
            step_us: times.step_us,
            spans: profile.into(),
        }
    }
}

/// Rates rounded as in a run file.
pub fn rounded(ceilings: Ceilings) -> Ceilings {
    Ceilings {
        threads: ceilings.threads,
        int8_gmacs_per_s: thousandths(ceilings.int8_gmacs_per_s),
        int16_gmacs_per_s: thousandths(ceilings.int16_gmacs_per_s),
        f32_gmacs_per_s: thousandths(ceilings.f32_gmacs_per_s),
        read_gb_per_s: thousandths(ceilings.read_gb_per_s),
        copy_gb_per_s: ceilings.copy_gb_per_s.map(thousandths),
    }
}

impl Run {
    /// The text of the run file.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a run is plain data")
    }

    /// The weight format.
    pub fn weights(&self) -> WeightFormat {
        self.conditions.weights.parse().expect("a run is checked")
    }

    /// The checked configuration.
    pub fn config(&self) -> Config {
        self.model.config.config().expect("a run is checked")
    }

    pub fn formats(&self) -> Formats {
        let kinds = self.model.config.kinds.iter();
        let hybrids = kinds.filter(|kind| **kind == BlockKind::Hybrid).count();
        Formats {
            weights: self.weights(),
            kv_position_bytes: self.memory.kv_bytes_per_token as f64 / hybrids.max(1) as f64,
            chunk_rows: self.conditions.chunk_rows,
        }
    }
}

impl Spans {
    pub fn len(&self) -> usize {
        self.name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether the time of a span is a share of the time of a fused kernel.
    pub fn is_fused(&self, row: usize) -> bool {
        self.fused_with.get(row).is_some_and(|&first| first >= 0)
    }
}
