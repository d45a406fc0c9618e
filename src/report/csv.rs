//! A run as one CSV table for spreadsheets: rows of blocks, module types, modules and tokens, distinguished by the
//! first column; every row has every column (docs/run-format.md).

use crate::report::run::Run;
use crate::report::summary::{PhaseSummary, Summary};

const COLUMNS: [&str; 18] = [
    "table",
    "phase",
    "name",
    "type",
    "block",
    "run",
    "step",
    "count",
    "us",
    "us_p5",
    "us_p95",
    "self_us",
    "flops",
    "bytes",
    "tflops",
    "gb_per_s",
    "percent_of_ceiling",
    "recorded",
];

/// One row; a column without a value is empty.
#[derive(Default)]
struct Row<'a> {
    table: &'a str,
    phase: &'a str,
    name: &'a str,
    class: &'a str,
    block: Option<usize>,
    run: Option<usize>,
    step: Option<usize>,
    count: Option<usize>,
    us: f64,
    us_p5: Option<f64>,
    us_p95: Option<f64>,
    self_us: Option<f64>,
    flops: Option<f64>,
    bytes: Option<f64>,
    tflops: Option<f64>,
    gb_per_s: Option<f64>,
    percent_of_ceiling: Option<f64>,
    /// Whether spans were recorded during this run.
    recorded: Option<bool>,
}

pub fn write(run: &Run, summary: &Summary) -> String {
    let mut text = COLUMNS.join(",");
    text.push_str("\r\n");
    for (phase, name) in [(&summary.prefill, "prefill"), (&summary.decode, "decode")] {
        if phase.wall_us.n > 0 {
            write_phase(phase, name, &mut text);
        }
    }
    for (number, run) in run.unprofiled.iter().enumerate() {
        write_tokens(number, false, run.prefill_us, &run.step_us, &mut text);
    }
    for (number, run) in run.runs.iter().enumerate() {
        write_tokens(number, true, run.prefill_us, &run.step_us, &mut text);
    }
    text
}

fn write_tokens(
    run: usize,
    is_recorded: bool,
    prefill_us: f64,
    step_us: &[f64],
    text: &mut String,
) {
    for (step, &us) in [prefill_us].iter().chain(step_us).enumerate() {
        Row {
            table: "tokens",
            phase: if step == 0 { "prefill" } else { "decode" },
            run: Some(run),
            step: Some(step),
            us,
            recorded: Some(is_recorded),
            ..Row::default()
        }
        .write(text);
    }
}

fn write_phase(phase: &PhaseSummary, name: &str, text: &mut String) {
    for row in &phase.blocks {
        let kind = match row.shared_transformer {
            Some(_) => "hybrid",
            None => "mamba",
        };
        Row {
            table: "blocks",
            phase: name,
            class: kind,
            block: Some(row.block),
            us: row.us.median,
            us_p5: Some(row.us.p5),
            us_p95: Some(row.us.p95),
            flops: Some(row.flops.total),
            bytes: Some(row.bytes),
            tflops: Some(row.tflops),
            gb_per_s: Some(row.gb_per_s),
            percent_of_ceiling: row.percent_of_ceiling,
            ..Row::default()
        }
        .write(text);
    }
    for row in &phase.types {
        Row {
            table: "types",
            phase: name,
            class: &row.class,
            count: Some(row.count),
            us: row.us,
            self_us: Some(row.self_us),
            flops: Some(row.flops),
            ..Row::default()
        }
        .write(text);
    }
    for row in &phase.modules {
        Row {
            table: "modules",
            phase: name,
            name: &row.path,
            class: &row.class,
            block: row.block,
            count: Some(row.count),
            us: row.us,
            self_us: Some(row.self_us),
            flops: Some(row.flops),
            bytes: Some(row.bytes),
            tflops: Some(row.tflops),
            gb_per_s: Some(row.gb_per_s),
            percent_of_ceiling: row.percent_of_ceiling,
            ..Row::default()
        }
        .write(text);
    }
}

impl Row<'_> {
    fn write(&self, text: &mut String) {
        let whole = |value: Option<usize>| value.map_or_else(String::new, |v| v.to_string());
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
        let recorded = self.recorded.map_or_else(String::new, |v| v.to_string());
        let fields = [
            self.table.to_owned(),
            self.phase.to_owned(),
            quoted(self.name),
            quoted(self.class),
            whole(self.block),
            whole(self.run),
            whole(self.step),
            whole(self.count),
            number(Some(self.us)),
            number(self.us_p5),
            number(self.us_p95),
            number(self.self_us),
            number(self.flops),
            number(self.bytes),
            number(self.tflops),
            number(self.gb_per_s),
            number(self.percent_of_ceiling),
            recorded,
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
}

/// Quoted by RFC 4180. A name that a spreadsheet would take for a formula gets an apostrophe, since names may come from
/// an untrusted file.
fn quoted(name: &str) -> String {
    let formula = name.starts_with(['=', '+', '-', '@']);
    let name = if formula {
        format!("'{name}")
    } else {
        name.to_owned()
    };
    match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name,
    }
}
