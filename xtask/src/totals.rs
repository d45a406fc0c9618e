//! How many tests have passed, by stage.

use anyhow::Result;

use crate::steps::in_words;

/// How many tests a stage has run.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    /// How many of those that passed did so in an earlier run, and still hold.
    pub kept: usize,
    /// What was skipped, and why.
    pub skipped: Vec<String>,
}

impl Counts {
    /// A check that counts as one test.
    pub fn one() -> Counts {
        Counts {
            passed: 1,
            ..Counts::default()
        }
    }

    pub fn all_passed(&self) -> bool {
        self.failed == 0 && self.skipped.is_empty()
    }

    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.kept += other.kept;
        self.skipped.extend(other.skipped);
    }

    /// Tests that have passed in an earlier run.
    pub fn kept(n: usize) -> Counts {
        Counts {
            passed: n,
            kept: n,
            ..Counts::default()
        }
    }

    /// Parses the output of test runners: totals, and the lines about what was skipped or kept.
    pub fn of_output(output: &str) -> Counts {
        let mut counts = Counts::default();
        for line in output.lines() {
            if let Some((_, reason)) = line.split_once("SKIPPED: ") {
                counts.skipped.push(reason.to_owned());
                continue;
            }
            if let Some(kept) = line.strip_prefix("KEPT: ") {
                counts.kept += kept.parse::<usize>().unwrap_or_default();
                continue;
            }
            // "test result: ok. 12 passed; 0 failed; …" of Rust, and "12 passed, 0 failed" of tests/browser/run.js.
            let totals = line.strip_prefix("test result: ").unwrap_or(line);
            let totals = totals
                .trim_start_matches("ok. ")
                .trim_start_matches("FAILED. ");
            let (Some(passed), Some(failed)) =
                (number_of("passed", totals), number_of("failed", totals))
            else {
                continue;
            };
            counts.passed += passed;
            counts.failed += failed;
        }
        counts
    }
}

/// The number before a word in "12 passed; 0 failed".
fn number_of(word: &str, totals: &str) -> Option<usize> {
    let part = totals.split([';', ',']).find(|part| part.ends_with(word))?;
    part.trim().strip_suffix(word)?.trim().parse().ok()
}

/// The result of a stage.
pub struct StageResult {
    pub name: &'static str,
    seconds: f32,
    counts: Counts,
    error: Option<String>,
}

impl StageResult {
    pub fn new(name: &'static str, seconds: f32, counts: Result<Counts>) -> StageResult {
        let (mut counts, error) = match counts {
            Ok(counts) => (counts, None),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        if error.is_some() {
            counts.failed += 1;
        }
        StageResult {
            name,
            seconds,
            counts,
            error,
        }
    }

    pub fn passed(&self) -> bool {
        self.counts.failed == 0
    }

    pub fn line(&self) -> String {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let error = self.error.iter().map(|error| format!(": {error}"));
        format!("== {} {verdict}{}", self.name, error.collect::<String>())
    }
}

/// A table of the stages, what was skipped, and the totals in the last line.
pub fn summary(results: &[StageResult], seconds: f32) -> String {
    let mut lines = vec![format!(
        "\n{:<8} {:>7} {:>7} {:>8}",
        "stage", "passed", "failed", "time"
    )];
    let (mut total, mut held) = (Counts::default(), Vec::new());
    for result in results {
        let Counts {
            passed,
            failed,
            skipped,
            kept,
        } = &result.counts;
        let time = in_words(result.seconds);
        lines.push(format!(
            "{:<8} {passed:>7} {failed:>7} {time:>8}",
            result.name
        ));
        total.passed += passed;
        total.failed += failed;
        if *kept > 0 {
            held.push(format!("{kept} in {}", result.name));
        }
        total
            .skipped
            .extend(skipped.iter().map(|why| format!("{}: {why}", result.name)));
    }
    if !held.is_empty() {
        lines.push(format!(
            "Passed in an earlier run, and nothing they depend on has changed since: {}. `--fresh` runs all.",
            held.join(", ")
        ));
    }
    lines.extend(total.skipped.iter().map(|why| format!("skipped in {why}")));
    if total.failed > 0 {
        lines.push("Run a single stage with `cargo xtask test --only STAGE`.".to_owned());
    }
    lines.push(format!("Total time: {}.", in_words(seconds)));
    lines.push(format!(
        "{} passed, {} failed, {} skipped",
        total.passed,
        total.failed,
        total.skipped.len()
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Counts, StageResult, summary};

    #[test]
    fn totals_of_both_runners_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\
            SKIPPED: no adapter\n\
            KEPT: 30\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured\n\
            40 passed, 2 failed, 1 skipped\n\
            the page passed, which failed nobody\n";
        let counts = Counts {
            passed: 45,
            failed: 3,
            kept: 30,
            skipped: vec!["no adapter".to_owned()],
        };
        assert_eq!(Counts::of_output(output), counts);
    }

    #[test]
    fn the_last_line_has_the_totals_and_a_stage_with_an_error_counts_as_failed() {
        let results = [
            StageResult::new("format", 1.0, Ok(Counts::one())),
            StageResult::new("lint", 2.0, Err(anyhow::anyhow!("no clippy"))),
        ];
        assert_eq!(results[1].line(), "== lint FAILED: no clippy");
        let text = summary(&results, 3.0);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
        assert!(!text.contains("earlier run"), "{text}");
    }

    #[test]
    fn the_summary_says_what_was_not_run_again() {
        let text = summary(
            &[StageResult::new("kernels", 0.1, Ok(Counts::kept(372)))],
            1.0,
        );
        assert!(text.contains("since: 372 in kernels."), "{text}");
        assert_eq!(text.lines().last(), Some("372 passed, 0 failed, 0 skipped"));
    }
}
