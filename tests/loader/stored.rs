//! Weights in their stored (quantised) form: resuming a load from stored bytes, and packed folders.

use std::fs;
use std::path::Path;

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::loader::packed::{MANIFEST, Manifest, PackedPart};

use super::{Checkpoint, all_fixtures, bits, fixture, settings, tokens};

const PACKED_FIXTURE: &str = "two_blocks_groups2_rope_q8";

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
                assert!(
                    taken <= at as u64,
                    "{name}: more bytes were reported than pushed"
                );
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
fn a_packed_folder_gives_the_same_bits_as_its_checkpoint_and_as_stored_units() {
    for name in all_fixtures() {
        let checkpoint = Checkpoint::read(&name);
        for format in [WeightFormat::Q8, WeightFormat::Q4] {
            let out = tempfile::tempdir().unwrap();
            let device = Cpu::new(1);
            let manifest = folder::pack(
                device,
                &fixture(&name),
                out.path(),
                settings(format),
                |_, _| (),
            )
            .unwrap();
            let stored = stored_units(&checkpoint, format, usize::MAX);
            for (unit, stored) in manifest.units.iter().zip(&stored) {
                let PackedPart { file, start, .. } = &unit.stored;
                let file = fs::read(out.path().join(file)).unwrap();
                let found = &file[*start as usize..][..stored.len()];
                assert!(found == stored, "{name}: {}", unit.name);
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
    let manifest = folder::pack(Cpu::new(1), &source, out.path(), settings, |_, _| ()).unwrap();
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
        |_, _| (),
    )
    .unwrap();
    let open = |format| folder::open(Cpu::new(1), out.path(), settings(format)).err();
    assert!(matches!(
        open(WeightFormat::Q8),
        Some(Error::Setting { .. })
    ));
    let heads = manifest.shards.iter().map(|shard| &shard.head);
    let units = manifest.units.iter().map(|unit| &unit.stored);
    for PackedPart {
        file, start, bytes, ..
    } in heads.chain(units)
    {
        let path = out.path().join(file);
        let whole = fs::read(&path).unwrap();
        let end = (start + bytes) as usize;
        let mut flipped = whole.clone();
        flipped[end - 1] ^= 1;
        for damaged in [&flipped[..], &whole[1..], &whole[..end - 1], &[]] {
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
    let mut manifest = folder::pack(
        Cpu::new(1),
        &fixture("gqa"),
        out.path(),
        settings,
        |_, _| (),
    )
    .unwrap();
    for file in ["../weights-1.bin", "/etc/passwd", "https://other.example/x"] {
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
