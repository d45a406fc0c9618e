//! Python's `strftime` for `strftime_now`: a time without a zone, names in English, and the conversions and flags of
//! the GNU C library, to which Python passes the format on Linux. Unknown conversions are not replaced, as there.

use crate::base::local_time::LocalTime;

/// Longest format that a template may use; a conversion of two bytes prints less than 30.
pub(super) const FORMAT_LIMIT_BYTES: usize = 1000;

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The output of a conversion, before its flags apply.
enum Field {
    Text(String),
    /// A number and the width and character of its padding.
    Number(u32, usize, char),
}

/// `time` in the form of `format`, such as `%d %b %Y`.
pub(super) fn strftime(time: LocalTime, format: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, directive)) = rest.split_once('%') {
        text.push_str(before);
        let flags = directive.trim_start_matches(['-', '_', '0', '^', '#']);
        let (flags, body) = directive.split_at(directive.len() - flags.len());
        let mut characters = body.chars();
        let conversion = characters.next();
        match conversion.and_then(|conversion| field(time, conversion)) {
            Some(field) => {
                text.push_str(&printed(field, flags));
                rest = characters.as_str();
            }
            None => {
                text.push('%');
                rest = directive;
            }
        }
    }
    text + rest
}

fn printed(field: Field, flags: &str) -> String {
    let mut text = match field {
        Field::Text(text) => text,
        Field::Number(number, width, padding) => {
            let flag = flags.chars().rev().find(|flag| "-_0".contains(*flag));
            let (width, padding) = match flag {
                Some('-') => (0, padding),
                Some('_') => (width, ' '),
                Some('0') => (width, '0'),
                _ => (width, padding),
            };
            let digits = number.to_string();
            let missing = width.saturating_sub(digits.len());
            String::from(padding).repeat(missing) + &digits
        }
    };
    if flags.contains('^') {
        text = text.to_uppercase();
    }
    text
}

fn field(time: LocalTime, conversion: char) -> Option<Field> {
    let two = |number: u32| Field::Number(number, 2, '0');
    let spaced = |number: u32| Field::Number(number, 2, ' ');
    let text = |text: &str| Field::Text(text.to_owned());
    let composed = |format: &str| Field::Text(strftime(time, format));
    let weekday = WEEKDAYS[time.weekday() as usize % 7];
    let month = MONTHS[time.month.wrapping_sub(1) as usize % 12];
    let hour_12 = match time.hour % 12 {
        0 => 12,
        hour => hour,
    };
    let year = time.year.unsigned_abs();
    Some(match conversion {
        'a' => text(&weekday[..3]),
        'A' => text(weekday),
        'b' | 'h' => text(&month[..3]),
        'B' => text(month),
        'c' => composed("%a %b %e %H:%M:%S %Y"),
        'C' => two(year / 100),
        'd' => two(time.day),
        'D' | 'x' => composed("%m/%d/%y"),
        'e' => spaced(time.day),
        // Python replaces this one itself, before the C library; also the two of a zone, which this time does not have.
        'f' => Field::Number(time.microsecond, 6, '0'),
        'z' | 'Z' => text(""),
        'F' => composed("%Y-%m-%d"),
        'g' => two(time.iso_week().0.unsigned_abs() % 100),
        'G' => Field::Number(time.iso_week().0.unsigned_abs(), 0, '0'),
        'H' => two(time.hour),
        'I' => two(hour_12),
        'j' => Field::Number(time.day_of_year(), 3, '0'),
        'k' => spaced(time.hour),
        'l' => spaced(hour_12),
        'm' => two(time.month),
        'M' => two(time.minute),
        'n' => text("\n"),
        'p' => text(if time.hour < 12 { "AM" } else { "PM" }),
        'P' => text(if time.hour < 12 { "am" } else { "pm" }),
        'r' => composed("%I:%M:%S %p"),
        'R' => composed("%H:%M"),
        'S' => two(time.second),
        't' => text("\t"),
        'T' | 'X' => composed("%H:%M:%S"),
        'u' => Field::Number((time.weekday() + 6) % 7 + 1, 1, '0'),
        'U' => two((time.day_of_year() + 6 - time.weekday()) / 7),
        'V' => two(time.iso_week().1),
        'w' => Field::Number(time.weekday(), 1, '0'),
        'W' => two((time.day_of_year() + 6 - (time.weekday() + 6) % 7) / 7),
        'y' => two(year % 100),
        'Y' => Field::Number(year, 0, '0'),
        '%' => text("%"),
        _ => return None,
    })
}
