//! Inspects a checkpoint folder without its weights: sizes, files, memory requirements, and peculiarities.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::device::cpu::Cpu;
use crate::folder::{
    ADAPTER_CONFIG, chat_template, checkpoint_heads, open_tokenizer, packed, parsed, read_config,
    stored_heads,
};
use crate::loader::named_tensors::TensorNames;
use crate::loader::packed::Manifest;
use crate::loader::safetensors::Shard;
use crate::loader::schedule::{LoadSchedule, TapsOrder, taps_order};
use crate::model::cache::Cache;
use crate::model::config::Config;
use crate::model::module::Origin;
use crate::session::{context_length, kv_format};

/// The facts about a checkpoint, as far as its files could be read.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    pub model: Option<ModelFacts>,
    pub weights: Option<WeightFacts>,
    pub text: Option<TextFacts>,
    #[serde(skip)]
    pub warnings: Vec<Fact>,
    /// Why it will not run.
    #[serde(skip)]
    pub error: Option<Error>,
}

/// From config.json.
#[derive(Debug, Serialize)]
pub struct ModelFacts {
    pub model_type: &'static str,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub mamba_blocks: usize,
    pub hybrid_blocks: usize,
    pub rope: bool,
    pub attention_adapters: bool,
    pub max_position_embeddings: usize,
}

/// From the headers of the weight files.
#[derive(Debug, Serialize)]
pub struct WeightFacts {
    /// The format of a packed folder; none for a checkpoint, which can be quantised to any format.
    pub packed: Option<String>,
    pub files: Vec<WeightFile>,
    /// Each weight is counted once, except copies whose numbers have not been compared.
    pub parameters: u64,
    pub shared_transformers: usize,
    /// Tensors of the model by their dtype.
    pub dtypes: BTreeMap<String, usize>,
    /// Weights and caches at the default context, by weight format.
    pub memory_bytes: BTreeMap<&'static str, u64>,
    pub context: usize,
}

#[derive(Debug, Serialize)]
pub struct WeightFile {
    pub file: String,
    pub bytes: u64,
}

/// From the tokenizer's files.
#[derive(Debug, Serialize)]
pub struct TextFacts {
    /// None without a tokenizer.json.
    pub tokens: Option<usize>,
    pub chat: bool,
    /// Of config.json, generation_config.json and the tokenizer together.
    pub end_tokens: Vec<u32>,
}

/// Inspects the checkpoint in `dir` without reading weights.
pub fn inspect(dir: &Path) -> Inspection {
    let mut inspection = Inspection::default();
    inspection.error = inspection.read(dir).err();
    inspection
}

impl Inspection {
    fn read(&mut self, dir: &Path) -> Result<()> {
        let mut config = read_config(dir)?;
        self.model = Some(ModelFacts::new(&config));
        if config.use_long_context && config.use_mem_rope {
            self.warn(Fact::new("check_long_context"));
        }
        if dir.join(ADAPTER_CONFIG).exists() {
            self.warn(Fact::new("check_adapter_beside"));
        }
        let weights = self.read_weights(dir, &config);
        let text = self.read_text(dir, &mut config);
        weights.and(text)
    }

    fn warn(&mut self, fact: Fact) {
        self.warnings.push(fact);
    }

    fn read_weights(&mut self, dir: &Path, config: &Config) -> Result<()> {
        let manifest = packed(dir)?;
        let heads = match &manifest {
            Some(manifest) => stored_heads(dir, manifest)?,
            None => checkpoint_heads(dir)?,
        };
        let shards = parsed(&heads)?;
        self.warn_of_names(config, &shards)?;
        let context = context_length(config, WeightFormat::Q4, None)?;
        let mut memory_bytes = BTreeMap::new();
        for format in WeightFormat::ALL.into_iter().rev() {
            let weights = LoadSchedule::new(config, &shards, format)?.weights_bytes;
            let cache = Cache::<Cpu>::bytes(config, context, kv_format(format));
            memory_bytes.insert(format.name(), weights + cache);
        }
        let schedule = LoadSchedule::new(config, &shards, packed_format(manifest.as_ref())?)?;
        if let Some(manifest) = &manifest {
            manifest.check(&manifest.weights, &schedule)?;
        }
        let mut dtypes = BTreeMap::new();
        for tensor in schedule.units.iter().flat_map(|unit| &unit.tensors) {
            *dtypes
                .entry(format!("{:?}", tensor.entry.dtype).to_uppercase())
                .or_insert(0) += 1;
        }
        self.weights = Some(WeightFacts {
            packed: manifest.map(|manifest| manifest.weights),
            files: heads
                .iter()
                .map(|head| WeightFile {
                    file: head.shard.clone(),
                    bytes: head.shard_bytes,
                })
                .collect(),
            parameters: schedule.parameters,
            shared_transformers: schedule.plan.shared.len(),
            dtypes,
            memory_bytes,
            context,
        });
        Ok(())
    }

    /// Warns of unusual names, shapes and numbers of tensors.
    fn warn_of_names(&mut self, config: &Config, shards: &[Shard]) -> Result<()> {
        let names = TensorNames::new(shards)?;
        if let Some(prefix) = names.prefix.unusual() {
            self.warn(Fact::new("check_prefix").with("prefix", prefix));
        }
        let schedule = LoadSchedule::new(config, shards, WeightFormat::F32)?;
        let tensors: Vec<_> = schedule
            .units
            .iter()
            .flat_map(|unit| &unit.tensors)
            .collect();
        let by_tap = |order| order == Some(TapsOrder::ByTap);
        if let Some(tensor) = tensors
            .iter()
            .find(|tensor| by_tap(taps_order(&tensor.spec, &tensor.entry.shape)))
        {
            self.warn(Fact::new("check_transposed").with("tensor", &tensor.name[..]));
        }
        let copies = tensors
            .iter()
            .filter(|tensor| tensor.spec.origin == Origin::Compared);
        let n_copies = copies.count();
        if n_copies > 0 {
            self.warn(Fact::new("check_copies").with("n", n_copies));
        }
        let others = names.others(|name| tensors.iter().any(|tensor| tensor.spec.name == name));
        if let Some(first) = others.first() {
            let fact = Fact::new("check_unused").with("n", others.len());
            self.warn(fact.with("first", *first));
        }
        Ok(())
    }

    fn read_text(&mut self, dir: &Path, config: &mut Config) -> Result<()> {
        let of_config = config.eos_token_ids.clone();
        let tokenizer = open_tokenizer(dir, config)?;
        let added: Vec<u32> = (config.eos_token_ids.iter().copied())
            .filter(|id| !of_config.contains(id))
            .collect();
        match &tokenizer {
            None => self.warn(Fact::new("check_no_tokenizer")),
            Some(tokenizer) if tokenizer.vocab_size() > config.vocab_size => {
                let fact = Fact::new("check_tokens_beyond").with("tokens", tokenizer.vocab_size());
                self.warn(fact.with("rows", config.vocab_size));
            }
            Some(_) => {}
        }
        if config.eos_token_ids.is_empty() {
            self.warn(Fact::new("check_no_end_token"));
        } else if !added.is_empty() {
            self.warn(Fact::new("check_end_tokens").with("added", added));
        }
        let chat = match chat_template(dir) {
            Ok(template) => template.is_some(),
            Err(error) => {
                let detail = error.to_string();
                self.warn(Fact::new("check_chat_fault").with("detail", detail));
                false
            }
        };
        self.text = Some(TextFacts {
            tokens: tokenizer.map(|tokenizer| tokenizer.vocab_size()),
            chat,
            end_tokens: config.eos_token_ids.clone(),
        });
        Ok(())
    }

    /// Adds the result of a complete load: which copies are equal.
    pub fn add_load(&mut self, schedule: &LoadSchedule) {
        if let Some(weights) = &mut self.weights {
            weights.parameters = schedule.parameters;
        }
        for warning in &mut self.warnings {
            if let Fact::Known { id, values } = warning
                && *id == "check_copies"
            {
                *id = "check_copies_read";
                values.insert("n_equal".into(), schedule.n_equal.into());
            }
        }
    }
}

impl ModelFacts {
    fn new(config: &Config) -> ModelFacts {
        let hybrid_blocks = config.hybrid_blocks().len();
        ModelFacts {
            model_type: config.family.model_type(),
            hidden_size: config.hidden_size,
            vocab_size: config.vocab_size,
            mamba_blocks: config.n_blocks() - hybrid_blocks,
            hybrid_blocks,
            rope: config.use_mem_rope,
            attention_adapters: config.use_shared_attention_adapter,
            max_position_embeddings: config.max_position_embeddings,
        }
    }
}

fn packed_format(manifest: Option<&Manifest>) -> Result<WeightFormat> {
    manifest.map_or(Ok(WeightFormat::F32), |manifest| manifest.weights.parse())
}
