//! Writes the inputs from which the fuzzing starts: `seeds FOLDER` makes FOLDER/<target>/<name>.

use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Value, json};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, LoadSettings, Session};

/// A header larger than this would leave a mutation little chance to hit what matters.
const MAX_HEADER_BYTES: usize = 16 << 10;

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn add(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    /// The files of the checkpoint in `dir`.
    fn add_checkpoint(&self, name: &str, dir: &Path) {
        for (file, target) in [
            ("config.json", "config"),
            ("generation_config.json", "config"),
            ("tokenizer.json", "tokenizer"),
            ("tokenizer_config.json", "tokenizer_config"),
            ("model.safetensors.index.json", "safetensors"),
        ] {
            if let Ok(bytes) = fs::read(dir.join(file)) {
                self.add(target, &format!("{name}_{file}"), &bytes);
            }
        }
        if let Ok(bytes) = fs::read(dir.join("model.safetensors"))
            && let Some(first8) = bytes.first_chunk()
        {
            let header_bytes = u64::from_le_bytes(*first8) as usize;
            if header_bytes <= MAX_HEADER_BYTES {
                self.add("safetensors", name, &bytes[..8 + header_bytes]);
            }
        }
    }
}

fn add_templates(seeds: &Seeds) {
    let text = fs::read(tests_folder().join("fixtures/chat.json")).unwrap();
    let chats: Value = serde_json::from_slice(&text).unwrap();
    for chat in chats["checkpoints"].as_array().unwrap() {
        let name = chat["name"].as_str().unwrap();
        let config = chat["tokenizer_config"].as_str().unwrap();
        seeds.add("tokenizer_config", name, config.as_bytes());
        let config: Value = serde_json::from_str(config).unwrap();
        if let Some(template) = config["chat_template"].as_str() {
            seeds.add("chat_template", name, template.as_bytes());
        }
    }
}

/// The run of the docs with one run of each kind and few spans.
fn add_run(seeds: &Seeds) {
    let text = fs::read(tests_folder().join("../docs/example/run.json")).unwrap();
    let mut run: Value = serde_json::from_slice(&text).unwrap();
    for kind in ["runs", "unprofiled"] {
        run[kind].as_array_mut().unwrap().truncate(1);
    }
    let spans = run["runs"][0]["spans"].as_object_mut().unwrap();
    for (_, column) in spans.iter_mut().filter(|(name, _)| *name != "names") {
        column.as_array_mut().unwrap().truncate(8);
    }
    seeds.add("run_file", "docs", run.to_string().as_bytes());
}

fn add_snapshot_and_manifest(seeds: &Seeds) {
    let dir = tests_folder().join("fixtures/one_block_adapters_rope");
    let settings = LoadSettings {
        weights: WeightFormat::F32,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    let mut session: Session<Cpu> = folder::open(Cpu::new(1), &dir, settings).unwrap();
    session
        .start(&[1, 2, 3, 4, 5], GenerateOptions::default())
        .unwrap();
    block_on(session.step()).unwrap();
    let snapshot = block_on(session.snapshot("a note")).unwrap();
    seeds.add("snapshot", "whole", &snapshot);
    let file = |name: &str| json!({ "file": name, "bytes": 2, "sha256": "0".repeat(64) });
    let manifest = json!({
        "format": "zamba2-pack/2",
        "weights": "q8",
        "files": [file("config.json")],
        "shards": [{
            "shard": "model.safetensors", "shard_bytes": 9,
            "file": "weights-1.bin", "start": 0, "bytes": 2, "sha256": "0".repeat(64),
        }],
        "units": [{
            "name": "embedding",
            "file": "weights-1.bin", "start": 2, "bytes": 2, "sha256": "0".repeat(64),
        }],
    });
    seeds.add("manifest", "small", manifest.to_string().as_bytes());
}

fn main() {
    let folder = std::env::args().nth(1).expect("usage: seeds FOLDER");
    let seeds = Seeds {
        folder: PathBuf::from(folder),
    };
    let fixtures = tests_folder().join("fixtures");
    for group in [fixtures.clone(), fixtures.join("wild")] {
        for entry in fs::read_dir(group).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            seeds.add_checkpoint(&name, &entry.path());
        }
    }
    add_templates(&seeds);
    add_run(&seeds);
    add_snapshot_and_manifest(&seeds);
}
