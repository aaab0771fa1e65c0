//! Durations as Go programs write them: `5s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit.
    #[error("not a duration: want numbers with units such as 5s, 1m30s or 100ms")]
    Form,
    /// A number without a unit, or with one that does not exist.
    #[error("unknown unit: want ns, us, ms, s, m or h")]
    Unit,
    /// Below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// More than 290 years.
    #[error("duration too long")]
    Range,
}

/// Units and their length in nanoseconds. Longer names first where one begins with another.
static UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration: one or more decimal numbers, each with a fraction or not, each with its unit; or `0`.
///
/// The result is below 2^63 nanoseconds, as in Go.
///
/// # Errors
/// [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = match text.strip_prefix('-') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            return parse_duration(rest).and(Err(DurationError::Negative));
        }
        Some(_) => return Err(DurationError::Form),
        None => text.strip_prefix('+').unwrap_or(text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_part(rest)?;
        total += nanos;
        if total > i64::MAX as u128 {
            return Err(DurationError::Range);
        }
        rest = after;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| DurationError::Range)
}

/// Reads `1.5h` from the front; gives nanoseconds and what follows.
fn parse_part(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, after) = split_digits(text);
    let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Form);
    }
    let (unit, length) = UNITS.iter().find(|(unit, _)| is_unit(after, unit)).ok_or(DurationError::Unit)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::Range)? };
    let mut nanos = u128::from(whole) * u128::from(*length);
    let mut place = u128::from(*length);
    for digit in fraction.bytes() {
        // Digits below a nanosecond are dropped; each place is exact, because lengths are products of 2, 3 and 5 and
        // what is lost in a division is less than a nanosecond in all.
        nanos += u128::from(digit - b'0') * place / 10;
        place /= 10;
    }
    Ok((nanos, &after[unit.len()..]))
}

/// Whether `text` begins with this unit and not with a longer word.
fn is_unit(text: &str, unit: &str) -> bool {
    text.strip_prefix(unit)
        .is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse_duration(text), expected.map(Duration::from_nanos), "{text:?}");
    }

    #[test]
    fn accepted() {
        check("0", Ok(0));
        check("+0", Ok(0));
        check("0s", Ok(0));
        check("5s", Ok(5_000_000_000));
        check("+5s", Ok(5_000_000_000));
        check("100ms", Ok(100_000_000));
        check("1m30s", Ok(90_000_000_000));
        check("1h1m1s1ms1us1ns", Ok(3_661_001_001_001));
        check("1.5h", Ok(5_400_000_000_000));
        check(".5s", Ok(500_000_000));
        check("1.s", Ok(1_000_000_000));
        check("2\u{b5}s", Ok(2_000));
        check("2\u{3bc}s", Ok(2_000));
        check("0.1ns", Ok(0));
        check("1.23456789s", Ok(1_234_567_890));
    }

    #[test]
    fn refused() {
        check("", Err(DurationError::Form));
        check("s", Err(DurationError::Form));
        check(".s", Err(DurationError::Form));
        check("-", Err(DurationError::Form));
        check("5", Err(DurationError::Unit));
        check("5x", Err(DurationError::Unit));
        check("5sx", Err(DurationError::Unit));
        check("5s6", Err(DurationError::Unit));
        check("5 s", Err(DurationError::Unit));
        check("-5s", Err(DurationError::Negative));
        check("-5", Err(DurationError::Unit));
        check("--5s", Err(DurationError::Form));
        check("99999999999999999999s", Err(DurationError::Range));
        check("9223372036854775808ns", Err(DurationError::Range));
        check("9223372036854775807ns", Ok(i64::MAX as u64));
    }
}
