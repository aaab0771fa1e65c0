//! Who a process is: capabilities, groups, ids, environments, modes. Each case names the hole it stands for.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::{Bundle, Sandbox, case, json};

/// The value of a capability set of /proc/self/status.
#[track_caller]
fn set_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).expect("a line of status");
    u64::from_str_radix(line.trim(), 16).expect("hex")
}

/// CVE-2022-29162, -24769, -27650, CVE-2025-27612: inheritable sets that were not asked for.
#[test]
fn caps_inheritable_empty() {
    case(|sb| {
        let status = sb.run(&sb.bundle().args(&["cat", "/proc/self/status"])).ok();
        assert_eq!((set_of(&status, "CapInh"), set_of(&status, "CapAmb")), (0, 0));
        let c = sb.detached(&sb.bundle().sleeper());
        for options in [&[][..], &["--cap", "CAP_NET_RAW"], &["-u", "1000:1000"]] {
            let status = sb.exec_with(&c.id, options, &["cat", "/proc/self/status"]).ok();
            assert_eq!(set_of(&status, "CapInh"), 0, "{options:?}");
        }
    });
}

/// CVE-2016-8867: a plain user gets what the config says and no more.
#[test]
fn caps_of_a_plain_user_are_exact() {
    case(|sb| {
        let b = sb.bundle().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let status = sb.run(&b.args(&["cat", "/proc/self/status"])).ok();
        for set in ["CapPrm", "CapEff", "CapAmb", "CapInh"] {
            assert_eq!(set_of(&status, set), 0, "{set}");
        }
    });
}

/// CVE-2023-25173, CVE-2022-2989, -2990, -2995: groups are those of the config, neither the caller's nor the image's.
#[test]
fn groups_exact() {
    case(|sb| {
        for (user, expected) in [
            (json!({ "uid": 1000, "gid": 1000 }), ""),
            (json!({ "uid": 0, "gid": 0 }), ""),
            (json!({ "uid": 1000, "gid": 1000, "additionalGids": [3000, 4000] }), "3000 4000"),
            (json!({ "uid": 1000, "gid": 1000, "additionalGids": [] }), ""),
        ] {
            let b = sb.bundle().set("/process/user", user.clone()).args(&["grep", "^Groups:", "/proc/self/status"]);
            b.write();
            // The caller has groups of its own; the image's /etc/group puts its user into one more.
            let call = sb.program("/usr/bin/setpriv").args(["--groups", "4242,77"]).arg(&sb.runtime.path);
            let text = call.arg("--root").arg(&sb.root).args(["run", "--bundle"]).arg(&b.dir).arg(&b.id).run().ok();
            assert_eq!(text.trim_start_matches("Groups:").trim(), expected, "{user}");
        }
    });
}

/// Without the right to drop groups the caller's would stay: an error, not a container in the caller's groups.
#[test]
fn groups_that_cannot_be_dropped_fail_the_run() {
    case(|sb| {
        let b = sb.bundle().args(&["grep", "^Groups:", "/proc/self/status"]);
        b.write();
        let call =
            sb.program("/usr/bin/setpriv").args(["--groups", "4242", "--inh-caps=-setgid", "--bounding-set=-setgid"]);
        let call = call.arg(&sb.runtime.path).arg("--root").arg(&sb.root).args(["run", "--bundle"]);
        call.arg(&b.dir).arg(&b.id).run().fails();
    });
}

#[test]
fn groups_exact_in_exec() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let call = sb.program("/usr/bin/setpriv").args(["--groups", "4242,77"]).arg(&sb.runtime.path);
        let call = call.arg("--root").arg(&sb.root).args([
            "exec",
            "-u",
            "1000:1000",
            &c.id,
            "grep",
            "^Groups:",
            "/proc/self/status",
        ]);
        assert_eq!(call.run().ok().trim_start_matches("Groups:").trim(), "");
    });
}

/// CVE-2026-30892, CVE-2024-40635: how a user is parsed.
#[test]
fn uid_parse_table() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for (text, expected) in [("1", "1"), ("1:1", "1"), ("0", "0"), ("0:0", "0"), ("65534", "65534")] {
            assert_eq!(sb.exec_with(&c.id, &["-u", text], &["id", "-u"]).ok(), expected, "{text}");
        }
        for text in [
            "-1",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "user",
            "root",
            "1:",
            "1:user",
            ":1",
            "1:2:3",
            "1 ",
            "0x1",
            "1.0",
        ] {
            let out = sb.exec_with(&c.id, &["-u", text], &["id", "-u"]);
            assert!(out.code != 0, "{text:?} is accepted: {out:#?}");
        }
    });
}

#[test]
fn uid_of_the_config_is_a_u32_without_the_last() {
    case(|sb| {
        for uid in [json!(-1), json!(4_294_967_295_u64), json!(4_294_967_296_u64), json!(1.5), json!("0"), json!(true)]
        {
            for member in ["uid", "gid"] {
                let out = sb.run(&sb.bundle().set(&format!("/process/user/{member}"), uid.clone()).args(&["id"]));
                assert!(out.code != 0, "{member} {uid} is accepted: {out:#?}");
            }
        }
    });
}

/// CVE-2016-3697: a number is a number, even where the image has a user of that name.
#[test]
fn numeric_user_not_name() {
    case(|sb| {
        let b = sb.bundle().file("/etc/passwd", "1000:x:0:0:trap:/root:/bin/sh\n", 0o644).sleeper();
        let c = sb.detached(&b.clone());
        assert_eq!(
            sb.exec_with(&c.id, &["-u", "1000:1000"], &["sh", "-c", "grep ^Uid /proc/self/status"]).ok(),
            "Uid:\t1000\t1000\t1000\t1000"
        );
        sb.delete_force(&c.id).ok();
        let mut second =
            b.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).args(&["grep", "^Uid", "/proc/self/status"]);
        second.id = format!("{}-two", second.id);
        assert_eq!(sb.run(&second).ok(), "Uid:\t1000\t1000\t1000\t1000");
    });
}

/// CVE-2025-23266: the environment of a hook is what the hook says; nothing comes from the image or the caller.
#[test]
fn hook_env_empty() {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let file = |kind: &str| dir.join(kind);
        let b = sb.bundle().bind(&dir, "/hooks", &[]).push("/process/env", json!("LD_PRELOAD=/proc/self/cwd/evil.so"));
        let b = b.push("/process/env", json!("FROM_THE_IMAGE=1"));
        let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        // What a shell sets by itself does not count. /proc is the host's for some kinds, so only `self` is known there.
        // cat opens the file, for a redirection would open the shell's, which ends with its memory at the exec of tr.
        let script = |to: &str| {
            format!("cat /proc/self/environ | tr '\\0' '\\n' | grep -vE '^(PWD|OLDPWD|SHLVL|PATH|_)=' > {to}; true")
        };
        let b = kinds.iter().fold(b, |b, kind| b.hook(kind, &script(&file(kind).display().to_string())));
        let b = b.hook("startContainer", &script("/hooks/startContainer")).sh("sleep 0.1");
        sb.verb("run", &b, &[]).env("FROM_THE_CALLER", "1").run();
        let read = |kind: &str| fs::read_to_string(file(kind)).unwrap_or_else(|e| panic!("{kind}: {e}"));
        for kind in kinds {
            assert_eq!(read(kind), "", "{kind}");
        }
        // Inside, where the environment of the process can harm nobody else, a hook without one has that, as in runc.
        assert!(!read("startContainer").contains("FROM_THE_CALLER"), "{}", read("startContainer"));
    });
}

/// NVIDIA CTK CVE-2025-23266, second half: a relative name must not be found in the rootfs.
#[test]
fn hook_cwd_is_not_the_rootfs() {
    case(|sb| {
        let file = sb.host_dir("hooks").join("cwd");
        let b = sb.bundle();
        let rootfs = b.rootfs();
        let b = b.hook("createRuntime", &format!("pwd > {}", file.display())).args(&["true"]);
        sb.verb("run", &b, &[]).cwd(&sb.dir).run().ok();
        let cwd = fs::read_to_string(&file).expect("read");
        assert!(!std::path::Path::new(cwd.trim()).starts_with(&rootfs), "{cwd}");
    });
}

/// CVE-2022-0811: one key is one file, one value one line.
#[test]
fn sysctl_injection() {
    case(|sb| {
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read");
        for (key, value) in [
            ("net/../kernel/core_pattern", "|/evil"),
            ("net.ipv4.../../kernel/core_pattern", "|/evil"),
            ("net.ipv4/../../kernel.core_pattern", "|/evil"),
            ("kernel.shm_rmid_forced+kernel.core_pattern", "|/evil"),
            ("kernel.shmmax=1\nkernel.core_pattern", "|/evil"),
            ("", "1"),
            ("net.", "1"),
            ("/net/ipv4/ip_forward", "1"),
        ] {
            let out = sb.create(&sb.bundle().set("/linux/sysctl", json!({ key: value })));
            assert!(out.code != 0, "{key:?} is accepted");
        }
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read"), before);
    });
}

#[test]
fn sysctl_value_is_one_line() {
    case(|sb| {
        let b = sb.bundle().set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1\nnet.ipv4.conf.all.forwarding=0" }));
        sb.create(&b).code_is(1).fails();
    });
}

/// CVE-2023-6476: keys of `unified` are names of files and not paths.
#[test]
fn unified_no_slash() {
    case(|sb| {
        for key in ["../x", "a/b", "/memory.max", "..", ".", ""] {
            let b = sb.bundle().set("/linux/resources/unified", json!({ key: "1" }));
            sb.create(&b).code_is(1).fails();
        }
    });
}

/// CVE-2021-43784 and shadow CVE-2016-6252: ranges that overflow, overlap or are too many.
#[test]
fn mapping_overflow() {
    case(|sb| {
        let range = |c: u64, h: u64, s: u64| json!({ "containerID": c, "hostID": h, "size": s });
        for map in [
            json!([range(0, 1, 4_294_967_295)]),
            json!([range(0, 4_294_967_290, 100)]),
            json!([range(4_294_967_290, 100_000, 100)]),
            json!([range(0, 4_294_967_296, 1)]),
            json!([range(0, 100_000, 0)]),
            json!([range(0, 100_000, 10), range(5, 200_000, 10)]),
            json!((0..400).map(|n| range(n, 100_000 + 2 * n, 1)).collect::<Vec<_>>()),
        ] {
            let b = sb
                .bundle()
                .user_namespace()
                .set("/linux/uidMappings", map.clone())
                .set("/linux/gidMappings", map.clone());
            let out = sb.run(&b.args(&["true"]));
            assert!(out.code != 0, "{map} is accepted");
        }
    });
}

/// CVE-2021-43784: lengths that do not fit a small field.
#[test]
fn long_strings() {
    case(|sb| {
        let long = "x".repeat(70_000);
        let b = sb.bundle().namespace("network", Some(&format!("/{long}"))).args(&["true"]);
        sb.create(&b).code_is(1).fails();
        sb.create(&sb.bundle().set("/hostname", json!("h".repeat(65)))).code_is(1).fails();
        sb.create(&sb.bundle().set("/linux/cgroupsPath", json!(format!("/{}{}", sb.name, "/cgroup".repeat(700)))))
            .code_is(1)
            .fails();
        let mut b = sb.bundle().args(&["true"]);
        b.id = "i".repeat(2000);
        sb.create(&b).code_is(1).fails();
        let b = sb.bundle().set("/annotations", json!({ "long": "a".repeat(500_000) })).sh("echo fine");
        assert_eq!(sb.run(&b).ok(), "fine");
    });
}

/// containerd CVE-2021-41103 and its like: state is for root alone.
#[test]
fn state_dir_modes() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let mode = |path: &std::path::Path| fs::symlink_metadata(path).expect("stat").permissions().mode();
        assert_eq!(mode(&sb.root) & 0o077, 0, "--root");
        let dir = sb.root.join(&c.id);
        assert_eq!(mode(&dir) & 0o077, 0, "the container's folder");
        for entry in fs::read_dir(&dir).expect("list").flatten() {
            let mode = mode(&entry.path());
            assert_eq!(mode & 0o022, 0, "{}: {mode:o}", entry.path().display());
        }
    });
}

#[test]
fn the_state_file_is_for_root_alone() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for path in sb.state_files(&c.id) {
            let mode = fs::metadata(&path).expect("stat").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        }
    });
}

/// CVE-2023-25809: groups are mounted read-only where that was asked for.
#[test]
fn cgroup_ro() {
    case(|sb| {
        for b in [sb.bundle(), sb.bundle().without_namespace("cgroup"), sb.bundle().user_namespace()] {
            let b = b.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/pids /sys/fs/cgroup/memory; do mkdir $d/x 2>/dev/null && echo made $d; done; (echo 5 > /sys/fs/cgroup/pids/pids.max) 2>/dev/null && echo wrote; true";
            assert_eq!(sb.run(&b.sh(script)).ok(), "");
        }
    });
}

/// CVE-2022-0492: release_agent of the hierarchy cannot be written.
#[test]
fn release_agent_is_out_of_reach() {
    case(|sb| {
        let b = sb.bundle().without_namespace("cgroup").capabilities(&["CAP_DAC_OVERRIDE"]);
        let script = "find /sys/fs/cgroup -name release_agent 2>/dev/null | while read f; do (echo /evil > $f) 2>/dev/null && echo wrote $f; done; true";
        assert_eq!(sb.run(&b.sh(script)).ok(), "");
    });
}

/// LXC CVE-2016-10124: a process without a terminal has none, not the caller's.
#[test]
fn exec_own_pty() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let out = sb.exec_sh(&c.id, "(: < /dev/tty) 2>&1; cut -d' ' -f7 /proc/$$/stat");
        assert!(out.stdout.contains("No such device or address") && out.stdout.ends_with("\n0\n"), "{out:#?}");
        let out = sb.run(&sb.bundle().sh("(: < /dev/tty) 2>&1; cut -d' ' -f7 /proc/$$/stat"));
        assert!(out.stdout.contains("No such device or address") && out.stdout.ends_with("\n0\n"), "{out:#?}");
    });
}

/// A session of its own: TIOCSTI and job control of the caller are out of reach.
#[test]
fn exec_is_the_leader_of_its_own_session() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let text = sb.exec_sh(&c.id, "cut -d' ' -f1,6 /proc/$$/stat").ok();
        let (pid, session) = text.split_once(' ').expect("two fields");
        assert_eq!(pid, session);
    });
}

fn secret(sb: &Sandbox) -> Bundle {
    sb.bundle().file("/secret", "s", 0o600).set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
}

/// Files of the image keep their protection against a plain user.
#[test]
fn a_plain_user_cannot_read_what_is_roots() {
    case(|sb| {
        sb.run(&secret(sb).args(&["cat", "/secret"])).code_is(1);
        sb.run(&secret(sb).capabilities(&["CAP_DAC_OVERRIDE"]).args(&["cat", "/secret"])).ok();
    });
}
