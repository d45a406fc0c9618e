//! `zamba2 pack`: a checkpoint quantised ahead of time, for static hosts and quick starts. The
//! format is defined by `src/loader/packed.rs`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::folder;
use zamba2::loader::packed::MANIFEST;
use zamba2::model::NumericSettings;
use zamba2::session::LoadSettings;

use super::{Failure, print, print_json, proc_bytes, progress};

/// Quantise a checkpoint into a folder that the page and this program load directly.
///
/// The folder gets one file per block and a manifest with the SHA-256 of each. Any static host can serve it. The bytes
/// are those that the page stores after quantising the same checkpoint.
#[derive(Args)]
pub struct Arguments {
    /// The checkpoint folder.
    dir: PathBuf,

    /// The folder to write; it is created if it does not exist.
    out: PathBuf,

    /// q4, q8 or f32.
    #[arg(long, default_value = "q4")]
    weights: String,

    /// Replace the files of a folder that is not empty.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Output {
    out: String,
    weights: String,
    units: usize,
    bytes: u64,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let Arguments { dir, out, .. } = arguments;
    let weights: WeightFormat = arguments.weights.parse().map_err(Failure::Model)?;
    if !dir.is_dir() {
        let file = dir.display().to_string();
        return Err(Error::MissingFile { file }.into());
    }
    let occupied = out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !arguments.force {
        let dir = out.display().to_string();
        return Err(Failure::Occupied { dir });
    }
    let settings = LoadSettings {
        weights,
        context: Some(1),
        numeric: NumericSettings::default(),
        memory_limit_bytes: proc_bytes("/proc/meminfo", "MemAvailable"),
    };
    let manifest = folder::pack(Cpu::new(1), dir, out, settings, progress::of_reading(dir))?;
    let stored = manifest.units.iter().map(|unit| unit.stored.bytes);
    let output = Output {
        out: out.display().to_string(),
        units: manifest.units.len(),
        bytes: stored.sum(),
        weights: manifest.weights,
    };
    if json {
        return print_json(&output);
    }
    print(&format!(
        "{}: {} units in {}, {:.3} GB, and {MANIFEST}\n",
        output.out,
        output.units,
        output.weights,
        output.bytes as f64 / 1e9,
    ))
}
