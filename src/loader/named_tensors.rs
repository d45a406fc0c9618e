//! The tensors of all shards by the names that the model's plan uses. A checkpoint's names may all have a prefix.

use std::collections::HashMap;

use crate::base::error::{Error, Result};
use crate::family::{self, NamePrefix};
use crate::loader::foreign;
use crate::loader::safetensors::{Shard, TensorEntry};

/// The index of a checkpoint in several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// The location of a tensor.
#[derive(Clone, Copy)]
pub struct Located<'a> {
    pub file: &'a str,
    /// As its file spells it.
    pub name: &'a str,
    pub entry: &'a TensorEntry,
}

pub struct TensorNames<'a> {
    shards: &'a [Shard],
    pub prefix: NamePrefix,
    by_reference_name: HashMap<String, Located<'a>>,
}

impl<'a> TensorNames<'a> {
    /// # Errors
    /// Several models in one checkpoint.
    pub fn new(shards: &'a [Shard]) -> Result<TensorNames<'a>> {
        let prefix = family::name_prefix(all_names(shards))?;
        let mut by_reference_name = HashMap::new();
        for shard in shards {
            for (name, entry) in &shard.tensors {
                let Some(reference_name) = prefix.reference_name(name) else {
                    continue;
                };
                let file = &shard.file;
                // A tensor that is in two files is taken from the first one.
                by_reference_name
                    .entry(reference_name)
                    .or_insert(Located { file, name, entry });
            }
        }
        Ok(TensorNames {
            shards,
            prefix,
            by_reference_name,
        })
    }

    pub fn get(&self, reference_name: &str) -> Option<Located<'a>> {
        self.by_reference_name.get(reference_name).copied()
    }

    /// Names of tensors that `used` does not have, as the files spell them.
    pub fn others(&self, used: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let is_used = |name: &str| {
            self.prefix
                .reference_name(name)
                .is_some_and(|name| used(&name))
        };
        all_names(self.shards)
            .filter(|name| !is_used(name))
            .collect()
    }

    /// The error for a tensor that is missing or has an unsupported dtype: what the checkpoint is, if its names show
    /// it, or else `otherwise`.
    pub fn refusal(&self, otherwise: Error) -> Error {
        let file = || self.file();
        if let Some(method) = foreign::quantisation(all_names(self.shards)) {
            return Error::AlreadyQuantised {
                file: file(),
                method: method.into(),
            };
        }
        if foreign::has_adapter(all_names(self.shards)) {
            return Error::UnmergedAdapter { file: file() };
        }
        match family::foreign_layout(all_names(self.shards)) {
            Some(fact) => Error::ForeignLayout { file: file(), fact },
            None => otherwise,
        }
    }

    /// The error for a tensor that no shard has.
    pub fn missing(&self, reference_name: &str) -> Error {
        self.refusal(Error::MissingTensor {
            file: self.file(),
            tensor: reference_name.into(),
        })
    }

    /// The file that lists the tensors.
    fn file(&self) -> String {
        match self.shards {
            [shard] => shard.file.clone(),
            _ => INDEX.into(),
        }
    }
}

fn all_names(shards: &[Shard]) -> impl Iterator<Item = &str> {
    let tensors = shards.iter().flat_map(|shard| shard.tensors.keys());
    tensors.map(String::as_str)
}
