//! Plain logits, before any option applies: whether they are finite, the argmax, and the ranks of tokens.

use std::cmp::Ordering;

use crate::base::error::{Error, Fact, Result};
use crate::base::simd::F32x4;
use crate::base::vecmath::exp;
use crate::text::sampling::Sampled;

/// A token and its probability in the plain softmax of the logits, before penalty, temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenProbability {
    pub token: u32,
    pub probability: f64,
}

/// The `n` most probable tokens, most probable first and by id on a tie; the rank of `chosen`, counted from 1; and its
/// probability.
pub fn rank_of(chosen: u32, logits: &[f32], n: usize) -> (Vec<TokenProbability>, usize, f64) {
    let own = logits[chosen as usize];
    let before = |&(token, logit): &(u32, f32)| logit > own || logit == own && token < chosen;
    let rank = 1 + with_tokens(logits).filter(before).count();
    let top = largest_logits(logits, n);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| libm::exp(f64::from(logit) - f64::from(largest));
    let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let top = top.into_iter().map(|(token, logit)| TokenProbability {
        token,
        probability: weight(logit) / sum,
    });
    (top.collect(), rank, weight(own) / sum)
}

/// The `n` most probable tokens, most probable first and by id on a tie.
pub fn most_probable(logits: &[f32], n: usize) -> Vec<TokenProbability> {
    rank_of(0, logits, n).0
}

/// As [`most_probable`], with probabilities that are right to a millionth, in a fraction of the time: a logit lens has
/// as many rows of logits as blocks times positions.
pub fn most_probable_roughly(logits: &[f32], n: usize) -> Vec<TokenProbability> {
    let top = largest_logits(logits, n);
    let Some(&(_, largest)) = top.first() else {
        return Vec::new();
    };
    let sum = sum_of_weights(logits, largest);
    let probable = top.into_iter().map(|(token, logit)| TokenProbability {
        token,
        probability: libm::exp(f64::from(logit) - f64::from(largest)) / sum,
    });
    probable.collect()
}

/// The sum of exp(logit − largest).
fn sum_of_weights(logits: &[f32], largest: f32) -> f64 {
    /// So few numbers per f32 sum that its rounding stays within a millionth.
    const FOURS: usize = 16;
    let (fours, rest) = logits.as_chunks::<4>();
    let largest4 = F32x4::splat(largest);
    let sums = fours.chunks(FOURS).map(|fours| {
        let weights = fours
            .iter()
            .map(|four| exp(F32x4::load(four).sub(largest4)));
        f64::from(weights.fold(F32x4::splat(0.0), F32x4::add).sum())
    });
    let rest = rest
        .iter()
        .map(|logit| libm::exp(f64::from(logit - largest)));
    sums.sum::<f64>() + rest.sum::<f64>()
}

/// Token and logit; −0 becomes 0, to which it is equal.
pub(super) fn with_tokens(logits: &[f32]) -> impl Iterator<Item = (u32, f32)> {
    (0u32..).zip(logits.iter().map(|logit| logit + 0.0))
}

/// Up to this many largest logits are kept in order by insertion, which copies no others.
pub(super) const FEW: usize = 64;

/// The `n` largest logits, the largest first and by token on a tie.
pub(super) fn largest_logits(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    if n <= FEW {
        return few_largest(logits, n);
    }
    let mut top: Vec<(u32, f32)> = with_tokens(logits).collect();
    if n < top.len() {
        top.select_nth_unstable_by(n, by_logit_then_token);
        top.truncate(n);
    }
    top.sort_unstable_by(by_logit_then_token);
    top
}

fn few_largest(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (token, logit) in with_tokens(logits) {
        // Tokens come in ascending order, so one with an equal logit belongs after those before.
        if top.len() == n && top.last().is_none_or(|(_, least)| logit <= *least) {
            continue;
        }
        let place = top.partition_point(|(_, other)| *other >= logit);
        top.insert(place, (token, logit));
        top.truncate(n);
    }
    top
}

fn by_logit_then_token(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The token with the largest logit; the lowest one of several.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The argmax with its probability.
pub(super) fn greedy(logits: &[f32]) -> Sampled {
    let token = argmax(logits);
    let largest = f64::from(logits[token as usize]);
    let weights = logits
        .iter()
        .map(|&logit| libm::exp(f64::from(logit) - largest));
    let sum: f64 = weights.sum();
    Sampled {
        token,
        probability: 1.0 / sum,
    }
}

/// ln of the probability of `token` in the softmax of finite `logits`.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().fold(f32::MIN, |m, &v| m.max(v));
    let above = |v: f32| f64::from(v) - f64::from(largest);
    let sum: f64 = logits.iter().map(|&v| above(v).exp()).sum();
    above(logits[token as usize]) - sum.ln()
}

/// # Errors
/// [`Error::NonFiniteLogits`] with the first logit that is NaN or infinite.
pub fn check_finite(logits: &[f32]) -> Result<()> {
    if logits.is_empty() {
        return Err(no_logits());
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(token) => Err(not_finite(token as u32, logits[token])),
    }
}

pub(super) fn no_logits() -> Error {
    Error::Device {
        fact: Fact::new("no_logits"),
    }
}

pub(super) fn not_finite(token: u32, logit: f32) -> Error {
    Error::NonFiniteLogits {
        token,
        logit: logit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_the_most_probable_tokens_are_those_of_the_exact_softmax() {
        // Not a multiple of four, and with the largest logit in each place of a vector.
        for (n, largest_at) in [(1, 0), (3, 2), (70, 69), (32_001, 17), (32_001, 32_000)] {
            let mut logits: Vec<f32> = (0..n)
                .map(|i| (i * 7919 % 1009) as f32 / 50.0 - 30.0)
                .collect();
            logits[largest_at] = 1.5;
            let exact = rank_of(0, &logits, 10).0;
            let got = most_probable_roughly(&logits, 10);
            assert_eq!(got.len(), exact.len());
            for (got, exact) in got.iter().zip(exact) {
                assert_eq!(got.token, exact.token, "{n}");
                let error = (got.probability / exact.probability - 1.0).abs();
                assert!(error < 1e-6, "{n}: token {} {error:e}", got.token);
            }
        }
    }
}
