//! Nibble products with relaxed SIMD: sixteen multiplications per instruction, with the same results as
//! `wasm_plain.rs`.
//!
//! An engine may read the second operand of the relaxed dot product as signed or unsigned, and may saturate or wrap. A
//! nibble is within 0..=15 and the sum of a pair within 2·15·127, so all these choices agree.

use core::arch::wasm32::*;

use crate::base::simd::wasm::{I8x16, I16x8, I32x4};

/// Four int8 activations a₀ a₁ a₂ a₃, repeated for the four rows of a group.
#[derive(Clone, Copy)]
pub struct Quad(pub(in crate::base::simd) v128);

impl Quad {
    #[inline(always)]
    pub fn load(v: &[i8; 4]) -> Self {
        // SAFETY: the reference covers the 4 bytes that are read, and wasm loads need no alignment.
        Quad(unsafe { v128_load32_splat(v.as_ptr().cast()) })
    }
}

/// Σ activation · nibble of a q4 block: two i16 lanes for each of four rows.
#[derive(Clone, Copy)]
pub struct NibbleSums(v128);

impl NibbleSums {
    /// Starts at `correction`: element 0 is for columns 0 and 1 of every four, element 1 for columns 2 and 3.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        NibbleSums(I16x8::splat_pair(correction).0)
    }

    /// Adds four columns of four rows: bytes 4r..4r+4 of `nibbles` are row r, each within 0..=15.
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        let products = i16x8_relaxed_dot_i8x16_i7x16(a.0, nibbles.0);
        NibbleSums(i16x8_add(self.0, products))
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        let scale = unsafe { v128_load64_zero(scale.as_ptr().cast()) };
        let twice = i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(scale, scale);
        I32x4(i32x4_dot_i16x8(self.0, twice))
    }
}

byte_steps!();
