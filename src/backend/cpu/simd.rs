//! The few 128-bit vector operations that the kernels need: on wasm the engine's own instructions, elsewhere plain
//! arrays that do the same arithmetic, so that `cargo test` covers every algorithm. It stands below all kernels.
//! Multiplication and addition are never fused, so both halves round alike.

pub use platform::{F32x4, I8x16, I16x8, I32x4};

#[cfg(target_arch = "wasm32")]
mod platform {
    use core::arch::wasm32::*;

    #[derive(Clone, Copy)]
    pub struct F32x4(v128);

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
        pub fn mul(self, o: Self) -> Self {
            F32x4(f32x4_mul(self.0, o.0))
        }
    }

    #[derive(Clone, Copy)]
    pub struct I8x16(v128);

    impl I8x16 {
        #[inline(always)]
        pub fn load(v: &[i8; 16]) -> Self {
            // SAFETY: the reference covers 16 bytes, and wasm loads need no alignment.
            I8x16(unsafe { v128_load(v.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn load_bytes(v: &[u8; 16]) -> Self {
            // SAFETY: as in `load`.
            I8x16(unsafe { v128_load(v.as_ptr().cast()) })
        }

        /// The low nibble of every byte.
        #[inline(always)]
        pub fn low_nibbles(self) -> Self {
            I8x16(v128_and(self.0, u8x16_splat(15)))
        }

        /// The high nibble of every byte.
        #[inline(always)]
        pub fn high_nibbles(self) -> Self {
            I8x16(u8x16_shr(self.0, 4))
        }

        /// Sums of neighbouring products, as i16: the operands must keep |a₀b₀ + a₁b₁| below 2¹⁵.
        #[inline(always)]
        pub fn dot_pairs(self, o: Self) -> I16x8 {
            let low = i16x8_extmul_low_i8x16(self.0, o.0);
            let high = i16x8_extmul_high_i8x16(self.0, o.0);
            let even = i16x8_shuffle::<0, 2, 4, 6, 8, 10, 12, 14>(low, high);
            let odd = i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(low, high);
            I16x8(i16x8_add(even, odd))
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

    #[derive(Clone, Copy)]
    pub struct I16x8(v128);

    impl I16x8 {
        #[inline(always)]
        pub fn load(v: &[i16; 8]) -> Self {
            // SAFETY: the reference covers 16 bytes, and wasm loads need no alignment.
            I16x8(unsafe { v128_load(v.as_ptr().cast()) })
        }

        /// Each of four numbers twice: a a b b c c d d.
        #[inline(always)]
        pub fn load_twice(v: &[i16; 4]) -> Self {
            // SAFETY: the reference covers 8 bytes, and wasm loads need no alignment.
            let four = unsafe { v128_load64_zero(v.as_ptr().cast()) };
            I16x8(i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(four, four))
        }

        #[inline(always)]
        pub fn add(self, o: Self) -> Self {
            I16x8(i16x8_add(self.0, o.0))
        }

        /// Sums of neighbouring products, exact in i32.
        #[inline(always)]
        pub fn dot_pairs(self, o: Self) -> I32x4 {
            I32x4(i32x4_dot_i16x8(self.0, o.0))
        }
    }

    #[derive(Clone, Copy)]
    pub struct I32x4(v128);

    impl I32x4 {
        #[inline(always)]
        pub fn zero() -> Self {
            I32x4(i32x4_splat(0))
        }

        #[inline(always)]
        pub fn add(self, o: Self) -> Self {
            I32x4(i32x4_add(self.0, o.0))
        }

        #[inline(always)]
        pub fn to_f32(self) -> F32x4 {
            F32x4(f32x4_convert_i32x4(self.0))
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::array::from_fn;

    #[derive(Clone, Copy)]
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
        pub fn mul(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] * o.0[i]))
        }
    }

    #[derive(Clone, Copy)]
    pub struct I8x16([i8; 16]);

    impl I8x16 {
        #[inline(always)]
        pub fn load(v: &[i8; 16]) -> Self {
            I8x16(*v)
        }

        #[inline(always)]
        pub fn load_bytes(v: &[u8; 16]) -> Self {
            I8x16(v.map(|b| b as i8))
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

        /// Sums of neighbouring products, as i16: the operands must keep |a₀b₀ + a₁b₁| below 2¹⁵.
        #[inline(always)]
        pub fn dot_pairs(self, o: Self) -> I16x8 {
            let product = |i: usize| i16::from(self.0[i]) * i16::from(o.0[i]);
            I16x8(from_fn(|i| product(2 * i) + product(2 * i + 1)))
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

    #[derive(Clone, Copy)]
    pub struct I16x8([i16; 8]);

    impl I16x8 {
        #[inline(always)]
        pub fn load(v: &[i16; 8]) -> Self {
            I16x8(*v)
        }

        /// Each of four numbers twice: a a b b c c d d.
        #[inline(always)]
        pub fn load_twice(v: &[i16; 4]) -> Self {
            I16x8(from_fn(|i| v[i / 2]))
        }

        #[inline(always)]
        pub fn add(self, o: Self) -> Self {
            I16x8(from_fn(|i| self.0[i] + o.0[i]))
        }

        /// Sums of neighbouring products, exact in i32.
        #[inline(always)]
        pub fn dot_pairs(self, o: Self) -> I32x4 {
            let product = |i: usize| i32::from(self.0[i]) * i32::from(o.0[i]);
            I32x4(from_fn(|i| product(2 * i) + product(2 * i + 1)))
        }
    }

    #[derive(Clone, Copy)]
    pub struct I32x4([i32; 4]);

    impl I32x4 {
        #[inline(always)]
        pub fn zero() -> Self {
            I32x4([0; 4])
        }

        #[inline(always)]
        pub fn add(self, o: Self) -> Self {
            I32x4(from_fn(|i| self.0[i] + o.0[i]))
        }

        #[inline(always)]
        pub fn to_f32(self) -> F32x4 {
            F32x4(self.0.map(|v| v as f32))
        }
    }
}

impl F32x4 {
    /// self + a·b, rounded twice.
    #[inline(always)]
    pub fn mul_add(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }

    /// The sum of the lanes, as (0 + 1) + (2 + 3).
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let mut v = [0.0; 4];
        self.store(&mut v);
        (v[0] + v[1]) + (v[2] + v[3])
    }
}

/// Σ a·b over slices of one length, in four lanes and a tail.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (a4, a_tail) = a.as_chunks::<4>();
    let (b4, b_tail) = b.as_chunks::<4>();
    let mut lanes = F32x4::splat(0.0);
    for (a, b) in a4.iter().zip(b4) {
        lanes = lanes.mul_add(F32x4::load(a), F32x4::load(b));
    }
    let tail = a_tail.iter().zip(b_tail).map(|(a, b)| a * b);
    lanes.sum() + tail.sum::<f32>()
}

/// y += scale·x.
#[inline]
pub fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    assert_eq!(x.len(), y.len());
    let (y4, y_tail) = y.as_chunks_mut::<4>();
    let (x4, x_tail) = x.as_chunks::<4>();
    let scale4 = F32x4::splat(scale);
    for (y, x) in y4.iter_mut().zip(x4) {
        F32x4::load(y).mul_add(scale4, F32x4::load(x)).store(y);
    }
    for (y, x) in y_tail.iter_mut().zip(x_tail) {
        *y += scale * x;
    }
}
