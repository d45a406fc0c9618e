//! What the device can do at best, by two kernels that do nothing else. It stands inside the WebGPU backend. All products
//! there are f32 ones, whatever the weights are, so the three rates of multiplication are one.

use crate::backend::Ceilings;
use crate::backend::webgpu::WebGpu;
use crate::backend::webgpu::kernels::Kernel;
use crate::clock::now_us;
use crate::error::Result;

/// Threads of both kernels: enough for the widest device.
const WORKGROUPS: usize = 4096;
const THREADS: usize = 64 * WORKGROUPS;
/// Longer than the caches of a graphics card, where a binding may be as long.
const READ_BYTES: u64 = 256 << 20;
/// Multiplications of a step of `peak_f32`.
const STEP_MACS: usize = 64;
const STEPS: usize = 256;
/// A measurement is this long at least, so that starting and waiting weigh little.
const LEAST_US: f64 = 60_000.0;
/// The best of these counts.
const ROUNDS: usize = 3;

/// Measures the roofs of the device; about a second, and longer on a software adapter.
///
/// # Errors
/// The device's own failure.
pub async fn measure(be: &mut WebGpu) -> Result<Ceilings> {
    let bytes = READ_BYTES.min(be.facts.max_binding_bytes);
    let x = be.recorder.make(bytes); // [bytes / 16, 4]
    let y = be.recorder.make(4 * THREADS as u64); // [threads]
    let (fours, steps) = ((bytes / 16) as u32, STEPS as u32);
    // Few steps at first: on a slow device a call must not take so long that it is given up.
    let mut calls = 1;
    let mut read_us = f64::INFINITY;
    let mut f32_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        read_us = read_us.min(call_us(be, &mut calls, Kernel::PeakRead, &[&x, &y], fours).await?);
    }
    calls = 1;
    for _ in 0..ROUNDS {
        f32_us = f32_us.min(call_us(be, &mut calls, Kernel::PeakF32, &[&y], steps).await?);
    }
    let gmacs_per_s = (THREADS * STEPS * STEP_MACS) as f64 / f32_us / 1e3;
    Ok(Ceilings {
        threads: 1,
        int8_gmacs_per_s: gmacs_per_s,
        int16_gmacs_per_s: gmacs_per_s,
        f32_gmacs_per_s: gmacs_per_s,
        read_gb_per_s: bytes as f64 / read_us / 1e3,
    })
}

/// The time of one call among so many that they last [`LEAST_US`]; `calls` is where the next search begins.
async fn call_us(
    be: &mut WebGpu,
    calls: &mut usize,
    kernel: Kernel,
    buffers: &[&super::memory::Memory],
    size: u32,
) -> Result<f64> {
    loop {
        let start_us = now_us();
        for _ in 0..*calls {
            be.recorder
                .dispatch(kernel, buffers, &[size], [WORKGROUPS, 1, 1]);
        }
        // Few bytes, which are there when all calls are done.
        be.recorder.read(buffers[buffers.len() - 1], 4).await?;
        let us = now_us() - start_us;
        if us >= LEAST_US {
            return Ok(us / *calls as f64);
        }
        *calls *= 2;
    }
}
