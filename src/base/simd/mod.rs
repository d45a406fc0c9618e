//! The 128-bit vector operations that the kernels use, implemented for wasm SIMD128, SSE4.1, NEON and on plain arrays.
//! Multiply-add is never fused and no result is left to the engine's choice, so all implementations give the same bits;
//! the tests compare them with `portable`.

#[cfg(any(test, not(target_arch = "wasm32"), target_feature = "relaxed-simd"))]
#[macro_use]
mod byte_steps;
#[macro_use]
mod wide;

pub use wide::{Floats, OneGroup, RowSums, RowsKernel, SHIFT, Wide, WideKernel};

cfg_select! {
    target_arch = "wasm32" => {
        mod wasm;
        pub use wasm::{F32x4, I8x16, I16x8, I32x4};
    }
    all(target_arch = "x86_64", target_feature = "sse4.1") => {
        mod x86;
        mod x86_wide;
        use x86 as steps;
        pub use x86::{F32x4, I8x16, I16x8, I32x4};
        pub use x86_wide::{MAX_GROUPS, Width};
    }
    target_arch = "aarch64" => {
        mod neon;
        mod one_width;
        use neon as steps;
        pub use neon::{F32x4, I8x16, I16x8, I32x4};
        pub use one_width::{MAX_GROUPS, Width};
    }
    _ => {
        mod one_width;
        use portable as steps;
        pub use one_width::{MAX_GROUPS, Width};
        pub use portable::{F32x4, I8x16, I16x8, I32x4};
    }
}

cfg_select! {
    all(target_arch = "wasm32", target_feature = "relaxed-simd") => {
        mod wasm_relaxed;
        mod wasm_relaxed_sums;
        use wasm_relaxed as steps;
        pub use wasm_relaxed_sums::{MAX_GROUPS, Width};
    }
    target_arch = "wasm32" => {
        mod one_width;
        mod wasm_plain;
        pub use one_width::{MAX_GROUPS, Width};
        use wasm_plain as steps;
    }
    _ => {}
}

#[cfg(any(
    test,
    not(any(
        target_arch = "wasm32",
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_feature = "sse4.1")
    ))
))]
mod portable;

pub use steps::{
    Narrow, NibbleSums, Quad, STEP_COLUMNS, StepActivations, StepSums, StepWeights, unpack,
};

impl F32x4 {
    /// self + a·b, with two roundings.
    #[inline(always)]
    pub fn mul_add(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }

    /// The four lanes.
    #[inline(always)]
    pub fn to_array(self) -> [f32; 4] {
        let mut v = [0.0; 4];
        self.store(&mut v);
        v
    }

    /// The sum of the lanes, as (0 + 1) + (2 + 3).
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let v = self.to_array();
        (v[0] + v[1]) + (v[2] + v[3])
    }
}

/// Replaces the elements with `body` of them, four at a time. The last call is padded with zeros.
#[inline(always)]
pub fn map_in_place(y: &mut [f32], body: impl Fn(F32x4) -> F32x4) {
    let (y4, tail) = y.as_chunks_mut::<4>();
    for y in y4 {
        body(F32x4::load(y)).store(y);
    }
    if !tail.is_empty() {
        let mut four = [0.0; 4];
        four[..tail.len()].copy_from_slice(tail);
        tail.copy_from_slice(&body(F32x4::load(&four)).to_array()[..tail.len()]);
    }
}

/// [`map_in_place`] with a second slice of the same length.
#[inline(always)]
pub fn map_with(y: &mut [f32], x: &[f32], body: impl Fn(F32x4, F32x4) -> F32x4) {
    assert_eq!(x.len(), y.len());
    let (y4, y_tail) = y.as_chunks_mut::<4>();
    let (x4, x_tail) = x.as_chunks::<4>();
    for (y, x) in y4.iter_mut().zip(x4) {
        body(F32x4::load(y), F32x4::load(x)).store(y);
    }
    if !y_tail.is_empty() {
        let (mut y, mut x) = ([0.0; 4], [0.0; 4]);
        y[..y_tail.len()].copy_from_slice(y_tail);
        x[..y_tail.len()].copy_from_slice(x_tail);
        let result = body(F32x4::load(&y), F32x4::load(&x)).to_array();
        y_tail.copy_from_slice(&result[..y_tail.len()]);
    }
}

/// Folds the elements into four lanes, which start as `missing`. The last call is padded with `missing`.
#[inline(always)]
pub fn fold(x: &[f32], missing: f32, body: impl Fn(F32x4, F32x4) -> F32x4) -> F32x4 {
    let (x4, tail) = x.as_chunks::<4>();
    let start = F32x4::splat(missing);
    let lanes = (x4.iter()).fold(start, |lanes, x| body(lanes, F32x4::load(x)));
    let mut four = [missing; 4];
    four[..tail.len()].copy_from_slice(tail);
    body(lanes, F32x4::load(&four))
}

/// Σ a·b over slices of equal length, in sixteen partial sums to break the chain of dependent additions.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (a16, a_tail) = a.as_chunks::<16>();
    let (b16, b_tail) = b.as_chunks::<16>();
    let mut lanes = [F32x4::splat(0.0); 4];
    for (a, b) in a16.iter().zip(b16) {
        let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0);
        for ((lanes, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lanes = lanes.mul_add(F32x4::load(a), F32x4::load(b));
        }
    }
    let [l0, l1, l2, l3] = lanes;
    let tail = a_tail.iter().zip(b_tail).map(|(a, b)| a * b);
    l0.add(l1).add(l2.add(l3)).sum() + tail.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use crate::base::simd::portable as oracle;
    use crate::base::simd::{F32x4, I8x16, I16x8, I32x4};

    fn random(seed: &mut u32) -> u32 {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *seed >> 8
    }

    fn floats(seed: &mut u32) -> [f32; 4] {
        // All signs, many magnitudes, and sometimes NaN.
        std::array::from_fn(|_| match random(seed) % 16 {
            0 => f32::NAN,
            1 => 0.0,
            2 => -0.0,
            _ => (random(seed) as f32 - 8e6) * 10f32.powi(random(seed) as i32 % 20 - 10),
        })
    }

    fn bits(v: [f32; 4]) -> [u32; 4] {
        // NaN payloads are not compared.
        v.map(|v| {
            if v.is_nan() {
                f32::NAN.to_bits()
            } else {
                v.to_bits()
            }
        })
    }

    fn oracle_bits(v: oracle::F32x4) -> [u32; 4] {
        let mut array = [0.0; 4];
        v.store(&mut array);
        bits(array)
    }

    #[test]
    fn every_float_operation_is_bit_equal_to_the_portable_one() {
        let mut seed = 1;
        for _ in 0..2000 {
            let [a, b, c] = [floats(&mut seed), floats(&mut seed), floats(&mut seed)];
            let (x, y, z) = (F32x4::load(&a), F32x4::load(&b), F32x4::load(&c));
            let (p, q, r) = (
                oracle::F32x4::load(&a),
                oracle::F32x4::load(&b),
                oracle::F32x4::load(&c),
            );
            let pairs = [
                (x.add(y), p.add(q)),
                (x.sub(y), p.sub(q)),
                (x.mul(y), p.mul(q)),
                (x.div(y), p.div(q)),
                (x.max(y), p.max(q)),
                (x.min(y), p.min(q)),
                (x.abs(), p.abs()),
                (x.add(F32x4::splat(1.5)), p.add(oracle::F32x4::splat(1.5))),
                (x.bits().floats(), p.bits().floats()),
            ];
            for (i, (ours, theirs)) in pairs.into_iter().enumerate() {
                assert_eq!(
                    bits(ours.to_array()),
                    oracle_bits(theirs),
                    "operation {i}: {a:?} {b:?}"
                );
            }
            if a.iter().all(|v| !v.is_nan()) {
                assert_eq!(
                    bits(x.by_sign(y, z).to_array()),
                    oracle_bits(p.by_sign(q, r)),
                    "{a:?}"
                );
            }
        }
    }

    #[test]
    fn every_integer_operation_equals_the_portable_one() {
        let mut seed = 2;
        for _ in 0..2000 {
            let bytes: [i8; 16] = std::array::from_fn(|_| random(&mut seed) as i8);
            let halves: [[i16; 8]; 2] =
                std::array::from_fn(|_| std::array::from_fn(|_| random(&mut seed) as i16));
            let (x, p) = (I8x16::load(&bytes), oracle::I8x16::load(&bytes));
            let (y, q) = (I16x8::load(&halves[0]), oracle::I16x8::load(&halves[0]));
            let (z, r) = (I16x8::load(&halves[1]), oracle::I16x8::load(&halves[1]));
            let i8s = |v: I8x16| {
                let mut array = [0; 16];
                v.store(&mut array);
                array
            };
            let i16s = |v: I16x8| {
                let mut array = [0; 8];
                v.store(&mut array);
                array
            };
            let i32s = |v: I32x4| {
                let mut array = [0; 4];
                v.store(&mut array);
                array
            };
            assert_eq!(oracle::I8x16::load(&i8s(x.low_nibbles())), p.low_nibbles());
            assert_eq!(
                oracle::I8x16::load(&i8s(x.high_nibbles())),
                p.high_nibbles()
            );
            assert_eq!(oracle::I16x8::load(&i16s(x.widen_low())), p.widen_low());
            assert_eq!(oracle::I16x8::load(&i16s(x.widen_high())), p.widen_high());
            assert_eq!(oracle::I8x16::load(&i8s(y.narrow(z))), q.narrow(r));
            let (sum, exact) = (y.dot_pairs(z), q.dot_pairs(r));
            let mut expected = [0; 4];
            exact.store(&mut expected);
            assert_eq!(i32s(sum), expected);
            exact.add(exact).store(&mut expected);
            assert_eq!(i32s(sum.add(sum)), expected);
            exact.shl::<3>().store(&mut expected);
            assert_eq!(i32s(sum.shl::<3>()), expected);
            assert_eq!(
                oracle::I16x8::load(&i16s(sum.narrow(sum.sub(I32x4::splat(7))))),
                exact.narrow(exact.sub(oracle::I32x4::splat(7)))
            );
            let four: [i16; 4] = std::array::from_fn(|i| halves[0][i]);
            oracle::I16x8::widen_four(&four).store(&mut expected);
            assert_eq!(i32s(I16x8::widen_four(&four)), expected);
            let eight: [i8; 8] = std::array::from_fn(|i| bytes[i]);
            assert_eq!(
                oracle::I16x8::load(&i16s(I16x8::widen_eight(&eight))),
                oracle::I16x8::widen_eight(&eight)
            );
            let mut stored = [0; 8];
            q.store(&mut stored);
            assert_eq!(i16s(y), stored);
            let pair = [halves[0][0], halves[0][1]];
            assert_eq!(
                oracle::I16x8::load(&i16s(I16x8::splat_pair(&pair))),
                oracle::I16x8::splat_pair(&pair)
            );
            assert_eq!(bits(sum.to_f32().to_array()), oracle_bits(exact.to_f32()));
        }
    }

    /// Every implementation gives the exact integer sum of a q4 block. The first rounds have the largest operands,
    /// where an engine that saturates, or reads a nibble as signed, would differ.
    macro_rules! nibble_products_are_exact {
        ($name:ident, $($half:tt)*) => {
    #[test]
    fn $name() {
        use $($half)*::{
            I8x16, I32x4, Narrow, NibbleSums, Quad, STEP_COLUMNS, StepActivations, StepSums, StepWeights, unpack,
        };
        let to_array = |v: I32x4| { let mut array = [0; 4]; v.store(&mut array); array };
        let mut seed = 3;
        for round in 0..500 {
            let extreme = round < 8;
            let weight = |seed: &mut u32| match (extreme, round % 4) {
                (true, 0 | 1) => 15,
                (true, _) => 0,
                _ => (random(seed) % 16) as u8,
            };
            let activation = |seed: &mut u32| match (extreme, round % 2) {
                (true, 0) => 127,
                (true, _) => -127,
                _ => (random(seed) % 255) as i32 as i16 - 127,
            };
            // nibbles[v][byte]: row byte / 4, column 8v + byte % 4 in the low nibble and 4 further in the high one.
            let low: [[u8; 16]; 4] =
                std::array::from_fn(|_| std::array::from_fn(|_| weight(&mut seed)));
            let high: [[u8; 16]; 4] =
                std::array::from_fn(|_| std::array::from_fn(|_| weight(&mut seed)));
            let a: [i16; 32] = std::array::from_fn(|_| activation(&mut seed));
            let scale: [i16; 4] = if extreme {
                [32767, -32767, 1, 0]
            } else {
                std::array::from_fn(|_| (random(&mut seed) as i16).max(-32767))
            };
            let column_pairs = |from: usize| -> i16 {
                let columns = (0..32).filter(|c| c % 4 / 2 == from);
                -8 * columns.map(|c| a[c]).sum::<i16>()
            };
            let correction = [column_pairs(0), column_pairs(1)];
            let exact: [i32; 4] = std::array::from_fn(|r| {
                let products = (0..32).map(|c| {
                    let half = if c % 8 < 4 { &low } else { &high };
                    i32::from(a[c]) * (i32::from(half[c / 8][4 * r + c % 4]) - 8)
                });
                products.sum::<i32>() * i32::from(scale[r])
            });

            let narrow: Vec<Narrow> = a.iter().map(|v| *v as Narrow).collect();
            let quads = narrow.as_chunks::<4>().0;
            let steps = narrow.as_chunks::<STEP_COLUMNS>().0;
            let mut by_vectors = NibbleSums::start(&correction);
            let mut by_steps = StepSums::start(&correction);
            for v in 0..4 {
                let bytes: [i8; 16] = std::array::from_fn(|i| (low[v][i] | high[v][i] << 4) as i8);
                let bytes = I8x16::load(&bytes);
                by_vectors = by_vectors
                    .add_products(Quad::load(&quads[2 * v]), bytes.low_nibbles())
                    .add_products(Quad::load(&quads[2 * v + 1]), bytes.high_nibbles());
                let mut unpacked = [StepWeights::default(); 8 / STEP_COLUMNS];
                unpack(bytes, unpacked.each_mut());
                for (weights, a) in unpacked.iter().zip(&steps[v * unpacked.len()..]) {
                    by_steps = by_steps.add_step(StepActivations::load(a), weights);
                }
            }
            assert_eq!(
                to_array(by_vectors.scaled(&scale)),
                exact,
                "round {round}"
            );
            assert_eq!(
                to_array(by_steps.scaled(&scale)),
                exact,
                "round {round}"
            );
        }
    }
        };
    }
    nibble_products_are_exact!(
        nibble_products_are_exact_with_this_targets_instructions,
        crate::base::simd
    );
    /// The second kind of sums of wasm with relaxed SIMD, under the names of the first.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    mod fours {
        use crate::base::simd::tests::random;
        use crate::base::simd::wasm_relaxed_sums::{FourSums as NibbleSums, FourSums as StepSums};
        use crate::base::simd::{
            I8x16, I32x4, Narrow, Quad, STEP_COLUMNS, StepActivations, StepWeights, unpack,
        };
        nibble_products_are_exact!(nibble_products_are_exact_in_sums_of_fours, self);
    }
    nibble_products_are_exact!(
        nibble_products_are_exact_on_plain_arrays,
        crate::base::simd::portable
    );
}
