//! Vectors of several row groups side by side, for the kernels that multiply a panel of weights with many rows of
//! activations. Each group's lanes are computed as by the 128-bit operations, so all widths give the same bits.

use crate::base::simd::{
    F32x4, I16x8, I32x4, Narrow, STEP_COLUMNS, StepActivations, StepSums, StepWeights,
};

/// A width of vectors. Slices have one element per group: `GROUPS` of them are read or written.
pub trait Wide {
    /// Row groups per vector.
    const GROUPS: usize;
    /// Four f32 per group.
    type F32: Copy;
    /// Four i32 per group.
    type I32: Copy;
    /// Sums of products of nibbles, as [`StepSums`].
    type NibbleSums: Copy;
    /// One step's activations, the same for all rows.
    type Step: Copy;
    /// Two i16 activations, the same for all rows.
    type Pair: Copy;

    fn load(v: &[F32x4]) -> Self::F32;
    fn store(v: Self::F32, to: &mut [F32x4]);
    /// Four columns of each of `GROUPS` rows.
    fn load_rows<'a>(row: impl Fn(usize) -> &'a [f32; 4]) -> Self::F32;
    /// The same four values for each group.
    fn repeat(v: &[f32; 4]) -> Self::F32;
    /// sum + a·b, with two roundings.
    fn mul_add(sum: Self::F32, a: Self::F32, b: Self::F32) -> Self::F32;
    /// sum + a·b with an a of integers and one b for all rows, with two roundings.
    fn add_scaled(sum: Self::F32, a: Self::I32, b: f32) -> Self::F32;
    /// sum + a·(scale·b) with three roundings.
    fn add_row_scaled(sum: Self::F32, a: Self::I32, scale: &[[i16; 4]], b: f32) -> Self::F32;
    fn zero() -> Self::I32;
    fn add(a: Self::I32, b: Self::I32) -> Self::I32;

    fn step(v: &[Narrow; STEP_COLUMNS]) -> Self::Step;
    /// As [`StepSums::start`].
    fn start(correction: &[i16; 2]) -> Self::NibbleSums;
    /// As [`StepSums::add_step`].
    fn add_step(sums: Self::NibbleSums, a: Self::Step, weights: &[StepWeights])
    -> Self::NibbleSums;
    /// As [`StepSums::scaled`].
    fn scaled(sums: Self::NibbleSums, scale: &[[i16; 4]]) -> Self::I32;

    fn pair(v: &[i16; 2]) -> Self::Pair;
    /// sum + the products of two columns of each row, exact in i32.
    fn add_pair(sum: Self::I32, weights: &[[i16; 8]], a: Self::Pair) -> Self::I32;
}

/// A computation for any width, which [`Width::run`](crate::base::simd::Width::run) compiles for each. `run` must be
/// `#[inline(always)]`: its instructions are those of the function it is inlined into.
pub trait WideKernel {
    type Output;
    fn run<W: Wide>(self) -> Self::Output;
}

/// One group per vector: 128 bits.
pub struct OneGroup;

impl Wide for OneGroup {
    const GROUPS: usize = 1;
    type F32 = F32x4;
    type I32 = I32x4;
    type NibbleSums = StepSums;
    type Step = StepActivations;
    type Pair = I16x8;

    #[inline(always)]
    fn load(v: &[F32x4]) -> F32x4 {
        v[0]
    }

    #[inline(always)]
    fn store(v: F32x4, to: &mut [F32x4]) {
        to[0] = v;
    }

    #[inline(always)]
    fn load_rows<'a>(row: impl Fn(usize) -> &'a [f32; 4]) -> F32x4 {
        F32x4::load(row(0))
    }

    #[inline(always)]
    fn repeat(v: &[f32; 4]) -> F32x4 {
        F32x4::load(v)
    }

    #[inline(always)]
    fn mul_add(sum: F32x4, a: F32x4, b: F32x4) -> F32x4 {
        sum.mul_add(a, b)
    }

    #[inline(always)]
    fn add_scaled(sum: F32x4, a: I32x4, b: f32) -> F32x4 {
        sum.mul_add(a.to_f32(), F32x4::splat(b))
    }

    #[inline(always)]
    fn add_row_scaled(sum: F32x4, a: I32x4, scale: &[[i16; 4]], b: f32) -> F32x4 {
        let scale = I16x8::widen_four(&scale[0]).to_f32().mul(F32x4::splat(b));
        sum.mul_add(a.to_f32(), scale)
    }

    #[inline(always)]
    fn zero() -> I32x4 {
        I32x4::splat(0)
    }

    #[inline(always)]
    fn add(a: I32x4, b: I32x4) -> I32x4 {
        a.add(b)
    }

    #[inline(always)]
    fn step(v: &[Narrow; STEP_COLUMNS]) -> StepActivations {
        StepActivations::load(v)
    }

    #[inline(always)]
    fn start(correction: &[i16; 2]) -> StepSums {
        StepSums::start(correction)
    }

    #[inline(always)]
    fn add_step(sums: StepSums, a: StepActivations, weights: &[StepWeights]) -> StepSums {
        sums.add_step(a, &weights[0])
    }

    #[inline(always)]
    fn scaled(sums: StepSums, scale: &[[i16; 4]]) -> I32x4 {
        sums.scaled(&scale[0])
    }

    #[inline(always)]
    fn pair(v: &[i16; 2]) -> I16x8 {
        I16x8::splat_pair(v)
    }

    #[inline(always)]
    fn add_pair(sum: I32x4, weights: &[[i16; 8]], a: I16x8) -> I32x4 {
        sum.add(I16x8::load(&weights[0]).dot_pairs(a))
    }
}
