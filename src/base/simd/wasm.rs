//! The vector operations of WebAssembly's SIMD128. The nibble products are in `wasm_plain.rs` and `wasm_relaxed.rs`.

use core::arch::wasm32::*;

#[derive(Clone, Copy)]
pub struct F32x4(pub(in crate::base::simd) v128);

impl F32x4 {
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        F32x4(f32x4_splat(v))
    }

    #[inline(always)]
    pub fn load(v: &[f32; 4]) -> Self {
        // SAFETY: the reference covers 16 bytes, and wasm loads need no alignment.
        F32x4(unsafe { v128_load(v.as_ptr().cast()) })
    }

    #[inline(always)]
    pub fn store(self, v: &mut [f32; 4]) {
        // SAFETY: as in `load`, and the reference is unique.
        unsafe { v128_store(v.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        F32x4(f32x4_add(self.0, o.0))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        F32x4(f32x4_sub(self.0, o.0))
    }

    #[inline(always)]
    pub fn mul(self, o: Self) -> Self {
        F32x4(f32x4_mul(self.0, o.0))
    }

    #[inline(always)]
    pub fn div(self, o: Self) -> Self {
        F32x4(f32x4_div(self.0, o.0))
    }

    /// The lanewise maximum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn max(self, o: Self) -> Self {
        // Not `pmax`: with relaxed SIMD, LLVM turns it into a relaxed maximum, whose result for NaN and −0 varies by
        // engine.
        F32x4(v128_bitselect(o.0, self.0, f32x4_lt(self.0, o.0)))
    }

    /// The lanewise minimum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn min(self, o: Self) -> Self {
        // Not `pmin`, as in `max`.
        F32x4(v128_bitselect(o.0, self.0, f32x4_lt(o.0, self.0)))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        F32x4(f32x4_abs(self.0))
    }

    /// `negative` in the lanes whose sign bit is set, `positive` in the others.
    #[inline(always)]
    pub fn by_sign(self, negative: Self, positive: Self) -> Self {
        F32x4(v128_bitselect(
            negative.0,
            positive.0,
            i32x4_shr(self.0, 31),
        ))
    }

    /// Reinterprets the bits as integers.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(self.0)
    }
}

#[derive(Clone, Copy)]
pub struct I32x4(pub(in crate::base::simd) v128);

impl I32x4 {
    #[inline(always)]
    pub fn splat(v: i32) -> Self {
        I32x4(i32x4_splat(v))
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        I32x4(i32x4_add(self.0, o.0))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        I32x4(i32x4_sub(self.0, o.0))
    }

    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        I32x4(i32x4_shl(self.0, N))
    }

    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }

    /// Reinterprets the bits as floats.
    #[inline(always)]
    pub fn floats(self) -> F32x4 {
        F32x4(self.0)
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i32; 4]) {
        // SAFETY: the unique reference covers 16 bytes, and wasm stores need no alignment.
        unsafe { v128_store(v.as_mut_ptr().cast(), self.0) }
    }

    /// The lanes of both vectors as i16, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        I16x8(i16x8_narrow_i32x4(self.0, high.0))
    }
}

#[derive(Clone, Copy)]
pub struct I16x8(pub(in crate::base::simd) v128);

impl I16x8 {
    #[inline(always)]
    pub fn load(v: &[i16; 8]) -> Self {
        // SAFETY: the reference covers 16 bytes, and wasm loads need no alignment.
        I16x8(unsafe { v128_load(v.as_ptr().cast()) })
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i16; 8]) {
        // SAFETY: as in `load`, and the reference is unique.
        unsafe { v128_store(v.as_mut_ptr().cast(), self.0) }
    }

    /// Broadcasts a pair: a b a b a b a b.
    #[inline(always)]
    pub fn splat_pair(v: &[i16; 2]) -> Self {
        // SAFETY: the reference covers the 4 bytes that are read, and wasm loads need no alignment.
        I16x8(unsafe { v128_load32_splat(v.as_ptr().cast()) })
    }

    /// Sign-extends four i16 to i32.
    #[inline(always)]
    pub fn widen_four(v: &[i16; 4]) -> I32x4 {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        I32x4(unsafe { i32x4_load_extend_i16x4(v.as_ptr()) })
    }

    /// Sign-extends eight i8 to i16.
    #[inline(always)]
    pub fn widen_eight(v: &[i8; 8]) -> Self {
        // SAFETY: the reference covers the 8 bytes that are read, and wasm loads need no alignment.
        I16x8(unsafe { i16x8_load_extend_i8x8(v.as_ptr()) })
    }

    /// Sums of products of adjacent lanes, exact in i32.
    #[inline(always)]
    pub fn dot_pairs(self, o: Self) -> I32x4 {
        I32x4(i32x4_dot_i16x8(self.0, o.0))
    }

    /// The lanes of both vectors as i8, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I8x16 {
        I8x16(i8x16_narrow_i16x8(self.0, high.0))
    }
}

#[derive(Clone, Copy)]
pub struct I8x16(pub(in crate::base::simd) v128);

impl I8x16 {
    #[inline(always)]
    pub fn load(v: &[i8; 16]) -> Self {
        // SAFETY: the reference covers 16 bytes, and wasm loads need no alignment.
        I8x16(unsafe { v128_load(v.as_ptr().cast()) })
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i8; 16]) {
        // SAFETY: as in `load`, and the reference is unique.
        unsafe { v128_store(v.as_mut_ptr().cast(), self.0) }
    }

    /// The low nibble of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        I8x16(v128_and(self.0, u8x16_splat(15)))
    }

    /// The high nibble of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        // x86 has no byte shift, and engines emulate one with a long sequence; shifting i16 lanes and masking is two
        // instructions.
        I8x16(v128_and(u16x8_shr(self.0, 4), u8x16_splat(15)))
    }

    #[inline(always)]
    pub fn widen_low(self) -> I16x8 {
        I16x8(i16x8_extend_low_i8x16(self.0))
    }

    #[inline(always)]
    pub fn widen_high(self) -> I16x8 {
        I16x8(i16x8_extend_high_i8x16(self.0))
    }
}
