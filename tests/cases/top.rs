//! Top-k of logits, and the embedding of a token chosen by it.

use zamba2::base::quant::StoredMatrix;
use zamba2::ops::Ops;
use zamba2::ops::device::Device;
use zamba2::text::sampling::Top;

use super::{MODULE, Random, read, rows};

/// Logits and the length of a top-k list.
pub struct TopCase {
    pub what: String,
    pub logits: Vec<f32>,
    pub k: usize,
}

/// `body(case)` for vocabularies of one token, around a group of 1024, and of the published models; with ties, both
/// zeros and f32's extremes; lists longer than the vocabulary, and the longest list.
pub fn for_top_cases(mut body: impl FnMut(&TopCase)) {
    let mut random = Random(30);
    for n in [1, 5, 63, 1023, 1024, 1025, 4099, 32_000] {
        let mut kinds = vec![
            ("random", random.numbers(n, -12.0, 12.0)),
            ("equal", vec![-3.5; n]),
            ("rising", (0..n).map(|i| i as f32 / 64.0).collect()),
            (
                "far apart",
                (0..n)
                    .map(|_| f32::MAX * random.number(-1.0, 1.0))
                    .collect(),
            ),
        ];
        let few = [0.0, -0.0, 2.5, -1.0];
        let few = (0..n).map(|_| few[random.bits() as usize % 4]);
        kinds.push(("few values", few.collect()));
        for (kind, logits) in kinds {
            for k in [1, 2, 7, 40, Top::MOST] {
                body(&TopCase {
                    what: format!("{kind}, {n} tokens, {k} places"),
                    logits: logits.clone(),
                    k,
                });
            }
        }
    }
}

/// The device's top-k of the second of two rows; the first must not matter.
pub fn top<D: Device>(be: &mut Ops<D>, logits: &[f32], k: usize) -> Top {
    let width = Top::row_len(k);
    let zeros = rows(be, logits.len(), &vec![0.0; logits.len()]);
    let logits = rows(be, logits.len(), logits);
    let mut y = be.tensor(3, width);
    be.top(MODULE, &zeros, 0, &mut y);
    let before = read(be, &y);
    be.top(MODULE, &logits, 1, &mut y);
    let both = read(be, &y);
    assert_eq!(both.len(), 2 * width);
    assert_eq!(both[..width], before);
    Top::from_row(&both[width..])
}

/// Compared with a full sort and sums in f64.
pub fn check_top(case: &TopCase, got: &Top) {
    let TopCase { what, logits, k } = case;
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(*k);
    assert_eq!(got.tokens, all, "{what}");
    let largest = f64::from(all[0].1);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - largest).exp())
        .sum();
    // WGSL's exponential of −25, the smallest that still counts, may be off by 53 · 2⁻²⁴; f32 sums are as exact as
    // that.
    let off = (got.sum - sum).abs();
    assert!(
        off <= 5e-6 * sum,
        "{what}: the sum is {}, expected {sum}",
        got.sum
    );
    assert_eq!(got.fault, None, "{what}");
}

/// `body(what, logits, token)`, where the logit of `token` is the first that is not finite.
pub fn for_fault_cases(mut body: impl FnMut(&str, &[f32], u32)) {
    for n in [1, 1025, 5000] {
        for fault in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, n / 2, n - 1] {
                let mut logits = vec![0.5; n];
                logits[at..].fill(f32::NAN);
                logits[at] = fault;
                body(&format!("{fault} at {at} of {n}"), &logits, at as u32);
            }
        }
    }
}

/// The fault that the device reports is `token` with its logit; NaN is compared by its text.
pub fn check_fault(what: &str, logits: &[f32], token: u32, got: &Top) {
    let (at, logit) = got.fault.expect(what);
    assert_eq!(at, token, "{what}");
    assert_eq!(
        format!("{logit}"),
        format!("{}", logits[at as usize]),
        "{what}"
    );
}

/// The embedding of the first token of a top-k list, taken from the second row of the lists.
pub fn embed_top<D: Device>(be: &mut Ops<D>, table: &StoredMatrix, token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; table.rows];
    let mut lists = be.tensor(2, Top::row_len(2));
    for (row, largest) in [(0, (token + 1) % table.rows as u32), (1, token)] {
        logits.fill(0.0);
        logits[largest as usize] = 1.0;
        let logits = rows(be, table.rows, &logits);
        be.top(MODULE, &logits, row, &mut lists);
    }
    let mut y = be.tensor(1, table.cols);
    let table = be.weight(table);
    be.embed_top(MODULE, &table, &lists, 1, &mut [&mut y]);
    read(be, &y)
}
