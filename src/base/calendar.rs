//! Days of the Gregorian calendar, in both directions. It knows no time of day and reads no clock.

/// The days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Years begin in March here, so that the leap day is the last one of its year.
const EPOCH_DAYS: i64 = 719_468;

/// Days since 1970-01-01.
pub fn days_of([year, month, day]: [i64; 3]) -> i64 {
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + day_of_year - EPOCH_DAYS
}

/// Year, month and day of the day `days` after 1970-01-01.
pub fn date_of(days: i64) -> [i64; 3] {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    [year + era * 400 + i64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_is_the_inverse_of_the_other_over_more_than_an_era() {
        for days in -ERA_DAYS..=ERA_DAYS {
            assert_eq!(days_of(date_of(days)), days);
        }
    }

    #[test]
    fn dates_match_the_gregorian_calendar() {
        for (days, date) in [
            (0, [1970, 1, 1]),
            (-1, [1969, 12, 31]),
            (11_016, [2000, 2, 29]),
            (-25_508, [1900, 3, 1]),
            (20_781, [2026, 11, 24]),
        ] {
            assert_eq!(date_of(days), date);
            assert_eq!(days_of(date), days);
        }
    }
}
