//! The convolution and the scan, and the state they leave.

use zamba2::device::cpu::Cpu;
use zamba2::ops::device::Device;

use crate::cases::*;
use crate::kernels::{assert_same_bits, cpu, on_any_threads};
use crate::reference;
use crate::reference::Scan;

#[test]
fn causal_conv1d_equals_the_loops_however_the_sequence_is_split() {
    for_conv_cases(|what, t_rows, case| {
        let got = on_any_threads(what, |ops| conv1d(ops, case, &[t_rows]));
        let (y, state) = got.split_at(case.x.len());
        let inputs = [&case.state[..], &case.x].concat();
        let expected = reference::causal_conv1d(&case.weight, &case.bias, &inputs);
        assert_close(what, CONV, y, &expected);
        assert_same_bits(what, state, &inputs[case.x.len()..]);
        for pieces in ways_to_cut(t_rows) {
            let cut = conv1d(&mut cpu(1), case, &pieces);
            assert_same_bits(&format!("{what} as {pieces:?}"), &cut, &got);
        }
    });
}

#[test]
fn causal_conv1d_stays_finite_on_huge_inputs() {
    for value in [0.0, 1e30, -1e30] {
        let case = ConvCase {
            weight: vec![1.0; 8],
            bias: vec![0.0; 2],
            state: vec![0.0; 6],
            x: vec![value, 1.0, 0.0, -1.0],
        };
        let y = conv1d(&mut cpu(1), &case, &[2]);
        assert!(y.iter().all(|v| v.is_finite()), "{value}: {y:?}");
    }
}

#[test]
fn ssm_scan_equals_the_recurrence_however_the_sequence_is_split() {
    for_scan_cases(|what, t_rows, scan| {
        let got = on_any_threads(what, |ops| ssm_scan(ops, scan, &[t_rows]));
        let (expected_y, expected_state) = scan.run();
        // Relative to y and the state together: a state of one number may cancel to less than the rounding of its
        // terms.
        let expected = [expected_y, expected_state].concat();
        assert_close(what, SCAN, &got, &expected);
        // One token is computed by the recurrence and several by a matrix product, so pieces round differently.
        for pieces in ways_to_cut(t_rows) {
            let what = format!("{what} as {} pieces", pieces.len());
            let cut = ssm_scan(&mut cpu(1), scan, &pieces);
            assert_close(&what, SCAN, &cut, &expected);
        }
    });
}

/// What drafts rely on: few rows at once are the same steps, and a scan may leave the state before it as it was.
#[test]
fn few_rows_of_ssm_scan_have_the_bits_of_single_steps_from_a_state_that_stays() {
    let mut random = Random(13);
    for sizes in SCANS {
        for t_rows in 1..=Cpu::MAX_EXACT_ROWS {
            let scan = random_scan(&mut random, t_rows, sizes);
            let what = format!("{t_rows} tokens, {sizes:?}");
            let steps = ssm_scan(&mut cpu(1), &scan, &vec![1; t_rows]);
            // By single steps y is row after row, too.
            let together = on_any_threads(&what, |ops| ssm_scan(ops, &scan, &[t_rows]));
            assert_same_bits(&what, &together, &steps);
            let from = on_any_threads(&what, |ops| ssm_scan_from(ops, &scan, t_rows));
            let (result, before) = from.split_at(steps.len());
            assert_same_bits(&format!("{what}, from"), result, &steps);
            assert_same_bits(&format!("{what}, before"), before, &scan.state);
        }
    }
}

/// A huge dt clears the state; a large negative one changes nothing but D·x.
#[test]
fn ssm_scan_is_correct_for_every_size_of_dt() {
    let mut random = Random(11);
    for dt in [-1e30, -100.0, 0.0, 19.9, 20.1, 100.0, 1e30] {
        for t_rows in [3, 9] {
            let mut scan = Scan {
                dt_min: 0.0,
                ..random_scan(&mut random, t_rows, [4, 5, 6, 2])
            };
            scan.dt.fill(dt);
            scan.dt_bias.fill(0.0);
            let got = on_any_threads("dt", |ops| ssm_scan(ops, &scan, &[t_rows]));
            let (y, state) = got.split_at(scan.x.len());
            let (expected_y, expected_state) = scan.run();
            assert_close(&format!("dt {dt}, {t_rows} tokens"), SCAN, y, &expected_y);
            assert_close(
                &format!("dt {dt}, {t_rows} tokens"),
                SCAN,
                state,
                &expected_state,
            );
        }
    }
}

#[test]
fn a_cleared_state_equals_that_of_a_new_sequence() {
    let mut random = Random(12);
    let scan = random_scan(&mut random, 5, [4, 5, 6, 2]);
    let fresh = Scan {
        state: vec![0.0; scan.state.len()],
        ..random_scan(&mut Random(12), 5, [4, 5, 6, 2])
    };
    let ops = &mut cpu(1);
    let mut state = rows(ops, scan.d_state, &scan.state);
    ops.clear(&mut state);
    let cleared = Scan {
        state: read(ops, &state),
        ..scan
    };
    assert_same_bits("the state", &cleared.state, &fresh.state);
    assert_same_bits(
        "the scan",
        &ssm_scan(ops, &cleared, &[5]),
        &ssm_scan(ops, &fresh, &[5]),
    );
    // Rows not used by the last, shorter operation are cleared as well.
    let mut wide = rows(ops, 2, &[1.0; 8]);
    let (a, b) = (rows(ops, 2, &[1.0; 2]), rows(ops, 2, &[1.0; 2]));
    ops.add(MODULE, &a, &b, &mut wide);
    ops.clear(&mut wide);
    let (a, b) = (rows(ops, 1, &[1.0; 4]), rows(ops, 1, &[2.0; 4]));
    assert_same_bits("the short tensor", &read(ops, &wide), &[0.0; 2]);
    ops.concat(MODULE, &a, &b, &mut wide);
    assert_same_bits("the tall tensor", &read(ops, &wide), &[1.0, 2.0].repeat(4));
}
