//! The words of the report in English and Russian, and how numbers are written in its sentences. It stands inside the
//! report, below everything that writes text. Module names and class names are the reference's in both languages.

use std::str::FromStr;

use crate::error::{Error, Fact};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    En,
    Ru,
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(name: &str) -> Result<Language, Error> {
        match name {
            "en" => Ok(Language::En),
            "ru" => Ok(Language::Ru),
            _ => Err(Error::Setting {
                name: "language".into(),
                fact: Fact::not_one_of(name, "en, ru"),
            }),
        }
    }
}

impl Language {
    /// One of two sentences, with each `{name}` replaced.
    pub fn say(self, english: &str, russian: &str, values: &[(&str, &str)]) -> String {
        let mut text = match self {
            Language::En => english.to_owned(),
            Language::Ru => russian.to_owned(),
        };
        for (name, value) in values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// A number in a sentence.
    pub fn number(self, value: f64, digits: usize) -> String {
        let text = format!("{value:.digits$}");
        match self {
            Language::En => text,
            Language::Ru => text.replace('.', ","),
        }
    }

    /// Three significant digits.
    pub fn figure(self, value: f64) -> String {
        self.number(value, digits(value))
    }

    /// Microseconds in the unit that suits them.
    pub fn time(self, us: f64) -> String {
        let (value, unit) = match us.abs() {
            us_abs if us_abs >= 1e6 => (us / 1e6, self.word("s", "с")),
            us_abs if us_abs >= 1e3 => (us / 1e3, self.word("ms", "мс")),
            _ => (us, self.word("µs", "мкс")),
        };
        format!("{} {unit}", self.figure(value))
    }

    pub fn word(self, english: &'static str, russian: &'static str) -> &'static str {
        match self {
            Language::En => english,
            Language::Ru => russian,
        }
    }

    /// Decimal megabytes or gigabytes.
    pub fn bytes(self, bytes: f64) -> String {
        match bytes {
            bytes if bytes >= 1e9 => {
                format!("{} {}", self.figure(bytes / 1e9), self.word("GB", "ГБ"))
            }
            bytes => format!("{} {}", self.figure(bytes / 1e6), self.word("MB", "МБ")),
        }
    }
}

/// Digits after the point that make three significant ones, from none to six.
pub fn digits(value: f64) -> usize {
    let value = value.abs();
    (0..6)
        .find(|&digits| value * 10f64.powi(digits) >= 100.0)
        .map_or_else(
            || if value == 0.0 { 0 } else { 6 },
            |digits| digits as usize,
        )
}

/// A whole number in groups of three, as the reference report writes it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
