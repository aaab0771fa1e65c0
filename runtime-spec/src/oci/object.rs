//! The macro that makes the structs.

/// Makes a struct from a table of JSON name, field and type, with its reader and its serializer. `(closed)` behind the name
/// makes an unknown name in the JSON an error.
macro_rules! object {
    ($($(#[$meta:meta])* $name:ident $(($closed:ident))? { $($json:literal $field:ident: $type:ty,)* })*) => {$(
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
            fn names(&self) -> &'static [&'static str] {
                &[$($json),*]
            }

            fn is_closed(&self) -> bool {
                !concat!($(stringify!($closed))?).is_empty()
            }

            fn set(
                &mut self,
                name: &'static str,
                value: crate::oci::read::Json,
                at: &crate::finding::Path<'_>,
                log: &mut crate::finding::Log,
            ) {
                match name {
                    $($json => self.$field = crate::oci::read::Read::read(value, at, log),)*
                    _ => {}
                }
            }
        }

        impl crate::oci::read::Read for $name {
            fn read(
                from: crate::oci::read::Json,
                at: &crate::finding::Path<'_>,
                log: &mut crate::finding::Log,
            ) -> Option<Self> {
                let mut result = Self::default();
                crate::oci::read::read_object(&mut result, from, at, log).then_some(result)
            }
        }
    )*};
}
