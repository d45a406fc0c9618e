//! The local date and time, as a value: only the entry points read the clock, so that what depends on a date can be
//! tested. There is no time zone: chat templates print none.

use crate::base::calendar;

/// A date and time of day on this device's calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub microsecond: u32,
}

impl LocalTime {
    pub fn now() -> LocalTime {
        platform::now()
    }

    /// Days since 1970-01-01.
    fn days(self) -> i64 {
        calendar::days_of([self.year.into(), self.month.into(), self.day.into()])
    }

    /// 0 for Sunday.
    pub fn weekday(self) -> u32 {
        // 1970-01-01 was a Thursday.
        (self.days() + 4).rem_euclid(7) as u32
    }

    /// 1 to 366.
    pub fn day_of_year(self) -> u32 {
        let first = LocalTime {
            month: 1,
            day: 1,
            ..self
        };
        (self.days() - first.days() + 1) as u32
    }

    /// The year and week of ISO 8601: weeks begin on Monday, and week 1 has the year's first Thursday.
    pub fn iso_week(self) -> (i32, u32) {
        let day_of_year = i64::from(self.day_of_year());
        let from_monday = i64::from((self.weekday() + 6) % 7);
        // The Thursday of this week decides whose week it is.
        let thursday = day_of_year - from_monday + 3;
        let length = |year: i32| {
            let december_31 = LocalTime {
                year,
                month: 12,
                day: 31,
                ..self
            };
            i64::from(december_31.day_of_year())
        };
        let (year, thursday) = match thursday {
            ..1 => (self.year - 1, thursday + length(self.year - 1)),
            _ if thursday > length(self.year) => (self.year + 1, thursday - length(self.year)),
            _ => (self.year, thursday),
        };
        (year, ((thursday - 1) / 7 + 1) as u32)
    }
}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod platform {
    use crate::base::local_time::LocalTime;

    pub fn now() -> LocalTime {
        let now = jiff::Zoned::now().datetime();
        let positive = |value: i8| u32::from(value.unsigned_abs());
        LocalTime {
            year: now.year().into(),
            month: positive(now.month()),
            day: positive(now.day()),
            hour: positive(now.hour()),
            minute: positive(now.minute()),
            second: positive(now.second()),
            microsecond: now.subsec_nanosecond().unsigned_abs() / 1000,
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod platform {
    use crate::base::local_time::LocalTime;

    pub fn now() -> LocalTime {
        let now = js_sys::Date::new_0();
        LocalTime {
            year: now.get_full_year() as i32,
            month: now.get_month() + 1,
            day: now.get_date(),
            hour: now.get_hours(),
            minute: now.get_minutes(),
            second: now.get_seconds(),
            microsecond: now.get_milliseconds() * 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(year: i32, month: u32, day: u32) -> LocalTime {
        LocalTime {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
            microsecond: 0,
        }
    }

    #[test]
    fn weekdays_and_days_of_the_year_follow_the_calendar() {
        for (date, weekday, day_of_year) in [
            (on(1970, 1, 1), 4, 1),
            (on(2000, 2, 29), 2, 60),
            (on(1900, 3, 1), 4, 60),
            (on(2024, 12, 31), 2, 366),
            (on(2026, 11, 29), 0, 333),
        ] {
            assert_eq!(date.weekday(), weekday, "{date:?}");
            assert_eq!(date.day_of_year(), day_of_year, "{date:?}");
        }
    }

    #[test]
    fn the_first_days_of_a_year_may_be_in_a_week_of_the_year_before() {
        for (date, week) in [
            (on(2021, 1, 3), (2020, 53)),
            (on(2021, 1, 4), (2021, 1)),
            (on(2024, 12, 30), (2025, 1)),
            (on(2026, 11, 29), (2026, 48)),
            (on(2026, 12, 31), (2026, 53)),
        ] {
            assert_eq!(date.iso_week(), week, "{date:?}");
        }
    }
}
