//! `zamba2 check`: what a checkpoint contains, whether it will run, and its peculiarities, in one list. It reads
//! headers, and weights only on request.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zamba2::base::error::{Error, ErrorInWords, Fact};
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder::{self, Inspection};
use zamba2::model::NumericSettings;
use zamba2::session::LoadSettings;

use super::{Failure, print, print_json, proc_bytes};

/// Report what a checkpoint contains, whether it will run, and its peculiarities.
///
/// The exit code is 0 if it will run.
#[derive(Args)]
pub struct Arguments {
    /// The checkpoint folder.
    dir: PathBuf,

    /// Read every weight, too. This finds NaNs and infinities, and whether copies of shared weights differ.
    #[arg(long)]
    weights: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    runs: bool,
    #[serde(flatten)]
    found: &'a Inspection,
    warnings: Vec<Warning<'a>>,
    error: Option<ErrorInWords>,
}

#[derive(Serialize)]
struct Warning<'a> {
    #[serde(flatten)]
    fact: &'a Fact,
    message: String,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let mut found = folder::inspect(&arguments.dir);
    if arguments.weights && found.error.is_none() {
        found.error = read_weights(arguments, &mut found).err();
    }
    let warnings = found.warnings.iter().map(|fact| Warning {
        message: fact.to_string(),
        fact,
    });
    let output = Output {
        runs: found.error.is_none(),
        warnings: warnings.collect(),
        error: found.error.as_ref().map(Error::in_words),
        found: &found,
    };
    if json {
        print_json(&output)?;
    } else {
        print(&text(&output))?;
    }
    if output.runs {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn read_weights(arguments: &Arguments, found: &mut Inspection) -> Result<(), Error> {
    let packed = found
        .weights
        .as_ref()
        .and_then(|weights| weights.packed.as_deref());
    let settings = LoadSettings {
        // In a coarser format different copies may look equal.
        weights: packed.map_or(Ok(WeightFormat::F32), str::parse)?,
        context: Some(1),
        numeric: NumericSettings::default(),
        memory_limit_bytes: proc_bytes("/proc/meminfo", "MemAvailable"),
    };
    let session = folder::open(Cpu::new(1), &arguments.dir, settings)?;
    found.add_load(session.schedule());
    Ok(())
}

fn text(output: &Output) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(lines, "{name:<10} {value}").expect("a string takes all");
    };
    let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    if let Some(model) = &output.found.model {
        line(
            "model",
            format!(
                "{}, hidden size {}, {} mamba and {} hybrid blocks, vocabulary {}, up to {} tokens",
                model.model_type,
                model.hidden_size,
                model.mamba_blocks,
                model.hybrid_blocks,
                model.vocab_size,
                model.max_position_embeddings,
            ),
        );
    }
    if let Some(weights) = &output.found.weights {
        let dtypes: Vec<&str> = weights.dtypes.keys().map(String::as_str).collect();
        let form = match &weights.packed {
            Some(format) => format!("packed as {format}"),
            None => dtypes.join(", "),
        };
        let bytes = weights.files.iter().map(|file| file.bytes).sum();
        line(
            "weights",
            format!(
                "{} parameters in {} file(s) of {}, {form}; {} shared transformer(s)",
                weights.parameters,
                weights.files.len(),
                gb(bytes),
                weights.shared_transformers,
            ),
        );
        let memory = weights.memory_bytes.iter();
        let memory: Vec<String> = memory
            .map(|(format, bytes)| format!("{format} {}", gb(*bytes)))
            .collect();
        line(
            "memory",
            format!(
                "{} with a context of {} tokens",
                memory.join(", "),
                weights.context
            ),
        );
    }
    if let Some(text) = &output.found.text {
        let tokens = text
            .tokens
            .map_or("none".into(), |tokens| format!("{tokens} tokens"));
        let chat = if text.chat { "yes" } else { "no" };
        line("tokenizer", tokens);
        line("chat", chat.into());
        line("ends at", format!("{:?}", text.end_tokens));
    }
    for warning in &output.warnings {
        line("warning", warning.message.clone());
    }
    match &output.error {
        None => line("runs", "yes".into()),
        Some(error) => {
            line("runs", format!("no: {}", error.message));
            line("next", error.next_step.into());
        }
    }
    lines
}
