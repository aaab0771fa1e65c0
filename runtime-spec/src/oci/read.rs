//! Reads JSON into the structs of this module without ever refusing a value for its type.
//!
//! serde's derived readers stop at the first value of a wrong type and do not say where it stood. This reader goes on:
//! a wrong value becomes a finding with its JSON pointer and counts as absent. It also takes what Go's reader takes,
//! because the callers are written in Go: `null` is absent everywhere, the last of two equal names wins, and an unknown
//! name is passed over. Only text that is not JSON ends it.
//!
//! The text becomes a tree first, and the structs take their values out of the tree: the code that meets serde exists
//! once, not once for each struct, which is worth a tenth of the binary.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::SECTION;
use crate::finding::{Log, Path};

/// A value as it stands in the text; an object keeps the order of its names, and those that stand there twice.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// As a finding names it.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Unsigned(value) => write!(f, "{value}"),
            Json::Signed(value) => write!(f, "{value}"),
            Json::Float(value) => write!(f, "{value:?}"),
            Json::Text(value) => write!(f, "the string {}", crate::validate::quote(value)),
            Json::Array(_) => f.write_str("an array"),
            Json::Object(_) => f.write_str("an object"),
        }
    }
}

/// Makes the tree; remembers the place where the text stops being JSON.
struct Tree<'a> {
    at: &'a Path<'a>,
    log: &'a mut Log,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        let Tree { at, log } = self;
        from.deserialize_any(Tree { at, log: &mut *log }).inspect_err(|_| log.broke(at))
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = self.at.item(list.len());
            match array.next_element_seed(Tree { at: &at, log: self.log }).inspect_err(|_| self.log.broke(&at))? {
                Some(value) => list.push(value),
                None => return Ok(Json::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(name) = object.next_key::<String>().inspect_err(|_| self.log.broke(self.at))? {
            let value = object.next_value_seed(Tree { at: &self.at.key(&name), log: self.log })?;
            list.push((name, value));
        }
        Ok(Json::Object(list))
    }
}

/// A value that can be taken out of the tree.
pub(crate) trait Read: Sized {
    /// Takes it. `None` means `null`, or a value of the wrong type, which is then in `log`.
    fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<Self>;
}

/// An object with known names; see the macro `object!`.
pub(crate) trait Object {
    /// The names, at most 64.
    fn names(&self) -> &'static [&'static str];

    /// Whether a name that is none of these is an error; else it is passed over.
    fn is_closed(&self) -> bool;

    /// Reads the value of the field that has this name, one of [`Object::names`].
    fn set(&mut self, name: &'static str, value: Json, at: &Path<'_>, log: &mut Log);
}

/// Says that a value has the wrong type; `null` is silent.
fn wrong<T>(at: &Path<'_>, log: &mut Log, wanted: &str, found: &Json) -> Option<T> {
    if !matches!(found, Json::Null) {
        log.error(at, SECTION, format_args!("must be {wanted}, not {found}"));
    }
    None
}

impl Read for bool {
    fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<bool> {
        match from {
            Json::Bool(value) => Some(value),
            other => wrong(at, log, "true or false", &other),
        }
    }
}

impl Read for String {
    fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<String> {
        match from {
            Json::Text(value) => Some(value),
            other => wrong(at, log, "a string", &other),
        }
    }
}

macro_rules! whole {
    ($($type:ty: $range:literal)*) => {$(
        impl Read for $type {
            fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<$type> {
                let value = match from {
                    Json::Unsigned(value) => <$type>::try_from(value).ok(),
                    Json::Signed(value) => <$type>::try_from(value).ok(),
                    _ => None,
                };
                value.or_else(|| wrong(at, log, $range, &from))
            }
        }
    )*};
}

whole! {
    u16: "a whole number from 0 to 65535"
    u32: "a whole number from 0 to 4294967295"
    u64: "a whole number from 0 to 18446744073709551615"
    i32: "a whole number from -2147483648 to 2147483647"
    i64: "a whole number from -9223372036854775808 to 9223372036854775807"
}

/// Reads a value of an array or a map, where `null` is no value.
fn read_member<T: Read>(from: Json, at: &Path<'_>, log: &mut Log) -> Option<T> {
    if matches!(from, Json::Null) {
        log.error(at, SECTION, "must be a value, not null");
        return None;
    }
    T::read(from, at, log)
}

impl<T: Read> Read for Vec<T> {
    fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<Vec<T>> {
        match from {
            Json::Array(list) => {
                let members = list.into_iter().enumerate();
                Some(members.filter_map(|(index, value)| read_member(value, &at.item(index), log)).collect())
            }
            other => wrong(at, log, "an array", &other),
        }
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(from: Json, at: &Path<'_>, log: &mut Log) -> Option<BTreeMap<String, T>> {
        let list = match from {
            Json::Object(list) => list,
            other => return wrong(at, log, "an object", &other),
        };
        let mut map = BTreeMap::new();
        for (name, value) in list {
            let at = at.key(&name);
            let Some(value) = read_member(value, &at, log) else { continue };
            if map.contains_key(&name) {
                log.warn(&at, SECTION, "stands here twice; the last one counts");
            }
            map.insert(name, value);
        }
        Some(map)
    }
}

/// Reads an object into an empty struct. `false` when it is none. The struct's own [`Read`] calls this.
pub(crate) fn read_object(into: &mut dyn Object, from: Json, at: &Path<'_>, log: &mut Log) -> bool {
    let list = match from {
        Json::Object(list) => list,
        other => return wrong::<()>(at, log, "an object", &other).is_some(),
    };
    let names = into.names();
    let mut seen = 0_u64;
    for (name, value) in list {
        let Some(index) = names.iter().position(|known| *known == name) else {
            if into.is_closed() {
                log.error(&at.key(&name), SECTION, format_args!("is not known; known are {}", names.join(", ")));
            }
            continue;
        };
        let at = at.key(names[index]);
        if seen & (1 << index) != 0 {
            log.warn(&at, SECTION, "stands here twice; the last one counts");
        }
        seen |= 1 << index;
        into.set(names[index], value, &at, log);
    }
    true
}

/// Reads a whole document.
///
/// `None` when it is not JSON or not an object; `log` then has an error.
pub(crate) fn read_document<T: Read>(bytes: &[u8], at: &Path<'_>, log: &mut Log) -> Option<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let tree = match (Tree { at, log }).deserialize(&mut json) {
        Ok(tree) => tree,
        Err(reason) => {
            log.not_json(SECTION, &reason);
            return None;
        }
    };
    let result = match tree {
        Json::Null => {
            log.error(at, SECTION, "must be an object, not null");
            None
        }
        tree => T::read(tree, at, log),
    };
    if let Err(reason) = json.end() {
        // runc reads the first value and stops there.
        log.warn(at, SECTION, format_args!("goes on after its end, which is ignored: {reason}"));
    }
    result
}
