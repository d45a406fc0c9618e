//! The cells of ops without variants.

use serde_json::json;

use crate::base::error::Result;
use crate::bench::MODULE;
use crate::bench::cases::{self, Case, HIDDEN, tensor};
use crate::bench::grid::cells::{PlainCell, PlainOp};
use crate::bench::grid::timing::{spread, stopwatch};
use crate::bench::grid::{CellTime, relative_difference};
use crate::device::cpu::Cpu;
use crate::device::webgpu::WebGpu;
use crate::ops::Ops;
use crate::ops::device::{Device, KvFormat, Norm};
use crate::ops::work;

/// Relative to the largest result. The CPU's attention over an 8-bit cache has 16-bit queries and weights, and sums of
/// many positions are small; the other ops differ in the order of sums and in exponentials.
const TOLERANCE: f32 = 1e-3;

fn case<D: Device + 'static>(ops: &mut Ops<D>, cell: &PlainCell) -> Case<D> {
    match cell.op {
        PlainOp::SsmScan => cases::ssm_scan(ops, cell.tokens),
        PlainOp::Attention => cases::attention(ops, KvFormat::I8, cell.context, cell.tokens),
        PlainOp::RmsNorm => rms_norm(ops, cell.tokens),
        PlainOp::GatedRmsNorm => cases::gated_rms_norm(ops, cell.tokens),
    }
}

fn rms_norm<D: Device + 'static>(ops: &mut Ops<D>, tokens: usize) -> Case<D> {
    let norm = Norm {
        module: MODULE,
        weight: tensor(ops, 1, HIDDEN), // [1, h]
        eps: 1e-5,
    };
    let x = tensor(ops, tokens, HIDDEN); // [T, h]
    Case {
        work: work::norm(HIDDEN),
        y: ops.tensor(tokens, HIDDEN), // [T, h]
        run: Box::new(move |ops, _, y| ops.rms_norm(&norm, &x, y)),
    }
}

/// The line of one cell. Without the bandwidth of copying it is only compared with the CPU.
pub async fn measure(
    ops: &mut Ops<WebGpu>,
    cell: &PlainCell,
    copy_gb_per_s: Option<f64>,
) -> Result<String> {
    let mut on_device = case(ops, cell);
    on_device.call(ops, 0);
    let got = ops.read(&on_device.y).await?;
    let cpu = &mut Ops::new(Cpu::new(1));
    let mut on_cpu = case(cpu, cell);
    on_cpu.call(cpu, 0);
    let difference = relative_difference(&got, &cpu.read(&on_cpu.y).await?);
    let mut time = None;
    if let Some(copy_gb_per_s) = copy_gb_per_s {
        let work = on_device.work;
        let mut watch = stopwatch(ops);
        let mut call = |ops: &mut Ops<WebGpu>, at: usize| on_device.call(ops, at);
        let guess_us = watch.wall_us(ops, 1, &mut call).await?;
        let spread = spread(&mut watch, ops, guess_us, &mut call).await?;
        time = Some(CellTime::new(work, spread, copy_gb_per_s));
    }
    let line = json!({
        "line": "cell",
        "cell": cell.name(),
        "op": cell.op.name(),
        "tokens": cell.tokens,
        "context": cell.context,
        "difference": difference,
        "is_right": difference <= TOLERANCE,
        "time": time,
    });
    Ok(line.to_string())
}
