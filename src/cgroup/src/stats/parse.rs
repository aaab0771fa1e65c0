//! The formats that statistics come in. Nothing here may panic on what a kernel of another year writes.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use sys::Errno;

use super::{BlkioEntry, Pressure, PressureLine};
use crate::error::{Error, Result};

/// A group's folder, to read files from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'fd> {
    pub(crate) dir: BorrowedFd<'fd>,
}

impl Source<'_> {
    /// A file as text; `None` where there is none, or the group is gone.
    pub(crate) fn text(self, file: &str) -> Result<Option<String>> {
        match sys::fs::read_text_at(self.dir, file) {
            Ok(text) => Ok(Some(text)),
            // EOPNOTSUPP: pressure files of a kernel that was started without psi=1.
            Err(error) if [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP].contains(&error.errno()) => Ok(None),
            Err(error) => Err(sys::Error::new(format!("read({file:?})"), error.errno()).into()),
        }
    }

    /// A file parsed; `None` where there is none.
    pub(crate) fn parsed<T>(self, file: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| Error::Parse { file: file.to_owned(), text })
    }

    /// One number of a file of `key number` lines; 0 for a key that this kernel does not have, `None` where there is no
    /// file.
    pub(crate) fn count(self, file: &str, key: &str) -> Result<Option<u64>> {
        Ok(self.parsed(file, key_values)?.map(|values| values.get(key).copied().unwrap_or(0)))
    }

    /// A file with one number; 0 where there is none.
    pub(super) fn number(self, file: &str) -> Result<u64> {
        Ok(self.parsed(file, |text| number(text.trim()))?.unwrap_or(0))
    }
}

/// A number, `max` as the largest. A negative one, which some kernels show by mistake, is 0.
pub(super) fn number(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(u64::MAX);
    }
    text.parse().ok().or_else(|| text.parse::<i64>().is_ok().then_some(0))
}

/// Lines of `key value`.
pub(super) fn key_values(text: &str) -> Option<BTreeMap<String, u64>> {
    let parse = |line: &str| line.split_once(' ').and_then(|(key, value)| Some((key.to_owned(), number(value)?)));
    text.lines().map(parse).collect()
}

/// The numbers of a line.
pub(super) fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_ascii_whitespace().map(number).collect()
}

/// A list of CPUs or memory nodes: `0-3,7`.
pub(super) fn list(text: &str) -> Option<Vec<u16>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Lines of `major:minor [operation] value`; the line with the sum over all devices is left out.
pub(super) fn blkio(text: &str) -> Option<Vec<BlkioEntry>> {
    let parse = |line: &str| {
        let mut fields = line.split([' ', ':']);
        let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let third = fields.next()?;
        let (op, value) = match fields.next() {
            Some(value) => (third, value),
            None => ("", third),
        };
        Some(BlkioEntry { major, minor, op: op.to_owned(), value: number(value)? })
    };
    text.lines().filter(|line| !line.starts_with("Total ")).map(parse).collect()
}

/// A line of `device key=value key=value`.
pub(super) type Keyed<'t> = (&'t str, Vec<(&'t str, u64)>);

/// Lines of `device key=value key=value`; fields that are no numbers, and lines without any, are left out.
pub(super) fn keyed(text: &str) -> Vec<Keyed<'_>> {
    fn pair(field: &str) -> Option<(&str, u64)> {
        let (key, value) = field.split_once('=')?;
        Some((key, number(value)?))
    }
    fn parse(line: &str) -> Option<Keyed<'_>> {
        let (device, fields) = line.split_once(' ')?;
        let values: Vec<_> = fields.split_ascii_whitespace().filter_map(pair).collect();
        (!values.is_empty()).then_some((device, values))
    }
    text.lines().filter_map(parse).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`.
pub(crate) fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let target = match fields.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        *target = pressure_line(fields)?;
    }
    Some(pressure)
}

fn pressure_line<'t>(fields: impl Iterator<Item = &'t str>) -> Option<PressureLine> {
    let mut line = PressureLine::default();
    for field in fields {
        let (key, value) = field.split_once('=')?;
        match key {
            "avg10" => line.avg10 = value.parse().ok()?,
            "avg60" => line.avg60 = value.parse().ok()?,
            "avg300" => line.avg300 = value.parse().ok()?,
            "total" => line.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_kernels_write_them() {
        for (text, expected) in [("7", Some(7)), ("max", Some(u64::MAX)), ("-1", Some(0)), ("x", None), ("", None)] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(list("0-2,7\n"), Some(vec![0, 1, 2, 7]));
        assert_eq!(list("\n"), Some(vec![]));
        for text in ["2-1", "a", "1-", "70000", "1,,2"] {
            assert_eq!(list(text), None, "{text:?}");
        }
    }

    #[test]
    fn blkio_lines_with_and_without_operation() {
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 16, op: op.to_owned(), value };
        assert_eq!(blkio("8:16 Read 5\n8:16 9\nTotal 5\n"), Some(vec![entry("Read", 5), entry("", 9)]));
        assert_eq!(blkio("8 Read"), None);
        assert_eq!(blkio(""), Some(vec![]));
    }

    #[test]
    fn io_stat_lines() {
        let text = "8:0 rbytes=1 wbytes=2 x\n8:16 \nmlx4_0 hca_handle=2 hca_object=max\n";
        let expected = vec![
            ("8:0", vec![("rbytes", 1), ("wbytes", 2)]),
            ("mlx4_0", vec![("hca_handle", 2), ("hca_object", u64::MAX)]),
        ];
        assert_eq!(keyed(text), expected);
    }

    #[test]
    fn pressure_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let parsed = pressure(text).unwrap();
        assert_eq!((parsed.some.avg10, parsed.some.total, parsed.full.total), (1.5, 42, 7));
        assert_eq!(pressure("some avg10=x"), None);
    }

    #[test]
    fn key_value_lines() {
        assert_eq!(key_values("a 1\nb -2\n").unwrap(), BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
        assert_eq!(key_values("a\n"), None);
    }
}
