//! `zamba2 bench-kernels`: single kernels against the ceilings of this machine, as the library measures them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use pollster::block_on;
use zamba2::base::error::Error;
use zamba2::bench::grid::{self, GridSettings, Selection};
use zamba2::bench::{self, KernelReport};
use zamba2::device::webgpu::WebGpu;

use super::device::{BackendChoice, KernelDevice};
use super::{Failure, print, print_json, say};

/// Measure single kernels at the sizes of Zamba2-1.2B, and the ceilings of the machine.
///
/// No checkpoint is needed. On the CPU each figure is the median of nine rounds after three that don't count; the
/// percentage is the time that the ceilings allow, by arithmetic or by reading memory, divided by the time taken.
///
/// On a graphics adapter every variant of a kernel is compared with the CPU and measured, one line of JSON each, the
/// most useful first.
#[derive(Args)]
pub struct Arguments {
    /// Threads to compute on; as many as the machine has, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// The backend whose kernels are measured.
    #[arg(long, value_enum, default_value_t = BackendChoice::Cpu)]
    backend: BackendChoice,

    /// Adapter: a JSON file with the cells to measure, for example {"formats": ["q4"], "tokens": [1]}; lists of `ops`,
    /// `variants`, `formats`, `matrices` and `tokens`. Default: all.
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,

    /// Adapter: append the lines to this file and leave out the cells that it has already.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Adapter: begin no cell after this time.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    seconds: f64,

    /// Adapter: only compare results with the CPU's.
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let available = || thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or_else(available, usize::from);
    match arguments.backend.open_for_kernels(threads)? {
        KernelDevice::Cpu(cpu) => {
            let report = bench::run(*cpu);
            if json {
                return print_json(&report);
            }
            print(&table(&report))
        }
        KernelDevice::WebGpu(device) => run_grid(*device, arguments),
    }
}

fn run_grid(device: WebGpu, arguments: &Arguments) -> Result<(), Failure> {
    let settings = GridSettings {
        selection: selection(arguments.grid.as_deref())?,
        seconds: arguments.seconds,
        only_check: arguments.check,
        adapter_name: None,
    };
    let (mut earlier, mut out) = (String::new(), None);
    if let Some(path) = &arguments.out {
        earlier = fs::read_to_string(path).unwrap_or_default();
        let opened = File::options().append(true).create(true).open(path);
        out = Some(opened.map_err(|error| io_error(path, &error))?);
    }
    let emit = |line: &str| {
        let written = match &mut out {
            Some(file) => writeln!(file, "{line}"),
            None => writeln!(std::io::stdout(), "{line}"),
        };
        let file = arguments.out.as_deref().unwrap_or(Path::new("stdout"));
        written.map_err(|error| io_error(file, &error))
    };
    match block_on(grid::run(device, &settings, &earlier, emit))? {
        0 => say("all cells are done"),
        n => say(&format!("{n} cells are left")),
    }
    Ok(())
}

fn selection(path: Option<&Path>) -> Result<Selection, Error> {
    let Some(path) = path else {
        return Ok(Selection::default());
    };
    let text = fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
    serde_json::from_str(&text).map_err(|error| io_error(path, &error.into()))
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Io {
        file: path.display().to_string(),
        fact: error.to_string().into(),
    }
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
