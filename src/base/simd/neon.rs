//! The vector operations of 64-bit ARM, which always has NEON.

use core::arch::aarch64::*;

/// Calls an intrinsic.
macro_rules! neon {
    ($call:expr) => {{
        // SAFETY: every 64-bit ARM CPU has NEON, which is all that these intrinsics require; they load and store
        // unaligned, through references that cover all bytes they access.
        unsafe { $call }
    }};
}

#[derive(Clone, Copy)]
pub struct F32x4(float32x4_t);

impl F32x4 {
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        F32x4(neon!(vdupq_n_f32(v)))
    }

    #[inline(always)]
    pub fn load(v: &[f32; 4]) -> Self {
        F32x4(neon!(vld1q_f32(v.as_ptr())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [f32; 4]) {
        neon!(vst1q_f32(v.as_mut_ptr(), self.0))
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        F32x4(neon!(vaddq_f32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        F32x4(neon!(vsubq_f32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn mul(self, o: Self) -> Self {
        F32x4(neon!(vmulq_f32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn div(self, o: Self) -> Self {
        F32x4(neon!(vdivq_f32(self.0, o.0)))
    }

    /// The lanewise maximum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn max(self, o: Self) -> Self {
        F32x4(neon!(vbslq_f32(vcltq_f32(self.0, o.0), o.0, self.0)))
    }

    /// The lanewise minimum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn min(self, o: Self) -> Self {
        F32x4(neon!(vbslq_f32(vcltq_f32(o.0, self.0), o.0, self.0)))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        F32x4(neon!(vabsq_f32(self.0)))
    }

    /// `negative` in the lanes whose sign bit is set, `positive` in the others.
    #[inline(always)]
    pub fn by_sign(self, negative: Self, positive: Self) -> Self {
        let is_negative = neon!(vcltzq_s32(vreinterpretq_s32_f32(self.0)));
        F32x4(neon!(vbslq_f32(is_negative, negative.0, positive.0)))
    }

    /// Reinterprets the bits as integers.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(neon!(vreinterpretq_s32_f32(self.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I32x4(int32x4_t);

impl I32x4 {
    #[inline(always)]
    pub fn splat(v: i32) -> Self {
        I32x4(neon!(vdupq_n_s32(v)))
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        I32x4(neon!(vaddq_s32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        I32x4(neon!(vsubq_s32(self.0, o.0)))
    }

    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        I32x4(neon!(vshlq_s32(self.0, vdupq_n_s32(N as i32))))
    }

    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(neon!(vcvtq_f32_s32(self.0)))
    }

    /// Reinterprets the bits as floats.
    #[inline(always)]
    pub fn floats(self) -> F32x4 {
        F32x4(neon!(vreinterpretq_f32_s32(self.0)))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i32; 4]) {
        neon!(vst1q_s32(v.as_mut_ptr(), self.0))
    }

    /// The lanes of both vectors as i16, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        I16x8(neon!(vqmovn_high_s32(vqmovn_s32(self.0), high.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I16x8(int16x8_t);

impl I16x8 {
    #[inline(always)]
    pub fn load(v: &[i16; 8]) -> Self {
        I16x8(neon!(vld1q_s16(v.as_ptr())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i16; 8]) {
        neon!(vst1q_s16(v.as_mut_ptr(), self.0))
    }

    /// Broadcasts a pair: a b a b a b a b.
    #[inline(always)]
    pub fn splat_pair(v: &[i16; 2]) -> Self {
        let [a, b] = v.map(|v| i32::from(v.cast_unsigned()));
        I16x8(neon!(vreinterpretq_s16_s32(vdupq_n_s32(a | b << 16))))
    }

    /// Sign-extends four i16 to i32.
    #[inline(always)]
    pub fn widen_four(v: &[i16; 4]) -> I32x4 {
        I32x4(neon!(vmovl_s16(vld1_s16(v.as_ptr()))))
    }

    /// Sign-extends eight i8 to i16.
    #[inline(always)]
    pub fn widen_eight(v: &[i8; 8]) -> Self {
        I16x8(neon!(vmovl_s8(vld1_s8(v.as_ptr()))))
    }

    /// Sums of products of adjacent lanes, exact in i32.
    #[inline(always)]
    pub fn dot_pairs(self, o: Self) -> I32x4 {
        let low = neon!(vmull_s16(vget_low_s16(self.0), vget_low_s16(o.0)));
        let high = neon!(vmull_high_s16(self.0, o.0));
        I32x4(neon!(vpaddq_s32(low, high)))
    }

    /// The lanes of both vectors as i8, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I8x16 {
        I8x16(neon!(vqmovn_high_s16(vqmovn_s16(self.0), high.0)))
    }
}

#[derive(Clone, Copy)]
pub struct I8x16(int8x16_t);

impl I8x16 {
    #[inline(always)]
    pub fn load(v: &[i8; 16]) -> Self {
        I8x16(neon!(vld1q_s8(v.as_ptr())))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i8; 16]) {
        neon!(vst1q_s8(v.as_mut_ptr(), self.0))
    }

    /// The low nibble of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        I8x16(neon!(vandq_s8(self.0, vdupq_n_s8(15))))
    }

    /// The high nibble of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        let shifted = neon!(vshrq_n_u8::<4>(vreinterpretq_u8_s8(self.0)));
        I8x16(neon!(vreinterpretq_s8_u8(shifted)))
    }

    #[inline(always)]
    pub fn widen_low(self) -> I16x8 {
        I16x8(neon!(vmovl_s8(vget_low_s8(self.0))))
    }

    #[inline(always)]
    pub fn widen_high(self) -> I16x8 {
        I16x8(neon!(vmovl_high_s8(self.0)))
    }
}

/// Four int8 activations a₀ a₁ a₂ a₃, broadcast to the four rows of a group.
#[derive(Clone, Copy)]
pub struct Quad(int8x16_t);

impl Quad {
    #[inline(always)]
    pub fn load(v: &[i8; 4]) -> Self {
        let four = i32::from_le_bytes(v.map(i8::cast_unsigned));
        Quad(neon!(vreinterpretq_s8_s32(vdupq_n_s32(four))))
    }
}

/// Σ activation · nibble of a q4 block: two i16 lanes for each of four rows.
#[derive(Clone, Copy)]
pub struct NibbleSums(int16x8_t);

impl NibbleSums {
    /// Starts at `correction`: element 0 is for columns 0 and 1 of every four, element 1 for columns 2 and 3.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        NibbleSums(I16x8::splat_pair(correction).0)
    }

    /// Adds four columns of four rows: bytes 4r..4r+4 of `nibbles` are row r, each within 0..=15.
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        let low = neon!(vmull_s8(vget_low_s8(a.0), vget_low_s8(nibbles.0)));
        let high = neon!(vmull_high_s8(a.0, nibbles.0));
        NibbleSums(neon!(vaddq_s16(self.0, vpaddq_s16(low, high))))
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        let sums = neon!(vpaddlq_s16(self.0));
        I32x4(neon!(vmulq_s32(sums, I16x8::widen_four(scale).0)))
    }
}

byte_steps!();
