//! Instants as RFC 3339 text in UTC, without a time zone database.

use std::time::Duration;

const DAY: i64 = 86_400;

/// A day of the Gregorian calendar and a time of that day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year, also before 1970.
    pub year: i64,
    /// 1..=12.
    pub month: u8,
    /// 1..=31.
    pub day: u8,
    /// 0..=23.
    pub hour: u8,
    /// 0..=59.
    pub minute: u8,
    /// 0..=59.
    pub second: u8,
}

impl Utc {
    /// The date and time of a number of seconds since 1970.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Utc {
        let days = seconds.div_euclid(DAY);
        let rest = seconds.rem_euclid(DAY);
        // Days are counted from the first of March of year 0, so that the leap day is the last one of its year, and in
        // eras of 400 years, each of which has the same number of days (Howard Hinnant, "chrono-compatible low-level
        // date algorithms", civil_from_days).
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Utc {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }
}

/// Renders `2026-08-19T12:34:56Z`.
#[must_use]
pub fn render_seconds(since_1970: Duration) -> String {
    let t = Utc::from_unix(whole_seconds(since_1970));
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

/// Renders `2026-08-19T12:34:56.000000789Z`: always nine digits, so that lines sort by text.
#[must_use]
pub fn render_nanos(since_1970: Duration) -> String {
    let mut text = render_seconds(since_1970);
    text.pop();
    text + &format!(".{:09}Z", since_1970.subsec_nanos())
}

/// Reads what [`render_seconds`] and [`render_nanos`] write, as seconds since 1970; `None` for anything else.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
    };
    let form: String = text.get(..19)?.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if form != "0000-00-00T00:00:00" || !text.ends_with('Z') {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // As above, the other way round: days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * DAY + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    u64::try_from(seconds).ok()
}

fn whole_seconds(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for seconds in [0, 951_782_400, 1_709_164_799, 1_767_225_600, 4_102_444_799] {
            assert_eq!(parse_seconds(&render_seconds(Duration::from_secs(seconds))), Some(seconds));
            assert_eq!(parse_seconds(&render_nanos(Duration::new(seconds, 7))), Some(seconds));
        }
        for text in ["", "2026-08-19T12:34:56", "2026-08-19 12:34:56Z", "+026-08-19T12:34:56Z", "ä"] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        let t = Utc::from_unix(seconds);
        let text = format!("{}-{}-{} {}:{}:{}", t.year, t.month, t.day, t.hour, t.minute, t.second);
        assert_eq!(text, expected, "{seconds}");
    }

    #[test]
    fn dates() {
        // Expected values from `date -u -d @N`.
        check(0, "1970-1-1 0:0:0");
        check(-1, "1969-12-31 23:59:59");
        check(951_782_400, "2000-2-29 0:0:0");
        check(951_868_800, "2000-3-1 0:0:0");
        check(4_107_542_399, "2100-2-28 23:59:59");
        check(4_107_542_400, "2100-3-1 0:0:0");
        check(1_787_142_896, "2026-8-19 12:34:56");
        check(253_402_300_799, "9999-12-31 23:59:59");
        check(-2_203_891_200, "1900-3-1 0:0:0");
    }

    #[test]
    fn each_day_of_four_centuries_follows_the_one_before() {
        let mut last = Utc::from_unix(-DAY);
        for day in 0..146_097 {
            let t = Utc::from_unix(day * DAY);
            let next_day = t.year == last.year && t.month == last.month && t.day == last.day + 1;
            let next_month = t.day == 1 && last.day >= 28;
            assert!(next_day || next_month, "{last:?} then {t:?}");
            last = t;
        }
        assert_eq!((last.year, last.month, last.day), (2369, 12, 31));
    }

    #[test]
    fn text() {
        let instant = Duration::new(1_787_142_896, 789);
        assert_eq!(render_seconds(instant), "2026-08-19T12:34:56Z");
        assert_eq!(render_nanos(instant), "2026-08-19T12:34:56.000000789Z");
        assert_eq!(render_nanos(Duration::from_secs(1)), "1970-01-01T00:00:01.000000000Z");
    }
}
