//! `zamba2 generate`: text from a prompt, printed as it comes. It stands on floor 6; what is chosen and when it ends is
//! the session's business.

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::clock::now_us;
use zamba2::base::error::Error;
use zamba2::base::local_time::LocalTime;
use zamba2::base::quant::WeightFormat;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, StopReason};
use zamba2::text::chat::{ChatTemplate, Content, Message};
use zamba2::text::sampling::SamplingOptions;
use zamba2::text::tokenizer::Tokenizer;

use super::device::{Device, Opened};
use super::{Failure, OpenArguments, print, print_json, say};

/// Continue a prompt or answer in a chat, and print the text as it comes.
///
/// Text goes to standard output, and the figures of the run to standard error. With --json there is one object at the
/// end instead of both. The tokenizer puts its start token in front of a prompt; what stands in front of a chat is up
/// to the checkpoint's template.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The text to continue.
    #[arg(long, allow_hyphen_values = true, required_unless_present = "chat")]
    prompt: Option<String>,

    /// What to say to an instruct model, through the chat template of its checkpoint.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "prompt"
    )]
    chat: Option<String>,

    /// What the chat's system message says; without this there is none.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "prompt"
    )]
    system: Option<String>,

    /// The form in which matrices are held: f32, q8 or q4.
    #[arg(long, default_value = "q8", value_name = "FORMAT")]
    weights: WeightFormat,

    /// Tokens to generate at most.
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::default().max_tokens)]
    max_tokens: usize,

    /// Randomness of the sampled tokens; 0 is greedy.
    #[arg(long, default_value_t = SamplingOptions::default().temperature, allow_negative_numbers = true)]
    temperature: f64,

    /// Sample from this many most probable tokens; 0 is off.
    #[arg(long, value_name = "K", default_value_t = SamplingOptions::default().top_k)]
    top_k: usize,

    /// Sample from the most probable tokens that reach this cumulative probability; 1 is off.
    #[arg(long, value_name = "P", default_value_t = SamplingOptions::default().top_p, allow_negative_numbers = true)]
    top_p: f64,

    /// Least probability of a token, relative to the most probable one; 0 is off.
    #[arg(long, value_name = "P", default_value_t = SamplingOptions::default().min_p, allow_negative_numbers = true)]
    min_p: f64,

    /// How much tokens that already occurred are made less probable; 1 is off.
    #[arg(
        long,
        value_name = "FACTOR",
        default_value_t = SamplingOptions::default().repetition_penalty,
        allow_negative_numbers = true
    )]
    repetition_penalty: f64,

    /// Seed of the random numbers: the same seed gives the same text.
    #[arg(long, default_value_t = SamplingOptions::default().seed)]
    seed: u64,

    /// End before this text appears; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// Go on after the model's end token.
    #[arg(long)]
    ignore_eos: bool,
}

#[derive(Serialize)]
struct Output {
    text: String,
    tokens: Vec<u32>,
    reason: StopReason,
    prompt_tokens: usize,
    load_ms: f64,
    /// From the prompt's text to the first token.
    ttft_ms: f64,
    /// From the prompt's tokens to the first token.
    prefill_ms: f64,
    prefill_tokens_per_s: f64,
    /// Without the first token, which the prefill made; none if there was no other.
    decode_tokens_per_s: Option<f64>,
}

/// What the model is to continue.
enum Prompt {
    Text(String),
    Chat(Box<ChatTemplate>, Vec<Message>),
}

impl Prompt {
    /// The ids of the prompt, and what ends the model's turn, if the template's checkpoint says.
    fn tokens(&self, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Option<u32>), Error> {
        match self {
            Prompt::Text(text) => Ok((tokenizer.encode(text, true)?, None)),
            Prompt::Chat(template, messages) => {
                let now = LocalTime::now();
                let ids = template.encode(tokenizer, messages, Content::Plain, now)?;
                let end_token = template.special_tokens().get("eos_token");
                Ok((ids, end_token.and_then(|token| tokenizer.token_id(token))))
            }
        }
    }
}

impl Arguments {
    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: SamplingOptions {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                seed: self.seed,
            },
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            ..GenerateOptions::default()
        }
    }

    fn prompt(&self) -> Result<Prompt, Error> {
        let said = self.chat.as_ref().or(self.prompt.as_ref());
        let said = said.filter(|text| !text.is_empty());
        let said = said.ok_or(Error::EmptyPrompt)?;
        if self.chat.is_none() {
            return Ok(Prompt::Text(said.clone()));
        }
        let template = folder::chat_template(&self.open.dir)?.ok_or(Error::NoChatTemplate)?;
        let message = |role: &str, content: &String| Message {
            role: role.into(),
            content: content.clone(),
        };
        let system = self.system.iter().map(|text| message("system", text));
        let messages: Vec<Message> = system.chain([message("user", said)]).collect();
        Ok(Prompt::Chat(Box::new(template), messages))
    }
}

pub fn run(arguments: Arguments, json: bool) -> Result<(), Failure> {
    let prompt = arguments.prompt()?;
    // The session checks the options again; here it spares opening anything for nothing.
    arguments.options().sampling.validate()?;
    match arguments.open.backend()? {
        Opened::Cpu(be) => run_on(*be, &arguments, prompt, json),
        Opened::WebGpu(be) => run_on(*be, &arguments, prompt, json),
    }
}

fn run_on<B: Device>(
    be: B,
    arguments: &Arguments,
    prompt: Prompt,
    json: bool,
) -> Result<(), Failure> {
    let mut options = arguments.options();

    let load_start_us = now_us();
    let mut session = arguments
        .open
        .open(be, arguments.weights, NumericSettings::default())?;
    let start_us = now_us();
    let (prompt, end_token) = prompt.tokens(session.tokenizer()?)?;
    options.end_tokens.extend(end_token);
    let prefill_start_us = now_us();
    session.start(&prompt, options)?;

    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut first_us = 0.0;
    let (reason, last_us) = loop {
        let step = block_on(session.step())?;
        let token_us = now_us();
        if tokens.is_empty() {
            first_us = token_us;
        }
        tokens.push(step.token);
        if json {
            text.push_str(&step.text);
        } else {
            print(&step.text)?;
        }
        if let Some(reason) = step.done {
            break (reason, token_us);
        }
    };
    let prefill_us = first_us - prefill_start_us;
    let decoded = (tokens.len() - 1) as f64;
    let output = Output {
        text,
        reason,
        prompt_tokens: prompt.len(),
        load_ms: (start_us - load_start_us) / 1e3,
        ttft_ms: (first_us - start_us) / 1e3,
        prefill_ms: prefill_us / 1e3,
        prefill_tokens_per_s: 1e6 * prompt.len() as f64 / prefill_us,
        decode_tokens_per_s: (decoded > 0.0).then(|| 1e6 * decoded / (last_us - first_us)),
        tokens,
    };
    if json {
        return print_json(&output);
    }
    // A terminal's next line starts at the margin.
    print("\n")?;
    say(&summary(&output));
    Ok(())
}

fn summary(output: &Output) -> String {
    let reason = match output.reason {
        StopReason::Eos => "the model ended",
        StopReason::Length => "the limit of tokens was reached",
        StopReason::Stop => "a stop text appeared",
        StopReason::Context => "the context was full",
    };
    let decode = output.decode_tokens_per_s;
    let decode = decode.map_or("none".into(), |rate| format!("{rate:.2} tok/s"));
    format!(
        "prompt {} tokens · first token after {:.0} ms · prefill {:.1} tok/s · {} tokens · decode {decode} · {reason}",
        output.prompt_tokens,
        output.ttft_ms,
        output.prefill_tokens_per_s,
        output.tokens.len(),
    )
}
