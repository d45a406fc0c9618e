//! What the device can do at best, by two kernels that do nothing else. It stands inside the WebGPU backend. All products
//! there are f32 ones, whatever the weights are, so the three rates of multiplication are one.

use crate::backend::Ceilings;
use crate::backend::webgpu::WebGpu;
use crate::backend::webgpu::kernels::Kernel;
use crate::backend::webgpu::buffer::Memory;
use crate::clock::now_us;
use crate::error::Result;

/// Threads of both kernels: enough for the widest device.
const WORKGROUPS: usize = 4096;
const THREADS: usize = 64 * WORKGROUPS;
/// Longer than the caches of a graphics card, where a binding may be as long.
const READ_BYTES: u64 = 128 << 20;
/// Multiplications of a step of `peak_f32`.
const STEP_MACS: usize = 64;
/// A measurement is this long at least, so that starting and waiting weigh little.
const LEAST_US: f64 = 60_000.0;
/// The best of these counts.
const ROUNDS: usize = 3;

/// Measures the roofs of the device; about a second, and a few on a software adapter.
///
/// # Errors
/// The device's own failure.
pub async fn measure(be: &mut WebGpu) -> Result<Ceilings> {
    let bytes = READ_BYTES.min(be.facts.max_binding_bytes);
    let x = be.recorder.make(bytes); // [bytes / 16, 4]
    let y = be.recorder.make(4 * THREADS as u64); // [threads]

    let fours = (bytes / 16) as u32;
    let mut calls = 1;
    while time_us(be, Kernel::PeakRead, &[&x, &y], fours, calls).await? < LEAST_US {
        calls *= 2;
    }
    let mut read_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        read_us = read_us.min(time_us(be, Kernel::PeakRead, &[&x, &y], fours, calls).await?);
    }

    // Few steps at first: a slow device must not be given a call so long that its driver gives it up.
    let mut steps = 1;
    while time_us(be, Kernel::PeakF32, &[&y], steps, 1).await? < LEAST_US {
        steps *= 2;
    }
    let mut f32_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        f32_us = f32_us.min(time_us(be, Kernel::PeakF32, &[&y], steps, 1).await?);
    }

    let gmacs_per_s = (THREADS * STEP_MACS) as f64 * f64::from(steps) / f32_us / 1e3;
    Ok(Ceilings {
        threads: 1,
        int8_gmacs_per_s: gmacs_per_s,
        int16_gmacs_per_s: gmacs_per_s,
        f32_gmacs_per_s: gmacs_per_s,
        read_gb_per_s: bytes as f64 * f64::from(calls) / read_us / 1e3,
    })
}

/// How long `calls` calls take, one after the other.
async fn time_us(
    be: &mut WebGpu,
    kernel: Kernel,
    buffers: &[&Memory],
    size: u32,
    calls: u32,
) -> Result<f64> {
    let start_us = now_us();
    for _ in 0..calls {
        be.recorder
            .dispatch(kernel, buffers, &[size], [WORKGROUPS, 1, 1]);
    }
    // Four bytes, which are there when all calls are done.
    be.recorder.read(buffers[buffers.len() - 1], 4).await?;
    Ok(now_us() - start_us)
}
