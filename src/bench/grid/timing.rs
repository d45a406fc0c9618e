//! Times of calls on a graphics device: by its timestamps where it has them, as the slope between n and 2n calls, which
//! removes what a pass costs by itself.

use serde::Serialize;
use serde_json::json;

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::bench::MODULE;
use crate::device::webgpu::{WebGpu, WebGpuTensor};
use crate::ops::Ops;
use crate::ops::stopwatch::Stopwatch;

/// A measurement takes at least this long: browsers round timestamps to 100 µs.
const LEAST_US: f64 = 10_000.0;
/// Calls per measurement, at most: twice as many fit one submission.
const MOST_CALLS: usize = 512;
const BATCHES: usize = 3;
/// A call that takes longer than this is measured once.
const LONG_US: f64 = 300_000.0;
/// Dispatches whose price is measured, and their numbers per dispatch.
const PRICED: usize = 256;
const PRICED_WIDTH: usize = 64;

#[derive(Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
}

pub fn stopwatch(ops: &mut Ops<WebGpu>) -> Stopwatch<WebGpu> {
    let has_timestamps = ops.device().timestamp_step_us().is_some();
    Stopwatch::new(ops, has_timestamps)
}

/// Time per call, the calls per measurement and the number of measurements. `guess_us` is what one call takes.
pub async fn spread(
    watch: &mut Stopwatch<WebGpu>,
    ops: &mut Ops<WebGpu>,
    guess_us: f64,
    call: &mut impl FnMut(&mut Ops<WebGpu>, usize),
) -> Result<(Spread, usize, usize)> {
    let batches = if guess_us > LONG_US { 1 } else { BATCHES };
    let mut n = 1;
    while guess_us < LEAST_US && n < MOST_CALLS && watch.pass_us(ops, n, call).await? < LEAST_US {
        n *= 2;
    }
    let mut times_us = Vec::new();
    for _ in 0..batches {
        let once_us = watch.pass_us(ops, n, call).await?;
        let twice_us = watch.pass_us(ops, 2 * n, call).await?;
        // Noise may make the difference of two short times zero or less.
        times_us.push((twice_us - once_us).max(1e-3) / n as f64);
    }
    times_us.sort_by(f64::total_cmp);
    let spread = Spread {
        median: times_us[batches / 2],
        least: times_us[0],
    };
    Ok((spread, n, batches))
}

/// The price of a dispatch in microseconds: of independent ones, of ones that need the one before, of each in a pass of
/// its own and in a submission of its own; and the host's share.
pub async fn dispatch_line(ops: &mut Ops<WebGpu>) -> Result<String> {
    let row = vec![1.0; PRICED_WIDTH];
    let one = ops.constant(1, PRICED_WIDTH, row.clone()); // [1, width]
    let mut own: Vec<WebGpuTensor> = (0..PRICED).map(|_| ops.tensor(1, PRICED_WIDTH)).collect();
    let mut pair = [0, 1].map(|_| ops.tensor(1, PRICED_WIDTH)); // [1, width] each
    let mut watch = stopwatch(ops);
    let mut independent = |ops: &mut Ops<WebGpu>, at: usize| {
        ops.add(MODULE, &one, &one, &mut own[at % PRICED]);
    };
    watch.wall_us(ops, 1, &mut independent).await?;
    let (independent_us, ..) = spread(&mut watch, ops, 0.0, &mut independent).await?;
    let start_us = now_us();
    (0..PRICED).for_each(|at| independent(ops, at));
    ops.flush();
    let host_us = (now_us() - start_us) / PRICED as f64;
    let mut dependent = |ops: &mut Ops<WebGpu>, at: usize| {
        let [a, b] = &mut pair;
        let (from, to) = if at.is_multiple_of(2) { (a, b) } else { (b, a) };
        ops.add(MODULE, from, &one, to);
    };
    let (dependent_us, ..) = spread(&mut watch, ops, 0.0, &mut dependent).await?;
    let mut in_own_pass = |ops: &mut Ops<WebGpu>, at: usize| {
        ops.scope(MODULE, |ops| dependent(ops, at));
    };
    let pass_us = slope_us(&mut watch, ops, &mut in_own_pass).await?;
    let mut in_own_submission = |ops: &mut Ops<WebGpu>, at: usize| {
        dependent(ops, at);
        ops.flush();
    };
    let submission_us = slope_us(&mut watch, ops, &mut in_own_submission).await?;
    let line = json!({
        "line": "dispatches",
        "independent_us": independent_us,
        "dependent_us": dependent_us,
        // Without timestamps nothing divides a submission into passes.
        "own_pass_us": watch.has_timestamps().then_some(pass_us),
        "own_submission_us": submission_us,
        "host_us": host_us,
    });
    Ok(line.to_string())
}

/// The host's time per call.
async fn slope_us(
    watch: &mut Stopwatch<WebGpu>,
    ops: &mut Ops<WebGpu>,
    call: &mut impl FnMut(&mut Ops<WebGpu>, usize),
) -> Result<f64> {
    let mut least_us = f64::INFINITY;
    for _ in 0..BATCHES {
        let once_us = watch.wall_us(ops, PRICED, call).await?;
        let twice_us = watch.wall_us(ops, 2 * PRICED, call).await?;
        least_us = least_us.min((twice_us - once_us) / PRICED as f64);
    }
    Ok(least_us)
}
