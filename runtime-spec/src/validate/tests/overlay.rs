//! Layers of a root file system in their annotation.

use super::*;
use crate::overlay::{ANNOTATION, Upper};

const AT: &str = "/annotations/io.skep.overlay";

fn with(layers: &Value) -> Value {
    json!({"annotations": {ANNOTATION: layers.to_string()}})
}

#[test]
fn layers_are_lowered() {
    let lowered = |layers: &Value| patched(&with(layers)).spec.unwrap().overlay.unwrap();
    let folder = lowered(&json!({"lower": ["/b", "/a"], "upper": "/u", "work": "/w", "volatile": true}));
    assert_eq!(folder.lower, ["/b", "/a"]);
    assert_eq!(folder.upper, Upper::Folder { upper: "/u".to_owned(), work: "/w".to_owned() });
    assert_eq!((folder.idmap, folder.user_xattr, folder.volatile), (false, false, true));
    assert_eq!(lowered(&json!({"lower": ["/a"]})).upper, Upper::None);
    assert_eq!(lowered(&json!({"lower": ["/a"], "memory": 4096})).upper, Upper::Memory { bytes: 4096 });
    assert_eq!(patched(&json!({})).spec.unwrap().overlay, None);
}

#[test]
fn layers_that_cannot_be_mounted_are_refused() {
    let refused = |layers: &Value, pointer: &str, text: &str| {
        check(with(layers), &[(Error, &format!("{AT}{pointer}"), text)]);
    };
    refused(&json!({"upper": "/u", "work": "/w"}), "/lower", "must have 1 to 500 entries, not 0");
    refused(&json!({"lower": ["a"]}), "/lower/0", "must be an absolute path");
    refused(&json!({"lower": ["/a"], "upper": "/u"}), "", "or neither");
    refused(&json!({"lower": ["/a"], "upper": "/u", "work": "/x/w"}), "/work", "in the same folder as \"upper\"");
    refused(&json!({"lower": ["/a"], "upper": "/u", "work": "/w", "memory": 1}), "/memory", "cannot stand beside");
    refused(&json!({"lower": ["/a"], "idmap": true}), "/idmap", "needs a namespace of type \"user\"");
    refused(&json!({"lowr": ["/a"], "lower": ["/a"]}), "/lowr", "is not known");
    refused(&json!({"lower": ["/a"], "hide": ["/etc/../root"]}), "/hide/0", "without \".\" and \"..\"");
    refused(&json!({"lower": vec!["/a"; 501]}), "/lower", "must have 1 to 500 entries, not 501");
}
