//! Spans and tensors by the same names: the paths of the reference's modules, their class names, and the part of a
//! block that they belong to. It stands inside the report; the tensor names themselves are the loader's.

use crate::model::config::BlockKind;
pub use crate::model::module::Part;

/// The path of the span `name` inside block `block`. Spans are named within their block, without what lies around a
/// module only in hybrid blocks; `hybrid` is the block's place among those, which is also its slot of adapters.
pub fn path_in_block(block: usize, hybrid: Option<usize>, name: &str) -> String {
    let Some(slot) = hybrid else {
        return format!("model.layers.{block}.{name}");
    };
    let parent = match name.split('.').next() {
        Some("mamba" | "input_layernorm") => ".mamba_decoder",
        Some("self_attn" | "feed_forward" | "pre_ff_layernorm") => ".shared_transformer",
        _ => "",
    };
    let name = name.replace("_adapter.", &format!("_adapter_list.{slot}."));
    format!("model.layers.{block}{parent}.{name}")
}

/// The path of a span outside every block.
pub fn path_outside(name: &str) -> String {
    match name {
        "embed_tokens" | "final_layernorm" => format!("model.{name}"),
        _ => name.into(),
    }
}

/// The block that a span of this name covers.
pub fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("layers.")?.parse().ok()
}

/// The path of the module around `path`; `None` below the model itself. A list and its number are one step, since the
/// list is no module that runs.
pub fn parent(path: &str) -> Option<&str> {
    let (mut outer, last) = path.rsplit_once('.')?;
    if last.bytes().all(|c| c.is_ascii_digit()) && is_list(outer) {
        outer = outer.rsplit_once('.')?.0;
    }
    (outer != "model").then_some(outer)
}

fn is_list(path: &str) -> bool {
    path.ends_with("_list") || path == "model.layers"
}

/// The last step of `path`: what tells a module from its neighbours.
pub fn leaf(path: &str) -> &str {
    let outer = parent(path).unwrap_or("model");
    let inside = path.strip_prefix(outer);
    inside
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(path)
}

/// The class of a module in the reference, or a plain name for work that is no module there.
pub fn class<'a>(path: &'a str, kinds: &[BlockKind]) -> &'a str {
    let leaf = leaf(path);
    if let Some(block) = path.strip_prefix("model.").and_then(block_of) {
        return match kinds.get(block) {
            Some(BlockKind::Hybrid) => "Zamba2HybridLayer",
            _ => "Zamba2MambaDecoderLayer",
        };
    }
    match leaf {
        "mamba_decoder" => "Zamba2MambaDecoderLayer",
        "mamba" => "Zamba2MambaMixer",
        "shared_transformer" => "Zamba2AttentionDecoderLayer",
        "self_attn" => "Zamba2Attention",
        "feed_forward" => "Zamba2MLP",
        "conv1d" => "Conv1d",
        "norm" => "Zamba2RMSNormGated",
        "ssm" => "SSM scan",
        "rope" => "Rotary",
        "append_kv" => "KV append",
        "attention" => "Attention kernel",
        "act_fn" => "GELUActivation",
        "embed_tokens" => "Embedding",
        "add" => "Add",
        "concat" => "Concat",
        "sampling" => "Sampling",
        "lm_head" | "linear" | "0" | "1" => "Linear",
        _ if leaf.ends_with("_proj") => "Linear",
        _ if leaf.ends_with("layernorm") => "Zamba2RMSNorm",
        _ if leaf.contains("_adapter_list.") => "Sequential",
        _ => leaf,
    }
}

/// The part of its block that the module at `path` belongs to. A norm goes with what it feeds.
pub fn part(path: &str) -> Part {
    let has = |step: &str| path.split('.').any(|own| own == step);
    if has("self_attn") || path.ends_with("shared_transformer.input_layernorm") || has("concat") {
        Part::Attention
    } else if has("feed_forward") || has("pre_ff_layernorm") {
        Part::Ffn
    } else if has("mamba") || has("mamba_decoder") || path.ends_with(".input_layernorm") {
        Part::Mamba
    } else {
        Part::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_gets_the_path_of_its_module_in_the_checkpoint() {
        for (name, plain, hybrid) in [
            (
                "mamba.in_proj",
                "model.layers.7.mamba.in_proj",
                "model.layers.7.mamba_decoder.mamba.in_proj",
            ),
            (
                "input_layernorm",
                "model.layers.7.input_layernorm",
                "model.layers.7.mamba_decoder.input_layernorm",
            ),
        ] {
            assert_eq!(path_in_block(7, None, name), plain);
            assert_eq!(path_in_block(7, Some(1), name), hybrid);
        }
        assert_eq!(
            path_in_block(7, Some(1), "self_attn.linear_q_adapter.0"),
            "model.layers.7.shared_transformer.self_attn.linear_q_adapter_list.1.0"
        );
        assert_eq!(path_in_block(7, Some(1), "linear"), "model.layers.7.linear");
    }

    #[test]
    fn a_list_is_no_module_of_its_own() {
        let adapter = "model.layers.7.shared_transformer.self_attn.linear_q_adapter_list.1";
        assert_eq!(parent(&format!("{adapter}.0")), Some(adapter));
        assert_eq!(
            parent(adapter),
            Some("model.layers.7.shared_transformer.self_attn")
        );
        assert_eq!(leaf(adapter), "linear_q_adapter_list.1");
        assert_eq!(parent("model.layers.7"), None);
        assert_eq!(leaf("model.layers.7"), "layers.7");
        assert_eq!(parent("lm_head"), None);
    }
}
