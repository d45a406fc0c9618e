//! Ops on single numbers or rows.

use crate::cases::*;
use crate::kernels::{assert_same_bits, cpu, on_any_threads};
use crate::reference;

#[test]
fn gelu_mul_equals_the_exact_gelu_of_candle() {
    for_gelu_cases(|what, d, x| {
        let y = on_any_threads(what, |ops| gelu_mul(ops, d, x));
        assert_close(what, GELU, &y, &reference::gelu_mul(x, d));
        let last = x.len() / (2 * d) - 1;
        let alone = gelu_mul(&mut cpu(1), d, &x[last * 2 * d..]);
        assert_same_bits(what, &y[last * d..], &alone);
    });
    let x = [1e30, -1e30, 0.0, -0.0, 1.0, 1.0, 1.0, 1.0];
    assert_eq!(gelu_mul(&mut cpu(1), 4, &x), [1e30, 0.0, 0.0, 0.0]);
}

#[test]
fn concat_add_and_last_row_are_exact() {
    for_move_cases(|case| {
        let got = on_any_threads("moved", |ops| case.run(ops));
        assert_same_bits("moved", &got, &case.expected());
    });
}
