//! Whole models on a graphics adapter compared with the CPU: one block of each kind at the full widths of Zamba2-1.2B,
//! the cause of the difference at q4, and the number of dispatches per decode step. Single ops are in
//! `tests/webgpu`. Without an adapter each test prints that it was skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pollster::block_on;
use serde_json::{Value, json};
use tempfile::TempDir;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::candle::Candle;
use zamba2::device::cpu::Cpu;
use zamba2::device::webgpu::{AdapterOptions, WebGpu};
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::ops::device;
use zamba2::ops::trace::Level;
use zamba2::session::{GenerateOptions, LoadSettings, Lookahead, Session, argmax};
use zamba2::text::sampling::SamplingOptions;

use crate::adapter;
use crate::support::max_difference;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/rustdoc-5m");

/// A device for one test, or none if the machine has no adapter.
fn device(test: &str) -> Option<WebGpu> {
    match adapter::open(AdapterOptions::default()) {
        Ok(ops) => Some(ops),
        Err(Error::NoAdapter { fact }) => {
            println!("SKIPPED: {test}: {fact}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn open<B: device::Device>(device: B, dir: &Path, weights: WeightFormat) -> Session<B> {
    let settings = LoadSettings {
        weights,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(device, dir, settings).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

/// The logits of a prompt, and of two decode steps after it with the same tokens on every device.
fn logits<B: device::Device>(mut session: Session<B>, prompt: &[u32]) -> Vec<f32> {
    let mut all = block_on(session.logits(prompt)).unwrap();
    for token in [7, 3] {
        all.extend(block_on(session.append(&[token])).unwrap());
    }
    all
}

/// The configuration of a plain block and a hybrid block of Zamba2-1.2B (`transformers`' names); of the sizes only the
/// vocabulary is reduced.
pub fn two_blocks() -> String {
    let config = json!({
        "model_type": "zamba2",
        "vocab_size": 64,
        "max_position_embeddings": 4096,
        "hidden_size": 2048,
        "num_hidden_layers": 2,
        "layers_block_type": ["linear_attention", "hybrid"],
        "hybrid_layer_ids": [1],
        "mamba_d_state": 128,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
        "mamba_headdim": 64,
        "n_mamba_heads": 64,
        "time_step_min": 0.001,
        "time_step_max": 0.1,
        "time_step_floor": 0.0001,
        "use_conv_bias": true,
        "add_bias_linear": false,
        "intermediate_size": 8192,
        "hidden_act": "gelu",
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "attention_hidden_size": 4096,
        "attention_head_dim": 128,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": true,
        "adapter_rank": 128,
        "use_mem_rope": true,
        "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
        "rms_norm_eps": 1e-5,
        "use_long_context": false,
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0
    });
    config.to_string()
}

/// A checkpoint with random weights of a configuration.
pub fn made_from(config: &str, dir: &Path) -> PathBuf {
    let (shape, out) = (dir.join("config.json"), dir.join("made"));
    fs::write(&shape, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zamba2"));
    command.arg("make-checkpoint").arg("--shape").arg(&shape);
    let output = command.arg(&out).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

/// In f32 the devices sum up to 8192 products in different orders, which changes logits of about 5 by some 10⁻⁵. At q4
/// the CPU also rounds activations to eight bits; `at_q4_…` below shows that this is the difference.
#[test]
fn blocks_of_the_smallest_published_models_widths_give_the_cpus_logits() {
    let Some(ops) = device("full widths") else {
        return;
    };
    let temporary = TempDir::new().unwrap();
    let dir = made_from(&two_blocks(), temporary.path());
    // Enough tokens for the matrix kernels and the scan's dual form, with a partial tile in each.
    let prompt: Vec<u32> = (0..9).map(|i| i * 7 % 64).collect();
    let on_adapter = logits(open(ops, &dir, WeightFormat::F32), &prompt);
    let on_cpu = logits(open(Cpu::new(2), &dir, WeightFormat::F32), &prompt);
    let peak = on_cpu.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let difference = max_difference(&on_adapter, &on_cpu);
    println!("f32: {difference:e} of {peak}");
    assert!(difference <= 3e-5 * peak, "{difference} of {peak}");

    // A packed model is quantised once, not on each device.
    let packed = temporary.path().join("packed");
    let settings = LoadSettings {
        weights: WeightFormat::Q4,
        context: Some(64),
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::pack(Cpu::new(2), &dir, &packed, settings, |_, _| {}).unwrap();
    let ops = device("full widths").unwrap();
    // With fewer tokens another kernel computes them together.
    let prompt = &prompt[..3];
    let on_adapter = logits(open(ops, &packed, WeightFormat::Q4), prompt);
    let on_cpu = logits(open(Cpu::new(2), &packed, WeightFormat::Q4), prompt);
    let difference = max_difference(&on_adapter, &on_cpu);
    println!("q4: {difference:e} of {peak}");
    assert!(difference <= 0.1 * peak, "{difference} of {peak}");
    for (adapter, cpu) in on_adapter.chunks(64).zip(on_cpu.chunks(64)) {
        assert_eq!(argmax(adapter), argmax(cpu));
    }
}

/// The candle device multiplies the numbers that q4 represents by exact activations, and so does the adapter. The CPU
/// rounds activations to eight bits and differs several times as much.
#[test]
fn at_q4_the_adapter_is_closer_to_exact_activations_than_the_cpu_is() {
    let Some(on_adapter) = device("rounded activations") else {
        return;
    };
    let prompt: Vec<u32> = (0..33).map(|i| i * 29 % 512).collect();
    let (dir, q4) = (Path::new(MODEL), WeightFormat::Q4);
    let exact = logits(open(Candle::open(1).unwrap(), dir, q4), &prompt);
    let on_adapter = logits(open(on_adapter, dir, q4), &prompt);
    let on_cpu = logits(open(Cpu::new(1), dir, q4), &prompt);
    let adapter = max_difference(&on_adapter, &exact);
    let cpu = max_difference(&on_cpu, &exact);
    println!("from exact activations: adapter {adapter}, CPU {cpu}");
    assert!(3.0 * adapter < cpu, "{adapter} {cpu}");
}

/// A pass for each block would cost up to a millisecond per token on the smallest Apple GPUs.
#[test]
fn a_decode_step_has_one_pass_per_submission_unless_blocks_are_timed() {
    let Some(ops) = device("passes") else {
        return;
    };
    let mut session = open(ops, Path::new(MODEL), WeightFormat::Q4);
    block_on(session.logits(&[1, 2, 3])).unwrap();
    let step = |session: &mut Session<WebGpu>| {
        let before = session.backend().counts();
        block_on(session.append(&[4])).unwrap();
        let after = session.backend().counts();
        [
            after.passes - before.passes,
            after.submissions - before.submissions,
        ]
    };
    let [passes, submissions] = step(&mut session);
    assert_eq!(passes, submissions);
    if session.backend().timestamp_step_us().is_none() {
        println!("SKIPPED: passes of spans: the adapter has no timestamps");
        return;
    }
    // Of 38 blocks, six are timed in two parts; the embedding before them, and the logits after them.
    let timed = 38 + 6 + 2;
    session.set_block_times(1);
    assert_eq!(step(&mut session)[0], timed);
    session.set_block_times(0);
    session.set_recording(Level::Block);
    assert_eq!(step(&mut session)[0], timed);
    // Each op of a fused kernel has a span, and the kernel one pass.
    session.set_recording(Level::Module);
    assert_eq!(step(&mut session)[0], 164);
    session.set_recording(Level::Off);
    assert_eq!(step(&mut session), [passes, submissions]);
}

/// The embedded model has the blocks of Zamba2-1.2B, so a decode step has as many dispatches: 3 per mixer, 8 per call
/// of the shared transformer with its LoRA adapters and rotary embedding, and 2 around them.
#[test]
fn a_decode_step_of_the_smallest_published_models_blocks_is_164_dispatches() {
    let Some(ops) = device("kernels") else {
        return;
    };
    let config = fs::read_to_string(Path::new(MODEL).join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["num_hidden_layers"], 38);
    assert_eq!(config["hybrid_layer_ids"].as_array().unwrap().len(), 6);
    let mut session = open(ops, Path::new(MODEL), WeightFormat::Q4);
    block_on(session.logits(&[1, 2, 3])).unwrap();
    let before = session.backend().counts();
    block_on(session.append(&[4])).unwrap();
    let after = session.backend().counts();
    assert_eq!(after.dispatches - before.dispatches, 38 * 3 + 6 * 8 + 2);
    assert_eq!(after.dispatches - before.dispatches, 164);
}

/// The uniform blocks that a step shares with the one before are in the device's memory already. What is new says at
/// which position the step is, and has the random number.
#[test]
fn a_generated_token_uploads_less_than_a_kilobyte_and_has_one_readback() {
    let Some(ops) = device("uploads") else {
        return;
    };
    let mut session = open(ops, Path::new(MODEL), WeightFormat::Q4);
    // As many at any speed: otherwise a step may submit none or two.
    session.set_lookahead(Lookahead {
        min_steps: 2,
        max_steps: 2,
    });
    let penalised = SamplingOptions {
        repetition_penalty: 1.1,
        ..SamplingOptions::default()
    };
    let greedy = SamplingOptions {
        temperature: 0.0,
        ..SamplingOptions::default()
    };
    for (what, sampling, alternatives) in [
        ("greedy", greedy, 0),
        ("drawn", SamplingOptions::default(), 5),
        ("penalised", penalised.clone(), 0),
        ("penalised, with ranks", penalised, 5),
    ] {
        let options = GenerateOptions {
            sampling,
            alternatives,
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        session.start(&[1, 300, 301], options).unwrap();
        let mut before = session.backend().counts();
        for token in 0..24 {
            block_on(session.step()).unwrap();
            let after = session.backend().counts();
            // The first tokens come from the host. After 16 tokens a state checkpoint is made.
            if token > 3 {
                let uploaded_bytes = after.uploaded_bytes - before.uploaded_bytes;
                assert!(
                    uploaded_bytes <= 1024,
                    "{what}, token {token}: {uploaded_bytes}"
                );
                assert_eq!(
                    after.readbacks - before.readbacks,
                    1,
                    "{what}, token {token}"
                );
                assert_eq!(
                    after.submissions - before.submissions,
                    1,
                    "{what}, token {token}"
                );
            }
            before = after;
        }
    }
}
