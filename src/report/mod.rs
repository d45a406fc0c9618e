//! What a measured run says about the model: counts from shapes, times, their ceilings, and reports for people and
//! programs. It stands on floor 4 beside the session, which it does not know: a run comes as data, from this machine
//! or from a file. It measures nothing, reads no file and knows no device beyond its ceilings.

mod advice;
pub mod count;
mod csv;
mod markdown;
pub mod modules;
pub mod reference;
pub mod run;
pub mod summary;
mod trace;
pub mod words;

use std::str::FromStr;

use crate::error::{Error, Fact, Result};
use crate::report::run::Run;
use crate::report::summary::summarise;
use crate::report::words::Language;

/// What a report reads where no prompt is given. It says nothing that matters: any ids cost the same time.
pub const PROMPT: &str = "A state space model reads a text once and keeps what matters in a state of constant size, while \
attention keeps every token and looks at all of them again. A hybrid does both, and this report shows what each part \
costs.";

/// A form in which a run leaves the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Markdown,
    /// The run itself.
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

/// A checked run as text. Only Markdown has words of a language.
pub fn export(run: &Run, format: Format, language: Language) -> String {
    match format {
        Format::Markdown => markdown::write(run, &summarise(run, language), language),
        Format::Json => run.to_json(),
        Format::Csv => csv::write(run, &summarise(run, language)),
        Format::Trace => trace::write(run),
    }
}
