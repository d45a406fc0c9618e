//! `zamba2 logits`: unprocessed logits, for comparison with another implementation. It samples nothing and needs no
//! tokenizer.

use std::str::FromStr;

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::error::{Error, Fact};
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::session::argmax;

use super::device::{CliDevice, on_device};
use super::{Failure, OpenArguments, print_json};

/// Print the logits of a prompt, and of greedy decoding after it, as one JSON object.
///
/// The object has `tokens`, `prefill_logits` (one row per token of the prompt), `decode_tokens` and `decode_logits`:
/// row i is what token i was chosen from, so row 0 is the last row of the prefill. Every number reads back as the
/// same f32; one that is not finite is null.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The prompt as token ids, separated by commas. No start token is added.
    #[arg(long, value_name = "IDS")]
    tokens: Tokens,

    /// Greedy tokens to decode after the prompt.
    #[arg(long, default_value_t = 0, value_name = "N")]
    decode: usize,

    #[arg(long, help = super::weights_help(), default_value = "f32", value_name = "FORMAT")]
    weights: WeightFormat,

    /// The lower bound of dt in the prompt, instead of the configuration's time_step_min.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    dt_min_prefill: Option<f32>,

    /// The lower bound of dt in each decoded token, where the reference has none.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    dt_min_step: Option<f32>,

    /// Add `hidden_states`: the residual stream after the embedding and after each block.
    #[arg(long)]
    hidden_states: bool,
}

/// Token ids on the command line.
#[derive(Clone)]
pub struct Tokens(pub Vec<u32>);

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Tokens, String> {
        if text.trim().is_empty() {
            // The session refuses empty prompts.
            return Ok(Tokens(Vec::new()));
        }
        let id = |part: &str| {
            let part = part.trim();
            part.parse()
                .map_err(|_| format!("`{part}` is not a token id"))
        };
        text.split(',')
            .map(id)
            .collect::<Result<_, _>>()
            .map(Tokens)
    }
}

#[derive(Serialize)]
struct Output<'a> {
    tokens: &'a [u32],
    prefill_logits: Vec<&'a [f32]>, // [tokens][vocab]
    decode_tokens: Vec<u32>,
    decode_logits: Vec<Vec<f32>>, // [decode][vocab]
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_states: Option<Vec<Vec<Vec<f32>>>>, // [blocks + 1][tokens][h]
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments) -> Result<(), Failure> {
    let Tokens(tokens) = &arguments.tokens;
    let numeric = NumericSettings {
        dt_min_prefill: bound("dt_min_prefill", arguments.dt_min_prefill)?,
        dt_min_step: bound("dt_min_step", arguments.dt_min_step)?,
        ..NumericSettings::default()
    };
    let mut session = arguments.open.open(device, arguments.weights, numeric)?;

    let mut hidden_states = None;
    if arguments.hidden_states {
        let width = session.config().hidden_size;
        let states = block_on(session.hidden_states(tokens))?;
        let rows = |state: Vec<f32>| state.chunks(width).map(<[f32]>::to_vec).collect();
        hidden_states = Some(states.into_iter().map(rows).collect());
    }

    let vocab_size = session.config().vocab_size;
    let prefill = block_on(session.logits(tokens))?;
    let mut row = prefill[prefill.len() - vocab_size..].to_vec();
    let (mut decode_tokens, mut decode_logits) = (Vec::new(), Vec::new());
    while decode_tokens.len() < arguments.decode {
        let token = argmax(&row);
        decode_tokens.push(token);
        // No decode step over the last token: the logits after it are not needed.
        let next = match decode_tokens.len() {
            n if n < arguments.decode => block_on(session.append(&[token]))?,
            _ => Vec::new(),
        };
        decode_logits.push(std::mem::replace(&mut row, next));
    }
    print_json(&Output {
        tokens,
        prefill_logits: prefill.chunks(vocab_size).collect(),
        decode_tokens,
        decode_logits,
        hidden_states,
    })
}

fn bound(name: &str, value: Option<f32>) -> Result<Option<f32>, Error> {
    match value {
        Some(bad) if !(bad.is_finite() && bad >= 0.0) => Err(Error::Setting {
            name: name.into(),
            fact: Fact::new("not_from")
                .with("value", bad.to_string())
                .with("least", 0),
        }),
        value => Ok(value),
    }
}
