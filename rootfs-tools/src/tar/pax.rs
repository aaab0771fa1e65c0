//! Records of an extended header: `LENGTH KEY=VALUE\n`, where the value may be any bytes.
//!
//! POSIX.1-2017, pax, "pax Extended Header".

use super::{TarError, Time};

/// A key and its value, in the order of the archive.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// Reads the records of an extended header. `at` is its place in the archive, for errors.
pub(crate) fn parse_records(mut bytes: &[u8], at: u64) -> Result<Vec<Record>, TarError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = split_record(bytes).ok_or(TarError::Record { at })?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

fn split_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = parse_decimal(&bytes[..blank])?.try_into().ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then(|| ((key.to_vec(), value.to_vec()), &bytes[length..]))
}

/// Digits alone: no sign, no blank.
pub(crate) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Seconds with a fraction, which may be negative. What is finer than a nanosecond is cut off.
pub(crate) fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        // The fraction counts forward from a whole second.
        (true, _) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_any_bytes() {
        let records = parse_records(b"9 path=a\n18 SCHILY.x=\n=\0\n\n\n", 0);
        assert_eq!(
            records.unwrap(),
            [(b"path".to_vec(), b"a".to_vec()), (b"SCHILY.x".to_vec(), b"\n=\0\n\n".to_vec())]
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [
            &b"9 path=a"[..],
            b"8 path=a\n",
            b"x path=a\n",
            b"99 path=a\n",
            b"7 path\n",
            b"4 =\n",
            b"0 a=b\n",
            b"9path=ab\n",
        ] {
            assert!(parse_records(bytes, 0).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let check = |text: &str, expected: Option<(i64, u32)>| {
            assert_eq!(parse_time(text.as_bytes()), expected.map(|(seconds, nanos)| Time { seconds, nanos }), "{text}");
        };
        check("0", Some((0, 0)));
        check("1700000000.123456789", Some((1_700_000_000, 123_456_789)));
        check("1.5", Some((1, 500_000_000)));
        check("1.0000000019", Some((1, 1)));
        check("1.", Some((1, 0)));
        check("-1", Some((-1, 0)));
        check("-1.25", Some((-2, 750_000_000)));
        check("-0.5", Some((-1, 500_000_000)));
        check("", None);
        check("1.x", None);
        check("1e3", None);
        check("+1", None);
        check("99999999999999999999", None);
    }
}
