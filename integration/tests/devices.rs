//! Devices: the default ones, listed ones, and what the device rules let through.

use std::os::unix::fs::MetadataExt;

use integration::requires::Need;
use integration::{Bundle, case, case_with, json, nodes};

/// Capabilities with which a container makes device nodes by itself.
const MKNOD: &[&str] = &["CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE"];

/// Makes /dev/x as character device 10:229 (fuse: any user may open it), then opens it for reading. Says which of the two failed, or fine.
const OPEN_FUSE: &str = "mknod /dev/x c 10 229 || { echo no-mknod; exit; }; dd if=/dev/x of=/dev/null count=0 2>/dev/null && echo fine || echo no-open";

fn rules(b: Bundle, rules: integration::Value) -> Bundle {
    b.set("/linux/resources/devices", rules)
}

#[test]
fn the_default_devices_are_there_with_their_numbers_and_modes() {
    case(|sb| {
        let b = sb
            .bundle()
            .sh("stat -c '%n %t:%T %a %u:%g %F' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty");
        let text = sb.run(&b).ok();
        let expected =
            ["/dev/null 1:3", "/dev/zero 1:5", "/dev/full 1:7", "/dev/random 1:8", "/dev/urandom 1:9", "/dev/tty 5:0"];
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), expected.len());
        for (row, start) in rows.iter().zip(expected) {
            assert_eq!(*row, format!("{start} 666 0:0 character special file"));
        }
    });
}

#[test]
fn the_default_devices_work() {
    case(|sb| {
        let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c && ! echo x > /dev/full 2>/dev/null && echo full";
        assert_eq!(sb.run(&sb.bundle().sh(script)).ok(), "3\n3\nfull");
    });
}

#[test]
fn the_default_links_are_there() {
    case(|sb| {
        let b = sb.bundle().sh("for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done");
        let text = sb.run(&b).ok();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[..4], ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]);
        assert!(rows[4] == "pts/ptmx" || rows[4] == "/dev/pts/ptmx", "{text}");
    });
}

#[test]
fn ptmx_opens_a_terminal() {
    case(|sb| {
        let b = sb.bundle().sh("exec 3<>/dev/ptmx && ls /dev/pts");
        assert_eq!(sb.run(&b).ok(), "0\nptmx");
    });
}

#[test]
fn nothing_else_is_in_dev() {
    case(|sb| {
        let text = sb.run(&sb.bundle().args(&["ls", "/dev"])).ok();
        let names: Vec<&str> = text.lines().filter(|name| *name != "core" && *name != "console").collect();
        assert_eq!(
            names,
            [
                "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                "urandom", "zero"
            ]
        );
    });
}

#[test]
fn a_listed_device_is_made_as_written() {
    case(|sb| nodes::are_made_as_written(sb, sb.bundle()));
}

#[test]
fn a_listed_device_may_lie_outside_of_dev() {
    case(|sb| {
        let b = sb.bundle().set(
            "/linux/devices",
            json!([{ "path": "/mynull", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 }]),
        );
        assert_eq!(sb.run(&b.args(&["stat", "-c", "%t:%T", "/mynull"])).ok(), "1:3");
    });
}

#[test]
fn a_listed_default_device_replaces_the_default() {
    case(|sb| {
        let b = sb.bundle().set("/linux/devices", json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 9, "gid": 9 }]));
        let b = b.push(
            "/linux/resources/devices",
            json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }),
        );
        assert_eq!(sb.run(&b.args(&["stat", "-c", "%a %u", "/dev/null"])).ok(), "600 9");
    });
}

#[test]
fn an_unknown_type_of_device_is_an_error() {
    case(|sb| {
        let b = sb.bundle().set("/linux/devices", json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn a_device_where_another_file_is_already_is_an_error() {
    case(|sb| {
        let dir = sb.host_dir("dev");
        std::fs::write(dir.join("x"), "a plain file").expect("write");
        let b = sb.bundle().bind(&dir, "/data", &[]);
        let b = b.set("/linux/devices", json!([{ "path": "/data/x", "type": "c", "major": 1, "minor": 3 }]));
        sb.create(&b).code_is(1).fails();
        assert_eq!(std::fs::read_to_string(dir.join("x")).expect("read"), "a plain file");
    });
}

#[test]
fn a_device_that_matches_already_is_kept() {
    case(|sb| {
        let dir = sb.host_dir("dev");
        let status = sb.program("/bin/mknod").arg(dir.join("x")).args(["c", "1", "3"]).run();
        status.ok();
        let before = std::fs::metadata(dir.join("x")).expect("stat").ino();
        let b = sb.bundle().bind(&dir, "/data", &[]);
        let b = b.set("/linux/devices", json!([{ "path": "/data/x", "type": "c", "major": 1, "minor": 3 }]));
        sb.run(&b.args(&["true"])).ok();
        assert_eq!(std::fs::metadata(dir.join("x")).expect("stat").ino(), before);
    });
}

#[test]
fn devices_in_a_user_namespace_are_the_hosts() {
    case(|sb| {
        let b = sb
            .bundle()
            .user_namespace()
            .set("/linux/devices", json!([{ "path": "/dev/full2", "type": "c", "major": 1, "minor": 7 }]));
        // Only a device that the host has at this path can be bound; the defaults always can.
        let b = b
            .unset("/linux/devices")
            .sh("stat -c %t:%T /dev/null /dev/zero; grep -c ' /dev/null ' /proc/self/mountinfo");
        assert_eq!(sb.run(&b).ok(), "1:3\n1:5\n1");
    });
}

#[test]
fn by_default_other_devices_are_denied() {
    case(|sb| {
        let b = sb.bundle().capabilities(MKNOD).sh(OPEN_FUSE);
        assert_eq!(sb.run(&b).ok(), "no-open");
    });
}

#[test]
fn without_rules_other_devices_are_denied_too() {
    case(|sb| {
        let b = sb
            .bundle()
            .capabilities(MKNOD)
            .unset("/linux/resources")
            .sh("mknod /dev/x b 7 7 && dd if=/dev/x of=/dev/null count=0 2>&1");
        let out = sb.run(&b);
        assert!(out.stdout.contains("Operation not permitted"), "{out:#?}");
    });
}

#[test]
fn an_allow_rule_opens_a_device() {
    case(|sb| {
        let list = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }]);
        assert_eq!(sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(OPEN_FUSE)).ok(), "fine");
    });
}

#[test]
fn the_last_rule_wins() {
    case(|sb| {
        let list = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
            { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm" }
        ]);
        assert_eq!(sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(OPEN_FUSE)).ok(), "no-open");
    });
}

#[test]
fn allow_all_then_deny_one() {
    case(|sb| {
        let list = json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rw" }]);
        assert_eq!(sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(OPEN_FUSE)).ok(), "no-open");
        let list = json!([{ "allow": true, "access": "rwm" }]);
        assert_eq!(sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(OPEN_FUSE)).ok(), "fine");
    });
}

#[test]
fn a_wild_card_minor_allows_all_of_a_major() {
    case(|sb| {
        let list =
            json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "access": "rwm" }]);
        assert_eq!(sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(OPEN_FUSE)).ok(), "fine");
    });
}

#[test]
fn read_access_does_not_allow_writing() {
    case(|sb| {
        let list = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rm" }]);
        let script = "mknod /dev/x c 10 229; dd if=/dev/x of=/dev/null count=0 2>/dev/null && echo read; (: > /dev/x) 2>&1; true";
        let text = sb.run(&rules(sb.bundle().capabilities(MKNOD), list).sh(script)).ok();
        assert!(text.starts_with("read") && text.contains("not permitted"), "{text}");
    });
}

#[test]
fn a_node_may_be_made_but_not_opened_without_access() {
    case(|sb| {
        let b = sb
            .bundle()
            .capabilities(MKNOD)
            .sh("mknod /dev/x b 7 5 && echo made; dd if=/dev/x of=/dev/null count=0 2>&1 | grep -o 'not permitted'");
        assert_eq!(sb.run(&b).ok(), "made\nnot permitted");
    });
}

#[test]
fn the_v1_file_lists_what_was_allowed() {
    case_with(&[Need::V1("devices")], |sb| {
        let list = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "b", "major": 7, "minor": 42, "access": "rw" }]);
        let b = rules(sb.bundle(), list).sleeper();
        sb.detached(&b);
        let text = sb.cgroup_read("devices", &b.id, "devices.list");
        let rows: Vec<&str> = text.lines().collect();
        for row in ["b 7:42 rw", "c 1:3 rwm", "c 1:5 rwm", "c 5:2 rwm", "c 136:* rwm", "c *:* m", "b *:* m"] {
            assert!(rows.contains(&row), "{row} is not in {text}");
        }
        assert!(!rows.contains(&"a *:* rwm"), "{text}");
    });
}

#[test]
fn rules_hold_in_exec() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().capabilities(MKNOD).sleeper());
        assert_eq!(sb.exec_sh(&c.id, OPEN_FUSE).ok(), "no-open");
    });
}

#[test]
fn rules_are_set_before_the_hooks_and_a_hook_may_widen_them() {
    case_with(&[Need::V1("devices")], |sb| {
        let b = sb.bundle().capabilities(MKNOD);
        let file = sb.cgroup("devices", &b.id).join("devices.allow");
        let b = b.hook("createRuntime", &format!("echo 'c 10:229 rwm' > {}", file.display())).sh(OPEN_FUSE);
        assert_eq!(sb.run(&b).ok(), "fine");
    });
}
