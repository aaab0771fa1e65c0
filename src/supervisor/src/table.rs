//! A TOML table that is read key by key, with all that is wrong told at once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

/// What is wrong at a place of a definition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// The key, with the tables around it: `restart.burst`.
    pub key: String,
    /// What is wrong with it.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.key, self.text) }
    }
}

/// A table, what stands before its keys, and what was found in it.
#[derive(Debug)]
pub struct Reader<'a> {
    table: Table,
    path: String,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Reader<'a> {
    /// Begins at a table; `path` is empty for the whole document.
    pub fn new(table: Table, path: &str, findings: &'a mut Vec<Finding>) -> Reader<'a> {
        Reader { table, path: path.to_owned(), findings }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Puts down that a key is wrong.
    pub fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let key = if key.is_empty() { self.path.clone() } else { self.key(key) };
        self.findings.push(Finding { key, text: text.into() });
    }

    /// Whether a key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn take<T>(&mut self, key: &str, wanted: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.table.remove(key)?;
        let is = value.type_str();
        let read = read(value);
        if read.is_none() {
            self.wrong(key, format!("want {wanted}, got {is}"));
        }
        read
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.take(key, "a text", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A whole number within bounds.
    pub fn number(&mut self, key: &str, least: u32, most: u32) -> Option<u32> {
        let value = self.take(key, "a whole number", |value| value.as_integer())?;
        let number = u32::try_from(value).ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(key, format!("{value} is not from {least} to {most}"));
        }
        number
    }

    /// A fraction from 0 to 1, in thousandths.
    pub fn thousandths(&mut self, key: &str) -> Option<u32> {
        let value = self.take(key, "a number", |value| value.as_float().or(value.as_integer().map(|n| n as f64)))?;
        if !(0.0..=1.0).contains(&value) {
            self.wrong(key, format!("{value} is not from 0 to 1"));
            return None;
        }
        Some((value * 1000.0).round() as u32)
    }

    /// A time with its unit within bounds, such as `250ms`.
    pub fn span(&mut self, key: &str, least: Duration, most: Duration) -> Option<Duration> {
        let text = self.take(key, "a time such as \"250ms\" or \"10s\"", |value| value.as_str().map(str::to_owned))?;
        match parse_span(&text) {
            Ok(span) if (least..=most).contains(&span) => Some(span),
            Ok(_) => {
                self.wrong(key, format!("{text} is not from {} to {}", render_span(least), render_span(most)));
                None
            }
            Err(error) => {
                self.wrong(key, error);
                None
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.take(key, "a list of texts", |value| match value {
            Value::Array(list) => list.into_iter().map(|value| value.as_str().map(str::to_owned)).collect(),
            _ => None,
        })
    }

    /// A table of texts.
    pub fn map(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        self.take(key, "a table of texts", |value| match value {
            Value::Table(table) => {
                table.into_iter().map(|(key, value)| value.as_str().map(|text| (key, text.to_owned()))).collect()
            }
            _ => None,
        })
    }

    /// A table within, which `read` reads to its end.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Option<T> {
        let table = self.take(key, "a table", |value| match value {
            Value::Table(table) => Some(table),
            _ => None,
        })?;
        let path = self.key(key);
        let mut reader = Reader::new(table, &path, self.findings);
        let value = read(&mut reader);
        reader.finish();
        value
    }

    /// Tells the keys that nobody has read.
    pub fn finish(mut self) {
        for key in std::mem::take(&mut self.table).keys() {
            self.wrong(key, "is no key that is known here");
        }
    }
}

/// Units of a time, the longest name first.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a time: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// It is none.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[number.len()..]);
    let value = number.parse::<u64>().ok().filter(|_| number.starts_with(|c: char| c.is_ascii_digit()));
    let ms = unit.zip(value).and_then(|((_, ms), value)| value.checked_mul(*ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no time: want a number and ms, s, m or h"))
}

/// Writes a time with the largest unit that leaves a whole number.
#[must_use]
pub fn render_span(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (unit, size) = UNITS.iter().rev().find(|(_, size)| ms % size == 0 && ms >= *size).unwrap_or(&UNITS[0]);
    format!("{}{unit}", ms / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [("0ms", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            parse_span(text).unwrap_err();
        }
    }

    #[test]
    fn what_is_rendered_is_read() {
        for text in ["0ms", "1500ms", "59s", "1m", "90m", "48h"] {
            assert_eq!(render_span(parse_span(text).unwrap()), text);
        }
    }
}
