//! Loading from memory: checkpoints as units of bytes, pushed in pieces of any size. The loaded values are checked in
//! `tests/model.rs`; invalid headers beside `src/loader/safetensors.rs`.

mod errors;
mod memory;
mod pieces;
mod stored;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Map, Value, json};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::loader::safetensors::{Dtype, Shard, header_bytes};
use zamba2::loader::schedule::LoadSchedule;
use zamba2::model::NumericSettings;
use zamba2::model::config::Config;
use zamba2::session::{LoadSettings, Session};

const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4];
/// Any tokens will do: every fixture's vocabulary has these, and 70 are more than one chunk.
const N_TOKENS: u32 = 70;

fn tokens() -> Vec<u32> {
    (0..N_TOKENS).map(|i| i * 37 % 96).collect()
}

fn settings(weights: WeightFormat) -> LoadSettings {
    LoadSettings {
        weights,
        context: Some(128),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    }
}

/// A checkpoint in memory.
struct Checkpoint {
    config: Value,
    files: BTreeMap<String, Vec<u8>>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn all_fixtures() -> Vec<String> {
    let entries = fs::read_dir(fixture("")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| fixture(name).join("config.json").exists())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "there are no fixtures");
    names
}

impl Checkpoint {
    fn read(name: &str) -> Checkpoint {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with("model") && file.ends_with(".safetensors") {
                files.insert(file.to_owned(), fs::read(&path).unwrap());
            }
        }
        let config = fs::read(fixture(name).join("config.json")).unwrap();
        Checkpoint {
            config: serde_json::from_slice(&config).unwrap(),
            files,
        }
    }

    fn config(&self) -> Config {
        Config::from_json(&self.config.to_string()).unwrap()
    }

    fn shards(&self) -> Vec<Shard> {
        let shards = self.files.iter().map(|(name, bytes)| {
            let length = header_bytes(name, bytes.len() as u64, &bytes[..8]).unwrap();
            Shard::parse(name, bytes.len() as u64, &bytes[8..][..length as usize]).unwrap()
        });
        shards.collect()
    }

    fn schedule(&self, format: WeightFormat) -> LoadSchedule {
        LoadSchedule::new(&self.config(), &self.shards(), format).unwrap()
    }

    /// The bytes of each unit, in the loader's order.
    fn units(&self) -> Vec<Vec<u8>> {
        let units = self.schedule(WeightFormat::F32).units;
        let bytes_of = |unit: &zamba2::loader::schedule::PlannedUnit| {
            let ranges = unit.ranges.iter();
            let bytes = ranges
                .map(|range| &self.files[&range.file][range.start as usize..range.end as usize]);
            bytes.collect::<Vec<_>>().concat()
        };
        units.iter().map(bytes_of).collect()
    }

    fn loader(&self, format: WeightFormat) -> Session<Cpu> {
        let (config, shards) = (self.config(), self.shards());
        Session::open(Cpu::new(1), config, &shards, None, settings(format)).unwrap()
    }

    /// The session after all bytes were pushed in pieces of `piece` bytes.
    fn load(&self, format: WeightFormat, piece: usize) -> Session<Cpu> {
        let mut loader = self.loader(format);
        for bytes in self.units().concat().chunks(piece) {
            loader.push(bytes).unwrap();
        }
        loader.check_complete().unwrap();
        loader
    }

    fn logits(&self, format: WeightFormat, piece: usize) -> Vec<u32> {
        bits(block_on(self.load(format, piece).logits(&tokens())).unwrap())
    }

    /// The same tensors in `n` files, assigned round-robin in the order of their names.
    fn resharded(&self, n: usize) -> Checkpoint {
        let mut headers = vec![Map::new(); n];
        let mut bodies = vec![Vec::new(); n];
        let shards = self.shards();
        let tensors: BTreeMap<_, _> = (shards.iter())
            .flat_map(|shard| {
                shard
                    .tensors
                    .iter()
                    .map(move |(name, entry)| (name, (shard, entry)))
            })
            .collect();
        for (i, (name, (shard, entry))) in tensors.into_iter().enumerate() {
            let (header, body) = (&mut headers[i % n], &mut bodies[i % n]);
            let start = body.len();
            body.extend(&self.files[&shard.file][entry.start as usize..entry.end as usize]);
            let dtype = match entry.dtype {
                Dtype::F32 => "F32",
                Dtype::F16 => "F16",
                Dtype::Bf16 => "BF16",
                Dtype::Other(_) => panic!("a fixture has an unknown dtype"),
            };
            let offsets = json!([start, body.len()]);
            let entry = json!({"dtype": dtype, "shape": entry.shape, "data_offsets": offsets});
            header.insert(name.clone(), entry);
        }
        let file = |(i, (header, body)): (usize, (Map<_, _>, Vec<u8>))| {
            let header = Value::Object(header).to_string().into_bytes();
            let length = (header.len() as u64).to_le_bytes().to_vec();
            (
                format!("model-{i}.safetensors"),
                [length, header, body].concat(),
            )
        };
        Checkpoint {
            config: self.config.clone(),
            files: headers
                .into_iter()
                .zip(bodies)
                .enumerate()
                .map(file)
                .collect(),
        }
    }
}

fn bits(numbers: Vec<f32>) -> Vec<u32> {
    numbers.into_iter().map(f32::to_bits).collect()
}
