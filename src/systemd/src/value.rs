//! Values of D-Bus and their types.
//!
//! Spec: D-Bus Specification, "Type System". A type is a string of codes: `s` is text, `as` a list of texts, `(sv)` a
//! pair of text and variant.

use std::fmt;

use serde::{Serialize, Serializer};

/// How deep arrays, structs and variants may lie in each other, all together (D-Bus Specification, "Valid Signatures" has
/// 32 for arrays and 32 for structs).
pub(crate) const MAX_DEPTH: usize = 64;

/// The longest signature (D-Bus Specification, "Valid Signatures"); its length is one byte on the wire.
pub(crate) const MAX_SIGNATURE: usize = 255;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`: the type of its elements, and those.
    Array(String, Vec<Value>),
    /// `( )`
    Struct(Vec<Value>),
    /// `{ }`, an element of an array.
    Entry(Box<Value>, Box<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A list of texts.
    #[must_use]
    pub fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Value {
        Value::Array("s".to_owned(), texts.into_iter().map(Value::text).collect())
    }

    /// A list of bytes.
    #[must_use]
    pub fn bytes(bytes: impl IntoIterator<Item = u8>) -> Value {
        Value::Array("y".to_owned(), bytes.into_iter().map(Value::Byte).collect())
    }

    /// The type.
    #[must_use]
    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::I16(_) => "n".to_owned(),
            Value::U16(_) => "q".to_owned(),
            Value::I32(_) => "i".to_owned(),
            Value::U32(_) => "u".to_owned(),
            Value::I64(_) => "x".to_owned(),
            Value::U64(_) => "t".to_owned(),
            Value::Double(_) => "d".to_owned(),
            Value::Text(_) => "s".to_owned(),
            Value::Path(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => format!("({})", signature_of(fields)),
            Value::Entry(key, value) => format!("{{{}{}}}", key.signature(), value.signature()),
            Value::Variant(_) => "v".to_owned(),
        }
    }

    /// Text, an object's path or a signature.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// The value in a variant, or this one.
    #[must_use]
    pub fn inner(&self) -> &Value {
        match self {
            Value::Variant(inner) => inner,
            other => other,
        }
    }
}

/// The types of several values after each other.
pub(crate) fn signature_of(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

/// The length of the first complete type of a signature; `None` where there is none.
pub(crate) fn first_type(signature: &str) -> Option<usize> {
    complete(signature.as_bytes(), 0)
}

fn complete(codes: &[u8], depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    match codes.first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h' => Some(1),
        b'a' if codes.get(1) == Some(&b'{') => {
            let key = complete(codes.get(2..3)?, depth + 1)?;
            let value = complete(codes.get(2 + key..)?, depth + 1)?;
            (codes.get(2 + key + value) == Some(&b'}')).then_some(3 + key + value)
        }
        b'a' => complete(&codes[1..], depth + 1).map(|element| 1 + element),
        b'(' => {
            let mut at = 1;
            while *codes.get(at)? != b')' {
                at += complete(&codes[at..], depth + 1)?;
            }
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}

/// Splits a signature into complete types; `None` where it is not valid.
pub(crate) fn split(mut signature: &str) -> Option<Vec<&str>> {
    let mut types = Vec::new();
    while !signature.is_empty() {
        let (first, rest) = signature.split_at(first_type(signature)?);
        types.push(first);
        signature = rest;
    }
    Some(types)
}

/// Prints in the text format of GVariant, so that what a plan shows can be an annotation's value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Value], (open, close): (&str, &str)| {
            f.write_str(open)?;
            for (index, value) in values.iter().enumerate() {
                write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
            }
            f.write_str(close)
        };
        match self {
            Value::Byte(n) => write!(f, "byte {n}"),
            Value::Bool(on) => write!(f, "{on}"),
            Value::I16(n) => write!(f, "int16 {n}"),
            Value::U16(n) => write!(f, "uint16 {n}"),
            Value::I32(n) => write!(f, "{n}"),
            Value::U32(n) => write!(f, "uint32 {n}"),
            Value::I64(n) => write!(f, "int64 {n}"),
            Value::U64(n) => write!(f, "uint64 {n}"),
            Value::Double(n) => write!(f, "double {n:?}"),
            Value::Text(text) => quote(f, text),
            Value::Path(text) => f.write_str("objectpath ").and_then(|()| quote(f, text)),
            Value::Signature(text) => f.write_str("signature ").and_then(|()| quote(f, text)),
            Value::Array(element, values) if values.is_empty() => write!(f, "@a{element} []"),
            Value::Array(element, values) if element.starts_with('{') => list(f, values, ("{", "}")),
            Value::Array(_, values) => list(f, values, ("[", "]")),
            Value::Struct(fields) if fields.len() == 1 => list(f, fields, ("(", ",)")),
            Value::Struct(fields) => list(f, fields, ("(", ")")),
            Value::Entry(key, value) => write!(f, "{key}: {value}"),
            Value::Variant(inner) => write!(f, "<{inner}>"),
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    for c in text.chars() {
        match c {
            '\'' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("'")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_split_into_complete_types() {
        assert_eq!(split("ssa(sv)a(sa(sv))"), Some(vec!["s", "s", "a(sv)", "a(sa(sv))"]));
        assert_eq!(split("a{sv}y"), Some(vec!["a{sv}", "y"]));
        assert_eq!(split(""), Some(vec![]));
        for bad in ["a", "(", "()", "(s", "z", "{sv}", "a{s}", "a{sss}", "a{(s)v}", "r", "s)"] {
            assert_eq!(split(bad), None, "{bad}");
        }
        assert_eq!(split(&format!("{}s", "a".repeat(MAX_DEPTH + 1))), None);
    }

    #[test]
    fn values_print_as_gvariant_text() {
        let pair = Value::Struct(vec![Value::text("/dev/char/1:3"), Value::text("rwm")]);
        let check = |value: Value, expected: &str| assert_eq!(value.to_string(), expected);
        check(Value::Array("(ss)".to_owned(), vec![pair]), "[('/dev/char/1:3', 'rwm')]");
        check(Value::Array("(ss)".to_owned(), vec![]), "@a(ss) []");
        check(Value::U64(7), "uint64 7");
        check(Value::text("it's\n"), "'it\\'s\\n'");
        check(Value::Struct(vec![Value::Bool(true)]), "(true,)");
    }
}
