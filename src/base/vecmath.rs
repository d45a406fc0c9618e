//! exp and the activation functions based on it, four lanes at a time. The polynomials were fitted for this file
//! (Chebyshev nodes, in double precision); the tests compare each function with f64. Only multiplication, addition,
//! division and bit operations are used, so results are the same on every platform.

use crate::base::simd::{F32x4, Floats, SHIFT};

#[inline(always)]
fn horner<F: Floats, const N: usize>(x: F, coefficients: [f32; N]) -> F {
    let mut sum = F::splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        sum = F::splat(coefficients[i]).mul_add(sum, x);
    }
    sum
}

/// eˣ with a relative error below 2e-7 for −87.3 ≤ x ≤ 88.3; x is clamped to this range, so the result stays within
/// 1e-38 and 2e38.
#[inline(always)]
pub fn exp<F: Floats>(x: F) -> F {
    exp_of_sum(x, F::splat(0.0))
}

/// e^(a + b) for a small b, without rounding the sum first. Only a is clamped.
#[inline(always)]
fn exp_of_sum<F: Floats>(a: F, b: F) -> F {
    let a = a.max(F::splat(-87.3)).min(F::splat(88.3));
    // e^(a+b) = 2ⁿ·e^r with |r| ≤ ln(2)/2. The first part of ln 2 has few bits, so n times it is exact.
    let shifted = F::splat(SHIFT).mul_add(a.add(b), F::splat(std::f32::consts::LOG2_E));
    let n = shifted.sub(F::splat(SHIFT));
    let r = a.sub(n.mul(F::splat(0.693_359_4)));
    let r = r.mul_add(n, F::splat(2.121_944_4e-4)).add(b);
    let tail = horner(
        r,
        [
            0.5,
            0.166_665_76,
            0.041_666_463,
            0.008_363_236,
            0.001_393_373_4,
        ],
    );
    let fraction = F::splat(1.0).add(r.mul_add(tail, r.mul(r)));
    fraction.mul(shifted.power_of_two())
}

/// x · sigmoid(x)
#[inline(always)]
pub fn silu(x: F32x4) -> F32x4 {
    let negated = F32x4::splat(0.0).sub(x);
    x.div(F32x4::splat(1.0).add(exp(negated)))
}

/// ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), the second term by the series of artanh(y / (2 + y)).
#[inline(always)]
pub fn softplus(x: F32x4) -> F32x4 {
    let y = exp(F32x4::splat(0.0).sub(x.abs()));
    let s = y.div(y.add(F32x4::splat(2.0)));
    let series = horner(
        s.mul(s),
        [
            1.0,
            0.333_333_4,
            0.199_993_48,
            0.143_103_12,
            0.106_971_34,
            0.122_047_02,
        ],
    );
    let larger = x.max(F32x4::splat(0.0));
    larger.mul_add(s.add(s), series)
}

/// The exact GELU x·Φ(x), which the reference uses, not its tanh approximation. Φ(−u) = t·e^(−u²/2 + P(t)) with t = 1 /
/// (1 + 0.3536·u) keeps its relative precision far into the tail.
#[inline(always)]
pub fn gelu(x: F32x4) -> F32x4 {
    const C: f32 = 0.3536;
    // Φ(−12.9) is 2e-38, close to the smallest normal f32.
    const END: f32 = 12.9;
    let u = x.abs().min(F32x4::splat(END));
    let t = F32x4::splat(1.0).div(F32x4::splat(1.0).mul_add(u, F32x4::splat(C)));
    let p = horner(
        t,
        [
            -1.958_445_4,
            0.998_273_5,
            0.389_666_5,
            0.020_014_552,
            0.043_679_845,
            -0.160_024_34,
            -0.600_207_3,
            1.085_159_3,
            -0.650_725_5,
            0.139_461_82,
        ],
    );
    // Split u² in two: the high part of u has 12 bits, so its square is exact.
    let scaled = u.mul(F32x4::splat(4097.0));
    let head = scaled.sub(scaled.sub(u));
    let half = F32x4::splat(-0.5);
    let small = p.mul_add(half, u.sub(head).mul(u.add(head)));
    let tail = t.mul(exp_of_sum(half.mul(head.mul(head)), small));
    let beyond = F32x4::splat(END).sub(x.abs());
    let below = x.mul(beyond.by_sign(F32x4::splat(0.0), tail));
    x.by_sign(below, x.sub(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 1/64 of the range, and its end points.
    fn points(low: f64, high: f64) -> Vec<f32> {
        let n = ((high - low) * 64.0) as usize;
        let mut points: Vec<f32> = (0..=n).map(|i| (low + i as f64 / 64.0) as f32).collect();
        points.extend([1e-30, -1e-30, 0.0, -0.0, 1e-4, -1e-4, high as f32]);
        points
    }

    /// The largest error relative to the exact value, or to `floor` where that is larger.
    fn worst(
        points: &[f32],
        floor: f64,
        ours: impl Fn(F32x4) -> F32x4,
        exact: impl Fn(f64) -> f64,
    ) -> f64 {
        let errors = points.iter().map(|&x| {
            let [y, ..] = ours(F32x4::splat(x)).to_array();
            let exact = exact(f64::from(x));
            (f64::from(y) - exact).abs() / exact.abs().max(floor)
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let error = worst(&points(-87.0, 88.0), 0.0, exp, f64::exp);
        assert!(error < 2.4e-7, "{error:e}");
    }

    #[test]
    fn silu_and_softplus_are_within_a_millionth() {
        let silu_error = worst(&points(-80.0, 80.0), 0.0, silu, |x| x / (1.0 + (-x).exp()));
        assert!(silu_error < 5e-7, "{silu_error:e}");
        let softplus_error = worst(&points(-80.0, 80.0), 0.0, softplus, |x| x.exp().ln_1p());
        assert!(softplus_error < 5e-7, "{softplus_error:e}");
    }

    /// Within 2e-6 of the value itself, also in the tail, where 1 − erf would have no significant bits left.
    #[test]
    fn gelu_has_full_relative_precision_in_the_tail() {
        let exact = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let error = worst(&points(-12.5, 12.5), 1e-36, gelu, exact);
        assert!(error < 2e-6, "{error:e}");
        assert!(worst(&points(-100.0, 100.0), 1e-29, gelu, exact) < 2e-6);
    }

    #[test]
    fn a_nan_propagates_and_large_inputs_do_not_overflow() {
        for f in [exp, silu, softplus, gelu] {
            assert!(f(F32x4::splat(f32::NAN)).to_array()[0].is_nan());
            for x in [-1e30, -1000.0, 1000.0, 1e30] {
                assert!(f(F32x4::splat(x)).to_array()[0].is_finite(), "{x}");
            }
        }
    }
}
