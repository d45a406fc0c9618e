//! Top-k of logits, and the embedding of a token chosen by it.

use zamba2::base::quant::StoredMatrix;
use zamba2::ops::Ops;
use zamba2::ops::device::{Device, Draw};
use zamba2::text::sampling::TopK;

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
            for k in [1, 2, 7, 40, TopK::MOST] {
                body(&TopCase {
                    what: format!("{kind}, {n} tokens, {k} places"),
                    logits: logits.clone(),
                    k,
                });
            }
        }
    }
}

/// The device's top-k.
pub fn top<D: Device>(ops: &mut Ops<D>, logits: &[f32], k: usize) -> TopK {
    let logits = rows(ops, logits.len(), logits);
    let mut y = ops.tensor(1, TopK::row_len(k));
    ops.top(MODULE, &logits, &mut y);
    TopK::from_row(&read(ops, &y))
}

/// Compared with a full sort and sums in f64.
pub fn check_top(case: &TopCase, got: &TopK) {
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
pub fn check_fault(what: &str, logits: &[f32], token: u32, got: &TopK) {
    let (at, logit) = got.fault.expect(what);
    assert_eq!(at, token, "{what}");
    assert_eq!(
        format!("{logit}"),
        format!("{}", logits[at as usize]),
        "{what}"
    );
}

/// `body(what, logits, history, penalty)` with both signs, zeros, faults and f32's extremes.
pub fn for_penalty_cases(mut body: impl FnMut(&str, &[f32], &[u32], f64)) {
    let mut random = Random(12);
    let mut logits = random.numbers(200, -9.0, 9.0);
    for (at, logit) in [
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ]
    .into_iter()
    .enumerate()
    {
        logits[at] = logit;
    }
    let some: Vec<u32> = (0..100).chain([7, 7, 199]).collect();
    for (what, history) in [("some tokens", &some[..]), ("none", &[])] {
        for penalty in [1.1, 2.0, 0.5, 1e15] {
            body(&format!("{what}, {penalty}"), &logits, history, penalty);
        }
    }
}

/// The device's penalised logits; of the history, the last token is marked as one that the device has chosen.
pub fn penalise<D: Device>(
    ops: &mut Ops<D>,
    logits: &[f32],
    history: &[u32],
    penalty: f64,
) -> Vec<f32> {
    let n = logits.len();
    let mut seen = vec![0.0; n];
    let (chosen, known) = history
        .split_last()
        .map_or((None, history), |(c, k)| (Some(*c), k));
    known.iter().for_each(|&token| seen[token as usize] = 1.0);
    let chosen = chosen.map(|token| {
        let mut one = vec![0.0; n];
        one[token as usize] = 1.0;
        let (one, mut list) = (rows(ops, n, &one), ops.tensor(1, TopK::row_len(1)));
        ops.top(MODULE, &one, &mut list);
        list
    });
    let (logits, mut seen, mut y) = (rows(ops, n, logits), rows(ops, n, &seen), ops.tensor(1, n));
    for chosen in [chosen.as_ref(), None] {
        // The mark stays for the steps that follow.
        ops.penalise((MODULE, penalty), chosen, &logits, &mut seen, &mut y);
    }
    read(ops, &y)
}

/// Compared with the definition in f64. A quotient of WGSL may be off by 2.5 units in the last place, and so may the
/// penalty be by one as f32.
pub fn check_penalised(what: &str, logits: &[f32], history: &[u32], penalty: f64, got: &[f32]) {
    for (token, (&logit, &got)) in (0..).zip(logits.iter().zip(got)) {
        let exact = match (history.contains(&token) && logit.is_finite(), logit > 0.0) {
            (false, _) => f64::from(logit),
            (true, true) => f64::from(logit) / penalty,
            (true, false) => f64::from(logit) * penalty,
        };
        let exact = exact.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        let expected = if logit.is_finite() { exact } else { logit };
        let is_close = (got - expected).abs() <= 4.0 * f32::EPSILON * expected.abs();
        let is_same = got.to_bits() == expected.to_bits();
        assert!(
            is_close || is_same,
            "{what}, token {token}: {got}, expected {expected}"
        );
    }
}

/// A draw from a list, and the token that the sampler draws from it with the same random number.
pub struct DrawCase {
    pub what: String,
    pub logits: Vec<f32>,
    pub draw: Draw,
    pub expected: u32,
}

/// `body(case)` at several temperatures and filters, and random numbers away from the edges of the distribution by more
/// than f32 rounds: there the sampler's f64 and the device's f32 may differ.
pub fn for_draw_cases(mut body: impl FnMut(&DrawCase)) {
    let mut random = Random(77);
    let logits = random.numbers(500, -6.0, 6.0);
    let mut ties = vec![1.0; 70];
    ties[3] = 2.0;
    for (kind, logits) in [("random", logits), ("ties", ties), ("one", vec![-2.0])] {
        for (top_k, temperature, top_p, min_p) in [
            (64, 1.0, 1.0, 0.0),
            (40, 0.7, 0.95, 0.0),
            (7, 2.0, 0.5, 0.0),
            (64, 1.0, 1.0, 0.3),
            (5, 1e-30, 0.9, 0.1),
            (1, 1.5, 1.0, 0.0),
        ] {
            for i in 0..20 {
                let uniform = (f64::from(i) + 0.37) / 20.0;
                let draw = Draw {
                    top_k,
                    temperature,
                    top_p,
                    min_p,
                    random: uniform as f32,
                };
                if let Some(expected) = drawn(&logits, &draw) {
                    body(&DrawCase {
                        what: format!("{kind}, {draw:?}"),
                        logits: logits.clone(),
                        draw,
                        expected,
                    });
                }
            }
        }
    }
}

/// The token of a draw, in f64 and in the order of the definition; `None` within 10⁻⁵ of an edge.
fn drawn(logits: &[f32], draw: &Draw) -> Option<u32> {
    const EDGE: f64 = 1e-5;
    let mut all: Vec<(u32, f64)> = (0..)
        .zip(logits.iter().map(|logit| f64::from(*logit)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(draw.top_k);
    let largest = all[0].1;
    let weight = |logit: f64| ((logit - largest) / f64::from(draw.temperature)).exp();
    let total: f64 = all.iter().map(|(_, logit)| weight(*logit)).sum();
    let mut kept: Vec<(u32, f64)> = Vec::new();
    let mut sum = 0.0;
    for (token, logit) in all {
        let own = weight(logit);
        let top_p = f64::from(draw.top_p) * total;
        let min_p = f64::from(draw.min_p);
        if (sum - top_p).abs() < EDGE * total || (own - min_p).abs() < EDGE {
            return None;
        }
        if !kept.is_empty() && (sum >= top_p || own < min_p) {
            break;
        }
        sum += own;
        kept.push((token, sum));
    }
    let threshold = f64::from(draw.random) * sum;
    let is_near = |cumulative: f64| (cumulative - threshold).abs() < EDGE * sum;
    if kept.iter().any(|(_, cumulative)| is_near(*cumulative)) {
        return None;
    }
    let first_above = kept.iter().find(|(_, cumulative)| *cumulative > threshold);
    first_above.map(|(token, _)| *token)
}

/// The token that the device draws from a list.
pub fn draw<D: Device>(ops: &mut Ops<D>, case: &DrawCase) -> u32 {
    let logits = rows(ops, case.logits.len(), &case.logits);
    let mut list = ops.tensor(1, TopK::row_len(case.draw.top_k));
    ops.top(MODULE, &logits, &mut list);
    let before = TopK::from_row(&read(ops, &list));
    ops.draw(MODULE, &case.draw, &mut list);
    let after = TopK::from_row(&read(ops, &list));
    assert_eq!(before.tokens, after.tokens, "{}", case.what);
    after.chosen
}

/// The embedding of the first token of a top-k list.
pub fn embed_top<D: Device>(ops: &mut Ops<D>, table: &StoredMatrix, token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; table.rows];
    logits[token as usize] = 1.0;
    let logits = rows(ops, table.rows, &logits);
    let mut list = ops.tensor(1, TopK::row_len(2));
    ops.top(MODULE, &logits, &mut list);
    let mut y = ops.tensor(1, table.cols);
    let table = ops.weight(table);
    ops.embed_top(MODULE, &table, &list, &mut [&mut y]);
    read(ops, &y)
}
