//! Wrong shapes are refused. `Ops` checks them before the device is called, so what holds for one device holds for all.
//! Not for WebAssembly, where a panic ends the program.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zamba2::base::quant::WeightFormat;
use zamba2::device::cpu::Cpu;
use zamba2::ops::Ops;
use zamba2::ops::device::{
    AttentionShape, Cols, Conv1d, Draw, GatedNorm, KvFormat, Norm, Rope, Ssm, SsmInput, Storage,
    split,
};
use zamba2::text::sampling::TopK;

use crate::cases::{MODULE, Random, linear, rows};
use crate::kernels::cpu;

/// Asserts that `body` panics, with the op's name.
fn refused(op: &str, body: impl Fn(&mut Ops<Cpu>)) {
    let run = AssertUnwindSafe(|| body(&mut cpu(1)));
    let panic = catch_unwind(run).expect_err(op);
    let literal = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let message = panic.downcast_ref::<String>().cloned().or(literal);
    let message = message.expect("the panic has a message");
    assert!(message.contains(&format!("{op}: ")), "{op}: {message}");
}

type T = <Cpu as Storage>::Tensor;

/// One row of `n` ones. // [1, n]
fn row(ops: &mut Ops<Cpu>, n: usize) -> T {
    rows(ops, n, &vec![1.0; n])
}

/// Two rows of `n` ones. // [2, n]
fn two_rows(ops: &mut Ops<Cpu>, n: usize) -> T {
    rows(ops, n, &vec![1.0; 2 * n])
}

/// All `n` columns.
fn all(tensor: &T, n: usize) -> Cols<'_, T> {
    Cols {
        tensor,
        start: 0,
        len: n,
    }
}

#[test]
fn products_refuse_tensors_of_other_sizes_than_the_matrix() {
    let weight = Random(21).matrix(WeightFormat::Q8, 4, 8);
    refused("linear", |ops| {
        let (layer, x) = (linear(ops, &weight, None), row(ops, 9));
        let mut y = ops.tensor(1, 4);
        ops.linear(&layer, &x, &mut y);
    });
    refused("linear", |ops| {
        let (layer, x) = (linear(ops, &weight, None), two_rows(ops, 8));
        let mut y = ops.tensor(1, 4);
        ops.linear(&layer, &x, &mut y);
    });
    refused("linear_add", |ops| {
        let (layer, x) = (linear(ops, &weight, None), two_rows(ops, 8));
        let mut y = ops.tensor(3, 4);
        ops.linear_add(&layer, &x, &mut y);
    });
    for (n_residual, n_out) in [(5, 4), (4, 5)] {
        refused("linear_residual", |ops| {
            let (layer, x) = (linear(ops, &weight, None), row(ops, 8));
            let (residual, mut y) = (row(ops, n_residual), ops.tensor(1, n_out));
            ops.linear_residual(MODULE, &layer, &x, &residual, &mut y);
        });
    }
    refused("embed", |ops| {
        let table = ops.weight(&weight);
        let mut y = ops.tensor(1, 8);
        ops.embed(MODULE, &table, &[4], &mut [&mut y]);
    });
}

#[test]
fn elementwise_ops_refuse_tensors_that_do_not_match() {
    refused("add", |ops| {
        let (a, b) = (row(ops, 3), row(ops, 4));
        let mut y = ops.tensor(1, 3);
        ops.add(MODULE, &a, &b, &mut y);
    });
    refused("concat", |ops| {
        let (a, b) = (row(ops, 3), row(ops, 4));
        let mut y = ops.tensor(1, 8);
        ops.concat(MODULE, &a, &b, &mut y);
    });
    refused("gelu_mul", |ops| {
        let x = row(ops, 5);
        let mut y = ops.tensor(1, 2);
        ops.gelu_mul(MODULE, &x, &mut y);
    });
    refused("copy", |ops| {
        let x = row(ops, 5);
        let mut y = ops.tensor(1, 6);
        ops.copy(&x, &mut y);
    });
    refused("last_row", |ops| {
        let x = two_rows(ops, 5);
        let mut y = ops.tensor(1, 6);
        ops.last_row(&x, &mut y);
    });
}

#[test]
fn norms_refuse_other_widths_than_that_of_their_weight() {
    for (n_in, n_out) in [(9, 8), (8, 9)] {
        refused("rms_norm", |ops| {
            let weight = row(ops, 8);
            let norm = Norm {
                module: MODULE,
                weight,
                eps: 1e-5,
            };
            let (x, mut y) = (row(ops, n_in), ops.tensor(1, n_out));
            ops.rms_norm(&norm, &x, &mut y);
        });
    }
    // The last two are a number of groups that does not divide the width, and a gate that ends outside its tensor.
    for (n_in, n_groups, gate_start) in [(9, 2, 0), (8, 3, 0), (8, 2, 1)] {
        refused("gated_rms_norm", |ops| {
            let weight = row(ops, 8);
            let norm = GatedNorm {
                module: MODULE,
                weight,
                n_groups,
                eps: 1e-5,
            };
            let (x, gate, mut y) = (row(ops, n_in), row(ops, 8), ops.tensor(1, 8));
            let gate = Cols {
                start: gate_start,
                ..all(&gate, 8)
            };
            ops.gated_rms_norm(&norm, &x, gate, &mut y);
        });
    }
}

#[test]
fn the_convolution_refuses_other_channels_and_another_length_of_its_state() {
    for (n_in, n_state) in [(6, 3), (5, 4)] {
        refused("causal_conv1d", |ops| {
            let weight = rows(ops, 5, &[1.0; 20]);
            let bias = row(ops, 5);
            let conv = Conv1d {
                module: MODULE,
                weight,
                bias,
            };
            let mut state = rows(ops, 5, &vec![1.0; 5 * n_state]);
            let (x, mut y) = (row(ops, n_in), ops.tensor(1, 5));
            ops.causal_conv1d(&conv, all(&x, n_in), &mut state, &mut y);
        });
    }
}

/// One token through a scan of two heads with three channels and a state of four, in one group.
fn scan(
    ops: &mut Ops<Cpu>,
    [n_dt, n_state]: [usize; 2],
    run: impl Fn(&mut Ops<Cpu>, &Ssm<Cpu>, SsmInput<T>, &mut T, &mut T),
) {
    let ssm = Ssm {
        module: MODULE,
        a: row(ops, 2),
        d: row(ops, 2),
        dt_bias: row(ops, 2),
        n_heads: 2,
        head_dim: 3,
        d_state: 4,
        n_groups: 1,
    };
    let (xbc, dt) = (row(ops, 14), row(ops, n_dt));
    let [x, b, c] = split(&xbc, [6, 4, 4]);
    let input = SsmInput {
        x,
        b,
        c,
        dt: all(&dt, n_dt),
        dt_min: 0.0,
    };
    let mut state = rows(ops, n_state, &vec![0.0; 6 * n_state]);
    let mut y = ops.tensor(1, 6);
    run(ops, &ssm, input, &mut state, &mut y);
}

#[test]
fn the_scan_refuses_another_number_of_heads_and_states_of_other_sizes() {
    for sizes in [[3, 4], [2, 5]] {
        refused("ssm_scan", |ops| {
            scan(ops, sizes, |ops, ssm, input, state, y| {
                ops.ssm_scan(ssm, input, state, y);
            });
        });
    }
    refused("ssm_scan_from", |ops| {
        scan(ops, [2, 4], |ops, ssm, input, state, y| {
            let before = row(ops, 4);
            ops.ssm_scan_from(ssm, input, &before, state, y);
        });
    });
}

#[test]
fn attention_refuses_parts_of_heads_and_a_cache_without_room_or_queries() {
    let shape = AttentionShape {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 4,
        scale: 1.0,
    };
    refused("rope", |ops| {
        let rope = Rope {
            inv_freq: vec![1.0; 2],
            head_dim: 4,
        };
        let mut x = row(ops, 6);
        ops.rope(MODULE, &rope, 0, &mut [&mut x]);
    });
    refused("append_kv", |ops| {
        let mut cache = ops.kv_cache(&shape, 1, KvFormat::F32);
        let k = two_rows(ops, 4);
        ops.append_kv(MODULE, &k, &k, &mut cache);
    });
    refused("attention", |ops| {
        let cache = ops.kv_cache(&shape, 1, KvFormat::F32);
        let (q, mut y) = (row(ops, 8), ops.tensor(1, 8));
        ops.attention(MODULE, &shape, &q, &cache, &mut y);
    });
}

#[test]
fn ops_on_logits_and_top_k_lists_refuse_several_rows_and_lists_without_places() {
    refused("penalise", |ops| {
        let (logits, mut seen) = (row(ops, 9), row(ops, 8));
        let mut y = ops.tensor(1, 9);
        ops.penalise((MODULE, 1.5), None, &logits, &mut seen, &mut y);
    });
    refused("top", |ops| {
        let logits = two_rows(ops, 9);
        let mut list = ops.tensor(1, TopK::row_len(2));
        ops.top(MODULE, &logits, &mut list);
    });
    refused("top", |ops| {
        let logits = row(ops, 9);
        let mut list = ops.tensor(1, TopK::row_len(0));
        ops.top(MODULE, &logits, &mut list);
    });
    for top_k in [0, 3] {
        refused("draw", |ops| {
            let mut list = row(ops, TopK::row_len(2));
            let draw = Draw {
                top_k,
                temperature: 1.0,
                top_p: 1.0,
                min_p: 0.0,
                random: 0.5,
            };
            ops.draw(MODULE, &draw, &mut list);
        });
    }
    refused("embed_top", |ops| {
        let table = ops.weight(&Random(22).matrix(WeightFormat::Q8, 4, 8));
        let (list, mut y) = (row(ops, TopK::row_len(2)), ops.tensor(1, 9));
        ops.embed_top(MODULE, &table, &list, &mut [&mut y]);
    });
}
