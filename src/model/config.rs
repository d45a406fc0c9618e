//! The sizes of a model: `config.json`, in both spellings in use, checked and completed with derived sizes. It reads
//! text, never files. docs/checkpoints.md describes every field.

pub mod fields;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::{Error, Fact, Result};
use crate::model::config::fields::Fields;
use crate::ops::device::AttentionShape;

const FILE: &str = "config.json";
/// The reference's value of `max_position_embeddings` with `use_long_context`, whatever the field is.
const LONG_CONTEXT_POSITIONS: usize = 16_384;

/// A family of models. Each spells the names of its tensors in a file of its own in `src/family/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    #[default]
    Zamba2,
}

impl Family {
    pub const ALL: [Family; 1] = [Family::Zamba2];

    /// Its `model_type` in config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Zamba2 => "zamba2",
        }
    }

    /// # Errors
    /// [`Error::Architecture`] for a `model_type` of no family.
    fn of(model_type: &str) -> Result<Family> {
        let family = Family::ALL
            .into_iter()
            .find(|family| family.model_type() == model_type);
        family.ok_or_else(|| Error::Architecture {
            file: FILE.into(),
            found: model_type.into(),
            supported: Family::ALL.map(Family::model_type).join(", "),
        })
    }
}

/// The kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// A Mamba-2 mixer alone.
    Mamba,
    /// A call of a shared transformer, whose output enters the block's own mixer.
    Hybrid,
}

/// A checked configuration. Field names are the checkpoint's; the paper's letter follows in the comment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub family: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub kinds: Vec<BlockKind>,
    pub d_state: usize,       // N
    pub d_conv: usize,        // K
    pub d_inner: usize,       // expand · hidden
    pub n_mamba_heads: usize, // H
    pub n_groups: usize,      // G
    pub n_attention_heads: usize,
    pub n_kv_heads: usize,
    pub intermediate_size: usize,
    /// Shared transformers of a tied model; an untied one has one for each hybrid block.
    pub num_mem_blocks: usize,
    pub use_shared_attention_adapter: bool,
    pub adapter_rank: usize,
    pub use_mem_rope: bool,
    pub rope_theta: f32,
    /// The divisor of positions (RoPE type `linear`); 1 without scaling.
    pub rope_factor: f32,
    pub use_long_context: bool,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f32,
    pub time_step_min: f32,
    pub add_bias_linear: bool,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text: those of config.json, and those that `loader::end_tokens` adds.
    pub eos_token_ids: Vec<u32>,
}

impl Config {
    /// Reads `config.json`. Errors name the field and what it must be.
    pub fn from_json(text: &str) -> Result<Config> {
        let fields = Fields::parse(FILE, text)?;
        let model_type = fields.text("model_type")?;
        let family = Family::of(model_type.ok_or_else(|| fields.missing("model_type"))?)?;
        check_supported(&fields)?;

        let hidden_size = fields.required_size("hidden_size", 1 << 16)?;
        let d_inner = hidden_size * fields.size("mamba_expand", 2, 16)?;
        let n_mamba_heads = match fields.size("n_mamba_heads", 0, d_inner)? {
            0 => {
                let headdim = fields.required_size("mamba_headdim", d_inner)?;
                divide("d_inner", d_inner, "mamba_headdim", headdim)?
            }
            heads => heads,
        };
        let n_attention_heads = fields.required_size("num_attention_heads", 1 << 12)?;
        let use_mem_rope = fields.flag("use_mem_rope", false)?;
        let (rope_theta, rope_factor) = rope(&fields, use_mem_rope)?;
        let use_long_context = fields.flag("use_long_context", false)?;
        let trained_positions = fields.size("max_position_embeddings", 4096, 1 << 24)?;
        let legacy_ffn = fields.size("ffn_hidden_size", 4 * hidden_size, 1 << 20)?;
        let config = Config {
            family,
            vocab_size: fields.required_size("vocab_size", 1 << 22)?,
            hidden_size,
            kinds: kinds(&fields)?,
            d_state: fields.required_size("mamba_d_state", 1 << 12)?,
            d_conv: fields.size("mamba_d_conv", 4, 16)?,
            d_inner,
            n_mamba_heads,
            n_groups: fields.size("mamba_ngroups", 1, n_mamba_heads)?,
            n_attention_heads,
            n_kv_heads: fields.size("num_key_value_heads", n_attention_heads, n_attention_heads)?,
            intermediate_size: fields.size("intermediate_size", legacy_ffn, 1 << 20)?,
            num_mem_blocks: fields.size("num_mem_blocks", 1, 64)?,
            use_shared_attention_adapter: fields.flag("use_shared_attention_adapter", false)?,
            adapter_rank: fields.size("adapter_rank", 128, 1 << 14)?,
            use_mem_rope,
            rope_theta,
            rope_factor,
            use_long_context,
            max_position_embeddings: if use_long_context {
                LONG_CONTEXT_POSITIONS
            } else {
                trained_positions
            },
            rms_norm_eps: fields.number("rms_norm_eps", 1e-5, 0.0, 1.0)?,
            time_step_min: fields.number("time_step_min", 0.001, 0.0, 1e3)?,
            add_bias_linear: fields.flag("add_bias_linear", false)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", true)?,
            bos_token_id: fields.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: fields.token_ids("eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }

    /// The relations between fields that every kernel relies on.
    fn check(&self) -> Result<()> {
        divide("d_inner", self.d_inner, "n_mamba_heads", self.n_mamba_heads)?;
        divide(
            "n_mamba_heads",
            self.n_mamba_heads,
            "mamba_ngroups",
            self.n_groups,
        )?;
        divide("d_inner", self.d_inner, "mamba_ngroups", self.n_groups)?;
        divide(
            "2 * hidden_size",
            self.attention_width(),
            "num_attention_heads",
            self.n_attention_heads,
        )?;
        divide(
            "num_attention_heads",
            self.n_attention_heads,
            "num_key_value_heads",
            self.n_kv_heads,
        )?;
        if self.n_kv_heads != self.n_attention_heads && self.use_shared_attention_adapter {
            return Err(config_error(Fact::new("kv_heads_with_adapter")));
        }
        if self.use_mem_rope && !self.head_dim().is_multiple_of(2) {
            return Err(config_error(
                Fact::new("odd_head_size").with("head_dim", self.head_dim()),
            ));
        }
        Ok(())
    }

    pub fn n_blocks(&self) -> usize {
        self.kinds.len()
    }

    /// Indices of the hybrid blocks, ascending.
    pub fn hybrid_blocks(&self) -> Vec<usize> {
        let hybrid = |&i: &usize| self.kinds[i] == BlockKind::Hybrid;
        (0..self.n_blocks()).filter(hybrid).collect()
    }

    /// Channels of x, B and C, which the convolution covers.
    pub fn conv_dim(&self) -> usize {
        self.d_inner + 2 * self.n_groups * self.d_state
    }

    /// Columns of `in_proj`: z, x, B, C, dt.
    pub fn d_in_proj(&self) -> usize {
        self.d_inner + self.conv_dim() + self.n_mamba_heads
    }

    /// Channels per mixer head (P).
    pub fn mamba_head_dim(&self) -> usize {
        self.d_inner / self.n_mamba_heads
    }

    /// The shared transformer works on `[x, embedding]`, twice as wide as the stream.
    pub fn attention_width(&self) -> usize {
        2 * self.hidden_size
    }

    /// The sizes of every attention call. The heads are twice as wide as the stream would make them, and the reference
    /// scales by the narrow width: (head_dim / 2)^-1/2.
    pub fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            n_heads: self.n_attention_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim(),
            scale: 1.0 / (self.head_dim() as f32 / 2.0).sqrt(),
        }
    }

    pub fn head_dim(&self) -> usize {
        self.attention_width() / self.n_attention_heads
    }

    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim()
    }
}

fn config_error(fact: Fact) -> Error {
    Error::Config {
        file: FILE.into(),
        fact,
    }
}

fn divide(name: &str, value: usize, by_name: &str, by: usize) -> Result<usize> {
    if by == 0 || !value.is_multiple_of(by) {
        let fact = Fact::new("not_a_multiple")
            .with("name", name)
            .with("value", value);
        return Err(config_error(fact.with("by_name", by_name).with("by", by)));
    }
    Ok(value / by)
}

/// RoPE's fields: in `rope_parameters` or the older `rope_scaling`, which takes precedence in the reference if both
/// exist. Fields of other rotations are refused; a model without RoPE reads none of them.
fn rope(fields: &Fields, use_mem_rope: bool) -> Result<(f32, f32)> {
    let scaling = fields.object("rope_scaling")?;
    let (name, nested) = match scaling {
        Some(scaling) => ("rope_scaling", Some(scaling)),
        None => ("rope_parameters", fields.object("rope_parameters")?),
    };
    let theta = fields.number("rope_theta", 10_000.0, 1e-3, 1e12)?;
    let Some(nested) = nested else {
        return Ok((theta, 1.0));
    };
    let theta = nested.number("rope_theta", theta, 1e-3, 1e12)?;
    if !use_mem_rope {
        return Ok((theta, 1.0));
    }
    // The reference has parameters for each kind of layer in other families, and none here.
    if let Some((key, found)) = nested.nested_objects().next() {
        return Err(fields.unsupported(&format!("{name}.{key}"), found));
    }
    // The older spelling of the type is `type`.
    let key = if nested.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    match nested.text(key)? {
        None | Some("default") => Ok((theta, 1.0)),
        Some("linear") if nested.get("factor").is_none() => {
            Err(fields.missing(&format!("{name}.factor")))
        }
        Some("linear") => {
            // The default rotation ignores this field.
            for fields in [&nested, fields] {
                if let Some(found) = fields.get("partial_rotary_factor")
                    && found.as_f64() != Some(1.0)
                {
                    return Err(fields.unsupported("partial_rotary_factor", found));
                }
            }
            Ok((theta, nested.number("factor", 1.0, 1e-6, 1e6)?))
        }
        Some(other) => Err(fields.unsupported(&format!("{name}.{key}"), &other.into())),
    }
}

/// Refuses fields that select weights or arithmetic that this crate does not implement. Without this check the results
/// would silently be wrong.
fn check_supported(fields: &Fields) -> Result<()> {
    // Both are GELU by the error function.
    let exact_gelu = ["gelu", "gelu_python"];
    if let Some(found) = fields.get("hidden_act")
        && !found
            .as_str()
            .is_some_and(|name| exact_gelu.contains(&name))
    {
        return Err(fields.unsupported("hidden_act", found));
    }
    let mlx = fields.object("quantization")?.map(|_| "mlx".to_owned());
    let method = match fields.object("quantization_config")? {
        // The oldest files of bitsandbytes do not name a method.
        Some(config) => Some(
            config
                .text("quant_method")?
                .unwrap_or("bitsandbytes")
                .to_owned(),
        ),
        None => mlx,
    };
    if let Some(method) = method {
        return Err(Error::AlreadyQuantised {
            file: FILE.into(),
            method,
        });
    }
    // The fields of Zyphra's own fork of transformers, from before transformers had the architecture.
    let of_the_fork = [
        "lora_rank",
        "use_shared_block_lora",
        "use_shared_attention_lora",
        "state_size",
    ];
    let found = of_the_fork.iter().find(|name| fields.get(name).is_some());
    match found {
        Some(field) if fields.get("mamba_d_state").is_none() => Err(Error::ForeignLayout {
            file: FILE.into(),
            fact: Fact::new("layout_zyphra").with("found", *field),
        }),
        _ => Ok(()),
    }
}

/// The kind of each block, from `layers_block_type` (whose plain name is `mamba` on the Hub and `linear_attention`
/// in newer files) or from `hybrid_layer_ids`.
fn kinds(fields: &Fields) -> Result<Vec<BlockKind>> {
    let n_blocks = fields.required_size("num_hidden_layers", 1 << 8)?;
    // The reference also accepts `layer_types`, its general name of the list.
    let listed = fields
        .get("layers_block_type")
        .or_else(|| fields.get("layer_types"));
    if let Some(Value::Array(names)) = listed {
        if names.len() != n_blocks {
            let fact = Fact::new("layer_count")
                .with("found", names.len())
                .with("expected", n_blocks);
            return Err(config_error(fact));
        }
        return names
            .iter()
            .map(|name| match name.as_str() {
                Some("mamba" | "linear_attention") => Ok(BlockKind::Mamba),
                Some("hybrid") => Ok(BlockKind::Hybrid),
                _ => Err(config_error(
                    Fact::new("layer_kind").with("found", name.to_string()),
                )),
            })
            .collect();
    }
    let Some(Value::Array(ids)) = fields.get("hybrid_layer_ids") else {
        return Err(config_error(
            Fact::new("field_missing").with("field", "layers_block_type"),
        ));
    };
    let mut kinds = vec![BlockKind::Mamba; n_blocks];
    for id in ids {
        let index = id.as_u64().and_then(|id| usize::try_from(id).ok());
        match index.and_then(|index| kinds.get_mut(index)) {
            Some(kind) => *kind = BlockKind::Hybrid,
            None => {
                return Err(config_error(
                    Fact::new("hybrid_layer_id")
                        .with("found", id.to_string())
                        .with("n_blocks", n_blocks),
                ));
            }
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    const SMALL: &str = r#"{"model_type": "zamba2", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "linear_attention", "hybrid"], "num_attention_heads": 2,
        "n_mamba_heads": 4, "mamba_d_state": 16, "rope_theta": 500, "eos_token_id": [2, 7]}"#;

    fn with(name: &str, value: Value) -> Result<Config> {
        let mut map: Map<String, Value> = serde_json::from_str(SMALL).unwrap();
        map.insert(name.into(), value);
        Config::from_json(&Value::Object(map).to_string())
    }

    #[test]
    fn sizes_that_follow_are_derived() {
        let config = Config::from_json(SMALL).unwrap();
        assert_eq!(config.d_inner, 16);
        assert_eq!(config.conv_dim(), 48);
        assert_eq!(config.d_in_proj(), 16 + 48 + 4);
        assert_eq!(config.head_dim(), 8);
        assert_eq!(config.intermediate_size, 32);
        assert_eq!(config.hybrid_blocks(), [2]);
        assert_eq!(config.eos_token_ids, [2, 7]);
        assert_eq!(config.rope_theta, 500.0);
    }

    #[test]
    fn the_newer_spelling_of_rope_wins() {
        let config = with("rope_parameters", serde_json::json!({"rope_theta": 9.0})).unwrap();
        assert_eq!(config.rope_theta, 9.0);
    }

    #[test]
    fn another_architecture_is_named() {
        let error = with("model_type", "llama".into()).unwrap_err();
        assert_eq!(error.code(), "wrong_architecture");
        assert!(error.to_string().contains("llama"));
    }

    #[test]
    fn every_needed_field_is_missed_by_name() {
        let whole: Map<String, Value> = serde_json::from_str(SMALL).unwrap();
        for name in whole.keys() {
            if ["rope_theta", "eos_token_id"].contains(&name.as_str()) {
                continue;
            }
            let mut map = whole.clone();
            map.remove(name);
            let error = Config::from_json(&Value::Object(map).to_string()).unwrap_err();
            let named = name == "n_mamba_heads" || error.to_string().contains(name.as_str());
            assert!(named, "{name}: {error}");
        }
    }

    #[test]
    fn absurd_values_are_refused_by_name() {
        for (name, value) in [
            ("hidden_size", serde_json::json!(-3)),
            ("hidden_size", serde_json::json!(1e12)),
            ("num_hidden_layers", serde_json::json!(0)),
            ("vocab_size", serde_json::json!("many")),
            ("rms_norm_eps", serde_json::json!(-1.0)),
            ("mamba_ngroups", serde_json::json!(3)),
            ("num_attention_heads", serde_json::json!(5)),
            ("use_mem_rope", serde_json::json!("yes")),
            ("layers_block_type", serde_json::json!(["mamba"])),
            (
                "layers_block_type",
                serde_json::json!(["mamba", "x", "hybrid"]),
            ),
        ] {
            let error = with(name, value.clone()).unwrap_err();
            assert_eq!(error.code(), "bad_config", "{name} {value}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
