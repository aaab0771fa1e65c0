//! An ordinary user: every verb without root anywhere, ids by the helpers, what cannot be had and how that is said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::console::FdSocket;
use integration::host::{eventually, status_field};
use integration::race::ATTACK;
use integration::requires::{Need, PERL};
use integration::rootless::{RANGE, User, user_case, user_case_with};
use integration::runtime::Kind;
use integration::{Sandbox, json};

#[test]
fn run_prints_and_returns_the_exit_code() {
    user_case(|sb, user| {
        let out = sb.run(&user.bundle(sb).sh("id -u; id -g; echo err >&2; exit 7"));
        out.code_is(7);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("0\n0\n", "err\n"));
    });
}

#[test]
fn a_whole_life() {
    user_case(|sb, user| {
        let b = user.bundle(sb).sleeper();
        sb.create(&b).ok();
        assert_eq!(sb.status(&b.id), "created");
        sb.start(&b.id).ok();
        let state = sb.state(&b.id);
        let pid = state["pid"].as_i64().expect("a pid");
        assert_eq!(state["status"], json!("running"));
        assert_eq!(status_field(pid, "Uid").as_deref(), Some(&*format!("{0}\t{0}\t{0}\t{0}", user.uid)));
        let list = sb.call(&["list"]).run().ok();
        assert!(list.contains(&b.id) && list.contains("running"), "{list}");
        assert_eq!(sb.exec(&b.id, &["sh", "-c", "hostname; exit 0"]).ok(), "skep-test");
        sb.exec(&b.id, &["sh", "-c", "exit 5"]).code_is(5);
        assert!(sb.delete(&b.id).fails().contains("stopped"));
        sb.kill(&b.id, "KILL").ok();
        sb.wait_status(&b.id, "stopped");
        sb.delete(&b.id).ok();
        assert!(!sb.root.join(&b.id).exists(), "the state is gone");
    });
}

/// The first process is open to the user's tracers then, but has nothing of the caller's environment and file to show.
#[test]
fn exec_enters_a_container_that_waits_for_its_start() {
    user_case(|sb, user| {
        for b in [user.bundle(sb), user.bundle_with_ranges(sb)] {
            let b = b.sleeper();
            sb.create(&b).ok();
            assert_eq!(sb.exec(&b.id, &["sh", "-c", "hostname; id -u"]).ok(), "skep-test\n0");
            if sb.runtime.kind == Kind::Skep {
                let left = sb.exec(&b.id, &["sh", "-c", "tr -d '\\0' < /proc/1/environ; echo x > /proc/1/exe"]);
                assert!(left.stdout.is_empty() && left.code != 0, "{left:#?}");
            }
            assert_eq!(sb.status(&b.id), "created");
            sb.start(&b.id).ok();
            assert_eq!(sb.exec(&b.id, &["hostname"]).ok(), "skep-test");
            sb.delete_force(&b.id).ok();
        }
    });
}

#[test]
fn ps_tells_the_first_process() {
    user_case(|sb, user| {
        let c = sb.detached(&user.bundle(sb).sleeper());
        let pids = sb.call(&["ps", "--format", "json", &c.id]).run().json();
        assert_eq!(pids, json!([c.pid]));
        assert!(sb.call(&["ps", &c.id]).run().ok().contains("sleep"));
    });
}

#[test]
fn the_state_is_below_the_users_run_time_folder() {
    user_case(|sb, user| {
        let b = user.bundle(sb).sleeper();
        b.write();
        sb.plain_call().args(["run", "--detach", "--bundle"]).arg(&b.dir).arg(&b.id).run().ok();
        let folders = fs::read_dir(user.home.join("run")).expect("list the run-time folder").flatten();
        let kept: Vec<_> = folders.map(|folder| folder.path()).filter(|path| path.join(&b.id).exists()).collect();
        assert_eq!(kept.len(), 1, "one state folder");
        let mode = fs::metadata(&kept[0]).expect("stat").permissions().mode();
        assert_eq!(mode & 0o077, 0, "for the user alone: {mode:o}");
        assert!(sb.plain_call().arg("list").run().ok().contains(&b.id));
        sb.plain_call().args(["delete", "--force", &b.id]).run().ok();
        assert!(!kept[0].join(&b.id).exists());
    });
}

/// With nothing in the environment and no folder of a login session there is no place that others could not have made.
#[test]
fn without_a_run_time_folder_root_must_be_given() {
    user_case(|sb, user| {
        let program = user.program.to_str().expect("UTF-8");
        let bare = |args: &[&str]| {
            user.call("/usr/bin/env", &sb.dir.join("out")).args(["-u", "XDG_RUNTIME_DIR", program]).args(args).run()
        };
        let said = bare(&["list"]).fails();
        assert!(said.contains("XDG_RUNTIME_DIR") && said.contains("--root"), "{said}");
        bare(&["--root", sb.root.to_str().expect("UTF-8"), "list"]).ok();
    });
}

#[test]
fn the_own_id_is_mapped_without_help() {
    user_case(|sb, user| {
        user.without_ranges();
        let out = sb.run(&user.bundle(sb).sh("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")).ok();
        let line = format!("0 {} 1", user.uid);
        let lines: Vec<String> =
            out.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, [line.as_str(), line.as_str(), "deny"]);
    });
}

#[test]
fn ranges_are_mapped_by_the_helpers() {
    user_case(|sb, user| {
        let b = user.bundle_with_ranges(sb).sh("cat /proc/self/uid_map /proc/self/gid_map; id");
        let b = b.set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 8] }));
        let out = sb.run(&b).ok();
        let maps = format!("0 {} 1|1 {} {RANGE}", user.uid, user.first);
        let lines: Vec<String> =
            out.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[..4].join("|"), format!("{maps}|{maps}"));
        assert_eq!(lines[4], "uid=1000(user) gid=1001 groups=7,8");
    });
}

#[test]
fn another_user_of_the_container_can_be_signalled_and_entered() {
    user_case(|sb, user| {
        let b = user.bundle_with_ranges(sb).sleeper().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let c = sb.detached(&b);
        let uid = status_field(c.pid, "Uid").expect("alive");
        assert!(uid.starts_with(&(user.first + 999).to_string()), "{uid}");
        assert_eq!(sb.exec(&c.id, &["id", "-u"]).ok(), "1000");
        assert_eq!(sb.exec_with(&c.id, &["--user", "5:6"], &["sh", "-c", "id -u; id -g"]).ok(), "5\n6");
        sb.kill(&c.id, "KILL").ok();
        sb.wait_status(&c.id, "stopped");
        sb.delete(&c.id).ok();
    });
}

#[test]
fn a_refused_range_names_file_and_line() {
    user_case(|sb, user| {
        let b = user.bundle_with_ranges(sb);
        user.without_ranges();
        let said = sb.run(&b).fails();
        assert!(said.contains("newuidmap") && said.contains("not allowed"), "{said}");
        assert!(
            said.contains("/etc/subuid") && said.contains(&format!("{}:{}:{RANGE}", user.uid, user.first)),
            "{said}"
        );
        assert!(!sb.root.join(&b.id).exists(), "nothing is left");
    });
}

#[test]
fn a_missing_helper_is_named() {
    user_case(|sb, user| {
        let b = user.bundle_with_ranges(sb);
        b.write();
        let call = user.call("/usr/bin/env", &sb.dir.join("out")).arg("PATH=/nowhere").arg(&user.program);
        let said = call.arg("run").arg("--bundle").arg(&b.dir).arg(&b.id).run().fails();
        assert!(said.contains("newuidmap"), "{said}");
    });
}

#[test]
fn groups_cannot_be_added_where_only_the_own_is_mapped() {
    user_case(|sb, user| {
        let b = user.bundle(sb).set("/process/user/additionalGids", json!([0]));
        sb.run(&b).fails_saying("cannot set any additional groups in a rootless container");
    });
}

#[test]
fn a_user_namespace_is_required() {
    user_case(|sb, user| {
        let b = user.bundle(sb).without_namespace("user").unset("/linux/uidMappings").unset("/linux/gidMappings");
        sb.run(&b).fails_saying("rootless container requires user namespaces");
    });
}

#[test]
fn ids_of_a_process_must_be_mapped() {
    user_case(|sb, user| {
        sb.run(&user.bundle(sb).set("/process/user/uid", json!(1000))).fails_saying("1000");
        let c = sb.detached(&user.bundle(sb).sleeper());
        sb.exec_with(&c.id, &["--user", "1000"], &["id"]).fails_saying("1000");
    });
}

#[test]
fn ids_of_mounts_must_be_mapped() {
    user_case(|sb, user| {
        for option in ["gid=5", "uid=5"] {
            let b = user.bundle(sb).mount("tmpfs", "/mnt", "tmpfs", &[option]);
            let said = sb.run(&b).fails();
            assert!(said.contains("mount option") && said.contains(&option[..3]), "{said}");
        }
        let b = user.bundle_with_ranges(sb).mount("tmpfs", "/mnt", "tmpfs", &["gid=5"]);
        assert_eq!(sb.run(&b.args(&["stat", "-c", "%g", "/mnt"])).ok(), "5");
    });
}

#[test]
fn a_network_of_its_own_has_a_loopback() {
    user_case(|sb, user| {
        let b = user.bundle(sb).namespace("network", None).mount("sysfs", "/sys", "sysfs", &["ro"]);
        let b = b.sh("ls /sys/class/net; ip -o link show lo | grep -c UP; cat /proc/sys/net/ipv4/ip_forward");
        let b = b.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })).unset("/linux/readonlyPaths");
        assert_eq!(sb.run(&b).ok(), "lo\n1\n1");
    });
}

#[test]
fn a_terminal() {
    user_case(|sb, user| {
        let socket = FdSocket::bind(&user.home, "tty");
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o777)).expect("chmod the socket");
        let b =
            user.bundle(sb).set("/process/terminal", json!(true)).sh("tty; read line; echo \"got $line\"; sleep 100");
        sb.verb("run", &b, &["--detach", "--console-socket", socket.text()]).run().ok();
        let console = socket.console();
        console.read_until("/dev/");
        console.type_in("hello\n");
        console.read_until("got hello");
        let options = ["--tty", "--detach", "--console-socket", socket.text()];
        sb.exec_with(&b.id, &options, &["sh", "-c", "tty; sleep 100"]).ok();
        socket.console().read_until("/dev/pts");
        sb.delete_force(&b.id).ok();
    });
}

#[test]
fn devices_are_those_of_the_host() {
    user_case(|sb, user| {
        let b =
            user.bundle(sb).sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; stat -c %t:%T /dev/urandom /dev/tty");
        assert_eq!(sb.run(&b).ok(), "3\n1:9\n5:0");
        let b = user.bundle(sb).args(&["mknod", "/dev/mine", "c", "1", "3"]);
        assert_eq!(sb.run(&b).code, 1, "no node can be made");
    });
}

#[test]
fn a_device_that_the_host_does_not_have_there_is_refused() {
    user_case(|sb, user| {
        let device = |path: &str| json!([{ "path": path, "type": "c", "major": 1, "minor": 5 }]);
        sb.run(&user.bundle(sb).set("/linux/devices", device("/dev/not-there"))).fails_saying("/dev/not-there");
        // The node of that path on the host is another device.
        sb.run(&user.bundle(sb).set("/linux/devices", device("/dev/full"))).fails_saying("/dev/full");
    });
}

#[test]
fn hidden_and_read_only_paths_hold() {
    user_case(|sb, user| {
        let b = user.bundle(sb).set("/linux/maskedPaths", json!(["/proc/timer_list", "/proc/acpi", "/etc/passwd"]));
        let b = b.sh("wc -c < /etc/passwd; echo 1 > /proc/sys/kernel/domainname; echo x > /bin/x; umount /proc/sys");
        let out = sb.run(&b);
        assert_eq!(out.stdout, "0\n");
        assert!(out.code != 0 && out.stderr.matches("Read-only file system").count() == 2, "{out:#?}");
        assert!(out.stderr.contains("umount"), "{out:#?}");
    });
}

#[test]
fn binds_of_the_users_files() {
    user_case(|sb, user| {
        let data = user.home.join("data");
        fs::create_dir(&data).expect("create a folder");
        fs::write(data.join("mine"), "mine\n").expect("write a file");
        fs::write(data.join("others"), "others\n").expect("write a file");
        user.own(&data, user.uid);
        // In a folder that only the user enters, under an id that is the user's by /etc/subuid.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("chmod");
        std::os::unix::fs::chown(data.join("others"), Some(user.first + 4), Some(user.first + 4)).expect("chown");
        let b = user.bundle_with_ranges(sb).bind(&data, "/mnt", &["ro"]).bind(&data, "/tmp", &[]);
        let b =
            b.sh("cat /mnt/mine /mnt/others; stat -c %u /mnt/mine /mnt/others; echo new > /tmp/new; echo x > /mnt/x");
        let out = sb.run(&b);
        assert_eq!(out.stdout, "mine\nothers\n0\n5\n");
        assert!(out.stderr.contains("Read-only file system"), "{out:#?}");
        assert_eq!(fs::read_to_string(data.join("new")).expect("the new file"), "new\n");
    });
}

#[test]
fn a_folder_with_mounts_below_needs_rbind() {
    user_case(|sb, user| {
        sb.run(&user.bundle(sb).bind(Path::new("/sys"), "/mnt", &[])).fails_saying("/sys");
        let b = user.bundle(sb).bind(Path::new("/sys"), "/mnt", &["rbind", "ro"]).args(&["ls", "-d", "/mnt/kernel"]);
        assert_eq!(sb.run(&b).ok(), "/mnt/kernel");
    });
}

#[test]
fn an_overlay_can_be_mounted_inside() {
    user_case(|sb, user| {
        let folders = ["lower", "upper", "work"].map(|name| user.home.join(name));
        for folder in &folders {
            fs::create_dir(folder).expect("create a folder");
        }
        fs::write(folders[0].join("file"), "below\n").expect("write a file");
        folders.iter().for_each(|folder| user.own(folder, user.uid));
        let [lower, upper, work] = folders.each_ref().map(|path| path.to_str().expect("UTF-8"));
        let options =
            [format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}"), "userxattr".into()];
        let b = user.bundle(sb).mount("overlay", "/mnt", "overlay", &options.each_ref().map(String::as_str));
        assert_eq!(
            sb.run(&b.sh("cat /mnt/file; echo new > /mnt/file; rm /mnt/nothing 2>/dev/null; cat /mnt/file")).ok(),
            "below\nnew"
        );
        assert_eq!(fs::read_to_string(folders[1].join("file")).expect("copied up"), "new\n");
    });
}

#[test]
fn a_filter_without_no_new_privileges() {
    user_case(|sb, user| {
        let rule = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]);
        let b = user.bundle(sb).writable().set("/process/noNewPrivileges", json!(false));
        let b = b.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule }));
        let out = sb.run(&b.sh("grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status; mkdir /tmp/x"));
        assert_eq!(out.stdout, "NoNewPrivs:\t0\nSeccomp:\t2\n");
        assert!(out.stderr.contains("Operation not permitted"), "{out:#?}");
    });
}

#[test]
fn hooks_are_the_users() {
    user_case(|sb, user| {
        let log = user.home.join("log");
        let script = |name: &str| format!("read -r state; echo {name} $(/usr/bin/id -u) >> {}", log.display());
        let kinds = ["createRuntime", "createContainer", "poststart", "poststop"];
        let b = kinds.iter().fold(user.bundle(sb).args(&["true"]), |b, kind| b.hook(kind, &script(kind)));
        sb.run(&b).ok();
        let text = fs::read_to_string(&log).expect("the hooks' log");
        let uid = user.uid;
        let expected = format!("createRuntime {uid}\ncreateContainer 0\npoststart {uid}\npoststop {uid}\n");
        assert_eq!(text, expected);
    });
}

#[test]
fn the_oom_score_can_be_raised_and_exec_has_it() {
    user_case(|sb, user| {
        let c = sb.detached(&user.bundle(sb).sleeper().set("/process/oomScoreAdj", json!(700)));
        let score = |pid: &str| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("the score");
        assert_eq!(score(&c.pid.to_string()).trim(), "700");
        assert_eq!(sb.exec(&c.id, &["cat", "/proc/self/oom_score_adj"]).ok(), "700");
    });
}

#[test]
fn what_only_root_may_do_is_refused_by_name() {
    user_case(|sb, user| {
        sb.run(&user.bundle(sb).set("/process/oomScoreAdj", json!(-900))).fails_saying("oom_score_adj");
        // Above /proc/sys/fs/nr_open, whatever the caller's own limit is.
        let limits = json!([{ "type": "RLIMIT_NOFILE", "hard": 1_u64 << 50, "soft": 1_u64 << 50 }]);
        sb.run(&user.bundle(sb).set("/process/rlimits", limits)).fails_saying("limit");
        let joined = user.bundle(sb).namespace("ipc", Some("/proc/1/ns/ipc"));
        sb.run(&joined).fails_saying("ipc");
        let disk = user.bundle(sb).mount("/dev/vda", "/mnt", "ext4", &[]);
        sb.run(&disk).fails_saying("/mnt");
        let mapped = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        let b = user.bundle(sb).bind(&user.home, "/mnt", &[]).set("/mounts/5/uidMappings", mapped.clone());
        sb.run(&b.set("/mounts/5/gidMappings", mapped)).fails();
        let c = sb.detached(&user.bundle(sb).sleeper());
        assert!(sb.state(&c.id)["pid"].is_i64(), "the user can still run what it may");
    });
}

#[test]
fn limits_need_a_cgroup_that_can_be_written() {
    user_case(|sb, user| {
        let b = user.bundle(sb).set("/linux/resources", json!({ "pids": { "limit": 20 } }));
        sb.run(&b).fails_saying("cannot set pids limit: container could not join or create cgroup");
        let b = user.bundle(sb).set("/linux/cgroupsPath", json!(format!("/{}/x", sb.name)));
        sb.run(&b).fails_saying("ermission denied");
        let b = user.bundle(sb).set("/linux/resources", json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
        sb.run(&b.args(&["true"])).ok();
    });
}

#[test]
fn without_a_cgroup_pause_and_update_say_so() {
    user_case(|sb, user| {
        let c = sb.detached(&user.bundle(sb).sleeper());
        for args in [&["pause", &c.id][..], &["update", "--pids-limit", "5", &c.id], &["events", "--stats", &c.id]] {
            sb.call(args).run().fails_saying("cgroup");
        }
        assert_eq!(sb.status(&c.id), "running");
    });
}

/// Gives the user a group of its own in each v1 hierarchy.
fn delegate(sb: &Sandbox, user: &User) {
    for mount in integration::host::cgroup_mounts() {
        let group = mount.join(&sb.name);
        fs::create_dir_all(&group).expect("create a group");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(mount.join(file)) {
                fs::write(group.join(file), value).expect("fill a cpuset");
            }
        }
        std::os::unix::fs::chown(&group, Some(user.uid), Some(user.uid)).expect("chown a group");
        for file in ["cgroup.procs", "cgroup.subtree_control", "tasks"] {
            let file = group.join(file);
            if file.exists() {
                std::os::unix::fs::chown(file, Some(user.uid), Some(user.uid)).expect("chown a file of a group");
            }
        }
    }
}

#[test]
fn a_delegated_cgroup_is_used() {
    user_case_with(&[Need::V1("freezer")], |sb, user| {
        delegate(sb, user);
        let id = "delegated";
        let mut b = user.bundle(sb).set("/linux/resources", json!({ "pids": { "limit": 20 } })).sleeper();
        b.id = id.to_owned();
        let b = b.set("/linux/cgroupsPath", json!(format!("/{}/{id}", sb.name)));
        // The unified hierarchy of a hybrid host wants a right on the group that both are below, which is the top.
        let c = sb.detached_with(&b, &[]);
        assert_eq!(sb.cgroup_read("pids", id, "pids.max"), "20");
        assert_eq!(sb.cgroup_read("pids", id, "cgroup.procs"), c.pid.to_string());
        sb.call(&["update", "--pids-limit", "30", id]).run().ok();
        assert_eq!(sb.cgroup_read("pids", id, "pids.max"), "30");
        sb.call(&["pause", id]).run().ok();
        assert_eq!(sb.status(id), "paused");
        sb.call(&["resume", id]).run().ok();
        assert_eq!(sb.exec(id, &["echo", "inside"]).ok(), "inside");
        sb.delete_force(id).ok();
        assert!(!sb.cgroup("pids", id).exists());
    });
}

/// As under `systemd-run --user --scope`: the user's part of the hierarchy begins above the group that it is called in.
#[test]
fn a_delegated_part_of_the_unified_hierarchy_is_used() {
    user_case_with(&[Need::V2Alone, Need::V2("memory")], |sb, user| {
        let part = integration::host::cgroup_mounts().remove(0).join(&sb.name);
        fs::create_dir(&part).expect("create a group");
        user.delegate(&part);
        let limits = json!({ "pids": { "limit": 20 }, "memory": { "limit": 50_000_000 } });
        let b = user.bundle(sb).namespace("cgroup", None).set("/linux/resources", limits);
        let b = b.mount("cgroup", "/sys/fs/cgroup", "cgroup", &["ro"]);
        let b = b.folder("/sys/fs/cgroup").sleeper();
        let c = sb.detached(&b);
        let group = part.join(&c.id);
        let read = |file: &str| fs::read_to_string(group.join(file)).expect("a file of the group").trim().to_owned();
        assert_eq!((read("pids.max").as_str(), read("memory.max").as_str()), ("20", "49999872"));
        assert_eq!(read("cgroup.procs"), c.pid.to_string());
        assert_eq!(sb.exec(&c.id, &["cat", "/proc/self/cgroup", "/sys/fs/cgroup/pids.max"]).ok(), "0::/\n20");
        sb.call(&["update", "--pids-limit", "30", &c.id]).run().ok();
        assert_eq!(read("pids.max"), "30");
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        sb.call(&["resume", &c.id]).run().ok();
        let stats = sb.call(&["events", "--stats", &c.id]).run().json();
        assert_eq!(stats["data"]["pids"]["limit"], json!(30));
        sb.delete_force(&c.id).ok();
        assert!(!group.exists());
        // Beyond the part that is the user's there is nothing to be had.
        let outside = user.bundle(sb).set("/linux/cgroupsPath", json!(format!("/{}-outside", sb.name)));
        sb.run(&outside).fails_saying("ermission denied");
        fs::remove_dir(part.join("session")).expect("remove the session's group");
    });
}

/// As an engine or systemd does it in a container: the own group hands controllers on and takes no process then.
#[test]
fn exec_joins_the_first_process_where_the_delegated_group_takes_none() {
    user_case_with(&[Need::V2Alone, Need::V2("memory")], |sb, user| {
        let part = integration::host::cgroup_mounts().remove(0).join(&sb.name);
        fs::create_dir(&part).expect("create a group");
        user.delegate(&part);
        let script = "cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs \
                      && echo '+memory +pids' > cgroup.subtree_control && echo ready; sleep 1000";
        let b = user.bundle(sb).namespace("cgroup", None).folder("/sys/fs/cgroup");
        let c = sb.detached(&b.mount("cgroup", "/sys/fs/cgroup", "cgroup", &["rw"]).sh(script));
        eventually("it is ready", || c.output.stdout_now().contains("ready"));
        assert_eq!(sb.exec(&c.id, &["cat", "/proc/self/cgroup"]).ok(), "0::/init");
        sb.exec_with(&c.id, &["--cgroup", "/"], &["true"]).fails_saying("cgroup.subtree_control");
        sb.delete_force(&c.id).ok();
        fs::remove_dir(part.join("session")).expect("remove the session's group");
    });
}

/// CVE-2019-5736, where the container's root is the very owner of the runtime's file.
#[test]
fn the_runtimes_own_file_cannot_be_written() {
    user_case_with(&[PERL], |sb, user| {
        let bytes = fs::read(&user.program).expect("read the program");
        let b = user.bundle(sb).with_perl().file("/evil", "#!/proc/self/exe\n", 0o755);
        let b = b.capabilities(&["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]);
        sb.verb("run", &b.clone().args(&["/evil"]), &[]).deadline(Duration::from_secs(20)).run();
        let c = sb.detached(&b.args(&["/usr/bin/perl", "-e", OVERWRITE]));
        eventually("the attack begins", || c.output.stdout_now().contains("ready"));
        let until = Instant::now() + ATTACK;
        while Instant::now() < until {
            for program in ["/evil", "/proc/self/exe", "/bin/true"] {
                sb.exec_call(&c.id, &[], &[program]).deadline(Duration::from_secs(20)).run();
            }
        }
        assert!(!c.output.stdout_now().contains("wrote"), "{}", c.output.stdout_now());
        sb.delete_force(&c.id).ok();
        assert!(fs::read(&user.program).expect("read the program") == bytes, "the runtime's own file was changed");
    });
}

/// Perl: keeps the files of all processes open and writes to those that are none of the container's own as soon as it can.
const OVERWRITE: &str = r#"
    use Fcntl; my @held; $| = 1;
    print "ready\n";
    while (1) {
        opendir(my $proc, "/proc");
        for my $pid (grep /^\d+$/, readdir $proc) {
            next if $pid == $$ or $pid == 1;
            my $name = readlink "/proc/$pid/exe";
            next if defined $name and $name =~ m{^(/usr)?/bin/};
            if (sysopen(my $exe, "/proc/$pid/exe", O_RDONLY)) { push @held, $exe if @held < 400 }
            if (sysopen(my $exe, "/proc/$pid/exe", O_WRONLY)) { print "wrote $name\n" if syswrite $exe, "pwned" }
        }
        for my $exe (@held) {
            my $n = fileno $exe;
            if (sysopen(my $out, "/proc/self/fd/$n", O_WRONLY)) { print "wrote held\n" if syswrite $out, "pwned" }
        }
        splice @held, 0, 50 if @held > 300;
    }
"#;
