//! sysctl, masked and read-only paths.

use integration::host::mount_at;
use integration::{case, json};

#[test]
fn sysctls_of_the_containers_namespaces_are_set() {
    case(|sb| {
        let b = sb.bundle().set(
            "/linux/sysctl",
            json!({
                "net.ipv4.ip_forward": "1",
                "net.core.somaxconn": "321",
                "kernel.shmmax": "12345678",
                "kernel.msgmax": "4321",
                "fs.mqueue.msg_max": "17"
            }),
        );
        let b = b.sh(
            "cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/shmmax kernel/msgmax fs/mqueue/msg_max",
        );
        assert_eq!(sb.run(&b).ok(), "1\n321\n12345678\n4321\n17");
    });
}

#[test]
fn sysctls_do_not_reach_the_host() {
    case(|sb| {
        let before = std::fs::read_to_string("/proc/sys/kernel/shmmni").expect("read");
        let b = sb
            .bundle()
            .set("/linux/sysctl", json!({ "kernel.shmmni": "77" }))
            .args(&["cat", "/proc/sys/kernel/shmmni"]);
        assert_eq!(sb.run(&b).ok(), "77");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shmmni").expect("read"), before);
    });
}

#[test]
fn both_separators_are_understood() {
    case(|sb| {
        let b = sb
            .bundle()
            .set("/linux/sysctl", json!({ "net/ipv4/ip_forward": "1", "net/ipv4/conf/lo/log_martians": "1" }));
        let b = b.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/log_martians");
        assert_eq!(sb.run(&b).ok(), "1\n1");
    });
}

#[test]
fn the_domain_name_is_a_sysctl_of_uts() {
    case(|sb| {
        let b = sb.bundle().set("/linux/sysctl", json!({ "kernel.domainname": "example.org" }));
        assert_eq!(sb.run(&b.args(&["cat", "/proc/sys/kernel/domainname"])).ok(), "example.org");
    });
}

#[test]
fn a_domain_name_and_its_sysctl_must_agree() {
    case(|sb| {
        let b = sb.bundle().set("/linux/sysctl", json!({ "kernel.domainname": "example.org" }));
        sb.run(&b.clone().set("/domainname", json!("other.org")).args(&["true"])).fails();
        let b = b.set("/domainname", json!("example.org")).args(&["cat", "/proc/sys/kernel/domainname"]);
        assert_eq!(sb.run(&b).ok(), "example.org");
    });
}

#[test]
fn a_sysctl_of_the_whole_machine_is_refused() {
    case(|sb| {
        for key in ["kernel.core_pattern", "vm.swappiness", "kernel.sysrq", "fs.file-max", "kernel.panic", "nosuch.key"]
        {
            let b = sb.bundle().set("/linux/sysctl", json!({ key: "1" }));
            sb.create(&b).code_is(1).fails_saying(key);
        }
    });
}

#[test]
fn a_sysctl_needs_its_namespace() {
    case(|sb| {
        let b = sb.bundle().without_namespace("network").set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
        sb.create(&b).code_is(1).fails_saying("net.ipv4.ip_forward");
        let b = sb.bundle().without_namespace("ipc").set("/linux/sysctl", json!({ "kernel.shmmax": "1" }));
        sb.create(&b).code_is(1).fails_saying("kernel.shmmax");
    });
}

/// A namespace by its path may be the host's own, and its kernel parameters with it.
#[test]
fn a_sysctl_in_the_hosts_own_namespace_by_its_path_is_refused() {
    case(|sb| {
        let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("read");
        for path in ["/proc/self/ns/net", &format!("/proc/{}/ns/net", std::process::id())] {
            let b = sb.bundle().namespace("network", Some(path)).args(&["true"]);
            let b = b.set("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "63" }));
            sb.create(&b).code_is(1).fails();
        }
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("read"), before);
    });
}

/// The values are those that the host has, so that a runtime that does not refuse them changes nothing.
#[test]
fn the_hosts_own_namespaces_by_their_paths_are_not_written_to() {
    let value =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("read").trim().to_owned();
    case(|sb| {
        // The runtime in the namespaces of the first process, and in others.
        let inside = ["unshare", "-p", "-f", "--mount-proc", "sh", "-c", "unshare -u -i \"$@\"; exit $?", "sh"];
        for (kind, pointer, setting) in [
            ("uts", "/hostname", json!(value("hostname"))),
            ("uts", "/domainname", json!(value("domainname"))),
            ("uts", "/linux/sysctl", json!({ "kernel.domainname": value("domainname") })),
            ("ipc", "/linux/sysctl", json!({ "kernel.shmmni": value("shmmni") })),
        ] {
            for (prefix, process) in [(&["env"][..], "self"), (&inside[..], "1")] {
                let path = format!("/proc/{process}/ns/{kind}");
                let b = sb.bundle().unset("/hostname").namespace(kind, Some(&path)).set(pointer, setting.clone());
                b.write();
                let bundle = b.dir.to_string_lossy().into_owned();
                let runtime = sb.runtime.path.to_string_lossy().into_owned();
                let root = sb.root.to_string_lossy().into_owned();
                let call = sb.program(prefix[0]).args(&prefix[1..]).args([&runtime, "--root", &root, "run"]);
                call.args(["--bundle", &bundle, &b.id]).run().fails_saying(&format!("host's own {kind} namespace"));
            }
        }
    });
}

#[test]
fn a_sysctl_that_does_not_exist_is_an_error() {
    case(|sb| {
        let b = sb.bundle().set("/linux/sysctl", json!({ "net.ipv4.nosuch": "1" })).args(&["true"]);
        sb.run(&b).fails();
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_an_error() {
    case(|sb| {
        let b = sb.bundle().set("/linux/sysctl", json!({ "net.ipv4.ip_local_port_range": "words" })).args(&["true"]);
        sb.run(&b).fails();
    });
}

#[test]
fn a_masked_file_is_empty() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!(["/proc/kcore", "/etc/secret"])).file(
            "/etc/secret",
            "s",
            0o644,
        );
        let b =
            b.sh("wc -c < /etc/secret; stat -c %F /etc/secret; echo x > /etc/secret 2>/dev/null; wc -c < /etc/secret");
        assert_eq!(sb.run(&b).ok(), "0\ncharacter special file\n0");
    });
}

#[test]
fn a_masked_folder_is_empty_and_read_only() {
    case(|sb| {
        let b = sb.bundle().writable().set("/linux/maskedPaths", json!(["/secret"])).file("/secret/f", "s", 0o644);
        let b = b.sh("ls /secret | wc -l; touch /secret/x 2>&1");
        let text = sb.run(&b).stdout;
        assert!(text.starts_with("0\n") && text.contains("Read-only file system"), "{text}");
        assert!(!b.rootfs().join("secret/x").exists());
    });
}

#[test]
fn a_masked_path_that_is_missing_is_no_error() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!(["/no/such/path", "/proc/nosuch"])).args(&["true"]);
        sb.run(&b).ok();
        assert!(!b.rootfs().join("no").exists());
    });
}

#[test]
fn hundreds_of_masked_paths_all_hold() {
    case(|sb| {
        let mut b = sb.bundle();
        let mut paths = Vec::new();
        for n in 0..300 {
            let path = format!("/many/{n}");
            b = if n % 2 == 0 { b.file(&path, "s", 0o644) } else { b.file(&format!("{path}/f"), "s", 0o644) };
            paths.push(path);
        }
        let b = b.set("/linux/maskedPaths", json!(paths)).sh("cat /many/* 2>/dev/null | wc -c; ls /many/*/ 2>/dev/null | grep -c f; grep -c ' /many/' /proc/self/mountinfo");
        assert_eq!(sb.run(&b).stdout, "0\n0\n300\n");
    });
}

#[test]
fn masks_cannot_be_taken_off_from_within() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!(["/etc/secret"])).file("/etc/secret", "s", 0o644);
        let out = sb.run(&b.sh("umount /etc/secret; cat /etc/secret"));
        assert_eq!(out.stdout, "", "{out:#?}");
    });
}

#[test]
fn the_default_masks_hold() {
    case(|sb| {
        let script = "for p in /proc/kcore /proc/keys /proc/timer_list; do [ -e $p ] && { head -c1 $p | wc -c; }; done; ls /sys/firmware /proc/scsi 2>/dev/null | grep -v : | grep -c .";
        let out = sb.run(&sb.bundle().sh(script));
        assert!(out.stdout.lines().all(|line| line == "0"), "{out:#?}");
    });
}

#[test]
fn read_only_paths_refuse_writes() {
    case(|sb| {
        let b = sb.bundle().writable().set("/linux/readonlyPaths", json!(["/data", "/etc/file", "/proc/sys"]));
        let b = b.file("/data/f", "d", 0o644).file("/etc/file", "e", 0o644);
        let script = "for p in /data/f /etc/file /proc/sys/kernel/hostname; do (echo x > $p) 2>&1 | grep -o 'Read-only file system'; done; cat /data/f /etc/file";
        let text = sb.run(&b.sh(script)).ok();
        assert_eq!(text, "Read-only file system\nRead-only file system\nRead-only file system\nde");
    });
}

#[test]
fn a_read_only_path_keeps_the_other_flags_of_its_mount() {
    case(|sb| {
        let b = sb.bundle().mount("tmpfs", "/data", "tmpfs", &["nosuid", "nodev", "noexec"]);
        let b = b.set("/linux/readonlyPaths", json!(["/data"]));
        let seen = sb.mounts_of(b);
        let mount = mount_at(&seen, "/data");
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(mount.options.iter().any(|o| o == option), "{option}: {mount:?}");
        }
    });
}

#[test]
fn a_read_only_path_that_is_missing_is_no_error() {
    case(|sb| {
        sb.run(&sb.bundle().set("/linux/readonlyPaths", json!(["/no/such/path"])).args(&["true"])).ok();
    });
}

#[test]
fn without_read_only_paths_proc_sys_is_writable() {
    case(|sb| {
        let b = sb
            .bundle()
            .unset("/linux/readonlyPaths")
            .sh("echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward");
        assert_eq!(sb.run(&b.capabilities(&["CAP_NET_ADMIN"])).ok(), "1");
    });
}

#[test]
fn masks_and_read_only_paths_work_in_a_user_namespace() {
    case(|sb| {
        let b = sb
            .bundle()
            .file("/etc/secret", "s", 0o644)
            .user_namespace()
            .push("/linux/maskedPaths", json!("/etc/secret"));
        let b = b.sh("wc -c < /etc/secret; (echo x > /proc/sys/kernel/hostname) 2>&1 | grep -o 'Read-only'");
        assert_eq!(sb.run(&b).ok(), "0\nRead-only");
    });
}

#[test]
fn a_masked_path_must_be_absolute() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!(["etc/secret"])).file("/etc/secret", "s", 0o644);
        let out = sb.run(&b.args(&["cat", "/etc/secret"]));
        assert!(out.code != 0 || out.stdout.is_empty(), "neither refused nor masked: {out:#?}");
    });
}
