//! Shared by several test files: the golden nets and the reference's outputs, read with candle's `safetensors` reader
//! rather than with ours.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, LoadSettings};
use zamba2::text::sampling::SamplingOptions;

/// f32 weights, with dt clamped as in the reference.
pub const F32: LoadSettings = LoadSettings {
    weights: WeightFormat::F32,
    context: None,
    numeric: NumericSettings {
        dt_min_prefill: None,
        dt_min_step: None,
        rescale_rope_for_long_context: false,
    },
    memory_limit_bytes: None,
};

/// A checkpoint of `tests/fixtures` with the reference's outputs.
pub struct Golden {
    pub dir: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    pub fn open(dir: &Path) -> Golden {
        let file = dir.join("expect.safetensors");
        let tensors = candle_core::safetensors::load(&file, &Device::Cpu);
        Golden {
            dir: dir.into(),
            tensors: tensors.unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        }
    }

    pub fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The numbers of tensor `name`, row-major, in any shape.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let tensor = &self.tensors[name];
        let flat = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all());
        flat.and_then(|t| t.to_vec1()).unwrap()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|id| id as u32).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// The folders of `tests/fixtures`, and of `$ZAMBA2_GOLDEN` if that is set, that have `file`.
pub fn fixture_dirs(file: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let more = std::env::var_os("ZAMBA2_GOLDEN").map(PathBuf::from);
    let mut dirs: Vec<PathBuf> = [Some(own), more]
        .into_iter()
        .flatten()
        .flat_map(|root| std::fs::read_dir(root).expect("the folder of fixtures exists"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join(file).exists())
        .collect();
    dirs.sort();
    assert!(!dirs.is_empty(), "there are no fixtures");
    dirs
}

/// Every golden net in `tests/fixtures`, and in `$ZAMBA2_GOLDEN` if that is set.
pub fn goldens() -> Vec<Golden> {
    let dirs = fixture_dirs("expect.safetensors");
    dirs.iter().map(|dir| Golden::open(dir)).collect()
}

/// The largest difference of two sequences of equal length; NaN counts as an infinite difference.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(
        0.0,
        |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) },
    )
}

/// Greedy decoding of exactly `max_tokens` tokens, with the prompt cache.
pub fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// The tokenizer.json of a vocabulary in SentencePiece's style with bytes as tokens, as Llama's and Mistral's kind has.
/// The first three tokens are `<unk>`, `<s>` and `</s>`.
pub fn sentencepiece_json(vocab: Value, merges: Value) -> Value {
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges}
    })
}
