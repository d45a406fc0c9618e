//! Whole models on an adapter compared with the reference, limits of devices, and the self-test.

use std::path::Path;

use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat::Q4;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{
    AdapterFacts, AdapterOptions, Feature, FeatureFallback, OptionalFeatures, TunedOp, WebGpu,
};
use zamba2::model::config::Config;
use zamba2::ops::Ops;
use zamba2::ops::device::{AttentionShape, Device, KvFormat, ModelSizes};
use zamba2::ops::trace::Level;
use zamba2::session::{self, GenerateOptions, LoadSettings, Session, argmax};
use zamba2::text::sampling::SamplingOptions;
use zamba2::{folder, self_test};

use super::variants::choices;
use super::{device, on_device};
use crate::cases::*;
use crate::inside;
use crate::support::{F32, Golden, goldens, max_difference};
use crate::webgpu_widths::two_blocks;

/// f32 sums in another order and WGSL's exponentials; logits of these nets spread by about 3.
const TOLERANCE: f32 = 2e-3;

/// The most variants of an op in f32, apart from the first.
const N_VARIANTS: usize = 5;

/// Calls `body` with a session of each golden net.
fn for_goldens(test: &str, mut body: impl FnMut(&Golden, Session<WebGpu>)) {
    for golden in goldens() {
        let Some(ops) = device(test, AdapterOptions::default()) else {
            return;
        };
        let session = folder::open(ops, &golden.dir, F32)
            .unwrap_or_else(|error| panic!("{}: {error}", golden.name()));
        body(&golden, session);
    }
}

#[test]
fn the_limit_of_host_memory_refuses_a_model_on_the_cpu_and_not_on_webgpu() {
    let Some(ops) = device("memory limit", AdapterOptions::default()) else {
        return;
    };
    let settings = LoadSettings {
        memory_limit_bytes: Some(1),
        ..F32
    };
    let dir = &goldens()[0].dir;
    let loaded = folder::open(ops, dir, settings);
    assert!(loaded.is_ok(), "{:?}", loaded.err());
    let refused = folder::open(Cpu::new(1), dir, settings).err();
    let code = refused.as_ref().map(Error::code);
    assert_eq!(code, Some("memory_limit"), "{refused:?}");
}

#[test]
fn hidden_states_and_logits_of_a_prompt_equal_the_reference() {
    for_goldens("prefill", |golden, mut session| {
        let ids = golden.ids("input_ids");
        let states = block_on(session.hidden_states(&ids)).unwrap();
        let expected = golden.numbers("hidden_states");
        for (i, (state, expected)) in (states.iter())
            .zip(expected.chunks(states[0].len()))
            .enumerate()
        {
            let difference = max_difference(state, expected);
            let name = golden.name();
            assert!(
                difference <= TOLERANCE,
                "{name} after {i} blocks: {difference}"
            );
        }
        let logits = block_on(session.logits(&ids)).unwrap();
        let difference = max_difference(&logits, &golden.numbers("prefill_logits"));
        assert!(difference <= TOLERANCE, "{}: {difference}", golden.name());
    });
}

#[test]
fn inspections_equal_the_reference() {
    for_goldens("inspections", |golden, mut session| {
        // Adapters, positions, and keys shared by heads.
        if ["one_block_adapters_rope", "gqa"].contains(&&golden.name()[..]) {
            let inspection = inside::inspect_golden(&mut session, golden);
            inside::assert_equals_reference(&inspection, golden);
        }
    });
}

/// With other variants of the kernels than above, each of them in two nets at least.
#[test]
fn greedy_decoding_equals_the_reference_for_24_steps_with_every_variant() {
    let mut index = 0;
    for_goldens("decode", |golden, mut session| {
        index = index % N_VARIANTS + 1;
        let forced = choices(session.backend(), F32.weights, index);
        let chosen = block_on(session.choose_kernels(&forced, f64::INFINITY)).unwrap();
        assert_eq!(chosen, forced, "{}", golden.name());
        let vocab_size = session.config().vocab_size;
        let mut row = block_on(session.logits(&golden.ids("input_ids"))).unwrap();
        row.drain(..row.len() - vocab_size);
        let (mut ids, mut logits) = (Vec::new(), Vec::new());
        for _ in 0..24 {
            let id = argmax(&row);
            ids.push(id);
            logits.extend_from_slice(&row);
            row = block_on(session.append(&[id])).unwrap();
        }
        assert_eq!(ids, golden.ids("greedy_ids"), "{}", golden.name());
        let difference = max_difference(&logits, &golden.numbers("greedy_logits"));
        assert!(difference <= TOLERANCE, "{}: {difference}", golden.name());
    });
}

/// Quantised activations make the CPU's q8 and q4 slightly less exact than the adapter's; for this text no two
/// candidates are close enough to swap.
#[test]
fn the_embedded_model_generates_the_same_text_as_on_the_cpu() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/rustdoc-5m");
    for weights in FORMATS {
        let Some(ops) = device("the embedded model", AdapterOptions::default()) else {
            return;
        };
        let settings = LoadSettings { weights, ..F32 };
        let on_cpu = greedy_text(&mut folder::open(Cpu::new(1), &dir, settings).unwrap());
        let mut session = folder::open(ops, &dir, settings).unwrap();
        // In each format tiles give the same bits (`variants.rs`).
        let n_tiles = match weights {
            Q4 => TunedOp::LinearMat.variants().len(),
            _ => 1,
        };
        for tile in 0..n_tiles {
            let forced = choices(session.backend(), weights, tile);
            block_on(session.choose_kernels(&forced, 0.0)).unwrap();
            let on_adapter = greedy_text(&mut session);
            assert_eq!(on_adapter, on_cpu, "{weights:?} {forced:?}");
        }
    }
}

const TEXT: &str = "Returns the number of elements in the vector, also referred to as its length. ";

/// Greedy text after a fixed prompt, which is computed again.
fn greedy_text<D: Device>(session: &mut Session<D>) -> String {
    let tokenizer = session.tokenizer().unwrap();
    let prompt = tokenizer.encode(&TEXT.repeat(4), true).unwrap();
    assert!(prompt.len() > 64, "more than one tile: {}", prompt.len());
    let options = GenerateOptions {
        max_tokens: 8,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ..GenerateOptions::default()
    };
    session.reset();
    session.start(&prompt, options).unwrap();
    let mut text = String::new();
    loop {
        let step = block_on(session.step()).unwrap();
        text.push_str(&step.text);
        if step.done.is_some() {
            return text;
        }
    }
}

/// Keys, values and states make a round trip as bytes, and a rewind replays the tokens after a state checkpoint.
#[test]
fn a_sequence_continues_from_its_snapshot_as_if_it_had_never_stopped() {
    for_goldens("snapshot", |golden, mut session| {
        let options = GenerateOptions {
            max_tokens: 8,
            sampling: SamplingOptions {
                temperature: 0.0,
                ..SamplingOptions::default()
            },
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let n = session.context().min(8 + golden.ids("input_ids").len());
        let prompt = &golden.ids("input_ids")[..n - 8];
        session.start(prompt, options).unwrap();
        for _ in 0..4 {
            block_on(session.step()).unwrap();
        }
        let bytes = block_on(session.snapshot("note")).unwrap();
        let rest = |session: &mut Session<WebGpu>| -> Vec<u32> {
            (0..4)
                .map(|_| block_on(session.step()).unwrap().token)
                .collect()
        };
        let unbroken = rest(&mut session);
        let restored = block_on(session.restore(&bytes)).unwrap();
        let mut tokens = restored.tokens;
        let mut again = Vec::new();
        for _ in 0..4 {
            // The last token of the snapshot is chosen and not read yet.
            let unread = &tokens[session.len()..];
            let logits = block_on(session.append(unread)).unwrap();
            tokens.push(argmax(&logits));
            again.push(argmax(&logits));
        }
        assert_eq!(again, unbroken, "{}", golden.name());
    });
}

#[test]
fn a_model_too_large_for_kernels_or_bindings_is_refused_with_its_size() {
    let narrow = AdapterOptions {
        max_binding_bytes: Some(1 << 20),
        ..AdapterOptions::default()
    };
    let Some(ops) = device("model sizes", narrow) else {
        return;
    };
    let sizes = |head_dim, d_state, context, kv_format| ModelSizes {
        attention: AttentionShape {
            n_heads: 2,
            n_kv_heads: 2,
            head_dim,
            scale: 1.0,
        },
        d_state,
        context,
        kv_format,
    };
    // 1024 positions of two heads of 128 numbers are exactly 1 MiB in f32.
    ops.check_sizes(&sizes(128, 256, 1024, KvFormat::F32))
        .unwrap();
    for (sizes, named) in [
        (sizes(513, 16, 1, KvFormat::F32), "513"),
        (sizes(8, 257, 1, KvFormat::F32), "257"),
        (sizes(128, 16, 1025, KvFormat::F32), "1025 positions"),
        (sizes(128, 16, 4097, KvFormat::I8), "4097 positions"),
        // Padded to 32 bytes per head.
        (sizes(20, 16, 16_385, KvFormat::I8), "16385 positions"),
    ] {
        let refused = ops.check_sizes(&sizes);
        let Err(Error::DeviceLimit { fact }) = refused else {
            panic!("{refused:?}");
        };
        assert!(fact.to_string().contains(named), "{fact}");
    }
}

/// The modules of a decode step's profile, in order, each with its FLOPs and bytes.
fn recorded<D: Device>(session: &mut Session<D>) -> Vec<(String, f64, f64)> {
    block_on(session.logits(&[1, 2, 3])).unwrap();
    session.set_recording(Level::Module);
    block_on(session.append(&[4])).unwrap();
    let profile = session.take_profile();
    assert!(profile.duration_us.iter().all(|us| *us >= 0.0));
    let name = |row: usize| profile.names[usize::from(profile.name[row])].clone();
    (0..profile.len())
        .map(|row| (name(row), profile.flops[row], profile.bytes[row]))
        .collect()
}

/// Fused or not: every op keeps its name and its work.
#[test]
fn a_decode_step_has_the_same_modules_with_the_same_work_as_on_the_cpu() {
    for_goldens("modules of a profile", |golden, mut session| {
        let mut on_cpu = folder::open(Cpu::new(1), &golden.dir, F32).unwrap();
        let sorted = |mut modules: Vec<_>| {
            // Fused ops are in the order of kernels: an adapter's first matrix comes before another's second.
            modules.sort_by(|a: &(String, f64, f64), b| a.partial_cmp(b).unwrap());
            modules
        };
        let (got, expected) = (recorded(&mut session), recorded(&mut on_cpu));
        assert_eq!(sorted(got), sorted(expected), "{}", golden.name());
    });
}

/// The self-test that decides in a browser whether this backend is used.
#[test]
fn the_self_test_passes_in_every_format() {
    let config = Config::from_json(&two_blocks()).unwrap();
    for weights in FORMATS {
        on_device("self-test", |ops| {
            let kv = session::kv_format(weights);
            block_on(self_test::run(ops, &config, weights, kv)).unwrap();
            block_on(self_test::run_decode_step(ops, &config, weights, kv)).unwrap();
        });
    }
}

/// Opens devices until one passes its self-test, as `Engine::test_device` does; gives the features that were left out.
fn dropped(test: &str, wrong_features: OptionalFeatures) -> Option<(Vec<Feature>, AdapterFacts)> {
    let config = Config::from_json(&two_blocks()).unwrap();
    let mut options = AdapterOptions {
        wrong_features,
        ..AdapterOptions::default()
    };
    let mut fallback = FeatureFallback::new(options);
    loop {
        let ops = &mut Ops::new(device(test, options)?);
        let tested = block_on(self_test::run_decode_step(ops, &config, Q4, KvFormat::I8));
        let tested = tested.and(block_on(self_test::run(ops, &config, Q4, KvFormat::I8)));
        let facts = ops.device().adapter();
        let Err(error) = tested else {
            let dropped = fallback.dropped(facts).into_iter();
            return Some((dropped.map(|(feature, _)| feature).collect(), facts.clone()));
        };
        assert!(matches!(error, Error::SelfTest { .. }), "{error}");
        options = fallback.next(facts, error).expect("the baseline is right");
    }
}

/// A driver that is wrong about one feature costs this feature and not the whole device.
#[test]
fn a_feature_that_gives_wrong_results_is_left_out() {
    let right = OptionalFeatures::default();
    let Some((none, facts)) = dropped("features", right) else {
        return;
    };
    assert_eq!(none, []);
    if facts.subgroups {
        let subgroups = true;
        let wrong = OptionalFeatures { subgroups, ..right };
        let (dropped, without) = dropped("subgroups", wrong).unwrap();
        assert_eq!(dropped, [Feature::Subgroups]);
        assert_eq!((without.subgroups, without.f16), (false, facts.f16));
    }
    if facts.f16 {
        let wrong = OptionalFeatures { f16: true, ..right };
        let (dropped, without) = dropped("f16", wrong).unwrap();
        assert_eq!(dropped, [Feature::F16]);
        assert_eq!((without.subgroups, without.f16), (facts.subgroups, false));
    }
    if facts.subgroups && facts.f16 {
        let both = facts.features();
        let (dropped, without) = dropped("both", both).unwrap();
        assert_eq!(dropped, [Feature::Subgroups, Feature::F16]);
        assert_eq!((without.subgroups, without.f16), (false, false));
    }
}
