//! Loading: however a checkpoint is split into pieces and files, the loaded model is bit-identical, and missing,
//! surplus or invalid bytes are errors that name their place. Bytes come from memory. The values themselves are checked
//! in `tests/model.rs`; invalid headers beside `src/loader/safetensors.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Map, Value, json};
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::family;
use zamba2::folder;
use zamba2::loader::WeightStream;
use zamba2::loader::packed::{MANIFEST, Manifest, PackedFile};
use zamba2::loader::safetensors::{Dtype, Shard, TensorEntry, header_bytes};
use zamba2::loader::schedule::LoadSchedule;
use zamba2::model::cache::Cache;
use zamba2::model::config::Config;
use zamba2::model::forward::{ForwardPass, Progress, Scratch};
use zamba2::model::module::Unit;
use zamba2::model::{NumericSettings, Zamba2};
use zamba2::ops::Ops;
use zamba2::ops::device::KvFormat;
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

const PACKED_FIXTURE: &str = "two_blocks_groups2_rope_q8";

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

#[test]
fn pieces_of_any_size_give_the_same_bits() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for format in FORMATS {
            let whole = checkpoint.logits(format, usize::MAX);
            for piece in [1, 7, 4096] {
                let same = checkpoint.logits(format, piece) == whole;
                assert!(same, "{name}, {format:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn the_number_of_shards_does_not_change_the_logits() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        let expected = checkpoint.logits(WeightFormat::F32, usize::MAX);
        for n in [1, 2, 5] {
            let same = checkpoint.resharded(n).logits(WeightFormat::F32, 4096) == expected;
            assert!(same, "{name} in {n} files");
        }
    }
}

#[test]
fn a_folder_on_disk_gives_the_same_bits_as_bytes_in_memory() {
    for name in all_fixtures() {
        let expected = Checkpoint::read(&name).logits(WeightFormat::F32, usize::MAX);
        let opened = folder::open(Cpu::new(1), &fixture(&name), settings(WeightFormat::F32));
        let logits = block_on(opened.unwrap().logits(&tokens())).unwrap();
        assert!(bits(logits) == expected, "{name}");
    }
}

#[test]
fn a_legacy_config_means_the_same_model_as_its_new_form() {
    let legacy = Checkpoint::read("legacy_config");
    let mut new = Checkpoint::read("legacy_config");
    let fields = new.config.as_object_mut().unwrap();
    let theta = fields
        .remove("rope_theta")
        .expect("the legacy location of rope_theta");
    fields.insert(
        "rope_parameters".into(),
        json!({"rope_theta": theta, "rope_type": "default"}),
    );
    let width = fields
        .remove("ffn_hidden_size")
        .expect("the legacy name of the intermediate size");
    fields.insert("intermediate_size".into(), width);
    let kinds = fields["layers_block_type"].as_array_mut().unwrap();
    let mut renamed = 0;
    for kind in kinds.iter_mut().filter(|kind| *kind == "mamba") {
        *kind = "linear_attention".into();
        renamed += 1;
    }
    assert!(renamed > 0, "the legacy name of a mamba block");
    assert_eq!(new.config(), legacy.config());
    let format = WeightFormat::F32;
    assert!(new.logits(format, usize::MAX) == legacy.logits(format, usize::MAX));

    // A list of the hybrid layers is equivalent to a list of all kinds.
    let kinds = new
        .config
        .as_object_mut()
        .unwrap()
        .remove("layers_block_type")
        .unwrap();
    let kinds = kinds.as_array().unwrap().iter().enumerate();
    let hybrids: Vec<usize> = kinds
        .filter(|(_, kind)| *kind == "hybrid")
        .map(|(i, _)| i)
        .collect();
    new.config["hybrid_layer_ids"] = json!(hybrids);
    assert_eq!(new.config(), legacy.config());
}

/// Each unit is pushed without its last byte, then that byte; the forward pass advances as far as it can in between.
#[test]
fn a_block_runs_before_the_next_has_arrived() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        let expected = checkpoint.logits(WeightFormat::Q4, usize::MAX);
        let schedule = checkpoint.schedule(WeightFormat::Q4);
        let order: Vec<Unit> = schedule.units.iter().map(|unit| unit.unit).collect();
        let (config, be) = (checkpoint.config(), &mut Ops::new(Cpu::new(1)));
        let plan = schedule.plan.clone();
        let mut cache = Cache::new(be, &config, 128, KvFormat::I8);
        let mut scratch = Scratch::new(be, &config);
        let mut model = Zamba2::empty(be, config, NumericSettings::default(), plan);
        let mut stream = WeightStream::new(schedule, WeightFormat::Q4);

        let mut pass = None;
        let mut blocks_done = 0;
        let n_blocks = model.blocks.len();
        for (i, (unit, bytes)) in order.iter().zip(checkpoint.units()).enumerate() {
            let (last, first) = bytes.split_last().unwrap();
            stream.push(be, &mut model, first).unwrap();
            assert_eq!(
                stream.units_done(),
                i,
                "{name}: {unit:?} must not count before it is complete"
            );
            if let Some(pass) = &mut pass {
                let progress =
                    ForwardPass::advance(pass, be, &model, &mut cache, &mut scratch, 100);
                let waiting = Progress::Waiting { block: blocks_done };
                let expected = if blocks_done == n_blocks {
                    Progress::Done
                } else {
                    waiting
                };
                assert_eq!(progress, expected, "{name} before {unit:?}");
            }
            stream.push(be, &mut model, &[*last]).unwrap();
            assert_eq!(stream.units_done(), i + 1);
            if *unit == Unit::Embedding {
                pass = Some(ForwardPass::new(be, &model, &cache, &tokens()));
            }
            let pass = pass.as_mut().expect("the embedding comes first");
            if *unit == Unit::Block(blocks_done) {
                blocks_done += 1;
            }
            pass.advance(be, &model, &mut cache, &mut scratch, 100);
        }
        assert_eq!(blocks_done, n_blocks);
        assert_eq!(
            cache.len, N_TOKENS as usize,
            "the cache length must not depend on the number of `advance` calls"
        );
        stream.finish().unwrap();
        let pass = pass.unwrap();
        let mut logits = Vec::new();
        for chunk in 0..pass.n_chunks() {
            pass.chunk_logits(be, &model, chunk, &mut scratch);
            logits.extend(block_on(be.read(&scratch.logits)).unwrap());
        }
        assert!(bits(logits) == expected, "{name}");
    }
}

/// Resuming a download: some bytes of the stored (quantised) form are already there, cut at any point, and the rest
/// comes from the checkpoint.
#[test]
fn a_load_resumed_at_any_stored_byte_gives_the_same_bits() {
    let mut seed = 7u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below.max(1)
    };
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for format in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
            let expected = checkpoint.logits(format, usize::MAX);
            let schedule = checkpoint.schedule(format);
            let stored = stored_units(&checkpoint, format, random(5000) + 1);
            for (planned, stored) in schedule.units.iter().zip(&stored) {
                assert_eq!(
                    planned.stored_bytes,
                    stored.len() as u64,
                    "{name} {format:?}"
                );
            }
            let total: usize = stored.iter().map(Vec::len).sum();
            for at in [
                0,
                1,
                total - 1,
                total,
                random(total),
                random(total),
                random(total),
            ] {
                let mut session = checkpoint.loader(format);
                for piece in stored.concat()[..at].chunks(random(9000) + 1) {
                    session.push_stored(piece).unwrap();
                }
                let mut taken = 0;
                while let Some(rest) = session.rest() {
                    taken = taken.max(rest.stored_bytes);
                    for range in &rest.ranges {
                        let file = &checkpoint.files[&range.file];
                        let bytes = &file[range.start as usize..range.end as usize];
                        for piece in bytes.chunks(random(9000) + 1) {
                            session.push(piece).unwrap();
                        }
                    }
                }
                assert!(taken <= at as u64, "{name}: more bytes were reported than pushed");
                session.check_complete().unwrap();
                let logits = block_on(session.logits(&tokens())).unwrap();
                assert!(
                    bits(logits) == expected,
                    "{name} {format:?} from {at} of {total}"
                );
            }
        }
    }
}

/// The stored form does not depend on how the checkpoint's bytes were split.
#[test]
fn the_stored_form_is_the_same_for_every_piece_size() {
    let checkpoint = Checkpoint::read("odd_sizes");
    let whole = stored_units(&checkpoint, WeightFormat::Q4, usize::MAX);
    for piece in [1, 7, 64, 1000] {
        assert!(
            stored_units(&checkpoint, WeightFormat::Q4, piece) == whole,
            "by {piece}"
        );
    }
}

#[test]
fn a_damaged_stored_row_is_refused_with_its_row_number() {
    let checkpoint = Checkpoint::read("gqa");
    let mut stored = stored_units(&checkpoint, WeightFormat::Q4, usize::MAX);
    // Overwrites the row scale of the embedding's first row with a NaN.
    stored[0][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut session = checkpoint.loader(WeightFormat::Q4);
    let error = session.push_stored(&stored[0]).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 0, .. }), "{error}");
}

#[test]
fn a_row_begun_in_one_form_cannot_be_completed_in_another() {
    let checkpoint = Checkpoint::read("gqa");
    let mut session = checkpoint.loader(WeightFormat::Q4);
    session.push_stored(&[0; 3]).unwrap();
    assert!(matches!(session.push(&[0; 3]), Err(Error::Sequence { .. })));
    // `rest` restarts the row.
    let rest = session.rest().unwrap();
    assert_eq!(rest.stored_bytes, 0);
    assert_eq!(rest.ranges, session.schedule().units[0].ranges);
    session.push(&[0; 3]).unwrap();
}

#[test]
fn a_prompt_may_start_before_the_last_block_arrives_but_a_decode_step_may_not() {
    let checkpoint = Checkpoint::read("two_blocks_groups2_rope");
    let expected = checkpoint.logits(WeightFormat::Q4, usize::MAX);
    let mut session = checkpoint.loader(WeightFormat::Q4);
    let early = session.start(&tokens(), Default::default());
    assert!(
        matches!(early, Err(Error::Sequence { .. })),
        "started without the embedding"
    );
    let units = checkpoint.units();
    for (i, bytes) in units.iter().enumerate() {
        session.push(bytes).unwrap();
        if i == 0 {
            session.start(&tokens(), Default::default()).unwrap();
        }
        let progress = session.advance(usize::MAX).unwrap();
        let step = block_on(session.step());
        assert_eq!(step.is_ok(), i + 1 == units.len(), "{progress:?}");
    }
    let next = block_on(session.logits(&tokens())).unwrap();
    assert!(bits(next) == expected, "the early prompt changed later logits");
}

#[test]
fn a_packed_folder_gives_the_same_bits_as_its_checkpoint_and_as_stored_units() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for format in [WeightFormat::Q8, WeightFormat::Q4] {
            let out = tempfile::tempdir().unwrap();
            let be = Cpu::new(1);
            let manifest =
                folder::pack(be, &fixture(&name), out.path(), settings(format), |_| ()).unwrap();
            let stored = stored_units(&checkpoint, format, usize::MAX);
            for (unit, stored) in manifest.units.iter().zip(&stored) {
                let file = fs::read(out.path().join(&unit.stored.file)).unwrap();
                assert!(&file == stored, "{name}: {}", unit.name);
            }
            let mut session = folder::open(Cpu::new(1), out.path(), settings(format)).unwrap();
            let logits = block_on(session.logits(&tokens())).unwrap();
            assert!(
                bits(logits) == checkpoint.logits(format, usize::MAX),
                "{name}"
            );
        }
    }
}

/// The browser tests load this folder, so it must equal what `pack` writes.
#[test]
fn the_packed_folder_of_the_browser_tests_is_what_pack_writes() {
    let committed =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packed")).join(PACKED_FIXTURE);
    let out = tempfile::tempdir().unwrap();
    let source = fixture(PACKED_FIXTURE.strip_suffix("_q8").unwrap());
    let settings = settings(WeightFormat::Q8);
    let manifest = folder::pack(Cpu::new(1), &source, out.path(), settings, |_| ()).unwrap();
    let units = manifest.units.iter().map(|unit| &unit.stored.file);
    let heads = manifest.shards.iter().map(|shard| &shard.head.file);
    let files = manifest.files.iter().map(|file| &file.file);
    let manifest_file = MANIFEST.to_owned();
    for file in units.chain(heads).chain(files).chain([&manifest_file]) {
        let (here, there) = (out.path().join(file), committed.join(file));
        assert!(
            fs::read(here).unwrap() == fs::read(there).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_packed_folder_with_a_flipped_bit_a_missing_file_or_another_weight_format_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let settings_q4 = settings(WeightFormat::Q4);
    let manifest = folder::pack(
        Cpu::new(1),
        &fixture("gqa"),
        out.path(),
        settings_q4,
        |_| (),
    )
    .unwrap();
    let open = |format| folder::open(Cpu::new(1), out.path(), settings(format)).err();
    assert!(matches!(
        open(WeightFormat::Q8),
        Some(Error::Setting { .. })
    ));
    let heads = manifest.shards.iter().map(|shard| &shard.head);
    let units = manifest.units.iter().map(|unit| &unit.stored);
    for PackedFile { file, .. } in heads.chain(units) {
        let path = out.path().join(file);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&flipped[..], &whole[1..], &[]] {
            fs::write(&path, damaged).unwrap();
            let expected = Error::Damaged { file: file.clone() };
            assert_eq!(open(WeightFormat::Q4), Some(expected), "{file}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            open(WeightFormat::Q4),
            Some(Error::MissingFile { .. })
        ));
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(open(WeightFormat::Q4), None);
}

#[test]
fn a_manifest_with_a_path_outside_its_folder_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let settings = settings(WeightFormat::Q4);
    let mut manifest =
        folder::pack(Cpu::new(1), &fixture("gqa"), out.path(), settings, |_| ()).unwrap();
    for file in [
        "../units/embed_tokens.bin",
        "/etc/passwd",
        "https://other.example/x",
    ] {
        manifest.units[0].stored.file = file.into();
        let text = serde_json::to_string(&manifest).unwrap();
        assert!(
            matches!(Manifest::parse(&text), Err(Error::Config { .. })),
            "{file}"
        );
    }
}

/// The stored form of each unit, as a page writes it, from pieces of `piece` bytes.
fn stored_units(checkpoint: &Checkpoint, format: WeightFormat, piece: usize) -> Vec<Vec<u8>> {
    let mut session = checkpoint.loader(format);
    session.keep_stored();
    let units = checkpoint.units();
    let stored = units.iter().map(|bytes| {
        let mut stored = Vec::new();
        for piece in bytes.chunks(piece) {
            session.push(piece).unwrap();
            stored.extend(session.take_stored());
        }
        stored
    });
    stored.collect()
}

#[test]
fn a_prefill_advanced_block_by_block_gives_the_same_logits() {
    let checkpoint = Checkpoint::read("two_blocks_groups2_rope");
    let format = WeightFormat::F32;
    let mut session = checkpoint.load(format, usize::MAX);
    let whole = block_on(session.logits(&tokens())).unwrap();
    let n_blocks = session.config().n_blocks();
    session.start(&tokens(), Default::default()).unwrap();
    for next in 1..n_blocks {
        assert_eq!(session.advance(1), Ok(Progress::Paused { next }));
    }
    assert_eq!(session.advance(1), Ok(Progress::Done));
    assert_eq!(
        session.advance(1),
        Ok(Progress::Done),
        "`advance` after the end of the prompt"
    );
    let next = block_on(session.append(&[5])).unwrap();
    let longer = block_on(session.logits(&[tokens(), vec![5]].concat())).unwrap();
    let n = whole.len();
    assert!(bits(longer[..n].to_vec()) == bits(whole));
    // The last step is a decode step, where dt is not clamped, and here a prefill: close, not equal.
    let difference = next.iter().zip(&longer[n..]).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) < 0.5);
}

#[test]
fn missing_bytes_are_reported_with_the_file_and_the_offset_where_they_end() {
    for name in ["one_block_adapters_rope", "sharded_bf16"] {
        let checkpoint = Checkpoint::read(name);
        let bytes = checkpoint.units().concat();
        for n in [0, 1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let mut loader = checkpoint.loader(WeightFormat::Q8);
            loader.push(&bytes[..n]).unwrap();
            match loader.check_complete().err() {
                Some(Error::Truncated {
                    file,
                    expected_bytes,
                    actual_bytes,
                }) => {
                    assert!(checkpoint.files.contains_key(&file), "{name}: {file}");
                    assert!(
                        actual_bytes < expected_bytes,
                        "{name}: {actual_bytes} {expected_bytes}"
                    );
                    assert!(
                        expected_bytes <= checkpoint.files[&file].len() as u64,
                        "{name}"
                    );
                }
                other => panic!("{name} with {n} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn surplus_bytes_are_refused_at_once() {
    let checkpoint = Checkpoint::read("one_block_adapters_rope");
    for extra in [1, 4096] {
        let mut loader = checkpoint.loader(WeightFormat::F32);
        let bytes = [checkpoint.units().concat(), vec![0; extra]].concat();
        let error = loader.push(&bytes).unwrap_err();
        assert_eq!(error.code(), "out_of_order");
        assert!(error.to_string().contains(&extra.to_string()), "{error}");
    }
}

#[test]
fn a_file_truncated_on_disk_is_reported_as_truncated() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cut_short");
    fs::create_dir_all(&folder).unwrap();
    let source = fixture("one_block_adapters_rope");
    fs::copy(source.join("config.json"), folder.join("config.json")).unwrap();
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    for (kept, code) in [
        (0, "truncated"),
        (7, "truncated"),
        (100, "bad_header"),
        (bytes.len() - 1, "truncated"),
    ] {
        fs::write(folder.join("model.safetensors"), &bytes[..kept]).unwrap();
        let opened = folder::open(Cpu::new(1), &folder, settings(WeightFormat::F32));
        let error = opened.err().expect("the file is too short");
        assert_eq!(
            (error.code(), error.file().as_deref()),
            (code, Some("model.safetensors")),
            "{kept} bytes"
        );
    }
}

#[test]
fn tensors_that_do_not_fit_the_config_are_named() {
    let checkpoint = Checkpoint::read("one_block_adapters_rope");
    let name = "model.layers.0.mamba.in_proj.weight";
    let change = |change: &dyn Fn(&mut Shard)| {
        let mut shards = checkpoint.shards();
        change(&mut shards[0]);
        LoadSchedule::new(&checkpoint.config(), &shards, WeightFormat::F32).unwrap_err()
    };
    let missing = change(&|shard| drop(shard.tensors.remove(name)));
    let shape = change(&|shard| shard.tensors.get_mut(name).unwrap().shape.reverse());
    let dtype = change(&|shard| {
        shard.tensors.get_mut(name).unwrap().dtype = Dtype::Other("F8_E4M3".into())
    });
    for (error, code) in [
        (missing, "missing_tensor"),
        (shape, "bad_shape"),
        (dtype, "unknown_dtype"),
    ] {
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_weight_that_is_nan_is_reported_with_its_tensor_and_row() {
    let checkpoint = Checkpoint::read("one_block_adapters_rope").resharded(1);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut damaged = Checkpoint::read("one_block_adapters_rope").resharded(1);
        let entry = checkpoint.shards()[0].tensors["model.layers.1.linear.weight"].clone();
        assert_eq!(
            entry.dtype,
            Dtype::Bf16,
            "the bytes overwritten below must be one bf16 number"
        );
        let at = entry.start as usize + 2 * (2 * entry.shape[1] + 3);
        let file = damaged.files.values_mut().next().unwrap();
        file[at..at + 2].copy_from_slice(&bad.to_le_bytes()[2..]);
        let mut loader = damaged.loader(WeightFormat::Q4);
        match loader.push(&damaged.units().concat()) {
            Err(Error::NonFinite { tensor, row, .. }) => {
                assert_eq!((&tensor[..], row), ("model.layers.1.linear.weight", 2));
            }
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[test]
fn too_little_memory_is_reported_before_any_byte_is_read() {
    let checkpoint = Checkpoint::read("gqa");
    let loaded = checkpoint.load(WeightFormat::Q8, usize::MAX);
    let needed = loaded.weights_bytes() + loaded.cache_bytes();
    for (limit, fits) in [(needed, true), (needed - 1, false)] {
        let settings = LoadSettings {
            memory_limit_bytes: Some(limit),
            ..settings(WeightFormat::Q8)
        };
        let (config, shards) = (checkpoint.config(), checkpoint.shards());
        let loader = Session::open(Cpu::new(1), config, &shards, None, settings);
        let expected = Error::Memory {
            needed_bytes: needed,
            limit_bytes: limit,
        };
        assert_eq!(loader.err(), (!fits).then_some(expected));
    }
}

/// Zyphra/Zamba2-7B: its config.json, and a header with all its tensors.
fn seven_billion() -> (Config, Shard) {
    let hybrid = [6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77];
    let kind = |index| {
        if hybrid.contains(&index) {
            "hybrid"
        } else {
            "mamba"
        }
    };
    let config = json!({
        "model_type": "zamba2", "vocab_size": 32000, "hidden_size": 3584, "num_hidden_layers": 81,
        "layers_block_type": (0..81).map(kind).collect::<Vec<_>>(), "mamba_d_state": 64, "mamba_d_conv": 4,
        "mamba_expand": 2, "mamba_ngroups": 2, "n_mamba_heads": 112, "mamba_headdim": 64, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 32, "num_mem_blocks": 2, "adapter_rank": 128,
        "use_shared_attention_adapter": false, "use_mem_rope": true, "rope_theta": 10000.0,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let config = Config::from_json(&config.to_string()).unwrap();
    let plan = family::plan(&config, |_| false);
    let mut shard = Shard {
        file: "model.safetensors".into(),
        tensors: BTreeMap::new(),
    };
    let mut start = 0;
    for spec in plan.all_tensors() {
        let end = start + 2 * spec.shape.iter().product::<usize>() as u64;
        let entry = TensorEntry {
            dtype: Dtype::Bf16,
            shape: spec.shape.clone(),
            start,
            end,
        };
        assert!(shard.tensors.insert(spec.name.clone(), entry).is_none());
        start = end;
    }
    (config, shard)
}

#[test]
fn the_largest_model_is_planned_at_q4_and_refused_with_figures_where_it_exceeds_a_tabs_memory() {
    let (config, shard) = seven_billion();
    let numbers = |entry: &TensorEntry| entry.shape.iter().product::<usize>() as u64;
    let parameters: u64 = shard.tensors.values().map(numbers).sum();
    assert_eq!((parameters, shard.tensors.len()), (7_356_749_648, 786));

    // 32 numbers take 18 bytes, and 34 in the tied embedding; row scales and f32 vectors add less than one percent.
    let schedule =
        LoadSchedule::new(&config, std::slice::from_ref(&shard), WeightFormat::Q4).unwrap();
    let least = (parameters * 18 + 32_000 * 3584 * 16) / 32;
    assert!(
        (least..least + least / 100).contains(&schedule.weights_bytes),
        "{}",
        schedule.weights_bytes
    );
    // 32-bit WebAssembly addresses 4 GiB.
    let settings = LoadSettings {
        memory_limit_bytes: Some(4 << 30),
        ..settings(WeightFormat::Q4)
    };
    let refusal = Session::open(Cpu::new(1), config, &[shard], None, settings).err();
    let Some(Error::Memory {
        needed_bytes,
        limit_bytes,
    }) = refusal
    else {
        panic!("{refusal:?}");
    };
    assert!(needed_bytes > schedule.weights_bytes && limit_bytes == 4 << 30);
    let message = refusal.unwrap().to_string();
    assert!(
        message.contains("4.40 GB") && message.contains("4.29 GB"),
        "{message}"
    );
}

/// Counted from the file, which holds each shared weight once: two-dimensional tensors are quantised, all others are
/// f32.
#[test]
fn a_weight_shared_by_several_blocks_is_held_once() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for (format, block_bytes) in [
            (WeightFormat::F32, 128),
            (WeightFormat::Q8, 34),
            (WeightFormat::Q4, 18),
        ] {
            let (mut bytes, mut numbers) = (0, 0);
            for (name, entry) in checkpoint.shards().iter().flat_map(|shard| &shard.tensors) {
                // The tied embedding has eight bits at q4.
                let is_output = name == "model.embed_tokens.weight" || name == "lm_head.weight";
                let block_bytes = if is_output && format == WeightFormat::Q4 {
                    34
                } else {
                    block_bytes
                };
                numbers += entry.shape.iter().product::<usize>();
                bytes += match (format, &entry.shape[..]) {
                    (WeightFormat::F32, shape) => 4 * shape.iter().product::<usize>(),
                    (_, [rows, cols]) => rows * (4 + cols.div_ceil(32) * block_bytes),
                    (_, shape) => 4 * shape.iter().product::<usize>(),
                };
            }
            let session = checkpoint.load(format, usize::MAX);
            if !session.config().tie_word_embeddings {
                // A checkpoint stores the LoRA adapters of all calls in each untied block, and only the block's own are
                // loaded.
                assert!(session.weights_bytes() < bytes as u64, "{name} {format:?}");
                continue;
            }
            assert_eq!(session.weights_bytes(), bytes as u64, "{name} {format:?}");
            assert_eq!(
                checkpoint.schedule(format).parameters,
                numbers as u64,
                "{name}"
            );
        }
    }
}
