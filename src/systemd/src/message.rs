//! Messages: a header, and values.
//!
//! Spec: D-Bus Specification, "Message Format".

use crate::value::{Value, signature_of};
use crate::wire::{MAX_MESSAGE, Reader, WireError, Writer};

/// Bytes of a header that say how long the message is.
pub(crate) const FIXED: usize = 16;

/// Types of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Counts the sender's messages from 1.
    pub(crate) serial: u32,
    /// The serial of the call that this answers.
    pub(crate) reply_to: Option<u32>,
    pub(crate) path: String,
    pub(crate) interface: String,
    /// Method or signal.
    pub(crate) member: String,
    pub(crate) error: String,
    pub(crate) destination: String,
    pub(crate) body: Vec<Value>,
}

/// Codes of header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

impl Message {
    pub(crate) fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Message {
        Message {
            kind: Kind::Call,
            serial: 0,
            reply_to: None,
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            error: String::new(),
            destination: destination.to_owned(),
            body,
        }
    }

    /// Whether it is this signal.
    pub(crate) fn is_signal(&self, interface: &str, member: &str) -> bool {
        self.kind == Kind::Signal && self.interface == interface && self.member == member
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.put(value));
        let mut fields = Vec::new();
        let mut add = |code: u8, value: Value| {
            fields.push(Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]));
        };
        let texts = [
            (field::INTERFACE, &self.interface),
            (field::MEMBER, &self.member),
            (field::ERROR_NAME, &self.error),
            (field::DESTINATION, &self.destination),
        ];
        if !self.path.is_empty() {
            add(field::PATH, Value::Path(self.path.clone()));
        }
        for (code, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            add(code, Value::text(text));
        }
        if let Some(serial) = self.reply_to {
            add(field::REPLY_SERIAL, Value::U32(serial));
        }
        if !self.body.is_empty() {
            add(field::SIGNATURE, Value::Signature(signature_of(&self.body)));
        }
        let mut header = Writer { bytes: vec![b'l', self.kind as u8, 0, 1] };
        header.put_u32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
        header.put_u32(self.serial);
        header.put(&Value::Array("(yv)".to_owned(), fields));
        header.align(8);
        header.bytes.extend(body.bytes);
        header.bytes
    }

    /// How long the message is that begins with these bytes.
    pub(crate) fn size(start: &[u8; FIXED]) -> Result<usize, WireError> {
        let mut reader = Reader::new(&start[4..], is_big_endian(start)?);
        let body = reader.u32()? as usize;
        reader.u32()?;
        let fields = reader.u32()? as usize;
        match (FIXED + fields).next_multiple_of(8).checked_add(body) {
            Some(size) if size <= MAX_MESSAGE => Ok(size),
            _ => Err(WireError::Large("message")),
        }
    }

    /// Decodes a whole message. `None` for a type that is to be ignored.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Message>, WireError> {
        let start: &[u8; FIXED] = bytes.first_chunk().ok_or(WireError::Short)?;
        let big_endian = is_big_endian(start)?;
        if start[3] != 1 {
            return Err(WireError::Invalid("protocol version"));
        }
        let kind = match start[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            0 => return Err(WireError::Invalid("message type")),
            _ => return Ok(None),
        };
        let mut reader = Reader::new(&start[4..], big_endian);
        let body = reader.u32()? as usize;
        let serial = reader.u32()?;
        let split = bytes.len().checked_sub(body).filter(|at| *at >= FIXED).ok_or(WireError::Short)?;
        let (header, body) = bytes.split_at(split);
        let mut message = Message { serial, ..Message::call("", "", "", "", Vec::new()) };
        message.kind = kind;
        let mut signature = String::new();
        // From byte 8, so that alignment counts as in the message.
        let mut reader = Reader::new(&header[8..], big_endian);
        reader.u32()?;
        let Value::Array(_, fields) = reader.value("a(yv)")? else { return Err(WireError::Invalid("header")) };
        for entry in fields {
            message.take_field(entry, &mut signature)?;
        }
        message.body = Reader::new(body, big_endian).body(&signature)?;
        Ok(Some(message))
    }

    fn take_field(&mut self, entry: Value, signature: &mut String) -> Result<(), WireError> {
        let Value::Struct(parts) = entry else { return Err(WireError::Invalid("header")) };
        let [Value::Byte(code), Value::Variant(value)] = parts.as_slice() else {
            return Err(WireError::Invalid("header"));
        };
        match (*code, &**value) {
            (field::PATH, Value::Path(path)) => self.path.clone_from(path),
            (field::INTERFACE, Value::Text(name)) => self.interface.clone_from(name),
            (field::MEMBER, Value::Text(name)) => self.member.clone_from(name),
            (field::ERROR_NAME, Value::Text(name)) => self.error.clone_from(name),
            (field::DESTINATION, Value::Text(name)) => self.destination.clone_from(name),
            (field::SIGNATURE, Value::Signature(types)) => signature.clone_from(types),
            (field::REPLY_SERIAL, Value::U32(serial)) => self.reply_to = Some(*serial),
            // A known field of another type is an error; fields that come after this version are to be ignored.
            (field::PATH..=field::DESTINATION | field::SIGNATURE, _) => return Err(WireError::Invalid("header")),
            _ => {}
        }
        Ok(())
    }
}

fn is_big_endian(start: &[u8; FIXED]) -> Result<bool, WireError> {
    match start[0] {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(WireError::Invalid("byte order")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::any_value;

    /// Put together by hand from the table of header fields in the specification.
    const HELLO: &[u8] = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0\
        \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
        \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
        \x03\x01s\0\x05\0\0\0Hello\0\0\0\
        \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";

    fn hello() -> Message {
        let bus = "org.freedesktop.DBus";
        Message { serial: 1, ..Message::call(bus, "/org/freedesktop/DBus", bus, "Hello", Vec::new()) }
    }

    #[test]
    fn known_bytes() {
        assert_eq!(hello().encode(), HELLO);
        assert_eq!(Message::decode(HELLO), Ok(Some(hello())));
        assert_eq!(Message::size(HELLO.first_chunk().unwrap()), Ok(HELLO.len()));
    }

    #[test]
    fn headers_that_lie_are_errors() {
        let changed = |at: usize, byte: u8| {
            let mut bytes = HELLO.to_vec();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(Message::decode(&changed(0, b'x')), Err(WireError::Invalid("byte order")));
        assert_eq!(Message::decode(&changed(1, 0)), Err(WireError::Invalid("message type")));
        assert_eq!(Message::decode(&changed(1, 9)), Ok(None));
        assert_eq!(Message::decode(&changed(3, 2)), Err(WireError::Invalid("protocol version")));
        assert_eq!(Message::decode(&changed(6, 1)), Err(WireError::Short));
        assert_eq!(Message::size(changed(7, 0x40).first_chunk().unwrap()), Err(WireError::Large("message")));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(body in prop::collection::vec(any_value(), 0..3), serial in 1u32..) {
            prop_assume!(signature_of(&body).len() < 255);
            let message = Message { serial, reply_to: Some(7), body, ..hello() };
            let bytes = message.encode();
            prop_assert_eq!(Message::size(bytes.first_chunk().unwrap()), Ok(bytes.len()));
            prop_assert_eq!(Message::decode(&bytes), Ok(Some(message)));
        }

        #[test]
        fn a_flipped_byte_is_a_message_or_an_error(at in 0..HELLO.len(), byte in any::<u8>()) {
            let mut bytes = HELLO.to_vec();
            bytes[at] = byte;
            let outcome = Message::decode(&bytes);
            prop_assert!(outcome.is_ok() || outcome.is_err());
        }
    }
}
