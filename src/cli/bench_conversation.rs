//! `zamba2 bench-conversation`: time to first token and prefilled tokens of each turn of a conversation.

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::clock::now_us;
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, Session};
use zamba2::text::sampling::SamplingOptions;

use super::bench::Spread;
use super::device::{CliDevice, on_device};
use super::{Failure, OpenArguments, print, print_json};

/// Measure a conversation of made-up tokens, turn by turn.
///
/// Each prompt is the previous prompt, its answer and a new message. The first run warms up; a figure is the median of
/// the others.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// Turns of the conversation.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    turns: u32,

    /// Tokens of each message.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    message: u32,

    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    answer: u32,

    /// Prefill every prompt as a whole.
    #[arg(long)]
    no_cache: bool,

    #[arg(long, help = super::weights_help(), default_value = "q8", value_name = "FORMAT")]
    weights: WeightFormat,

    /// Runs to measure.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Clone, Copy)]
struct MeasuredTurn {
    prompt_tokens: usize,
    read_tokens: usize,
    ttft_ms: f64,
}

#[derive(Serialize)]
struct Turn {
    prompt_tokens: usize,
    read_tokens: usize,
    ttft_ms: Spread,
}

#[derive(Serialize)]
struct Output {
    weights: &'static str,
    backend: &'static str,
    threads: usize,
    runs: u32,
    message_tokens: u32,
    answer_tokens: u32,
    cache_prompt: bool,
    turns: Vec<Turn>,
    /// Medians of the time to the first token: last turn ÷ second turn.
    last_to_second: f64,
    checkpoints_bytes: u64,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments, json))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let mut session =
        (arguments.open).open(device, arguments.weights, NumericSettings::default())?;
    converse(&mut session, arguments)?;
    let runs: Vec<Vec<MeasuredTurn>> = (0..arguments.runs)
        .map(|_| converse(&mut session, arguments))
        .collect::<Result<_, _>>()?;
    let turns: Vec<Turn> = (0..arguments.turns as usize)
        .map(|i| Turn {
            prompt_tokens: runs[0][i].prompt_tokens,
            read_tokens: runs[0][i].read_tokens,
            ttft_ms: Spread::of(runs.iter().map(|run| run[i].ttft_ms).collect()),
        })
        .collect();
    let output = Output {
        weights: arguments.weights.name(),
        backend: session.backend().label(),
        threads: session.backend().threads(),
        runs: arguments.runs,
        message_tokens: arguments.message,
        answer_tokens: arguments.answer,
        cache_prompt: !arguments.no_cache,
        last_to_second: turns[turns.len() - 1].ttft_ms.median / turns[1].ttft_ms.median,
        turns,
        checkpoints_bytes: session.checkpoints_bytes(),
    };
    if json {
        return print_json(&output);
    }
    print(&table(&output))
}

/// One conversation from its beginning.
fn converse<B: CliDevice>(
    session: &mut Session<B>,
    arguments: &Arguments,
) -> Result<Vec<MeasuredTurn>, Failure> {
    let options = GenerateOptions {
        max_tokens: arguments.answer as usize,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        cache_prompt: !arguments.no_cache,
        lookup: 0,
        ..GenerateOptions::default()
    };
    let vocab_size = session.config().vocab_size as u64;
    session.reset();
    let mut prompt = Vec::new();
    let mut turns = Vec::new();
    for turn in 0..u64::from(arguments.turns) {
        // Multiples of a prime visit the whole vocabulary; each turn starts at another one.
        let places = (0..u64::from(arguments.message)).map(|i| 1 + turn + i * 7919);
        prompt.extend(places.map(|place| (place % vocab_size) as u32));
        let start_us = now_us();
        let cached_tokens = session.start(&prompt, options.clone())?;
        let mut answer = vec![block_on(session.step())?.token];
        turns.push(MeasuredTurn {
            prompt_tokens: prompt.len(),
            read_tokens: prompt.len() - cached_tokens,
            ttft_ms: (now_us() - start_us) / 1e3,
        });
        for _ in 1..arguments.answer {
            answer.push(block_on(session.step())?.token);
        }
        prompt.extend(answer);
    }
    Ok(turns)
}

fn table(output: &Output) -> String {
    let mut text = format!(
        "{} weights, {}, {} threads, {} runs, messages of {} tokens, answers of {}{}\n\
         {:>4} {:>8} {:>6} {:>10} {:>10} {:>10}\n",
        output.weights,
        output.backend,
        output.threads,
        output.runs,
        output.message_tokens,
        output.answer_tokens,
        if output.cache_prompt {
            ""
        } else {
            ", every prompt read as a whole"
        },
        "turn",
        "prompt",
        "read",
        "ms",
        "least",
        "most",
    );
    for (i, turn) in output.turns.iter().enumerate() {
        text.push_str(&format!(
            "{:>4} {:>8} {:>6} {:>10.1} {:>10.1} {:>10.1}\n",
            i + 1,
            turn.prompt_tokens,
            turn.read_tokens,
            turn.ttft_ms.median,
            turn.ttft_ms.min,
            turn.ttft_ms.max,
        ));
    }
    text.push_str(&format!(
        "The last turn's first token takes {:.2} times the second's. State checkpoints take {:.1} MB.\n",
        output.last_to_second,
        output.checkpoints_bytes as f64 / 1e6,
    ));
    text
}
