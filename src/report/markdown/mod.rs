//! The report as Markdown. It has the headings of the reference report in the same order, for comparison side by side,
//! followed by sections of its own. Numbers in lists and tables have a decimal point in every language, as in the
//! reference; sentences follow the language.

mod conditions;
mod measurements;
mod overview;
mod tables;
mod text;

use crate::report::run::Run;
use crate::report::summary::{PhaseSummary, Summary};
use crate::words::{self, Language};

pub fn write(run: &Run, summary: &Summary, language: Language) -> String {
    let mut page = Page {
        run,
        summary,
        language,
        text: String::new(),
    };
    page.general();
    page.flops();
    page.charts();
    page.one_block();
    page.blocks();
    page.types();
    page.slowest();
    page.conditions();
    page.spread();
    page.ceilings();
    page.decode();
    page.memory();
    page.sentences();
    page.reference();
    page.text
}

struct Page<'a> {
    run: &'a Run,
    summary: &'a Summary,
    language: Language,
    text: String,
}

impl<'a> Page<'a> {
    fn word(&self, key: &str) -> &'static str {
        words::get(self.language, key)
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn title(&mut self, key: &str) {
        let line = format!("\n## {}", self.word(key));
        self.line(&line);
    }

    fn fact(&mut self, key: &str, value: &str) {
        let line = format!("- {}: {value}", self.word(key));
        self.line(&line);
    }

    /// `value` with the unit of `unit_key`.
    fn quantity(&mut self, key: &str, value: &str, unit_key: &str) {
        let value = format!("{value} {}", self.word(unit_key));
        self.fact(key, &value);
    }

    fn row<Cell: AsRef<str>>(&mut self, cells: &[Cell]) {
        let mut line = String::from("|");
        for cell in cells {
            line.push_str(&format!(" {} |", cell.as_ref()));
        }
        self.line(&line);
    }

    /// The header of a table. Columns are keys, or the text itself if it is the same in every language.
    fn columns(&mut self, keys: &[&str]) {
        let columns: Vec<&str> = (keys.iter())
            .map(|&key| match key.starts_with("report.") {
                true => self.word(key),
                false => key,
            })
            .collect();
        self.row(&columns);
        self.line(&format!("|{}", "---|".repeat(keys.len())));
    }

    /// The phases of the run, with the keys of their names.
    fn phases(&self) -> Vec<(&'static str, &'a PhaseSummary)> {
        let mut phases = vec![("report.phase.prefill", &self.summary.prefill)];
        if self.run.decode_tokens > 0 {
            phases.push(("report.phase.decode", &self.summary.decode));
        }
        phases
    }
}
