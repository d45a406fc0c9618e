//! `zamba2 verify`: two devices, or two checkpoints, module by module. The comparison is in `session/lockstep.rs`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zamba2::base::error::{Error, Fact};
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::session::Session;
use zamba2::session::lockstep::{
    Comparison, Difference, Lockstep, LockstepModel, LockstepOptions, Tolerances, compare,
};

use super::device::{BackendChoice, CliDevice, on_device};
use super::logits::Tokens;
use super::progress::Progress;
use super::{Failure, OpenArguments, print, print_json};

/// Default length of the prompt: from twelve tokens on, the CPU's scan has another form.
const DEFAULT_TOKENS: usize = 24;

/// Compare two devices module by module, and name the first module that differs.
///
/// Both run the same prompt and then a few decode steps. After each module its output is compared, and the tested
/// device continues with the reference's output. So each module gets the same inputs on both devices, and each module
/// that differs is itself at fault. If none differs, both devices compute the logits once more on their own, as in
/// generation.
///
/// The exit code is 1 if a module differs. A difference is the largest one of an output, relative to the output's root
/// mean square.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The reference device. It computes with the dequantised weights.
    #[arg(long, value_enum, default_value_t = BackendChoice::Candle, value_name = "BACKEND")]
    against: BackendChoice,

    /// The checkpoint of the reference device, if it is another one: a conversion of the same model.
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,

    #[arg(long, help = super::weights_help(), default_value = "f32", value_name = "FORMAT")]
    weights: WeightFormat,

    /// The prompt.
    #[arg(long, value_name = "TEXT", conflicts_with = "tokens")]
    prompt: Option<String>,

    /// The prompt as token ids, separated by commas. Default: ids from the whole vocabulary.
    #[arg(long, value_name = "IDS")]
    tokens: Option<Tokens>,

    /// Decode steps after the prompt.
    #[arg(long, default_value_t = 4, value_name = "N")]
    decode: usize,

    /// The largest difference that is accepted. Default: 0.001, for attention 0.01; if one of the two devices is the
    /// CPU, which rounds activations with quantised weights, 0.005 and 0.05 (q8) or 0.25 (q4).
    #[arg(long, value_name = "NUMBER")]
    tolerance: Option<f64>,

    /// List every module instead of the largest difference of each block.
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Output {
    agrees: bool,
    backend: &'static str,
    against: &'static str,
    weights: &'static str,
    #[serde(flatten)]
    comparison: Comparison,
}

/// An open model with the name of its device.
struct Opened {
    model: Box<dyn LockstepModel>,
    label: &'static str,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let tolerances = tolerances(arguments)?;
    let reference = OpenArguments {
        dir: arguments
            .reference
            .clone()
            .unwrap_or_else(|| arguments.open.dir.clone()),
        backend: arguments.against,
        ..arguments.open.clone()
    };
    // The reference first: this build may lack its backend.
    let mut reference = opened(&reference, arguments.weights)?;
    let mut tested = opened(&arguments.open, arguments.weights)?;
    let prompt = prompt(arguments, &*tested.model)?;
    let options = LockstepOptions {
        prompt: &prompt,
        n_steps: arguments.decode,
        tolerances,
    };
    let mut bar = None;
    let on_pass = |_, of: usize| {
        let bar = bar.get_or_insert_with(|| Progress::of_steps("Passes", of as u64));
        bar.advance(1);
    };
    let comparison = compare(&mut *reference.model, &mut *tested.model, &options, on_pass)?;
    drop(bar);
    let output = Output {
        agrees: comparison.agrees(),
        backend: tested.label,
        against: reference.label,
        weights: arguments.weights.name(),
        comparison,
    };
    if json {
        print_json(&output)?;
    } else {
        print(&text(&output, arguments.all))?;
    }
    match output.agrees {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

fn tolerances(arguments: &Arguments) -> Result<Tolerances, Error> {
    // Only the CPU rounds activations.
    let is_cpu = |backend| backend == BackendChoice::Cpu;
    let one_rounds = is_cpu(arguments.open.backend) != is_cpu(arguments.against);
    let usual = Tolerances::new(arguments.weights, one_rounds);
    match arguments.tolerance {
        None => Ok(usual),
        Some(bad) if !(bad.is_finite() && bad >= 0.0) => Err(Error::Setting {
            name: "tolerance".into(),
            fact: Fact::new("not_from")
                .with("value", bad.to_string())
                .with("least", 0),
        }),
        Some(modules) => Ok(Tolerances {
            modules,
            attention: modules,
            logits: usual.logits.map(|logits| logits.max(modules)),
        }),
    }
}

fn opened(open: &OpenArguments, weights: WeightFormat) -> Result<Opened, Error> {
    on_device!(open.backend(weights)?, device => opened_on(*device, open, weights))
}

fn opened_on<B: CliDevice + 'static>(
    device: B,
    open: &OpenArguments,
    weights: WeightFormat,
) -> Result<Opened, Error> {
    let label = device.label();
    let session: Session<B> = open.open(device, weights, NumericSettings::default())?;
    Ok(Opened {
        model: Box::new(Lockstep::new(session)),
        label,
    })
}

fn prompt(arguments: &Arguments, model: &dyn LockstepModel) -> Result<Vec<u32>, Error> {
    if let Some(text) = &arguments.prompt {
        return model.tokenizer()?.encode(text, true);
    }
    if let Some(Tokens(tokens)) = &arguments.tokens {
        return Ok(tokens.clone());
    }
    let room = model.context().saturating_sub(arguments.decode);
    let vocab_size = model.config().vocab_size;
    // Multiples of a prime visit the whole vocabulary.
    let ids = (0..DEFAULT_TOKENS.min(room)).map(|i| ((i * 7919 + 1) % vocab_size) as u32);
    Ok(ids.collect())
}

fn text(output: &Output, all: bool) -> String {
    let Comparison {
        tolerances,
        prompt_tokens,
        steps,
        first,
        modules,
        logits,
        ..
    } = &output.comparison;
    let tolerance = tolerances.modules;
    let mut text = format!(
        "{} against {}, {} weights, {prompt_tokens} tokens and {steps} decode steps, tolerance {tolerance}\n",
        output.backend, output.against, output.weights,
    );
    let rows = match all {
        true => modules.iter().collect(),
        false => largest_of_blocks(modules),
    };
    let width = rows.iter().map(|row| row.module.len()).max().unwrap_or(0);
    for row in rows {
        let mark = if row.differs { "  differs" } else { "" };
        let (module, tensor) = (&row.module, row.tensor);
        writeln!(
            text,
            "{module:width$}  {tensor:8}  {:9.2e}{mark}",
            row.relative
        )
        .expect("a string takes all");
    }
    let verdict = match (first, logits) {
        (Some(first), _) => format!(
            "the first module that differs is {}: {}",
            first.module,
            place(first)
        ),
        (None, Some(logits)) if !output.agrees => format!(
            "no module differs, but the logits of the whole model do, by {:.2e}: {}",
            logits.relative,
            place(logits),
        ),
        (None, logits) => {
            let logits = logits.as_ref().map_or(0.0, |logits| logits.relative);
            format!("no module differs; on their own, the logits of both differ by {logits:.2e}")
        }
    };
    text + &verdict + "\n"
}

/// The largest difference of each block, and of the modules outside of blocks, in the order of execution.
fn largest_of_blocks(modules: &[Difference]) -> Vec<&Difference> {
    let blocks = modules.chunk_by(|a, b| a.block.is_some() && a.block == b.block);
    let largest = blocks.filter_map(|of_block| {
        let by_size = |a: &&Difference, b: &&Difference| a.relative.total_cmp(&b.relative);
        of_block.iter().max_by(by_size)
    });
    largest.collect()
}

fn place(difference: &Difference) -> String {
    let Difference {
        tensor,
        expected,
        found,
        position,
        channel,
        ..
    } = difference;
    let row = difference
        .row
        .map_or(String::new(), |row| format!(" row {row},"));
    format!("{tensor} at token {position},{row} channel {channel} is {found} instead of {expected}")
}
