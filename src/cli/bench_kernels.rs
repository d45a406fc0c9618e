//! `zamba2 bench-kernels`: single kernels against the ceilings of this machine. It only prints what
//! the library measures.

use std::thread;

use clap::Args;
use zamba2::bench::{self, KernelReport};
use zamba2::device::cpu::Cpu;

use super::{Failure, print, print_json};

/// Measure single kernels at the sizes of Zamba2-1.2B, and what the machine can do at best.
///
/// No checkpoint is needed. Each figure is the median of nine rounds after three that don't count; the percentage is
/// the time that the ceilings allow, by arithmetic or by reading memory, divided by the time taken.
#[derive(Args)]
pub struct Arguments {
    /// Threads to compute on; as many as the machine has, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let available = || thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or_else(available, usize::from);
    let report = bench::run(Cpu::new(threads));
    if json {
        return print_json(&report);
    }
    print(&table(&report))
}

fn table(report: &KernelReport) -> String {
    let c = &report.ceilings;
    let mut text = format!(
        "Ceilings of {} threads: int8 {:.1}, 16-bit {:.1}, f32 {:.1} GMAC/s; reading {:.1}, copying {:.1} GB/s\n\
         {:<24} {:>6} {:>10} {:>9} {:>7} {:>9} {:>12}\n",
        c.threads,
        c.int8_gmacs_per_s,
        c.int16_gmacs_per_s,
        c.f32_gmacs_per_s,
        c.read_gb_per_s,
        c.copy_gb_per_s.unwrap_or_default(),
        "kernel",
        "tokens",
        "us",
        "GMAC/s",
        "GB/s",
        "% of roof",
        "roof"
    );
    for k in &report.kernels {
        text.push_str(&format!(
            "{:<24} {:>6} {:>10.1} {:>9.1} {:>7.1} {:>9.0} {:>12}\n",
            k.kernel,
            k.tokens,
            k.us,
            k.gmacs_per_s,
            k.gb_per_s,
            k.percent_of_ceiling,
            format!("{:?}", k.bound).to_lowercase()
        ));
    }
    text
}
