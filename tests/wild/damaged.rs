//! Damaged and hostile headers, indexes, configurations and manifests: a fixed number of inputs from a seeded
//! generator. Each one is an error or a checked value, never a panic, and takes no longer than its length explains.

use std::time::{Duration, Instant};

use super::*;
use zamba2::loader::packed::Manifest;
use zamba2::loader::safetensors::{Shard, header_bytes, shard_files};
use zamba2::loader::schedule::LoadSchedule;
use zamba2::model::config::Config;

/// Inputs for each reader: a few seconds in all with optimisation as tests have it.
const N_CASES: u64 = 3000;
const LIMIT: Duration = Duration::from_secs(1);

/// A generator with the same numbers everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn of_case(case: u64) -> Dice {
        Dice((case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Values that readers are tempted to trust.
fn hostile(dice: &mut Dice) -> Value {
    let text = [
        "",
        "mamba",
        "hybrid",
        "F32",
        "BF16",
        "../x",
        "NaN",
        "\u{0}",
        "model.safetensors",
        "q4",
        "zamba2",
    ];
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1u64 << dice.below(64)),
        7 => json!(1e308),
        8 => json!(0.5),
        9 => json!(*dice.pick(&text)),
        10 => json!([dice.below(9), u64::MAX, -3]),
        _ => json!({"rope_type": "linear", "factor": 0, "data_offsets": [5, 2]}),
    }
}

/// Changes some value somewhere in `value`.
fn change(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(map) if !map.is_empty() && dice.below(8) > 0 => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = dice.pick(&keys).clone();
            match dice.below(10) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), hostile(dice))),
                _ => change(map.get_mut(&key).unwrap(), dice),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.below(8) > 0 => {
            let at = dice.below(list.len());
            match dice.below(10) {
                0 => drop(list.remove(at)),
                1 => list.push(hostile(dice)),
                _ => change(&mut list[at], dice),
            }
        }
        value => *value = hostile(dice),
    }
}

/// Changes some bytes of a text: parts of it are cut, doubled or overwritten.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let signs = b"\"{}[]:,-+0129eE.\\ \n<\0\xff\xc3nNtI";
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = (at + dice.below(20)).min(bytes.len());
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.insert(at, *dice.pick(signs)),
            _ if at < bytes.len() => bytes[at] = *dice.pick(signs),
            _ => {}
        }
    }
}

/// Feeds `read` with damaged forms of `good`, half of them still JSON. `read` returns whether it accepted the text.
fn fuzz(what: &str, good: &Value, mut read: impl FnMut(&str, &mut Dice) -> bool) {
    let mut taken = 0;
    for case in 0..N_CASES {
        let mut dice = Dice::of_case(case);
        let mut text = if case % 2 == 0 {
            let mut value = good.clone();
            for _ in 0..=dice.below(3) {
                change(&mut value, &mut dice);
            }
            value.to_string().into_bytes()
        } else {
            good.to_string().into_bytes()
        };
        if case % 2 == 1 || dice.below(8) == 0 {
            damage(&mut text, &mut dice);
        }
        let text = String::from_utf8_lossy(&text);
        let start = Instant::now();
        taken += usize::from(read(&text, &mut dice));
        let time = start.elapsed();
        assert!(time < LIMIT, "{what}, case {case}: {time:?}");
    }
    // A reader that takes nothing, or everything, would not have been tried by these inputs.
    assert!(
        (1..N_CASES as usize).contains(&taken),
        "{what}: {taken} of {N_CASES} were taken"
    );
}

/// Errors must have their sentences, too.
fn is_ok<T>(result: Result<T>) -> bool {
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty() && !error.next_step().is_empty());
    }
    result.is_ok()
}

fn header() -> (Value, u64) {
    let file = fs::read(wild("block_under_second_layer").join(WEIGHTS)).unwrap();
    let length = header_bytes(WEIGHTS, file.len() as u64, &file[..8]).unwrap() as usize;
    let header = serde_json::from_slice(&file[8..8 + length]).unwrap();
    (header, (file.len() - 8 - length) as u64)
}

#[test]
fn a_damaged_safetensors_header_is_an_error_or_fits_its_file() {
    let (good, data_bytes) = header();
    let config = Value::Object(Net::wild("block_under_second_layer").config).to_string();
    let config = Config::from_json(&config).unwrap();
    fuzz("header", &good, |text, _| {
        let file_bytes = 8 + text.len() as u64 + data_bytes;
        let shard = Shard::parse(WEIGHTS, file_bytes, text.as_bytes());
        if let Ok(shard) = &shard {
            assert!(
                shard
                    .tensors
                    .values()
                    .all(|entry| entry.start <= entry.end && entry.end <= file_bytes)
            );
            let shards = [shard.clone()];
            let schedule = LoadSchedule::new(&config, &shards, WeightFormat::Q4);
            if let Ok(schedule) = &schedule {
                let ranges = schedule.units.iter().flat_map(|unit| &unit.ranges);
                let bytes: u64 = ranges.map(|range| range.end - range.start).sum();
                assert!(bytes <= data_bytes, "a schedule reads each byte once");
            }
            is_ok(schedule);
        }
        is_ok(shard)
    });
}

#[test]
fn any_first_eight_bytes_give_a_length_within_the_file_or_an_error() {
    for case in 0..N_CASES {
        let mut dice = Dice::of_case(case);
        let number = dice.next() >> dice.below(64);
        let file_bytes = dice.next() >> dice.below(64);
        let first = number.to_le_bytes();
        let first = &first[..if dice.below(20) == 0 {
            dice.below(8)
        } else {
            8
        }];
        let length = header_bytes(WEIGHTS, file_bytes, first);
        if let Ok(length) = length {
            assert!(length <= 100 << 20 && length + 8 <= file_bytes);
        }
        is_ok(length);
    }
}

#[test]
fn a_damaged_index_is_an_error_or_names_files_of_its_folder() {
    let good = json_file(&wild("lfs_pointer_among_shards").join("model.safetensors.index.json"));
    fuzz("index", &good, |text, _| {
        let files = shard_files("index", text);
        for file in files.iter().flatten() {
            assert!(
                !file.is_empty() && !file.contains(['/', '\\']) && file != "..",
                "{file}"
            );
        }
        is_ok(files)
    });
}

#[test]
fn a_damaged_config_is_an_error_or_has_sizes_that_fit_one_another() {
    let good = Value::Object(Net::wild("block_under_second_layer").config);
    let (header, data_bytes) = header();
    let header = header.to_string();
    let shard = Shard::parse(
        WEIGHTS,
        8 + header.len() as u64 + data_bytes,
        header.as_bytes(),
    )
    .unwrap();
    fuzz("config", &good, |text, _| {
        let config = Config::from_json(text);
        if let Ok(config) = &config {
            assert_eq!(config.d_inner % config.n_mamba_heads, 0);
            assert_eq!(config.n_mamba_heads % config.n_groups, 0);
            assert_eq!(config.attention_width() % config.n_attention_heads, 0);
            assert!(config.rms_norm_eps.is_finite() && config.rope_theta.is_finite());
            // Sizes that the file does not have are refused before anything is made of them.
            is_ok(LoadSchedule::new(
                config,
                std::slice::from_ref(&shard),
                WeightFormat::Q4,
            ));
        }
        is_ok(config)
    });
}

#[test]
fn the_largest_configuration_is_planned_in_a_second() {
    let net = Net::wild("block_under_second_layer");
    let config = net
        .with("num_hidden_layers", 256)
        .with("layers_block_type", vec!["hybrid"; 256])
        .with("hidden_size", 1 << 16)
        .with("vocab_size", 1 << 22);
    let start = Instant::now();
    let config = Config::from_json(&Value::Object(config.config).to_string()).unwrap();
    assert!(LoadSchedule::new(&config, &[], WeightFormat::Q4).is_err());
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

#[test]
fn a_damaged_manifest_is_an_error_or_names_files_of_its_folder() {
    let out = TempDir::new().unwrap();
    let dir = wild("end_token_in_generation_config");
    let manifest = folder::pack(
        Cpu::new(1),
        &dir,
        out.path(),
        settings(WeightFormat::Q4),
        |_, _| {},
    )
    .unwrap();
    let good = serde_json::to_value(&manifest).unwrap();
    let session = opened(&dir, WeightFormat::Q4);
    fuzz("manifest", &good, |text, _| {
        let manifest = Manifest::parse(text);
        if let Ok(manifest) = &manifest {
            for file in manifest.files.iter().map(|file| &file.file) {
                assert!(!file.starts_with('/') && !file.contains(".."), "{file}");
            }
            is_ok(manifest.check("q4", session.schedule()));
        }
        is_ok(manifest)
    });
}
