//! The features document.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use oci_spec::runtime::Features;
use runtime_spec::{Severity, capabilities, features::features, load};
use serde_json::{Value, json};

fn document() -> Value {
    serde_json::to_value(features()).unwrap()
}

/// The strings of an array.
fn names(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Whether a definition is taken, and without a warning.
fn clean(patch: &Value) -> bool {
    let mut config = json!({"ociVersion": "1.3.0", "root": {"path": "r"},
        "process": {"cwd": "/", "args": ["sh"]}});
    for (name, value) in patch.as_object().unwrap() {
        config[name] = value.clone();
    }
    load(config.to_string().as_bytes()).findings.is_empty()
}

#[test]
fn another_reader_understands_it() {
    let theirs: Features = serde_json::from_value(document()).unwrap();
    assert_eq!((theirs.oci_version_min().as_str(), theirs.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
}

#[test]
fn what_it_lists_is_taken() {
    let document = document();
    let linux = &document["linux"];
    for version in ["ociVersionMin", "ociVersionMax"] {
        assert!(clean(&json!({"ociVersion": document[version]})), "{version}");
    }
    for hook in names(&document["hooks"]) {
        assert!(clean(&json!({"hooks": {hook: [{"path": "/x"}]}})));
    }
    for kind in names(&linux["namespaces"]) {
        assert!(clean(&json!({"linux": {"namespaces": [{"type": kind, "path": "/n"}]}})), "{kind}");
    }
    for action in names(&linux["seccomp"]["actions"]) {
        let rule = json!({"names": ["read"], "action": action});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "syscalls": [rule]});
        assert!(clean(&json!({"linux": {"seccomp": filter}})), "{action}");
    }
    for op in names(&linux["seccomp"]["operators"]) {
        let rule = json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": op}]});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        assert!(clean(&json!({"linux": {"seccomp": filter}})), "{op}");
    }
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": linux["seccomp"]["archs"],
        "flags": linux["seccomp"]["knownFlags"]});
    assert!(clean(&json!({"linux": {"seccomp": filter}})));
    for mode in names(&linux["memoryPolicy"]["modes"]) {
        let nodes = if matches!(mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
        assert!(clean(&json!({"linux": {"memoryPolicy": {"mode": mode, "nodes": nodes}}})), "{mode}");
    }
}

#[test]
fn listed_mount_options_never_reach_the_file_system() {
    let options = names(&document()["mountOptions"]);
    assert_eq!(options.len(), 65);
    for option in options {
        let mount = json!({"destination": "/d", "type": "bind", "source": "/s", "options": [option]});
        let config = json!({"ociVersion": "1.3.0", "root": {"path": "r"}, "mounts": [mount],
            "linux": {"namespaces": [{"type": "user", "path": "/u"}]}});
        let report = load(config.to_string().as_bytes());
        let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{option}: {errors:?}");
        assert_eq!(report.spec.unwrap().mounts[0].data, [""; 0]);
    }
}

#[test]
fn capabilities_are_all_there() {
    assert_eq!(names(&document()["linux"]["capabilities"]), capabilities::NAMES);
}
