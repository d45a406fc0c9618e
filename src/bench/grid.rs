//! Measures the kernels of a graphics device one by one: every variant at the matrices of Zamba2-1.2B with random
//! weights, then the scan, attention and norms, as lines of JSON. A run that ends early loses no line, and the next run
//! continues after it.

mod cells;
mod plain;
mod timing;

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::base::clock::now_us;
use crate::base::error::{Error, Fact, Result};
use crate::base::quant::WeightFormat;
use crate::bench::{MODULE, matrix};
use crate::device::cpu::Cpu;
use crate::device::webgpu::WebGpu;
use crate::ops::Ops;
use crate::ops::device::Linear;
use crate::ops::work::{self, Work};
pub use cells::Selection;
use cells::{Cell, Matrix};
use timing::{Spread, spread, stopwatch};

/// Calls cycle through copies of a matrix of at least this size in total: more than the last-level cache of any
/// graphics adapter.
const COPIES_BYTES: u64 = 512 << 20;
/// On a software adapter, which uses the machine's memory.
const SOFTWARE_COPIES_BYTES: u64 = 64 << 20;
/// Tokens whose results are compared with the CPU's.
const CHECKED_TOKENS: usize = 4;
/// Relative to the largest result. Sums of up to 8192 products in f32 differ from the CPU's in their order only.
const TOLERANCE: f32 = 1e-4;

/// The scope of a run.
pub struct GridSettings {
    pub selection: Selection,
    /// No cell begins after this time.
    pub seconds: f64,
    /// Compare results only; measure nothing.
    pub only_check: bool,
    /// The adapter's name where the device does not know it, as in a browser.
    pub adapter_name: Option<String>,
}

/// The result of a cell. Rates are those of the median.
#[derive(Serialize)]
struct CellTime {
    us: Spread,
    gb_per_s: f64,
    percent_of_copy: f64,
    gflops: f64,
    /// Calls per measurement, and measurements.
    calls: usize,
    batches: usize,
}

impl CellTime {
    fn new(
        work: Work,
        (us, calls, batches): (Spread, usize, usize),
        copy_gb_per_s: f64,
    ) -> CellTime {
        CellTime {
            gb_per_s: work.bytes() / us.median / 1e3,
            percent_of_copy: work.bytes() / us.median / 10.0 / copy_gb_per_s,
            gflops: work.flops / us.median / 1e3,
            us,
            calls,
            batches,
        }
    }
}

/// Measures until `settings.seconds` are over or all cells are done, and passes every line to `emit`. `earlier` has the
/// lines of an earlier run, whose cells are not measured again. Returns the number of remaining cells.
///
/// # Errors
/// The device's own failure; that of `emit`; `bad_option` if `earlier` is from another device or version.
pub async fn run(
    device: WebGpu,
    settings: &GridSettings,
    earlier: &str,
    mut emit: impl FnMut(&str) -> Result<()>,
) -> Result<usize> {
    let start_us = now_us();
    let head = device_line(&device, settings.adapter_name.as_deref());
    let mut ops = Ops::new(device);
    let done = Done::parse(earlier, &head, settings.only_check)?;
    if earlier.is_empty() {
        emit(&head)?;
    }
    let copy_gb_per_s = match done.copy_gb_per_s {
        Some(rate) => Some(rate),
        None if settings.only_check => None,
        None => Some(first_lines(&mut ops, &mut emit).await?),
    };
    let plain = cells::plain(&settings.selection).into_iter();
    let plain: Vec<_> = plain
        .filter(|cell| !done.cells.contains(&cell.name()))
        .collect();
    let cells = cells::all(ops.device(), &settings.selection);
    let mut left = (cells.into_iter()).filter(|cell| !done.cells.contains(&cell.name()));
    let mut loaded: Option<Loaded> = None;
    while let Some(cell) = left.next() {
        if now_us() - start_us > 1e6 * settings.seconds {
            return Ok(1 + left.count() + plain.len());
        }
        let shape = (cell.format, cell.matrix.name);
        let weights = match loaded.take().filter(|weights| weights.shape == shape) {
            Some(weights) => weights,
            None => Loaded::new(&mut ops, cell.format, cell.matrix),
        };
        let weights = loaded.insert(weights);
        emit(&measure(&mut ops, weights, &cell, copy_gb_per_s).await?)?;
    }
    drop(loaded);
    let mut left = plain.into_iter();
    while let Some(cell) = left.next() {
        if now_us() - start_us > 1e6 * settings.seconds {
            return Ok(1 + left.count());
        }
        emit(&plain::measure(&mut ops, &cell, copy_gb_per_s).await?)?;
    }
    Ok(0)
}

/// The cells that an earlier run has measured.
#[derive(Default)]
struct Done {
    cells: HashSet<String>,
    copy_gb_per_s: Option<f64>,
}

impl Done {
    fn parse(earlier: &str, device: &str, only_check: bool) -> Result<Done> {
        let mut done = Done::default();
        let mut lines = earlier.lines();
        if lines.next().is_some_and(|line| line != device) {
            return Err(Error::Setting {
                name: "out".into(),
                fact: Fact::new("other_device"),
            });
        }
        // The last line may be incomplete.
        for line in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let is_done = only_check || !line["time"].is_null() || line["compiles"] == false;
            if let Some(cell) = line["cell"].as_str().filter(|_| is_done) {
                done.cells.insert(cell.into());
            }
            if let Some(rate) = line["copy_gb_per_s"].as_f64() {
                done.copy_gb_per_s = Some(rate);
            }
        }
        Ok(done)
    }
}

fn device_line(device: &WebGpu, name: Option<&str>) -> String {
    let mut adapter = device.adapter().clone();
    if let Some(name) = name {
        adapter.name = name.into();
    }
    let line = json!({
        "line": "device",
        "version": env!("CARGO_PKG_VERSION"),
        "shaders": device.shader_version(),
        "adapter": adapter,
    });
    line.to_string()
}

/// Measures the cost of a dispatch and the ceilings. Returns the bandwidth of copying.
async fn first_lines(
    ops: &mut Ops<WebGpu>,
    emit: &mut impl FnMut(&str) -> Result<()>,
) -> Result<f64> {
    emit(&timing::dispatch_line(ops).await?)?;
    let ceilings = ops.device_mut().ceilings().await?;
    let copy_gb_per_s = ceilings.copy_gb_per_s.unwrap_or(ceilings.read_gb_per_s);
    let line = json!({
        "line": "ceilings",
        "read_gb_per_s": ceilings.read_gb_per_s,
        "copy_gb_per_s": copy_gb_per_s,
        "f32_gflops": 2.0 * ceilings.f32_gmacs_per_s,
    });
    emit(&line.to_string())?;
    Ok(copy_gb_per_s)
}

/// Copies of a matrix on the device, and one on the CPU for comparison.
struct Loaded {
    shape: (WeightFormat, &'static str),
    copies: Vec<Linear<WebGpu>>,
    cpu: Ops<Cpu>,
    on_cpu: Linear<Cpu>,
}

impl Loaded {
    fn new(ops: &mut Ops<WebGpu>, format: WeightFormat, of: &'static Matrix) -> Loaded {
        let host = matrix(format, [of.d_out, of.d_in]);
        let total_bytes = match ops.device().adapter().software {
            true => SOFTWARE_COPIES_BYTES,
            false => COPIES_BYTES,
        };
        let n_copies = total_bytes.div_ceil(host.bytes.len() as u64);
        let mut cpu = Ops::new(Cpu::new(1));
        let on_cpu = Linear {
            module: MODULE,
            weight: cpu.weight(&host).into(), // [d_out, d_in]
            bias: None,
        };
        let copy = |_| Linear {
            module: MODULE,
            weight: ops.weight(&host).into(), // [d_out, d_in]
            bias: None,
        };
        Loaded {
            shape: (format, of.name),
            copies: (0..n_copies).map(copy).collect(),
            cpu,
            on_cpu,
        }
    }
}

/// The line of one cell. Without the bandwidth of copying it is only compared with the CPU.
async fn measure(
    ops: &mut Ops<WebGpu>,
    weights: &mut Loaded,
    cell: &Cell,
    copy_gb_per_s: Option<f64>,
) -> Result<String> {
    let Matrix { d_out, d_in, .. } = *cell.matrix;
    let compile_start_us = now_us();
    let device = ops.device_mut();
    let is_accepted = device.try_variant(cell.op, cell.format, cell.variant).await;
    let compile_us = now_us() - compile_start_us;
    if !is_accepted {
        return Ok(cell_line(
            cell,
            json!({ "is_right": false, "compiles": false }),
        ));
    }
    let numbers = exact_inputs(cell.tokens, d_in);
    let x = ops.constant(cell.tokens, d_in, numbers.clone()); // [T, d_in]
    let mut y = ops.tensor(cell.tokens, d_out); // [T, d_out]
    let mut watch = stopwatch(ops);
    let mut call = |ops: &mut Ops<WebGpu>, at: usize| {
        let linear = &weights.copies[at % weights.copies.len()];
        ops.linear(linear, &x, &mut y);
    };
    watch.wall_us(ops, 1, &mut call).await?;
    let second_us = watch.wall_us(ops, 1, &mut call).await?;
    let work = work::linear(cell.tokens, [d_out, d_in], cell.format, false);
    let mut time = None;
    if let Some(copy_gb_per_s) = copy_gb_per_s {
        let spread = spread(&mut watch, ops, second_us, &mut call).await?;
        time = Some(CellTime::new(work, spread, copy_gb_per_s));
    }
    let got = ops.read(&y).await?;
    let difference = difference(weights, &numbers, &got, cell.tokens).await?;
    let found = json!({
        "compile_ms": compile_us / 1e3,
        "difference": difference,
        "is_right": difference <= TOLERANCE,
        "time": time,
    });
    Ok(cell_line(cell, found))
}

/// The line of a cell: its parameters and `found`.
fn cell_line(cell: &Cell, found: Value) -> String {
    let mut line = json!({
        "line": "cell",
        "cell": cell.name(),
        "op": cell.op.name(),
        "variant": cell.variant_name,
        "format": cell.format.name(),
        "matrix": cell.matrix.name,
        "d_out": cell.matrix.d_out,
        "d_in": cell.matrix.d_in,
        "tokens": cell.tokens,
    });
    if let (Some(line), Value::Object(found)) = (line.as_object_mut(), found) {
        line.extend(found);
    }
    line.to_string()
}

/// Integers that the CPU's 8-bit activations represent exactly: the largest of each block is 127. // [tokens, d_in]
fn exact_inputs(tokens: usize, d_in: usize) -> Vec<f32> {
    let number = |at: usize| match at % d_in % 32 {
        0 => 127.0,
        _ => (at * 7919 % 251) as f32 - 125.0,
    };
    (0..tokens * d_in).map(number).collect()
}

/// The largest difference from the CPU's results for a few tokens, relative to the largest of them. NaN counts as
/// infinite.
async fn difference(weights: &mut Loaded, x: &[f32], got: &[f32], tokens: usize) -> Result<f32> {
    let (d_in, d_out) = (x.len() / tokens, got.len() / tokens);
    let checked: Vec<usize> = (0..CHECKED_TOKENS.min(tokens))
        .map(|i| i * (tokens - 1) / (CHECKED_TOKENS - 1).max(1))
        .collect();
    let rows_of = |values: &[f32], width: usize| -> Vec<f32> {
        let rows = checked.iter().map(|row| &values[row * width..][..width]);
        rows.collect::<Vec<_>>().concat()
    };
    let Loaded { cpu, on_cpu, .. } = weights;
    let x = cpu.constant(checked.len(), d_in, rows_of(x, d_in)); // [checked, d_in]
    let mut y = cpu.tensor(checked.len(), d_out); // [checked, d_out]
    cpu.linear(on_cpu, &x, &mut y);
    let expected = cpu.read(&y).await?;
    Ok(relative_difference(&rows_of(got, d_out), &expected))
}

/// The largest difference, relative to the largest number. NaN counts as infinite.
fn relative_difference(got: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    let pairs = got.iter().zip(expected);
    pairs.fold(0.0, |most: f32, (got, expected)| {
        let off = (got - expected).abs() / largest;
        if off.is_nan() {
            f32::MAX
        } else {
            most.max(off)
        }
    })
}
