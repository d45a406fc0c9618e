//! The vector operations of x86-64 with SSE4.1, which this project's builds enable. 128 bits, so that kernels tuned
//! natively are tuned for the browser too; matrix products and attention have wider vectors in `x86_wide.rs`.

use core::arch::x86_64::*;

/// Calls an intrinsic.
macro_rules! sse {
    ($call:expr) => {{
        // SAFETY: this module is compiled only if SSE4.1 is enabled for the whole build, which is all that these
        // intrinsics require; they load and store unaligned, through references that cover all bytes they access.
        unsafe { $call }
    }};
}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct F32x4(__m128);

impl F32x4 {
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        F32x4(sse!(_mm_set1_ps(v)))
    }

    #[inline(always)]
    pub fn load(v: &[f32; 4]) -> Self {
        F32x4(sse!(_mm_loadu_ps(v.as_ptr())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [f32; 4]) {
        sse!(_mm_storeu_ps(v.as_mut_ptr(), self.0))
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        F32x4(sse!(_mm_add_ps(self.0, o.0)))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        F32x4(sse!(_mm_sub_ps(self.0, o.0)))
    }

    #[inline(always)]
    pub fn mul(self, o: Self) -> Self {
        F32x4(sse!(_mm_mul_ps(self.0, o.0)))
    }

    #[inline(always)]
    pub fn div(self, o: Self) -> Self {
        F32x4(sse!(_mm_div_ps(self.0, o.0)))
    }

    /// The lanewise maximum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn max(self, o: Self) -> Self {
        F32x4(sse!(_mm_max_ps(o.0, self.0)))
    }

    /// The lanewise minimum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn min(self, o: Self) -> Self {
        F32x4(sse!(_mm_min_ps(o.0, self.0)))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        F32x4(sse!(_mm_andnot_ps(_mm_set1_ps(-0.0), self.0)))
    }

    /// `negative` in the lanes whose sign bit is set, `positive` in the others.
    #[inline(always)]
    pub fn by_sign(self, negative: Self, positive: Self) -> Self {
        F32x4(sse!(_mm_blendv_ps(positive.0, negative.0, self.0)))
    }

    /// Reinterprets the bits as integers.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(sse!(_mm_castps_si128(self.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I32x4(__m128i);

impl I32x4 {
    #[inline(always)]
    pub fn splat(v: i32) -> Self {
        I32x4(sse!(_mm_set1_epi32(v)))
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        I32x4(sse!(_mm_add_epi32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        I32x4(sse!(_mm_sub_epi32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        I32x4(sse!(_mm_sll_epi32(self.0, _mm_cvtsi32_si128(N as i32))))
    }

    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(sse!(_mm_cvtepi32_ps(self.0)))
    }

    /// Reinterprets the bits as floats.
    #[inline(always)]
    pub fn floats(self) -> F32x4 {
        F32x4(sse!(_mm_castsi128_ps(self.0)))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i32; 4]) {
        sse!(_mm_storeu_si128(v.as_mut_ptr().cast(), self.0))
    }

    /// The lanes of both vectors as i16, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        I16x8(sse!(_mm_packs_epi32(self.0, high.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I16x8(__m128i);

impl I16x8 {
    #[inline(always)]
    pub fn load(v: &[i16; 8]) -> Self {
        I16x8(sse!(_mm_loadu_si128(v.as_ptr().cast())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i16; 8]) {
        sse!(_mm_storeu_si128(v.as_mut_ptr().cast(), self.0))
    }

    /// Broadcasts a pair: a b a b a b a b.
    #[inline(always)]
    pub fn splat_pair(v: &[i16; 2]) -> Self {
        let [a, b] = v.map(|v| i32::from(v as u16));
        I16x8(sse!(_mm_set1_epi32(a | b << 16)))
    }

    /// Sign-extends four i16 to i32.
    #[inline(always)]
    pub fn widen_four(v: &[i16; 4]) -> I32x4 {
        I32x4(sse!(_mm_cvtepi16_epi32(_mm_loadl_epi64(v.as_ptr().cast()))))
    }

    /// Sign-extends eight i8 to i16.
    #[inline(always)]
    pub fn widen_eight(v: &[i8; 8]) -> Self {
        I16x8(sse!(_mm_cvtepi8_epi16(_mm_loadl_epi64(v.as_ptr().cast()))))
    }

    /// Sums of products of adjacent lanes, exact in i32.
    #[inline(always)]
    pub fn dot_pairs(self, o: Self) -> I32x4 {
        I32x4(sse!(_mm_madd_epi16(self.0, o.0)))
    }

    /// The lanes of both vectors as i8, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I8x16 {
        I8x16(sse!(_mm_packs_epi16(self.0, high.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I8x16(__m128i);

impl I8x16 {
    #[inline(always)]
    pub fn load(v: &[i8; 16]) -> Self {
        I8x16(sse!(_mm_loadu_si128(v.as_ptr().cast())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i8; 16]) {
        sse!(_mm_storeu_si128(v.as_mut_ptr().cast(), self.0))
    }

    /// The low nibble of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        I8x16(sse!(_mm_and_si128(self.0, _mm_set1_epi8(15))))
    }

    /// The high nibble of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        // SSE has no byte shift: shift i16 lanes and mask the bits that cross from the other byte.
        I8x16(sse!(_mm_and_si128(
            _mm_srli_epi16::<4>(self.0),
            _mm_set1_epi8(15)
        )))
    }

    #[inline(always)]
    pub fn widen_low(self) -> I16x8 {
        I16x8(sse!(_mm_cvtepi8_epi16(self.0)))
    }

    #[inline(always)]
    pub fn widen_high(self) -> I16x8 {
        I16x8(sse!(_mm_cvtepi8_epi16(_mm_srli_si128::<8>(self.0))))
    }
}

/// Four int8 activations a₀ a₁ a₂ a₃, broadcast to the four rows of a group.
#[derive(Clone, Copy)]
pub struct Quad(__m128i);

impl Quad {
    #[inline(always)]
    pub fn load(v: &[i8; 4]) -> Self {
        Quad(sse!(_mm_set1_epi32(i32::from_le_bytes(v.map(|v| v as u8)))))
    }
}

/// Σ activation · nibble of a q4 block: two i16 lanes for each of four rows.
#[derive(Clone, Copy)]
pub struct NibbleSums(__m128i);

impl NibbleSums {
    /// Starts at `correction`: element 0 is for columns 0 and 1 of every four, element 1 for columns 2 and 3.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        NibbleSums(I16x8::splat_pair(correction).0)
    }

    /// Adds four columns of four rows: bytes 4r..4r+4 of `nibbles` are row r, each within 0..=15.
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        // The first operand is unsigned; the sum of a pair is at most 2·15·127 and can't saturate.
        NibbleSums(sse!(_mm_add_epi16(
            self.0,
            _mm_maddubs_epi16(nibbles.0, a.0)
        )))
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        let scale = sse!(_mm_loadl_epi64(scale.as_ptr().cast()));
        let twice = sse!(_mm_unpacklo_epi16(scale, scale));
        I32x4(sse!(_mm_madd_epi16(self.0, twice)))
    }
}

byte_steps!();
