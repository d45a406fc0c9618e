//! Reports. Fixtures, and a small profiled run that the tests share; the tests are in the modules.

mod advice;
pub mod counts;
mod formats;
mod invalid_files;
mod reference;
mod spans;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use zamba2::base::clock::now_us;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::model::config::{BlockKind, Config};
use zamba2::ops::device::{Ceilings, Device};
use zamba2::ops::trace::{Level, Profile};
use zamba2::report::count::{Formats, ModuleWork};
use zamba2::report::measure::{NextRun, Protocol};
use zamba2::report::run::{
    Conditions, Memory, ModelFacts, ProfiledRun, RecordedLevel, Run, SCHEMA, Spans, Timer,
    UnprofiledRun,
};
use zamba2::session::{GenerateOptions, LoadSettings, Session};
use zamba2::text::sampling::SamplingOptions;

/// Every checkpoint of `tests/fixtures`.
fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = fs::read_dir(root).expect("the folder of fixtures is there");
    let mut dirs: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|dir| dir.join("config.json").exists());
    dirs.sort();
    assert!(!dirs.is_empty());
    dirs
}

fn f32_formats(config: &Config) -> Formats {
    Formats {
        weights: WeightFormat::F32,
        kv_position_bytes: 8.0 * config.kv_width() as f64,
        chunk_rows: Cpu::CHUNK_ROWS,
    }
}

fn sum(works: &[ModuleWork], of: impl Fn(&ModuleWork) -> f64) -> f64 {
    works.iter().map(of).sum()
}

fn open(dir: &Path, weights: WeightFormat) -> Session<Cpu> {
    let settings = LoadSettings {
        weights,
        context: None,
        numeric: NumericSettings::default(),
        memory_limit_bytes: None,
    };
    folder::open(Cpu::new(1), dir, settings).unwrap()
}

/// Times of one run, measured as the command line measures them, and the recorded profile.
fn measure(
    session: &mut Session<Cpu>,
    tokens: usize,
    steps: usize,
    level: Level,
) -> (UnprofiledRun, Profile) {
    let vocab_size = session.config().vocab_size;
    let ids: Vec<u32> = (0..tokens)
        .map(|i| (i * 7919 % vocab_size) as u32)
        .collect();
    let options = GenerateOptions {
        max_tokens: steps + 1,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        cache_prompt: false,
        lookup: 0,
        ..GenerateOptions::default()
    };
    session.set_recording(level);
    let start_us = now_us();
    session.start(&ids, options).unwrap();
    block_on(session.step()).unwrap();
    let prefill_us = now_us() - start_us;
    let mut step = || {
        let start_us = now_us();
        block_on(session.step()).unwrap();
        now_us() - start_us
    };
    let step_us = (0..steps).map(|_| step()).collect();
    let times = UnprofiledRun::new(prefill_us, step_us);
    (times, session.take_profile())
}

const CEILINGS: Ceilings = Ceilings {
    threads: 1,
    int8_gmacs_per_s: 100.0,
    int16_gmacs_per_s: 50.0,
    f32_gmacs_per_s: 25.0,
    read_gb_per_s: 20.0,
    copy_gb_per_s: Some(18.0),
};

fn measured(name: &str, level: RecordedLevel, tokens: usize, steps: usize, runs: usize) -> Run {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let mut session = open(&dir, WeightFormat::Q8);
    let recording = match level {
        RecordedLevel::Block => Level::Block,
        RecordedLevel::Module => Level::Module,
    };
    let protocol = Protocol {
        warmup: 0,
        runs,
        is_recorded: true,
    };
    let (mut profiled, mut unprofiled) = (Vec::new(), Vec::new());
    for next in protocol.sequence() {
        if next == NextRun::Profiled {
            let (times, profile) = measure(&mut session, tokens, steps, recording);
            profiled.push(ProfiledRun::new(times, profile));
        } else {
            unprofiled.push(measure(&mut session, tokens, steps, Level::Off).0);
        }
    }
    let run = Run {
        schema: SCHEMA.into(),
        made_ms: 1e12,
        label: "q8 · 1 thread".into(),
        model: ModelFacts {
            name: name.into(),
            parameters: session.schedule().parameters,
            config: session.config().into(),
        },
        conditions: Conditions {
            backend: "cpu".into(),
            weights: "q8".into(),
            threads: 1,
            isolated: None,
            context: session.context(),
            chunk_rows: Cpu::CHUNK_ROWS,
            kernels: Vec::new(),
            level,
            host: "test".into(),
            hidden_ms: 0.0,
        },
        timer: Timer {
            source: "clock".into(),
            resolution_us: 0.1,
        },
        ceilings: Some(CEILINGS),
        memory: Memory::new(session.config(), session.schedule(), session.kv_format()),
        prompt_tokens: tokens,
        decode_tokens: steps,
        warmup: 0,
        runs: profiled,
        unprofiled,
    };
    assert_eq!(run.check(), Ok(()));
    run
}

const HYBRID: &str = "one_block_adapters_rope";

/// A mamba block and a hybrid block with round times. Of the five passes the fastest and the slowest are trimmed.
fn known_run() -> Run {
    let mut run = measured(HYBRID, RecordedLevel::Module, 20, 0, 1);
    let kinds = &run.model.config.kinds;
    let plain = kinds
        .iter()
        .position(|kind| *kind == BlockKind::Mamba)
        .unwrap();
    let hybrid = kinds
        .iter()
        .position(|kind| *kind == BlockKind::Hybrid)
        .unwrap();
    let rows: [(String, i64, f64); 9] = [
        ("embed_tokens".into(), -1, 10.0),
        (format!("layers.{plain}"), -1, 100.0),
        ("mamba.in_proj".into(), 1, 60.0),
        ("mamba.out_proj".into(), 1, 30.0),
        (format!("layers.{hybrid}"), -1, 400.0),
        ("shared_transformer".into(), 4, 300.0),
        ("self_attn.q_proj".into(), 5, 200.0),
        ("feed_forward.down_proj".into(), 5, 80.0),
        ("mamba.in_proj".into(), 4, 90.0),
    ];
    let mut names: Vec<String> = Vec::new();
    for (name, ..) in &rows {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let spans = |times: f64| Spans {
        names: names.clone(),
        name: rows
            .iter()
            .map(|(name, ..)| names.iter().position(|n| n == name).unwrap())
            .collect(),
        parent: rows.iter().map(|row| row.1).collect(),
        pass: vec![0; rows.len()],
        start_us: vec![0.0; rows.len()],
        duration_us: rows.iter().map(|row| row.2 * times).collect(),
        flops: vec![0.0; rows.len()],
        bytes: vec![0.0; rows.len()],
        fused_with: Vec::new(),
    };
    run.runs = [1.0, 2.0, 2.0, 2.0, 50.0]
        .map(|times| ProfiledRun {
            prefill_us: 520.0 * times,
            step_us: Vec::new(),
            spans: spans(times),
        })
        .to_vec();
    run.unprofiled = [900.0, 1000.0, 1100.0]
        .map(|prefill_us| UnprofiledRun {
            prefill_us,
            step_us: Vec::new(),
        })
        .to_vec();
    assert_eq!(run.check(), Ok(()));
    run
}
