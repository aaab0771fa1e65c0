//! `exec` with all its flags, and the descriptors that a caller may hand over to `run` and `exec`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use integration::group::path_in;
use integration::host::{alive, eventually, v2_alone};
use integration::runtime::wait_pid;
use integration::sandbox::read_pid;
use integration::{Bundle, Container, Sandbox, Value, case, json};

/// A running container that has all the capabilities that the tests ask for.
fn running(sb: &Sandbox) -> Container {
    sb.detached(&sb.bundle().sleeper())
}

/// Writes a process description: that of the bundle, changed at these pointers.
fn process_file(sb: &Sandbox, changes: &[(&str, Value)]) -> String {
    let mut b = Bundle { id: String::new(), dir: sb.dir.clone(), spec: integration::bundle::default_spec() };
    for (pointer, value) in changes {
        b = b.set(&format!("/process{pointer}"), value.clone());
    }
    let path = sb.dir.join("process.json");
    fs::write(&path, b.spec["process"].to_string()).expect("write the process file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn runs_a_program_in_the_container() {
    case(|sb| {
        let c = running(sb);
        assert_eq!(sb.exec(&c.id, &["hostname"]).ok(), "skep-test");
        let pids = sb.exec_sh(&c.id, "readlink /proc/self/ns/pid; readlink /proc/1/ns/pid").ok();
        let pids: Vec<&str> = pids.lines().collect();
        assert_eq!(pids[0], pids[1]);
    });
}

#[test]
fn joins_every_namespace_of_the_container() {
    case(|sb| {
        let c = running(sb);
        for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
            let inside = sb.exec(&c.id, &["readlink", &format!("/proc/self/ns/{kind}")]).ok();
            let init = fs::read_link(format!("/proc/{}/ns/{kind}", c.pid)).expect("readlink");
            assert_eq!(inside, init.to_string_lossy(), "{kind}");
        }
    });
}

#[test]
fn joins_the_user_namespace() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().user_namespace().sleeper());
        assert_eq!(sb.exec(&c.id, &["id", "-u"]).ok(), "0");
        let map = sb.exec(&c.id, &["cat", "/proc/self/uid_map"]).ok();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    });
}

#[test]
fn joins_the_cgroups_of_the_container() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().without_namespace("cgroup").sleeper());
        let group = format!("/{}/{}", sb.name, c.id);
        let text = sb.exec(&c.id, &["cat", "/proc/self/cgroup"]).ok();
        for controller in ["cpu", "memory", "pids", "devices", "freezer", "blkio", "cpuset", "cpuacct"] {
            assert!(path_in(&text, controller).ends_with(&group), "{controller}: {text}");
        }
    });
}

#[test]
fn gives_the_exit_code() {
    case(|sb| {
        let c = running(sb);
        for code in [0, 1, 42] {
            sb.exec_sh(&c.id, &format!("exit {code}")).code_is(code);
        }
    });
}

#[test]
fn gives_128_plus_the_signal() {
    case(|sb| {
        let c = running(sb);
        sb.exec_sh(&c.id, "kill -KILL $$").code_is(128 + 9);
        sb.exec_sh(&c.id, "kill -SEGV $$").code_is(128 + 11);
    });
}

#[test]
fn passes_standard_streams_through() {
    case(|sb| {
        let c = running(sb);
        let call = sb.exec_call(&c.id, &[], &["sh", "-c", "cat; echo err >&2"]);
        let out = call.stdin_bytes(b"some input").run();
        assert_eq!(out.ok(), "some input");
        assert_eq!(out.stderr, "err\n");
    });
}

#[test]
fn a_missing_program_is_255_and_named() {
    case(|sb| {
        let c = running(sb);
        let out = sb.exec(&c.id, &["/no/such/program"]);
        out.code_is(255).fails_saying("no such file or directory");
        let out = sb.exec(&c.id, &["nosuchprogram"]);
        out.code_is(255).fails_saying("executable file not found in $PATH");
        assert!(out.stderr.contains("nosuchprogram"), "{out:#?}");
    });
}

#[test]
fn a_program_without_permission_is_255_and_says_so() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().file("/bin/plain", "x", 0o644).sleeper());
        sb.exec(&c.id, &["/bin/plain"]).code_is(255).fails_saying("permission denied");
    });
}

#[test]
fn into_a_stopped_container_is_refused() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        let out = sb.exec(&b.id, &["true"]);
        out.code_is(255);
        assert!(out.stderr.contains("stopped") || out.stderr.contains("not running"), "{out:#?}");
    });
}

#[test]
fn into_a_created_container_works() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        assert_eq!(sb.exec(&b.id, &["hostname"]).ok(), "skep-test");
        assert_eq!(sb.status(&b.id), "created");
    });
}

#[test]
fn the_environment_is_that_of_the_config_plus_e() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().push("/process/env", json!("FROM=config")).sleeper());
        let text = sb.exec_with(&c.id, &["-e", "A=1", "-e", "B=two words", "-e", "FROM=flag"], &["env"]).ok();
        for line in ["A=1", "B=two words", "FROM=flag", "HOME=/root"] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
        assert!(!text.contains("FROM=config"), "{text}");
    });
}

#[test]
fn cwd_is_set() {
    case(|sb| {
        let c = running(sb);
        assert_eq!(sb.exec_with(&c.id, &["--cwd", "/usr"], &["pwd"]).ok(), "/usr");
        assert_eq!(sb.exec(&c.id, &["pwd"]).ok(), "/");
    });
}

#[test]
fn user_is_a_number_pair() {
    case(|sb| {
        let c = running(sb);
        let ids = |flags: &[&str]| sb.exec_with(&c.id, flags, &["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]).ok();
        assert_eq!(ids(&["-u", "1000:2000"]), "1000 2000 2000");
        assert_eq!(ids(&["--user", "1000"]), "1000 0 0");
        assert_eq!(ids(&["--user=0:0"]), "0 0 0");
    });
}

#[test]
fn additional_gids_are_added() {
    case(|sb| {
        let c = running(sb);
        let text = sb.exec_with(&c.id, &["-u", "1000:1000", "-g", "2000", "-g", "3000"], &["id", "-G"]).ok();
        assert_eq!(text, "1000 2000 3000");
    });
}

#[test]
fn cap_is_added() {
    case(|sb| {
        let c = running(sb);
        let script = "grep -E '^Cap(Prm|Eff|Bnd):' /proc/self/status";
        let before = sb.exec_sh(&c.id, script).ok();
        let after = sb.exec_with(&c.id, &["--cap", "CAP_NET_ADMIN"], &["sh", "-c", script]).ok();
        let bits = |text: &str| -> Vec<u64> {
            text.lines()
                .map(|l| u64::from_str_radix(l.split_whitespace().nth(1).expect("value"), 16).expect("hex"))
                .collect()
        };
        let (before, after) = (bits(&before), bits(&after));
        assert!(before.iter().all(|b| b & (1 << 12) == 0), "{before:x?}");
        let expected: Vec<u64> = before.iter().map(|b| b | 1 << 12).collect();
        assert_eq!(after, expected);
    });
}

#[test]
fn no_new_privs_is_set() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().set("/process/noNewPrivileges", json!(false)).sleeper());
        let read = |flags: &[&str]| sb.exec_with(&c.id, flags, &["grep", "NoNewPrivs", "/proc/self/status"]).ok();
        assert!(read(&[]).ends_with('0'));
        assert!(read(&["--no-new-privs"]).ends_with('1'));
    });
}

#[test]
fn no_new_privs_of_the_config_holds() {
    case(|sb| {
        let c = running(sb);
        assert!(sb.exec(&c.id, &["grep", "NoNewPrivs", "/proc/self/status"]).ok().ends_with('1'));
    });
}

#[test]
fn detach_writes_the_pid_file_and_returns() {
    case(|sb| {
        let c = running(sb);
        let file = sb.dir.join("exec.pid");
        let name = file.to_str().expect("UTF-8");
        sb.exec_with(&c.id, &["--detach", "--pid-file", name], &["sleep", "1000"]).ok();
        let pid = read_pid(&file);
        assert!(alive(pid));
        let inside = fs::read_link(format!("/proc/{pid}/ns/pid")).expect("readlink");
        assert_eq!(inside, fs::read_link(format!("/proc/{}/ns/pid", c.pid)).expect("readlink"));
    });
}

#[test]
fn detached_processes_die_with_the_container() {
    case(|sb| {
        let c = running(sb);
        let file = sb.dir.join("exec.pid");
        sb.exec_with(&c.id, &["-d", "--pid-file", file.to_str().expect("UTF-8")], &["sleep", "1000"]).ok();
        let pid = read_pid(&file);
        sb.kill(&c.id, "KILL").ok();
        assert!(wait_pid(pid, Duration::from_secs(10)));
    });
}

#[test]
fn a_process_file_says_it_all() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().folder("/work").sleeper());
        let script = "pwd; id -u; id -g; echo $VAR; umask; grep NoNewPrivs /proc/self/status; ulimit -n";
        let file = process_file(
            sb,
            &[
                ("/args", json!(["sh", "-c", script])),
                ("/cwd", json!("/work")),
                ("/user", json!({ "uid": 5, "gid": 6, "umask": 0o027 })),
                ("/env", json!(["PATH=/bin", "VAR=value"])),
                ("/noNewPrivileges", json!(true)),
                ("/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }])),
            ],
        );
        let text = sb.exec_with(&c.id, &["--process", &file], &[]).ok();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["/work", "5", "6", "value", "0027", "NoNewPrivs:\t1", "77"]);
    });
}

#[test]
fn a_process_file_sets_capabilities_exactly() {
    case(|sb| {
        let c = running(sb);
        let caps =
            json!({ "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
        let file =
            process_file(sb, &[("/capabilities", caps), ("/args", json!(["grep", "^Cap", "/proc/self/status"]))]);
        let text = sb.exec_with(&c.id, &["-p", &file], &[]).ok();
        let value = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).expect("a Cap line");
            u64::from_str_radix(line.split_whitespace().nth(1).expect("value"), 16).expect("hex")
        };
        assert_eq!(value("CapEff"), 1 << 5);
        assert_eq!(value("CapPrm"), 1 << 5);
        assert_eq!(value("CapBnd"), 1 << 5 | 1);
        assert_eq!(value("CapInh"), 0);
        assert_eq!(value("CapAmb"), 0);
    });
}

#[test]
fn a_process_file_sets_the_oom_score() {
    case(|sb| {
        let c = running(sb);
        let file =
            process_file(sb, &[("/oomScoreAdj", json!(321)), ("/args", json!(["cat", "/proc/self/oom_score_adj"]))]);
        assert_eq!(sb.exec_with(&c.id, &["-p", &file], &[]).ok(), "321");
    });
}

#[test]
fn a_bad_process_file_is_an_error() {
    case(|sb| {
        let c = running(sb);
        let path = sb.dir.join("bad.json");
        fs::write(&path, "{").expect("write");
        sb.exec_with(&c.id, &["-p", path.to_str().expect("UTF-8")], &[]).fails();
        sb.exec_with(&c.id, &["-p", "/no/such/file"], &[]).fails_saying("no such file or directory");
    });
}

#[test]
fn without_a_program_is_a_usage_error() {
    case(|sb| {
        let c = running(sb);
        sb.exec(&c.id, &[]).fails();
    });
}

#[test]
fn options_of_the_program_belong_to_the_program() {
    case(|sb| {
        let c = running(sb);
        assert_eq!(sb.exec(&c.id, &["echo", "-e", "--user", "-d", "x"]).ok(), "--user -d x");
        assert_eq!(sb.exec(&c.id, &["printf", "%s|", "--help", "-t"]).ok(), "--help|-t|");
    });
}

#[test]
fn many_at_once_all_work() {
    case(|sb| {
        let c = running(sb);
        let calls: Vec<_> =
            (0..12).map(|n| sb.exec_call(&c.id, &[], &["sh", "-c", &format!("echo {n}")]).spawn()).collect();
        for (n, running) in calls.into_iter().enumerate() {
            assert_eq!(running.wait(Duration::from_secs(40)).ok(), n.to_string());
        }
    });
}

#[test]
fn sub_cgroups_can_be_chosen() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().without_namespace("cgroup").sleeper());
        let sub = sb.cgroup("pids", &c.id).join("sub");
        fs::create_dir(&sub).expect("mkdir");
        let chosen = if v2_alone().is_some() { "sub" } else { "pids:sub" };
        let text = sb.exec_with(&c.id, &["--cgroup", chosen], &["cat", "/proc/self/cgroup"]).ok();
        let path = path_in(&text, "pids");
        assert!(path.ends_with("/sub"), "{path}");
    });
}

#[test]
fn ignore_paused_starts_when_resumed() {
    case(|sb| {
        let c = running(sb);
        sb.call(&["pause", &c.id]).run().ok();
        let running = sb.exec_call(&c.id, &["--ignore-paused"], &["echo", "late"]).spawn();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(running.stdout(), "");
        sb.call(&["resume", &c.id]).run().ok();
        assert_eq!(running.wait(Duration::from_secs(20)).ok(), "late");
    });
}

/// Lists the open descriptors of a shell script, without the one that lists them.
const LIST_FDS: &str = "for f in /proc/$$/fd/*; do n=${f##*/}; if [ -e $f ]; then echo $n; fi; done";

#[test]
fn no_descriptor_above_two_leaks_into_run() {
    case(|sb| {
        let b = sb.bundle().sh(LIST_FDS);
        let secret = sb.dir.join("secret");
        fs::write(&secret, "s").expect("write");
        let call = sb.verb("run", &b, &[]).fd(3, &secret).fd(7, &sb.dir).fd(9, &secret);
        assert_eq!(call.run().ok(), "0\n1\n2");
    });
}

#[test]
fn no_descriptor_above_two_leaks_into_exec() {
    case(|sb| {
        let c = running(sb);
        let secret = sb.dir.join("secret");
        fs::write(&secret, "s").expect("write");
        let call = sb.exec_call(&c.id, &[], &["sh", "-c", LIST_FDS]).fd(3, &secret).fd(8, &sb.dir);
        assert_eq!(call.run().ok(), "0\n1\n2");
    });
}

#[test]
fn preserved_descriptors_reach_the_container() {
    case(|sb| {
        let (one, two) = (sb.dir.join("one"), sb.dir.join("two"));
        fs::write(&one, "first").expect("write");
        fs::write(&two, "second").expect("write");
        let b = sb.bundle().sh(&format!("cat <&3; cat <&4; echo; {LIST_FDS}"));
        let call = sb.verb("run", &b, &["--preserve-fds", "2"]).fd(3, &one).fd(4, &two).fd(5, &one);
        assert_eq!(call.run().ok(), "firstsecond\n0\n1\n2\n3\n4");
    });
}

#[test]
fn preserved_descriptors_reach_exec() {
    case(|sb| {
        let c = running(sb);
        let one = sb.dir.join("one");
        fs::write(&one, "first").expect("write");
        let script = format!("cat <&3; echo; {LIST_FDS}");
        let call = sb.exec_call(&c.id, &["--preserve-fds=1"], &["sh", "-c", &script]).fd(3, &one).fd(4, &one);
        assert_eq!(call.run().ok(), "first\n0\n1\n2\n3");
    });
}

#[test]
fn preserving_a_closed_descriptor_is_an_error() {
    case(|sb| {
        sb.verb("run", &sb.bundle().args(&["true"]), &["--preserve-fds", "3"]).run().fails();
    });
}

/// A number that the caller promised and left free may by then be a descriptor of the runtime: the host's `/proc`.
#[test]
fn a_promised_descriptor_that_is_missing_is_not_one_of_the_runtimes() {
    case(|sb| {
        let c = running(sb);
        let b = sb.bundle().args(&["true"]);
        b.write();
        let dir = b.dir.to_str().expect("UTF-8");
        for args in [
            &["run", "--preserve-fds", "1", "--bundle", dir, &b.id][..],
            &["exec", "--preserve-fds", "1", &c.id, "true"],
        ] {
            let closed = "exec \"$@\" 3<&- 4<&- 5<&- 6<&-";
            let call = sb.program("/bin/sh").args(["-c", closed, "sh"]).arg(&sb.runtime.path);
            let out = call.arg("--root").arg(&sb.root).args(args).run();
            assert!(out.code != 0, "{args:?}: {out:#?}");
        }
    });
}

#[test]
fn listen_fds_are_passed_with_pid_one() {
    case(|sb| {
        let one = sb.dir.join("one");
        fs::write(&one, "first").expect("write");
        let b = sb.bundle().sh("echo $LISTEN_FDS $LISTEN_PID $$; cat <&3");
        let out = sb.verb("run", &b, &[]).fd(3, &one).listen_fds().run();
        assert_eq!(out.ok(), "1 1 1\nfirst");
    });
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!([])).args(&["cat", "/proc/keys"]);
        let text = sb.run(&b).ok();
        assert!(text.contains(&b.id), "{text}");
    });
}

#[test]
fn no_new_keyring_keeps_the_callers() {
    case(|sb| {
        let b = sb.bundle().set("/linux/maskedPaths", json!([])).sh("cat /proc/keys; true");
        let text = sb.verb("run", &b, &["--no-new-keyring"]).run().ok();
        assert!(!text.contains(&b.id), "{text}");
    });
}

#[test]
fn files_that_exec_makes_belong_to_the_mapped_user() {
    case(|sb| {
        let b = sb.bundle().user_namespace().writable().sleeper();
        let c = sb.detached(&b);
        sb.exec(&c.id, &["touch", "/tmp/made"]).ok();
        let meta = fs::metadata(b.rootfs().join("tmp/made")).expect("stat");
        assert_eq!((meta.uid(), meta.gid()), (100_000, 100_000));
    });
}

#[test]
fn seccomp_of_the_config_holds_in_exec() {
    case(|sb| {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
        });
        let c = sb.detached(&sb.bundle().writable().set("/linux/seccomp", profile).sleeper());
        let out = sb.exec(&c.id, &["mkdir", "/tmp/x"]);
        out.code_is(1);
        assert!(out.stderr.contains("Operation not permitted"), "{out:#?}");
    });
}

#[test]
fn the_process_ends_with_its_own_children_left_to_init() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sh("while :; do sleep 0.05; done"));
        sb.exec_sh(&c.id, "sleep 1000 >/dev/null 2>&1 &").ok();
        eventually("the orphan runs", || {
            let pids = sb.cgroup_read("pids", &c.id, "cgroup.procs");
            pids.lines()
                .any(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|t| t == "sleep\x001000\x00"))
        });
    });
}

#[test]
fn the_process_may_come_through_a_descriptor() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let file = sb.host_dir("process").join("process.json");
        std::fs::write(&file, json!({ "args": ["/bin/echo", "read"], "cwd": "/" }).to_string()).expect("write");
        let call = sb.call(&["exec", "--process", "/dev/fd/9", &c.id]).fd(9, &file);
        assert_eq!(call.run().ok(), "read");
    });
}

/// Without a mount namespace nothing but the root keeps a process inside.
#[test]
fn without_a_mount_namespace_the_root_is_the_containers() {
    case(|sb| {
        let b = sb.bundle().without_namespace("mount").set("/mounts", json!([])).file("/here", "inside\n", 0o644);
        let b = b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths").set("/root/readonly", json!(false));
        let c = sb.detached(&b.sleeper());
        assert_eq!(sb.exec(&c.id, &["cat", "/here"]).ok(), "inside");
        assert_eq!(sb.exec_sh(&c.id, "cd ..; cat here; ls /proc | wc -l").ok(), "inside\n0");
    });
}
