//! The tokens that may still be sampled, and the steps that reduce them: top-k, softmax with temperature, top-p, min-p.

use std::cmp::Ordering;

use crate::text::sampling::Sampled;
use crate::text::sampling::logits::{FEW, largest_logits};

/// The largest logit first, ties by id. The memory is reused from token to token.
#[derive(Debug, Default)]
pub(super) struct Candidates(pub(super) Vec<Candidate>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    logit: f64,
    token: u32,
    /// exp((logit − largest) / temperature): the probability before division by the sum.
    weight: f64,
    /// The sum of the weights up to and including this one.
    cumulative: f64,
}

impl Candidate {
    fn new(token: u32, logit: f32) -> Candidate {
        Candidate {
            // Adding 0 turns −0 into 0, which `total_cmp` would otherwise order below it.
            logit: f64::from(logit) + 0.0,
            token,
            weight: 0.0,
            cumulative: 0.0,
        }
    }
}

impl Candidates {
    /// Keeps the `top_k` largest logits, or all if `top_k` is 0. Temperature keeps the order, so it is applied later,
    /// to fewer logits.
    pub(super) fn select(&mut self, logits: &[f32], top_k: usize) {
        if (1..=FEW).contains(&top_k) {
            return self.set(&largest_logits(logits, top_k));
        }
        self.0.clear();
        let all = (0u32..).zip(logits);
        self.0
            .extend(all.map(|(token, &logit)| Candidate::new(token, logit)));
        if top_k != 0 && top_k < self.0.len() {
            // A partition is linear in the vocabulary; only the k largest are sorted.
            self.0
                .select_nth_unstable_by(top_k - 1, by_logit_then_token);
            self.0.truncate(top_k);
        }
        // Stable, though no two are equal: std's unstable sort takes longer for candidates of this size.
        self.0.sort_by(by_logit_then_token);
    }

    /// Sets the candidates to tokens that are sorted already.
    pub(super) fn set(&mut self, tokens: &[(u32, f32)]) {
        self.0.clear();
        let tokens = tokens.iter();
        self.0
            .extend(tokens.map(|&(token, logit)| Candidate::new(token, logit)));
    }

    /// Fills in the weights. The largest logit is subtracted first: the exponential then never overflows, the first
    /// weight is exactly 1, and a tiny temperature gives 0 instead of NaN.
    pub(super) fn softmax(&mut self, temperature: f64) {
        let largest = self.0[0].logit;
        let mut sum = 0.0;
        for candidate in &mut self.0 {
            candidate.weight = libm::exp((candidate.logit - largest) / temperature);
            sum += candidate.weight;
            candidate.cumulative = sum;
        }
    }

    /// Removes from the end, so the cumulative sums of the remaining candidates stay right.
    pub(super) fn keep_top_p(&mut self, top_p: f64) {
        if top_p < 1.0 {
            let threshold = top_p * self.sum();
            let n_below = self
                .0
                .partition_point(|candidate| candidate.cumulative < threshold);
            self.0.truncate(n_below + 1);
        }
    }

    /// The largest weight is 1, so `min_p` is the threshold. The first candidate is always kept: 1 ≥ `min_p`.
    pub(super) fn keep_min_p(&mut self, min_p: f64) {
        let n_kept = self
            .0
            .partition_point(|candidate| candidate.weight >= min_p);
        self.0.truncate(n_kept);
    }

    /// The candidate at `uniform`, in [0, 1), of the cumulative distribution.
    pub(super) fn sample(&self, uniform: f64) -> Sampled {
        let sum = self.sum();
        // uniform ≤ 1 − 2⁻⁵³, so the product rounds to less than the sum and the index is in range. A candidate of
        // weight 0 has the cumulative sum of the one before it and is never the first above the threshold.
        let threshold = uniform * sum;
        let index = self
            .0
            .partition_point(|candidate| candidate.cumulative <= threshold);
        Sampled {
            token: self.0[index].token,
            probability: self.0[index].weight / sum,
        }
    }

    /// The sum of the weights. The largest weight is 1, so the largest probability is 1 / sum.
    pub(super) fn sum(&self) -> f64 {
        self.0[self.0.len() - 1].cumulative
    }
}

fn by_logit_then_token(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}
