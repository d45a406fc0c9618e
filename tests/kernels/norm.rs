//! The norms.

use crate::cases::*;
use crate::kernels::{assert_same_bits, cpu, on_any_threads};
use crate::reference;

#[test]
fn rms_norm_equals_candle_at_every_shape() {
    for_rms_norm_cases(|what, weight, x| {
        let y = on_any_threads(what, |ops| rms_norm(ops, weight, 1e-5, x));
        assert_close(what, NORM, &y, &reference::rms_norm(weight, 1e-5, x));
        let last = x.len() - weight.len();
        let alone = rms_norm(&mut cpu(1), weight, 1e-5, &x[last..]);
        assert_same_bits(what, &y[last..], &alone);
    });
}

/// Beyond 1e19 the squares overflow f32. The reference then divides by infinity and gives zero, and so must this.
#[test]
fn the_norms_stay_finite_on_zeros_and_huge_values() {
    for value in [0.0, 1e-30, 1e18, 1e30] {
        let mut x = vec![1.0; 33];
        x[7] = value;
        for x in [x, vec![value; 33]] {
            let y = rms_norm(&mut cpu(1), &[1.0; 33], 1e-5, &x);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
            let gate: Vec<f32> = x.iter().map(|v| -v).collect();
            let y = gated_rms_norm(&mut cpu(1), &[1.0; 33], 3, &x, &gate);
            assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
        }
    }
    assert_eq!(rms_norm(&mut cpu(1), &[1.0; 5], 1e-5, &[0.0; 5]), [0.0; 5]);
}

#[test]
fn gated_rms_norm_equals_the_loops_at_every_shape_and_number_of_groups() {
    for_gated_rms_norm_cases(|what, weight, n_groups, x, gate| {
        let y = on_any_threads(what, |ops| gated_rms_norm(ops, weight, n_groups, x, gate));
        let expected = reference::gated_rms_norm(weight, n_groups, 1e-5, x, gate);
        assert_close(what, NORM, &y, &expected);
        let last = x.len() - weight.len();
        let ops = &mut cpu(1);
        let alone = gated_rms_norm(ops, weight, n_groups, &x[last..], &gate[last..]);
        assert_same_bits(what, &y[last..], &alone);
    });
}
