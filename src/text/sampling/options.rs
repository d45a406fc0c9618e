//! The options of sampling and the length of a generation: names, docs, ranges and defaults, defined here once. The
//! command line makes its flags from [`NUMBER_OPTIONS`]; `tests/sampling_options.rs` generates the table and the types
//! of the JS module (`www/engine/generate_options.*`) from it, and the page makes its fields from that table.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Fact, Result};

/// An option that is a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberOption {
    pub name: &'static str,
    /// The help of the command line, and the doc of the JS module's type.
    pub doc: &'static str,
    pub default: f64,
    /// The value at which the option has no effect; `None` if it is not about the distribution that is sampled from.
    pub off: Option<f64>,
    pub min: f64,
    /// Whether `min` itself is out of range.
    pub above_min: bool,
    /// Infinite if there is no limit.
    pub max: f64,
    pub is_integer: bool,
    /// The distance of neighbouring values in a field of a page.
    pub step: f64,
    /// The largest value that a field of a page offers.
    pub usual_max: f64,
    /// The placeholder of the value in the help of the command line.
    pub value_name: &'static str,
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
        let fact = match (self.is_integer, self.above_min, self.max.is_finite()) {
            (true, ..) => Fact::new("not_whole_range"),
            (false, false, false) => Fact::new("not_from"),
            (false, true, false) => Fact::new("not_above"),
            (false, false, true) => Fact::new("not_from_to"),
            (false, true, true) => Fact::new("not_above_to"),
        };
        let fact = fact.with("value", value.to_string());
        let fact = fact.with("least", self.min.to_string());
        Err(Error::Setting {
            name: self.name.to_owned(),
            fact: fact.with("most", self.max.to_string()),
        })
    }
}

/// The largest count that a `usize` of WebAssembly holds.
const MAX_COUNT: f64 = u32::MAX as f64;
/// `Number.MAX_SAFE_INTEGER`: a JS number must hold every seed, so that each run can be repeated in a browser.
const MAX_SEED: f64 = ((1u64 << 53) - 1) as f64;

/// Makes, from one list: [`NUMBER_OPTIONS`], the fields of [`SamplingOptions`] with their docs and defaults, the check
/// of their ranges, and a way to set them by name.
macro_rules! sampling_options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal { $($column:tt)+ })+) => {
        /// How the next token is sampled; [`Sampler`](crate::text::sampling::Sampler) has the order in which the
        /// options apply. Absent fields take their defaults.
        #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
        #[serde(default)]
        pub struct SamplingOptions {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for SamplingOptions {
            fn default() -> Self {
                SamplingOptions { $($name: $default,)+ }
            }
        }

        /// Every option of a generation that is a number, in the order of flags and fields.
        pub const NUMBER_OPTIONS: &[NumberOption] = &[
            $(NumberOption {
                name: stringify!($name),
                doc: concat!($($doc),+).trim_ascii_start(),
                default: $default as f64,
                $($column)+
            },)+
            MAX_TOKENS,
            LOOKUP,
        ];

        impl SamplingOptions {
            /// # Errors
            /// [`Error::Setting`] for the first option that is out of range.
            pub fn validate(&self) -> Result<()> {
                // The last of the table, `MAX_TOKENS` and `LOOKUP`, are no fields of this type and have no values here.
                let values = [$(self.$name as f64),+];
                let mut options = NUMBER_OPTIONS.iter().zip(values);
                options.try_for_each(|(option, value)| option.check(value))
            }

            /// Sets the field `name` to a value in its range.
            pub fn set(&mut self, name: &str, value: f64) {
                match name {
                    $(stringify!($name) => self.$name = value as $type,)+
                    _ => unreachable!("{name} is no option of sampling"),
                }
            }
        }
    };
}

sampling_options! {
    /// Divides the logits: the higher, the more random. 0 is greedy: argmax, without random numbers.
    temperature: f64 = 0.7 {
        off: Some(1.0), min: 0.0, above_min: false, max: f64::INFINITY, is_integer: false,
        step: 0.05, usual_max: 5.0, value_name: "TEMPERATURE",
    }

    /// Samples from the fewest most probable tokens whose probabilities reach this sum; 1 turns it off.
    top_p: f64 = 0.95 {
        off: Some(1.0), min: 0.0, above_min: true, max: 1.0, is_integer: false,
        step: 0.01, usual_max: 1.0, value_name: "P",
    }

    /// Samples from this many most probable tokens; 0 turns it off.
    top_k: usize = 40 {
        off: Some(0.0), min: 0.0, above_min: false, max: MAX_COUNT, is_integer: true,
        step: 1.0, usual_max: 100_000.0, value_name: "K",
    }

    /// The least probability of a token, relative to the most probable one; 0 turns it off.
    min_p: f64 = 0.0 {
        off: Some(0.0), min: 0.0, above_min: false, max: 1.0, is_integer: false,
        step: 0.01, usual_max: 1.0, value_name: "P",
    }

    /// How much less probable tokens of the history are made; 1 turns it off, less than 1 makes them more probable.
    repetition_penalty: f64 = 1.0 {
        off: Some(1.0), min: 0.0, above_min: true, max: f64::INFINITY, is_integer: false,
        step: 0.05, usual_max: 5.0, value_name: "FACTOR",
    }

    /// Starts the random numbers: the same seed, prompt, options and conversation give the same tokens on every
    /// platform.
    seed: u64 = 42 {
        off: None, min: 0.0, above_min: false, max: MAX_SEED, is_integer: true,
        step: 1.0, usual_max: MAX_COUNT, value_name: "SEED",
    }
}

/// A field of [`GenerateOptions`](crate::session::GenerateOptions), since the sampler does not count tokens.
pub const MAX_TOKENS: NumberOption = NumberOption {
    name: "max_tokens",
    doc: "How many tokens to generate at most.",
    default: 256.0,
    off: None,
    min: 1.0,
    above_min: false,
    max: MAX_COUNT,
    is_integer: true,
    step: 1.0,
    usual_max: 100_000.0,
    value_name: "N",
};

/// A field of [`GenerateOptions`](crate::session::GenerateOptions): drafts do not change what is sampled.
pub const LOOKUP: NumberOption = NumberOption {
    name: "lookup",
    doc: "How many tokens to draft at most from earlier occurrences of the last ones, and to compute together; 0 turns \
          it off. It changes the speed, not the text, and on a graphics adapter it has no effect.",
    default: 0.0,
    off: None,
    min: 0.0,
    above_min: false,
    max: 10.0,
    is_integer: true,
    step: 1.0,
    usual_max: 10.0,
    value_name: "N",
};

impl SamplingOptions {
    /// How many of the largest logits, after the penalty, suffice to sample the next token; `None` if all are needed.
    pub fn sufficient_top_k(&self) -> Option<usize> {
        match (self.temperature == 0.0, self.top_k) {
            (true, _) => Some(1),
            (false, 0) => None,
            (false, top_k) => Some(top_k),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_the_table_are_in_its_ranges() {
        for option in NUMBER_OPTIONS {
            option.check(option.default).unwrap();
            option.check(option.off.unwrap_or(option.min)).unwrap();
            option.check(option.usual_max).unwrap();
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
