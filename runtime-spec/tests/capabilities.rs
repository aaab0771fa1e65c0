//! The table of capabilities against the crate `caps`.

use std::str::FromStr;

use runtime_spec::capabilities::{NAMES, bit, name};

#[test]
fn names_and_numbers_are_those_of_caps() {
    let known: Vec<caps::Capability> = caps::all().into_iter().collect();
    assert_eq!(known.len(), NAMES.len());
    for (number, text) in NAMES.iter().enumerate() {
        let number = u8::try_from(number).expect("41 fit");
        let theirs = caps::Capability::from_str(text).expect("a known name");
        assert_eq!(theirs.index(), number, "{text}");
        assert_eq!((bit(text).map(u32::from), name(number)), (Some(number.into()), Some(*text)));
    }
}
