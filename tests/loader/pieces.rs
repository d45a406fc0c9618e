//! However a checkpoint is split into pieces and files, and however far a pass has advanced meanwhile, the logits are
//! bit-identical.

use pollster::block_on;
use serde_json::json;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::loader::WeightStream;
use zamba2::model::cache::Cache;
use zamba2::model::forward::{ForwardPass, Progress, Scratch};
use zamba2::model::module::Unit;
use zamba2::model::{NumericSettings, Zamba2};
use zamba2::ops::Ops;
use zamba2::ops::device::KvFormat;

use super::{Checkpoint, FORMATS, N_TOKENS, all_fixtures, bits, fixture, settings, tokens};

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
        let (config, ops) = (checkpoint.config(), &mut Ops::new(Cpu::new(1)));
        let plan = schedule.plan.clone();
        let mut cache = Cache::new(ops, &config, 128, KvFormat::I8);
        let mut scratch = Scratch::new(ops, &config);
        let mut model = Zamba2::empty(ops, config, NumericSettings::default(), plan);
        let mut stream = WeightStream::new(schedule, WeightFormat::Q4);

        let mut pass = None;
        let mut blocks_done = 0;
        let n_blocks = model.blocks.len();
        for (i, (unit, bytes)) in order.iter().zip(checkpoint.units()).enumerate() {
            let (last, first) = bytes.split_last().unwrap();
            stream.push(ops, &mut model, first).unwrap();
            assert_eq!(
                stream.units_done(),
                i,
                "{name}: {unit:?} must not count before it is complete"
            );
            if let Some(pass) = &mut pass {
                let progress =
                    ForwardPass::advance(pass, ops, &model, &mut cache, &mut scratch, 100);
                let waiting = Progress::Waiting { block: blocks_done };
                let expected = if blocks_done == n_blocks {
                    Progress::Done
                } else {
                    waiting
                };
                assert_eq!(progress, expected, "{name} before {unit:?}");
            }
            stream.push(ops, &mut model, &[*last]).unwrap();
            assert_eq!(stream.units_done(), i + 1);
            if *unit == Unit::Embedding {
                pass = Some(ForwardPass::new(ops, &model, &cache, &tokens()));
            }
            let pass = pass.as_mut().expect("the embedding comes first");
            if *unit == Unit::Block(blocks_done) {
                blocks_done += 1;
            }
            pass.advance(ops, &model, &mut cache, &mut scratch, 100);
        }
        assert_eq!(blocks_done, n_blocks);
        assert_eq!(
            cache.len, N_TOKENS as usize,
            "the cache length must not depend on the number of `advance` calls"
        );
        stream.finish().unwrap();
        let pass = pass.unwrap();
        let mut logits = Vec::new();
        let mut chunk_logits = ops.tensor(N_TOKENS as usize, model.config.vocab_size);
        for chunk in 0..pass.n_chunks() {
            pass.chunk_logits(ops, &model, chunk, &mut scratch, &mut chunk_logits);
            logits.extend(block_on(ops.read(&chunk_logits)).unwrap());
        }
        assert!(bits(logits) == expected, "{name}");
    }
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
    assert!(
        bits(next) == expected,
        "the early prompt changed later logits"
    );
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
