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

impl RowSums for FourSums {
    #[inline(always)]
    fn start(correction: &[i16; 2]) -> Self {
        let pairs = I16x8::splat_pair(correction).0;
        FourSums(i32x4_extadd_pairwise_i16x8(pairs))
    }

    #[inline(always)]
    fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        FourSums(i32x4_relaxed_dot_i8x16_i7x16_add(a.0, nibbles.0, self.0))
    }

    #[inline(always)]
    fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        let scale = unsafe { u32x4_load_extend_u16x4(scale.as_ptr().cast()) };
        // A sum is at most 32·127·8 < 2¹⁵ in magnitude, so its low half is the whole of it; the high half meets zero.
        I32x4(i32x4_dot_i16x8(self.0, scale))
    }
}

impl SumsOfSteps for FourSums {
    #[inline(always)]
    fn start(correction: &[i16; 2]) -> Self {
        RowSums::start(correction)
    }

    #[inline(always)]
    fn add_step(self, a: StepActivations, weights: &StepWeights) -> Self {
        self.add_products(a, I8x16::load(weights))
    }

    #[inline(always)]
    fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        RowSums::scaled(self, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_fours_are_those_of_pairs() {
        let mut seed = 5u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        for round in 0..2000 {
            let a: [[i8; 4]; 8] = std::array::from_fn(|_| {
                std::array::from_fn(|_| ((random() % 255) as i32 - 127) as i8)
            });
            let bytes: [[i8; 16]; 4] =
                std::array::from_fn(|_| std::array::from_fn(|_| random() as i8));
            let correction = std::array::from_fn(|pair| {
                let columns = a.iter().map(|quad| {
                    i16::from(quad[2 * pair]) + i16::from(quad[2 * pair + 1])
                });
                -8 * columns.sum::<i16>()
            });
            let scale: [i16; 4] = std::array::from_fn(|_| random() as i16);
            fn sums<S: RowSums>(
                correction: &[i16; 2],
                a: &[[i8; 4]; 8],
                bytes: &[[i8; 16]; 4],
                scale: &[i16; 4],
            ) -> [i32; 4] {
                let mut sums = S::start(correction);
                for (v, bytes) in bytes.iter().enumerate() {
                    let bytes = I8x16::load(bytes);
                    sums = sums
                        .add_products(Quad::load(&a[2 * v]), bytes.low_nibbles())
                        .add_products(Quad::load(&a[2 * v + 1]), bytes.high_nibbles());
                }
                let mut array = [0; 4];
                sums.scaled(scale).store(&mut array);
                array
            }
            let pairs = sums::<NibbleSums>(&correction, &a, &bytes, &scale);
            let fours = sums::<FourSums>(&correction, &a, &bytes, &scale);
            assert_eq!(fours, pairs, "round {round}");
        }
    }
}
