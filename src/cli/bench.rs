//! `zamba2 bench`: how fast the model runs on this machine. The report counts the work from shapes; only times are
//! measured.

use clap::Args;
use pollster::block_on;
use serde::Serialize;
use zamba2::base::clock::now_us;
use zamba2::base::error::Error;
use zamba2::base::quant::WeightFormat;
use zamba2::model::NumericSettings;
use zamba2::model::config::Config;
use zamba2::ops::device::Ceilings;
use zamba2::report::count::{self, Formats, Kind, ModuleWork};
use zamba2::report::measure::{self, NextRun, Protocol};
use zamba2::session::{GenerateOptions, Session};
use zamba2::text::sampling::SamplingOptions;

use super::device::{AdapterRecord, CliDevice, on_device};
use super::{Failure, OpenArguments, print, print_json, proc_bytes};

/// Measure prefill and decode on made-up tokens.
///
/// After one warm-up run, each figure is the median of the runs, followed by the minimum and the maximum. Work is
/// counted in multiply-accumulates of the linear layers (1 MAC is 2 FLOP); a shared transformer counts once per call.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 35, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,

    /// Tokens to decode in each run.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    decode: u32,

    #[arg(long, help = super::weights_help(), default_value = "q4", value_name = "FORMAT")]
    weights: WeightFormat,

    /// Runs to measure.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// The work of every module in a pass. This command shows the linear layers and the weights, without the KV cache.
fn works(
    config: &Config,
    weights: WeightFormat,
    chunk_rows: usize,
    tokens: usize,
) -> Vec<ModuleWork> {
    let formats = Formats {
        weights,
        kv_position_bytes: 0.0,
        chunk_rows,
    };
    count::pass(config, tokens, 0, formats)
}

/// Multiply-accumulates of the linear layers.
fn linear_macs(works: &[ModuleWork]) -> u64 {
    let linear = works.iter().filter(|work| work.kind == Kind::Linear);
    linear.map(|work| work.flops as u64 / 2).sum()
}

fn weight_bytes(works: &[ModuleWork]) -> u64 {
    works.iter().map(|work| work.weight_bytes as u64).sum()
}

/// A figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of at least one value.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let (n, middle) = (values.len(), values.len() / 2);
        let median = match n % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Spread {
            median,
            min: values[0],
            max: values[n - 1],
        }
    }
}

#[derive(Serialize)]
struct Output {
    weights: &'static str,
    backend: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterRecord>,
    threads: usize,
    runs: u32,
    prompt_tokens: u32,
    decode_tokens: u32,
    context: usize,
    load_ms: f64,
    prefill_ms: Spread,
    prefill_tokens_per_s: f64,
    prefill_macs: u64,
    prefill_gmacs_per_s: f64,
    /// Per decoded token.
    decode_ms: Spread,
    decode_tokens_per_s: f64,
    decode_macs: u64,
    decode_gmacs_per_s: f64,
    decode_weight_bytes: u64,
    decode_weight_gb_per_s: f64,
    /// Dispatches per decoded token, if the backend counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_dispatches: Option<u64>,
    /// Of the same device, measured immediately before the model's runs.
    ceilings: Ceilings,
    /// Percentage of the peak of int8 products for q4, of int16 for q8 and of f32 for f32.
    prefill_percent_of_ceiling: f64,
    /// Percentage of the memory bandwidth, counting the bytes of the weights only.
    decode_percent_of_ceiling: f64,
    weights_bytes: u64,
    cache_bytes: u64,
    /// Only on systems that report it.
    peak_memory_bytes: Option<u64>,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let opened = arguments.open.backend(arguments.weights)?;
    on_device!(opened, device => run_on(*device, arguments, json))
}

fn run_on<B: CliDevice>(device: B, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let load_start_us = now_us();
    let mut session = arguments
        .open
        .open(device, arguments.weights, NumericSettings::default())?;
    let load_ms = (now_us() - load_start_us) / 1e3;
    let tokens = arguments.prompt as usize + arguments.decode as usize;
    if tokens > session.context() {
        return Err(Failure::Model(Error::PromptTooLong {
            tokens,
            limit: session.context(),
        }));
    }
    let ceilings = session.backend_mut().ceilings()?;

    let (mut prefill_ms, mut decode_ms) = (Vec::new(), Vec::new());
    let mut decode_dispatches = None;
    let protocol = Protocol {
        runs: arguments.runs as usize,
        is_recorded: false,
        ..Protocol::default()
    };
    for next in protocol.sequence() {
        let (prefill, decode, dispatches) = measure(&mut session, arguments)?;
        decode_dispatches = dispatches;
        if next == NextRun::Unprofiled {
            prefill_ms.push(prefill);
            decode_ms.push(decode);
        }
    }
    let (prefill_ms, decode_ms) = (Spread::of(prefill_ms), Spread::of(decode_ms));
    let works = |tokens| {
        works(
            session.config(),
            arguments.weights,
            session.chunk_rows(),
            tokens,
        )
    };
    let prefill_macs = linear_macs(&works(arguments.prompt as usize));
    let decode = works(1);
    let (decode_macs, decode_weight_bytes) = (linear_macs(&decode), weight_bytes(&decode));
    let peak = ceilings.gmacs_per_s(arguments.weights.arithmetic());
    let output = Output {
        weights: arguments.weights.name(),
        backend: session.backend().label(),
        adapter: session.backend().adapter(),
        threads: session.backend().threads(),
        runs: arguments.runs,
        prompt_tokens: arguments.prompt,
        decode_tokens: arguments.decode,
        context: session.context(),
        load_ms,
        prefill_ms,
        prefill_tokens_per_s: 1e3 * f64::from(arguments.prompt) / prefill_ms.median,
        prefill_macs,
        prefill_gmacs_per_s: prefill_macs as f64 / 1e6 / prefill_ms.median,
        decode_ms,
        decode_tokens_per_s: 1e3 / decode_ms.median,
        decode_macs,
        decode_gmacs_per_s: decode_macs as f64 / 1e6 / decode_ms.median,
        decode_weight_bytes,
        decode_weight_gb_per_s: decode_weight_bytes as f64 / 1e6 / decode_ms.median,
        decode_dispatches,
        ceilings,
        prefill_percent_of_ceiling: prefill_macs as f64 / 1e4 / prefill_ms.median / peak,
        decode_percent_of_ceiling: decode_weight_bytes as f64
            / 1e4
            / decode_ms.median
            / ceilings.read_gb_per_s,
        weights_bytes: session.weights_bytes(),
        cache_bytes: session.cache_bytes(),
        peak_memory_bytes: proc_bytes("/proc/self/status", "VmHWM"),
    };
    if json {
        return print_json(&output);
    }
    print(&table(&output))
}

/// Milliseconds of a prefill and, per token, of the decode steps after it; dispatches per decoded token.
fn measure<B: CliDevice>(
    session: &mut Session<B>,
    arguments: &Arguments,
) -> Result<(f64, f64, Option<u64>), Failure> {
    let vocab_size = session.config().vocab_size;
    let prompt = measure::prompt(None, arguments.prompt as usize, vocab_size);
    let options = GenerateOptions {
        max_tokens: arguments.decode as usize + 1,
        sampling: SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        },
        ignore_eos: true,
        cache_prompt: false,
        lookup: 0,
        ..GenerateOptions::default()
    };
    let start_us = now_us();
    session.start(&prompt, options)?;
    block_on(session.step())?;
    let first_us = now_us();
    let before = session.backend().dispatches();
    for _ in 0..arguments.decode {
        block_on(session.step())?;
    }
    let decode_us = (now_us() - first_us) / f64::from(arguments.decode);
    let after = session.backend().dispatches();
    let dispatches = after.zip(before).map(|(after, before)| after - before);
    let per_token = dispatches.map(|n| n / u64::from(arguments.decode));
    Ok(((first_us - start_us) / 1e3, decode_us / 1e3, per_token))
}

fn table(output: &Output) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let peak = output
        .peak_memory_bytes
        .map_or("unknown".into(), |bytes| format!("{:.3} GB", gb(bytes)));
    let row = |name: &str, ms: Spread, tokens_per_s: f64, gmacs_per_s: f64| {
        format!(
            "{name:<8} {:>10.1} {:>10.1} {:>10.1} {tokens_per_s:>10.2} {gmacs_per_s:>10.1}",
            ms.median, ms.min, ms.max
        )
    };
    let prefill = row(
        "prefill",
        output.prefill_ms,
        output.prefill_tokens_per_s,
        output.prefill_gmacs_per_s,
    );
    let decode = row(
        "decode",
        output.decode_ms,
        output.decode_tokens_per_s,
        output.decode_gmacs_per_s,
    );
    let c = output.ceilings;
    let roofs = format!(
        "Ceilings in this run: int8 {:.1}, 16-bit {:.1}, f32 {:.1} GMAC/s, reading {:.1}, copying {:.1} GB/s: \
         prefill is at {:.0} % of its arithmetic, decode at {:.0} % of the reading.\n",
        c.int8_gmacs_per_s,
        c.int16_gmacs_per_s,
        c.f32_gmacs_per_s,
        c.read_gb_per_s,
        c.copy_gb_per_s.unwrap_or_default(),
        output.prefill_percent_of_ceiling,
        output.decode_percent_of_ceiling,
    );
    let dispatches = output.decode_dispatches;
    let dispatches = dispatches.map_or(String::new(), |n| format!(" and starts {n} kernels"));
    format!(
        "{} weights, {}, {} threads, {} runs, prompt of {} tokens, {} decoded\n\
         {:<8} {:>10} {:>10} {:>10} {:>10} {:>10}\n\
         {prefill}\n\
         {decode}\n\
         A decoded token reads {:.3} GB of weights, at {:.1} GB/s{dispatches}.\n\
         {roofs}\
         Loading took {:.0} ms. Weights {:.3} GB, cache {:.3} GB for {} tokens, peak memory {peak}.\n",
        output.weights,
        output.backend,
        output.threads,
        output.runs,
        output.prompt_tokens,
        output.decode_tokens,
        "",
        "ms",
        "least",
        "most",
        "tokens/s",
        "GMAC/s",
        gb(output.decode_weight_bytes),
        output.decode_weight_gb_per_s,
        output.load_ms,
        gb(output.weights_bytes),
        gb(output.cache_bytes),
        output.context,
    )
}

#[cfg(test)]
mod tests {
    use super::super::make_checkpoint::config_json;
    use super::*;

    #[test]
    fn the_work_of_the_smallest_published_model_is_known() {
        let config = Config::from_json(&config_json("zamba2-1.2b").unwrap()).unwrap();
        let decode = works(&config, WeightFormat::Q4, 64, 1);
        // The reference's count of linear layers: 3.5185 GFLOP for a token; 118.691 GFLOP for 35 tokens and one row of
        // logits.
        assert_eq!(linear_macs(&decode), 1_759_248_384);
        let prefill = works(&config, WeightFormat::Q4, 64, 35);
        assert_eq!(2 * linear_macs(&prefill), 118_690_938_880);
        let bytes = weight_bytes(&decode);
        assert!((1_020_000_000..1_040_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_median_of_an_even_number_of_runs_lies_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 10.0]);
        assert_eq!((spread.median, spread.min, spread.max), (3.5, 1.0, 10.0));
        assert_eq!(Spread::of(vec![2.0]).median, 2.0);
    }
}
