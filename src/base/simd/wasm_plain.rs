//! Nibble products without relaxed SIMD: bytes are widened and multiplied as i16, at about half the speed of
//! `wasm_relaxed.rs`, with the same results.

use core::arch::wasm32::*;

use crate::base::simd::wasm::{I8x16, I16x8, I32x4};

/// Four int8 activations as i16, twice: a₀ a₁ a₂ a₃ a₀ a₁ a₂ a₃.
#[derive(Clone, Copy)]
pub struct Quad(v128);

impl Quad {
    #[inline(always)]
    pub fn load(v: &[i16; 4]) -> Self {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        Quad(unsafe { v128_load64_splat(v.as_ptr().cast()) })
    }
}

/// Σ activation · nibble of a q4 block: two i32 lanes for each of four rows.
#[derive(Clone, Copy)]
pub struct NibbleSums {
    rows_01: v128,
    rows_23: v128,
}

impl NibbleSums {
    /// Starts at `correction`: element 0 is for columns 0 and 1 of every four, element 1 for columns 2 and 3.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        // SAFETY: the reference covers the 4 bytes that are read, and wasm loads need no alignment.
        let pairs = unsafe { v128_load32_splat(correction.as_ptr().cast()) };
        let rows_01 = i32x4_extend_low_i16x8(pairs);
        NibbleSums {
            rows_01,
            rows_23: rows_01,
        }
    }

    /// Adds four columns of four rows: bytes 4r..4r+4 of `nibbles` are row r, each within 0..=15.
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        let low = i32x4_dot_i16x8(a.0, nibbles.widen_low().0);
        let high = i32x4_dot_i16x8(a.0, nibbles.widen_high().0);
        NibbleSums {
            rows_01: i32x4_add(self.rows_01, low),
            rows_23: i32x4_add(self.rows_23, high),
        }
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        let even = i32x4_shuffle::<0, 2, 4, 6>(self.rows_01, self.rows_23);
        let odd = i32x4_shuffle::<1, 3, 5, 7>(self.rows_01, self.rows_23);
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        let scale = unsafe { i32x4_load_extend_i16x4(scale.as_ptr()) };
        I32x4(i32x4_mul(i32x4_add(even, odd), scale))
    }
}

/// An activation in the form that the kernels load: an int8 value, widened once for all rows.
pub type Narrow = i16;
/// Columns per step of a matrix kernel.
pub const STEP_COLUMNS: usize = 2;
/// The unpacked weights of one step of a row group: two columns of row r at 2r.
pub type StepWeights = [i16; 8];

/// Unpacks eight columns of a row group into steps.
#[inline(always)]
pub fn unpack(bytes: I8x16, [a, b, c, d]: [&mut StepWeights; 8 / STEP_COLUMNS]) {
    for (nibbles, first, second) in [(bytes.low_nibbles(), a, b), (bytes.high_nibbles(), c, d)] {
        let (rows_01, rows_23) = (nibbles.widen_low().0, nibbles.widen_high().0);
        I16x8(i32x4_shuffle::<0, 2, 4, 6>(rows_01, rows_23)).store(first);
        I16x8(i32x4_shuffle::<1, 3, 5, 7>(rows_01, rows_23)).store(second);
    }
}

/// The activations of one step, broadcast to the four rows of a group.
#[derive(Clone, Copy)]
pub struct StepActivations(I16x8);

impl StepActivations {
    #[inline(always)]
    pub fn load(v: &[i16; 2]) -> Self {
        StepActivations(I16x8::splat_pair(v))
    }
}

/// Accumulators of a matrix kernel: one i32 lane for each of four rows.
#[derive(Clone, Copy)]
pub struct StepSums(v128);

impl StepSums {
    /// Starts at the sum of both corrections.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        let pairs = I16x8::splat_pair(correction).0;
        StepSums(i32x4_extadd_pairwise_i16x8(pairs))
    }

    /// Adds the products of one step.
    #[inline(always)]
    pub fn add_step(self, a: StepActivations, weights: &StepWeights) -> Self {
        let products = i32x4_dot_i16x8(a.0.0, I16x8::load(weights).0);
        StepSums(i32x4_add(self.0, products))
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        let scale = I16x8::widen_four(scale).0;
        I32x4(i32x4_mul(self.0, scale))
    }
}
