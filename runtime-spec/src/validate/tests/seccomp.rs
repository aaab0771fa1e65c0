use super::*;
use crate::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp};

/// Findings of `seccomp`; pointers are relative to it.
#[track_caller]
fn filter(value: Value, expected: &[Expected<'_>]) {
    let pointers: Vec<String> = expected.iter().map(|(_, at, _)| format!("/linux/seccomp{at}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((severity, _, text), at)| (*severity, at.as_str(), *text)).collect();
    check(json!({"linux": {"seccomp": value}}), &expected);
}

#[track_caller]
fn good(value: Value) -> Seccomp {
    lowered(json!({"linux": {"seccomp": value}})).seccomp.expect("a filter")
}

#[test]
fn a_whole_filter() {
    let filter = good(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "/run/agent.sock", "listenerMetadata": "m",
        "syscalls": [
            {"names": ["read", "not_a_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY",
             "args": [{"index": 5, "value": u64::MAX, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
        ],
    }));
    assert_eq!((filter.default_action, filter.flags), (SeccompAction::Errno(38), 35));
    assert_eq!(filter.architectures, ["x86_64", "x32"]);
    assert_eq!(
        (filter.listener_path.as_deref(), filter.listener_metadata.as_deref()),
        (Some("/run/agent.sock"), Some("m"))
    );
    assert_eq!(filter.rules[0].names, ["read", "not_a_call"]);
    assert_eq!(filter.rules[1].action, SeccompAction::Notify);
    assert_eq!(
        filter.rules[1].args[0],
        SeccompArg { index: 5, value: u64::MAX, value_two: 7, op: SeccompOp::MaskedEq }
    );
}

#[test]
fn actions_and_their_numbers() {
    let action = |name: &str, errno: Option<u64>| {
        let mut value = json!({"defaultAction": name, "flags": []});
        if let Some(errno) = errno {
            value["defaultErrnoRet"] = json!(errno);
        }
        good(value).default_action
    };
    assert_eq!(action("SCMP_ACT_ERRNO", None), SeccompAction::Errno(1));
    assert_eq!(action("SCMP_ACT_ERRNO", Some(0)), SeccompAction::Errno(0));
    assert_eq!(action("SCMP_ACT_TRACE", None), SeccompAction::Trace(1));
    assert_eq!(action("SCMP_ACT_TRACE", Some(65_535)), SeccompAction::Trace(65_535));
    assert_eq!(action("SCMP_ACT_KILL", None), SeccompAction::KillThread);
    assert_eq!(action("SCMP_ACT_KILL_THREAD", None), SeccompAction::KillThread);
    assert_eq!(action("SCMP_ACT_KILL_PROCESS", None), SeccompAction::KillProcess);
    assert_eq!(action("SCMP_ACT_TRAP", None), SeccompAction::Trap);
    assert_eq!(action("SCMP_ACT_LOG", None), SeccompAction::Log);
    let errno = |name: &str, errno: u64, text: &str| {
        filter(json!({"defaultAction": name, "defaultErrnoRet": errno}), &[(Error, "/defaultErrnoRet", text)]);
        let rules = json!([{"names": ["read"], "action": name, "errnoRet": errno}]);
        filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}), &[(Error, "/syscalls/0/errnoRet", text)]);
    };
    errno("SCMP_ACT_KILL", 1, "1 has no meaning for SCMP_ACT_KILL");
    errno("SCMP_ACT_ALLOW", 0, "0 has no meaning");
    errno("SCMP_ACT_LOG", 5, "5 has no meaning");
    errno("SCMP_ACT_ERRNO", 4096, "from 0 to 4095, not 4096");
    errno("SCMP_ACT_TRACE", 65_536, "from 0 to 65535, not 65536");
    filter(
        json!({"defaultAction": "ALLOW"}),
        &[(Error, "/defaultAction", "has no value \"ALLOW\"; known are SCMP_ACT_ALLOW")],
    );
}

#[test]
fn absent_parts() {
    filter(json!({}), &[(Warning, "/defaultAction", "no filter is used")]);
    assert_eq!(lowered(json!({"linux": {"seccomp": {}}})).seccomp, None);
    filter(
        json!({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG"}]}),
        &[(Error, "/defaultAction", "is required")],
    );
    assert_eq!(good(json!({"defaultAction": "SCMP_ACT_ALLOW"})).flags, 4);
    assert_eq!(good(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": []})).flags, 0);
}

#[test]
fn names_of_the_tables() {
    filter(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86", "SCMP_ARCH_MIPS"], "flags": ["LOG"]}),
        &[
            (Error, "/architectures/0", "has no value \"x86\""),
            (Warning, "/architectures/1", "SCMP_ARCH_MIPS has no table here"),
            (Error, "/flags/0", "has no value \"LOG\""),
        ],
    );
    for (name, _) in crate::validate::seccomp::ARCHITECTURES {
        let spec = good(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name]}));
        assert_eq!(format!("SCMP_ARCH_{}", spec.architectures[0].to_uppercase()), name);
    }
}

#[test]
fn rules() {
    let rules = |rules: Value, expected: &[Expected<'_>]| {
        filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}), expected);
    };
    rules(
        json!([{"action": "SCMP_ACT_LOG"}, {"names": [], "action": "SCMP_ACT_LOG"}, {"names": [""]}, {"names": ["a"], "action": "X"}]),
        &[
            (Error, "/syscalls/0/names", "at least one entry"),
            (Error, "/syscalls/1/names", "at least one entry"),
            (Error, "/syscalls/2/names/0", "must not be empty"),
            (Error, "/syscalls/2/action", "is required"),
            (Error, "/syscalls/3/action", "has no value \"X\""),
        ],
    );
    rules(
        json!([{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [
            {"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 1}, {"op": "EQ", "index": 0, "value": -1}, {"op": "SCMP_CMP_NE"},
        ]}]),
        &[
            (Error, "/syscalls/0/args/0/index", "from 0 to 5, not 6"),
            (Error, "/syscalls/0/args/1/op", "is required"),
            (Error, "/syscalls/0/args/2/op", "has no value \"EQ\""),
            (Error, "/syscalls/0/args/2/value", "not -1"),
            (Error, "/syscalls/0/args/3/index", "is required"),
            (Error, "/syscalls/0/args/3/value", "is required"),
        ],
    );
}

#[test]
fn notification() {
    let notify = |names: &[&str]| json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]);
    filter(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify(&["mount"])}),
        &[(Error, "/listenerPath", "is required for SCMP_ACT_NOTIFY")],
    );
    filter(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "syscalls": notify(&["read", "write"])}),
        &[(Error, "/syscalls/0/names", "cannot have \"write\"")],
    );
    filter(
        json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/s"}),
        &[(Error, "/defaultAction", "cannot be SCMP_ACT_NOTIFY")],
    );
    filter(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
        &[(Error, "/listenerMetadata", "\"m\" must not be set without listenerPath")],
    );
    filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "listenerMetadata": ""}), &[]);
}
