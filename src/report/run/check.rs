//! Parses and checks run files. A file may come from an untrusted source, so it is checked completely before use.

use serde::Deserialize;
use serde_json::json;

use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::family;
use crate::report::run::{Run, SCHEMA, Spans};

/// About twenty-five times the size of a run of Zamba2-1.2B with default settings.
const MAX_FILE_BYTES: usize = 64 << 20;
pub const MAX_TOKENS: usize = 1 << 20;
/// With a clock step of at least this, a pass may take no time. Steps are 100 µs in pages that are not isolated, and
/// 16.7 or 100 ms in browsers that resist fingerprinting.
const ZERO_TIME_CLOCK_US: f64 = 50.0;
pub const MAX_RUNS: usize = 1000;
/// The most ops whose kernels are chosen.
const MAX_KERNELS: usize = 16;
/// Of the label and of other texts.
pub const MAX_TEXT_CHARS: usize = 400;

impl Run {
    /// Reads and checks the text of a run file.
    ///
    /// # Errors
    /// The invalid field, and what it must be.
    pub fn parse(text: &str) -> Result<Run> {
        check(
            text.len() <= MAX_FILE_BYTES,
            "the file",
            Fact::new("run_too_large"),
        )?;
        #[derive(Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        let head: Head = serde_json::from_str(text).map_err(|error| {
            let fact = Fact::new("run_no_schema").with("detail", error.to_string());
            bad("the file", fact)
        })?;
        if head.schema.as_deref() != Some(SCHEMA) {
            let found = json!(head.schema.map(|found| shortened(&found))).to_string();
            let fact = Fact::new("run_schema")
                .with("expected", SCHEMA)
                .with("found", found);
            return Err(bad("schema", fact));
        }
        let reader = &mut serde_json::Deserializer::from_str(text);
        let run: Run = serde_path_to_error::deserialize(reader).map_err(|error| {
            let (field, fact) = (error.path().to_string(), error.inner().to_string());
            bad(&shortened(&field), shortened(&fact).into())
        })?;
        run.check()?;
        Ok(run)
    }

    /// Checks every field, so that the rest of the report can rely on them.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn check(&self) -> Result<()> {
        for (field, text) in [
            ("label", &self.label),
            ("model.name", &self.model.name),
            ("conditions.backend", &self.conditions.backend),
            ("conditions.host", &self.conditions.host),
            ("timer.source", &self.timer.source),
        ] {
            check_text(field, text)?;
        }
        self.check_kernels()?;
        let n_blocks = self.model.config.config()?.n_blocks();
        let weights = &self.conditions.weights;
        let known = weights.parse::<WeightFormat>().is_ok();
        check(
            known,
            "conditions.weights",
            Fact::not_one_of(weights, &WeightFormat::names()),
        )?;
        for (field, value) in [
            ("made_ms", self.made_ms),
            ("conditions.hidden_ms", self.conditions.hidden_ms),
            ("timer.resolution_us", self.timer.resolution_us),
        ] {
            let sane = (0.0..=1e15).contains(&value);
            check(sane, field, Fact::new("run_time"))?;
        }
        let threads = (1..=1 << 16).contains(&self.conditions.threads);
        check(threads, "conditions.threads", Fact::new("run_at_least_1"))?;
        let chunk_rows = (1..=1 << 16).contains(&self.conditions.chunk_rows);
        check(
            chunk_rows,
            "conditions.chunk_rows",
            Fact::new("run_at_least_1"),
        )?;
        self.check_ceilings()?;
        for (field, tokens, least) in [
            ("prompt_tokens", self.prompt_tokens, 1),
            ("decode_tokens", self.decode_tokens, 0),
        ] {
            let sane = (least..=MAX_TOKENS).contains(&tokens);
            let fact = Fact::new("run_range")
                .with("least", least)
                .with("most", MAX_TOKENS);
            check(sane, field, fact)?;
        }
        for (field, length) in [
            ("runs", self.runs.len()),
            ("unprofiled", self.unprofiled.len()),
        ] {
            let sane = (1..=MAX_RUNS).contains(&length);
            let fact = Fact::new("run_entries")
                .with("most", MAX_RUNS)
                .with("found", length);
            check(sane, field, fact)?;
        }
        for (i, run) in self.runs.iter().enumerate() {
            let field = format!("runs[{i}]");
            self.check_times(&field, run.prefill_us, &run.step_us)?;
            run.spans
                .check(&format!("{field}.spans"), n_blocks, self.decode_tokens)?;
        }
        for (i, run) in self.unprofiled.iter().enumerate() {
            self.check_times(&format!("unprofiled[{i}]"), run.prefill_us, &run.step_us)?;
        }
        Ok(())
    }

    fn check_kernels(&self) -> Result<()> {
        let kernels = &self.conditions.kernels;
        let fact = Fact::new("run_entries")
            .with("most", MAX_KERNELS)
            .with("found", kernels.len());
        check(kernels.len() <= MAX_KERNELS, "conditions.kernels", fact)?;
        let mut texts = kernels
            .iter()
            .flat_map(|choice| [&choice.op, &choice.variant]);
        texts.try_for_each(|text| check_text("conditions.kernels", text))
    }

    fn check_ceilings(&self) -> Result<()> {
        let Some(c) = self.ceilings else {
            return Ok(());
        };
        let copy_rate = c.copy_gb_per_s.map(|rate| ("ceilings.copy_gb_per_s", rate));
        let rates = [
            ("ceilings.int8_gmacs_per_s", c.int8_gmacs_per_s),
            ("ceilings.int16_gmacs_per_s", c.int16_gmacs_per_s),
            ("ceilings.f32_gmacs_per_s", c.f32_gmacs_per_s),
            ("ceilings.read_gb_per_s", c.read_gb_per_s),
        ];
        for (field, rate) in rates.into_iter().chain(copy_rate) {
            let sane = (1e-6..=1e9).contains(&rate);
            check(sane, field, Fact::new("run_rate"))?;
        }
        Ok(())
    }

    fn check_times(&self, field: &str, prefill_us: f64, step_us: &[f64]) -> Result<()> {
        let may_be_zero = self.timer.resolution_us >= ZERO_TIME_CLOCK_US;
        let positive = |us: &f64| (1e-9..=1e15).contains(us) || (may_be_zero && *us == 0.0);
        let fact = || Fact::new("run_time_above_0");
        check(
            positive(&prefill_us),
            &format!("{field}.prefill_us"),
            fact(),
        )?;
        let field = format!("{field}.step_us");
        if step_us.len() != self.decode_tokens {
            let fact = Fact::new("run_steps").with("expected", self.decode_tokens);
            return Err(bad(&field, fact.with("found", step_us.len())));
        }
        match step_us.iter().position(|us| !positive(us)) {
            Some(at) => Err(bad(&format!("{field}[{at}]"), fact())),
            None => Ok(()),
        }
    }
}

impl Spans {
    fn check(&self, field: &str, n_blocks: usize, decode_tokens: usize) -> Result<()> {
        for (column, length) in [
            ("parent", self.parent.len()),
            ("pass", self.pass.len()),
            ("start_us", self.start_us.len()),
            ("duration_us", self.duration_us.len()),
            ("flops", self.flops.len()),
            ("bytes", self.bytes.len()),
        ] {
            let fact = Fact::new("run_column")
                .with("expected", self.len())
                .with("found", length);
            check(length == self.len(), &format!("{field}.{column}"), fact)?;
        }
        let length = self.fused_with.len();
        let fact = Fact::new("run_column")
            .with("expected", self.len())
            .with("found", length);
        let fits = length == 0 || length == self.len();
        check(fits, &format!("{field}.fused_with"), fact)?;
        for (i, name) in self.names.iter().enumerate() {
            let field = format!("{field}.names[{i}]");
            check_text(&field, name)?;
            let fact = Fact::new("run_block")
                .with("name", &name[..])
                .with("n_blocks", n_blocks);
            let inside = family::block_of_span(name).is_none_or(|block| block < n_blocks);
            check(inside, &field, fact)?;
        }
        for i in 0..self.len() {
            let at = |column: &str| format!("{field}.{column}[{i}]");
            let fact = Fact::new("run_name").with("length", self.names.len());
            check(self.name[i] < self.names.len(), &at("name"), fact)?;
            let fact = Fact::new("run_pass").with("most", decode_tokens);
            check(self.pass[i] <= decode_tokens, &at("pass"), fact)?;
            let parent = self.parent[i];
            let fact = || Fact::new("run_parent");
            let earlier = (-1..i as i64).contains(&parent);
            check(earlier, &at("parent"), fact())?;
            let same = parent < 0 || self.pass[parent as usize] == self.pass[i];
            check(same, &at("parent"), fact())?;
            let first = self.fused_with.get(i).copied().unwrap_or(-1);
            let not_later = (-1..=i as i64).contains(&first);
            check(not_later, &at("fused_with"), Fact::new("run_fused"))?;
            for (column, value) in [
                ("start_us", self.start_us[i]),
                ("duration_us", self.duration_us[i]),
                ("flops", self.flops[i]),
                ("bytes", self.bytes[i]),
            ] {
                let sane = (0.0..=1e18).contains(&value);
                check(sane, &at(column), Fact::new("run_number"))?;
            }
        }
        Ok(())
    }
}

pub(super) fn bad(field: &str, fact: Fact) -> Error {
    Error::Run {
        field: field.into(),
        fact,
    }
}

fn check(holds: bool, field: &str, fact: Fact) -> Result<()> {
    if holds { Ok(()) } else { Err(bad(field, fact)) }
}

fn check_text(field: &str, text: &str) -> Result<()> {
    let fact = Fact::new("run_text").with("most", MAX_TEXT_CHARS);
    let sane = text.chars().count() <= MAX_TEXT_CHARS && !text.contains(char::is_control);
    check(sane, field, fact)
}

/// The start of a text from a file, short enough for an error message.
fn shortened(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
