//! Measures the peak rates of this machine (the ceilings of the roofline model) with the same vector operations as the
//! kernels. It does not time the kernels themselves.

use std::hint::black_box;

use crate::base::clock::now_us;
use crate::base::simd::{
    F32x4, Floats, I8x16, I32x4, MAX_GROUPS, STEP_COLUMNS, StepWeights, Wide, WideKernel, Width,
};
use crate::ops::device::Ceilings;
use crate::threads::pool::{Pieces, Pool};

/// Rounds, of which the best one counts. They are many and short, because a browser runs the first calls of a function
/// in its baseline compiler and switches to optimised code only between calls.
const ROUNDS: usize = 60;
/// Weights are read from memory if they exceed the last-level cache, which is 32 to 128 MB, and up to 384 MB on large
/// servers. A page does not get its memory back, so a small model is measured with the least.
const LEAST_READ_BYTES: u64 = 96 << 20;
const MOST_READ_BYTES: u64 = 384 << 20;
/// Rounds for copies and reads of memory, which take longer.
const MEMORY_ROUNDS: usize = 20;
/// Vectors of weights times vectors of activations in a step, as in the matrix kernels: their products are enough
/// independent accumulations to hide the latency of one, few enough that they and their operands fit the registers.
const SIDE: usize = 3;
const F32_CHAINS: usize = 12;
const STEPS: u32 = 400_000;
const WARM_UP_US: f64 = 3e5;

/// Measures the ceilings of `pool` for a model of `weights_bytes`; takes one to three seconds.
pub fn measure(pool: &Pool, width: Width, weights_bytes: u64) -> Ceilings {
    let threads = pool.threads();
    let mut results = vec![0.0f32; threads];
    let best_us = |results: &mut [f32], body: &(dyn Fn(usize) -> f32 + Sync)| {
        best_of(ROUNDS, || {
            pool.run(threads, Pieces::new(results, 1), |thread, result| {
                result[0] += body(thread);
            });
        })
    };
    // The operating system spreads threads over the cores only after they have been busy for a while.
    let start_us = now_us();
    while now_us() - start_us < WARM_UP_US {
        pool.run(threads, (), |_, ()| {
            black_box(width.run(Int8));
        });
    }
    let vectors = |chains: usize| f64::from(STEPS) * (chains * width.groups() * threads) as f64;
    let int8_us = best_us(&mut results, &|_| width.run(Int8));
    let int16_us = best_us(&mut results, &|_| width.run(Int16));
    let f32_us = best_us(&mut results, &|_| width.run(F32));
    // Each thread reads its own range in four streams, like the matrix-vector kernels.
    let read_bytes = weights_bytes.clamp(LEAST_READ_BYTES, MOST_READ_BYTES) as usize;
    let mut memory = vec![[1i8; 16]; read_bytes / 16];
    let share = memory.len() / threads;
    let read_us = best_of(MEMORY_ROUNDS, || {
        pool.run(threads, Pieces::new(&mut results, 1), |thread, result| {
            result[0] += read(&memory[thread * share..][..share]);
        });
    });
    black_box(results);
    // Each thread copies the first half of its range to the second.
    let copy_us = best_of(MEMORY_ROUNDS, || {
        pool.run(threads, Pieces::new(&mut memory, share), |_, range| {
            let (from, to) = range.split_at_mut(range.len() / 2);
            to[..from.len()].copy_from_slice(from);
        });
    });
    black_box(memory);
    Ceilings {
        threads,
        int8_gmacs_per_s: vectors(SIDE * SIDE) * (4 * STEP_COLUMNS) as f64 / int8_us / 1e3,
        int16_gmacs_per_s: vectors(SIDE * SIDE) * 8.0 / int16_us / 1e3,
        f32_gmacs_per_s: vectors(F32_CHAINS) * 4.0 / f32_us / 1e3,
        read_gb_per_s: (share * threads * 16) as f64 / read_us / 1e3,
        // One half of each range is read and the other written.
        copy_gb_per_s: Some((share / 2 * 2 * threads * 16) as f64 / copy_us / 1e3),
    }
}

/// The time of the fastest round.
fn best_of(rounds: usize, mut round: impl FnMut()) -> f64 {
    let rounds = (0..rounds).map(|_| {
        let start_us = now_us();
        round();
        now_us() - start_us
    });
    rounds.fold(f64::INFINITY, f64::min)
}

const N_WEIGHTS: usize = 64;

/// Multiply-adds in the steps of the q4 kernel.
struct Int8;

impl WideKernel for Int8 {
    const HAS_NIBBLES: bool = true;
    type Output = f32;

    #[inline(always)]
    fn run<W: Wide>(self) -> f32 {
        let weights = black_box([[StepWeights::default(); MAX_GROUPS]; N_WEIGHTS]);
        let activations = black_box([[1; STEP_COLUMNS]; SIDE]);
        let mut sums = [[W::start(&[0; 2]); SIDE]; SIDE];
        for step in 0..STEPS as usize {
            for (v, sums) in sums.iter_mut().enumerate() {
                // Different weights in each step, or the compiler would hoist the products out of the loop.
                let weights = &weights[(step + v) % N_WEIGHTS];
                for (sum, a) in sums.iter_mut().zip(&activations) {
                    *sum = W::add_step(*sum, W::step(a), weights);
                }
            }
        }
        total::<W>(sums.map(|sums| sums.map(|sum| W::scaled(sum, &[[1; 4]; MAX_GROUPS]))))
    }
}

/// Multiply-adds in the steps of the q8 kernel.
struct Int16;

impl WideKernel for Int16 {
    type Output = f32;

    #[inline(always)]
    fn run<W: Wide>(self) -> f32 {
        let weights = black_box([[[1i16; 8]; MAX_GROUPS]; N_WEIGHTS]);
        let activations = black_box([[1i16; 2]; SIDE]);
        let mut sums = [[W::zero(); SIDE]; SIDE];
        for step in 0..STEPS as usize {
            for (v, sums) in sums.iter_mut().enumerate() {
                let weights = &weights[(step + v) % N_WEIGHTS];
                for (sum, a) in sums.iter_mut().zip(&activations) {
                    *sum = W::add_pairs(*sum, W::load_pairs(weights), W::repeat_pair(a));
                }
            }
        }
        total::<W>(sums)
    }
}

/// Multiply-adds in f32.
struct F32;

impl WideKernel for F32 {
    type Output = f32;

    #[inline(always)]
    fn run<W: Wide>(self) -> f32 {
        let (a, b) = (
            W::repeat(&[black_box(1e-9); 4]),
            W::repeat(&[black_box(0.5); 4]),
        );
        let mut sums = [W::load(&[F32x4::splat(0.0); MAX_GROUPS]); F32_CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                // The accumulator is an operand, or the compiler would hoist the product out of the loop.
                *sum = a.mul_add(*sum, b);
            }
        }
        sums.map(sum_of::<W>).iter().sum()
    }
}

#[inline(always)]
fn total<W: Wide>(sums: [[W::I32; SIDE]; SIDE]) -> f32 {
    let zero = W::load(&[F32x4::splat(0.0); MAX_GROUPS]);
    let floats = |sum| sum_of::<W>(W::add_scaled(zero, sum, 1.0));
    sums.into_iter().flatten().map(floats).sum()
}

#[inline(always)]
fn sum_of<W: Wide>(v: W::F32) -> f32 {
    let mut groups = [F32x4::splat(0.0); MAX_GROUPS];
    W::store(v, &mut groups);
    groups.map(F32x4::sum).iter().sum()
}

#[inline(never)]
fn read(memory: &[[i8; 16]]) -> f32 {
    let quarter = memory.len() / 4;
    let streams: [&[[i8; 16]]; 4] = std::array::from_fn(|s| &memory[s * quarter..][..quarter]);
    let mut sums = [I32x4::splat(0); 4];
    for i in 0..quarter {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            let bytes = I8x16::load(&stream[i]).widen_low();
            *sum = sum.add(bytes.dot_pairs(bytes));
        }
    }
    sums.map(|sum| sum.to_f32().sum()).iter().sum()
}
