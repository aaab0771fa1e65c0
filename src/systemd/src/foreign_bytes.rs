//! What comes over the socket, as nobody sends it: any bytes, and good messages with parts of them changed.
//!
//! A reader never panics, always ends, and takes no more memory than its bound, whatever the lengths in a message say.

use proptest::prelude::*;

use crate::message::{FIXED, Message};
use crate::value::Value;
use crate::wire::tests::any_value;
use crate::wire::{MAX_MESSAGE, Reader, WireError};

/// Bytes of memory that a value takes, with what its vectors keep in reserve.
fn weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Text(text) | Value::Path(text) | Value::Signature(text) => text.capacity(),
            Value::Array(element, values) => element.capacity() + weight_of(values),
            Value::Struct(fields) => weight_of(fields),
            Value::Entry(key, value) => weight(key) + weight(value),
            Value::Variant(inner) => weight(inner),
            _ => 0,
        }
}

fn weight_of(values: &Vec<Value>) -> usize {
    let reserve = (values.capacity() - values.len()) * size_of::<Value>();
    values.iter().map(weight).sum::<usize>() + reserve
}

/// What holds for all bytes that a connection may read.
fn check(bytes: &[u8]) {
    if let Some(Ok(size)) = bytes.first_chunk::<FIXED>().map(Message::size) {
        assert!((FIXED..=MAX_MESSAGE).contains(&size), "{size}");
        if let Some(whole) = bytes.get(..size) {
            check_message(whole);
        }
    }
    check_message(bytes);
}

fn check_message(bytes: &[u8]) {
    let Ok(Some(message)) = Message::decode(bytes) else { return };
    assert!(weight_of(&message.body) <= MAX_MESSAGE + message.body.capacity() * size_of::<Value>());
    // What was understood once is understood again, in the same way. Bytes are compared: a NaN is not equal to itself.
    let again = message.encode();
    let decoded = Message::decode(&again).expect("a message of ours").expect("a type of ours");
    assert_eq!(decoded.encode(), again);
}

/// A change to bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Flip(u8),
    /// Four bytes that are a length somewhere.
    Length(u32),
    CutOff,
    Remove(usize),
    Insert(Vec<u8>),
    /// A part of the message stands there once more.
    Repeat(usize),
}

fn any_change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let length = prop_oneof![
        0u32..80,
        Just(u32::MAX),
        Just(u32::MAX - 7),
        Just(1 << 31),
        Just((64 << 20) - 1),
        Just(MAX_MESSAGE as u32),
        any::<u32>(),
    ];
    let change = prop_oneof![
        4 => any::<u8>().prop_map(Change::Set),
        3 => (0u8..8).prop_map(|bit| Change::Flip(1 << bit)),
        3 => length.prop_map(Change::Length),
        1 => Just(Change::CutOff),
        1 => (1usize..12).prop_map(Change::Remove),
        1 => prop::collection::vec(any::<u8>(), 1..12).prop_map(Change::Insert),
        1 => (1usize..24).prop_map(Change::Repeat),
    ];
    (any::<prop::sample::Index>(), change)
}

fn mutate(bytes: &mut Vec<u8>, at: usize, change: Change) {
    let end = |count: usize| bytes.len().min(at + count);
    match change {
        Change::Set(byte) => bytes[at] = byte,
        Change::Flip(bits) => bytes[at] ^= bits,
        Change::Length(length) => {
            // Where lengths are: at multiples of four.
            let at = at & !3;
            let end = bytes.len().min(at + 4);
            let big_endian = bytes[0] == b'B';
            let length = if big_endian { length.to_be_bytes() } else { length.to_le_bytes() };
            bytes[at..end].copy_from_slice(&length[..end - at]);
        }
        Change::CutOff => bytes.truncate(at + 1),
        Change::Remove(count) if end(count) - at < bytes.len() => drop(bytes.drain(at..end(count))),
        Change::Remove(_) => {}
        Change::Insert(new) => drop(bytes.splice(at..at, new)),
        Change::Repeat(count) => {
            let part = bytes[at..end(count)].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        check(&bytes);
    }

    /// Most of what is random is refused by its first bytes; with a header that looks right it gets further.
    #[test]
    fn any_bytes_below_a_header(
        big in any::<bool>(), kind in 0u8..6, fields in 0u32..96, body in 0u32..160,
        rest in prop::collection::vec(prop_oneof![3 => any::<u8>(), 2 => Just(0), 1 => 0u8..12], 0..160),
    ) {
        let number = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let start = [if big { b'B' } else { b'l' }, kind, 0, 1];
        check(&[&start[..], &number(body), &number(7), &number(fields), &rest].concat());
    }

    #[test]
    fn good_messages_with_parts_changed(
        body in prop::collection::vec(any_value(), 0..4), changes in prop::collection::vec(any_change(), 1..8),
    ) {
        let message = Message { reply_to: Some(7), body, ..Message::call("a.b", "/p", "i.f", "Member", Vec::new()) };
        let mut bytes = message.encode();
        for (at, change) in changes {
            let at = at.index(bytes.len());
            mutate(&mut bytes, at, change);
        }
        check(&bytes);
    }

    #[test]
    fn any_body_of_any_type(signature in "[ybnqiuxtdsogvh(){}a]{1,12}", bytes in prop::collection::vec(0u8..20, 0..128)) {
        if let Ok(values) = Reader::new(&bytes, false).body(&signature) {
            prop_assert!(weight_of(&values) <= MAX_MESSAGE);
        }
    }
}

/// Messages within the bound of a message whose values would take many times of it.
#[test]
fn values_take_no_more_memory_than_the_bound() {
    let refused = |signature: &str, body: &[u8]| {
        let outcome = Reader::new(body, false).body(signature);
        assert_eq!(outcome.err(), Some(WireError::Large("number of values")), "{signature}");
    };
    let array = |content: &[u8]| [&u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat();
    let room = 4 << 20;
    // A byte becomes a value.
    refused("ay", &array(&vec![1; room]));
    // Four bytes become an empty array with the type of its elements.
    refused(&format!("aa({})", "s".repeat(200)), &array(&[0; 8].repeat(room / 8)));
    // Arrays of one element each.
    refused("aay", &array(&[1, 0, 0, 0, 1, 0, 0, 0].repeat(room / 8)));
    // Variants in variants.
    refused("av", &array(&[1, b'v', 0, 1, b'v', 0, 1, b'y', 0, 1].repeat(room / 10)));
    // What systemd may honestly send is far from it: a set of 8192 CPUs, a list of 10 000 units.
    let honest =
        |signature: &str, body: &[u8]| assert!(Reader::new(body, false).body(signature).is_ok(), "{signature}");
    honest("ay", &array(&[255; 1024]));
    honest("as", &array(&[&[7, 0, 0, 0][..], b"a.scope\0"].concat().repeat(10_000)));
}
