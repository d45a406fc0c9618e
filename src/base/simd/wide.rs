//! Vectors of several row groups side by side, for the kernels that multiply a panel with many rows: of weights with
//! activations, and of keys or values with queries. Each group's lanes are computed as by the 128-bit operations, so
//! all widths give the same bits.

use std::marker::PhantomData;

use crate::base::simd::{
    F32x4, I8x16, I16x8, I32x4, Narrow, NibbleSums, Quad, STEP_COLUMNS, StepActivations, StepSums,
    StepWeights,
};

/// 1.5·2²³: adding it to |x| < 2²² leaves the nearest integer in the low bits.
pub const SHIFT: f32 = 12_582_912.0;

/// Vectors of f32, whose lanes are computed as those of [`F32x4`]. Slices have four elements per group.
pub trait Floats: Copy {
    fn splat(v: f32) -> Self;
    fn load_groups(v: &[[f32; 4]]) -> Self;
    fn store_groups(self, to: &mut [[f32; 4]]);
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    /// `self` where a lane of `o` is NaN.
    fn max(self, o: Self) -> Self;
    /// `self` where a lane of `o` is NaN.
    fn min(self, o: Self) -> Self;
    fn abs(self) -> Self;
    /// 2ⁿ, where n is the integer in the low bits of each lane.
    fn power_of_two(self) -> Self;
    /// The nearest integers of lanes within ±32767.
    fn store_nearest(self, to: &mut [[i16; 4]]);

    /// self + a·b, with two roundings.
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }
}

impl Floats for F32x4 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        F32x4::splat(v)
    }

    #[inline(always)]
    fn load_groups(v: &[[f32; 4]]) -> Self {
        F32x4::load(&v[0])
    }

    #[inline(always)]
    fn store_groups(self, to: &mut [[f32; 4]]) {
        self.store(&mut to[0]);
    }

    #[inline(always)]
    fn add(self, o: Self) -> Self {
        self.add(o)
    }

    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        self.sub(o)
    }

    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        self.mul(o)
    }

    #[inline(always)]
    fn max(self, o: Self) -> Self {
        self.max(o)
    }

    #[inline(always)]
    fn min(self, o: Self) -> Self {
        self.min(o)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // The high bits of the lane are shifted out.
        let power = self.bits().shl::<23>().add(I32x4::splat(0x3f80_0000));
        power.floats()
    }

    #[inline(always)]
    fn store_nearest(self, to: &mut [[i16; 4]]) {
        let bits = self.add(F32x4::splat(SHIFT)).bits();
        let integers = bits.sub(I32x4::splat(SHIFT.to_bits() as i32));
        let mut halves = [0; 8];
        integers.narrow(integers).store(&mut halves);
        to[0].copy_from_slice(&halves[..4]);
    }
}

/// Σ activation · nibble of a q4 block for each row of a group, added a vector of nibbles at a time.
pub trait RowSums: Copy {
    /// As [`NibbleSums::start`].
    fn start(correction: &[i16; 2]) -> Self;
    /// As [`NibbleSums::add_products`].
    fn add_products(self, a: Quad, nibbles: I8x16) -> Self;
    /// As [`NibbleSums::scaled`].
    fn scaled(self, scale: &[i16; 4]) -> I32x4;
}

/// The same sums, added a step of a matrix kernel at a time.
pub trait SumsOfSteps: Copy {
    /// As [`StepSums::start`].
    fn start(correction: &[i16; 2]) -> Self;
    /// As [`StepSums::add_step`].
    fn add_step(self, a: StepActivations, weights: &StepWeights) -> Self;
    /// As [`StepSums::scaled`].
    fn scaled(self, scale: &[i16; 4]) -> I32x4;
}

/// Implements a trait of sums with the type's own methods, which the tests of all targets call.
macro_rules! sums {
    ($sums:ident: $kind:ident, $add:ident($a:ty, $weights:ty)) => {
        impl $kind for $sums {
            #[inline(always)]
            fn start(correction: &[i16; 2]) -> Self {
                $sums::start(correction)
            }

            #[inline(always)]
            fn $add(self, a: $a, weights: $weights) -> Self {
                self.$add(a, weights)
            }

            #[inline(always)]
            fn scaled(self, scale: &[i16; 4]) -> I32x4 {
                self.scaled(scale)
            }
        }
    };
}

sums!(NibbleSums: RowSums, add_products(Quad, I8x16));
sums!(StepSums: SumsOfSteps, add_step(StepActivations, &StepWeights));

/// A width of vectors. Slices have one element per group: `GROUPS` of them are read or written.
pub trait Wide {
    /// Row groups per vector.
    const GROUPS: usize;
    /// Four f32 per group.
    type F32: Floats;
    /// Four i32 per group.
    type I32: Copy;
    /// Sums of products of nibbles, as [`StepSums`].
    type NibbleSums: Copy;
    /// One step's activations, the same for all rows.
    type Step: Copy;
    /// Two i16 per row.
    type Pairs: Copy;

    fn load(v: &[F32x4]) -> Self::F32;
    fn store(v: Self::F32, to: &mut [F32x4]);
    /// Four columns of each of `GROUPS` rows.
    fn load_rows<'a>(row: impl Fn(usize) -> &'a [f32; 4]) -> Self::F32;
    /// The same four values for each group.
    fn repeat(v: &[f32; 4]) -> Self::F32;
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

    fn to_f32(v: Self::I32) -> Self::F32;

    /// The same pair for all rows.
    fn repeat_pair(v: &[i16; 2]) -> Self::Pairs;
    fn load_pairs(v: &[[i16; 8]]) -> Self::Pairs;
    fn widen_pairs(v: &[[i8; 8]]) -> Self::Pairs;
    /// sum + the products of two columns of each row, exact in i32.
    fn add_pairs(sum: Self::I32, a: Self::Pairs, b: Self::Pairs) -> Self::I32;
}

/// A computation for any width, which [`Width::run`](crate::base::simd::Width::run) compiles for each. `run` must be
/// `#[inline(always)]`: its instructions are those of the function it is inlined into.
pub trait WideKernel {
    /// Whether it multiplies nibbles, of which some targets have several kinds of sums. Others are compiled once.
    const HAS_NIBBLES: bool = false;
    type Output;
    fn run<W: Wide>(self) -> Self::Output;
}

/// A computation with the nibbles of single row groups, in 128-bit vectors, which
/// [`Width::run_rows`](crate::base::simd::Width::run_rows) compiles for each kind of sums.
pub trait RowsKernel {
    type Output;
    fn run<S: RowSums>(self) -> Self::Output;
}

/// One group per vector: 128 bits.
pub struct OneGroup<S = StepSums>(PhantomData<S>);

impl<S: SumsOfSteps> Wide for OneGroup<S> {
    const GROUPS: usize = 1;
    type F32 = F32x4;
    type I32 = I32x4;
    type NibbleSums = S;
    type Step = StepActivations;
    type Pairs = I16x8;

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
    fn start(correction: &[i16; 2]) -> S {
        S::start(correction)
    }

    #[inline(always)]
    fn add_step(sums: S, a: StepActivations, weights: &[StepWeights]) -> S {
        sums.add_step(a, &weights[0])
    }

    #[inline(always)]
    fn scaled(sums: S, scale: &[[i16; 4]]) -> I32x4 {
        sums.scaled(&scale[0])
    }

    #[inline(always)]
    fn to_f32(v: I32x4) -> F32x4 {
        v.to_f32()
    }

    #[inline(always)]
    fn repeat_pair(v: &[i16; 2]) -> I16x8 {
        I16x8::splat_pair(v)
    }

    #[inline(always)]
    fn load_pairs(v: &[[i16; 8]]) -> I16x8 {
        I16x8::load(&v[0])
    }

    #[inline(always)]
    fn widen_pairs(v: &[[i8; 8]]) -> I16x8 {
        I16x8::widen_eight(&v[0])
    }

    #[inline(always)]
    fn add_pairs(sum: I32x4, a: I16x8, b: I16x8) -> I32x4 {
        sum.add(a.dot_pairs(b))
    }
}
