//! One header block of an archive: 512 bytes with a check sum.
//!
//! POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and "The Sparse File Format".

use super::TarError;

/// Bytes of a block. Headers and contents are multiples of it.
pub(crate) const BLOCK: usize = 512;

/// A header block as it stands, before extensions are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The name, with the ustar prefix in front.
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    /// The type flag; 0 in archives of V7.
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Bytes of content that follow.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
    /// Flag `S` of GNU: size with holes, the first pieces, and whether a block with more of them follows.
    pub(crate) sparse: Option<OldSparse>,
}

/// The map of a sparse file as GNU wrote it before pax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OldSparse {
    pub(crate) size: u64,
    pub(crate) pieces: Vec<(u64, u64)>,
    pub(crate) extended: bool,
}

/// Whether a block is all zeros: two of them end an archive.
pub(crate) fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Reads a header block. `at` is its place in the archive, for errors.
pub(crate) fn parse_header(block: &[u8; BLOCK], at: u64) -> Result<Header, TarError> {
    validate_sum(block, at)?;
    let number = |field: &'static str, range: std::ops::Range<usize>| {
        parse_number(&block[range]).ok_or(TarError::Field { field, at })
    };
    let count = |field: &'static str, range: std::ops::Range<usize>| {
        number(field, range).and_then(|value| u64::try_from(value).map_err(|_| TarError::Field { field, at }))
    };
    let gnu = &block[257..265] == b"ustar  \0";
    let ustar = &block[257..262] == b"ustar";
    let flag = block[156];
    let mut name = parse_text(&block[..100]).to_vec();
    // GNU keeps other things where ustar has the prefix; star says so by its own mark at the end.
    let prefix_end = if &block[508..512] == b"tar\0" { 131 + 345 } else { 500 };
    if ustar && !gnu && block[345] != 0 {
        let mut full = parse_text(&block[345..prefix_end]).to_vec();
        full.push(b'/');
        full.append(&mut name);
        name = full;
    }
    let device = |range| {
        count("device", range).and_then(|n| u32::try_from(n).map_err(|_| TarError::Field { field: "device", at }))
    };
    // Only devices have these fields: others may leave anything there.
    let device = if matches!(flag, b'3' | b'4') { (device(329..337)?, device(337..345)?) } else { (0, 0) };
    let sparse = if flag == b'S' { Some(parse_old_sparse(block, at)?) } else { None };
    Ok(Header {
        name,
        link: parse_text(&block[157..257]).to_vec(),
        flag,
        mode: (count("mode", 100..108)? & 0o7777) as u32,
        uid: count("uid", 108..116)?,
        gid: count("gid", 116..124)?,
        size: count("size", 124..136)?,
        mtime: number("mtime", 136..148)?,
        device,
        sparse,
    })
}

fn parse_old_sparse(block: &[u8; BLOCK], at: u64) -> Result<OldSparse, TarError> {
    let size = parse_number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
    Ok(OldSparse {
        size: size.ok_or(TarError::Field { field: "real size", at })?,
        pieces: parse_pieces(&block[386..482], at)?,
        extended: block[482] != 0,
    })
}

/// Reads a block that continues the map of a sparse file: pieces, and whether another follows.
pub(crate) fn parse_sparse_block(block: &[u8; BLOCK], at: u64) -> Result<(Vec<(u64, u64)>, bool), TarError> {
    Ok((parse_pieces(&block[..504], at)?, block[504] != 0))
}

fn parse_pieces(bytes: &[u8], at: u64) -> Result<Vec<(u64, u64)>, TarError> {
    let mut pieces = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair.iter().all(|byte| *byte == 0) {
            break;
        }
        let number = |bytes| parse_number(bytes).and_then(|n| u64::try_from(n).ok());
        match (number(&pair[..12]), number(&pair[12..])) {
            (Some(offset), Some(length)) => pieces.push((offset, length)),
            _ => return Err(TarError::Field { field: "sparse map", at }),
        }
    }
    Ok(pieces)
}

/// The sum of all bytes, those of the sum itself taken as blanks. Some old tools summed signed bytes.
fn validate_sum(block: &[u8; BLOCK], at: u64) -> Result<(), TarError> {
    let stored = parse_number(&block[148..156]).ok_or(TarError::Field { field: "check sum", at })?;
    let bytes = || block.iter().enumerate().map(|(index, byte)| if (148..156).contains(&index) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    if stored == unsigned || stored == signed { Ok(()) } else { Err(TarError::Sum { at }) }
}

/// A text up to its NUL or to the field's end.
fn parse_text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads octal digits between blanks and NULs, or with the first bit set a number to base 256 in two's complement.
///
/// An empty field is 0. None for anything else, and past 63 bits.
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return parse_binary(field);
    }
    let start = field.iter().position(|byte| *byte != b' ' && *byte != 0).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| *byte == b' ' || *byte == 0).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

fn parse_binary(field: &[u8]) -> Option<i64> {
    // Bit 7 says that the number is binary, bit 6 is its sign.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i64::from(field[0] | 0x80) - 256 } else { i64::from(field[0] & 0x7f) };
    field[1..].iter().try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        let check = |field: &[u8], expected| assert_eq!(parse_number(field), expected, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"77777777777", Some(0o77_777_777_777));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"        ", Some(0));
        check(b"0000648\0", None);
        check(b"-000064\0", None);
        check(b"\x80\0\0\0\0\0\x01\0", Some(256));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX));
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
        check(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
    }

    #[test]
    fn a_wrong_sum_is_refused() {
        let mut block = [0; BLOCK];
        block[0] = b'a';
        assert!(matches!(parse_header(&block, 1024), Err(TarError::Sum { at: 1024 })));
        block[148..156].copy_from_slice(b"000541\0 ");
        assert_eq!(parse_header(&block, 0).unwrap().name, b"a");
    }
}
