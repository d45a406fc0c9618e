//! Measures the peak rates of the device with three microbenchmark kernels. All kernels multiply in f32 in any weight
//! format, so the three multiply-add rates are the same.

use crate::base::clock::now_us;
use crate::base::error::Result;
use crate::device::webgpu::WebGpu;
use crate::device::webgpu::buffer::DeviceBuffer;
use crate::device::webgpu::kernel_table::{Constant, Kernel, THREADS, constants};
use crate::device::webgpu::uniforms::{Uniforms, uniforms};
use crate::ops::device::Ceilings;

/// Workgroups of the kernels: enough threads for the largest adapters.
const WORKGROUPS: usize = 4096;
const N_THREADS: usize = THREADS * WORKGROUPS;
/// Bytes of a buffer; capped by the largest binding.
const BUFFER_BYTES: u64 = 128 << 20;
/// Buffers that are read, or copied to each other, in turn. The largest cache of a graphics adapter has about 100 MB:
/// it would keep most of a single buffer; with four, a buffer has been evicted when it is read again.
const BUFFERS: usize = 4;
/// Multiply-adds per step of `peak_f32`, without a branch between them: what a browser adds to a loop that may not end
/// takes time, too.
const STEP_MACS: usize = 256;
/// Minimum time of a measurement, so that submission and readback take a small part of it.
const MIN_US: f64 = 60_000.0;
/// Rounds, of which the best one counts.
const ROUNDS: usize = 3;

pub const PEAK_F32: &[Constant] = &constants![STEP_MACS];

uniforms! {
    pub struct PeakF32Params {
        /// Steps of each thread.
        n_steps: usize,
    }
}

uniforms! {
    pub struct PeakMemoryParams {
        /// Vectors of four elements in a buffer.
        n_fours: usize,
    }
}

/// Takes about a second; two or three on a software adapter.
///
/// # Errors
/// The device's own failure.
pub async fn measure(gpu: &mut WebGpu) -> Result<Ceilings> {
    let bytes = BUFFER_BYTES.min(gpu.facts.max_binding_bytes);
    let x: [DeviceBuffer; BUFFERS] = std::array::from_fn(|_| gpu.recorder.create(bytes)); // [n_fours, 4]
    let y = gpu.recorder.create(4 * N_THREADS as u64); // [threads]

    let reads: [[&DeviceBuffer; 2]; BUFFERS] = std::array::from_fn(|i| [&x[i], &y]);
    let read_bytes_per_us = memory_rate(gpu, Kernel::PeakRead, &reads, bytes).await?;
    let copies: [[&DeviceBuffer; 2]; BUFFERS] =
        std::array::from_fn(|i| [&x[i], &x[(i + 1) % BUFFERS]]);
    let copied_bytes_per_us = memory_rate(gpu, Kernel::PeakCopy, &copies, bytes).await?;

    // Starts with few steps: on a slow device the driver may kill a dispatch that takes too long.
    let mut peak = PeakF32Params { n_steps: 1 };
    warm_up(gpu, Kernel::PeakF32, &[&[&y]], &peak).await?;
    while time_us(gpu, Kernel::PeakF32, &[&[&y]], &peak, 1).await? < MIN_US {
        peak.n_steps *= 2;
    }
    let mut f32_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        f32_us = f32_us.min(time_us(gpu, Kernel::PeakF32, &[&[&y]], &peak, 1).await?);
    }

    let gmacs_per_s = (N_THREADS * STEP_MACS) as f64 * peak.n_steps as f64 / f32_us / 1e3;
    Ok(Ceilings {
        threads: 1,
        int8_gmacs_per_s: gmacs_per_s,
        int16_gmacs_per_s: gmacs_per_s,
        f32_gmacs_per_s: gmacs_per_s,
        read_gb_per_s: read_bytes_per_us / 1e3,
        copy_gb_per_s: Some(2.0 * copied_bytes_per_us / 1e3),
    })
}

/// The highest rate at which `kernel` processes `bytes` per call, in bytes per microsecond.
async fn memory_rate(
    gpu: &mut WebGpu,
    kernel: Kernel,
    buffers: &[[&DeviceBuffer; 2]],
    bytes: u64,
) -> Result<f64> {
    let params = PeakMemoryParams {
        n_fours: (bytes / 16) as usize,
    };
    let buffers: Vec<&[&DeviceBuffer]> = buffers.iter().map(|pair| &pair[..]).collect();
    warm_up(gpu, kernel, &buffers, &params).await?;
    // Few calls suffice only where one takes long, and no device as slow as that has a cache for a buffer.
    let mut calls = 1;
    while time_us(gpu, kernel, &buffers, &params, calls).await? < MIN_US {
        calls *= 2;
    }
    let mut least_us = f64::INFINITY;
    for _ in 0..ROUNDS {
        least_us = least_us.min(time_us(gpu, kernel, &buffers, &params, calls).await?);
    }
    Ok(bytes as f64 * f64::from(calls) / least_us)
}

/// One call that is not timed: the driver compiles the kernel, and gives it its memory.
async fn warm_up(
    gpu: &mut WebGpu,
    kernel: Kernel,
    buffers: &[&[&DeviceBuffer]],
    uniforms: &impl Uniforms,
) -> Result<()> {
    time_us(gpu, kernel, buffers, uniforms, 1).await.map(drop)
}

/// Time of `calls` consecutive dispatches, each on the next of `buffers`.
async fn time_us(
    gpu: &mut WebGpu,
    kernel: Kernel,
    buffers: &[&[&DeviceBuffer]],
    uniforms: &impl Uniforms,
    calls: u32,
) -> Result<f64> {
    let start_us = now_us();
    for (_, buffers) in (0..calls).zip(buffers.iter().cycle()) {
        gpu.recorder
            .dispatch(kernel, buffers, uniforms, [WORKGROUPS, 1, 1]);
    }
    // A readback of four bytes, which completes after all dispatches.
    let results = buffers[0].last().expect("a kernel writes to a buffer");
    gpu.recorder.read(results, 4).await?;
    Ok(now_us() - start_us)
}
