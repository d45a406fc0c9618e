//! Formats figures, dates and untrusted text for Markdown.

use crate::base::calendar;
use crate::report::numbers::digits;
use crate::report::summary::ratio;

/// Characters of the longest bar.
const BAR: f64 = 40.0;

/// A bar chart in text, scaled to the largest value.
pub fn chart(caption: &str, bars: &[(String, f64)]) -> String {
    let most = bars.iter().map(|(_, us)| *us).fold(0.0, f64::max);
    let lengths = bars.iter().map(|(name, _)| name.chars().count());
    let width = lengths.max().unwrap_or(0);
    let mut text = format!("\n{caption}\n\n```text\n");
    for (name, us) in bars {
        let bar = "█".repeat((BAR * ratio(*us, most)).round() as usize);
        let name = name.replace('`', "'");
        text.push_str(&format!("{name:<width$} {bar} {}\n", ms(*us)));
    }
    text + "```"
}

/// Microseconds as milliseconds with three digits after the point, more for short times.
pub fn ms(us: f64) -> String {
    fixed(us / 1e3, 3)
}

/// In billions.
pub fn giga(number: f64, places: usize) -> String {
    fixed(number / 1e9, places)
}

/// `places` digits after the point, or more if fewer than two of them would be significant.
pub fn fixed(value: f64, places: usize) -> String {
    let places = if value == 0.0 {
        places
    } else {
        places.max(digits(value).saturating_sub(1))
    };
    format!("{value:.places$}")
}

/// Three significant digits.
pub fn figure(value: f64) -> String {
    let places = digits(value);
    format!("{value:.places$}")
}

pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.0}"))
}

/// Text from a file or a browser, with its Markdown characters escaped.
pub fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "|<>`*[]\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Year, month, day, hours and minutes of a time since 1970, in the Gregorian calendar.
pub fn date(made_ms: f64) -> String {
    let minutes = (made_ms / 6e4) as i64;
    let (days, minute) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    let [year, month, day] = calendar::date_of(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minute / 60,
        minute % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_gregorian_calendar() {
        for (ms, text) in [
            (0.0, "1970-01-01 00:00"),
            (951_782_400_000.0, "2000-02-29 00:00"),
            (1_795_564_740_000.0, "2026-11-24 23:59"),
        ] {
            assert_eq!(date(ms), text);
        }
    }

    #[test]
    fn short_times_have_two_significant_digits() {
        assert_eq!(ms(7_387_660.0), "7387.660");
        assert_eq!(ms(0.28), "0.00028");
        assert_eq!(ms(0.0), "0.000");
    }
}
