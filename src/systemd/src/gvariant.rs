//! Values as people write them: the text format of GVariant.
//!
//! Spec: GLib, "GVariant Text Format". What is understood: booleans, numbers, text, byte strings, arrays, tuples,
//! dictionaries, variants, and types written as a keyword (`uint64 5`) or a signature (`@as []`).

use std::iter::Peekable;
use std::str::CharIndices;

use crate::value::{MAX_DEPTH, MAX_SIGNATURE, Value, first_type, split};

/// The longest text that is taken: 64 KiB.
const MAX_TEXT: usize = 64 << 10;

/// Why a text is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct ParseError {
    /// What is wrong.
    pub reason: &'static str,
    /// Where.
    pub at: usize,
}

/// A value whose type may not be settled yet.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Bool(bool),
    /// Digits with a sign, with a fraction or an exponent where it is a float.
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Node>),
    Tuple(Vec<Node>),
    Dict(Vec<(Node, Node)>),
    Variant(Box<Node>),
    Typed(String, Box<Node>),
}

/// Parses a value. An integer without a type is an `int32`, a number with a fraction a `double`.
///
/// # Errors
/// [`ParseError`].
pub fn parse(text: &str) -> Result<Value, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError { reason: "too long a text", at: MAX_TEXT });
    }
    let mut parser = Parser { text, chars: text.char_indices().peekable() };
    let node = parser.node(0)?;
    parser.skip_space();
    if parser.chars.peek().is_some() {
        return Err(parser.error("something after the value"));
    }
    let end = |reason| ParseError { reason, at: text.len() };
    let signature = infer(&node).ok_or_else(|| end("a list without elements needs a type, such as @as,"))?;
    if signature.len() > MAX_SIGNATURE {
        return Err(end("a type of more than 255 characters"));
    }
    settle(&node, &signature).ok_or_else(|| end("a value that does not fit its type"))
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

/// Keywords of types.
fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

impl Parser<'_> {
    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn error(&mut self, reason: &'static str) -> ParseError {
        ParseError { reason, at: self.at() }
    }

    fn skip_space(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| belongs(*c)) {
            word.push(c);
        }
        word
    }

    fn node(&mut self, depth: usize) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.error("too many brackets in each other"));
        }
        self.skip_space();
        let Some(&(_, first)) = self.chars.peek() else { return Err(self.error("no value")) };
        match first {
            '[' => self.items('[', ']', depth).map(|(list, _)| Node::List(list)),
            '(' => {
                let (list, comma) = self.items('(', ')', depth)?;
                if list.is_empty() || (list.len() == 1 && !comma) {
                    return Err(self.error("a tuple of one needs a comma, and none is empty"));
                }
                Ok(Node::Tuple(list))
            }
            '{' => self.dict(depth),
            '<' => {
                self.eat('<');
                let inner = self.node(depth + 1)?;
                if self.eat('>') { Ok(Node::Variant(Box::new(inner))) } else { Err(self.error("no > for a <")) }
            }
            '@' => {
                self.eat('@');
                let signature = self.word(|c| c.is_ascii_alphanumeric() || "(){}".contains(c));
                if first_type(&signature) != Some(signature.len()) {
                    return Err(self.error("not a type"));
                }
                Ok(Node::Typed(signature, Box::new(self.node(depth + 1)?)))
            }
            '\'' | '"' => self.quoted().map(Node::Text),
            '+' | '-' | '.' | '0'..='9' => {
                Ok(Node::Number(self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))))
            }
            _ => self.named(depth),
        }
    }

    fn named(&mut self, depth: usize) -> Result<Node, ParseError> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        match word.as_str() {
            "true" => Ok(Node::Bool(true)),
            "false" => Ok(Node::Bool(false)),
            "inf" | "nan" => Ok(Node::Number(word)),
            "b" if self.chars.peek().is_some_and(|(_, c)| matches!(c, '\'' | '"')) => {
                let mut bytes = self.quoted()?.into_bytes();
                bytes.push(0);
                Ok(Node::Bytes(bytes))
            }
            word => match keyword(word) {
                Some(signature) => Ok(Node::Typed(signature.to_owned(), Box::new(self.node(depth + 1)?))),
                None => Err(self.error("not a value: text stands in quotes")),
            },
        }
    }

    /// Elements between brackets, and whether a comma followed the last.
    fn items(&mut self, open: char, close: char, depth: usize) -> Result<(Vec<Node>, bool), ParseError> {
        self.eat(open);
        let (mut list, mut comma) = (Vec::new(), true);
        while !self.eat(close) {
            if !comma {
                return Err(self.error("no comma between two values"));
            }
            list.push(self.node(depth + 1)?);
            comma = self.eat(',');
        }
        Ok((list, comma))
    }

    fn dict(&mut self, depth: usize) -> Result<Node, ParseError> {
        self.eat('{');
        let (mut entries, mut comma) = (Vec::new(), true);
        while !self.eat('}') {
            if !comma {
                return Err(self.error("no comma between two entries"));
            }
            let key = self.node(depth + 1)?;
            if !self.eat(':') {
                return Err(self.error("no colon after a key"));
            }
            entries.push((key, self.node(depth + 1)?));
            comma = self.eat(',');
        }
        Ok(Node::Dict(entries))
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        let end = self.chars.next().map(|(_, c)| c);
        let mut text = String::new();
        loop {
            let Some((_, c)) = self.chars.next() else { return Err(self.error("text without its end")) };
            match c {
                c if Some(c) == end => return Ok(text),
                '\0' => return Err(self.error("a NUL in text")),
                '\\' => text.extend(self.escape()?),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<Option<char>, ParseError> {
        let Some((_, c)) = self.chars.next() else { return Err(self.error("text without its end")) };
        Ok(Some(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            '\n' => return Ok(None),
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            other => other,
        }))
    }

    fn code(&mut self, digits: usize) -> Result<char, ParseError> {
        let mut code = 0u32;
        for _ in 0..digits {
            let digit = self.chars.next().and_then(|(_, c)| c.to_digit(16));
            let Some(digit) = digit else { return Err(self.error("too few digits of a character")) };
            code = code.wrapping_shl(4) | digit;
        }
        match char::from_u32(code).filter(|c| *c != '\0') {
            Some(c) => Ok(c),
            None => Err(self.error("no such character")),
        }
    }
}

/// The type of a node, if it has one by itself.
fn infer(node: &Node) -> Option<String> {
    Some(match node {
        Node::Bool(_) => "b".to_owned(),
        Node::Number(text) => if is_float(text) { "d" } else { "i" }.to_owned(),
        Node::Text(_) => "s".to_owned(),
        Node::Bytes(_) => "ay".to_owned(),
        Node::List(list) => format!("a{}", common(list.iter())?),
        Node::Tuple(list) => format!("({})", list.iter().map(infer).collect::<Option<String>>()?),
        Node::Dict(entries) => {
            let key = common(entries.iter().map(|(key, _)| key)).filter(|key| key.len() == 1 && key != "v")?;
            format!("a{{{key}{}}}", common(entries.iter().map(|(_, value)| value))?)
        }
        Node::Variant(_) => "v".to_owned(),
        Node::Typed(signature, _) => signature.clone(),
    })
}

/// The type of all elements: that of the first which says its type, else what the first one looks like.
fn common<'a>(nodes: impl Iterator<Item = &'a Node> + Clone) -> Option<String> {
    let said = nodes.clone().find(|node| says_its_type(node));
    let float = || nodes.clone().find(|node| matches!(node, Node::Number(text) if is_float(text)));
    infer(said.or_else(float).or_else(|| nodes.clone().find(|node| infer(node).is_some()))?)
}

fn says_its_type(node: &Node) -> bool {
    match node {
        Node::Typed(..) => true,
        Node::List(list) | Node::Tuple(list) => list.iter().any(says_its_type),
        Node::Dict(entries) => entries.iter().any(|(key, value)| says_its_type(key) || says_its_type(value)),
        _ => false,
    }
}

fn is_float(text: &str) -> bool {
    !text.contains(['x', 'X']) && text.contains(['.', 'e', 'E', 'n'])
}

/// The value of a node as a type; `None` where it does not fit.
fn settle(node: &Node, signature: &str) -> Option<Value> {
    match (node, signature.as_bytes().first()?) {
        (Node::Typed(own, inner), _) => {
            if own == signature {
                settle(inner, own)
            } else {
                None
            }
        }
        (Node::Variant(inner), b'v') => {
            let own = infer(inner).filter(|own| own.len() <= MAX_SIGNATURE)?;
            Some(Value::Variant(Box::new(settle(inner, &own)?)))
        }
        (Node::Bool(on), b'b') => Some(Value::Bool(*on)),
        (Node::Text(text), b's') => Some(Value::Text(text.clone())),
        (Node::Text(text), b'o') => is_object_path(text).then(|| Value::Path(text.clone())),
        (Node::Text(text), b'g') => split(text).filter(|_| text.len() < 256).map(|_| Value::Signature(text.clone())),
        (Node::Bytes(bytes), _) => (signature == "ay").then(|| Value::bytes(bytes.iter().copied())),
        (Node::Number(text), code) => number(text, *code),
        (Node::List(list), b'a') => {
            let element = &signature[1..];
            let values = list.iter().map(|node| settle(node, element)).collect::<Option<_>>()?;
            (!element.starts_with('{') || list.is_empty()).then(|| Value::Array(element.to_owned(), values))
        }
        (Node::Dict(entries), b'a') => {
            let element = signature.get(1..).filter(|element| element.starts_with('{'))?;
            let (key, value) = element[1..element.len() - 1].split_at(1);
            let entry =
                |(k, v): &(Node, Node)| Some(Value::Entry(Box::new(settle(k, key)?), Box::new(settle(v, value)?)));
            Some(Value::Array(element.to_owned(), entries.iter().map(entry).collect::<Option<_>>()?))
        }
        (Node::Tuple(list), b'(') => {
            let types = split(&signature[1..signature.len() - 1]).filter(|types| types.len() == list.len())?;
            list.iter().zip(types).map(|(node, one)| settle(node, one)).collect::<Option<_>>().map(Value::Struct)
        }
        _ => None,
    }
}

fn is_object_path(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}

fn number(text: &str, code: u8) -> Option<Value> {
    if code == b'd' {
        return text.parse().ok().map(Value::Double);
    }
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // As in C: 0x is sixteen, a leading 0 is eight.
    let lower = digits.to_ascii_lowercase();
    let magnitude = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8),
        _ => lower.parse(),
    };
    let whole = i128::from(magnitude.ok().filter(|_| !digits.starts_with(['+', '-']))?);
    let whole = if negative { -whole } else { whole };
    Some(match code {
        b'y' => Value::Byte(whole.try_into().ok()?),
        b'n' => Value::I16(whole.try_into().ok()?),
        b'q' => Value::U16(whole.try_into().ok()?),
        b'i' => Value::I32(whole.try_into().ok()?),
        b'u' => Value::U32(whole.try_into().ok()?),
        b'x' => Value::I64(whole.try_into().ok()?),
        b't' => Value::U64(whole.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::any_value;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn values_of_every_type() {
        check("true", Value::Bool(true));
        check(" 5 ", Value::I32(5));
        check("-5", Value::I32(-5));
        check("0x1F", Value::I32(31));
        check("010", Value::I32(8));
        check("1.5", Value::Double(1.5));
        check("uint64 123456789", Value::U64(123_456_789));
        check("@t 7", Value::U64(7));
        check("byte 255", Value::Byte(255));
        check("'inactive-or-failed'", Value::text("inactive-or-failed"));
        check(r#""a\n\u00e4\"""#, Value::text("a\nä\""));
        check("objectpath '/a/b_1'", Value::Path("/a/b_1".to_owned()));
        check("b'ab'", Value::bytes(*b"ab\0"));
        check("['a', 'b']", Value::texts(["a", "b"]));
        check("@as []", Value::texts::<&str>([]));
        check("[1, uint32 2]", Value::Array("u".to_owned(), vec![Value::U32(1), Value::U32(2)]));
        check("('a', 1)", Value::Struct(vec![Value::text("a"), Value::I32(1)]));
        check("(1,)", Value::Struct(vec![Value::I32(1)]));
        check("<'x'>", Value::Variant(Box::new(Value::text("x"))));
        let entry = Value::Entry(Box::new(Value::text("k")), Box::new(Value::U64(1)));
        check("{'k': uint64 1}", Value::Array("{st}".to_owned(), vec![entry]));
    }

    #[test]
    fn texts_that_are_no_values() {
        for text in [
            "",
            "inactive",
            "'a",
            "[1, 'a']",
            "[]",
            "[1 2]",
            "()",
            "(1)",
            "uint64 -1",
            "byte 256",
            "int32 99999999999",
            "@s 5",
            "@( 5",
            "5 5",
            "{'a' 1}",
            "{'a': 1",
            "<1",
            "objectpath 'a'",
            "signature 'zz'",
            "'\\u00'",
            "--5",
            "0x",
            "1e",
            "@a{sv} []x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"[".repeat(60_000)).is_err());
        // No signature is that long: the message would be another one than was meant.
        let wide = format!("({})", "1,".repeat(300));
        assert_eq!(parse(&wide).unwrap_err().reason, "a type of more than 255 characters");
        assert!(parse(&format!("<{wide}>")).is_err());
        assert!(parse(&format!("({})", "1,".repeat(253))).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(value in any_value()) {
            prop_assume!(value.signature().len() <= MAX_SIGNATURE);
            prop_assert_eq!(parse(&value.to_string()), Ok(value));
        }

        #[test]
        fn any_text_is_a_value_or_an_error(text in "[\\[\\](){}<>@a-z0-9'\", :.+-]{0,40}") {
            let outcome = parse(&text);
            prop_assert!(outcome.is_ok() || outcome.is_err());
        }
    }
}
