//! `zamba2 generate`: text from a prompt, streamed to standard output. Also the options, the loop and the figures that
//! it shares with `zamba2 chat`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::clock::now_us;
use zamba2::base::error::Error;
use zamba2::base::local_time::LocalTime;
use zamba2::base::quant::WeightFormat;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, NoDrafts, Session, StopReason};
use zamba2::text::chat::{ChatTemplate, Content, Message};
use zamba2::text::tokenizer::Tokenizer;

use super::device::{CliDevice, on_device};
use super::grammar::{Follow, GrammarArguments};
use super::number_flags::NumberFlags;
use super::{Failure, OpenArguments, print, print_json, say};

/// Continue a prompt or answer in a chat, and print the text as it is generated.
///
/// Text goes to standard output, and the figures of the run to standard error. With --json there is one object at the
/// end instead of both. The tokenizer adds its start token to a prompt; in a chat the checkpoint's template decides
/// about it.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The text to continue.
    #[arg(long, allow_hyphen_values = true, required_unless_present = "chat")]
    prompt: Option<String>,

    /// The message to an instruct model, sent through the chat template of its checkpoint.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "prompt"
    )]
    chat: Option<String>,

    /// The system message of the chat. Default: none.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "prompt"
    )]
    system: Option<String>,

    /// A file for the state of the sequence, read before the run if it exists and written after it. If the prompt
    /// begins with the file's sequence, only the rest is prefilled.
    #[arg(long, value_name = "FILE")]
    prompt_cache: Option<PathBuf>,

    #[command(flatten)]
    generation: GenerationArguments,
}

/// How tokens are sampled, and when the generation ends.
#[derive(Args)]
pub struct GenerationArguments {
    #[arg(long, help = super::weights_help(), default_value = "q8", value_name = "FORMAT")]
    pub weights: WeightFormat,

    #[command(flatten)]
    numbers: NumberFlags,

    /// End before this text appears; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,

    /// Continue after the model's end token.
    #[arg(long)]
    ignore_eos: bool,

    /// Prefill the answers within a cached prompt again, so that the text equals that of a full prefill.
    #[arg(long)]
    reread_answers: bool,

    #[command(flatten)]
    grammar: GrammarArguments,
}

/// A finished generation, with its figures.
#[derive(Serialize)]
pub struct Answer {
    pub text: String,
    pub tokens: Vec<u32>,
    /// None if the user interrupted it.
    pub reason: Option<StopReason>,
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were not prefilled again.
    pub cached_tokens: usize,
    /// From the prompt as text to the first token.
    ttft_ms: f64,
    /// From the prompt as tokens to the first token.
    prefill_ms: f64,
    /// Of the tokens that were prefilled; none if all were cached.
    prefill_tokens_per_s: Option<f64>,
    /// Without the first token, which comes from the prefill; none if there was no other.
    decode_tokens_per_s: Option<f64>,
    /// Tokens that were drafted by lookup.
    pub drafted: usize,
    pub accepted_drafts: usize,
    /// Why a run with lookup could make no drafts.
    no_drafts: Option<NoDrafts>,
}

#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    answer: Answer,
    load_ms: f64,
}

/// The text or chat that the model continues.
enum Prompt {
    Text(String),
    Chat(Box<ChatTemplate>, Vec<Message>),
}

impl Prompt {
    /// The ids of the prompt, and the token that ends the model's turn, if the checkpoint names one.
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

impl GenerationArguments {
    /// # Errors
    /// [`Error::Setting`] for the first number that is out of range; a file of a schema or a grammar that cannot be
    /// used.
    pub fn options(&self) -> Result<GenerateOptions, Error> {
        let mut options = GenerateOptions {
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            reread_answers: self.reread_answers,
            ..GenerateOptions::default()
        };
        self.numbers.apply(&mut options)?;
        self.grammar.apply(&mut options)?;
        Ok(options)
    }
}

impl Arguments {
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
    // Before anything is opened, so that a wrong option is reported at once.
    let options = arguments.generation.options()?;
    let opened = arguments.open.backend(arguments.generation.weights)?;
    on_device!(opened, device => run_on(*device, &arguments, prompt, options, json))
}

fn run_on<B: CliDevice>(
    device: B,
    arguments: &Arguments,
    prompt: Prompt,
    mut options: GenerateOptions,
    json: bool,
) -> Result<(), Failure> {
    let weights = arguments.generation.weights;

    let load_start_us = now_us();
    let mut session = (arguments.open).open(device, weights, NumericSettings::default())?;
    let start_us = now_us();
    if let Some(file) = &arguments.prompt_cache {
        read_prompt_cache(&mut session, file)?;
    }
    let (prompt, end_token) = prompt.tokens(session.tokenizer()?)?;
    options.end_tokens.extend(end_token);
    let on_text = |text: &str| {
        let printed = if json { Ok(()) } else { print(text) };
        printed.map(ControlFlow::Continue)
    };
    let answer = answer(&mut session, &prompt, options, start_us, on_text)?;
    if let Some(file) = &arguments.prompt_cache {
        let bytes = block_on(session.snapshot(""))?;
        fs::write(file, bytes).map_err(|error| Failure::write(file, &error))?;
    }
    if json {
        let load_ms = (start_us - load_start_us) / 1e3;
        return print_json(&Output { answer, load_ms });
    }
    // Shells print their prompt at the start of a line.
    print("\n")?;
    say(&summary(&answer));
    Ok(())
}

/// Restores the sequence in `file`, if the file exists.
fn read_prompt_cache<B: CliDevice>(session: &mut Session<B>, file: &Path) -> Result<(), Error> {
    if !file.exists() {
        return Ok(());
    }
    let bytes = fs::read(file).map_err(|error| Error::Io {
        file: file.display().to_string(),
        fact: error.to_string().into(),
    })?;
    block_on(session.restore(&bytes)).map(drop)
}

/// Runs `prompt` to its end, or until `on_text`, which gets each piece of text, breaks. The time to first token is
/// measured from `start_us`.
pub fn answer<B: CliDevice>(
    session: &mut Session<B>,
    prompt: &[u32],
    options: GenerateOptions,
    start_us: f64,
    mut on_text: impl FnMut(&str) -> Result<ControlFlow<()>, Failure>,
) -> Result<Answer, Failure> {
    let mut follow = Follow::new(session, &options)?;
    let wants_drafts = options.lookup > 0;
    let prefill_start_us = now_us();
    let cached_tokens = session.start(prompt, options)?;
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut first_us = 0.0;
    let (mut drafted, mut accepted_drafts) = (0, 0);
    let (reason, last_us) = loop {
        let allowed = follow.allowed()?;
        let step = block_on(session.step_among(allowed.as_ref()))?;
        follow.commit(step.token)?;
        let token_us = now_us();
        if tokens.is_empty() {
            first_us = token_us;
        }
        tokens.push(step.token);
        drafted += step.drafted;
        accepted_drafts += usize::from(step.accepted_draft);
        text.push_str(&step.text);
        let wish = on_text(&step.text)?;
        if step.done.is_some() || wish.is_break() {
            break (step.done, token_us);
        }
    };
    let prefill_us = first_us - prefill_start_us;
    let n_read = prompt.len() - cached_tokens;
    let decoded = (tokens.len() - 1) as f64;
    Ok(Answer {
        text,
        reason,
        prompt_tokens: prompt.len(),
        cached_tokens,
        ttft_ms: (first_us - start_us) / 1e3,
        prefill_ms: prefill_us / 1e3,
        prefill_tokens_per_s: (n_read > 0).then(|| 1e6 * n_read as f64 / prefill_us),
        decode_tokens_per_s: (decoded > 0.0).then(|| 1e6 * decoded / (last_us - first_us)),
        tokens,
        drafted,
        accepted_drafts,
        no_drafts: session.no_drafts().filter(|_| wants_drafts),
    })
}

/// The figures of a generation in one line.
pub fn summary(answer: &Answer) -> String {
    let reason = match answer.reason {
        Some(StopReason::Eos) => "the model ended",
        Some(StopReason::Length) => "the limit of tokens was reached",
        Some(StopReason::Stop) => "a stop text appeared",
        Some(StopReason::Context) => "the context was full",
        None => "interrupted",
    };
    let cached = match answer.cached_tokens {
        0 => String::new(),
        n => format!(", {n} of them cached"),
    };
    let prefill = answer.prefill_tokens_per_s;
    let prefill = prefill.map_or("none".into(), |rate| format!("{rate:.1} tok/s"));
    let decode = answer.decode_tokens_per_s;
    let decode = decode.map_or("none".into(), |rate| format!("{rate:.2} tok/s"));
    let drafts = match (answer.no_drafts, answer.drafted) {
        (Some(NoDrafts::Device), _) => " · no drafts on a graphics adapter".into(),
        (Some(NoDrafts::Memory), _) => " · no drafts: too little memory".into(),
        (None, 0) => String::new(),
        (None, drafted) => format!(" · {} of {drafted} drafts accepted", answer.accepted_drafts),
    };
    format!(
        "prompt {} tokens{cached} · first token after {:.0} ms · prefill {prefill} · {} tokens · decode {decode}\
         {drafts} · {reason}",
        answer.prompt_tokens,
        answer.ttft_ms,
        answer.tokens.len(),
    )
}
