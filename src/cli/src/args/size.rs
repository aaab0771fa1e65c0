//! Sizes as docker and runc write them: `512m`, `1.5GiB`, `4096`.

/// Why a text is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, a negative one, or one that no file of the kernel could hold.
    #[error("not a size: want a number of bytes such as 1073741824, 512m or 1.5g")]
    Number,
    /// Letters that mean nothing.
    #[error("unknown suffix: want b, k, m, g, t or p")]
    Suffix,
}

/// Reads a size in bytes. k, m, g, t and p, in either case, are powers of 1024; `b` or `ib` may follow them.
///
/// # Errors
/// [`SizeError`].
pub fn parse_size(text: &str) -> Result<i64, SizeError> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or(SizeError::Number)?;
    let (number, suffix) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(SizeError::Number);
    }
    let factor = parse_factor(suffix)?;
    // Whole numbers must not lose bits on the way through a float.
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or(SizeError::Number);
    }
    let bytes = number.parse::<f64>().map_err(|_| SizeError::Number)? * factor as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(SizeError::Number) }
}

/// Reads a limit: a size, or `-1` for none.
///
/// # Errors
/// [`SizeError`].
pub fn parse_limit(text: &str) -> Result<i64, SizeError> {
    if text == "-1" { Ok(-1) } else { parse_size(text) }
}

fn parse_factor(suffix: &str) -> Result<i64, SizeError> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(unit) = suffix.chars().next() else { return Ok(1) };
    if suffix == "b" {
        return Ok(1);
    }
    let power = "kmgtp".find(unit).ok_or(SizeError::Suffix)?;
    match &suffix[1..] {
        "" | "b" | "ib" => Ok(1 << (10 * (power + 1))),
        _ => Err(SizeError::Suffix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<i64, SizeError>) {
        assert_eq!(parse_size(text), expected, "{text:?}");
    }

    #[test]
    fn plain_bytes() {
        check("0", Ok(0));
        check("4096", Ok(4096));
        check("4096b", Ok(4096));
        check("4096 B", Ok(4096));
        check("9223372036854775807", Ok(i64::MAX));
        check("9223372036854775808", Err(SizeError::Number));
    }

    #[test]
    fn suffixes() {
        check("1k", Ok(1024));
        check("512m", Ok(512 << 20));
        check("512 MiB", Ok(512 << 20));
        check("2GB", Ok(2 << 30));
        check("1t", Ok(1 << 40));
        check("1p", Ok(1 << 50));
        check("1.5g", Ok(3 << 29));
        check(".5k", Ok(512));
        check("8193p", Err(SizeError::Number));
    }

    #[test]
    fn refused() {
        check("", Err(SizeError::Number));
        check("m", Err(SizeError::Number));
        check("-1", Err(SizeError::Number));
        check("1e3", Err(SizeError::Number));
        check("0x10", Err(SizeError::Number));
        check("1.2.3", Err(SizeError::Number));
        check("1x", Err(SizeError::Suffix));
        check("1kk", Err(SizeError::Suffix));
        check("1bb", Err(SizeError::Suffix));
        check("1ki", Err(SizeError::Suffix));
        check("1é", Err(SizeError::Suffix));
    }

    #[test]
    fn a_limit_may_be_minus_one() {
        assert_eq!(parse_limit("-1"), Ok(-1));
        assert_eq!(parse_limit("1m"), Ok(1 << 20));
        assert_eq!(parse_limit("-2"), Err(SizeError::Number));
    }
}
