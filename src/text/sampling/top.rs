//! The few most probable tokens in the place of all logits: what a device that chooses by itself tells the host. It stands
//! on floor 0 beside the sampler, and says how such a list lies in a row of numbers, which is all that devices share. It
//! chooses nothing.

use std::cmp::Ordering;

use crate::error::{Error, Fact, Result};
use crate::text::sampling::Ranked;

/// Numbers of a row before the tokens: the sum, the token at fault and what is wrong with it.
const BEFORE_TOKENS: usize = 3;
/// The place of a token where there is none. Tokens are numbers of f32, which has every integer below 2²⁴.
const NO_TOKEN: f32 = -1.0;

/// The largest logits with their tokens, and what makes probabilities of them.
///
/// As a row of numbers: the sum, the lowest token whose logit is not finite (or −1), 0 for a NaN and the sign for an
/// infinity there, then token and logit of each place; −1 and 0 where the vocabulary is at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// Token and logit, the largest first and by token on a tie. −0 is 0.
    pub tokens: Vec<(u32, f32)>,
    /// Over the whole vocabulary, of exp(logit − largest).
    pub sum: f64,
    /// The lowest token whose logit is not finite, with its logit; nothing else here means anything then.
    pub fault: Option<(u32, f32)>,
}

impl Top {
    /// The longest list. A device sorts this many in the memory of one workgroup.
    pub const MOST: usize = 64;
    /// Larger vocabularies have tokens that a row can't name.
    pub const MOST_VOCAB: usize = 1 << 24;

    /// Numbers in a row with `k` places.
    pub fn row_len(k: usize) -> usize {
        BEFORE_TOKENS + 2 * k
    }

    /// Places of a row of `len` numbers.
    pub fn places(len: usize) -> usize {
        (len - BEFORE_TOKENS) / 2
    }

    /// Where the first token of a row stands in it.
    pub const FIRST_TOKEN: usize = BEFORE_TOKENS;

    /// The `k` largest of `logits`.
    pub fn of(logits: &[f32], k: usize) -> Top {
        let all = || (0u32..).zip(logits.iter().map(|logit| logit + 0.0));
        let mut tokens: Vec<(u32, f32)> = all().collect();
        if k < tokens.len() {
            tokens.select_nth_unstable_by(k, by_logit_then_token);
            tokens.truncate(k);
        }
        tokens.sort_unstable_by(by_logit_then_token);
        let largest = tokens.first().map_or(0.0, |(_, logit)| f64::from(*logit));
        let weights = all().map(|(_, logit)| libm::exp(f64::from(logit) - largest));
        Top {
            sum: weights.sum(),
            fault: all().find(|(_, logit)| !logit.is_finite()),
            tokens,
        }
    }

    /// What a row says.
    pub fn from_row(row: &[f32]) -> Top {
        let fault = match row[2] {
            0.0 => f32::NAN,
            sign => sign * f32::INFINITY,
        };
        let pairs = row[BEFORE_TOKENS..].as_chunks::<2>().0.iter();
        let tokens = pairs.filter(|[token, _]| *token != NO_TOKEN);
        Top {
            tokens: tokens
                .map(|[token, logit]| (*token as u32, *logit))
                .collect(),
            sum: f64::from(row[0]),
            fault: (row[1] != NO_TOKEN).then(|| (row[1] as u32, fault)),
        }
    }

    /// Makes `row` say this.
    pub fn write(&self, row: &mut [f32]) {
        let (token, logit) = self.fault.unwrap_or((0, 0.0));
        row[0] = self.sum as f32;
        row[1] = self.fault.map_or(NO_TOKEN, |_| token as f32);
        row[2] = if logit.is_infinite() {
            logit.signum()
        } else {
            0.0
        };
        let places = row[BEFORE_TOKENS..].as_chunks_mut::<2>().0;
        let none = std::iter::repeat([NO_TOKEN, 0.0]);
        let tokens = self
            .tokens
            .iter()
            .map(|(token, logit)| [*token as f32, *logit]);
        for (place, token) in places.iter_mut().zip(tokens.chain(none)) {
            *place = token;
        }
    }

    /// The same error as all logits would have given.
    pub(crate) fn check(&self) -> Result<()> {
        match self.fault {
            Some((token, logit)) => Err(not_finite(token, logit)),
            None if self.tokens.is_empty() => Err(no_logits()),
            None => Ok(()),
        }
    }

    /// [`crate::text::sampling::standings`], as far as the list goes: `chosen` must be in it.
    pub fn standings(&self, n: usize, chosen: u32) -> (Vec<Ranked>, usize, f64) {
        let largest = self
            .tokens
            .first()
            .map_or(0.0, |(_, logit)| f64::from(*logit));
        let ranked = |(token, logit): &(u32, f32)| Ranked {
            token: *token,
            probability: libm::exp(f64::from(*logit) - largest) / self.sum,
        };
        let place = self.tokens.iter().position(|(token, _)| *token == chosen);
        let place = place.expect("a token is chosen from the list");
        let top = self.tokens.iter().take(n).map(ranked).collect();
        (top, place + 1, ranked(&self.tokens[place]).probability)
    }
}

pub(crate) fn by_logit_then_token(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

pub(crate) fn no_logits() -> Error {
    Error::Device {
        fact: Fact::new("no_logits"),
    }
}

pub(crate) fn not_finite(token: u32, logit: f32) -> Error {
    Error::NonFiniteLogits {
        token,
        logit: logit.to_string(),
    }
}
