//! The options of sampling: names, ranges and defaults, defined here once. `tests/sampling_options.rs` holds that the
//! JS module and the page have the same.

use serde::Deserialize;

use crate::base::error::{Error, Fact, Result};

/// The name, range and default of an option that is a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberOption {
    pub name: &'static str,
    pub min: f64,
    /// Whether `min` itself is out of range.
    pub above_min: bool,
    /// Infinite where only the type limits the value.
    pub max: f64,
    pub default: f64,
    pub is_integer: bool,
    /// The reason in the error for a value out of range.
    fact: &'static str,
}

impl NumberOption {
    /// Infinity is out of every range.
    pub fn contains(&self, value: f64) -> bool {
        let is_above = value > self.min || value == self.min && !self.above_min;
        value.is_finite()
            && is_above
            && value <= self.max
            && !(self.is_integer && value.fract() != 0.0)
    }

    /// # Errors
    /// [`Error::Setting`] for a value out of range.
    pub fn check(&self, value: f64) -> Result<()> {
        if self.contains(value) {
            return Ok(());
        }
        Err(Error::Setting {
            name: self.name.to_owned(),
            fact: Fact::new(self.fact).with("value", value.to_string()),
        })
    }
}

pub const MAX_TOKENS: NumberOption = NumberOption {
    name: "max_tokens",
    min: 1.0,
    above_min: false,
    max: f64::INFINITY,
    default: 256.0,
    is_integer: true,
    fact: "no_tokens",
};
pub const TEMPERATURE: NumberOption = NumberOption {
    name: "temperature",
    min: 0.0,
    above_min: false,
    max: f64::INFINITY,
    default: 0.7,
    is_integer: false,
    fact: "not_from_0",
};
pub const TOP_K: NumberOption = NumberOption {
    name: "top_k",
    min: 0.0,
    above_min: false,
    max: f64::INFINITY,
    default: 40.0,
    is_integer: true,
    fact: "not_from_0",
};
pub const TOP_P: NumberOption = NumberOption {
    name: "top_p",
    min: 0.0,
    above_min: true,
    max: 1.0,
    default: 0.95,
    is_integer: false,
    fact: "not_above_0_to_1",
};
pub const MIN_P: NumberOption = NumberOption {
    name: "min_p",
    min: 0.0,
    above_min: false,
    max: 1.0,
    default: 0.0,
    is_integer: false,
    fact: "not_from_0_to_1",
};
pub const REPETITION_PENALTY: NumberOption = NumberOption {
    name: "repetition_penalty",
    min: 0.0,
    above_min: true,
    max: f64::INFINITY,
    default: 1.0,
    is_integer: false,
    fact: "not_above_0",
};
pub const SEED: NumberOption = NumberOption {
    name: "seed",
    min: 0.0,
    above_min: false,
    max: f64::INFINITY,
    default: 42.0,
    is_integer: true,
    fact: "not_from_0",
};

/// Every numeric option of a generation, in the order of the JS module's defaults.
pub const NUMBER_OPTIONS: [NumberOption; 7] = [
    MAX_TOKENS,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    REPETITION_PENALTY,
    SEED,
];

/// How the next token is sampled; [`Sampler`](crate::text::sampling::Sampler) has the order in which the options apply.
/// Absent fields take their defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct SamplingOptions {
    /// Divides the logits. 0 is greedy: argmax, without random numbers.
    pub temperature: f64,
    /// How many of the most probable tokens stay; 0 turns it off.
    pub top_k: usize,
    /// The cumulative probability that the remaining tokens must reach; 1 turns it off.
    pub top_p: f64,
    /// The least probability of a remaining token, relative to the most probable one; 0 turns it off.
    pub min_p: f64,
    /// How much a token of the history is made less probable; 1 turns it off, less than 1 makes it more probable.
    pub repetition_penalty: f64,
    /// The same seed and logits give the same tokens on every platform.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions {
            temperature: TEMPERATURE.default,
            top_k: TOP_K.default as usize,
            top_p: TOP_P.default,
            min_p: MIN_P.default,
            repetition_penalty: REPETITION_PENALTY.default,
            seed: SEED.default as u64,
        }
    }
}

impl SamplingOptions {
    /// # Errors
    /// [`Error::Setting`] for the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        TEMPERATURE.check(self.temperature)?;
        TOP_P.check(self.top_p)?;
        MIN_P.check(self.min_p)?;
        REPETITION_PENALTY.check(self.repetition_penalty)
    }

    /// How many of the largest logits suffice to sample the next token; `None` if all are needed.
    pub fn sufficient_top_k(&self) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_in_its_range() {
        for option in NUMBER_OPTIONS {
            option.check(option.default).unwrap();
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let refused = |options: SamplingOptions| match options.validate() {
            Err(Error::Setting { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        for bad in [f64::NAN, f64::INFINITY, -0.1] {
            let temperature = SamplingOptions {
                temperature: bad,
                ..SamplingOptions::default()
            };
            assert_eq!(refused(temperature), "temperature");
        }
        for bad in [f64::NAN, f64::INFINITY, -0.1, 0.0, 1.1] {
            assert_eq!(
                refused(SamplingOptions {
                    top_p: bad,
                    ..SamplingOptions::default()
                }),
                "top_p"
            );
        }
        for bad in [f64::NAN, f64::NEG_INFINITY, -0.1, 1.1] {
            assert_eq!(
                refused(SamplingOptions {
                    min_p: bad,
                    ..SamplingOptions::default()
                }),
                "min_p"
            );
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let penalty = SamplingOptions {
                repetition_penalty: bad,
                ..SamplingOptions::default()
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
