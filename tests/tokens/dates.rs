//! The date that a template prints.

use serde_json::json;
use zamba2::base::local_time::LocalTime;

use super::{NOON, template};

#[test]
fn dates_are_those_of_python() {
    let format = "%a|%A|%b|%B|%c|%C|%d|%D|%e|%f|%F|%g|%G|%H|%I|%j|%k|%l|%m|%M|%p|%P|%r|%R|\
                  %S|%T|%u|%U|%V|%w|%W|%x|%X|%y|\
        %Y|%z|%Z|%%|%h|%-d|%-m|%_d|%0e|%^a|%^B|%-I|%-H|%_H|%Q|%|%n|%t|100 % x|%-";
    let source = format!("{{{{ strftime_now({}) }}}}", json!(format));
    let at = |year, month, day, hour, minute, second, microsecond| LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        microsecond,
    };
    // What Python 3.11 prints on Linux.
    for (now, expected) in [
        (
            at(2026, 1, 4, 0, 5, 9, 1234),
            "Sun|Sunday|Jan|January|Sun Jan  4 00:05:09 2026|20|04|01/04/26| 4|001234|2026-01-04|26|2026|00|12|004| 0|\
             12|01|05|AM|am|12:05:09 AM|00:05|09|00:05:09|7|01|01|0|00|01/04/26|00:05:09|26|2026|||%|Jan|4|1| 4|04|SUN|\
             JANUARY|12|0| 0|%Q|%|\n|\t|100 % x|%-",
        ),
        (
            at(2024, 12, 30, 13, 45, 59, 999_999),
            "Mon|Monday|Dec|December|Mon Dec 30 13:45:59 2024|20|30|12/30/24|30|999999|2024-12-30|\
             25|2025|13|01|365|13| \
             1|12|45|PM|pm|01:45:59 PM|13:45|59|13:45:59|1|52|01|1|53|12/30/24|13:45:59|24|2024|||%|\
             Dec|30|12|30|30|MON|\
             DECEMBER|1|13|13|%Q|%|\n|\t|100 % x|%-",
        ),
        (
            at(2021, 2, 28, 12, 0, 0, 0),
            "Sun|Sunday|Feb|February|Sun Feb 28 12:00:00 2021|20|28|02/28/21|28|000000|2021-02-28|21|2021|12|12|059|12|\
             12|02|00|PM|pm|12:00:00 PM|12:00|00|12:00:00|7|09|08|0|08|02/28/21|12:00:00|21|2021|||%|\
             Feb|28|2|28|28|SUN|\
             FEBRUARY|12|12|12|%Q|%|\n|\t|100 % x|%-",
        ),
    ] {
        assert_eq!(
            template(&source).render_at(&[], true, now).unwrap(),
            expected
        );
    }
}

#[test]
fn a_template_prints_today_s_date() {
    let source = r#"{%- set d = strftime_now("%d %b %Y") -%}{{ d }}{{ strftime_now is defined }}"#;
    let rendered = template(source).render_at(&[], true, NOON).unwrap();
    assert_eq!(rendered, "04 Jan 2026True");
    let today = || {
        let now = LocalTime::now();
        format!("{}-{}-{}", now.year, now.month, now.day)
    };
    let (before, rendered, after) = (
        today(),
        template("{{ strftime_now('%Y-%-m-%-d') }}")
            .render(&[], true)
            .unwrap(),
        today(),
    );
    assert!(rendered == before || rendered == after, "{rendered}");
}
