//! Reports on measured runs: work counted from shapes, times, ceilings, and exports for people and programs. A run is
//! plain data, from this machine or from a file. Nothing here measures, reads files or depends on a device, except for
//! its ceilings.

mod advice;
pub mod count;
mod csv;
mod markdown;
pub mod measure;
mod numbers;
pub mod reference;
pub mod run;
pub mod sentence;
pub mod summary;
mod trace_events;
pub mod verdict;

use std::str::FromStr;

use crate::base::error::{Error, Fact, Result};
use crate::report::run::Run;
use crate::report::summary::summarise;
use crate::words::Language;

/// Default prompt of a measurement. Its content does not affect the times.
pub const PROMPT: &str = "A state space model reads a text once and keeps what matters in a state of constant size, \
while attention keeps every token and looks at all of them again. A hybrid does both, and this report shows what each \
part costs.";

/// Export formats of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Markdown,
    /// The run file itself.
    Json,
    Csv,
    Trace,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Format> {
        match name {
            "markdown" => Ok(Format::Markdown),
            "json" => Ok(Format::Json),
            "csv" => Ok(Format::Csv),
            "trace" => Ok(Format::Trace),
            _ => Err(Error::Setting {
                name: "format".into(),
                fact: Fact::not_one_of(name, "markdown, json, csv, trace"),
            }),
        }
    }
}

/// Exports a checked run. Only Markdown depends on the language.
pub fn export(run: &Run, format: Format, language: Language) -> String {
    match format {
        Format::Markdown => markdown::write(run, &summarise(run), language),
        Format::Json => run.to_json(),
        Format::Csv => csv::write(run, &summarise(run)),
        Format::Trace => trace_events::write(run),
    }
}
