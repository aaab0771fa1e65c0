//! Maps of sparse files: which pieces of a file an archive has.

use super::header::{BLOCK, OldSparse};
use super::pax::{Record, parse_decimal};

/// Pieces of one file. A map of this length has 16 MiB.
const PIECES_MAX: usize = 1 << 20;

/// Where the extended header says that the map is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Declared {
    /// The map, and the file's length with its holes.
    Map(u64, Vec<(u64, u64)>),
    /// The map stands in front of the content (format 1.0); the file's length with its holes.
    InContent(u64),
}

/// Reads what records say of a sparse file: the formats 0.0, 0.1 and 1.0 of GNU tar. None when they say nothing.
///
/// GNU tar manual, "Storing Sparse Files", "PAX Format".
pub(super) fn parse_declared(records: &[Record]) -> Result<Option<Declared>, ()> {
    let value = |name: &[u8]| records.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let number = |text: &[u8]| parse_decimal(text).ok_or(());
    if let (Some(b"1"), Some(b"0")) = (value(b"GNU.sparse.major"), value(b"GNU.sparse.minor")) {
        return number(value(b"GNU.sparse.realsize").ok_or(())?).map(|size| Some(Declared::InContent(size)));
    }
    let Some(size) = value(b"GNU.sparse.size") else { return Ok(None) };
    let size = number(size)?;
    if let Some(map) = value(b"GNU.sparse.map") {
        let numbers = map.split(|byte| *byte == b',').filter(|text| !text.is_empty()).map(number);
        return pair(numbers.collect::<Result<_, _>>()?).map(|map| Some(Declared::Map(size, map)));
    }
    let is_piece = |key: &[u8]| matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
    let numbers = records.iter().filter(|(key, _)| is_piece(key)).map(|(_, value)| number(value));
    pair(numbers.collect::<Result<_, _>>()?).map(|map| Some(Declared::Map(size, map)))
}

fn pair(numbers: Vec<u64>) -> Result<Vec<(u64, u64)>, ()> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > PIECES_MAX {
        return Err(());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Collects the map that stands in front of the content, block by block.
#[derive(Debug, Default)]
pub(super) struct InContent {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl InContent {
    /// Takes the next block. Returns the map once it is whole; the rest of that block is padding.
    pub(super) fn push(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<(u64, u64)>>, ()> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(());
                }
                continue;
            }
            self.numbers.push(parse_decimal(&self.digits).ok_or(())?);
            self.digits.clear();
            let count = self.numbers[0];
            if count > PIECES_MAX as u64 {
                return Err(());
            }
            if self.numbers.len() as u64 == 1 + 2 * count {
                return pair(self.numbers.split_off(1)).map(Some);
            }
        }
        Ok(None)
    }
}

/// Adds the pieces of a block that continues GNU's old map.
pub(super) fn extend(old: &mut OldSparse, pieces: Vec<(u64, u64)>, more: bool) -> Result<(), ()> {
    old.extended = more;
    old.pieces.extend(pieces);
    if old.pieces.len() > PIECES_MAX { Err(()) } else { Ok(()) }
}

/// Checks that the pieces ascend, do not overlap, lie in the file, and are as long together as the content.
///
/// Pieces without length are left out: they mark the end.
pub(super) fn validate(map: Vec<(u64, u64)>, size: u64, content: u64) -> Result<Vec<(u64, u64)>, ()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in &map {
        if *offset < end {
            return Err(());
        }
        end = offset.checked_add(*length).ok_or(())?;
        sum = sum.checked_add(*length).ok_or(())?;
    }
    if end > size || sum != content {
        return Err(());
    }
    Ok(map.into_iter().filter(|(_, length)| *length > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&str, &str)]) -> Vec<Record> {
        pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_three_formats_are_read() {
        let check = |pairs: &[(&str, &str)], expected| assert_eq!(parse_declared(&records(pairs)), expected);
        check(&[("path", "a")], Ok(None));
        let zero = [
            ("GNU.sparse.size", "20"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "1"),
            ("GNU.sparse.offset", "10"),
            ("GNU.sparse.numbytes", "2"),
        ];
        check(&zero, Ok(Some(Declared::Map(20, vec![(0, 1), (10, 2)]))));
        check(&zero[..4], Err(()));
        check(
            &[("GNU.sparse.size", "20"), ("GNU.sparse.map", "0,1,10,2")],
            Ok(Some(Declared::Map(20, vec![(0, 1), (10, 2)]))),
        );
        check(&[("GNU.sparse.size", "20"), ("GNU.sparse.map", "0,x")], Err(()));
        let one = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
        check(&one, Ok(Some(Declared::InContent(9))));
        check(&one[..2], Err(()));
    }

    #[test]
    fn a_map_in_front_of_the_content_may_cross_blocks() {
        let mut text = b"100\n".to_vec();
        let expected: Vec<(u64, u64)> = (0..100).map(|n| (n * 1000, 10)).collect();
        for (offset, length) in &expected {
            text.extend(format!("{offset}\n{length}\n").into_bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let mut reader = InContent::default();
        let mut found = None;
        for block in text.chunks_exact(BLOCK) {
            assert_eq!(found, None);
            found = reader.push(block.try_into().unwrap()).unwrap();
        }
        assert_eq!(found, Some(expected));
        let mut endless = [b'1'; BLOCK];
        assert_eq!(InContent::default().push(&endless), Err(()));
        endless[..10].copy_from_slice(b"999999999\n");
        assert_eq!(InContent::default().push(&endless), Err(()));
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let check = |map: &[(u64, u64)], size, content, good| {
            assert_eq!(validate(map.to_vec(), size, content).is_ok(), good, "{map:?}");
        };
        check(&[(0, 1), (5, 2)], 7, 3, true);
        check(&[(0, 1), (5, 2)], 6, 3, false);
        check(&[(0, 1), (5, 2)], 7, 4, false);
        check(&[(5, 2), (0, 1)], 7, 3, false);
        check(&[(0, 6), (5, 1)], 7, 7, false);
        check(&[(u64::MAX, 2)], u64::MAX, 2, false);
        assert_eq!(validate(vec![(0, 1), (7, 0)], 7, 1), Ok(vec![(0, 1)]));
    }
}
