//! `zamba2-run/1`: a measured run as a file, with everything that a reader needs to recompute each figure
//! (docs/run-format.md). It stands inside the report. A file may come from anyone: it is checked whole before use.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::family;
use crate::loader::schedule::LoadSchedule;
use crate::model::config::{BlockKind, Config};
use crate::model::module::Unit;
use crate::ops::device::{Ceilings, KvFormat};
use crate::ops::trace::Profile;
use crate::report::count::Formats;

pub const SCHEMA: &str = "zamba2-run/1";

/// About twenty-five times a run of Zamba2-1.2B with default settings.
pub const LONGEST_FILE_BYTES: usize = 64 << 20;
const MOST_TOKENS: usize = 1 << 20;
/// Where the clock's steps are at least this long, a pass may take no time by it. Browsers step by 100 µs in pages that
/// are not isolated, and by 16.7 or 100 ms where they resist fingerprinting.
const COARSE_CLOCK_US: f64 = 50.0;
const MOST_RUNS: usize = 1000;
const LONGEST_TEXT_CHARS: usize = 400;

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
    /// Whether the page was cross-origin isolated; no question natively.
    pub isolated: Option<bool>,
    pub context: usize,
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
    pub source: String,
    pub resolution_us: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub weights_bytes: u64,
    /// The part of `weights_bytes` that the shared blocks hold.
    pub shared_bytes: u64,
    pub ssm_state_bytes: u64,
    pub conv_state_bytes: u64,
    pub kv_bytes_per_token: u64,
    /// Of the whole process or of wasm's memory, where it can be told.
    pub process_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfiledRun {
    /// From handing over the ids to having the first token.
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
    /// The row of the span around this one, or −1.
    pub parent: Vec<i64>,
    /// 0 is the prefill, n the n-th decode step.
    pub pass: Vec<usize>,
    pub start_us: Vec<f64>,
    pub duration_us: Vec<f64>,
    pub flops: Vec<f64>,
    pub bytes: Vec<f64>,
}

impl From<&Config> for Shapes {
    fn from(config: &Config) -> Shapes {
        Shapes {
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
    /// The configuration with these shapes, checked as a checkpoint's `config.json` is.
    ///
    /// # Errors
    /// The field at fault, by the checkpoint's name of it.
    pub fn config(&self) -> Result<Config> {
        let expand = self.d_inner / self.hidden_size.max(1);
        if expand * self.hidden_size != self.d_inner {
            let fact = Fact::new("run_multiple_of_hidden_size");
            return Err(bad("model.config.d_inner", fact));
        }
        let text = json!({
            "model_type": "zamba2",
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
    /// What `schedule`'s weights and the caches of `config` take.
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
        }
    }
}

/// Further digits of a time or a rate are noise, and a number of at most fifteen is read back the same by every reader.
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

/// Rates as a run file has them.
pub fn rounded(ceilings: Ceilings) -> Ceilings {
    Ceilings {
        threads: ceilings.threads,
        int8_gmacs_per_s: thousandths(ceilings.int8_gmacs_per_s),
        int16_gmacs_per_s: thousandths(ceilings.int16_gmacs_per_s),
        f32_gmacs_per_s: thousandths(ceilings.f32_gmacs_per_s),
        read_gb_per_s: thousandths(ceilings.read_gb_per_s),
    }
}

fn bad(field: &str, fact: Fact) -> Error {
    Error::Run {
        field: field.into(),
        fact,
    }
}

fn check(holds: bool, field: &str, fact: Fact) -> Result<()> {
    if holds { Ok(()) } else { Err(bad(field, fact)) }
}

impl Run {
    /// Reads and checks the text of a run file.
    ///
    /// # Errors
    /// The field at fault and what it must be.
    pub fn parse(text: &str) -> Result<Run> {
        check(
            text.len() <= LONGEST_FILE_BYTES,
            "the file",
            Fact::new("run_too_large"),
        )?;
        #[derive(Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        let head: Head = serde_json::from_str(text).map_err(|error| {
            let fact = Fact::new("run_no_schema").with("detail", error.to_string());
            bad("the file", fact)
        })?;
        if head.schema.as_deref() != Some(SCHEMA) {
            let found = json!(head.schema.map(|found| shortened(&found))).to_string();
            let fact = Fact::new("run_schema")
                .with("expected", SCHEMA)
                .with("found", found);
            return Err(bad("schema", fact));
        }
        let reader = &mut serde_json::Deserializer::from_str(text);
        let run: Run = serde_path_to_error::deserialize(reader).map_err(|error| {
            let (field, fact) = (error.path().to_string(), error.inner().to_string());
            bad(&shortened(&field), shortened(&fact).into())
        })?;
        run.check()?;
        Ok(run)
    }

    /// The run as a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a run is plain data")
    }

    /// The form of the weights.
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
        }
    }

    /// Whether every figure is one that the rest of the report can rely on.
    ///
    /// # Errors
    /// The first field that isn't.
    pub fn check(&self) -> Result<()> {
        for (field, text) in [
            ("label", &self.label),
            ("model.name", &self.model.name),
            ("conditions.backend", &self.conditions.backend),
            ("conditions.host", &self.conditions.host),
            ("timer.source", &self.timer.source),
        ] {
            check_text(field, text)?;
        }
        let n_blocks = self.model.config.config()?.n_blocks();
        let weights = &self.conditions.weights;
        let known = weights.parse::<WeightFormat>().is_ok();
        check(
            known,
            "conditions.weights",
            Fact::not_one_of(weights, "f32, q8, q4"),
        )?;
        for (field, value) in [
            ("made_ms", self.made_ms),
            ("conditions.hidden_ms", self.conditions.hidden_ms),
            ("timer.resolution_us", self.timer.resolution_us),
        ] {
            let sane = (0.0..=1e15).contains(&value);
            check(sane, field, Fact::new("run_time"))?;
        }
        let threads = (1..=1 << 16).contains(&self.conditions.threads);
        check(threads, "conditions.threads", Fact::new("run_at_least_1"))?;
        if let Some(c) = self.ceilings {
            for (field, rate) in [
                ("ceilings.int8_gmacs_per_s", c.int8_gmacs_per_s),
                ("ceilings.int16_gmacs_per_s", c.int16_gmacs_per_s),
                ("ceilings.f32_gmacs_per_s", c.f32_gmacs_per_s),
                ("ceilings.read_gb_per_s", c.read_gb_per_s),
            ] {
                let sane = (1e-6..=1e9).contains(&rate);
                check(sane, field, Fact::new("run_rate"))?;
            }
        }
        for (field, tokens, least) in [
            ("prompt_tokens", self.prompt_tokens, 1),
            ("decode_tokens", self.decode_tokens, 0),
        ] {
            let sane = (least..=MOST_TOKENS).contains(&tokens);
            let fact = Fact::new("run_range")
                .with("least", least)
                .with("most", MOST_TOKENS);
            check(sane, field, fact)?;
        }
        for (field, length) in [
            ("runs", self.runs.len()),
            ("unprofiled", self.unprofiled.len()),
        ] {
            let sane = (1..=MOST_RUNS).contains(&length);
            let fact = Fact::new("run_entries")
                .with("most", MOST_RUNS)
                .with("found", length);
            check(sane, field, fact)?;
        }
        for (i, run) in self.runs.iter().enumerate() {
            let field = format!("runs[{i}]");
            self.check_times(&field, run.prefill_us, &run.step_us)?;
            run.spans
                .check(&format!("{field}.spans"), n_blocks, self.decode_tokens)?;
        }
        for (i, run) in self.unprofiled.iter().enumerate() {
            self.check_times(&format!("unprofiled[{i}]"), run.prefill_us, &run.step_us)?;
        }
        Ok(())
    }

    fn check_times(&self, field: &str, prefill_us: f64, step_us: &[f64]) -> Result<()> {
        let is_coarse = self.timer.resolution_us >= COARSE_CLOCK_US;
        let positive = |us: &f64| (1e-9..=1e15).contains(us) || (is_coarse && *us == 0.0);
        let fact = || Fact::new("run_time_above_0");
        check(
            positive(&prefill_us),
            &format!("{field}.prefill_us"),
            fact(),
        )?;
        let field = format!("{field}.step_us");
        if step_us.len() != self.decode_tokens {
            let fact = Fact::new("run_steps").with("expected", self.decode_tokens);
            return Err(bad(&field, fact.with("found", step_us.len())));
        }
        match step_us.iter().position(|us| !positive(us)) {
            Some(at) => Err(bad(&format!("{field}[{at}]"), fact())),
            None => Ok(()),
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

    fn check(&self, field: &str, n_blocks: usize, decode_tokens: usize) -> Result<()> {
        for (column, length) in [
            ("parent", self.parent.len()),
            ("pass", self.pass.len()),
            ("start_us", self.start_us.len()),
            ("duration_us", self.duration_us.len()),
            ("flops", self.flops.len()),
            ("bytes", self.bytes.len()),
        ] {
            let fact = Fact::new("run_column")
                .with("expected", self.len())
                .with("found", length);
            check(length == self.len(), &format!("{field}.{column}"), fact)?;
        }
        for (i, name) in self.names.iter().enumerate() {
            let field = format!("{field}.names[{i}]");
            check_text(&field, name)?;
            let fact = Fact::new("run_block")
                .with("name", &name[..])
                .with("n_blocks", n_blocks);
            let inside = family::block_of_span(name).is_none_or(|block| block < n_blocks);
            check(inside, &field, fact)?;
        }
        for i in 0..self.len() {
            let at = |column: &str| format!("{field}.{column}[{i}]");
            let fact = Fact::new("run_name").with("length", self.names.len());
            check(self.name[i] < self.names.len(), &at("name"), fact)?;
            let fact = Fact::new("run_pass").with("most", decode_tokens);
            check(self.pass[i] <= decode_tokens, &at("pass"), fact)?;
            let parent = self.parent[i];
            let fact = || Fact::new("run_parent");
            let earlier = (-1..i as i64).contains(&parent);
            check(earlier, &at("parent"), fact())?;
            let same = parent < 0 || self.pass[parent as usize] == self.pass[i];
            check(same, &at("parent"), fact())?;
            for (column, value) in [
                ("start_us", self.start_us[i]),
                ("duration_us", self.duration_us[i]),
                ("flops", self.flops[i]),
                ("bytes", self.bytes[i]),
            ] {
                let sane = (0.0..=1e18).contains(&value);
                check(sane, &at(column), Fact::new("run_number"))?;
            }
        }
        Ok(())
    }
}

fn check_text(field: &str, text: &str) -> Result<()> {
    let fact = Fact::new("run_text").with("most", LONGEST_TEXT_CHARS);
    let sane = text.chars().count() <= LONGEST_TEXT_CHARS && !text.contains(char::is_control);
    check(sane, field, fact)
}

/// What a file says, as far as an error needs it.
fn shortened(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
