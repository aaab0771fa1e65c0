//! Values as bytes.
//!
//! Spec: D-Bus Specification, "Marshaling (Wire Format)". Each value starts at a multiple of its alignment, counted from
//! the start of the message; both ends may have either byte order, each message says which.

use crate::value::{MAX_DEPTH, Value, first_type, split};

/// The largest array that the specification allows: 64 MiB.
const MAX_ARRAY: usize = 64 << 20;
/// The largest message that is taken, and the most memory that the values of a header or a body may take: 8 MiB. The
/// specification allows messages of 128; what systemd answers has some kilobytes. Memory has a bound of its own since a
/// byte of an array becomes a whole [`Value`].
pub(crate) const MAX_MESSAGE: usize = 8 << 20;

/// What is wrong with bytes that came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end too early.
    #[error("it is cut off")]
    Short,
    /// Padding that is not zero, a boolean that is neither, text without its end, and the like.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// A size that no honest peer sends.
    #[error("{0} is too large")]
    Large(&'static str),
}

/// The alignment of a type, by its first code.
fn alignment(code: u8) -> usize {
    match code {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

/// Writes values, in little-endian order.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(crate) fn put_u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_u32(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        // What is sent from here has a handful of codes, and what an annotation says is held to the bound by its parser.
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    pub(crate) fn put(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(on) => self.put_u32(u32::from(*on)),
            Value::I16(n) => self.put_number(&n.to_le_bytes()),
            Value::U16(n) => self.put_number(&n.to_le_bytes()),
            Value::I32(n) => self.put_number(&n.to_le_bytes()),
            Value::U32(n) => self.put_number(&n.to_le_bytes()),
            Value::I64(n) => self.put_number(&n.to_le_bytes()),
            Value::U64(n) => self.put_number(&n.to_le_bytes()),
            Value::Double(n) => self.put_number(&n.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => self.put_text(text),
            Value::Signature(text) => self.put_signature(text),
            Value::Array(element, values) => self.put_array(element, values),
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.put(field));
            }
            Value::Entry(key, value) => {
                self.align(8);
                self.put(key);
                self.put(value);
            }
            Value::Variant(inner) => {
                self.put_signature(&inner.signature());
                self.put(inner);
            }
        }
    }

    fn put_number(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.bytes.extend(bytes);
    }

    /// The length does not count the padding before the first element, which is there even without elements.
    fn put_array(&mut self, element: &str, values: &[Value]) {
        self.put_u32(0);
        let place = self.bytes.len() - 4;
        self.align(element.bytes().next().map_or(1, alignment));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.put(value));
        let size = length(self.bytes.len() - start).to_le_bytes();
        self.bytes[place..place + 4].copy_from_slice(&size);
    }
}

/// A length as the wire has it. Nothing that is sent comes near 4 GiB; the peer refuses what does.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Reads values.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
    /// Bytes of memory that values may still take.
    memory: usize,
}

impl<'a> Reader<'a> {
    /// Begins at a multiple of 8 of the message.
    pub(crate) fn new(bytes: &'a [u8], big_endian: bool) -> Reader<'a> {
        Reader { bytes, at: 0, big_endian, memory: MAX_MESSAGE }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count).ok_or(WireError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), WireError> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(WireError::Invalid("padding")) }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    /// Takes the memory of what is going to be allocated.
    fn spend(&mut self, bytes: usize) -> Result<(), WireError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(WireError::Large("number of values"))?;
        Ok(())
    }

    fn terminated(&mut self, count: usize) -> Result<String, WireError> {
        let text = self.take(count)?;
        if self.take(1)? != [0] || text.contains(&0) {
            return Err(WireError::Invalid("text"));
        }
        self.spend(count)?;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Invalid("text"))
    }

    fn signature(&mut self) -> Result<String, WireError> {
        let count = usize::from(self.take(1)?[0]);
        let text = self.terminated(count)?;
        if split(&text).is_some() { Ok(text) } else { Err(WireError::Invalid("signature")) }
    }

    /// One value of one complete type.
    pub(crate) fn value(&mut self, signature: &str) -> Result<Value, WireError> {
        self.value_at(signature, 0)
    }

    fn value_at(&mut self, signature: &str, depth: usize) -> Result<Value, WireError> {
        // Variants nest without a word in the signature.
        if depth > MAX_DEPTH {
            return Err(WireError::Large("nesting"));
        }
        self.spend(size_of::<Value>())?;
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(self.take(1)?[0]),
            Some(b'b') => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(WireError::Invalid("boolean")),
            },
            Some(b'n') => Value::I16(i16::from_le_bytes(self.number()?)),
            Some(b'q') => Value::U16(u16::from_le_bytes(self.number()?)),
            Some(b'i') => Value::I32(i32::from_le_bytes(self.number()?)),
            // The index of a descriptor is a number to us: none is ever asked for.
            Some(b'u' | b'h') => Value::U32(self.u32()?),
            Some(b'x') => Value::I64(i64::from_le_bytes(self.number()?)),
            Some(b't') => Value::U64(u64::from_le_bytes(self.number()?)),
            Some(b'd') => Value::Double(f64::from_le_bytes(self.number()?)),
            Some(code @ (b's' | b'o')) => {
                let count = self.u32()? as usize;
                let text = self.terminated(count)?;
                if *code == b's' { Value::Text(text) } else { Value::Path(text) }
            }
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'a') => self.array(&signature[1..], depth)?,
            Some(b'(') => {
                self.align(8)?;
                let fields = split(&signature[1..signature.len() - 1]).ok_or(WireError::Invalid("signature"))?;
                let mut values = Vec::with_capacity(fields.len());
                for field in fields {
                    values.push(self.value_at(field, depth + 1)?);
                }
                Value::Struct(values)
            }
            Some(b'{') => {
                self.align(8)?;
                let (key, value) = signature[1..signature.len() - 1].split_at(1);
                let key = self.value_at(key, depth + 1)?;
                Value::Entry(Box::new(key), Box::new(self.value_at(value, depth + 1)?))
            }
            Some(b'v') => {
                let inner = self.signature()?;
                if first_type(&inner) != Some(inner.len()) {
                    return Err(WireError::Invalid("variant"));
                }
                Value::Variant(Box::new(self.value_at(&inner, depth + 1)?))
            }
            _ => return Err(WireError::Invalid("signature")),
        })
    }

    fn array(&mut self, element: &str, depth: usize) -> Result<Value, WireError> {
        let size = self.u32()? as usize;
        if size > MAX_ARRAY {
            return Err(WireError::Large("array"));
        }
        self.align(element.bytes().next().map_or(1, alignment))?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or(WireError::Short)?;
        self.spend(element.len())?;
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value_at(element, depth + 1)?);
        }
        // A vector takes room for four at least, which many short arrays would multiply.
        values.shrink_to_fit();
        if self.at == end { Ok(Value::Array(element.to_owned(), values)) } else { Err(WireError::Invalid("array")) }
    }

    /// All values of a body.
    pub(crate) fn body(&mut self, signature: &str) -> Result<Vec<Value>, WireError> {
        let types = split(signature).ok_or(WireError::Invalid("signature"))?;
        let values = types.into_iter().map(|one| self.value(one)).collect::<Result<_, _>>()?;
        if self.is_at_end() { Ok(values) } else { Err(WireError::Invalid("length of the body")) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::{MAX_SIGNATURE, signature_of};

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (-1e9..1e9).prop_map(Value::Double),
            "[^\0]{0,12}".prop_map(Value::Text),
            "(/[a-z0-9_]{1,5}){1,3}".prop_map(Value::Path),
            Just(Value::Signature("a(sv)".to_owned())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                inner
                    .clone()
                    .prop_filter("a signature has a bound", |value| value.signature().len() <= MAX_SIGNATURE)
                    .prop_map(|value| Value::Variant(Box::new(value))),
                // All elements have one type: the same value several times.
                (inner.clone(), 0usize..4)
                    .prop_map(|(value, count)| Value::Array(value.signature(), vec![value; count])),
                (any::<u16>(), inner).prop_map(|(key, value)| {
                    let entry = Value::Entry(Box::new(Value::U16(key)), Box::new(value));
                    Value::Array(entry.signature(), vec![entry])
                }),
            ]
        })
    }

    fn encode(values: &[Value]) -> Vec<u8> {
        let mut writer = Writer::default();
        values.iter().for_each(|value| writer.put(value));
        writer.bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(any_value(), 0..4)) {
            let bytes = encode(&values);
            let read = Reader::new(&bytes, false).body(&signature_of(&values));
            prop_assert_eq!(read, Ok(values));
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..96), value in any_value(), big in any::<bool>(),
        ) {
            // Must return, whatever it says.
            let outcome = Reader::new(&bytes, big).body(&value.signature());
            prop_assert!(outcome.is_ok() || outcome.is_err());
        }

        #[test]
        fn what_is_cut_off_is_an_error(value in any_value(), part in 0.0..1.0) {
            let bytes = encode(std::slice::from_ref(&value));
            let kept = (bytes.len() as f64 * part) as usize;
            prop_assert!(Reader::new(&bytes[..kept], false).body(&value.signature()).is_err());
        }
    }

    /// The examples of the specification, "Marshaling (Wire Format)" and "Marshalling containers".
    #[test]
    fn known_bytes() {
        let text = |text: &str| Value::text(text);
        let check = |value: Value, expected: &[u8]| {
            assert_eq!(encode(std::slice::from_ref(&value)), expected);
            assert_eq!(Reader::new(expected, false).body(&value.signature()), Ok(vec![value]));
        };
        check(text("foo"), b"\x03\0\0\0foo\0");
        check(Value::Array("x".to_owned(), vec![Value::I64(5)]), b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
        check(Value::Array("x".to_owned(), vec![]), b"\0\0\0\0\0\0\0\0");
        check(Value::Variant(Box::new(Value::U32(258))), b"\x01u\0\0\x02\x01\0\0");
        check(Value::Struct(vec![Value::Byte(1), Value::U16(2)]), b"\x01\0\x02\0");
    }

    #[test]
    fn the_other_byte_order_is_read_too() {
        let read = Reader::new(b"\0\0\0\x03foo\0\x01\x02", true).body("sq").unwrap();
        assert_eq!(read, [Value::text("foo"), Value::U16(0x0102)]);
    }

    #[test]
    fn what_no_honest_peer_sends_is_an_error() {
        let check = |signature: &str, bytes: &[u8], expected: WireError| {
            assert_eq!(Reader::new(bytes, false).body(signature), Err(expected), "{signature} {bytes:?}");
        };
        check("b", b"\x02\0\0\0", WireError::Invalid("boolean"));
        check("s", b"\x02\0\0\0a\0\0", WireError::Invalid("text"));
        check("s", b"\x01\0\0\0ab", WireError::Invalid("text"));
        check("s", b"\x01\0\0\0\xff\0", WireError::Invalid("text"));
        check("ay", b"\xff\xff\xff\xff", WireError::Large("array"));
        check("ay", b"\x02\0\0\0a", WireError::Short);
        check("ai", b"\x02\0\0\0\0\0\0\0", WireError::Invalid("array"));
        check("yu", b"\x01\x01\0\0\0\0\0\0", WireError::Invalid("padding"));
        check("v", b"\x02yy\0\0\0", WireError::Invalid("variant"));
        check("y", b"\0\0", WireError::Invalid("length of the body"));
        check("v", &b"\x01v\0".repeat(80), WireError::Large("nesting"));
    }
}
