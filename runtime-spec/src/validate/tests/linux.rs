use super::*;
use crate::model::{DeviceKind, Personality, PropagationKind};

/// Findings of `linux` with a change; pointers are relative to it.
#[track_caller]
fn linux(patch: Value, expected: &[Expected<'_>]) {
    let pointers: Vec<String> = expected.iter().map(|(_, at, _)| format!("/linux{at}")).collect();
    let expected: Vec<Expected<'_>> =
        expected.iter().zip(&pointers).map(|((severity, _, text), at)| (*severity, at.as_str(), *text)).collect();
    check(json!({ "linux": patch }), &expected);
}

#[test]
fn sysctl() {
    let set = |key: &str, value: &str| json!({"sysctl": {key: value}});
    for good in [
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0.100/forwarding",
        "kernel.msgmax",
        "kernel/sem",
        "fs.mqueue.msg_max",
        "kernel.domainname",
        "kernel.shm_rmid_forced",
    ] {
        linux(set(good, "1"), &[]);
    }
    let spec = lowered(json!({"linux": {"sysctl": {"net/ipv4/conf/eth0.100/forwarding": "1\t2", "net.a/b": ""}}}));
    assert_eq!(spec.sysctl["net.ipv4.conf.eth0/100.forwarding"], "1\t2");
    assert_eq!(spec.sysctl["net.a/b"], "");
    for host in
        ["kernel.core_pattern", "vm.swappiness", "kernel.msg", "fs.file-max", "network.x", "net", "kernel.pid_max"]
    {
        linux(set(host, "1"), &[(Error, &format!("/sysctl/{host}"), "is not in a namespace")]);
    }
    linux(set("kernel.hostname", "x"), &[(Error, "/sysctl/kernel.hostname", "the field \"hostname\" sets it")]);
    linux(set("user.max_net_namespaces", "1"), &[(Error, "/sysctl/user.max_net_namespaces", "type \"user\"")]);
    for bad in ["", "net..a", "net.//.kernel.core_pattern", ".net", "net.", "net./.a", "net.a\0"] {
        let pointer = format!("/sysctl/{}", bad.replace('/', "~1"));
        linux(set(bad, "1"), &[(Error, &pointer, "is not a name of a kernel parameter")]);
    }
    linux(set("net/../kernel/core_pattern", "x"), &[(Error, "/sysctl/net~1..~1kernel~1core_pattern", "is not a name")]);
    linux(set("net.a", "1\n2"), &[(Error, "/sysctl/net.a", "must be one line, not \"1\\n2\"")]);
    linux(json!({"sysctl": {"net.a.b": "1", "net/a/b": "2"}}), &[(Error, "/sysctl/net~1a~1b", "is set twice")]);
}

#[test]
fn sysctl_needs_its_namespace() {
    let cases = [
        ("net.a", "network"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.a", "ipc"),
        ("user.a", "user"),
        ("kernel.domainname", "uts"),
    ];
    for (key, kind) in cases {
        let pointer = format!("/sysctl/{key}");
        let text = format!("is of the host unless there is a namespace of type \"{kind}\"");
        linux(json!({"namespaces": [], "sysctl": {key: "1"}}), &[(Error, &pointer, &text)]);
        linux(json!({"namespaces": [{"type": kind, "path": "/n"}], "sysctl": {key: "1"}}), &[]);
    }
}

#[test]
fn paths() {
    let spec = lowered(json!({"linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys", "/a"]}}));
    assert_eq!((spec.masked_paths.len(), spec.readonly_paths.len()), (1, 2));
    linux(
        json!({"maskedPaths": ["proc/kcore", ""], "readonlyPaths": ["/a", "b"]}),
        &[
            (Error, "/maskedPaths/0", "must be an absolute path, not \"proc/kcore\""),
            (Error, "/maskedPaths/1", "not \"\""),
            (Error, "/readonlyPaths/1", "not \"b\""),
        ],
    );
    linux(
        json!({"namespaces": [], "maskedPaths": ["/a"], "readonlyPaths": ["/b"]}),
        &[(Error, "/maskedPaths", "type \"mount\""), (Error, "/readonlyPaths", "type \"mount\"")],
    );
    linux(json!({"namespaces": [], "maskedPaths": [], "readonlyPaths": []}), &[]);
}

#[test]
fn propagation_label_cgroup() {
    let cases = [("slave", PropagationKind::Slave, false), ("rshared", PropagationKind::Shared, true)];
    for (name, kind, recursive) in cases {
        let propagation = lowered(json!({"linux": {"rootfsPropagation": name}})).rootfs_propagation.unwrap();
        assert_eq!((propagation.kind, propagation.recursive), (kind, recursive));
    }
    assert_eq!(lowered(json!({"linux": {"rootfsPropagation": ""}})).rootfs_propagation, None);
    linux(
        json!({"rootfsPropagation": "rw"}),
        &[(Error, "/rootfsPropagation", "has no value \"rw\"; known are private")],
    );
    linux(json!({"mountLabel": "a\0"}), &[(Error, "/mountLabel", "NUL")]);
    let cgroup = |path: &str| lowered(json!({"linux": {"cgroupsPath": path}})).cgroups_path;
    assert_eq!(cgroup("/a/b").as_deref(), Some("/a/b"));
    assert_eq!(cgroup("system.slice:skep:a").as_deref(), Some("system.slice:skep:a"));
    assert_eq!(cgroup("/../../etc/./x").as_deref(), Some("/etc/x"));
    assert_eq!(cgroup("a/../../b").as_deref(), Some("b"));
    assert_eq!(cgroup(""), None);
    assert_eq!(cgroup(".."), None);
    linux(json!({"cgroupsPath": "../b"}), &[(Warning, "/cgroupsPath", "\"../b\" has \"..\" and is used as \"b\"")]);
}

#[test]
fn devices() {
    let device =
        |kind: &str| json!({"path": "/dev/x", "type": kind, "major": 10, "minor": 229, "fileMode": 0o20_666, "uid": 1});
    for (name, kind) in [("c", DeviceKind::Char), ("u", DeviceKind::Char), ("b", DeviceKind::Block)] {
        let spec = lowered(json!({"linux": {"devices": [device(name)]}}));
        let node = &spec.devices[0];
        assert_eq!((node.kind, node.major, node.minor, node.mode, node.uid), (kind, 10, 229, Some(0o666), 1));
    }
    let fifo = &lowered(json!({"linux": {"devices": [{"path": "/p", "type": "p", "major": -1}]}})).devices[0];
    assert_eq!((fifo.kind, fifo.major, fifo.minor, fifo.mode), (DeviceKind::Fifo, 0, 0, None));
    linux(
        json!({"devices": [
            {"path": "dev/x", "type": "c", "major": 1, "minor": 2}, {"type": "a", "major": 1, "minor": 3},
            {"path": "/b", "type": "b", "major": -1}, {"path": "/c", "type": "c", "major": 4096, "minor": 1_048_576},
            {"path": "/d", "type": "p", "uid": 4_294_967_295_u64, "fileMode": 0o10_0000 + 0o4777 + (1 << 20)}, {"path": "/e"},
        ]}),
        &[
            (Error, "/devices/0/path", "must be an absolute path, not \"dev/x\""),
            (Error, "/devices/1/path", "is required"),
            (Error, "/devices/1/type", "has no value \"a\"; known are c, u, b, p"),
            (Error, "/devices/2/major", "must be from 0 to 4095, not -1"),
            (Error, "/devices/2/minor", "is required unless the type is \"p\""),
            (Error, "/devices/3/major", "not 4096"),
            (Error, "/devices/3/minor", "from 0 to 1048575"),
            (Error, "/devices/4/uid", "is not an id"),
            (Warning, "/devices/4/fileMode", "4777 is used"),
            (Error, "/devices/5/type", "is required"),
        ],
    );
    linux(
        json!({"devices": [device("c"), device("c"), {"path": "/y", "type": "c", "major": 10, "minor": 229}]}),
        &[
            (Warning, "/devices/1/path", "\"/dev/x\" stands in the list twice"),
            (Warning, "/devices/1", "is device 10:229 once more"),
            (Warning, "/devices/2", "is device 10:229 once more"),
        ],
    );
}

#[test]
fn net_devices() {
    let spec = lowered(json!({"linux": {"netDevices": {"eth0": {}, "eth1": {"name": "in%d"}, "eth2": {"name": ""}}}}));
    let names: Vec<_> = spec.net_devices.iter().map(|d| (d.host_name.as_str(), d.name.as_str())).collect();
    assert_eq!(names, [("eth0", "eth0"), ("eth1", "in%d"), ("eth2", "eth2")]);
    for bad in [".", "..", "a b", "a:b", "a\tb", "a\u{b}b"] {
        linux(
            json!({"netDevices": {"e": {"name": bad}}}),
            &[(Error, "/netDevices/e/name", "is not a name of a network device")],
        );
        linux(
            json!({"netDevices": {bad: {}}}),
            &[(Error, &format!("/netDevices/{bad}"), "is not a name of a network device")],
        );
    }
    linux(
        json!({"netDevices": {"": {}, "a/b": {}}}),
        &[(Error, "/netDevices/", "\"\""), (Error, "/netDevices/a~1b", "\"a/b\"")],
    );
    linux(json!({"netDevices": {"fifteen-bytes-1": {}}}), &[]);
    linux(
        json!({"netDevices": {"sixteen-bytes-12": {}}}),
        &[(Error, "/netDevices/sixteen-bytes-12", "longer than 15 bytes")],
    );
    linux(
        json!({"netDevices": {"a": {"name": "x"}, "b": {"name": "x"}, "x": {"name": "y%d"}, "z": {"name": "y%d"}}}),
        &[(Error, "/netDevices/b/name", "\"x\" is the name of another device too")],
    );
    linux(
        json!({"namespaces": [], "netDevices": {"a": {}}}),
        &[(Error, "/netDevices", "needs a namespace of type \"network\"")],
    );
    linux(json!({"namespaces": [], "netDevices": {}}), &[]);
    linux(
        json!({"netDevices": {"eth0": {"name": 23}}}),
        &[(Error, "/netDevices/eth0/name", "must be a string, not 23")],
    );
}

#[test]
fn personality() {
    let with = |domain: &str| lowered(json!({"linux": {"personality": {"domain": domain}}})).personality;
    assert_eq!((with("LINUX"), with("LINUX32")), (Some(Personality { domain: 0 }), Some(Personality { domain: 8 })));
    linux(json!({"personality": {"domain": "BSD"}}), &[(Error, "/personality/domain", "known are LINUX, LINUX32")]);
    linux(json!({"personality": {}}), &[(Error, "/personality/domain", "is required")]);
    linux(json!({"personality": {"domain": "LINUX", "flags": ["X"]}}), &[(Warning, "/personality/flags", "ignored")]);
}

#[test]
fn intel_rdt() {
    let spec =
        lowered(json!({"linux": {"intelRdt": {"closID": "/", "schemata": ["L3:0=1"], "enableMonitoring": true}}}));
    let rdt = spec.intel_rdt.unwrap();
    assert_eq!((rdt.clos_id.as_deref(), rdt.schemata.len(), rdt.enable_monitoring), (Some("/"), 1, true));
    assert_eq!(lowered(json!({"linux": {"intelRdt": {}}})).intel_rdt, Some(Default::default()));
    for bad in [".", "..", "a/b", "/a", "//"] {
        linux(json!({"intelRdt": {"closID": bad}}), &[(Error, "/intelRdt/closID", "is not a name of one folder")]);
    }
    linux(
        json!({"intelRdt": {"l3CacheSchema": "0=1\n", "memBwSchema": "0=1\n", "schemata": ["a", "b\nc"]}}),
        &[
            (Warning, "/intelRdt/l3CacheSchema", "does not begin with L3:"),
            (Warning, "/intelRdt/l3CacheSchema", "has a newline"),
            (Error, "/intelRdt/memBwSchema", "must begin with MB:"),
            (Error, "/intelRdt/memBwSchema", "must not have a newline"),
            (Error, "/intelRdt/schemata/1", "must not have a newline"),
        ],
    );
}

#[test]
fn memory_policy() {
    let policy = |value: Value, expected: &[Expected<'_>]| linux(json!({ "memoryPolicy": value }), expected);
    let spec = lowered(json!({"linux": {"memoryPolicy": {
        "mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"],
    }}}));
    let lowered_policy = spec.memory_policy.unwrap();
    assert_eq!((lowered_policy.mode, lowered_policy.flags, lowered_policy.nodes), (3, 1 << 15, vec![2, 3]));
    policy(json!({"nodes": "0"}), &[(Error, "/memoryPolicy/mode", "is required")]);
    policy(json!({"mode": "BIND"}), &[(Error, "/memoryPolicy/mode", "has no value \"BIND\"")]);
    for mode in ["MPOL_DEFAULT", "MPOL_LOCAL"] {
        policy(json!({ "mode": mode }), &[]);
        policy(json!({"mode": mode, "nodes": "0"}), &[(Error, "/memoryPolicy/nodes", "must be empty")]);
    }
    for mode in ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"] {
        policy(json!({"mode": mode, "nodes": "0"}), &[]);
        policy(json!({ "mode": mode }), &[(Error, "/memoryPolicy/nodes", "at least one node")]);
    }
    policy(json!({"mode": "MPOL_PREFERRED"}), &[]);
    policy(
        json!({"mode": "MPOL_BIND", "nodes": "x"}),
        &[(Error, "/memoryPolicy/nodes", "\"x\" is not a list of nodes")],
    );
    policy(json!({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_X"]}), &[(Error, "/memoryPolicy/flags/0", "\"MPOL_F_X\"")]);
    let both = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"];
    policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": both}), &[(Error, "/memoryPolicy/flags", "both")]);
    let balancing = ["MPOL_F_NUMA_BALANCING"];
    policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": balancing}), &[]);
    policy(
        json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": balancing}),
        &[(Error, "/memoryPolicy/flags", "with MPOL_INTERLEAVE")],
    );
    for mode in ["MPOL_LOCAL", "MPOL_PREFERRED"] {
        let flags = ["MPOL_F_STATIC_NODES"];
        policy(json!({"mode": mode, "flags": flags}), &[(Error, "/memoryPolicy/flags", "has none here")]);
    }
}
