//! Definitions that the specification shows or describes as a whole: each as its text says.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use runtime_spec::model::{Limit, MountKind, NamespaceKind, SeccompAction};
use runtime_spec::{Severity, load};
use serde_json::{Value, json};

/// Errors of a definition, as pointers.
fn errors(document: &Value) -> Vec<String> {
    let report = load(document.to_string().as_bytes());
    let errors = report.findings.into_iter().filter(|f| f.severity == Severity::Error);
    errors.map(|finding| finding.pointer).collect()
}

/// A definition that uses every field for Linux, as the full example of the specification does, and the rest.
fn everything() -> Value {
    json!({
        "ociVersion": "1.0.1",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 3, "gid": 4, "umask": 18, "additionalGids": [7, 8]},
            "args": ["sh", "-l"],
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm"],
            "cwd": "/srv",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_KILL"],
                "ambient": ["CAP_NET_BIND_SERVICE"],
            },
            "rlimits": [
                {"type": "RLIMIT_CORE", "hard": 1024, "soft": 512},
                {"type": "RLIMIT_NOFILE", "hard": 2048, "soft": 1024},
            ],
            "apparmorProfile": "a_profile",
            "oomScoreAdj": 100,
            "selinuxLabel": "system_u:system_r:container_t:s0:c1,c2",
            "scheduler": {"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "1", "final": "0-1"},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "hive",
        "domainname": "meadow.test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/data", "type": "none", "source": "/volumes/testing", "options": ["rbind", "rw"]},
            {"destination": "/home", "source": "/home", "options": ["rbind", "ridmap", "rnosuid"],
             "uidMappings": [{"containerID": 0, "hostID": 9000, "size": 5}],
             "gidMappings": [{"containerID": 0, "hostID": 9000, "size": 5}]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "hooks": {
            "prestart": [{"path": "/usr/bin/fix", "args": ["fix", "1"], "env": ["k=v"]}, {"path": "/usr/bin/net"}],
            "createRuntime": [{"path": "/usr/bin/a"}],
            "createContainer": [{"path": "/usr/bin/b", "args": ["-mount"]}],
            "startContainer": [{"path": "/usr/bin/c"}],
            "poststart": [{"path": "/usr/bin/notify", "timeout": 5}],
            "poststop": [{"path": "/usr/sbin/clean.sh", "args": ["clean.sh", "-f"]}],
        },
        "linux": {
            "devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 432, "uid": 0, "gid": 0},
                {"path": "/run/pipe", "type": "p"},
            ],
            "netDevices": {"eth9": {"name": "inner0"}, "eth8": {}},
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
            "sysctl": {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "256", "kernel.shmmax": "1"},
            "cgroupsPath": "/myRuntime/myContainer",
            "resources": {
                "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
                "pids": {"limit": 32771},
                "hugepageLimits": [
                    {"pageSize": "2MB", "limit": 9223372036854772000_u64}, {"pageSize": "64KB", "limit": 1000000},
                ],
                "memory": {
                    "limit": 536870912, "reservation": 536870912, "swap": 536870912, "kernel": -1, "kernelTCP": -1,
                    "swappiness": 0, "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true,
                },
                "cpu": {
                    "shares": 1024, "quota": 1000000, "burst": 1000000, "period": 500000, "realtimeRuntime": 950000,
                    "realtimePeriod": 1000000, "cpus": "2-3", "idle": 1, "mems": "0-7",
                },
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                ],
                "blockIO": {
                    "weight": 10, "leafWeight": 10,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}],
                },
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 10000}},
                "unified": {"io.max": "259:0 rbps=2097152\n253:0 rbps=2097152", "hugetlb.1GB.max": "1073741824"},
            },
            "rootfsPropagation": "slave",
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ERRNO"}],
            },
            "timeOffsets": {
                "monotonic": {"secs": 172800, "nanosecs": 0}, "boottime": {"secs": 604800, "nanosecs": 0},
            },
            "namespaces": [
                {"type": "pid", "path": "/proc/1234/ns/pid"}, {"type": "network", "path": "/var/run/netns/neta"},
                {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}, {"type": "cgroup"},
                {"type": "time"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/sched_debug"],
            "readonlyPaths": ["/proc/asound", "/proc/sys"],
            "mountLabel": "system_u:object_r:container_file_t:s0:c1,c2",
            "personality": {"domain": "LINUX32"},
            "intelRdt": {"closID": "guaranteed_group", "schemata": ["L3:0=7f0;1=1f", "MB:0=20;1=70"]},
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]},
        },
        "annotations": {"com.example.key1": "value1"},
    })
}

#[test]
fn a_definition_with_everything_is_understood() {
    let report = load(everything().to_string().as_bytes());
    assert_eq!(report.findings, []);
    let spec = report.spec.unwrap();
    assert_eq!(spec.namespaces.len(), 8);
    assert!(spec.makes(NamespaceKind::User) && !spec.makes(NamespaceKind::Network));
    assert_eq!(spec.mounts.len(), 6);
    assert_eq!(spec.mounts[4].kind, MountKind::Bind { recursive: true });
    assert_eq!(spec.resources.memory.kernel, Some(Limit::Max));
    assert_eq!(spec.resources.hugepages[0].limit, 9_223_372_036_854_772_000);
    assert_eq!(spec.seccomp.unwrap().rules[0].action, SeccompAction::Errno(1));
    assert_eq!(spec.time_offsets.len(), 2);
    assert_eq!(spec.hooks.poststart[0].timeout_s, Some(5));
}

/// Every field that the definition above has reaches the plain structs: written again, nothing is lost.
#[test]
fn nothing_is_lost_in_the_plain_structs() {
    let document = everything();
    let (config, findings) = runtime_spec::oci::parse::<runtime_spec::oci::Config>(document.to_string().as_bytes());
    assert_eq!(findings, []);
    assert_eq!(serde_json::to_value(config).unwrap(), document);
}

#[test]
fn small_definitions_are_enough() {
    assert_eq!(errors(&json!({"ociVersion": "1.0.0", "root": {"path": "rootfs"}})), [""; 0]);
    let start = json!({"ociVersion": "1.0.0", "root": {"path": "r"}, "process": {"cwd": "/", "args": ["sh"],
        "user": {"uid": 0, "gid": 0}}});
    assert_eq!(errors(&start), [""; 0]);
    let rdma = json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}});
    let document = json!({"ociVersion": "1.0.0", "root": {"path": "r"}, "linux": {"resources": rdma}});
    assert_eq!(errors(&document), [""; 0]);
    let foreign = json!({"ociVersion": "1.3.0", "root": {"path": "r"}, "freebsd": {"jail": {"vnet": "disable"}}});
    assert_eq!(errors(&foreign), [""; 0]);
}

/// Removes each field that is required, one at a time.
#[test]
fn each_required_field_is_missed() {
    let required = [
        "/ociVersion",
        "/root",
        "/root/path",
        "/process/cwd",
        "/process/args",
        "/process/consoleSize/height",
        "/process/consoleSize/width",
        "/process/rlimits/0/type",
        "/process/rlimits/0/hard",
        "/process/rlimits/0/soft",
        "/process/scheduler/policy",
        "/process/ioPriority/class",
        "/mounts/0/destination",
        "/mounts/4/gidMappings",
        "/mounts/4/uidMappings/0/size",
        "/hooks/prestart/0/path",
        "/linux/devices/0/path",
        "/linux/devices/0/type",
        "/linux/devices/0/major",
        "/linux/devices/0/minor",
        "/linux/uidMappings",
        "/linux/gidMappings/0/hostID",
        "/linux/namespaces/2/type",
        "/linux/resources/network/priorities/0/name",
        "/linux/resources/network/priorities/0/priority",
        "/linux/resources/hugepageLimits/0/pageSize",
        "/linux/resources/hugepageLimits/0/limit",
        "/linux/resources/devices/0/allow",
        "/linux/resources/blockIO/weightDevice/0/major",
        "/linux/resources/blockIO/throttleReadBpsDevice/0/rate",
        "/linux/seccomp/defaultAction",
        "/linux/seccomp/syscalls/0/names",
        "/linux/seccomp/syscalls/0/action",
        "/linux/personality/domain",
        "/linux/memoryPolicy/mode",
    ];
    for pointer in required {
        let mut document = everything();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        assert!(document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).is_some(), "{pointer}");
        assert!(errors(&document).iter().any(|at| at == pointer), "{pointer}: {:?}", errors(&document));
    }
}

/// Puts a value of a wrong type into every place of the definition, one at a time: the finding names that very place.
#[test]
fn each_wrong_type_is_found_at_its_place() {
    fn places(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                    out.push(at.clone());
                    places(value, &at, out);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    let at = format!("{at}/{index}");
                    out.push(at.clone());
                    places(value, &at, out);
                }
            }
            _ => {}
        }
    }
    let good = everything();
    let mut all = Vec::new();
    places(&good, "", &mut all);
    assert!(all.len() > 250, "{}", all.len());
    for at in all {
        let mut document = good.clone();
        let place = document.pointer_mut(&at).unwrap();
        *place = if place.is_object() || place.is_array() { json!(-1.5) } else { json!([[]]) };
        let errors = errors(&document);
        assert!(errors.contains(&at), "{at}: {errors:?}");
    }
}
