//! Sampling of the next token from the logits of the last position, or from a top-k list of them. The caller decides
//! when a generation ends (eos, stop strings, lengths).

mod candidates;
mod device_draw;
mod logits;
mod options;
mod penalty;
mod sampler;
mod token_set;
mod top;

pub use crate::text::sampling::device_draw::Draw;
pub use crate::text::sampling::logits::{
    TokenProbability, argmax, check_finite, log_probability, most_probable, most_probable_roughly,
    rank_of,
};
pub use crate::text::sampling::options::{
    LOOKUP, MAX_TOKENS, NUMBER_OPTIONS, NumberOption, SamplingOptions,
};
pub use crate::text::sampling::penalty::penalised;
pub use crate::text::sampling::sampler::{Sampled, Sampler};
pub use crate::text::sampling::token_set::TokenSet;
pub use crate::text::sampling::top::TopK;
