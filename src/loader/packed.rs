//! The manifest of a packed checkpoint. The folder is the same whether `zamba2 pack` wrote it, a page stores it, or a
//! static host serves it. This module reads no file.
//!
//! A packed checkpoint holds config.json, the tokenizer's files, and a few files with the head of each safetensors file
//! (its length and its header, from which the same plan is made) and then the units: the weights in their stored form,
//! row by row in the plan's order. A small model is one file, which a page reads with one request. All files are in the
//! folder itself, so that it can be dropped on a page.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Fact, Result};
use crate::loader::foreign;
use crate::loader::schedule::LoadSchedule;

/// The manifest's name in the folder.
pub const MANIFEST: &str = "zamba2-pack.json";
/// Changes when a program for the old format would misread the new one.
pub const FORMAT: &str = "zamba2-pack/2";
/// Largest size of a file, unless one unit is larger: some hosts refuse files of 100 MB.
pub const FILE_BYTES: u64 = 64 << 20;

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedFile {
    pub file: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// Bytes of a file, with a hash of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedPart {
    pub file: String,
    pub start: u64,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// The head of a safetensors file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedShard {
    /// Name and size of the safetensors file.
    pub shard: String,
    pub shard_bytes: u64,
    #[serde(flatten)]
    pub head: PackedPart,
}

/// The weights of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedUnit {
    pub name: String,
    #[serde(flatten)]
    pub stored: PackedPart,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    /// `f32`, `q8` or `q4`.
    pub weights: String,
    /// config.json and the tokenizer's files.
    pub files: Vec<PackedFile>,
    pub shards: Vec<PackedShard>,
    pub units: Vec<PackedUnit>,
}

impl Manifest {
    /// Text that is not such a manifest, another version of it, or names that point out of the folder.
    pub fn parse(text: &str) -> Result<Manifest> {
        let bad = |fact: Fact| Error::Config {
            file: MANIFEST.into(),
            fact,
        };
        foreign::check_text(MANIFEST, text.as_bytes())?;
        let manifest: Manifest =
            serde_json::from_str(text).map_err(|error| bad(error.to_string().into()))?;
        if manifest.format != FORMAT {
            let found = &manifest.format;
            return Err(bad(Fact::new("manifest_format")
                .with("found", &found[..])
                .with("expected", FORMAT)));
        }
        let shards = manifest.shards.iter().map(|shard| &shard.head.file);
        let units = manifest.units.iter().map(|unit| &unit.stored.file);
        let files = manifest.files.iter().map(|file| &file.file);
        for file in files.chain(shards).chain(units) {
            if file.starts_with('/') || file.contains("..") || file.contains(['\\', ':']) {
                return Err(bad(Fact::new("leaves_folder").with("name", &file[..])));
            }
        }
        Ok(manifest)
    }

    /// Other weights than the requested ones; units that differ from the plan's.
    pub fn check(&self, weights: &str, schedule: &LoadSchedule) -> Result<()> {
        if self.weights != weights {
            return Err(Error::Setting {
                name: "weights".into(),
                fact: Fact::new("other_weights")
                    .with("found", &self.weights[..])
                    .with("wanted", weights),
            });
        }
        let here = self
            .units
            .iter()
            .map(|unit| (unit.name.clone(), unit.stored.bytes));
        let planned = schedule
            .units
            .iter()
            .map(|planned| (planned.unit.name(), planned.stored_bytes));
        if !here.eq(planned) {
            return Err(Error::Config {
                file: MANIFEST.into(),
                fact: Fact::new("other_units"),
            });
        }
        Ok(())
    }
}
