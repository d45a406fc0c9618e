//! The vector operations on plain arrays, lane by lane. They define what each operation means: the tests compare the
//! other implementations with them, and targets without another implementation use them. Not optimised.

use std::array::from_fn;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F32x4([f32; 4]);

impl F32x4 {
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        F32x4([v; 4])
    }

    #[inline(always)]
    pub fn load(v: &[f32; 4]) -> Self {
        F32x4(*v)
    }

    #[inline(always)]
    pub fn store(self, v: &mut [f32; 4]) {
        *v = self.0;
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        F32x4(from_fn(|i| self.0[i] + o.0[i]))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        F32x4(from_fn(|i| self.0[i] - o.0[i]))
    }

    #[inline(always)]
    pub fn mul(self, o: Self) -> Self {
        F32x4(from_fn(|i| self.0[i] * o.0[i]))
    }

    #[inline(always)]
    pub fn div(self, o: Self) -> Self {
        F32x4(from_fn(|i| self.0[i] / o.0[i]))
    }

    /// The lanewise maximum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn max(self, o: Self) -> Self {
        F32x4(from_fn(|i| {
            if self.0[i] < o.0[i] {
                o.0[i]
            } else {
                self.0[i]
            }
        }))
    }

    /// The lanewise minimum; `self` where a lane of `o` is NaN.
    #[inline(always)]
    pub fn min(self, o: Self) -> Self {
        F32x4(from_fn(|i| {
            if o.0[i] < self.0[i] {
                o.0[i]
            } else {
                self.0[i]
            }
        }))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        F32x4(self.0.map(f32::abs))
    }

    /// `negative` in the lanes whose sign bit is set, `positive` in the others.
    #[inline(always)]
    pub fn by_sign(self, negative: Self, positive: Self) -> Self {
        F32x4(from_fn(|i| {
            if self.0[i].is_sign_negative() {
                negative.0[i]
            } else {
                positive.0[i]
            }
        }))
    }

    /// Reinterprets the bits as integers.
    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(self.0.map(|v| v.to_bits() as i32))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct I32x4([i32; 4]);

impl I32x4 {
    #[inline(always)]
    pub fn splat(v: i32) -> Self {
        I32x4([v; 4])
    }

    #[inline(always)]
    pub fn add(self, o: Self) -> Self {
        I32x4(from_fn(|i| self.0[i].wrapping_add(o.0[i])))
    }

    #[inline(always)]
    pub fn sub(self, o: Self) -> Self {
        I32x4(from_fn(|i| self.0[i].wrapping_sub(o.0[i])))
    }

    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        I32x4(self.0.map(|v| v << N))
    }

    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(self.0.map(|v| v as f32))
    }

    /// Reinterprets the bits as floats.
    #[inline(always)]
    pub fn floats(self) -> F32x4 {
        F32x4(self.0.map(|v| f32::from_bits(v as u32)))
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i32; 4]) {
        *v = self.0;
    }

    /// The lanes of both vectors as i16, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I16x8 {
        let narrow = |v: i32| v.clamp(-32768, 32767) as i16;
        I16x8(from_fn(|i| {
            narrow(if i < 4 { self.0[i] } else { high.0[i - 4] })
        }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct I16x8([i16; 8]);

impl I16x8 {
    #[inline(always)]
    pub fn load(v: &[i16; 8]) -> Self {
        I16x8(*v)
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i16; 8]) {
        *v = self.0;
    }

    /// Broadcasts a pair: a b a b a b a b.
    #[inline(always)]
    pub fn splat_pair(v: &[i16; 2]) -> Self {
        I16x8(from_fn(|i| v[i % 2]))
    }

    /// Sign-extends four i16 to i32.
    #[inline(always)]
    pub fn widen_four(v: &[i16; 4]) -> I32x4 {
        I32x4(v.map(i32::from))
    }

    /// Sign-extends eight i8 to i16.
    #[inline(always)]
    pub fn widen_eight(v: &[i8; 8]) -> Self {
        I16x8(v.map(i16::from))
    }

    /// Sums of products of adjacent lanes, exact in i32.
    #[inline(always)]
    pub fn dot_pairs(self, o: Self) -> I32x4 {
        let product = |i: usize| i32::from(self.0[i]) * i32::from(o.0[i]);
        I32x4(from_fn(|i| product(2 * i) + product(2 * i + 1)))
    }

    /// The lanes of both vectors as i8, saturated.
    #[inline(always)]
    pub fn narrow(self, high: Self) -> I8x16 {
        let narrow = |v: i16| v.clamp(-128, 127) as i8;
        I8x16(from_fn(|i| {
            narrow(if i < 8 { self.0[i] } else { high.0[i - 8] })
        }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct I8x16([i8; 16]);

impl I8x16 {
    #[inline(always)]
    pub fn load(v: &[i8; 16]) -> Self {
        I8x16(*v)
    }

    #[inline(always)]
    pub fn store(self, v: &mut [i8; 16]) {
        *v = self.0;
    }

    /// The low nibble of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        I8x16(self.0.map(|b| b & 15))
    }

    /// The high nibble of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        I8x16(self.0.map(|b| (b as u8 >> 4) as i8))
    }

    #[inline(always)]
    pub fn widen_low(self) -> I16x8 {
        I16x8(from_fn(|i| i16::from(self.0[i])))
    }

    #[inline(always)]
    pub fn widen_high(self) -> I16x8 {
        I16x8(from_fn(|i| i16::from(self.0[8 + i])))
    }
}

/// Four int8 activations a₀ a₁ a₂ a₃, broadcast to the four rows of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quad([i8; 4]);

impl Quad {
    #[inline(always)]
    pub fn load(v: &[i8; 4]) -> Self {
        Quad(*v)
    }
}

/// Σ activation · nibble of a q4 block, one sum for each of four rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NibbleSums([i16; 8]);

impl NibbleSums {
    /// Starts at `correction`: element 0 is for columns 0 and 1 of every four, element 1 for columns 2 and 3.
    #[inline(always)]
    pub fn start(correction: &[i16; 2]) -> Self {
        NibbleSums(from_fn(|i| correction[i % 2]))
    }

    /// Adds four columns of four rows: bytes 4r..4r+4 of `nibbles` are row r, each within 0..=15.
    #[inline(always)]
    pub fn add_products(self, a: Quad, nibbles: I8x16) -> Self {
        let product = |i: usize| i16::from(a.0[i % 4]) * i16::from(nibbles.0[i]);
        NibbleSums(from_fn(|i| {
            self.0[i] + (product(2 * i) + product(2 * i + 1))
        }))
    }

    /// Each row's sum times its scale: at most 32·127·8·32767 in magnitude, so the sum of two fits i32.
    #[inline(always)]
    pub fn scaled(self, scale: &[i16; 4]) -> I32x4 {
        let sum = |r: usize| i32::from(self.0[2 * r]) + i32::from(self.0[2 * r + 1]);
        I32x4(from_fn(|r| sum(r) * i32::from(scale[r])))
    }
}

byte_steps!();
