//! Namespaces: each kind new, shared and joined by path; user mappings; time offsets; the cgroup view.

use std::fs;
use std::os::unix::fs::MetadataExt;

use integration::group::path_in;
use integration::host::eventually;
use integration::{Bundle, Container, Sandbox, case, json};

/// The eight kinds: the name in config.json and that in /proc/PID/ns.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn host_ns(file: &str) -> String {
    ns_of("self", file)
}

fn ns_of(pid: impl std::fmt::Display, file: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("readlink of a namespace");
    link.to_string_lossy().into_owned()
}

/// A bundle that shares what may be shared: only the mount namespace is new.
fn sharing(sb: &Sandbox) -> Bundle {
    let b = sb.bundle().unset("/hostname").set("/linux/namespaces", json!([{ "type": "mount" }]));
    b.without_mount("/dev/mqueue")
}

fn check_new(kind: &str) {
    case(|sb| {
        let file = KINDS.iter().find(|(name, _)| *name == kind).expect("a kind").1;
        let b = if kind == "user" { sb.bundle().user_namespace() } else { sb.bundle().namespace(kind, None) };
        let c = sb.detached(&b.sleeper());
        assert_ne!(ns_of(c.pid, file), host_ns(file));
    });
}

fn check_shared(kind: &str) {
    case(|sb| {
        let file = KINDS.iter().find(|(name, _)| *name == kind).expect("a kind").1;
        let b = sb.bundle().without_namespace(kind);
        let b = if kind == "uts" { b.unset("/hostname") } else { b };
        let c = sb.detached(&b.sleeper());
        assert_eq!(ns_of(c.pid, file), host_ns(file));
    });
}

/// A container joins this kind from another that has it anew.
fn check_joined(kind: &str) {
    case(|sb| {
        let file = KINDS.iter().find(|(name, _)| *name == kind).expect("a kind").1;
        let first = sb.bundle().namespace(kind, None).sleeper();
        let holder = sb.detached(&first);
        let b = sb.bundle().namespace(kind, Some(&format!("/proc/{}/ns/{file}", holder.pid)));
        let b = if kind == "uts" { b.unset("/hostname") } else { b };
        let c = sb.detached(&b.sleeper());
        assert_eq!(ns_of(c.pid, file), ns_of(holder.pid, file));
        assert_ne!(ns_of(c.pid, file), host_ns(file));
    });
}

#[test]
fn pid_new() {
    check_new("pid");
}

#[test]
fn network_new() {
    check_new("network");
}

#[test]
fn mount_new() {
    check_new("mount");
}

#[test]
fn ipc_new() {
    check_new("ipc");
}

#[test]
fn uts_new() {
    check_new("uts");
}

#[test]
fn user_new() {
    check_new("user");
}

#[test]
fn cgroup_new() {
    check_new("cgroup");
}

#[test]
fn time_new() {
    check_new("time");
}

#[test]
fn pid_shared() {
    check_shared("pid");
}

#[test]
fn network_shared() {
    check_shared("network");
}

#[test]
fn ipc_shared() {
    check_shared("ipc");
}

#[test]
fn uts_shared() {
    check_shared("uts");
}

#[test]
fn cgroup_shared() {
    check_shared("cgroup");
}

#[test]
fn user_shared() {
    check_shared("user");
}

#[test]
fn time_shared() {
    check_shared("time");
}

#[test]
fn pid_joined() {
    check_joined("pid");
}

#[test]
fn network_joined() {
    check_joined("network");
}

#[test]
fn ipc_joined() {
    check_joined("ipc");
}

#[test]
fn uts_joined() {
    check_joined("uts");
}

#[test]
fn cgroup_joined() {
    check_joined("cgroup");
}

#[test]
fn time_joined() {
    check_joined("time");
}

#[test]
fn all_shareable_kinds_shared_at_once() {
    case(|sb| {
        let c = sb.detached(&sharing(sb).sleeper());
        for (name, file) in KINDS.iter().filter(|(name, _)| *name != "mount") {
            assert_eq!(ns_of(c.pid, file), host_ns(file), "{name}");
        }
    });
}

#[test]
fn a_joined_pid_namespace_shows_its_processes() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().sleeper());
        let b = sb.bundle().namespace("pid", Some(&format!("/proc/{}/ns/pid", holder.pid)));
        let text = sb.run(&b.sh("echo self $$; cat /proc/1/cmdline | tr '\\0' ' '")).ok();
        assert!(text.contains("sleep 1000") && !text.contains("self 1\n"), "{text}");
        assert_eq!(sb.status(&holder.id), "running", "the holder outlives the guest");
    });
}

#[test]
fn pid_and_user_joined_together() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().user_namespace().sleeper());
        let path = |file: &str| format!("/proc/{}/ns/{file}", holder.pid);
        let b = sb.bundle().user_namespace().unset("/linux/uidMappings").unset("/linux/gidMappings");
        let b = b.namespace("user", Some(&path("user"))).namespace("pid", Some(&path("pid")));
        let c = sb.detached(&b.sleeper());
        for file in ["user", "pid"] {
            assert_eq!(ns_of(c.pid, file), ns_of(holder.pid, file), "{file}");
        }
        assert_eq!(fs::metadata(format!("/proc/{}", c.pid)).expect("stat").uid(), 100_000);
    });
}

/// What stands beside the path of a user namespace must be what that namespace has.
#[test]
fn mappings_beside_a_path_are_compared_with_those_of_the_namespace() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().user_namespace().sleeper());
        let path = format!("/proc/{}/ns/user", holder.pid);
        let b = sb.bundle().user_namespace().namespace("user", Some(&path)).args(&["true"]);
        sb.run(&b).ok();
        for (host_id, size) in [(0, 65_536), (200_000, 65_536), (100_000, 1000)] {
            let other = json!([{ "containerID": 0, "hostID": host_id, "size": size }]);
            for map in ["/linux/uidMappings", "/linux/gidMappings"] {
                sb.run(&b.clone().set(map, other.clone())).fails();
            }
        }
    });
}

#[test]
fn a_pod_shares_network_ipc_and_uts() {
    case(|sb| {
        let pause = sb.detached(&sb.bundle().sh("hostname pod; sleep 1000").capabilities(&["CAP_SYS_ADMIN"]));
        integration::host::eventually("the name is set", || sb.exec(&pause.id, &["hostname"]).ok() == "pod");
        let path = |file: &str| format!("/proc/{}/ns/{file}", pause.pid);
        let b = sb.bundle().unset("/hostname").namespace("network", Some(&path("net")));
        let b = b.namespace("ipc", Some(&path("ipc"))).namespace("uts", Some(&path("uts")));
        assert_eq!(sb.run(&b.args(&["hostname"])).ok(), "pod");
    });
}

#[test]
fn a_namespace_of_another_kind_is_refused() {
    case(|sb| {
        for (kind, file) in [("network", "ipc"), ("ipc", "uts"), ("uts", "net"), ("pid", "net"), ("cgroup", "net")] {
            let b = sb.bundle().namespace(kind, Some(&format!("/proc/self/ns/{file}"))).args(&["true"]);
            sb.run(&b).fails();
        }
    });
}

#[test]
fn a_namespace_path_that_is_missing_is_named() {
    case(|sb| {
        let b = sb.bundle().namespace("network", Some("/no/such/namespace"));
        sb.create(&b).code_is(1).fails_saying("/no/such/namespace");
    });
}

#[test]
fn a_namespace_path_that_is_a_plain_file_is_refused() {
    case(|sb| {
        let file = sb.dir.join("plain");
        fs::write(&file, "").expect("write");
        let b = sb.bundle().namespace("network", file.to_str());
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn the_same_kind_twice_is_refused() {
    case(|sb| {
        let b = sb.bundle().push("/linux/namespaces", json!({ "type": "ipc" }));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn an_unknown_kind_is_refused() {
    case(|sb| {
        let b = sb.bundle().push("/linux/namespaces", json!({ "type": "nosuch" }));
        sb.create(&b).code_is(1).fails_saying("nosuch");
    });
}

#[test]
fn a_host_name_needs_a_uts_namespace() {
    case(|sb| {
        sb.create(&sb.bundle().without_namespace("uts")).code_is(1).fails();
    });
}

#[test]
fn a_new_network_namespace_has_loopback_up_and_nothing_else() {
    case(|sb| {
        let b = sb.bundle().sh("ls /sys/class/net; cat /sys/class/net/lo/flags; ip addr show lo");
        let text = sb.run(&b).ok();
        assert!(text.starts_with("lo\n0x9\n"), "{text}");
        assert!(text.contains("127.0.0.1/8"), "{text}");
    });
}

fn mapped(sb: &Sandbox) -> Container {
    sb.detached(&sb.bundle().user_namespace().writable().sleeper())
}

#[test]
fn mappings_are_as_written() {
    case(|sb| {
        let c = mapped(sb);
        for file in ["uid_map", "gid_map"] {
            let text = sb.exec(&c.id, &["cat", &format!("/proc/self/{file}")]).ok();
            assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"], "{file}");
        }
    });
}

#[test]
fn several_ranges_are_mapped() {
    case(|sb| {
        let map = json!([
            { "containerID": 0, "hostID": 100_000, "size": 10 },
            { "containerID": 10, "hostID": 200_000, "size": 20 },
            { "containerID": 1000, "hostID": 300_000, "size": 1 }
        ]);
        let b = sb.bundle().user_namespace().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let text = sb.run(&b.args(&["cat", "/proc/self/uid_map"])).ok();
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows, [["0", "100000", "10"], ["10", "200000", "20"], ["1000", "300000", "1"]]);
    });
}

#[test]
fn root_of_the_container_is_a_plain_user_of_the_host() {
    case(|sb| {
        let c = mapped(sb);
        assert_eq!(fs::metadata(format!("/proc/{}", c.pid)).expect("stat").uid(), 100_000);
        assert_eq!(sb.exec(&c.id, &["id", "-u"]).ok(), "0");
    });
}

#[test]
fn a_user_that_is_not_mapped_is_an_error() {
    case(|sb| {
        let b = sb.bundle().user_namespace().set("/process/user", json!({ "uid": 70_000, "gid": 0 })).args(&["true"]);
        sb.run(&b).fails();
    });
}

/// runc refuses it, crun maps as here.
#[test]
fn a_user_namespace_without_mappings_has_root_alone() {
    case(|sb| {
        let script = "cat /proc/self/uid_map /proc/self/gid_map; readlink /proc/self/ns/user";
        let b = sb.bundle().without_mount("/dev/pts").namespace("user", None).sh(script);
        let out = sb.run(&b).ok();
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!(words[..6], ["0", "0", "1", "0", "0", "1"]);
        let own = std::fs::read_link("/proc/self/ns/user").expect("the link of a namespace");
        assert_ne!(words[6], own.to_string_lossy());
        sb.run(&b.set("/process/user", json!({ "uid": 1, "gid": 0 }))).fails();
    });
}

#[test]
fn one_map_without_the_other_is_an_error() {
    case(|sb| {
        sb.create(&sb.bundle().user_namespace().unset("/linux/gidMappings")).code_is(1).fails();
    });
}

#[test]
fn bound_devices_hold_no_programs() {
    case(|sb| {
        let b = sb.bundle().user_namespace().args(&["grep", " /dev/null ", "/proc/self/mountinfo"]);
        let out = sb.run(&b).ok();
        let options = out.split(' ').nth(5).expect("the options of a mount");
        assert!(options.contains("nosuid") && options.contains("noexec"), "{out}");
        assert!(!options.contains("nodev"), "{out}");
    });
}

#[test]
fn devices_work_in_a_user_namespace() {
    case(|sb| {
        let c = mapped(sb);
        let script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c";
        assert_eq!(sb.exec_sh(&c.id, script).ok(), "4\n4");
    });
}

#[test]
fn groups_work_in_a_user_namespace() {
    case(|sb| {
        let b =
            sb.bundle().user_namespace().set("/process/user", json!({ "uid": 5, "gid": 6, "additionalGids": [7, 8] }));
        assert_eq!(sb.run(&b.args(&["id", "-G"])).ok(), "6 7 8");
    });
}

#[test]
fn a_user_namespace_has_all_mounts_of_the_default() {
    case(|sb| {
        let c = mapped(sb);
        let text = sb.exec(&c.id, &["cat", "/proc/self/mountinfo"]).ok();
        let seen = integration::host::parse_mountinfo(&text);
        for target in ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
            integration::host::mount_at(&seen, target);
        }
    });
}

#[test]
fn capabilities_count_inside_the_user_namespace() {
    case(|sb| {
        let b = sb.bundle().user_namespace().writable().capabilities(&["CAP_CHOWN"]);
        assert_eq!(sb.run(&b.sh("touch /tmp/x; chown 55:66 /tmp/x; stat -c %u:%g /tmp/x")).ok(), "55:66");
    });
}

#[test]
fn time_offsets_are_set() {
    case(|sb| {
        let b = sb.bundle().namespace("time", None);
        let offsets = json!({ "boottime": { "secs": 700_000_000, "nanosecs": 5 }, "monotonic": { "secs": 604_800 } });
        let b = b.set("/linux/timeOffsets", offsets).sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
        let text = sb.run(&b).ok();
        let uptime: u64 = text.lines().next().and_then(|l| l.parse().ok()).expect("uptime");
        assert!(uptime >= 700_000_000, "{uptime}");
        let fields: Vec<&str> = text.split_whitespace().skip(1).collect();
        assert_eq!(fields, ["monotonic", "604800", "0", "boottime", "700000000", "5"]);
    });
}

#[test]
fn time_offsets_hold_in_exec() {
    case(|sb| {
        let b = sb.bundle().namespace("time", None);
        let c = sb.detached(&b.set("/linux/timeOffsets", json!({ "boottime": { "secs": 700_000_000 } })).sleeper());
        let text = sb.exec(&c.id, &["cut", "-d.", "-f1", "/proc/uptime"]).ok();
        assert!(text.parse::<u64>().is_ok_and(|s| s >= 700_000_000), "{text}");
    });
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    case(|sb| {
        let b = sb.bundle().set("/linux/timeOffsets", json!({ "boottime": { "secs": 5 } }));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn a_cgroup_namespace_hides_the_path() {
    case(|sb| {
        let text = sb.run(&sb.bundle().args(&["cat", "/proc/self/cgroup"])).ok();
        for controller in ["memory", "pids", "cpu", "devices", "freezer"] {
            assert_eq!(path_in(&text, controller), "/", "{controller}");
        }
    });
}

#[test]
fn without_a_cgroup_namespace_the_path_shows() {
    case(|sb| {
        let b = sb.bundle().without_namespace("cgroup").args(&["cat", "/proc/self/cgroup"]);
        let text = sb.run(&b).ok();
        assert!(text.contains(&format!(":/{}/{}", sb.name, b.id)), "{text}");
    });
}

#[test]
fn namespaces_vanish_with_the_container() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let net = ns_of(c.pid, "net");
        sb.delete_force(&c.id).ok();
        let held = fs::read_dir("/proc")
            .expect("list /proc")
            .flatten()
            .any(|entry| fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link.to_string_lossy() == net));
        assert!(!held);
    });
}

/// Files of the runtime's belong to the process's user then, since no root exists to own them.
#[test]
fn a_user_namespace_need_not_map_root() {
    case(|sb| {
        let map = json!([{ "containerID": 1000, "hostID": 101_000, "size": 10 }]);
        let b = sb.bundle().user_namespace().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let b = b.without_mount("/dev/pts").folder("made").set("/process/user", json!({ "uid": 1000, "gid": 1001 }));
        for path in [b.dir.clone(), b.rootfs(), b.rootfs().join("dev"), b.rootfs().join("proc"), b.rootfs().join("sys")]
        {
            std::os::unix::fs::lchown(&path, Some(101_000), Some(101_001)).expect("chown");
        }
        let b = b.sh("id -u; id -g; stat -c %u:%g /dev /dev/null; cat /proc/self/uid_map | tr -s ' '; sleep 1000");
        let c = sb.detached(&b);
        eventually("its output", || c.output.stdout_now().lines().count() == 5);
        assert_eq!(c.output.stdout_now(), "1000\n1001\n1000:1001\n65534:65534\n 1000 101000 10\n");
        assert_eq!(sb.exec_sh(&c.id, "id -u; id -g").ok(), "1000\n1001");
    });
}
