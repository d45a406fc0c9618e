//! `zamba2 profile`: where the time of a prompt and of each token goes, by the library's measuring protocol and in the
//! formats of its reports.

use std::fs;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use pollster::block_on;
use zamba2::base::clock::now_us;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::ops::trace::{Level, Profile};
use zamba2::report;
use zamba2::report::measure::{self, DECODE_TOKENS, NextRun, PROMPT_TOKENS, Protocol, RUNS};
use zamba2::report::run::{
    self, Conditions, MAX_RUNS, Memory, ModelFacts, ProfiledRun, RecordedLevel, Run, SCHEMA, Timer,
    UnprofiledRun,
};
use zamba2::report::summary::summarise;
use zamba2::session::{GenerateOptions, Session};
use zamba2::text::sampling::SamplingOptions;
use zamba2::words::Language;

use super::device::{CliDevice, on_device};
use super::progress::Progress;
use super::{Failure, OpenArguments, print, proc_bytes};

/// Measure where the time goes, block by block and module by module, and write a report.
///
/// One run warms up; then runs with and without recording alternate, which shows what recording costs. The ceilings of
/// the machine are measured first. With --json the run file is printed (docs/run-format.md).
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    #[arg(long, help = super::weights_help(), default_value = "q4", value_name = "FORMAT")]
    weights: WeightFormat,

    /// The text of the prompt. Default: a built-in one.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,

    /// Tokens of the prompt: a text is cut or repeated to this length.
    #[arg(
        long,
        value_name = "N",
        default_value_t = PROMPT_TOKENS as u32,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    prompt_tokens: u32,

    /// Tokens to decode in each run.
    #[arg(
        long,
        value_name = "N",
        default_value_t = DECODE_TOKENS as u32,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    decode: u32,

    /// Runs to measure, each with and without recording.
    #[arg(
        long,
        value_name = "N",
        default_value_t = RUNS as u32,
        value_parser = clap::value_parser!(u32).range(1..=MAX_RUNS as i64)
    )]
    runs: u32,

    /// What is recorded: every op, or blocks only, which adds less overhead.
    #[arg(long, value_enum, default_value_t = RecordAt::Module)]
    level: RecordAt,

    /// Do not measure the ceilings of the machine; the report then has no percentages of them.
    #[arg(long)]
    no_ceilings: bool,

    /// The format of the output.
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,

    #[arg(long, help = language_help(), default_value = Language::En.code())]
    language: Language,

    /// A file for the report, instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn language_help() -> String {
    let codes = Language::ALL.iter().map(|language| language.code());
    let codes: Vec<&str> = codes.collect();
    format!("The language of the report: {}", codes.join(", "))
}

#[derive(Clone, Copy, ValueEnum)]
enum RecordAt {
    Module,
    Block,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// A report to read.
    Markdown,
    /// The run file, which the page and this program can open again.
    Json,
    /// One table for spreadsheets.
    Csv,
    /// For Perfetto, speedscope and chrome://tracing.
    Trace,
    /// Every derived figure as JSON.
    Summary,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments, json))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let mut session = arguments
        .open
        .open(device, arguments.weights, NumericSettings::default())?;
    let ids = prompt(&session, arguments)?;
    let tokens = ids.len() + arguments.decode as usize;
    if tokens > session.context() {
        return Err(Failure::Model(Error::PromptTooLong {
            tokens,
            limit: session.context(),
        }));
    }
    let measured = !arguments.no_ceilings;
    let ceilings = measured.then(|| session.backend_mut().ceilings());
    let ceilings = ceilings.transpose()?;

    let (level, recorded) = match arguments.level {
        RecordAt::Module => (Level::Module, RecordedLevel::Module),
        RecordAt::Block => (Level::Block, RecordedLevel::Block),
    };
    let protocol = Protocol {
        runs: arguments.runs as usize,
        ..Protocol::default()
    };
    let decode = arguments.decode;
    let (runs, unprofiled) = run_all(&mut session, &ids, decode, protocol, level)?;

    let mut memory = Memory::new(session.config(), session.schedule(), session.kv_format());
    memory.process_bytes = proc_bytes("/proc/self/status", "VmRSS");
    let device = session.backend();
    let (backend, threads) = (device.label(), device.threads());
    let (timer, step_us) = device.timer();
    let weights = arguments.weights.name();
    let place = match device.adapter() {
        Some(adapter) => adapter.name,
        None => format!("{threads} thread{}", if threads == 1 { "" } else { "s" }),
    };
    let made = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = Run {
        schema: SCHEMA.into(),
        made_ms: made.map_or(0.0, |made| made.as_millis() as f64),
        label: format!("{weights} · {place} · native"),
        model: ModelFacts {
            name: model_name(arguments),
            parameters: session.schedule().parameters,
            config: session.config().into(),
        },
        conditions: Conditions {
            backend: backend.into(),
            weights: weights.into(),
            threads,
            isolated: None,
            context: session.context(),
            chunk_rows: B::CHUNK_ROWS,
            kernels: device.kernel_choices(),
            level: recorded,
            host: format!("native {}-{}", std::env::consts::ARCH, std::env::consts::OS),
            hidden_ms: 0.0,
        },
        timer: Timer {
            source: timer.into(),
            resolution_us: step_us.unwrap_or_else(clock_step_us),
        },
        ceilings: ceilings.map(run::rounded),
        memory,
        prompt_tokens: ids.len(),
        decode_tokens: decode as usize,
        warmup: protocol.warmup,
        runs,
        unprofiled,
    };
    debug_assert_eq!(run.check(), Ok(()));
    write(&run, arguments, json)
}

fn write(run: &Run, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let language = arguments.language;
    let export = |format| report::export(run, format, language);
    let text = match arguments.format {
        _ if json => export(report::Format::Json),
        Format::Markdown => export(report::Format::Markdown),
        Format::Json => export(report::Format::Json),
        Format::Csv => export(report::Format::Csv),
        Format::Trace => export(report::Format::Trace),
        Format::Summary => serde_json::to_string(&summarise(run)).expect("a summary is plain data"),
    };
    match &arguments.out {
        Some(file) => fs::write(file, text).map_err(|error| Failure::write(file, &error)),
        None if text.ends_with('\n') => print(&text),
        None => print(&format!("{text}\n")),
    }
}

fn prompt<B: CliDevice>(session: &Session<B>, arguments: &Arguments) -> Result<Vec<u32>, Failure> {
    let ids = match (&arguments.prompt, session.tokenizer()) {
        (Some(text), tokenizer) => Some(tokenizer?.encode(text, true)?),
        (None, Ok(tokenizer)) => Some(tokenizer.encode(report::PROMPT, true)?),
        (None, Err(_)) => None,
    };
    if ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::Model(Error::EmptyPrompt));
    }
    let length = arguments.prompt_tokens as usize;
    let vocab_size = session.config().vocab_size;
    Ok(measure::prompt(ids.as_deref(), length, vocab_size))
}

/// All runs in the order of `protocol`: those recorded at `level`, and those without a profile.
fn run_all<B: CliDevice>(
    session: &mut Session<B>,
    ids: &[u32],
    decode: u32,
    protocol: Protocol,
    level: Level,
) -> Result<(Vec<ProfiledRun>, Vec<UnprofiledRun>), Failure> {
    let (mut runs, mut unprofiled) = (Vec::new(), Vec::new());
    let sequence: Vec<_> = protocol.sequence().collect();
    let progress = Progress::of_steps("Runs", sequence.len() as u64);
    for next in sequence {
        let level = match next {
            NextRun::Profiled => level,
            NextRun::WarmUp | NextRun::Unprofiled => Level::Off,
        };
        let (times, profile) = run_once(session, ids, decode, level)?;
        match next {
            NextRun::WarmUp => {}
            NextRun::Unprofiled => unprofiled.push(times),
            NextRun::Profiled => runs.push(ProfiledRun::new(times, profile)),
        }
        progress.advance(1);
    }
    Ok((runs, unprofiled))
}

/// One sequence: the time from the ids to the first token, the time of each step after it, and the recorded spans.
fn run_once<B: CliDevice>(
    session: &mut Session<B>,
    ids: &[u32],
    decode: u32,
    level: Level,
) -> Result<(UnprofiledRun, Profile), Failure> {
    let options = GenerateOptions {
        max_tokens: decode as usize + 1,
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
    session.start(ids, options)?;
    block_on(session.step())?;
    let prefill_us = now_us() - start_us;
    let mut step_us = Vec::with_capacity(decode as usize);
    for _ in 0..decode {
        // The step's own time: a step in flight has begun before the call.
        step_us.push(block_on(session.step())?.us);
    }
    let times = UnprofiledRun::new(prefill_us, step_us);
    Ok((times, session.take_profile()))
}

/// The folder's own name.
fn model_name(arguments: &Arguments) -> String {
    let dir = &arguments.open.dir;
    let whole = dir.canonicalize();
    let dir = whole.as_deref().unwrap_or(dir);
    let name = dir.file_name().map(|name| name.to_string_lossy());
    name.map_or_else(|| "model".into(), |name| name.into_owned())
}

/// The resolution of the clock.
fn clock_step_us() -> f64 {
    let step = || {
        let start = Instant::now();
        loop {
            let step = start.elapsed();
            if !step.is_zero() {
                return step.as_secs_f64() * 1e6;
            }
        }
    };
    (0..8).map(|_| step()).fold(f64::INFINITY, f64::min)
}
