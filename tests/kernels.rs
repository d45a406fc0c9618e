//! Every op of the CPU backend, at all edge-case shapes, against simple references. It uses only `Ops` and the CPU's
//! constructor, and runs no model (`tests/model.rs` does). It is a module of the unit tests, which `cargo xtask test`
//! also runs as wasm, with the vector instructions of the wasm engine.
//!
//! Three invariants are checked for every op: results do not depend on threads or on the width of vectors, a row of a
//! batch has the same bits as the row alone, and a sequence in pieces has the same bits as the whole. Only the scan has
//! different forms for one token and for several, which agree within its tolerance.

#[cfg(not(target_arch = "wasm32"))]
mod refused_shapes;

// A file named by a path looks for its modules beside it.
#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/elementwise.rs"]
mod elementwise;
#[path = "kernels/linear.rs"]
mod linear;
#[path = "kernels/norm.rs"]
mod norm;
#[path = "kernels/recurrence.rs"]
mod recurrence;
#[path = "kernels/top.rs"]
mod top;

use crate::cases::*;
use zamba2::base::quant::{StoredMatrix, WeightFormat};
use zamba2::device::cpu::{Cpu, Width};
use zamba2::ops::Ops;
use zamba2::ops::trace::{Level, ModuleId};

#[cfg(not(target_arch = "wasm32"))]
const THREADS: [usize; 2] = [1, 3];
/// WASI has no threads.
#[cfg(target_arch = "wasm32")]
const THREADS: [usize; 1] = [1];

fn cpu(threads: usize) -> Ops<Cpu> {
    Ops::new(Cpu::new(threads))
}

/// The result of `body`, which must be bit-identical for every number of threads and every width of vectors.
fn on_any_threads(what: &str, body: impl Fn(&mut Ops<Cpu>) -> Vec<f32>) -> Vec<f32> {
    let widths: Vec<Width> = Width::available().collect();
    let device = |i: usize| Cpu::with_width(THREADS[i % THREADS.len()], widths[i % widths.len()]);
    let first = body(&mut Ops::new(device(0)));
    for i in 1..THREADS.len().max(widths.len()) {
        let other = body(&mut Ops::new(device(i)));
        let what = format!("{what}, another number of threads or width of vectors");
        assert_same_bits(&what, &other, &first);
    }
    first
}

fn assert_same_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == b.to_bits(),
            "{what}: [{i}]: got {a}, expected {b}"
        );
    }
}

#[test]
fn a_destination_grows_and_shrinks_to_the_row_count_of_its_source() {
    let ops = &mut cpu(1);
    let two = StoredMatrix::from_values(WeightFormat::F32, 1, &[2.0]);
    let double = linear(ops, &two, None);
    let mut y = ops.tensor(65, 1);
    for t_rows in [65, 3, 64, 1, 65] {
        let x = rows(ops, 1, &vec![t_rows as f32; t_rows]);
        ops.linear(&double, &x, &mut y);
        assert_same_bits("y", &read(ops, &y), &vec![2.0 * t_rows as f32; t_rows]);
    }
}

#[test]
fn a_scope_contains_the_spans_of_its_ops_with_their_work() {
    let ops = &mut cpu(1);
    let weight = Random(17).matrix(WeightFormat::Q4, 8, 33);
    let layer = linear(ops, &weight, None);
    ops.profiler().set_level(Level::Module);
    ops.profiler().set_modules(["a linear", "layers.0"]);
    let y = ops.scope(ModuleId(1), |ops| {
        let x = rows(ops, 33, &[1.0; 33]);
        let mut y = ops.tensor(1, 8);
        ops.linear(&layer, &x, &mut y);
        y
    });
    assert_eq!(read(ops, &y).len(), 8);
    let profile = ops.profiler().take();
    let names: Vec<&str> = profile
        .name
        .iter()
        .map(|id| &profile.names[*id as usize][..])
        .collect();
    assert_eq!(names, ["layers.0", "a linear"]);
    assert_eq!(profile.parent, [-1, 0]);
    assert_eq!(profile.flops, [0.0, 2.0 * 8.0 * 33.0]);
    assert_eq!(profile.bytes, [0.0, WeightFormat::Q4.bytes(8, 33) as f64]);
}
