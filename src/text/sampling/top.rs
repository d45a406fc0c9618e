//! A top-k list of logits, read back instead of all of them, and its layout as a row of f32 in device memory.

use crate::base::error::Result;
use crate::text::sampling::logits::{
    TokenProbability, largest_logits, no_logits, not_finite, with_tokens,
};

/// Values of a row before the tokens: the sum, the token with a non-finite logit, the kind of that logit, and the
/// chosen token.
const BEFORE_TOKENS: usize = 4;
/// Stored where there is no token. Tokens are stored as f32, which is exact for integers up to 2²⁴.
const NO_TOKEN: f32 = -1.0;

/// The largest logits with their tokens, and the denominator of the softmax.
///
/// Layout of a row: the sum; the lowest token whose logit is not finite, or −1; 0 if that logit is NaN, the sign if it
/// is infinite; the chosen token; then k pairs of token and logit, −1 and 0 where the vocabulary has fewer than k
/// tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// Token and logit, the largest first and by token on a tie. −0 is stored as 0.
    pub tokens: Vec<(u32, f32)>,
    /// The sum of exp(logit − largest) over the whole vocabulary.
    pub sum: f64,
    /// The lowest token whose logit is not finite, with its logit; the other fields are meaningless then.
    pub fault: Option<(u32, f32)>,
    /// The token with which the device continued: the first, or the one that it drew.
    pub chosen: u32,
}

impl TopK {
    /// The largest k. A device sorts this many in the memory of one workgroup.
    pub const MOST: usize = 64;
    /// The largest vocabulary whose tokens a row can store.
    pub const MOST_VOCAB: usize = 1 << 24;

    /// Values in a row of `k` tokens.
    pub fn row_len(k: usize) -> usize {
        BEFORE_TOKENS + 2 * k
    }

    /// The `k` of a row of `len` values.
    pub fn places(len: usize) -> usize {
        (len - BEFORE_TOKENS) / 2
    }

    /// The index of the first token in a row.
    pub const FIRST_TOKEN: usize = BEFORE_TOKENS;
    /// The index of the chosen token in a row.
    pub const CHOSEN: usize = 3;

    /// The `k` largest of `logits`.
    pub fn of(logits: &[f32], k: usize) -> TopK {
        let tokens = largest_logits(logits, k);
        let largest = tokens.first().map_or(0.0, |(_, logit)| f64::from(*logit));
        let weights = with_tokens(logits).map(|(_, logit)| libm::exp(f64::from(logit) - largest));
        TopK {
            sum: weights.sum(),
            fault: with_tokens(logits).find(|(_, logit)| !logit.is_finite()),
            chosen: tokens.first().map_or(0, |(token, _)| *token),
            tokens,
        }
    }

    /// Reads a row.
    pub fn from_row(row: &[f32]) -> TopK {
        let fault = match row[2] {
            0.0 => f32::NAN,
            sign => sign * f32::INFINITY,
        };
        let pairs = row[BEFORE_TOKENS..].as_chunks::<2>().0.iter();
        let tokens = pairs.filter(|[token, _]| *token != NO_TOKEN);
        TopK {
            tokens: tokens
                .map(|[token, logit]| (*token as u32, *logit))
                .collect(),
            sum: f64::from(row[0]),
            fault: (row[1] != NO_TOKEN).then(|| (row[1] as u32, fault)),
            chosen: row[TopK::CHOSEN] as u32,
        }
    }

    /// Writes the list into a row.
    pub fn write(&self, row: &mut [f32]) {
        let (token, logit) = self.fault.unwrap_or((0, 0.0));
        row[0] = self.sum as f32;
        row[1] = self.fault.map_or(NO_TOKEN, |_| token as f32);
        row[2] = if logit.is_infinite() {
            logit.signum()
        } else {
            0.0
        };
        row[TopK::CHOSEN] = self.chosen as f32;
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

    /// The same error as for all logits.
    pub(super) fn check(&self) -> Result<()> {
        match self.fault {
            Some((token, logit)) => Err(not_finite(token, logit)),
            None if self.tokens.is_empty() => Err(no_logits()),
            None => Ok(()),
        }
    }

    /// Like [`rank_of`](crate::text::sampling::rank_of), for at most the tokens of the list.
    ///
    /// # Panics
    /// If `chosen` is not in the list.
    pub fn rank_of(&self, chosen: u32, n: usize) -> (Vec<TokenProbability>, usize, f64) {
        let largest = self
            .tokens
            .first()
            .map_or(0.0, |(_, logit)| f64::from(*logit));
        let with_probability = |(token, logit): &(u32, f32)| TokenProbability {
            token: *token,
            probability: libm::exp(f64::from(*logit) - largest) / self.sum,
        };
        let place = self.tokens.iter().position(|(token, _)| *token == chosen);
        let place = place.expect("the token is sampled from the list");
        let top = self.tokens.iter().take(n).map(with_probability).collect();
        (
            top,
            place + 1,
            with_probability(&self.tokens[place]).probability,
        )
    }
}
