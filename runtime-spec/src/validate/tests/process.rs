use super::*;
use crate::model::{CapSet, ConsoleSize, IoPriority, Rlimit};

#[test]
fn cwd_args_env() {
    check(json!({"process": {"cwd": null}}), &[(Error, "/process/cwd", "process.cwd is required")]);
    check(json!({"process": {"cwd": ""}}), &[(Error, "/process/cwd", "must not be empty")]);
    check(json!({"process": {"cwd": "tmp"}}), &[(Error, "/process/cwd", "must be an absolute path, not \"tmp\"")]);
    check(json!({"process": {"args": null}}), &[(Error, "/process/args", "at least one entry")]);
    check(json!({"process": {"args": []}}), &[(Error, "/process/args", "at least one entry")]);
    check(json!({"process": {"args": ["a\0"]}}), &[(Error, "/process/args/0", "NUL")]);
    check(
        json!({"process": {"env": ["A=1", "B", "=x", "C=\0"]}}),
        &[
            (Error, "/process/env/1", "process.env[1] \"B\" must be NAME=value"),
            (Error, "/process/env/2", "has no name"),
            (Error, "/process/env/3", "NUL"),
        ],
    );
    let process = lowered(json!({"process": {"env": ["A=1", "B=2", "A=3", "C==", "B="]}})).process.unwrap();
    assert_eq!(process.env, ["A=3", "C==", "B="]);
}

#[test]
fn terminal() {
    let size = json!({"height": 25, "width": 80});
    let process = lowered(json!({"process": {"terminal": true, "consoleSize": size}})).process.unwrap();
    assert_eq!((process.terminal, process.console_size), (true, Some(ConsoleSize { height: 25, width: 80 })));
    let ignored = json!({"process": {"consoleSize": {"height": 70_000}}});
    assert_eq!(lowered(ignored).process.unwrap().console_size, None);
    check(
        json!({"process": {"terminal": true, "consoleSize": {"height": 70_000}}}),
        &[
            (Warning, "/process/consoleSize/height", "70000 is more than a terminal has"),
            (Error, "/process/consoleSize/width", "is required"),
        ],
    );
}

#[test]
fn user() {
    let user = lowered(json!({"process": {"user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [5, 6]}}}));
    let user = user.process.unwrap().user;
    assert_eq!((user.uid, user.gid, user.umask, user.additional_gids), (1, 2, Some(0o77), vec![5, 6]));
    let none = u32::MAX;
    check(
        json!({"process": {"user": {"uid": none, "gid": none, "additionalGids": [1, none]}}}),
        &[
            (Error, "/process/user/uid", "4294967295 is not an id"),
            (Error, "/process/user/gid", "is not an id"),
            (Error, "/process/user/additionalGids/1", "is not an id"),
        ],
    );
    check(json!({"process": {"user": {"umask": 0o1022}}}), &[(Warning, "/process/user/umask", "18 is used")]);
    check(
        json!({"process": {"user": {"additionalGids": vec![1; 65_537]}}}),
        &[(Error, "/process/user/additionalGids", "has 65537 groups")],
    );
    check(json!({"process": {"user": null}}), &[]);
}

#[test]
fn capabilities() {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_NOVEL", "chown"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"],
    });
    let patch = json!({"process": {"capabilities": sets}});
    let expected = [
        (Warning, "/process/capabilities/bounding/1", "\"CAP_NOVEL\" is not a known capability and is ignored"),
        (Warning, "/process/capabilities/bounding/2", "\"chown\""),
        (Warning, "/process/capabilities/effective", "has CAP_SYS_ADMIN, which without being permitted cannot"),
        (Warning, "/process/capabilities/ambient", "has CAP_CHOWN, which without being permitted and inheritable"),
    ];
    check(patch.clone(), &expected);
    let sets = lowered(patch).process.unwrap().capabilities;
    assert_eq!((sets.bounding, sets.effective, sets.ambient), (CapSet(1), CapSet(1), CapSet(1 << 5)));
    assert_eq!(lowered(json!({"process": {"capabilities": {}}})).process.unwrap().capabilities, Default::default());
}

#[test]
fn rlimits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    let spec =
        lowered(json!({"process": {"rlimits": [limit("RLIMIT_NOFILE", 1, u64::MAX), limit("RLIMIT_CPU", 0, 0)]}}));
    let expected = [Rlimit { resource: 7, soft: 1, hard: u64::MAX }, Rlimit { resource: 0, soft: 0, hard: 0 }];
    assert_eq!(spec.process.unwrap().rlimits, expected);
    check(
        json!({"process": {"rlimits": [
            limit("RLIMIT_NOFILE", 1, 1), limit("RLIMIT_NOFILE", 1, 1), limit("RLIMIT_FOO", 1, 1),
            limit("RLIMIT_CORE", 2, 1), {"type": "RLIMIT_AS", "soft": 1}, {"soft": 1, "hard": 1},
        ]}}),
        &[
            (Error, "/process/rlimits/1/type", "RLIMIT_NOFILE stands in the list twice"),
            (Error, "/process/rlimits/2/type", "has no value \"RLIMIT_FOO\"; known are RLIMIT_CPU, "),
            (Error, "/process/rlimits/3/soft", "2 is more than the hard limit, 1"),
            (Error, "/process/rlimits/4/hard", "is required"),
            (Error, "/process/rlimits/5/type", "is required"),
        ],
    );
    check(
        json!({"process": {"rlimits": [{"type": "RLIMIT_AS", "soft": -1, "hard": -1}]}}),
        &[(Error, "/process/rlimits/0/soft", "not -1"), (Error, "/process/rlimits/0/hard", "not -1")],
    );
}

#[test]
fn small_fields() {
    let spec = lowered(json!({"process": {
        "noNewPrivileges": true, "oomScoreAdj": -1000, "apparmorProfile": "p", "selinuxLabel": "",
    }}));
    let process = spec.process.unwrap();
    assert!(process.no_new_privileges);
    assert_eq!((process.oom_score_adj, process.selinux_label), (Some(-1000), None));
    assert_eq!(process.apparmor_profile.as_deref(), Some("p"));
    for value in [-1001_i64, 1001, i64::MAX] {
        check(json!({"process": {"oomScoreAdj": value}}), &[(Error, "/process/oomScoreAdj", "from -1000 to 1000")]);
    }
}

/// Findings of a `scheduler` alone.
#[track_caller]
fn scheduler(value: Value, expected: &[(&str, &str)]) {
    let pointers: Vec<String> = expected.iter().map(|(at, _)| format!("/process/scheduler{at}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((_, text), at)| (Error, at.as_str(), *text)).collect();
    check(json!({"process": {"scheduler": value}}), &expected);
}

#[test]
fn scheduling() {
    scheduler(json!({}), &[("/policy", "is required")]);
    scheduler(json!({"policy": "SCHED_X"}), &[("/policy", "\"SCHED_X\"")]);
    scheduler(json!({"policy": "SCHED_OTHER", "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), &[]);
    scheduler(json!({"policy": "SCHED_OTHER", "nice": 20}), &[("/nice", "from -20 to 19 for SCHED_OTHER, not 20")]);
    scheduler(json!({"policy": "SCHED_BATCH", "nice": -21}), &[("/nice", "not -21")]);
    scheduler(json!({"policy": "SCHED_IDLE", "nice": 30}), &[]);
    scheduler(json!({"policy": "SCHED_FIFO", "priority": 99}), &[]);
    scheduler(json!({"policy": "SCHED_FIFO", "priority": 100}), &[("/priority", "from 1 to 99")]);
    scheduler(json!({"policy": "SCHED_RR"}), &[("/priority", "not 0")]);
    scheduler(json!({"policy": "SCHED_OTHER", "priority": 1}), &[("/priority", "must be 0 for SCHED_OTHER, not 1")]);
    scheduler(json!({"policy": "SCHED_OTHER", "priority": -1}), &[("/priority", "not -1")]);
    scheduler(json!({"policy": "SCHED_OTHER", "flags": ["RESET"]}), &[("/flags/0", "\"RESET\"")]);
    scheduler(
        json!({"policy": "SCHED_OTHER", "runtime": 1, "deadline": 2, "period": 3}),
        &[("/runtime", "SCHED_DEADLINE only"), ("/deadline", "2 is"), ("/period", "3 is")],
    );
    let deadline = |runtime: u64, deadline: u64, period: u64| json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period});
    scheduler(deadline(1024, 2048, 0), &[]);
    scheduler(deadline(1024, 1024, 1024), &[]);
    scheduler(deadline(1023, 2048, 4096), &[("/runtime", "at least 1024")]);
    scheduler(deadline(3000, 2048, 4096), &[("", "runtime <= deadline <= period, not 3000 <= 2048 <= 4096")]);
    scheduler(deadline(2000, 5000, 4096), &[("", "5000 <= 4096")]);
    scheduler(deadline(2000, 1 << 63, 1 << 63), &[("", "has a time")]);
    check(
        json!({"process": {"scheduler": {"policy": "SCHED_ISO"}}}),
        &[(Warning, "/process/scheduler/policy", "reserved")],
    );
    let spec = lowered(json!({"process": {"scheduler": {
        "policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000,
        "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_UTIL_CLAMP_MAX"],
    }}}));
    let s = spec.process.unwrap().scheduler.unwrap();
    assert_eq!((s.policy, s.flags, s.runtime_ns, s.deadline_ns, s.period_ns), (6, 0x42, 2000, 3000, 4000));
}

#[test]
fn io_priority() {
    let spec = lowered(json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4}}}));
    assert_eq!(spec.process.unwrap().io_priority, Some(IoPriority { class: 3, level: 4 }));
    check(
        json!({"process": {"ioPriority": {"class": "IDLE", "priority": 8}}}),
        &[
            (Error, "/process/ioPriority/class", "\"IDLE\""),
            (Error, "/process/ioPriority/priority", "from 0 to 7, not 8"),
        ],
    );
    check(json!({"process": {"ioPriority": {"priority": 1}}}), &[(Error, "/process/ioPriority/class", "is required")]);
}

#[test]
fn cpu_affinity() {
    let spec = lowered(json!({"process": {"execCPUAffinity": {"initial": "7", "final": "0-2,7"}}}));
    let affinity = spec.process.unwrap().exec_cpu_affinity.unwrap();
    assert_eq!((affinity.initial, affinity.final_), (Some(vec![7]), Some(vec![0, 1, 2, 7])));
    let empty = lowered(json!({"process": {"execCPUAffinity": {"initial": "", "final": ""}}}));
    assert_eq!(empty.process.unwrap().exec_cpu_affinity, None);
    check(
        json!({"process": {"execCPUAffinity": {"initial": "a", "final": "3-1"}}}),
        &[
            (Error, "/process/execCPUAffinity/initial", "\"a\" is not a list of CPUs"),
            (Error, "/process/execCPUAffinity/final", "ends before it begins"),
        ],
    );
}

#[test]
fn a_process_alone() {
    let (findings, process) = load_process(br#"{"cwd": "/tmp", "args": ["ls"]}"#);
    compare(&findings, &[]);
    assert_eq!(process.unwrap().cwd, "/tmp");
    let (findings, process) = load_process(br#"{"cwd": "tmp"}"#);
    compare(&findings, &[(Error, "/cwd", "cwd must be an absolute path"), (Error, "/args", "args must have")]);
    assert_eq!(process, None);
    let (findings, _) = load_process(b"x");
    compare(&findings, &[(Error, "", "not valid JSON")]);
}
