//! Checkpoints of the kinds that turn up: merges, untied fine-tunes, other programs' files, damaged downloads. Those
//! under `tests/fixtures/wild` have `expect.json` from the reference (transformers 5.24.0, f32 on the stored weights);
//! the others are made from them here. docs/checkpoints.md has the table.

mod check;
mod config;
mod damaged;
mod foreign;
mod names;
mod tied;
mod tokens;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zamba2::base::error::{Error, Result};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{LoadSettings, Session, argmax};

use crate::support::max_difference;

/// As in `tests/model.rs`: f32 sums in another order than the reference's.
const TOLERANCE: f32 = 1e-3;
const WEIGHTS: &str = "model.safetensors";

fn wild(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join("wild").join(name)
}

fn settings(weights: WeightFormat) -> LoadSettings {
    LoadSettings {
        weights,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    }
}

fn open(dir: &Path) -> Result<Session<Cpu>> {
    folder::open(Cpu::new(1), dir, settings(WeightFormat::F32))
}

fn opened(dir: &Path, weights: WeightFormat) -> Session<Cpu> {
    folder::open(Cpu::new(1), dir, settings(weights))
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

fn refusal(dir: &Path) -> Error {
    match open(dir) {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(error) => error,
    }
}

/// The code of the error and the file that it names.
fn refused(dir: &Path) -> (&'static str, String) {
    let error = refusal(dir);
    (error.code(), error.file().unwrap_or_default())
}

fn json_file(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("expect.json has numbers") as f32],
    }
}

/// Compares the model in `dir` with the reference of `expected`: the logits of a prompt, and six greedy tokens with the
/// logits that each was chosen from.
fn assert_reference(dir: &Path, expected: &str) {
    let expected = json_file(&wild(expected).join("expect.json"));
    let mut session = opened(dir, WeightFormat::F32);
    let prompt = ids(&expected["ids"]);
    let mut row = block_on(session.logits(&prompt)).unwrap();
    let difference = max_difference(&row, &numbers(&expected["prefill"]));
    assert!(
        difference <= TOLERANCE,
        "{}: prefill {difference}",
        dir.display()
    );
    row.drain(..row.len() - session.config().vocab_size);
    for (token, expected) in ids(&expected["greedy"])
        .into_iter()
        .zip(expected["rows"].as_array().unwrap())
    {
        let difference = max_difference(&row, &numbers(expected));
        assert!(
            difference <= TOLERANCE,
            "{}: token {token}: {difference}",
            dir.display()
        );
        assert_eq!(argmax(&row), token, "{}", dir.display());
        row = block_on(session.append(&[token])).unwrap();
    }
}

/// Bits of the logits of some prompt.
fn logits(dir: &Path, weights: WeightFormat) -> Vec<u32> {
    let mut session = opened(dir, weights);
    let vocab_size = session.config().vocab_size as u32;
    let prompt: Vec<u32> = (0..20).map(|i| i * 37 % vocab_size).collect();
    let logits = block_on(session.logits(&prompt)).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

/// A tensor of a file.
#[derive(Clone, PartialEq)]
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A checkpoint of one file in memory, which tests change and write again.
#[derive(Clone)]
struct Net {
    config: Map<String, Value>,
    tensors: BTreeMap<String, Stored>,
}

impl Net {
    /// The single file and the configuration in `dir`.
    fn read(dir: &Path) -> Net {
        let file = fs::read(dir.join(WEIGHTS)).unwrap();
        let (length, rest) = file.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&rest[..length]).unwrap();
        let entries = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__");
        let tensors = entries.map(|(name, entry)| {
            let offsets = ids(&entry["data_offsets"]);
            let shape = ids(&entry["shape"]).into_iter().map(|n| n as usize);
            let stored = Stored {
                dtype: entry["dtype"].as_str().unwrap().into(),
                shape: shape.collect(),
                bytes: rest[length..][offsets[0] as usize..offsets[1] as usize].to_vec(),
            };
            (name, stored)
        });
        let Value::Object(config) = json_file(&dir.join("config.json")) else {
            panic!("config.json is no object");
        };
        Net {
            tensors: tensors.collect(),
            config,
        }
    }

    fn wild(name: &str) -> Net {
        Net::read(&wild(name))
    }

    fn file(&self) -> Vec<u8> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, stored) in &self.tensors {
            let start = data.len();
            data.extend_from_slice(&stored.bytes);
            let entry = json!({
                "dtype": stored.dtype, "shape": stored.shape, "data_offsets": [start, data.len()]
            });
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &data,
        ]
        .concat()
    }

    fn write(&self) -> TempDir {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(WEIGHTS), self.file()).unwrap();
        let config = Value::Object(self.config.clone()).to_string();
        fs::write(dir.path().join("config.json"), config).unwrap();
        dir
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Net {
        self.config.insert(field.into(), value.into());
        self
    }

    /// The same tensors under other names.
    fn renamed(mut self, rename: impl Fn(&str) -> String) -> Net {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .map(|(name, stored)| (rename(&name), stored))
            .collect();
        self
    }
}
