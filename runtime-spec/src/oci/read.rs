//! Reads JSON into the structs of this module without ever refusing a value for its type.
//!
//! serde's derived readers stop at the first value of a wrong type and do not say where it stood. This reader goes on:
//! a wrong value becomes a finding with its JSON pointer and counts as absent. It also takes what Go's reader takes,
//! because the callers are written in Go: `null` is absent everywhere, the last of two equal names wins, and an unknown
//! name is passed over. Only text that is not JSON ends it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::SECTION;
use crate::finding::{Log, Path};

/// A value that can be read.
pub(crate) trait Read: Sized {
    /// Reads it. `None` means `null`, or a value of the wrong type, which is then in `log`.
    ///
    /// # Errors
    /// Only that the text is not JSON.
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>, log: &mut Log) -> Result<Option<Self>, D::Error>;
}

/// An object with known names; see the macro `object!`.
pub(crate) trait Object: Default {
    /// The names, at most 64.
    const NAMES: &'static [&'static str];

    /// Reads the value of the field that has this name, one of [`Object::NAMES`].
    ///
    /// # Errors
    /// Only that the text is not JSON.
    fn set<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
        at: &Path<'_>,
        log: &mut Log,
    ) -> Result<(), A::Error>;
}

/// Reads one value at a place, for serde's access traits.
pub(crate) struct Seed<'a, T> {
    at: &'a Path<'a>,
    log: &'a mut Log,
    value: PhantomData<T>,
}

impl<'a, T> Seed<'a, T> {
    pub(crate) fn new(at: &'a Path<'a>, log: &'a mut Log) -> Self {
        Seed { at, log, value: PhantomData }
    }
}

impl<'de, T: Read> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        let result = T::read(from, self.at, self.log);
        if result.is_err() {
            self.log.broke(self.at);
        }
        result
    }
}

/// Says that a value has the wrong type.
fn wrong(at: &Path<'_>, log: &mut Log, wanted: impl fmt::Display, found: impl fmt::Display) {
    log.error(at, SECTION, format_args!("must be {wanted}, not {found}"));
}

/// Passes over the rest of an array.
fn skip_array<'de, A: SeqAccess<'de>>(mut array: A) -> Result<(), A::Error> {
    while array.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Passes over the rest of an object.
fn skip_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<(), A::Error> {
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The methods of a visitor for the kinds of value that it does not want.
macro_rules! refuse {
    ($wanted:expr; $($kind:ident)*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", $wanted)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        $(refuse!(@ $kind $wanted);)*
    };
    (@ bool $wanted:expr) => {
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            wrong(self.at, self.log, $wanted, value);
            Ok(None)
        }
    };
    (@ integer $wanted:expr) => {
        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            wrong(self.at, self.log, $wanted, value);
            Ok(None)
        }
        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            wrong(self.at, self.log, $wanted, value);
            Ok(None)
        }
    };
    (@ float $wanted:expr) => {
        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            wrong(self.at, self.log, $wanted, format_args!("{value:?}"));
            Ok(None)
        }
    };
    (@ text $wanted:expr) => {
        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            wrong(self.at, self.log, $wanted, format_args!("the string {}", crate::validate::quote(value)));
            Ok(None)
        }
    };
    (@ array $wanted:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
            wrong(self.at, self.log, $wanted, "an array");
            skip_array(array).map(|()| None)
        }
    };
    (@ object $wanted:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
            wrong(self.at, self.log, $wanted, "an object");
            skip_object(object).map(|()| None)
        }
    };
}

impl Read for bool {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>, log: &mut Log) -> Result<Option<Self>, D::Error> {
        from.deserialize_any(BoolVisitor { at, log })
    }
}

struct BoolVisitor<'a> {
    at: &'a Path<'a>,
    log: &'a mut Log,
}

impl<'de> Visitor<'de> for BoolVisitor<'_> {
    type Value = Option<bool>;
    refuse!("true or false"; integer float text array object);

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value))
    }
}

impl Read for String {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>, log: &mut Log) -> Result<Option<Self>, D::Error> {
        from.deserialize_any(TextVisitor { at, log })
    }
}

struct TextVisitor<'a> {
    at: &'a Path<'a>,
    log: &'a mut Log,
}

impl<'de> Visitor<'de> for TextVisitor<'_> {
    type Value = Option<String>;
    refuse!("a string"; bool integer float array object);

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.to_owned()))
    }
}

/// The integer types of the specification.
trait Whole: TryFrom<u64> + TryFrom<i64> {
    /// The range, as text.
    const RANGE: &'static str;
}

macro_rules! whole {
    ($($type:ty: $range:literal)*) => {$(
        impl Whole for $type {
            const RANGE: &'static str = $range;
        }
        impl Read for $type {
            fn read<'de, D: Deserializer<'de>>(
                from: D,
                at: &Path<'_>,
                log: &mut Log,
            ) -> Result<Option<Self>, D::Error> {
                from.deserialize_any(WholeVisitor { at, log, value: PhantomData })
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

struct WholeVisitor<'a, T> {
    at: &'a Path<'a>,
    log: &'a mut Log,
    value: PhantomData<T>,
}

impl<'de, T: Whole> Visitor<'de> for WholeVisitor<'_, T> {
    type Value = Option<T>;
    refuse!(T::RANGE; bool float text array object);

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        let result = T::try_from(value).ok();
        if result.is_none() {
            wrong(self.at, self.log, T::RANGE, value);
        }
        Ok(result)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        let result = T::try_from(value).ok();
        if result.is_none() {
            wrong(self.at, self.log, T::RANGE, value);
        }
        Ok(result)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>, log: &mut Log) -> Result<Option<Self>, D::Error> {
        from.deserialize_any(ListVisitor { at, log, value: PhantomData })
    }
}

struct ListVisitor<'a, T> {
    at: &'a Path<'a>,
    log: &'a mut Log,
    value: PhantomData<T>,
}

impl<'de, T: Read> Visitor<'de> for ListVisitor<'_, T> {
    type Value = Option<Vec<T>>;
    refuse!("an array"; bool integer float text object);

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        for index in 0.. {
            let at = self.at.item(index);
            let errors = self.log.errors();
            let Some(value) = array.next_element_seed(Seed::new(&at, self.log)).inspect_err(|_| self.log.broke(&at))?
            else {
                break;
            };
            match value {
                Some(value) => list.push(value),
                None if self.log.errors() == errors => wrong(&at, self.log, "a value", "null"),
                None => {}
            }
        }
        Ok(Some(list))
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read<'de, D: Deserializer<'de>>(from: D, at: &Path<'_>, log: &mut Log) -> Result<Option<Self>, D::Error> {
        from.deserialize_any(MapVisitor { at, log, value: PhantomData })
    }
}

struct MapVisitor<'a, T> {
    at: &'a Path<'a>,
    log: &'a mut Log,
    value: PhantomData<T>,
}

impl<'de, T: Read> Visitor<'de> for MapVisitor<'_, T> {
    type Value = Option<BTreeMap<String, T>>;
    refuse!("an object"; bool integer float text array);

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(name) = object.next_key::<String>().inspect_err(|_| self.log.broke(self.at))? {
            let at = self.at.key(&name);
            let errors = self.log.errors();
            match object.next_value_seed(Seed::new(&at, self.log))? {
                Some(value) => {
                    if map.contains_key(&name) {
                        self.log.warn(&at, SECTION, "stands here twice; the last one counts");
                    }
                    map.insert(name, value);
                }
                None if self.log.errors() == errors => wrong(&at, self.log, "a value", "null"),
                None => {}
            }
        }
        Ok(Some(map))
    }
}

/// Reads an object. The struct's own [`Read`] calls this.
pub(crate) fn read_object<'de, T: Object, D: Deserializer<'de>>(
    from: D,
    at: &Path<'_>,
    log: &mut Log,
) -> Result<Option<T>, D::Error> {
    from.deserialize_any(ObjectVisitor { at, log, value: PhantomData })
}

struct ObjectVisitor<'a, T> {
    at: &'a Path<'a>,
    log: &'a mut Log,
    value: PhantomData<T>,
}

impl<'de, T: Object> Visitor<'de> for ObjectVisitor<'_, T> {
    type Value = Option<T>;
    refuse!("an object"; bool integer float text array);

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut result = T::default();
        let mut seen = 0_u64;
        while let Some(known) = object.next_key_seed(NameSeed(T::NAMES)).inspect_err(|_| self.log.broke(self.at))? {
            let Some(index) = known else {
                object.next_value::<IgnoredAny>().inspect_err(|_| self.log.broke(self.at))?;
                continue;
            };
            let name = T::NAMES[index];
            let at = self.at.key(name);
            if seen & (1 << index) != 0 {
                self.log.warn(&at, SECTION, "stands here twice; the last one counts");
            }
            seen |= 1 << index;
            result.set(name, &mut object, &at, self.log)?;
        }
        Ok(Some(result))
    }
}

/// Finds a name among those that an object knows, without keeping it.
struct NameSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

/// Reads a whole document.
///
/// `None` when it is not JSON or not an object; `log` then has an error.
pub(crate) fn read_document<T: Object>(bytes: &[u8], log: &mut Log) -> Option<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let errors = log.errors();
    let result = match read_object::<T, _>(&mut json, &Path::Root, log) {
        Ok(result) => result,
        Err(reason) => {
            log.not_json(SECTION, &reason);
            return None;
        }
    };
    if result.is_none() && log.errors() == errors {
        wrong(&Path::Root, log, "an object", "null");
    }
    if let Err(reason) = json.end() {
        // runc reads the first value and stops there.
        log.warn(&Path::Root, SECTION, format_args!("goes on after its end, which is ignored: {reason}"));
    }
    result
}
