//! `zamba2 bench-lookup`: decode with and without lookup drafts, on texts that repeat themselves and on one that does
//! not. The model is forced to produce made-up texts, so random weights suffice: which drafts are right depends on the
//! text only.

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::clock::now_us;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, Session};
use zamba2::text::sampling::{SamplingOptions, TokenSet};

use super::bench::Spread;
use super::device::{CliDevice, on_device};
use super::{Failure, OpenArguments, print, print_json};

/// Measure decode steps with and without lookup drafts, on made-up texts.
///
/// "copy" repeats its prompt in pieces of 24 tokens with 4 new ones between them, as an edited file does; "loop"
/// repeats 8 tokens; "fresh" has pairs of tokens that occurred before, and other tokens after them. Runs with and
/// without drafts take turns; the first of each warms up, and a figure is the median of the others.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// Tokens to draft at most.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10))]
    lookup: u32,

    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..))]
    prompt: u32,

    /// Tokens to decode in each run.
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..))]
    decode: u32,

    #[arg(long, help = super::weights_help(), default_value = "q4", value_name = "FORMAT")]
    weights: WeightFormat,

    /// Runs to measure of each kind.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Serialize)]
struct MeasuredText {
    text: &'static str,
    /// Milliseconds per token.
    plain_ms: Spread,
    lookup_ms: Spread,
    /// Medians: plain ÷ lookup.
    speedup: f64,
    /// Counted in the last run.
    drafted: usize,
    accepted_drafts: usize,
}

#[derive(Serialize)]
struct Output {
    weights: &'static str,
    backend: &'static str,
    threads: usize,
    runs: u32,
    prompt_tokens: u32,
    decode_tokens: u32,
    lookup: u32,
    texts: Vec<MeasuredText>,
}

/// Tokens before this one are special: the end token would end the run.
const FIRST_TOKEN: usize = 3;

/// Milliseconds per token, and the drafts of one run.
struct Measured {
    token_ms: f64,
    drafted: usize,
    accepted_drafts: usize,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments, json))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let mut session =
        (arguments.open).open(device, arguments.weights, NumericSettings::default())?;
    let (n_prompt, n_decoded) = (arguments.prompt as usize, arguments.decode as usize);
    let n_tokens = n_prompt + n_decoded + 1;
    if n_tokens > session.context() {
        return Err(Failure::Model(Error::PromptTooLong {
            tokens: n_tokens,
            limit: session.context(),
        }));
    }
    let vocab_size = session.config().vocab_size;
    let texts = ["copy", "loop", "fresh"].map(|name| {
        let tokens = made_up(name, n_prompt, n_tokens, vocab_size);
        measure_text(&mut session, arguments, name, &tokens)
    });
    let output = Output {
        weights: arguments.weights.name(),
        backend: session.backend().label(),
        threads: session.backend().threads(),
        runs: arguments.runs,
        prompt_tokens: arguments.prompt,
        decode_tokens: arguments.decode,
        lookup: arguments.lookup,
        texts: texts.into_iter().collect::<Result<_, _>>()?,
    };
    if json {
        return print_json(&output);
    }
    print(&table(&output))
}

/// `n_tokens` tokens of the text `name`, of which the first `n_prompt` are the prompt.
fn made_up(name: &str, n_prompt: usize, n_tokens: usize, vocab_size: usize) -> Vec<u32> {
    // Multiples of a prime visit the whole vocabulary.
    let new = |i: usize| (FIRST_TOKEN + i * 7919 % (vocab_size - FIRST_TOKEN)) as u32;
    let mut tokens: Vec<u32> = (0..n_prompt).map(new).collect();
    for i in 0..n_tokens - n_prompt {
        let token = match name {
            "copy" if i % 28 < 24 => tokens[i % n_prompt],
            "loop" => tokens[i % 8],
            // A pair of the prompt, and a third token that never followed it.
            "fresh" if i % 3 < 2 => tokens[(i / 3 * 5 + i % 3) % n_prompt],
            _ => new(n_prompt + i),
        };
        tokens.push(token);
    }
    tokens
}

fn measure_text<B: CliDevice>(
    session: &mut Session<B>,
    arguments: &Arguments,
    name: &'static str,
    tokens: &[u32],
) -> Result<MeasuredText, Failure> {
    let (mut plain_ms, mut lookup_ms) = (Vec::new(), Vec::new());
    let mut last = None;
    for round in 0..=arguments.runs {
        let plain = measure(session, arguments.prompt as usize, tokens, 0)?;
        let lookup = arguments.lookup as usize;
        let drafting = measure(session, arguments.prompt as usize, tokens, lookup)?;
        if round > 0 {
            plain_ms.push(plain.token_ms);
            lookup_ms.push(drafting.token_ms);
        }
        last = Some(drafting);
    }
    let (plain_ms, lookup_ms) = (Spread::of(plain_ms), Spread::of(lookup_ms));
    Ok(MeasuredText {
        text: name,
        plain_ms,
        lookup_ms,
        speedup: plain_ms.median / lookup_ms.median,
        drafted: last.as_ref().map_or(0, |run| run.drafted),
        accepted_drafts: last.as_ref().map_or(0, |run| run.accepted_drafts),
    })
}

/// Decodes `tokens` from `n_prompt` on: each step allows only the token that the text has there.
fn measure<B: CliDevice>(
    session: &mut Session<B>,
    n_prompt: usize,
    tokens: &[u32],
    lookup: usize,
) -> Result<Measured, Failure> {
    let options = GenerateOptions {
        max_tokens: tokens.len() - n_prompt,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        // Any grammar: the option makes the session expect a set of allowed tokens with each step.
        grammar: Some(String::new()),
        cache_prompt: false,
        lookup,
        ..GenerateOptions::default()
    };
    let vocab_size = session.config().vocab_size;
    let only = |token: u32| {
        let mut words = vec![0; vocab_size.div_ceil(32)];
        words[token as usize / 32] = 1 << (token % 32);
        TokenSet::from_words(words)
    };
    session.start(&tokens[..n_prompt], options)?;
    let mut steps = tokens[n_prompt..].iter();
    let first = steps.next().expect("there is a token to decode");
    block_on(session.step_among(Some(&only(*first))))?;
    let n_steps = steps.len() as f64;
    let (mut drafted, mut accepted_drafts) = (0, 0);
    let start_us = now_us();
    for token in steps {
        let step = block_on(session.step_among(Some(&only(*token))))?;
        drafted += step.drafted;
        accepted_drafts += usize::from(step.accepted_draft);
    }
    Ok(Measured {
        token_ms: (now_us() - start_us) / 1e3 / n_steps,
        drafted,
        accepted_drafts,
    })
}

fn table(output: &Output) -> String {
    let mut text = format!(
        "{} weights, {}, {} threads, {} runs, prompt of {} tokens, {} decoded, at most {} drafted at a time\n\
         {:<6} {:>12} {:>12} {:>8} {:>9} {:>9}\n",
        output.weights,
        output.backend,
        output.threads,
        output.runs,
        output.prompt_tokens,
        output.decode_tokens,
        output.lookup,
        "text",
        "plain, ms",
        "lookup, ms",
        "speedup",
        "drafted",
        "accepted",
    );
    for row in &output.texts {
        text.push_str(&format!(
            "{:<6} {:>12.2} {:>12.2} {:>8.2} {:>9} {:>9}\n",
            row.text,
            row.plain_ms.median,
            row.lookup_ms.median,
            row.speedup,
            row.drafted,
            row.accepted_drafts,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_repeats_its_prompt_and_the_fresh_text_repeats_no_three_tokens() {
        let copy = made_up("copy", 64, 150, 32_000);
        assert_eq!(copy[64..88], copy[..24]);
        assert_eq!(copy[92..116], copy[28..52]);
        let fresh = made_up("fresh", 128, 250, 32_000);
        let triples: Vec<&[u32]> = fresh.windows(3).collect();
        for (i, triple) in triples.iter().enumerate().skip(127) {
            assert!(!triples[..i].contains(triple), "{i}");
        }
        assert!(fresh[128..].chunks(3).all(|three| {
            three.len() < 2 || fresh[..128].windows(2).any(|pair| pair == &three[..2])
        }));
    }
}
