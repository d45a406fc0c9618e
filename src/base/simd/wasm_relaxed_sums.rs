//! The choice between the two relaxed dot products of bytes: of pairs, whose results are added as i16, or of fours,
//! which adds to i32 itself. Where the CPU has an instruction for the second (AVX-VNNI, NEON's dot products) and the
//! engine uses it, it is less work; elsewhere it is more. Both give the same sums.
//!
//! An engine does not say which it is, but results may differ for operands beyond seven bits, and there it shows: only
//! such an instruction adds four products without a sum of two in i16.

use core::arch::wasm32::*;
use std::hint::black_box;

use crate::base::simd::wasm::{I8x16, I16x8, I32x4};
use crate::base::simd::wide::SumsOfSteps;
use crate::base::simd::{
    NibbleSums, OneGroup, Quad, RowSums, RowsKernel, StepActivations, StepSums, StepWeights, Wide,
    WideKernel,
};

/// Row groups of the widest vectors.
pub const MAX_GROUPS: usize = 1;

/// How products of bytes are added. The vectors have one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Pairs,
    Fours,
}

impl Width {
    /// The faster one in this engine, to be tried before it is used (`device/cpu/linear/trusted_width.rs`).
    pub fn widest() -> Width {
        if has_exact_fours() {
            Width::Fours
        } else {
            Width::Pairs
        }
    }

    /// Every engine has both.
    pub fn available() -> impl Iterator<Item = Width> {
        [Width::Pairs, Width::Fours].into_iter()
    }

    /// Row groups per vector.
    pub fn groups(self) -> usize {
        <OneGroup>::GROUPS
    }

    #[inline(always)]
    pub fn run<K: WideKernel>(self, kernel: K) -> K::Output {
        match self {
            Width::Fours if K::HAS_NIBBLES => kernel.run::<OneGroup<FourSums>>(),
            _ => kernel.run::<OneGroup<StepSums>>(),
        }
    }

    /// Computes in vectors of one group.
    #[inline(always)]
    pub fn run_rows<K: RowsKernel>(self, kernel: K) -> K::Output {
        match self {
            Width::Pairs => kernel.run::<NibbleSums>(),
            Width::Fours => kernel.run::<FourSums>(),
        }
    }
}

/// Whether sums of four products of the largest bytes are exact, with the second operand unsigned or signed.
fn has_exact_fours() -> bool {
    let sum = |a: i8, b: u8| {
        let (a, b) = (i8x16_splat(black_box(a)), u8x16_splat(black_box(b)));
        i32x4_extract_lane::<0>(i32x4_relaxed_dot_i8x16_i7x16_add(a, b, i32x4_splat(0)))
    };
    // In i16, a pair would be limited to 32,767 in the first case, and be -32,768 in the second.
    sum(127, 255) == 4 * 127 * 255 || sum(-128, 128) == 4 * 128 * 128
}

/// Σ activation · nibble of a q4 block: one i32 lane for each of four rows.
#[derive(Clone, Copy)]
pub struct FourSums(v128);

impl FourSums {
    /// As [`NibbleSums::start`].
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        let pairs = I16x8::splat_pair(correction).0;
        FourSums(i32x4_extadd_pairwise_i16x8(pairs))
    }

    /// As [`NibbleSums::add_products`].
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        FourSums(i32x4_relaxed_dot_i8x16_i7x16_add(a.0, nibbles.0, self.0))
    }

    /// As [`StepSums::add_step`].
    #[inline(always)]
    pub fn add_step(self, a: StepActivations, weights: &StepWeights) -> Self {
        self.add_products(a, I8x16::load(weights))
    }

    /// As [`NibbleSums::scaled`].
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        let scale = unsafe { u32x4_load_extend_u16x4(scale.as_ptr().cast()) };
        // A sum is at most 32·127·8 < 2¹⁵ in magnitude, so its low half is the whole of it; the high half meets zero.
        I32x4(i32x4_dot_i16x8(self.0, scale))
    }
}

sums!(FourSums: RowSums, add_products(Quad, I8x16));
sums!(FourSums: SumsOfSteps, add_step(StepActivations, &StepWeights));
