//! System call filters: actions, operators, several architectures, unknown calls, and the notify agent.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::console::{FdSocket, readable};
use integration::requires::PERL;
use integration::{Bundle, Value, case, case_with, json};
use rustix::process::{Pid, Signal, kill_process};

/// A profile that allows all but what `rules` say.
fn filter(b: Bundle, rules: Value) -> Bundle {
    b.writable().set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }))
}

/// All names under which a C library may make a folder.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn deny_mkdir(action: &str) -> Value {
    json!([{ "names": MKDIR, "action": action }])
}

#[test]
fn the_filter_is_loaded() {
    case(|sb| {
        let b = filter(sb.bundle(), json!([])).args(&["grep", "^Seccomp:", "/proc/self/status"]);
        let b = b.push("/linux/seccomp/syscalls", json!({ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }));
        assert_eq!(sb.run(&b).ok(), "Seccomp:\t2");
        assert_eq!(sb.run(&sb.bundle().args(&["grep", "^Seccomp:", "/proc/self/status"])).ok(), "Seccomp:\t0");
    });
}

#[test]
fn errno_is_eperm_unless_said() {
    case(|sb| {
        let out = sb.run(&filter(sb.bundle(), deny_mkdir("SCMP_ACT_ERRNO")).args(&["mkdir", "/tmp/x"]));
        out.code_is(1);
        assert!(out.stderr.contains("Operation not permitted"), "{out:#?}");
    });
}

#[test]
fn errno_is_what_was_said() {
    case(|sb| {
        for (errno, text) in
            [(28, "No space left on device"), (13, "Permission denied"), (38, "Function not implemented")]
        {
            let rules = json!([{ "names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]);
            let out = sb.run(&filter(sb.bundle(), rules).args(&["mkdir", "/tmp/x"]));
            out.code_is(1);
            assert!(out.stderr.contains(text), "{errno}: {out:#?}");
        }
    });
}

#[test]
fn the_default_errno_is_what_was_said() {
    case(|sb| {
        let allowed: Vec<String> = names().into_iter().filter(|n| !MKDIR.contains(&n.as_str())).collect();
        let b = sb.bundle().writable().set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28,
                "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }]
            }),
        );
        let out = sb.run(&b.args(&["mkdir", "/tmp/x"]));
        out.code_is(1);
        assert!(out.stderr.contains("No space left on device"), "{out:#?}");
    });
}

/// The calls that a static busybox and a runtime after loading the filter may need.
fn names() -> Vec<String> {
    let text = "access arch_prctl brk capget capset chdir chmod chown clock_gettime clone clone3 close close_range dup dup2 \
        dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve execveat exit exit_group faccessat faccessat2 fchdir fchmod \
        fchmodat fchown fchownat fcntl fdatasync flock fork fstat fstatfs fsync ftruncate futex getcwd getdents getdents64 \
        getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit \
        getsid getsockopt gettid gettimeofday getuid ioctl kill lseek lstat madvise membarrier mincore mmap mprotect mremap \
        munmap nanosleep newfstatat open openat openat2 pidfd_open pidfd_send_signal pipe pipe2 poll ppoll prctl pread64 prlimit64 pselect6 \
        pwrite64 read readlink readlinkat readv recvmsg restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend \
        sched_getaffinity sched_yield select sendmsg set_robust_list set_tid_address setgid setgroups sethostname setpgid \
        setresgid setresuid setrlimit setsid setuid sigaltstack socket socketpair stat statfs statx symlink sysinfo tgkill time \
        tkill umask uname unlink unlinkat utimensat vfork wait4 waitid write writev mkdir mkdirat seccomp connect sendto recvfrom";
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn kill_process_kills_with_sigsys() {
    case(|sb| {
        let b = filter(sb.bundle(), deny_mkdir("SCMP_ACT_KILL_PROCESS")).sh("mkdir /tmp/x; echo $?");
        assert_eq!(sb.run(&b).stdout, "159\n");
    });
}

#[test]
fn kill_thread_and_kill_kill() {
    case(|sb| {
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
            let b = filter(sb.bundle(), deny_mkdir(action)).sh("mkdir /tmp/x; echo $?");
            assert_eq!(sb.run(&b).stdout, "159\n", "{action}");
        }
    });
}

#[test]
fn trap_sends_sigsys() {
    case(|sb| {
        let b = filter(sb.bundle(), deny_mkdir("SCMP_ACT_TRAP")).sh("mkdir /tmp/x; echo $?");
        assert_eq!(sb.run(&b).stdout, "159\n");
    });
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    case(|sb| {
        let out = sb.run(&filter(sb.bundle(), deny_mkdir("SCMP_ACT_TRACE")).args(&["mkdir", "/tmp/x"]));
        out.code_is(1);
        assert!(out.stderr.contains("Function not implemented"), "{out:#?}");
    });
}

#[test]
fn log_lets_the_call_through() {
    case(|sb| {
        sb.run(&filter(sb.bundle(), deny_mkdir("SCMP_ACT_LOG")).sh("mkdir /tmp/x && [ -d /tmp/x ]")).ok();
    });
}

/// Denies `chmod` where its second argument (the mode) compares so, and says for each mode whether it was denied.
fn check_operator(args: Value, modes: &[(u32, bool)]) {
    case(|sb| {
        let rules = json!([
            { "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": shifted(&args, 1) },
            { "names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": shifted(&args, 2) }
        ]);
        let script =
            modes.iter().map(|(mode, _)| format!("chmod {mode:o} /tmp/x 2>/dev/null && echo fine || echo denied; "));
        let script: String = std::iter::once("touch /tmp/x; ".to_owned()).chain(script).collect();
        let expected: Vec<&str> = modes.iter().map(|(_, denied)| if *denied { "denied" } else { "fine" }).collect();
        let text = sb.run(&filter(sb.bundle(), rules).sh(&script)).ok();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    });
}

/// The same conditions for the argument with this index.
fn shifted(args: &Value, index: u32) -> Value {
    let mut args = args.clone();
    for arg in args.as_array_mut().expect("an array") {
        arg["index"] = json!(index);
    }
    args
}

#[test]
fn operator_eq() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_EQ" }]), &[(0o640, true), (0o641, false), (0o600, false)]);
}

#[test]
fn operator_ne() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_NE" }]), &[(0o640, false), (0o641, true), (0o600, true)]);
}

#[test]
fn operator_lt() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_LT" }]), &[(0o637, true), (0o640, false), (0o641, false)]);
}

#[test]
fn operator_le() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_LE" }]), &[(0o637, true), (0o640, true), (0o641, false)]);
}

#[test]
fn operator_ge() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_GE" }]), &[(0o637, false), (0o640, true), (0o641, true)]);
}

#[test]
fn operator_gt() {
    check_operator(json!([{ "value": 0o640, "op": "SCMP_CMP_GT" }]), &[(0o637, false), (0o640, false), (0o641, true)]);
}

#[test]
fn operator_masked_eq() {
    let args = json!([{ "value": 0o7000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ" }]);
    check_operator(args, &[(0o4755, true), (0o755, false), (0o6755, false), (0o2755, false)]);
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    case(|sb| {
        let rule = |name: &str, first: u32| {
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": [
                { "index": first, "value": 5, "op": "SCMP_CMP_EQ" },
                { "index": first + 1, "value": 6, "op": "SCMP_CMP_EQ" }
            ] })
        };
        let rules = json!([rule("chown", 1), rule("lchown", 1), rule("fchownat", 2)]);
        let script =
            "touch /tmp/x; for o in 5:6 5:7 6:6; do chown $o /tmp/x 2>/dev/null && echo fine || echo denied; done";
        let b = filter(sb.bundle(), rules).capabilities(&["CAP_CHOWN"]);
        assert_eq!(sb.run(&b.sh(script)).ok(), "denied\nfine\nfine");
    });
}

#[test]
fn two_rules_for_one_call_are_alternatives() {
    case(|sb| {
        let rule = |index: u32, name: &str, mode: u32| json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "args": [{ "index": index, "value": mode, "op": "SCMP_CMP_EQ" }] });
        let rules = json!([
            rule(1, "chmod", 0o600),
            rule(1, "chmod", 0o644),
            rule(2, "fchmodat", 0o600),
            rule(2, "fchmodat", 0o644)
        ]);
        let script =
            "touch /tmp/x; for m in 600 644 640; do chmod $m /tmp/x 2>/dev/null && echo fine || echo denied; done";
        assert_eq!(sb.run(&filter(sb.bundle(), rules).sh(script)).ok(), "denied\ndenied\nfine");
    });
}

#[test]
fn several_architectures_are_one_filter() {
    case(|sb| {
        let b = filter(sb.bundle(), deny_mkdir("SCMP_ACT_ERRNO"));
        let b = b.set("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
        let out = sb.run(&b.sh("echo fine; mkdir /tmp/x"));
        assert!(out.stdout == "fine\n" && out.stderr.contains("not permitted"), "{out:#?}");
    });
}

#[test]
fn flags_are_accepted() {
    case(|sb| {
        for flags in [
            json!(["SECCOMP_FILTER_FLAG_LOG"]),
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
            json!([]),
        ] {
            let b = filter(sb.bundle(), deny_mkdir("SCMP_ACT_ERRNO")).set("/linux/seccomp/flags", flags.clone());
            let out = sb.run(&b.sh("echo fine; mkdir /tmp/x 2>/dev/null || echo denied"));
            assert_eq!(out.ok(), "fine\ndenied", "{flags}");
        }
    });
}

#[test]
fn unknown_names_are_ignored() {
    case(|sb| {
        let rules =
            json!([{ "names": ["nosuchcall", "mkdir", "mkdirat", "call_of_2031"], "action": "SCMP_ACT_ERRNO" }]);
        let out = sb.run(&filter(sb.bundle(), rules).args(&["mkdir", "/tmp/x"]));
        assert!(out.stderr.contains("Operation not permitted"), "{out:#?}");
    });
}

#[test]
fn an_unknown_action_is_an_error() {
    case(|sb| {
        sb.create(&filter(sb.bundle(), deny_mkdir("SCMP_ACT_NOSUCH"))).code_is(1).fails_saying("SCMP_ACT_NOSUCH");
        let b = sb.bundle().set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOSUCH" }));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn an_unknown_operator_or_architecture_is_an_error() {
    case(|sb| {
        let rules = json!([{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 1, "op": "SCMP_CMP_NOSUCH" }] }]);
        sb.create(&filter(sb.bundle(), rules)).code_is(1).fails();
        let b = filter(sb.bundle(), json!([])).set("/linux/seccomp/architectures", json!(["SCMP_ARCH_NOSUCH"]));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn the_filter_holds_for_a_plain_user_without_no_new_privileges() {
    case(|sb| {
        let b = filter(sb.bundle(), deny_mkdir("SCMP_ACT_ERRNO")).set("/process/noNewPrivileges", json!(false));
        let b = b.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).capabilities(&[]);
        let out = sb.run(&b.sh("grep ^Seccomp: /proc/self/status; mkdir /tmp/x 2>&1"));
        assert!(out.stdout.starts_with("Seccomp:\t2") && out.stdout.contains("not permitted"), "{out:#?}");
    });
}

#[test]
fn calls_that_the_runtime_itself_needs_may_be_denied() {
    case(|sb| {
        // Each of these is made by a runtime on its way to the program, before the filter if it is careful.
        for name in [
            "capset",
            "setresuid",
            "setgroups",
            "prctl",
            "chdir",
            "openat2",
            "close_range",
            "fstatfs",
            "sendmsg",
            "mount",
            "umask",
            "setns",
        ] {
            let b = filter(sb.bundle(), json!([{ "names": [name], "action": "SCMP_ACT_ERRNO" }])).args(&["true"]);
            let out = sb.run(&b);
            assert_eq!(out.code, 0, "{name}: {out:#?}");
        }
    });
}

/// Calls a system call by its number, with perl, and prints its errno.
fn errno_of(b: Bundle, number: u32) -> Bundle {
    b.with_perl().args(&[
        "/usr/bin/perl",
        "-e",
        &format!("$r = syscall({number}, 0, 0, 0, 0); print $r < 0 ? $! + 0 : 0"),
    ])
}

#[test]
fn calls_newer_than_the_profile_are_enosys() {
    case_with(&[PERL], |sb| {
        let list = [names(), PERL_CALLS.iter().map(|&s| s.to_owned()).collect()].concat();
        let b = sb.bundle().set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{ "names": list, "action": "SCMP_ACT_ALLOW" }]
            }),
        );
        // 1000 is a number that no kernel has yet; 169 is reboot, older than any profile.
        assert_eq!(sb.run(&errno_of(b.clone(), 1000)).ok(), "38");
        assert_eq!(sb.run(&errno_of(b, 169)).ok(), "1");
    });
}

/// What perl needs beyond [`names`].
const PERL_CALLS: &[&str] =
    &["getrandom", "pread64", "mmap", "uname", "geteuid", "getegid", "times", "gettimeofday", "readlink"];

/// A notify rule for mkdir with an agent at `socket`.
fn notifying(b: Bundle, socket: &FdSocket) -> Bundle {
    let b = filter(b, json!([{ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" }]));
    b.set("/linux/seccomp/listenerPath", json!(socket.path))
        .set("/linux/seccomp/listenerMetadata", json!("some metadata"))
}

#[test]
fn notify_sends_the_state_of_the_process_and_a_descriptor() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = notifying(sb.bundle(), &socket).sh("sleep 1000");
        sb.create(&b).ok();
        let message = socket.receive();
        let state: Value = parsed(&message.bytes);
        assert_eq!(message.fds.len(), 1);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], json!("some metadata"));
        assert!(state["ociVersion"].is_string(), "{state}");
        assert_eq!(state["state"]["id"], json!(b.id));
        assert_eq!(state["state"]["status"], json!("creating"));
        assert_eq!(state["state"]["bundle"], json!(b.dir));
        assert_eq!(state["pid"], sb.state(&b.id)["pid"]);
    });
}

fn parsed(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    text.parse().unwrap_or_else(|e| panic!("not JSON: {e}: {text}"))
}

/// An agent in perl: answers each notification with EXDEV (18) until the descriptor ends. It gets it as stdin.
/// struct seccomp_notif is 80 bytes (id first), struct seccomp_notif_resp 24: id, val, error, flags.
const AGENT: &str = r#"
    while (1) {
        my $req = "\0" x 80;
        ioctl(STDIN, 0xc0502100, $req) or last;
        my $resp = substr($req, 0, 8) . pack("q l L", 0, -18, 0);
        ioctl(STDIN, 0xc0182101, $resp) or last;
        print "answered\n";
    }
"#;

#[test]
fn notify_agent_answers_the_call() {
    case_with(&[PERL], |sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = notifying(sb.bundle(), &socket).sh("mkdir /tmp/x; echo $?");
        let made = sb.create(&b);
        made.ok();
        let fd = socket.receive().fds.remove(0);
        let mut agent = Command::new("/usr/bin/perl");
        let mut agent = agent.args(["-e", AGENT]).stdin(fd).stdout(Stdio::piped()).spawn().expect("start perl");
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        let pid = Pid::from_raw(i32::try_from(agent.id()).expect("pid")).expect("pid");
        kill_process(pid, Signal::KILL).expect("kill the agent");
        agent.wait().expect("reap the agent");
        assert_eq!(made.stdout_now(), "1\n");
        assert!(made.stderr_now().contains("Invalid cross-device link"), "{}", made.stderr_now());
    });
}

#[test]
fn notify_without_an_agent_any_more_is_enosys() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = notifying(sb.bundle(), &socket).sh("mkdir /tmp/x; echo $?");
        let made = sb.create(&b);
        made.ok();
        let mut message = socket.receive();
        let fd = message.fds.remove(0);
        sb.start(&b.id).ok();
        assert!(readable(fd.as_fd(), Duration::from_secs(10)), "no notification comes");
        drop(fd);
        sb.wait_status(&b.id, "stopped");
        assert!(made.stderr_now().contains("Function not implemented"), "{}", made.stderr_now());
    });
}

#[test]
fn notify_reaches_the_agent_from_exec_too() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = notifying(sb.bundle(), &socket).sleeper();
        sb.create(&b).ok();
        let _first = socket.receive();
        sb.start(&b.id).ok();
        let running = sb.exec_call(&b.id, &[], &["mkdir", "/tmp/x"]).spawn();
        let mut message = socket.receive();
        let state = parsed(&message.bytes);
        assert_eq!(state["state"]["status"], json!("running"));
        let fd = message.fds.remove(0);
        assert!(readable(fd.as_fd(), Duration::from_secs(10)), "no notification comes");
        drop(fd);
        running.wait(Duration::from_secs(20)).code_is(1);
    });
}

#[test]
fn a_missing_agent_fails_the_create() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = notifying(sb.bundle(), &socket).set("/linux/seccomp/listenerPath", json!(sb.dir.join("nobody")));
        sb.create(&b).code_is(1).fails();
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn notify_without_a_listener_path_is_an_error() {
    case(|sb| {
        let b = filter(sb.bundle(), json!([{ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" }]));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn notify_as_the_default_action_is_an_error() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = sb
            .bundle()
            .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": socket.path }));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn a_write_call_cannot_be_notified() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = filter(sb.bundle(), json!([{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }]));
        sb.create(&b.set("/linux/seccomp/listenerPath", json!(socket.path))).code_is(1).fails();
    });
}

#[test]
fn docker_like_profiles_work() {
    case(|sb| {
        let b = sb.bundle().writable().set("/linux/seccomp", json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                { "names": names(), "action": "SCMP_ACT_ALLOW" },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }
            ]
        }));
        let script = "mkdir /tmp/x && linux32 uname -m; mount -t tmpfs x /tmp/x 2>&1 | grep -o 'permi.*'";
        let text = sb.run(&b.sh(script)).ok();
        assert!(text.starts_with("i686"), "{text}");
    });
}
