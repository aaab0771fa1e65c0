//! One table per topic: a change to a good definition, and exactly the findings that it must give.

mod config;
mod guest_cgroups;
mod landlock;
mod linux;
mod mounts;
mod namespaces;
mod overlay;
mod process;
mod resources;
mod seccomp;
mod ttys;

use serde_json::{Value, json};

use super::*;
use crate::finding::Severity::{Error, Warning};

/// A finding that is expected: how bad, where, and a part of what it says.
type Expected<'a> = (Severity, &'a str, &'a str);

/// A definition without any finding, to be patched.
fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        ]},
    })
}

/// Changes a document as RFC 7386 says: objects are merged, null removes, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Loads the base definition with a change.
fn patched(patch: &Value) -> Report {
    let mut document = base();
    merge(&mut document, patch);
    load(document.to_string().as_bytes())
}

/// Asserts that a change gives exactly these findings, and a typed definition exactly if none is an error.
#[track_caller]
fn check(patch: Value, expected: &[Expected<'_>]) {
    let report = patched(&patch);
    compare(&report.findings, expected);
    assert_eq!(report.spec.is_some(), report.errors().next().is_none());
    assert_eq!(report.errors().count() + report.warnings().count(), expected.len());
}

/// Asserts that findings are exactly these, in any order.
#[track_caller]
fn compare(findings: &[Finding], expected: &[Expected<'_>]) {
    let mut left: Vec<&Finding> = findings.iter().collect();
    for (severity, pointer, message) in expected {
        let found = left
            .iter()
            .position(|f| f.severity == *severity && f.pointer == *pointer && f.message.contains(message))
            .unwrap_or_else(|| panic!("no {severity:?} at {pointer:?} with {message:?} in {left:#?}"));
        let finding = left.remove(found);
        assert!(finding.section.contains(".md, "), "{finding:?}");
        assert!(!finding.message.ends_with('.'), "{finding:?}");
    }
    assert!(left.is_empty(), "not expected: {left:#?}");
}

/// The typed definition of a change that must give no error.
#[track_caller]
fn lowered(patch: Value) -> ContainerSpec {
    let report = patched(&patch);
    report.spec.unwrap_or_else(|| panic!("refused: {:#?}", report.findings))
}

#[test]
fn the_base_is_good() {
    check(json!({}), &[]);
}
