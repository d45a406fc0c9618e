//! The sampler: from logits, or a top-k list of them, to a token.

#[cfg(test)]
mod tests;

use std::mem;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::base::error::Result;
use crate::text::sampling::candidates::Candidates;
use crate::text::sampling::logits::{check_finite, greedy};
use crate::text::sampling::options::SamplingOptions;
use crate::text::sampling::penalty::RepetitionPenalty;
use crate::text::sampling::token_set::TokenSet;
use crate::text::sampling::top::TopK;

/// A sampled token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    pub token: u32,
    /// The token's probability in the distribution that it was sampled from, after every filter; for greedy, in the
    /// plain softmax of the (penalised) logits. In (0, 1].
    pub probability: f64,
}

/// Samples one token at a time:
///
/// 1. **Repetition penalty** on the logits of the tokens in the history.
/// 2. **Allowed tokens**, if the text has to follow a schema or a grammar: the logits of all others become -inf.
/// 3. **Temperature**: logits are divided by it. At 0 the largest logit is taken, on a tie the lowest id, and the steps
///    below do not run.
/// 4. **Top-k**: the k largest logits stay; of equal ones at the edge, the lower ids.
/// 5. **Softmax** over the remaining tokens.
/// 6. **Top-p**: the fewest most probable tokens whose sum reaches `top_p` stay, including the token that reaches it
///    (Holtzman et al. 2019).
/// 7. **Min-p**: tokens with at least `min_p` times the largest probability stay (Nguyen et al. 2024).
/// 8. **Sample**: one uniform number selects among the remaining tokens, most probable first. Greedy uses no random
///    number, every other setting exactly one.
///
/// The same logits, history and seed give the same tokens on every platform. Sums run in `f64` from the largest logit
/// to the smallest with ties by id, the generator is PCG, and the exponential is `libm`'s: `f64::exp` of std differs in
/// its last bit between platforms, and one bit can change a token.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Pcg64Mcg,
    candidates: Candidates,
    penalty: RepetitionPenalty,
    /// The logits of the allowed tokens. The memory is reused from token to token.
    masked: Vec<f32>,
}

impl Sampler {
    /// A sampler whose random numbers start at the seed.
    ///
    /// # Errors
    /// Those of [`SamplingOptions::validate`].
    pub fn new(options: SamplingOptions) -> Result<Sampler> {
        options.validate()?;
        Ok(Sampler {
            rng: Pcg64Mcg::seed_from_u64(options.seed),
            options,
            candidates: Candidates::default(),
            penalty: RepetitionPenalty::default(),
            masked: Vec::new(),
        })
    }

    /// Samples the next token. `history` is the tokens that the penalty applies to, usually prompt and answer. The
    /// logits are changed in place and restored afterwards.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`](crate::base::error::Error::NonFiniteLogits) if a logit is NaN or infinite;
    /// [`Error::Token`](crate::base::error::Error::Token) if the history leaves the vocabulary. No random number is
    /// consumed then.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<Sampled> {
        check_finite(logits)?;
        self.penalty
            .apply(self.options.repetition_penalty, history, logits)?;
        let sampled = self.sample_logits(logits);
        self.penalty.undo(logits);
        Ok(sampled)
    }

    /// Like [`Sampler::sample`], among the tokens of `allowed`.
    ///
    /// # Errors
    /// Also [`Error::Grammar`](crate::base::error::Error::Grammar) if no token of the vocabulary is allowed.
    pub fn sample_among(
        &mut self,
        allowed: &TokenSet,
        logits: &mut [f32],
        history: &[u32],
    ) -> Result<Sampled> {
        check_finite(logits)?;
        allowed.check(logits.len())?;
        self.penalty
            .apply(self.options.repetition_penalty, history, logits)?;
        let mut masked = mem::take(&mut self.masked);
        allowed.mask(logits, &mut masked);
        let sampled = self.sample_logits(&masked);
        self.masked = masked;
        self.penalty.undo(logits);
        Ok(sampled)
    }

    fn sample_logits(&mut self, logits: &[f32]) -> Sampled {
        if self.options.temperature == 0.0 {
            return greedy(logits);
        }
        self.candidates.select(logits, self.options.top_k);
        self.sample_candidates()
    }

    /// Like [`Sampler::sample`], from the list of at least [`SamplingOptions::sufficient_top_k`] logits, with the
    /// penalty applied.
    pub fn sample_top(&mut self, top: &TopK) -> Result<Sampled> {
        top.check()?;
        if self.options.temperature == 0.0 {
            return Ok(Sampled {
                token: top.tokens[0].0,
                probability: 1.0 / top.sum,
            });
        }
        let n = self.options.top_k.min(top.tokens.len());
        self.candidates.set(&top.tokens[..n]);
        Ok(self.sample_candidates())
    }

    fn sample_candidates(&mut self) -> Sampled {
        self.candidates.softmax(self.options.temperature);
        self.candidates.keep_top_p(self.options.top_p);
        self.candidates.keep_min_p(self.options.min_p);
        let uniform = uniform(&mut self.rng);
        self.candidates.sample(uniform)
    }

    /// The random number of the token after the next `n`, without consuming any.
    pub fn upcoming(&self, n: usize) -> f64 {
        let mut rng = self.rng.clone();
        for _ in 0..n {
            rng.next_u64();
        }
        uniform(&mut rng)
    }

    /// Consumes the random numbers of `n` tokens, so that a restored sequence continues as if never interrupted.
    pub fn skip(&mut self, n: usize) {
        if self.options.temperature > 0.0 {
            for _ in 0..n {
                self.rng.next_u64();
            }
        }
    }
}

/// Uniform on [0, 1): the upper 53 bits fill the mantissa of an f64 exactly.
fn uniform(rng: &mut Pcg64Mcg) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
