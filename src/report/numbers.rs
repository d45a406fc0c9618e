//! Formats numbers in sentences: three significant digits, units, and the decimal mark of the language.

use crate::words::{self, Language};

/// `value` with `digits` digits after the decimal mark.
pub fn decimal(language: Language, value: f64, digits: usize) -> String {
    let mark = words::get(language, "report.decimal");
    format!("{value:.digits$}").replace('.', mark)
}

/// Three significant digits.
pub fn figure(language: Language, value: f64) -> String {
    decimal(language, value, digits(value))
}

/// Microseconds in a suitable unit.
pub fn time(language: Language, us: f64) -> String {
    let (value, unit) = match us.abs() {
        us_abs if us_abs >= 1e6 => (us / 1e6, "report.unit.s"),
        us_abs if us_abs >= 1e3 => (us / 1e3, "report.unit.ms"),
        _ => (us, "report.unit.us"),
    };
    format!("{} {}", figure(language, value), words::get(language, unit))
}

/// Decimal megabytes or gigabytes.
pub fn bytes(language: Language, bytes: f64) -> String {
    let (value, unit) = match bytes {
        bytes if bytes >= 1e9 => (bytes / 1e9, "report.unit.gb"),
        bytes => (bytes / 1e6, "report.unit.mb"),
    };
    format!("{} {}", figure(language, value), words::get(language, unit))
}

/// Digits after the decimal mark for three significant digits, at most six.
pub fn digits(value: f64) -> usize {
    let value = value.abs();
    (0..6)
        .find(|&digits| value * 10f64.powi(digits) >= 100.0)
        .map_or_else(
            || if value == 0.0 { 0 } else { 6 },
            |digits| digits as usize,
        )
}

/// An integer with its digits in groups of three, as in the reference report.
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
