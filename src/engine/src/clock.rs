//! Time of day, as records and documents have it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, RFC 3339 in UTC with nine digits of a second.
#[must_use]
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    render(since.as_secs(), since.subsec_nanos())
}

/// Renders seconds since 1970 and nanoseconds.
fn render(seconds: u64, nanoseconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// Year, month and day of a day number since 1970-01-01. Years begin in March here, so that the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn known_moments() {
        assert_eq!(render(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(render(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(render(1_772_323_199, 999_999_999), "2026-02-28T23:59:59.999999999Z");
        assert_eq!(render(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }
}
