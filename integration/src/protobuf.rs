//! The few bytes of the protocol buffers wire format that the Container Runtime Interface and CRIU's requests need.
//!
//! Source: "Encoding", the protocol buffers documentation: a field is a varint of `number << 3 | type`, followed by a
//! varint (type 0) or a length and that many bytes (type 2). Neither uses other types.

use anyhow::{Context, Result, bail};

/// A message under construction. Fields that have their default value need not be written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Starts an empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number, a bool as 0 or 1, or an enum's value.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// Adds a text or bytes.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Adds one entry of a map from text to text.
    #[must_use]
    pub fn entry(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, &Self::new().bytes(1, key).bytes(2, value))
    }

    /// The encoded message.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A value that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A number, a bool or an enum's value.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(Vec<u8>),
}

/// A message that was read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields(Vec<(u32, Value)>);

impl Fields {
    /// Reads a message.
    ///
    /// # Errors
    /// It ends within a field, or has a type that the interface does not use.
    pub fn parse(mut rest: &[u8]) -> Result<Self> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = read_varint(&mut rest)?;
            let number = u32::try_from(key >> 3)?;
            let value = match key & 7 {
                0 => Value::Number(read_varint(&mut rest)?),
                2 => {
                    let length = usize::try_from(read_varint(&mut rest)?)?;
                    let (bytes, after) = rest.split_at_checked(length).context("a field is longer than its message")?;
                    rest = after;
                    Value::Bytes(bytes.to_owned())
                }
                other => bail!("field {number} has the wire type {other}"),
            };
            fields.push((number, value));
        }
        Ok(Self(fields))
    }

    /// All fields in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &(u32, Value)> {
        self.0.iter()
    }

    /// The number in a field; 0, as the format has it, where there is none.
    #[must_use]
    pub fn number(&self, field: u32) -> u64 {
        self.given_number(field).unwrap_or(0)
    }

    /// The number in a field, told apart from none.
    #[must_use]
    pub fn given_number(&self, field: u32) -> Option<u64> {
        self.0.iter().rev().find_map(|(number, value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    /// The text in a field; empty where there is none.
    #[must_use]
    pub fn text(&self, field: u32) -> String {
        String::from_utf8_lossy(self.all(field).last().copied().unwrap_or_default()).into_owned()
    }

    /// The message in a field; an empty one where there is none.
    ///
    /// # Errors
    /// It is not a message.
    pub fn message(&self, field: u32) -> Result<Self> {
        Self::parse(self.all(field).last().copied().unwrap_or_default())
    }

    /// All messages of a repeated field.
    ///
    /// # Errors
    /// One is not a message.
    pub fn messages(&self, field: u32) -> Result<Vec<Self>> {
        self.all(field).into_iter().map(Self::parse).collect()
    }

    fn all(&self, field: u32) -> Vec<&[u8]> {
        let with_bytes = |(number, value): &'_ (u32, Value)| *number == field && matches!(value, Value::Bytes(_));
        let fields = self.0.iter().filter(|entry| with_bytes(entry));
        fields.filter_map(|(_, value)| if let Value::Bytes(bytes) = value { Some(&bytes[..]) } else { None }).collect()
    }
}

fn read_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first().context("a message ends within a number")?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number has more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_documentation_shows() {
        // The documentation's own examples: field 1 as 150, field 2 as "testing", field 3 as the first message.
        assert_eq!(Message::new().number(1, 150).encoded(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().bytes(2, "testing").encoded(), b"\x12\x07testing");
        let nested = Message::new().message(3, &Message::new().number(1, 150));
        assert_eq!(nested.encoded(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn what_was_written_is_read() {
        let inner = Message::new().number(1, u64::MAX).bytes(2, "x");
        let outer = Message::new().message(18, &inner).message(18, &Message::new()).number(3, 1).entry(4, "k", "v");
        let read = Fields::parse(outer.encoded()).unwrap();
        assert_eq!(read.number(3), 1);
        assert_eq!(read.number(99), 0);
        let inner = read.messages(18).unwrap();
        assert_eq!((inner.len(), inner[0].number(1), inner[0].text(2)), (2, u64::MAX, "x".to_owned()));
        assert_eq!(read.message(4).unwrap().text(2), "v");
    }

    #[test]
    fn a_cut_message_is_refused() {
        assert!(Fields::parse(&[0x12, 0x07, b't']).is_err());
        assert!(Fields::parse(&[0x08, 0x96]).is_err());
        assert!(Fields::parse(&[0x0d, 0, 0, 0, 0]).is_err());
    }
}
