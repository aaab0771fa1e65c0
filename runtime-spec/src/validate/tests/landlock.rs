//! Landlock rules in their annotation.

use super::*;
use crate::landlock::{ANNOTATION, Kind, Rights};

const AT: &str = "/annotations/io.skep.landlock";

/// A definition with these rules.
fn with(rules: &Value) -> Value {
    json!({"annotations": {ANNOTATION: rules.to_string()}})
}

/// Rules that handle two rights to files and one to ports, with these granted.
fn rules(rules: Value) -> Value {
    let ruleset = json!({"handledAccessFS": ["write_file", "make_reg"], "handledAccessNet": ["bind_tcp"]});
    with(&json!({"ruleset": ruleset, "rules": rules}))
}

#[track_caller]
fn refused(patch: Value, expected: &[(&str, &str)]) {
    let pointers: Vec<String> = expected.iter().map(|(pointer, _)| format!("{AT}{pointer}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((_, text), pointer)| (Error, pointer.as_str(), *text)).collect();
    check(patch, &expected);
}

#[test]
fn rules_are_lowered() {
    let paths = json!([{"allowedAccess": ["make_reg", "write_file"], "paths": ["/tmp", "/run"]}]);
    let ports = json!([{"allowedAccess": ["bind_tcp"], "ports": [0, 80]}]);
    let spec = patched(&rules(json!({"pathBeneath": paths, "netPort": ports}))).spec.unwrap();
    let rules = spec.landlock.unwrap();
    assert_eq!(rules.file_system, Rights { kind: Kind::FileSystem, mask: 1 << 1 | 1 << 8 });
    assert_eq!((rules.network.mask, rules.scoped.mask, rules.best_effort), (1, 0, false));
    assert_eq!((rules.paths[0].allowed.mask, rules.paths[0].paths.len()), (1 << 1 | 1 << 8, 2));
    assert_eq!((rules.ports[0].allowed.mask, rules.ports[0].ports.as_slice()), (1, [0, 80].as_slice()));
    let scoped = with(&json!({"ruleset": {"scoped": ["signal"]}, "bestEffort": true}));
    let rules = patched(&scoped).spec.unwrap().landlock.unwrap();
    assert_eq!((rules.scoped.mask, rules.best_effort), (2, true));
    assert_eq!(patched(&json!({})).spec.unwrap().landlock, None);
}

#[test]
fn names_that_are_not_known_have_their_place() {
    refused(
        with(&json!({"ruleset": {"handledAccessFS": ["write_file", "write"], "scoped": ["pid"]}})),
        &[
            ("/ruleset/handledAccessFS/1", "no value \"write\"; known are execute, write_file"),
            ("/ruleset/scoped/0", "abstract_unix_socket"),
        ],
    );
    refused(
        rules(json!({"netPort": [{"allowedAccess": ["bind_udp"], "ports": [53]}]})),
        &[("/rules/netPort/0/allowedAccess/0", "bind_tcp, connect_tcp")],
    );
    refused(
        rules(json!({"pathBelow": [], "pathBeneath": [{"allowedAccess": ["make_reg"], "path": "/tmp"}]})),
        &[
            ("/rules/pathBelow", "is not known; known are pathBeneath, netPort"),
            ("/rules/pathBeneath/0/path", "is not known"),
            ("/rules/pathBeneath/0/paths", "at least one"),
        ],
    );
}

#[test]
fn what_the_kernel_would_refuse_is_refused() {
    refused(with(&json!({})), &[("/ruleset", "at least one access right or scope")]);
    refused(
        rules(json!({"pathBeneath": [{"allowedAccess": [], "paths": ["/tmp"]}]})),
        &[("/rules/pathBeneath/0/allowedAccess", "at least one")],
    );
    refused(
        rules(json!({"pathBeneath": [{"allowedAccess": ["execute", "make_reg"], "paths": ["tmp"]}]})),
        &[
            ("/rules/pathBeneath/0/allowedAccess", "grants execute, which ruleset.handledAccessFS does not list"),
            ("/rules/pathBeneath/0/paths/0", "absolute"),
        ],
    );
    refused(
        rules(json!({"netPort": [{"allowedAccess": ["bind_tcp"], "ports": [65536]}]})),
        &[("/rules/netPort/0/ports/0", "0 to 65535"), ("/rules/netPort/0/ports", "at least one")],
    );
}

#[test]
fn text_that_is_not_an_object_is_refused() {
    for (text, place, message) in [
        ("", "", "not valid JSON"),
        ("[]", "", "must be an object"),
        ("null", "", "must be an object"),
        ("{\"ruleset\": 1}", "/ruleset", "must be an object"),
    ] {
        refused(json!({"annotations": {ANNOTATION: text}}), &[(place, message)]);
    }
}
