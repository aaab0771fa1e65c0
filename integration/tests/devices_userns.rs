//! Devices and `/sys` of a container that lives in a user namespace, where neither can be made as elsewhere.

use std::fs;

use integration::host::{mount_at, parse_mountinfo};
use integration::{Bundle, Output, Sandbox, case, json, nodes};

fn devices(sb: &Sandbox, list: integration::Value) -> Bundle {
    let b = sb.bundle().user_namespace().set("/linux/devices", list);
    b.set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]))
}

/// The example's `/sys`, which a test replaces by one with other options.
fn sys_with(b: Bundle, options: &[&str]) -> Bundle {
    b.without_mount("/sys").without_mount("/sys/fs/cgroup").mount("sysfs", "/sys", "sysfs", options)
}

/// `/sys` of a container with a new user namespace that shares the host's network.
fn hosts_network(sb: &Sandbox) -> Bundle {
    sb.bundle().user_namespace().without_namespace("network")
}

#[test]
fn a_device_has_the_mode_and_the_owner_of_the_definition() {
    case(|sb| nodes::are_made_as_written(sb, devices(sb, json!([]))));
}

#[test]
fn a_device_that_the_host_has_no_name_for_works() {
    case(|sb| {
        let b = devices(sb, json!([{ "path": "/dev/zeroes", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666 }]));
        assert_eq!(sb.run(&b.sh("head -c 3 /dev/zeroes | od -An -tx1")).ok(), "00 00 00");
    });
}

#[test]
fn a_device_is_the_definitions_whatever_the_host_has_by_that_name() {
    case(|sb| {
        // /dev/full of the host is 1:7.
        let b = devices(sb, json!([{ "path": "/dev/full", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604 }]));
        let b = b.sh("stat -c '%t:%T %a %u' /dev/full; head -c 2 /dev/full | od -An -tx1");
        assert_eq!(sb.run(&b).ok(), "1:5 604 0\n 00 00");
    });
}

#[test]
fn a_device_that_its_owner_alone_may_open_is_open_to_its_owner() {
    case(|sb| {
        let node = json!({ "path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 1000, "gid": 1000 });
        let read = "head -c 1 /dev/mine | od -An -tx1";
        let b = devices(sb, json!([node])).set("/process/capabilities", json!({}));
        let owner = b.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).sh(read);
        assert_eq!(sb.run(&owner).ok(), "00");
        let b = devices(sb, json!([node])).set("/process/capabilities", json!({}));
        let other = b.set("/process/user", json!({ "uid": 1001, "gid": 1001 })).sh(read);
        assert!(sb.run(&other).stderr.contains("Permission denied"));
    });
}

#[test]
fn a_devices_owner_is_one_of_the_user_namespace() {
    case(|sb| {
        let b = devices(sb, json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 5, "uid": 70_000 }]));
        sb.create(&b).code_is(1).fails_saying("70000");
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn many_devices_are_made() {
    case(|sb| {
        let nodes: Vec<_> = (0..300)
            .map(|n| json!({ "path": format!("/dev/many/{n}"), "type": "c", "major": 1, "minor": 5, "fileMode": 0o444, "uid": n }))
            .collect();
        let b = devices(sb, json!(nodes)).set("/process/rlimits", json!([]));
        let b = b.sh("ls /dev/many | wc -l; stat -c '%u %t:%T' /dev/many/0 /dev/many/299");
        assert_eq!(sb.run(&b).ok(), "300\n0 1:5\n299 1:5");
    });
}

#[test]
fn the_default_devices_are_the_hosts_and_work() {
    case(|sb| {
        let b = devices(sb, json!([])).sh(
            "stat -c '%n %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; echo x > /dev/null && head -c 2 /dev/zero | wc -c",
        );
        let expected =
            "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n/dev/tty 5:0\n2";
        assert_eq!(sb.run(&b).ok(), expected);
    });
}

#[test]
fn devices_are_neither_programs_nor_suid() {
    case(|sb| {
        let b = devices(sb, json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666 }]));
        let seen = sb.mounts_of(b);
        for target in ["/dev/x", "/dev/null"] {
            let mount = mount_at(&seen, target);
            assert!(["nosuid", "noexec"].iter().all(|o| mount.options.iter().any(|seen| seen == o)), "{mount:?}");
        }
    });
}

#[test]
fn no_file_system_of_the_nodes_stays_on_the_host() {
    case(|sb| {
        let before = fs::read_to_string("/proc/self/mountinfo").expect("read").lines().count();
        let b = devices(sb, json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666 }]));
        let container = sb.detached(&b.sleeper());
        let here = fs::read_to_string("/proc/self/mountinfo").expect("read");
        assert_eq!(here.lines().count(), before, "{here}");
        drop(container);
    });
}

/// Runs the bundle with a runtime that has lost CAP_MKNOD, so that only the nodes of the host are left.
fn without_mknod(sb: &Sandbox, b: &Bundle) -> Output {
    b.write();
    let call = sb.program("/usr/bin/setpriv").args(["--inh-caps=-mknod", "--bounding-set=-mknod"]);
    let call = call.arg(&sb.runtime.path).arg("--root").arg(&sb.root).args(["run", "--bundle"]);
    call.arg(&b.dir).arg(&b.id).run()
}

#[test]
fn who_may_make_no_nodes_uses_the_hosts() {
    case(|sb| {
        let list = json!([{ "path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600 }]);
        let allow = json!([{ "allow": true, "access": "rwm" }]);
        let script = "stat -c '%t:%T %a' /dev/full; echo x > /dev/full";
        for b in
            [devices(sb, list.clone()), sb.bundle().set("/linux/devices", list).set("/linux/resources/devices", allow)]
        {
            let out = without_mknod(sb, &b.sh(script));
            assert_eq!(out.stdout.trim(), "1:7 666", "mode and owner are the host's: {out:?}");
            assert!(out.stderr.contains("No space left on device"), "{out:?}");
        }
    });
}

#[test]
fn a_node_of_the_host_that_is_another_device_is_refused() {
    case(|sb| {
        let list = json!([{ "path": "/dev/full", "type": "c", "major": 1, "minor": 5 }]);
        let text = without_mknod(sb, &devices(sb, list)).fails();
        assert!(text.contains("/dev/full") && text.contains("1:7") && text.contains("1:5"), "{text}");
    });
}

#[test]
fn a_node_that_the_host_lacks_is_named() {
    case(|sb| {
        let list = json!([{ "path": "/dev/nothing-here", "type": "c", "major": 1, "minor": 5 }]);
        without_mknod(sb, &devices(sb, list)).fails_saying("/dev/nothing-here");
    });
}

/// The runtime sees another device by the name of a default one.
#[test]
fn a_default_device_is_checked_too() {
    case(|sb| {
        let b = devices(sb, json!([])).args(&["true"]);
        b.write();
        let script = "mount --bind /dev/zero /dev/full && exec \"$@\"";
        let call =
            sb.program("/usr/bin/unshare").args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        let call = call.arg(&sb.runtime.path).arg("--root").arg(&sb.root).args(["run", "--bundle"]);
        let text = call.arg(&b.dir).arg(&b.id).run().fails();
        assert!(text.contains("/dev/full") && text.contains("1:5"), "{text}");
    });
}

#[test]
fn sys_is_there_with_the_hosts_network_and_keeps_its_options() {
    case(|sb| {
        let b = sys_with(hosts_network(sb), &["nosuid", "noexec", "nodev", "ro"]);
        let text = sb.run(&b.sh("ls /sys/class/net | grep -x lo; cat /proc/self/mountinfo")).ok();
        let (found, mounts) = text.split_once('\n').expect("lines");
        assert_eq!(found, "lo");
        let seen = parse_mountinfo(mounts);
        let mount = mount_at(&seen, "/sys");
        assert_eq!(mount.fstype, "sysfs");
        for option in ["ro", "nosuid", "noexec", "nodev"] {
            assert!(mount.options.iter().any(|o| o == option), "{option}: {mount:?}");
        }
    });
}

/// A new sysfs has nothing mounted in it; what the copy brings along is as closed as the mount that was asked for.
#[test]
fn what_is_mounted_below_the_hosts_sys_is_read_only_too() {
    case(|sb| {
        let b = sys_with(hosts_network(sb), &["nosuid", "noexec", "nodev", "ro"]);
        let seen = sb.mounts_of(b);
        let below: Vec<_> = seen.iter().filter(|m| m.target.starts_with("/sys/")).collect();
        assert!(below.iter().any(|m| m.target == "/sys/fs/cgroup"), "the host has groups there: {seen:#?}");
        let open: Vec<_> = below.iter().filter(|m| !m.options.iter().any(|o| o == "ro")).collect();
        assert!(open.is_empty(), "{open:#?}");
    });
}

#[test]
fn the_view_of_the_groups_goes_onto_the_hosts_sys() {
    case(|sb| {
        let out = sb.run(&hosts_network(sb).args(&["ls", "/sys/fs/cgroup", "/sys/kernel"]));
        assert!(out.ok().contains("/sys/kernel:\n"), "{out:?}");
    });
}

#[test]
fn a_sys_that_is_a_link_is_refused_with_the_hosts_network() {
    case(|sb| {
        let b = sys_with(hosts_network(sb).link("/sys", "/etc"), &["ro"]);
        sb.create(&b).code_is(1).fails_saying("must be mounted on ordinary directory");
    });
}

#[test]
fn a_network_of_its_own_has_a_sysfs_of_its_own() {
    case(|sb| {
        let b = sys_with(sb.bundle().user_namespace(), &["nosuid", "noexec", "nodev", "ro"]);
        let seen = sb.mounts_of(b);
        assert!(!seen.iter().any(|m| m.target.starts_with("/sys/fs")), "{seen:#?}");
    });
}
