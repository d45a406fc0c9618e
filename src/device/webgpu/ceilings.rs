//! Measures what the device can do at best, by two kernels that do nothing else. All products are f32, whatever the
//! weights are, so the three rates of multiply-adds are one.

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernels::{Constant, Kernel, THREADS, constants};
use crate::device::webgpu::uniforms::{Uniforms, uniforms};
use crate::ops::device::Ceilings;

/// Workgroups of both kernels: enough threads for the widest device.
const WORKGROUPS: usize = 4096;
const N_THREADS: usize = THREADS * WORKGROUPS;
/// Longer than the caches of a graphics card, if a binding may be as long.
const READ_BYTES: u64 = 128 << 20;
/// Multiply-adds of a step of `peak_f32`.
const STEP_MACS: usize = 64;
/// A measurement takes at least this long, so that starting and waiting weigh little.
const MIN_US: f64 = 60_000.0;
/// The best of these counts.
const ROUNDS: usize = 3;

pub const PEAK_F32: &[Constant] = &constants![STEP_MACS];

uniforms! {
    pub struct PeakF32Params {
        /// Of each thread.
        n_steps: usize,
    }
}

uniforms! {
    pub struct PeakReadParams {
        /// Vectors of four numbers in the buffer.
        n_fours: usize,
    }
}

/// Takes about a second, and a few on a software adapter.
///
/// # Errors
/// The device's own failure.
pub async fn measure(be: &mut WebGpu) -> Result<Ceilings> {
    let bytes = READ_BYTES.min(be.facts.max_binding_bytes);
    let x = be.recorder.create(bytes); // [n_fours, 4]
    let y = be.recorder.create(4 * N_THREADS as u64); // [threads]

    let read = PeakReadParams {
        n_fours: (bytes / 16) as usize,
    };
    let mut calls = 1;
    while time_us(be, Kernel::PeakRead, &[&x, &y], &read, calls).await? < MIN_US {
        calls *= 2;
    }
    let mut read_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        read_us = read_us.min(time_us(be, Kernel::PeakRead, &[&x, &y], &read, calls).await?);
    }

    // Few steps at first: a driver may kill a call that takes too long on a slow device.
    let mut peak = PeakF32Params { n_steps: 1 };
    while time_us(be, Kernel::PeakF32, &[&y], &peak, 1).await? < MIN_US {
        peak.n_steps *= 2;
    }
    let mut f32_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        f32_us = f32_us.min(time_us(be, Kernel::PeakF32, &[&y], &peak, 1).await?);
    }

    let gmacs_per_s = (N_THREADS * STEP_MACS) as f64 * peak.n_steps as f64 / f32_us / 1e3;
    Ok(Ceilings {
        threads: 1,
        int8_gmacs_per_s: gmacs_per_s,
        int16_gmacs_per_s: gmacs_per_s,
        f32_gmacs_per_s: gmacs_per_s,
        read_gb_per_s: bytes as f64 * f64::from(calls) / read_us / 1e3,
    })
}

/// How long `calls` dispatches take, one after the other.
async fn time_us(
    be: &mut WebGpu,
    kernel: Kernel,
    buffers: &[&DeviceBuffer],
    uniforms: &impl Uniforms,
    calls: u32,
) -> Result<f64> {
    let start_us = now_us();
    for _ in 0..calls {
        be.recorder
            .dispatch(kernel, buffers, uniforms, [WORKGROUPS, 1, 1]);
    }
    // A readback of four bytes, which completes after all dispatches.
    be.recorder.read(buffers[buffers.len() - 1], 4).await?;
    Ok(now_us() - start_us)
}
