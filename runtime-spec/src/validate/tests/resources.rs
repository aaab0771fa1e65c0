use super::*;
use crate::model::{DeviceRule, DeviceRuleKind, Limit, RdmaLimit, Resources};

/// Findings of `resources`; pointers are relative to them.
#[track_caller]
fn limits(value: Value, expected: &[Expected<'_>]) {
    let pointers: Vec<String> = expected.iter().map(|(_, at, _)| format!("/linux/resources{at}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((severity, _, text), at)| (*severity, at.as_str(), *text)).collect();
    check(json!({"linux": {"resources": value}}), &expected);
}

#[track_caller]
fn good(value: Value) -> Resources {
    lowered(json!({"linux": {"resources": value}})).resources
}

#[test]
fn nothing_means_nothing() {
    assert_eq!(good(json!({})), Resources::default());
    assert_eq!(good(json!({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "network": {}})), Resources::default());
}

#[test]
fn device_rules() {
    let rules = good(json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rm"},
        {"allow": true, "type": "", "major": -1, "access": "w"},
        {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
        {"allow": true, "type": "a", "access": "m"},
    ]}));
    let rule = |allow, kind, major, minor, access: &str| DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    };
    let expected = [
        rule(false, None, None, None, "rwm"),
        rule(true, Some(DeviceRuleKind::Char), Some(10), None, "rm"),
        rule(true, None, None, None, "w"),
        rule(true, Some(DeviceRuleKind::Block), Some(8), Some(0), "r"),
        rule(true, None, None, None, "m"),
    ];
    assert_eq!(rules.devices, expected);
    limits(
        json!({"devices": [{"access": "r"}, {"allow": true}, {"allow": true, "access": "rx"},
            {"allow": true, "access": "r", "type": "p", "major": -2, "minor": 4_294_967_296_u64}, {"allow": true, "access": "r", "minor": -2}]}),
        &[
            (Error, "/devices/0/allow", "is required"),
            (Error, "/devices/1/access", "at least one of r, w and m"),
            (Warning, "/devices/2/access", "is made of r, w and m; the rest of \"rx\" is ignored"),
            (Error, "/devices/3/type", "has no value \"p\"; known are a, c, b"),
            (Error, "/devices/4/minor", "-1 for any, not -2"),
        ],
    );
}

#[test]
fn memory() {
    let memory = good(json!({"memory": {
        "limit": 100, "reservation": -1, "swap": 200, "kernel": 0, "kernelTCP": -1, "swappiness": 0,
        "disableOOMKiller": true, "useHierarchy": false, "checkBeforeUpdate": true,
    }}))
    .memory;
    assert_eq!(
        (memory.limit, memory.reservation, memory.swap),
        (Some(Limit::Value(100)), Some(Limit::Max), Some(Limit::Value(200)))
    );
    assert_eq!((memory.kernel, memory.kernel_tcp, memory.swappiness), (None, Some(Limit::Max), Some(0)));
    assert_eq!(
        (memory.disable_oom_killer, memory.use_hierarchy, memory.check_before_update),
        (Some(true), Some(false), true)
    );
    assert_eq!(good(json!({"memory": {"limit": 0, "swap": 0, "swappiness": u64::MAX}})), Resources::default());
    limits(
        json!({"memory": {"limit": -2, "reservation": -2, "swap": -2, "swappiness": 101, "kernel": 5}}),
        &[
            (Error, "/memory/limit", "-1 for no limit, not -2"),
            (Error, "/memory/reservation", "not -2"),
            (Error, "/memory/swap", "not -2"),
            (Error, "/memory/swappiness", "from 0 to 100, not 101"),
            (Warning, "/memory/kernel", "deprecated"),
        ],
    );
    limits(
        json!({"memory": {"limit": 200, "swap": 100}}),
        &[(Error, "/memory/swap", "100 is memory and swap together")],
    );
    limits(json!({"memory": {"limit": -1, "swap": 100}}), &[(Error, "/memory/swap", "needs a memory limit")]);
    limits(json!({"memory": {"swap": 100}}), &[(Error, "/memory/swap", "needs a memory limit")]);
    limits(json!({"memory": {"limit": 100, "swap": 100}}), &[]);
    limits(json!({"memory": {"limit": 100, "swap": -1}}), &[]);
}

#[test]
fn cpu() {
    let cpu = good(json!({"cpu": {
        "shares": 1024, "quota": 1_000_000, "burst": 1_000_000, "period": 500_000, "realtimeRuntime": 950_000,
        "realtimePeriod": 1_000_000, "cpus": "2-3", "mems": "0-7", "idle": 1,
    }}))
    .cpu;
    assert_eq!(
        (cpu.shares, cpu.quota_us, cpu.burst_us, cpu.period_us),
        (Some(1024), Some(Limit::Value(1_000_000)), Some(1_000_000), Some(500_000))
    );
    assert_eq!((cpu.realtime_runtime_us, cpu.realtime_period_us, cpu.idle), (Some(950_000), Some(1_000_000), Some(1)));
    assert_eq!((cpu.cpus.as_deref(), cpu.mems.as_deref()), (Some("2-3"), Some("0-7")));
    let silent = json!({"cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""}});
    assert_eq!(good(silent), Resources::default());
    assert_eq!(good(json!({"cpu": {"quota": -5}})).cpu.quota_us, Some(Limit::Max));
    limits(json!({"cpu": {"shares": 1}}), &[(Warning, "/cpu/shares", "2 is used")]);
    limits(json!({"cpu": {"shares": 300_000}}), &[(Warning, "/cpu/shares", "262144 is used")]);
    limits(
        json!({"cpu": {"quota": 999, "period": 999, "idle": 2, "cpus": "a\nb", "mems": "1;2"}}),
        &[
            (Error, "/cpu/quota", "at least 1000 microseconds, not 999"),
            (Error, "/cpu/period", "from 1000 to 1000000 microseconds, not 999"),
            (Error, "/cpu/idle", "0 or 1, not 2"),
            (Error, "/cpu/cpus", "must be a list such as 0-3,7, not \"a\\nb\""),
            (Error, "/cpu/mems", "\"1;2\""),
        ],
    );
    limits(json!({"cpu": {"period": 1_000_001}}), &[(Error, "/cpu/period", "not 1000001")]);
    limits(
        json!({"cpu": {"quota": 1000, "burst": 1001}}),
        &[(Error, "/cpu/burst", "1001 must not be more than the quota, 1000")],
    );
    limits(json!({"cpu": {"quota": -1, "burst": 1001}}), &[]);
    limits(
        json!({"cpu": {"realtimeRuntime": 2, "realtimePeriod": 1}}),
        &[(Error, "/cpu/realtimeRuntime", "more than the period, 1")],
    );
    limits(json!({"cpu": {"realtimeRuntime": -1, "realtimePeriod": 1, "cpus": "0-7:2/4,N"}}), &[]);
}

#[test]
fn pids() {
    assert_eq!(good(json!({"pids": {"limit": 0}})).pids, Some(Limit::Value(0)));
    assert_eq!(good(json!({"pids": {"limit": -1}})).pids, Some(Limit::Max));
    assert_eq!(good(json!({"pids": {"limit": 5}})).pids, Some(Limit::Value(5)));
    limits(json!({"pids": {"limit": -7}}), &[(Warning, "/pids/limit", "-7 is taken as -1")]);
}

#[test]
fn block_io() {
    let io = good(json!({"blockIO": {
        "weight": 10, "leafWeight": 1000,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
    }}))
    .block_io;
    assert_eq!((io.weight, io.leaf_weight, io.weight_device[0].weight), (Some(10), Some(1000), Some(500)));
    assert_eq!((io.throttle_read_bps[0].rate, io.throttle_write_iops[0].minor), (600, 16));
    assert_eq!(good(json!({"blockIO": {"weight": 0}})), Resources::default());
    limits(
        json!({"blockIO": {
            "weight": 9, "leafWeight": 1001, "weightDevice": [{"major": 1, "minor": 1}, {"weight": 10, "major": -1}],
            "throttleWriteBpsDevice": [{"major": 1, "minor": 1}], "throttleReadIOPSDevice": [{"rate": 1, "minor": 1}],
        }}),
        &[
            (Warning, "/blockIO/weight", "9 is below 10"),
            (Error, "/blockIO/leafWeight", "from 10 to 1000, not 1001"),
            (Error, "/blockIO/weightDevice/0", "must have weight or leafWeight"),
            (Error, "/blockIO/weightDevice/1/major", "must be a device number, not -1"),
            (Error, "/blockIO/weightDevice/1/minor", "is required"),
            (Error, "/blockIO/throttleWriteBpsDevice/0/rate", "is required"),
            (Error, "/blockIO/throttleReadIOPSDevice/0/major", "is required"),
        ],
    );
    limits(json!({"blockIO": {"weight": 65_536}}), &[(Error, "/blockIO/weight", "from 0 to 65535, not 65536")]);
}

#[test]
fn hugepages() {
    let pages =
        good(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 9_223_372_036_854_772_000_u64}]})).hugepages;
    assert_eq!((pages[0].page_size.as_str(), pages[0].limit), ("2MB", 9_223_372_036_854_772_000));
    for bad in ["64kB", "2M", "MB", "02MB", "2 MB", "-2MB", "2TB", "2MB2MB"] {
        limits(
            json!({"hugepageLimits": [{"pageSize": bad, "limit": 1}]}),
            &[(Error, "/hugepageLimits/0/pageSize", "64KB, 2MB or 1GB")],
        );
    }
    limits(
        json!({"hugepageLimits": [{"limit": 1}, {"pageSize": "2MB"}, {"pageSize": "2MB", "limit": 1}]}),
        &[
            (Error, "/hugepageLimits/0/pageSize", "is required"),
            (Error, "/hugepageLimits/1/limit", "is required"),
            (Warning, "/hugepageLimits/2/pageSize", "2MB stands in the list twice"),
        ],
    );
}

#[test]
fn network() {
    let network =
        good(json!({"network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 500}]}})).network;
    assert_eq!((network.class_id, network.priorities), (Some(1_048_577), vec![("eth0".to_owned(), 500)]));
    limits(
        json!({"network": {"priorities": [{"priority": 1}, {"name": "a"}, {"name": "a b", "priority": 1}]}}),
        &[
            (Error, "/network/priorities/0/name", "is required"),
            (Error, "/network/priorities/1/priority", "is required"),
            (Error, "/network/priorities/2/name", "\"a b\" is not a name of a network device"),
        ],
    );
}

#[test]
fn rdma() {
    let rdma =
        good(json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}, "rxe3": {"hcaObjects": 1}}})).rdma;
    assert_eq!(rdma["mlx5_1"], RdmaLimit { hca_handles: Some(3), hca_objects: Some(10_000) });
    limits(json!({"rdma": {"m": {}}}), &[(Error, "/rdma/m", "must have hcaHandles or hcaObjects")]);
    limits(json!({"rdma": {"a b": {"hcaHandles": 1}}}), &[(Error, "/rdma/a b", "is not a name of a device")]);
    limits(
        json!({"rdma": {"m": {"hcaHandles": "many"}}}),
        &[
            (Error, "/rdma/m/hcaHandles", "must be a whole number from 0 to 4294967295, not the string \"many\""),
            (Error, "/rdma/m", "must have"),
        ],
    );
}

#[test]
fn unified() {
    let unified = good(json!({"unified": {"io.max": "259:0 rbps=1\n253:0 rbps=2", "hugetlb.1GB.max": "1"}})).unified;
    assert_eq!(unified.len(), 2);
    for bad in ["", ".", "..", "a/b", "../x"] {
        let pointer = format!("/unified/{}", bad.replace('/', "~1"));
        limits(json!({"unified": {bad: "1"}}), &[(Error, &pointer, "is not a name of one file")]);
    }
    limits(json!({"unified": {"a": "\0"}}), &[(Error, "/unified/a", "NUL")]);
    limits(json!({"unified": {"a": 1}}), &[(Error, "/unified/a", "must be a string, not 1")]);
}

#[test]
fn limits_alone() {
    let (findings, limits) = load_resources(br#"{"memory": {"swap": 100}}"#);
    compare(&findings, &[]);
    assert_eq!(limits.unwrap().memory.swap, Some(Limit::Value(100)));
    let (findings, limits) = load_resources(br#"{"memory": {"swap": 100, "limit": 200}, "pids": {"limit": 1.0}}"#);
    compare(
        &findings,
        &[(Error, "/memory/swap", "memory.swap 100"), (Error, "/pids/limit", "pids.limit must be a whole")],
    );
    assert_eq!(limits, None);
    let given =
        oci::LinuxResources { memory: Some(oci::Memory { swap: Some(1), ..Default::default() }), ..Default::default() };
    assert!(validate_resources(&given, Purpose::Update).1.is_some());
    assert!(validate_resources(&given, Purpose::Create).1.is_none());
}
