//! A saved run, its summary, and the reports that are made from it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zamba2::report::run::Run;
use zamba2::report::{self, summary};
use zamba2::words::Language;

fuzz_target!(|text: &str| {
    let Ok(run) = Run::parse(text) else {
        return;
    };
    summary::summarise(&run);
    for format in ["markdown", "json", "csv", "trace"] {
        report::export(&run, format.parse().unwrap(), Language::En);
    }
});
