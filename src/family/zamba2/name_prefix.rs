//! How a checkpoint's tensor names differ from the reference's: a wrapper's prefix before all of them, no `model.` if
//! the bare model was saved, or the names of another program.

use std::collections::BTreeSet;

use crate::base::error::{Error, Fact, Result};
use crate::family::zamba2::LM_HEAD;

/// The prefix of the names of the model without its output matrix, in the reference.
const BODY: &str = "model.";
/// Names that every checkpoint has exactly once for each model in it.
const ANCHORS: [&str; 2] = ["final_layernorm.weight", "embed_tokens.weight"];

/// The prefix of all names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePrefix {
    /// The prefix of the model without its output matrix: `model.` in the reference, empty if the bare model was saved.
    body: String,
}

impl NamePrefix {
    /// The reference's name of the tensor that the checkpoint calls `name`; `None` for a tensor outside of the model.
    pub fn reference_name(&self, name: &str) -> Option<String> {
        if let Some(outer) = name.strip_suffix(LM_HEAD) {
            // A wrapper of the whole model has its prefix before this one too.
            let is_inside =
                outer.is_empty() || outer.ends_with('.') && self.body.starts_with(outer);
            return is_inside.then(|| LM_HEAD.to_owned());
        }
        let inside = name.strip_prefix(&self.body)?;
        Some(format!("{BODY}{inside}"))
    }

    /// The prefix, unless it is the reference's.
    pub fn unusual(&self) -> Option<&str> {
        (self.body != BODY).then_some(&self.body)
    }
}

/// Finds the prefix by a tensor that every model has once.
pub fn prefix<'a>(names: impl Iterator<Item = &'a str>) -> Result<NamePrefix> {
    let names: Vec<&str> = names.collect();
    let before = |anchor: &str| -> BTreeSet<&str> {
        let found = names.iter().filter_map(|name| name.strip_suffix(anchor));
        found
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect()
    };
    let found = ANCHORS
        .map(before)
        .into_iter()
        .find(|found| !found.is_empty());
    let found = found.unwrap_or_default();
    let mut others = found.iter().filter(|prefix| !prefix.is_empty());
    let body = match (
        found.contains(BODY),
        found.contains(""),
        others.next(),
        others.next(),
    ) {
        // The other names may be a copy with averaged weights; the usual name is the model.
        (true, _, _, _) | (false, false, None, _) => BODY,
        (false, true, _, _) => "",
        (false, false, Some(prefix), None) => prefix,
        (false, false, Some(first), Some(second)) => {
            return Err(Error::ForeignLayout {
                file: "model.safetensors".into(),
                fact: Fact::new("several_models")
                    .with("first", *first)
                    .with("second", *second),
            });
        }
    };
    Ok(NamePrefix { body: body.into() })
}

/// Parts of names that only the layout of another program has, with the key of its sentence.
const FOREIGN: [(&str, &str); 6] = [
    ("linear_fc1", "layout_zyphra"),
    ("_lora_A_list.", "layout_zyphra"),
    ("mamba_layers.", "layout_zyphra"),
    ("shared_transformers.", "layout_mlx"),
    ("_adapter_list.0.layers.", "layout_mlx"),
    ("_fsdp_wrapped_module.", "layout_fsdp"),
];

/// Which other layout the names have, by the first name that shows it.
pub fn foreign_layout<'a>(names: impl Iterator<Item = &'a str>) -> Option<Fact> {
    let mut shows = names.filter_map(|name| {
        let (_, id) = FOREIGN.iter().find(|(part, _)| name.contains(part))?;
        Some(Fact::new(id).with("found", name))
    });
    shows.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(names: &[&str]) -> Result<Vec<Option<String>>> {
        let prefix = prefix(names.iter().copied())?;
        Ok(names
            .iter()
            .map(|name| prefix.reference_name(name))
            .collect())
    }

    #[test]
    fn one_prefix_before_all_names_is_taken_off() {
        for (outer, body) in [
            ("", "model."),
            ("", ""),
            ("module.", "module.model."),
            ("", "module."),
            ("_orig_mod.", "_orig_mod.model."),
            ("", "model._orig_mod."),
            ("base_model.model.", "base_model.model.model."),
            ("model.", "model.model."),
        ] {
            let names = [
                "embed_tokens.weight",
                "layers.0.mamba.D",
                "final_layernorm.weight",
            ];
            let mut stored = names.map(|name| format!("{body}{name}")).to_vec();
            stored.push(format!("{outer}lm_head.weight"));
            let stored: Vec<&str> = stored.iter().map(String::as_str).collect();
            let mut expected = names.map(|name| Some(format!("model.{name}"))).to_vec();
            expected.push(Some("lm_head.weight".into()));
            assert_eq!(renamed(&stored).unwrap(), expected, "{outer} {body}");
        }
    }

    #[test]
    fn a_second_copy_under_an_unusual_prefix_is_left_alone_and_two_unusual_ones_are_refused() {
        let names = [
            "model.final_layernorm.weight",
            "ema.final_layernorm.weight",
            "ema.lm_head.weight",
        ];
        let expected = [Some("model.final_layernorm.weight".into()), None, None];
        assert_eq!(renamed(&names).unwrap(), expected);
        let error = renamed(&["a.final_layernorm.weight", "b.final_layernorm.weight"]).unwrap_err();
        assert_eq!(error.code(), "foreign_layout");
    }
}
