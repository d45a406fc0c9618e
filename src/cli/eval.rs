//! `zamba2 eval`: how well a model predicts a text.

use std::f64::consts::LN_2;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;

use super::device::{CliDevice, on_device};
use super::progress::Progress;
use super::{Failure, OpenArguments, print, print_json};

/// Measure how well a model predicts a text: its perplexity, and bits per byte.
///
/// The text is cut into windows that do not overlap. Each is a prompt of its own, with the start token if the
/// checkpoint has one; without it, the first token of a window is not predicted. Bits per byte can be compared between
/// models with different tokenizers, perplexities cannot.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The text, in UTF-8.
    file: PathBuf,

    #[arg(long, help = super::weights_help(), default_value = "q8", value_name = "FORMAT")]
    weights: WeightFormat,

    /// Tokens per window, at most as many as the context has.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    window: u32,
}

#[derive(Serialize)]
struct Output {
    weights: &'static str,
    windows: usize,
    /// Predicted tokens.
    tokens: usize,
    /// Bytes of the predicted tokens' text.
    bytes: usize,
    nats_per_token: f64,
    perplexity: f64,
    bits_per_byte: f64,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments, json))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let file = arguments.file.display().to_string();
    let text = fs::read_to_string(&arguments.file).map_err(|error| Error::Io {
        file: file.clone(),
        fact: error.to_string().into(),
    })?;
    let weights = arguments.weights;
    let mut session = (arguments.open).open(device, weights, NumericSettings::default())?;
    let ids = session.tokenizer()?.encode(&text, false)?;
    // An empty text gets the start token only.
    let start = session.tokenizer()?.encode("", true)?;
    // A context without room for a token is refused with the first window.
    let window_tokens = (arguments.window as usize).min(session.context());
    let room = window_tokens.saturating_sub(start.len()).max(1);

    let windows: Vec<_> = ids.chunks(room).collect();
    let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
    let progress = Progress::of_steps("Windows", windows.len() as u64);
    for window in &windows {
        let prompt = [&start, *window].concat();
        let all = block_on(session.log_probabilities(&prompt))?;
        nats -= all.iter().sum::<f64>();
        tokens += all.len();
        bytes += session.tokenizer()?.decode(&prompt[1..])?.len();
        progress.advance(1);
    }
    drop(progress);
    if tokens == 0 {
        return Err(Error::EmptyPrompt.into());
    }
    let nats_per_token = nats / tokens as f64;
    let output = Output {
        weights: weights.name(),
        windows: windows.len(),
        tokens,
        bytes,
        nats_per_token,
        perplexity: nats_per_token.exp(),
        bits_per_byte: nats / LN_2 / bytes as f64,
    };
    if json {
        return print_json(&output);
    }
    print(&format!(
        "{file}: {tokens} tokens in {} windows, {} weights\n\
         {nats_per_token:.4} nats per token, perplexity {:.3}, {:.4} bits per byte\n",
        output.windows, output.weights, output.perplexity, output.bits_per_byte,
    ))
}
