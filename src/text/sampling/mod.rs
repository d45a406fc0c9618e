//! Chooses the next token from the logits of the last position. It stands between the model's last matrix and the
//! generation loop. It computes no logits, knows no text, and decides no end: eos, stop strings and lengths are the
//! caller's.

mod top;

use std::cmp::Ordering;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;

use crate::error::{Error, Fact, Result};
pub use crate::text::sampling::top::Top;
use crate::text::sampling::top::{by_logit_then_token, no_logits, not_finite};

/// How tokens are chosen. [`Sampler`] tells in which order the options act. A field that is absent takes its default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct SamplingOptions {
    /// Divides the logits; finite and not negative. 0 is greedy: the largest logit wins and nothing is drawn.
    pub temperature: f64,
    /// How many tokens may be drawn; 0, or the vocabulary's size and more, is off.
    pub top_k: usize,
    /// The share of probability that the kept tokens must reach, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// The least probability of a kept token as a share of the most probable one's, in [0, 1]; 0 is off.
    pub min_p: f64,
    /// How much a token that was already seen is pushed down; finite and above 0; 1 is off, below 1 it attracts.
    pub repetition_penalty: f64,
    /// Where the random stream starts. The same seed and logits give the same tokens on every platform.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
        }
    }
}

impl SamplingOptions {
    /// Refuses NaN, infinities and values outside the ranges above with [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        check("temperature", self.temperature, "not_from_0", |t| t >= 0.0)?;
        check("top_p", self.top_p, "not_above_0_to_1", |p| {
            p > 0.0 && p <= 1.0
        })?;
        check("min_p", self.min_p, "not_from_0_to_1", |p| {
            (0.0..=1.0).contains(&p)
        })?;
        check(
            "repetition_penalty",
            self.repetition_penalty,
            "not_above_0",
            |r| r > 0.0,
        )
    }

    /// How many of the most probable tokens decide what comes next, where not all do.
    pub fn deciding(&self) -> Option<usize> {
        match (
            self.repetition_penalty == 1.0,
            self.temperature == 0.0,
            self.top_k,
        ) {
            (false, ..) | (true, false, 0) => None,
            (true, true, _) => Some(1),
            (true, false, top_k) => Some(top_k),
        }
    }
}

fn check(name: &str, value: f64, fact: &'static str, holds: fn(f64) -> bool) -> Result<()> {
    if value.is_finite() && holds(value) {
        return Ok(());
    }
    Err(Error::Setting {
        name: name.to_owned(),
        fact: Fact::new(fact).with("value", value.to_string()),
    })
}

/// One chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    pub token: u32,
    /// The token's probability in the distribution that it was drawn from, after every filter; for greedy, in the
    /// plain softmax of the (penalised) logits. In (0, 1].
    pub probability: f64,
}

/// A token and its probability in the plain softmax of the logits, before penalty, temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub token: u32,
    pub probability: f64,
}

/// The `n` most probable tokens, most probable first and by id on a tie, and the standing of `chosen`: its place,
/// counted from 1, and its probability.
pub fn standings(logits: &[f32], n: usize, chosen: u32) -> (Vec<Ranked>, usize, f64) {
    let own = logits[chosen as usize];
    let before = |&(token, logit): &(u32, f32)| logit > own || logit == own && token < chosen;
    // −0 is 0, and equal to it.
    let all = || (0u32..).zip(logits.iter().map(|logit| logit + 0.0));
    let rank = 1 + all().filter(before).count();
    let mut top: Vec<(u32, f32)> = all().collect();
    if n < top.len() {
        top.select_nth_unstable_by(n, by_logit_then_token);
        top.truncate(n);
    }
    top.sort_unstable_by(by_logit_then_token);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| libm::exp(f64::from(logit) - f64::from(largest));
    let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let ranked = top.iter().map(|&(token, logit)| Ranked {
        token,
        probability: weight(logit) / sum,
    });
    (ranked.collect(), rank, weight(own) / sum)
}

/// Draws one token at a time. A token is chosen in this order:
///
/// 1. **Repetition penalty**: the logit of every token in the history is divided by the penalty if positive and
///    multiplied if negative, once however often the token occurs (Keskar et al. 2019, "CTRL", with the sign rule
///    that the field adopted since).
/// 2. **Temperature**: logits are divided by it. At 0 the largest logit wins, on a tie the lowest id, and the steps
///    below do not run.
/// 3. **Top-k**: the k largest logits stay; on a tie at the edge the lower ids stay.
/// 4. **Softmax** over what stayed.
/// 5. **Top-p**: the shortest run of most probable tokens whose sum reaches `top_p` stays, with the token that
///    crosses the line (Holtzman et al. 2019).
/// 6. **Min-p**: tokens with at least `min_p` times the largest probability stay (Nguyen et al. 2024).
/// 7. **Draw**: one uniform number picks among what stayed, most probable first. Greedy draws no number, every other
///    setting draws exactly one.
///
/// The same logits, history and seed give the same tokens on every platform. Sums run in `f64` from the largest
/// logit to the smallest with ties by id, the generator is PCG, and the exponential is `libm`'s: `f64::exp` of std
/// differs in its last bit from one platform to the next, and one bit can turn a draw.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Pcg64Mcg,
    /// Kept between tokens so that only the first one allocates.
    candidates: Vec<Candidate>,
    /// Per vocabulary entry: has the penalty met it in this history? All false between calls.
    penalised: Vec<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f64,
    token: u32,
    /// exp((logit − largest) / temperature): the probability before the division by the sum.
    weight: f64,
    /// The sum of the weights up to and with this one.
    cumulative: f64,
}

impl Candidate {
    fn new(token: u32, logit: f32) -> Candidate {
        Candidate {
            // Adding 0 turns −0 into 0, which the total order would otherwise put below it.
            logit: f64::from(logit) + 0.0,
            token,
            weight: 0.0,
            cumulative: 0.0,
        }
    }
}

impl Sampler {
    /// A sampler at the beginning of its random stream. Fails as [`SamplingOptions::validate`] does.
    pub fn new(options: SamplingOptions) -> Result<Sampler> {
        options.validate()?;
        let rng = Pcg64Mcg::seed_from_u64(options.seed);
        Ok(Sampler {
            options,
            rng,
            candidates: Vec::new(),
            penalised: Vec::new(),
        })
    }

    /// Chooses the next token. `logits` has one entry per token of the vocabulary, and the penalty is applied to it
    /// in place; `history` is what the penalty looks at, usually the prompt and all tokens since.
    ///
    /// Fails with [`Error::NonFiniteLogits`] if a logit is NaN or infinite, and with [`Error::Token`] if the history leaves the vocabulary. A failure consumes no random number.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<Sampled> {
        check_logits(logits)?;
        self.penalise(logits, history)?;
        if self.options.temperature == 0.0 {
            return Ok(greedy(logits));
        }
        self.rank(logits);
        Ok(self.choose())
    }

    /// Chooses the next token as [`Sampler::sample`] does, from no more than the tokens that decide
    /// ([`SamplingOptions::deciding`]).
    pub fn sample_top(&mut self, top: &Top) -> Result<Sampled> {
        top.check()?;
        if self.options.temperature == 0.0 {
            return Ok(Sampled {
                token: top.tokens[0].0,
                probability: 1.0 / top.sum,
            });
        }
        let kept = &top.tokens[..self.options.top_k.min(top.tokens.len())];
        self.candidates.clear();
        self.candidates.extend(
            kept.iter()
                .map(|&(token, logit)| Candidate::new(token, logit)),
        );
        Ok(self.choose())
    }

    /// What the candidates come to, largest logit first.
    fn choose(&mut self) -> Sampled {
        self.weigh();
        self.filter();
        self.draw()
    }

    /// Moves the random stream on as `n` tokens would have, so that a sequence goes on as if it had not been left.
    pub fn skip(&mut self, n: usize) {
        if self.options.temperature > 0.0 {
            for _ in 0..n {
                self.rng.next_u64();
            }
        }
    }

    fn penalise(&mut self, logits: &mut [f32], history: &[u32]) -> Result<()> {
        let vocab_size = logits.len();
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return Ok(());
        }
        if let Some(&token) = history.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        if self.penalised.len() < vocab_size {
            self.penalised.resize(vocab_size, false);
        }
        for &token in history {
            let token = token as usize;
            if self.penalised[token] {
                continue;
            }
            self.penalised[token] = true;
            let logit = f64::from(logits[token]);
            let moved = if logit > 0.0 {
                logit / penalty
            } else {
                logit * penalty
            };
            // An extreme penalty may leave the range of f32; the clamp keeps every later step finite.
            logits[token] = moved.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
        for &token in history {
            self.penalised[token as usize] = false;
        }
        Ok(())
    }

    /// Leaves the top-k candidates, largest logit first. All of them have the same temperature, which keeps their
    /// order, so it waits for the exponential.
    fn rank(&mut self, logits: &[f32]) {
        self.candidates.clear();
        self.candidates.extend(
            (0u32..)
                .zip(logits)
                .map(|(token, &logit)| Candidate::new(token, logit)),
        );
        let top_k = self.options.top_k;
        if top_k != 0 && top_k < self.candidates.len() {
            // A partition is linear in the vocabulary; only the k winners are then sorted.
            self.candidates.select_nth_unstable_by(top_k - 1, by_rank);
            self.candidates.truncate(top_k);
        }
        self.candidates.sort_unstable_by(by_rank);
    }

    /// Fills in the weights. The largest logit is subtracted first: the exponential then never overflows, the first
    /// weight is exactly 1, and a tiny temperature gives 0 instead of NaN.
    fn weigh(&mut self) {
        let largest = self.candidates[0].logit;
        let mut sum = 0.0;
        for candidate in &mut self.candidates {
            candidate.weight = libm::exp((candidate.logit - largest) / self.options.temperature);
            sum += candidate.weight;
            candidate.cumulative = sum;
        }
    }

    /// Both filters keep a run from the front, so neither changes the cumulative sums of what stays.
    fn filter(&mut self) {
        let candidates = &mut self.candidates;
        if self.options.top_p < 1.0 {
            let line = self.options.top_p * candidates[candidates.len() - 1].cumulative;
            let n_below = candidates.partition_point(|candidate| candidate.cumulative < line);
            candidates.truncate(n_below + 1);
        }
        // The largest weight is 1, so min_p is itself the line. The first candidate always stays: 1 ≥ min_p.
        let min_p = self.options.min_p;
        let n_kept = candidates.partition_point(|candidate| candidate.weight >= min_p);
        candidates.truncate(n_kept);
    }

    fn draw(&mut self) -> Sampled {
        // The upper 53 bits fill the mantissa of an f64 exactly: uniform on [0, 1).
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let sum = self.candidates[self.candidates.len() - 1].cumulative;
        // uniform ≤ 1 − 2⁻⁵³, so the product rounds to less than the sum and the index is in range. A candidate of
        // weight 0 has the cumulative sum of the one before it and is never the first above the line.
        let line = uniform * sum;
        let chosen = self
            .candidates
            .partition_point(|candidate| candidate.cumulative <= line);
        let chosen = self.candidates[chosen];
        Sampled {
            token: chosen.token,
            probability: chosen.weight / sum,
        }
    }
}

fn check_logits(logits: &[f32]) -> Result<()> {
    if logits.is_empty() {
        return Err(no_logits());
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(token) => Err(not_finite(token as u32, logits[token])),
    }
}

fn greedy(logits: &[f32]) -> Sampled {
    let mut token = 0;
    for (candidate, &logit) in logits.iter().enumerate() {
        // Strictly larger, so that the lowest id of a tie stays.
        if logit > logits[token] {
            token = candidate;
        }
    }
    let largest = f64::from(logits[token]);
    let sum: f64 = logits
        .iter()
        .map(|&logit| libm::exp(f64::from(logit) - largest))
        .sum();
    Sampled {
        token: token as u32,
        probability: 1.0 / sum,
    }
}

fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything off except the temperature: a plain softmax draw.
    fn plain() -> SamplingOptions {
        SamplingOptions {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 7,
        }
    }

    fn sampler(options: SamplingOptions) -> Sampler {
        Sampler::new(options).unwrap()
    }

    /// Logits whose softmax is `probabilities`, up to f32 rounding.
    fn logits_of(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    /// Uneven logits with many exact ties, different for each `salt`.
    fn mixed_logits(n: usize, salt: u64) -> Vec<f32> {
        let mut rng = Pcg64Mcg::seed_from_u64(salt);
        (0..n)
            .map(|_| (rng.next_u64() % 97) as f32 / 8.0 - 6.0)
            .collect()
    }

    /// The distribution of the type's numbered list, written step by step with fresh vectors and std's exp.
    fn reference_distribution(
        options: &SamplingOptions,
        logits: &[f32],
        history: &[u32],
    ) -> Vec<(u32, f64)> {
        let mut logits: Vec<f32> = logits.to_vec();
        let distinct: std::collections::BTreeSet<u32> = history.iter().copied().collect();
        for token in distinct {
            let logit = &mut logits[token as usize];
            let penalty = options.repetition_penalty;
            *logit = if *logit > 0.0 {
                (f64::from(*logit) / penalty) as f32
            } else {
                (f64::from(*logit) * penalty) as f32
            };
        }
        let mut ranked: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(token, &logit)| (token as u32, f64::from(logit) / options.temperature))
            .collect();
        ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        if options.top_k > 0 {
            ranked.truncate(options.top_k);
        }
        let normalise = |ranked: &mut Vec<(u32, f64)>| {
            let sum: f64 = ranked.iter().map(|entry| entry.1).sum();
            ranked.iter_mut().for_each(|entry| entry.1 /= sum);
        };
        let largest = ranked[0].1;
        ranked
            .iter_mut()
            .for_each(|entry| entry.1 = (entry.1 - largest).exp());
        normalise(&mut ranked);
        if options.top_p < 1.0 {
            let mut kept = Vec::new();
            let mut reached = 0.0;
            for entry in ranked {
                if reached >= options.top_p {
                    break;
                }
                reached += entry.1;
                kept.push(entry);
            }
            ranked = kept;
        }
        let line = options.min_p * ranked[0].1;
        ranked.retain(|entry| entry.1 >= line);
        normalise(&mut ranked);
        ranked
    }

    #[test]
    fn every_draw_agrees_with_a_sampler_written_step_by_step() {
        for (case, (top_k, top_p, min_p, repetition_penalty, temperature)) in [
            (0, 1.0, 0.0, 1.0, 1.0),
            (40, 0.95, 0.0, 1.0, 0.7),
            (5, 0.5, 0.0, 1.3, 0.4),
            (0, 0.9, 0.05, 1.1, 1.5),
            (1000, 0.99, 0.2, 0.8, 2.0),
            (3, 1.0, 0.9, 4.0, 0.1),
        ]
        .into_iter()
        .enumerate()
        {
            let options = SamplingOptions {
                temperature,
                top_k,
                top_p,
                min_p,
                repetition_penalty,
                seed: 1000 + case as u64,
            };
            let mut sampler = sampler(options.clone());
            let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
            let mut history = vec![3, 3, 0];
            for round in 0..200 {
                // 331 is prime: no width of lanes or blocks divides it.
                let logits = mixed_logits(331, round);
                let reference = reference_distribution(&options, &logits, &history);
                let uniform = (rng.next_u64() >> 11) as f64 / 2f64.powi(53);
                let mut below = 0.0;
                let expected = reference
                    .iter()
                    .find(|entry| {
                        below += entry.1;
                        below > uniform
                    })
                    .unwrap();
                let sampled = sampler.sample(&mut logits.clone(), &history).unwrap();
                assert_eq!(sampled.token, expected.0, "case {case}, round {round}");
                // Both are f64 sums of at most 331 terms; 1e-12 is far above their rounding and far below a weight.
                assert!((sampled.probability - expected.1).abs() < 1e-12);
                history.push(sampled.token);
            }
        }
    }

    #[test]
    fn temperature_zero_takes_the_largest_logit_and_the_lowest_id_of_a_tie() {
        let options = SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        };
        let mut sampler = sampler(options);
        let mut logits = [1.0, 3.0, -2.0, 3.0, 3.0];
        assert_eq!(sampler.sample(&mut logits, &[]).unwrap().token, 1);
        assert_eq!(sampler.sample(&mut [-0.0, 0.0], &[]).unwrap().token, 0);
        assert_eq!(sampler.sample(&mut [0.0, -0.0], &[]).unwrap().token, 0);
        assert_eq!(sampler.sample(&mut [f32::MIN; 3], &[]).unwrap().token, 0);
    }

    #[test]
    fn greedy_reports_the_plain_softmax_whatever_the_filters_say() {
        let options = SamplingOptions {
            temperature: 0.0,
            top_k: 1,
            top_p: 0.1,
            min_p: 1.0,
            ..plain()
        };
        let sampled = sampler(options)
            .sample(&mut logits_of(&[0.2, 0.5, 0.3]), &[])
            .unwrap();
        assert_eq!(sampled.token, 1);
        // The logits are rounded to f32, whose step near ln 0.5 is 6e-8.
        assert!((sampled.probability - 0.5).abs() < 1e-7);
    }

    #[test]
    fn greedy_draws_no_random_number_and_every_other_setting_draws_one() {
        let start = Pcg64Mcg::seed_from_u64(7);
        let mut greedy = sampler(SamplingOptions {
            temperature: 0.0,
            ..plain()
        });
        greedy.sample(&mut mixed_logits(10, 1), &[]).unwrap();
        assert_eq!(greedy.rng, start);

        let mut after_one = start.clone();
        after_one.next_u64();
        for top_k in [0, 1] {
            let mut drawing = sampler(SamplingOptions { top_k, ..plain() });
            drawing.sample(&mut mixed_logits(10, 1), &[]).unwrap();
            assert_eq!(drawing.rng, after_one);
        }
    }

    #[test]
    fn top_k_of_one_chooses_what_greedy_chooses() {
        let mut greedy = sampler(SamplingOptions {
            temperature: 0.0,
            ..plain()
        });
        let mut narrow = sampler(SamplingOptions {
            top_k: 1,
            ..plain()
        });
        for salt in 0..100 {
            let mut logits = mixed_logits(331, salt);
            let drawn = narrow.sample(&mut logits, &[]).unwrap();
            assert_eq!(drawn.token, greedy.sample(&mut logits, &[]).unwrap().token);
            assert_eq!(drawn.probability, 1.0);
        }
    }

    #[test]
    fn frequencies_of_many_draws_follow_the_softmax() {
        let probabilities = [0.02, 0.4, 0.08, 0.3, 0.2];
        let logits = logits_of(&probabilities);
        let mut sampler = sampler(plain());
        let n_draws = 100_000;
        let mut counts = [0u32; 5];
        for _ in 0..n_draws {
            let sampled = sampler.sample(&mut logits.clone(), &[]).unwrap();
            counts[sampled.token as usize] += 1;
        }
        for (count, p) in counts.into_iter().zip(probabilities) {
            // Five standard deviations of a binomial share: a right sampler fails for one seed in a million, and
            // the seed is fixed.
            let bound = 5.0 * (p * (1.0 - p) / f64::from(n_draws)).sqrt();
            let share = f64::from(count) / f64::from(n_draws);
            assert!((share - p).abs() < bound, "{share} for {p}");
        }
    }

    /// The tokens that can be drawn at all, found by drawing many times.
    fn support(options: SamplingOptions, logits: &[f32], history: &[u32]) -> Vec<u32> {
        let mut sampler = sampler(options);
        let drawn: std::collections::BTreeSet<u32> = (0..2000)
            .map(|_| sampler.sample(&mut logits.to_vec(), history).unwrap().token)
            .collect();
        drawn.into_iter().collect()
    }

    #[test]
    fn top_k_keeps_the_largest_and_the_lower_ids_of_a_tie() {
        let logits = [0.0, 1.0, 0.0, 2.0, 0.0];
        let kept = |top_k| support(SamplingOptions { top_k, ..plain() }, &logits, &[]);
        assert_eq!(kept(2), [1, 3]);
        assert_eq!(kept(3), [0, 1, 3]);
        assert_eq!(kept(5), [0, 1, 2, 3, 4]);
        assert_eq!(kept(0), [0, 1, 2, 3, 4]);
        assert_eq!(kept(usize::MAX), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses_the_line_and_none_after_it() {
        let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
        let kept = |top_p| support(SamplingOptions { top_p, ..plain() }, &logits, &[]);
        assert_eq!(kept(0.01), [0]);
        assert_eq!(kept(0.49), [0]);
        assert_eq!(kept(0.51), [0, 1]);
        assert_eq!(kept(0.79), [0, 1]);
        assert_eq!(kept(0.81), [0, 1, 2]);
        assert_eq!(kept(1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable_token() {
        let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
        let kept = |min_p| support(SamplingOptions { min_p, ..plain() }, &logits, &[]);
        assert_eq!(kept(0.0), [0, 1, 2, 3]);
        assert_eq!(kept(0.2), [0, 1, 2]);
        assert_eq!(kept(0.5), [0, 1]);
        assert_eq!(kept(0.7), [0]);
        assert_eq!(kept(1.0), [0]);
    }

    #[test]
    fn the_penalty_meets_each_token_of_the_history_once() {
        let mut logits = [4.0, -4.0, 4.0, 0.0];
        let mut sampler = sampler(SamplingOptions {
            repetition_penalty: 2.0,
            ..plain()
        });
        sampler.sample(&mut logits, &[0, 1, 0, 0, 1, 3]).unwrap();
        assert_eq!(logits, [2.0, -8.0, 4.0, 0.0]);
        sampler.sample(&mut logits, &[0]).unwrap();
        assert_eq!(logits, [1.0, -8.0, 4.0, 0.0]);
    }

    #[test]
    fn the_penalty_turns_a_greedy_choice() {
        let mut sampler = sampler(SamplingOptions {
            temperature: 0.0,
            repetition_penalty: 1.5,
            ..plain()
        });
        assert_eq!(sampler.sample(&mut [3.0, 2.5], &[]).unwrap().token, 0);
        assert_eq!(sampler.sample(&mut [3.0, 2.5], &[0]).unwrap().token, 1);
    }

    #[test]
    fn a_history_outside_the_vocabulary_is_named() {
        let mut sampler = sampler(SamplingOptions {
            repetition_penalty: 1.5,
            ..plain()
        });
        let mut logits = [1.0, 2.0];
        assert_eq!(
            sampler.sample(&mut logits, &[0, 2]),
            Err(Error::Token {
                token: 2,
                vocab_size: 2
            })
        );
        assert_eq!(logits, [1.0, 2.0]);
    }

    #[test]
    fn the_penalty_acts_before_top_k() {
        let options = SamplingOptions {
            top_k: 1,
            repetition_penalty: 2.0,
            ..plain()
        };
        assert_eq!(support(options, &[3.0, 2.0, 1.0], &[0]), [1]);
    }

    #[test]
    fn the_temperature_acts_before_top_p() {
        // At temperature 1 the first token has 0.6 and reaches 0.7 only with the second; at 0.5 it has 0.36 of 0.46.
        let logits = logits_of(&[0.6, 0.3, 0.1]);
        let kept = |temperature| {
            let options = SamplingOptions {
                temperature,
                top_p: 0.7,
                ..plain()
            };
            support(options, &logits, &[])
        };
        assert_eq!(kept(1.0), [0, 1]);
        assert_eq!(kept(0.5), [0]);
    }

    #[test]
    fn top_k_acts_before_top_p() {
        let logits = logits_of(&[0.4, 0.3, 0.2, 0.1]);
        let kept = |top_k, top_p| {
            let options = SamplingOptions {
                top_k,
                top_p,
                ..plain()
            };
            support(options, &logits, &[])
        };
        // 0.4 of 0.7 is 0.57 and reaches 0.55; without the renormalisation 0.4 would not.
        assert_eq!(kept(2, 0.55), [0]);
        assert_eq!(kept(0, 0.55), [0, 1]);
    }

    #[test]
    fn the_probability_is_that_of_the_filtered_distribution() {
        let logits = logits_of(&[0.4, 0.4, 0.1, 0.1]);
        let mut sampler = sampler(SamplingOptions {
            top_k: 2,
            ..plain()
        });
        let sampled = sampler.sample(&mut logits.clone(), &[]).unwrap();
        assert_eq!(sampled.probability, 0.5);
    }

    fn tokens_of(seed: u64) -> Vec<u32> {
        let mut sampler = sampler(SamplingOptions { seed, ..plain() });
        (0..24)
            .map(|round| {
                sampler
                    .sample(&mut mixed_logits(331, round), &[])
                    .unwrap()
                    .token
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_seed_gives_others() {
        assert_eq!(tokens_of(1), tokens_of(1));
        assert_ne!(tokens_of(1), tokens_of(2));
        assert_ne!(tokens_of(0), tokens_of(u64::MAX));
    }

    #[test]
    fn the_stream_of_a_seed_is_the_same_on_every_platform_and_in_every_release() {
        let mut sampler = sampler(SamplingOptions {
            seed: 42,
            ..SamplingOptions::default()
        });
        let sampled: Vec<(u32, u64)> = (0..4)
            .map(|round| sampler.sample(&mut mixed_logits(331, round), &[]).unwrap())
            .map(|sampled| (sampled.token, sampled.probability.to_bits()))
            .collect();
        // Recorded once, natively. They change only if the generator or the exponential does, and then every
        // reader's saved text changes with them.
        assert_eq!(
            sampled,
            [
                (295, 4_584_331_460_133_169_088),
                (156, 4_589_017_827_565_177_221),
                (35, 4_585_746_009_551_650_106),
                (128, 4_587_356_869_244_946_166),
            ]
        );
    }

    #[test]
    fn logits_that_are_not_finite_are_the_devices_fault() {
        for temperature in [0.0, 1.0] {
            let options = SamplingOptions {
                temperature,
                ..plain()
            };
            let mut sampler = sampler(options);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let error = sampler.sample(&mut [0.0, bad, 1.0], &[]).unwrap_err();
                let Error::NonFiniteLogits { token, .. } = error else {
                    panic!("{error}");
                };
                assert_eq!(token, 1);
            }
            assert!(matches!(
                sampler.sample(&mut [], &[]),
                Err(Error::Device { .. })
            ));
        }
    }

    #[test]
    fn the_most_extreme_finite_settings_still_choose() {
        for temperature in [f64::MIN_POSITIVE, 1e-300, 1.0, f64::MAX] {
            for repetition_penalty in [f64::MIN_POSITIVE, 1.0, f64::MAX] {
                let options = SamplingOptions {
                    temperature,
                    repetition_penalty,
                    ..plain()
                };
                let mut logits = [f32::MAX, f32::MIN, 0.0, -1.0];
                let sampled = sampler(options).sample(&mut logits, &[0, 1, 2, 3]).unwrap();
                assert!(sampled.probability > 0.0 && sampled.probability <= 1.0);
            }
        }
    }

    #[test]
    fn a_vocabulary_of_one_token_has_one_choice() {
        let sampled = sampler(SamplingOptions::default())
            .sample(&mut [-5.0], &[])
            .unwrap();
        assert_eq!(
            sampled,
            Sampled {
                token: 0,
                probability: 1.0
            }
        );
    }

    #[test]
    fn only_the_first_token_allocates() {
        let mut sampler = sampler(SamplingOptions {
            repetition_penalty: 1.1,
            ..SamplingOptions::default()
        });
        let history: Vec<u32> = (0..331).collect();
        let mut logits = mixed_logits(331, 0);
        sampler.sample(&mut logits, &history).unwrap();
        let buffers = (sampler.candidates.as_ptr(), sampler.penalised.as_ptr());
        for _ in 0..50 {
            sampler.sample(&mut logits, &history).unwrap();
            assert_eq!(
                (sampler.candidates.as_ptr(), sampler.penalised.as_ptr()),
                buffers
            );
        }
    }

    #[test]
    fn a_list_of_the_tokens_that_decide_gives_what_all_logits_give() {
        for salt in 0..50 {
            for (temperature, top_k) in [(0.0, 0), (0.0, 5), (0.7, 1), (1.5, 5), (1.5, 64)] {
                let options = SamplingOptions {
                    temperature,
                    top_k,
                    top_p: 0.9,
                    seed: salt,
                    ..plain()
                };
                let mut logits = mixed_logits(331, salt);
                let top = Top::of(&logits, options.deciding().unwrap());
                let from_list = sampler(options.clone()).sample_top(&top).unwrap();
                let from_all = sampler(options).sample(&mut logits, &[]).unwrap();
                assert_eq!(from_list, from_all);
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_finite_is_the_same_error_from_a_list() {
        for fault in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = [1.0, 2.0, fault, fault];
            let mut row = [0.0; 7];
            Top::of(&logits, 2).write(&mut row);
            let from_list = sampler(plain()).sample_top(&Top::from_row(&row));
            let from_all = sampler(plain()).sample(&mut logits, &[]);
            assert_eq!(
                from_list.unwrap_err().to_string(),
                from_all.unwrap_err().to_string()
            );
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let refused = |options: SamplingOptions| match Sampler::new(options) {
            Err(Error::Setting { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        for bad in [f64::NAN, f64::INFINITY, -0.1] {
            let temperature = SamplingOptions {
                temperature: bad,
                ..plain()
            };
            assert_eq!(refused(temperature), "temperature");
        }
        for bad in [f64::NAN, f64::INFINITY, -0.1, 0.0, 1.1] {
            assert_eq!(
                refused(SamplingOptions {
                    top_p: bad,
                    ..plain()
                }),
                "top_p"
            );
        }
        for bad in [f64::NAN, f64::NEG_INFINITY, -0.1, 1.1] {
            assert_eq!(
                refused(SamplingOptions {
                    min_p: bad,
                    ..plain()
                }),
                "min_p"
            );
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let penalty = SamplingOptions {
                repetition_penalty: bad,
                ..plain()
            };
            assert_eq!(refused(penalty), "repetition_penalty");
        }
        SamplingOptions::default().validate().unwrap();
    }

    #[test]
    fn absent_options_take_their_defaults() {
        let options: SamplingOptions =
            serde_json::from_str(r#"{"top_k": 3, "max_tokens": 9}"#).unwrap();
        assert_eq!(
            options,
            SamplingOptions {
                top_k: 3,
                ..SamplingOptions::default()
            }
        );
    }
}
