//! The wide vectors of x86-64: two row groups with AVX2 and four with AVX-512, whose VNNI instructions add four
//! products of bytes, or two of i16, at once. The width is chosen when the program runs.

use core::arch::x86_64::*;
use std::is_x86_feature_detected;

use crate::base::simd::{
    F32x4, Floats, Narrow, NibbleSums, OneGroup, RowsKernel, SHIFT, STEP_COLUMNS, StepWeights,
    Wide, WideKernel,
};

/// Row groups of the widest vectors.
pub const MAX_GROUPS: usize = 4;

/// The width of a CPU's vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Sse41,
    Avx2,
    /// With VNNI.
    Avx512,
}

impl Width {
    /// The widest vectors of this CPU.
    pub fn widest() -> Width {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            Width::Avx512
        } else if is_x86_feature_detected!("avx2") {
            Width::Avx2
        } else {
            Width::Sse41
        }
    }

    /// All widths of this CPU, the narrowest first.
    pub fn available() -> impl Iterator<Item = Width> {
        let all = [Width::Sse41, Width::Avx2, Width::Avx512];
        let n = 1 + all
            .iter()
            .position(|width| *width == Width::widest())
            .expect("one of all");
        all.into_iter().take(n)
    }

    /// Row groups per vector.
    pub fn groups(self) -> usize {
        match self {
            Width::Sse41 => <OneGroup>::GROUPS,
            Width::Avx2 => Avx2::GROUPS,
            Width::Avx512 => Avx512::GROUPS,
        }
    }

    /// Computes with vectors of this width, which is at most [`Width::widest`].
    pub fn run<K: WideKernel>(self, kernel: K) -> K::Output {
        match self {
            Width::Sse41 => kernel.run::<OneGroup>(),
            // SAFETY: a `Width` of AVX2 or AVX-512 exists only where `widest` has detected it; the tests go no wider.
            Width::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            Width::Avx512 => unsafe { run_avx512(kernel) },
        }
    }

    /// Computes in vectors of one group, whatever the width.
    #[inline(always)]
    pub fn run_rows<K: RowsKernel>(self, kernel: K) -> K::Output {
        kernel.run::<NibbleSums>()
    }
}

#[target_feature(enable = "avx2")]
fn run_avx2<K: WideKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn run_avx512<K: WideKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Calls an intrinsic.
macro_rules! wide {
    ($call:expr) => {{
        // SAFETY: only kernels in `run_avx2` and `run_avx512` use these types, and the CPU has the features that these
        // enable. Memory is accessed unaligned, in slices whose length has been checked by `first`.
        unsafe { $call }
    }};
}

/// The first `N` elements, which a vector is loaded from or stored to.
#[inline(always)]
fn first<T, const N: usize>(v: &[T]) -> &[T; N] {
    v.first_chunk().expect("a vector of groups")
}

impl Floats for __m256 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        wide!(_mm256_set1_ps(v))
    }

    #[inline(always)]
    fn load_groups(v: &[[f32; 4]]) -> Self {
        wide!(_mm256_loadu_ps(first::<_, 2>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn store_groups(self, to: &mut [[f32; 4]]) {
        let to: &mut [[f32; 4]; 2] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm256_storeu_ps(to.as_mut_ptr().cast(), self))
    }

    #[inline(always)]
    fn add(self, o: Self) -> Self {
        wide!(_mm256_add_ps(self, o))
    }

    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        wide!(_mm256_sub_ps(self, o))
    }

    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        wide!(_mm256_mul_ps(self, o))
    }

    #[inline(always)]
    fn max(self, o: Self) -> Self {
        // Intel's operation returns the second operand if a lane is NaN.
        wide!(_mm256_max_ps(o, self))
    }

    #[inline(always)]
    fn min(self, o: Self) -> Self {
        // The second operand where a lane is NaN.
        wide!(_mm256_min_ps(o, self))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        wide!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        let power = wide!(_mm256_slli_epi32::<23>(_mm256_castps_si256(self)));
        let power = wide!(_mm256_add_epi32(power, _mm256_set1_epi32(0x3f80_0000)));
        wide!(_mm256_castsi256_ps(power))
    }

    #[inline(always)]
    fn store_nearest(self, to: &mut [[i16; 4]]) {
        let bits = wide!(_mm256_castps_si256(self.add(Floats::splat(SHIFT))));
        let shift = wide!(_mm256_set1_epi32(SHIFT.to_bits() as i32));
        let integers = wide!(_mm256_sub_epi32(bits, shift));
        // Each half of the vector is packed separately.
        let packed = wide!(_mm256_packs_epi32(integers, integers));
        let packed = wide!(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed)));
        let to: &mut [[i16; 4]; 2] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm_storeu_si128(to.as_mut_ptr().cast(), packed))
    }
}

struct Avx2;

impl Wide for Avx2 {
    const GROUPS: usize = 2;
    type F32 = __m256;
    type I32 = __m256i;
    /// Two i16 lanes per row.
    type NibbleSums = __m256i;
    type Step = __m256i;
    type Pairs = __m256i;

    #[inline(always)]
    fn load(v: &[F32x4]) -> __m256 {
        wide!(_mm256_loadu_ps(first::<_, 2>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn store(v: __m256, to: &mut [F32x4]) {
        let to: &mut [F32x4; 2] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm256_storeu_ps(to.as_mut_ptr().cast(), v))
    }

    #[inline(always)]
    fn load_rows<'a>(row: impl Fn(usize) -> &'a [f32; 4]) -> __m256 {
        wide!(_mm256_loadu2_m128(row(1).as_ptr(), row(0).as_ptr()))
    }

    #[inline(always)]
    fn repeat(v: &[f32; 4]) -> __m256 {
        wide!(_mm256_broadcast_ps(&_mm_loadu_ps(v.as_ptr())))
    }

    #[inline(always)]
    fn add_scaled(sum: __m256, a: __m256i, b: f32) -> __m256 {
        sum.mul_add(Self::to_f32(a), Floats::splat(b))
    }

    #[inline(always)]
    fn add_row_scaled(sum: __m256, a: __m256i, scale: &[[i16; 4]], b: f32) -> __m256 {
        let scale = wide!(_mm_loadu_si128(first::<_, 2>(scale).as_ptr().cast()));
        let scale = wide!(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(scale)));
        let factor = wide!(_mm256_mul_ps(scale, _mm256_set1_ps(b)));
        sum.mul_add(Self::to_f32(a), factor)
    }

    #[inline(always)]
    fn zero() -> __m256i {
        wide!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn add(a: __m256i, b: __m256i) -> __m256i {
        wide!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn step(v: &[Narrow; STEP_COLUMNS]) -> __m256i {
        let four = i32::from_le_bytes(v.map(i8::cast_unsigned));
        wide!(_mm256_set1_epi32(four))
    }

    #[inline(always)]
    fn start(correction: &[i16; 2]) -> __m256i {
        Self::repeat_pair(correction)
    }

    #[inline(always)]
    fn add_step(sums: __m256i, a: __m256i, weights: &[StepWeights]) -> __m256i {
        let weights = wide!(_mm256_loadu_si256(first::<_, 2>(weights).as_ptr().cast()));
        // The first operand is unsigned; the sum of a pair is at most 2·15·127 and can't saturate.
        wide!(_mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, a)))
    }

    #[inline(always)]
    fn scaled(sums: __m256i, scale: &[[i16; 4]]) -> __m256i {
        let scale = wide!(_mm_loadu_si128(first::<_, 2>(scale).as_ptr().cast()));
        let scale = wide!(_mm256_cvtepu16_epi32(scale));
        let twice = wide!(_mm256_or_si256(scale, _mm256_slli_epi32::<16>(scale)));
        wide!(_mm256_madd_epi16(sums, twice))
    }

    #[inline(always)]
    fn repeat_pair(v: &[i16; 2]) -> __m256i {
        let [a, b] = v.map(|v| i32::from(v.cast_unsigned()));
        wide!(_mm256_set1_epi32(a | b << 16))
    }

    #[inline(always)]
    fn to_f32(v: __m256i) -> __m256 {
        wide!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn load_pairs(v: &[[i16; 8]]) -> __m256i {
        wide!(_mm256_loadu_si256(first::<_, 2>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn widen_pairs(v: &[[i8; 8]]) -> __m256i {
        let bytes = wide!(_mm_loadu_si128(first::<_, 2>(v).as_ptr().cast()));
        wide!(_mm256_cvtepi8_epi16(bytes))
    }

    #[inline(always)]
    fn add_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        Self::add(sum, wide!(_mm256_madd_epi16(a, b)))
    }
}

impl Floats for __m512 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        wide!(_mm512_set1_ps(v))
    }

    #[inline(always)]
    fn load_groups(v: &[[f32; 4]]) -> Self {
        wide!(_mm512_loadu_ps(first::<_, 4>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn store_groups(self, to: &mut [[f32; 4]]) {
        let to: &mut [[f32; 4]; 4] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm512_storeu_ps(to.as_mut_ptr().cast(), self))
    }

    #[inline(always)]
    fn add(self, o: Self) -> Self {
        wide!(_mm512_add_ps(self, o))
    }

    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        wide!(_mm512_sub_ps(self, o))
    }

    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        wide!(_mm512_mul_ps(self, o))
    }

    #[inline(always)]
    fn max(self, o: Self) -> Self {
        // The second operand where a lane is NaN.
        wide!(_mm512_max_ps(o, self))
    }

    #[inline(always)]
    fn min(self, o: Self) -> Self {
        // The second operand where a lane is NaN.
        wide!(_mm512_min_ps(o, self))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        wide!(_mm512_abs_ps(self))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        let power = wide!(_mm512_slli_epi32::<23>(_mm512_castps_si512(self)));
        let power = wide!(_mm512_add_epi32(power, _mm512_set1_epi32(0x3f80_0000)));
        wide!(_mm512_castsi512_ps(power))
    }

    #[inline(always)]
    fn store_nearest(self, to: &mut [[i16; 4]]) {
        // The low half of SHIFT is zero.
        let bits = wide!(_mm512_castps_si512(self.add(Floats::splat(SHIFT))));
        let halves = wide!(_mm512_cvtepi32_epi16(bits));
        let to: &mut [[i16; 4]; 4] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm256_storeu_si256(to.as_mut_ptr().cast(), halves))
    }
}

struct Avx512;

impl Wide for Avx512 {
    const GROUPS: usize = 4;
    type F32 = __m512;
    type I32 = __m512i;
    /// One i32 lane per row.
    type NibbleSums = __m512i;
    type Step = __m512i;
    type Pairs = __m512i;

    #[inline(always)]
    fn load(v: &[F32x4]) -> __m512 {
        wide!(_mm512_loadu_ps(first::<_, 4>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn store(v: __m512, to: &mut [F32x4]) {
        let to: &mut [F32x4; 4] = to.first_chunk_mut().expect("a vector of groups");
        wide!(_mm512_storeu_ps(to.as_mut_ptr().cast(), v))
    }

    #[inline(always)]
    fn load_rows<'a>(row: impl Fn(usize) -> &'a [f32; 4]) -> __m512 {
        let four = |r: usize| wide!(_mm_loadu_ps(row(r).as_ptr()));
        let low = wide!(_mm512_insertf32x4::<1>(
            _mm512_castps128_ps512(four(0)),
            four(1)
        ));
        let low = wide!(_mm512_insertf32x4::<2>(low, four(2)));
        wide!(_mm512_insertf32x4::<3>(low, four(3)))
    }

    #[inline(always)]
    fn repeat(v: &[f32; 4]) -> __m512 {
        wide!(_mm512_broadcast_f32x4(_mm_loadu_ps(v.as_ptr())))
    }

    #[inline(always)]
    fn add_scaled(sum: __m512, a: __m512i, b: f32) -> __m512 {
        sum.mul_add(Self::to_f32(a), Floats::splat(b))
    }

    #[inline(always)]
    fn add_row_scaled(sum: __m512, a: __m512i, scale: &[[i16; 4]], b: f32) -> __m512 {
        let scale = wide!(_mm256_loadu_si256(first::<_, 4>(scale).as_ptr().cast()));
        let scale = wide!(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(scale)));
        let factor = wide!(_mm512_mul_ps(scale, _mm512_set1_ps(b)));
        sum.mul_add(Self::to_f32(a), factor)
    }

    #[inline(always)]
    fn zero() -> __m512i {
        wide!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        wide!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn step(v: &[Narrow; STEP_COLUMNS]) -> __m512i {
        let four = i32::from_le_bytes(v.map(i8::cast_unsigned));
        wide!(_mm512_set1_epi32(four))
    }

    #[inline(always)]
    fn start(correction: &[i16; 2]) -> __m512i {
        let sum = i32::from(correction[0]) + i32::from(correction[1]);
        wide!(_mm512_set1_epi32(sum))
    }

    #[inline(always)]
    fn add_step(sums: __m512i, a: __m512i, weights: &[StepWeights]) -> __m512i {
        let weights = wide!(_mm512_loadu_si512(first::<_, 4>(weights).as_ptr().cast()));
        wide!(_mm512_dpbusd_epi32(sums, weights, a))
    }

    /// A row's sum is at most 32·127·8 in magnitude: its low half is the sum as an i16, multiplied by the scale, and
    /// its high half is multiplied by zero.
    #[inline(always)]
    fn scaled(sums: __m512i, scale: &[[i16; 4]]) -> __m512i {
        let scale = wide!(_mm256_loadu_si256(first::<_, 4>(scale).as_ptr().cast()));
        wide!(_mm512_madd_epi16(sums, _mm512_cvtepu16_epi32(scale)))
    }

    #[inline(always)]
    fn repeat_pair(v: &[i16; 2]) -> __m512i {
        let [a, b] = v.map(|v| i32::from(v.cast_unsigned()));
        wide!(_mm512_set1_epi32(a | b << 16))
    }

    #[inline(always)]
    fn to_f32(v: __m512i) -> __m512 {
        wide!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn load_pairs(v: &[[i16; 8]]) -> __m512i {
        wide!(_mm512_loadu_si512(first::<_, 4>(v).as_ptr().cast()))
    }

    #[inline(always)]
    fn widen_pairs(v: &[[i8; 8]]) -> __m512i {
        let bytes = wide!(_mm256_loadu_si256(first::<_, 4>(v).as_ptr().cast()));
        wide!(_mm512_cvtepi8_epi16(bytes))
    }

    #[inline(always)]
    fn add_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        wide!(_mm512_dpwssd_epi32(sum, a, b))
    }
}
