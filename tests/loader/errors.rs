//! Missing, surplus and invalid bytes are errors that name their place.

use std::fs;
use std::path::Path;

use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::loader::safetensors::{Dtype, Shard};
use zamba2::loader::schedule::LoadSchedule;

use super::{Checkpoint, fixture, settings};

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
