//! The wire format of protocol buffers, as far as CRIU's messages need it: varints and length-delimited fields.
//!
//! Source: protobuf.dev, "Encoding". A field is a key, `number << 3 | type`, then its value.

use std::fmt;

/// Wire type of a varint.
const VARINT: u64 = 0;
/// Wire type of eight bytes.
const FIXED64: u64 = 1;
/// Wire type of a length and as many bytes.
const LENGTH_DELIMITED: u64 = 2;
/// Wire type of four bytes.
const FIXED32: u64 = 5;

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// An unsigned number, also an enum's.
    pub(super) fn uint(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// A signed number. A negative one takes ten bytes: it is extended to 64 bits first.
    pub(super) fn int(&mut self, field: u32, value: i32) {
        self.uint(field, i64::from(value).cast_unsigned());
    }

    /// A switch that is on. One that is off is left out, which means the same to CRIU.
    pub(super) fn flag(&mut self, field: u32, on: bool) {
        if on {
            self.uint(field, 1);
        }
    }

    /// A text.
    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.delimited(field, value.as_bytes());
    }

    /// A text that may be absent.
    pub(super) fn optional(&mut self, field: u32, value: Option<&str>) {
        if let Some(value) = value {
            self.text(field, value);
        }
    }

    /// A message inside the message.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        write(&mut inner);
        self.delimited(field, &inner.bytes);
    }

    fn delimited(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, a switch, or an enum's.
    Number(u64),
    /// A text, or a message.
    Bytes(&'a [u8]),
    /// Of a type that none of our messages has.
    Other,
}

impl<'a> Value<'a> {
    /// The number as a signed one of 32 bits; what is above them is sign extension.
    pub(super) fn int(self) -> Option<i32> {
        match self {
            Value::Number(number) => Some(number as u32 as i32),
            _ => None,
        }
    }

    /// Whether a switch is on.
    pub(super) fn is_on(self) -> bool {
        matches!(self, Value::Number(number) if number != 0)
    }

    /// The bytes of a message inside; none for a number.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The text.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a protocol buffer message")
    }
}

/// Goes through the fields of a message in the order in which they stand.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            LENGTH_DELIMITED => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Other)?,
            FIXED32 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    /// The next field; after bytes that are none it ends.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    /// The examples of the format's own documentation.
    #[test]
    fn known_bytes_are_written() {
        assert_eq!(written(|w| w.uint(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|w| w.text(2, "testing")), *b"\x12\x07testing");
        assert_eq!(written(|w| w.message(3, |w| w.uint(1, 150))), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(written(|w| w.int(1, -2)), *b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(written(|w| w.flag(34, true)), [0x90, 0x02, 0x01]);
        assert_eq!(written(|w| w.flag(34, false)), *b"");
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written(|w| {
            w.int(2, -1);
            w.text(50, "x");
            w.uint(3, u64::MAX);
        });
        let fields: Vec<_> = Reader::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields.len(), 3);
        assert_eq!((fields[0].0, fields[0].1.int()), (2, Some(-1)));
        assert_eq!((fields[1].0, fields[1].1.text()), (50, "x".to_owned()));
        assert_eq!(fields[2], (3, Value::Number(u64::MAX)));
    }

    #[test]
    fn fields_of_other_types_are_passed_over() {
        let bytes = b"\x09\0\0\0\0\0\0\0\0\x15\0\0\0\0\x18\x01";
        let fields: Vec<_> = Reader::new(bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields, [(1, Value::Other), (2, Value::Other), (3, Value::Number(1))]);
    }

    #[test]
    fn foreign_bytes_are_refused_and_end() {
        for bytes in
            [&b"\x08"[..], b"\x12\x05abc", b"\x0b", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x09\0"]
        {
            let fields: Vec<_> = Reader::new(bytes).collect();
            assert_eq!(fields, [Err(Malformed)], "{bytes:?}");
        }
    }
}
