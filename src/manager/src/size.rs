//! Sizes as people write them.

use serde::{Deserialize, Deserializer};

/// Reads a number of bytes: digits, a fraction perhaps, and a unit of IEC 80000-13 (`KiB`, `MiB`, `GiB`, `TiB`), of which
/// the first letter is enough, in any case.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: want a number and K, M, G or T, such as 512M");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is more than 16 EiB"));
    }
    let parsed: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = parsed * (1u64 << shift) as f64;
    if bytes >= 9e18 { Err(format!("{text:?} is more than 8 EiB")) } else { Ok(bytes as u64) }
}

/// Reads a size of a document: a number of bytes, or a text as [`parse_size`] takes it.
///
/// # Errors
/// It is neither.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "want a number of bytes, or a text such as \"512M\"")]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Bytes(bytes) => Ok(bytes),
        Written::Text(text) => parse_size(&text).map_err(serde::de::Error::custom),
    }
}

/// The same of one that may be missing.
///
/// # Errors
/// As [`read`].
pub fn read_optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Size(#[serde(deserialize_with = "read")] u64);
    Ok(Option::<Size>::deserialize(deserializer)?.map(|Size(bytes)| bytes))
}

/// Renders bytes with three digits and a unit: `1.50 MiB`.
#[must_use]
pub fn render_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64M", 64 << 20), ("1.5GiB", 3 << 29), ("2k", 2048), ("1tb", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1x", "-1", "1.2.3M", "99999999999T", "1 M"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1 << 20, "1.00 MiB"),
            (1_500_000, "1.43 MiB"),
            (1 << 29, "512 MiB"),
        ] {
            assert_eq!(render_size(bytes), text);
        }
    }
}
