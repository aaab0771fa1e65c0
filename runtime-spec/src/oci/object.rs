//! The macro that makes the structs.

/// Makes a struct from a table of JSON name, field and type, with its reader and its serializer.
macro_rules! object {
    ($($(#[$meta:meta])* $name:ident { $($json:literal $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                #[doc = concat!("`", $json, "` as written; `None` when it is absent, null or of the wrong type.")]
                #[serde(rename = $json, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl crate::oci::read::Object for $name {
            const NAMES: &'static [&'static str] = &[$($json),*];

            fn set<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &'static str,
                map: &mut A,
                at: &crate::finding::Path<'_>,
                log: &mut crate::finding::Log,
            ) -> Result<(), A::Error> {
                match name {
                    $($json => self.$field = map.next_value_seed(crate::oci::read::Seed::new(at, log))?,)*
                    _ => {}
                }
                Ok(())
            }
        }

        impl crate::oci::read::Read for $name {
            fn read<'de, D: serde::Deserializer<'de>>(
                from: D,
                at: &crate::finding::Path<'_>,
                log: &mut crate::finding::Log,
            ) -> Result<Option<Self>, D::Error> {
                crate::oci::read::read_object(from, at, log)
            }
        }
    )*};
}
