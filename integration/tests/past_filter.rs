//! What the runtime calls between loading the seccomp filter and the program's first instruction: nothing but a
//! documented handful, so that a profile may forbid everything else.
//!
//! The program is made here, byte by byte: it writes one line and ends, so that its own needs do not blur the picture.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use integration::console::{FdSocket, readable};
use integration::requires::Need;
use integration::runtime::Kind;
use integration::{Bundle, Sandbox, case, case_with, json};

/// What the program says.
const WORDS: &str = "past the filter\n";

/// An ELF file of one segment whose code is `write(1, WORDS, ..); exit_group(0)`.
fn program() -> Vec<u8> {
    const BASE: u32 = 0x40_0000;
    const HEADERS: u32 = 64 + 56;
    const CODE: u32 = 31;
    let mut code: Vec<u8> = Vec::new();
    code.extend([0xb8, 1, 0, 0, 0]); // mov eax, 1 (write)
    code.extend([0xbf, 1, 0, 0, 0]); // mov edi, 1
    code.push(0xbe); // mov esi, WORDS
    code.extend((BASE + HEADERS + CODE).to_le_bytes());
    code.push(0xba); // mov edx, length
    code.extend(u32::try_from(WORDS.len()).expect("short").to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 231, 0, 0, 0]); // mov eax, 231 (exit_group)
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend([0x0f, 0x05]); // syscall
    assert_eq!(code.len(), CODE as usize);
    let size = u64::from(HEADERS + CODE) + WORDS.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64
    file.extend(u64::from(BASE + HEADERS).to_le_bytes()); // entry
    file.extend(64_u64.to_le_bytes()); // program headers
    file.extend([0; 12]); // no sections, no flags
    file.extend([64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // one program header
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // load, read and execute
    for field in [0, u64::from(BASE), u64::from(BASE), size, size, 0x1000] {
        file.extend(field.to_le_bytes());
    }
    file.extend(code);
    file.extend(WORDS.as_bytes());
    file
}

fn with_program(b: Bundle) -> Bundle {
    let file = b.rootfs().join("bin/words");
    fs::write(&file, program()).expect("write the program");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod the program");
    b.args(&["/bin/words"])
}

/// The two modes in which a filter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `noNewPrivileges`: the filter is the last thing before the gate.
    NoNewPrivileges,
    /// Without: the last `capset` follows the filter, and the ambient set is written.
    Privileged,
}

const MODES: [Mode; 2] = [Mode::NoNewPrivileges, Mode::Privileged];

/// Every call that the runtime makes under the filter. `write` at the gate, `read` of the start, and the exec; what the
/// program needs itself is `write` and `exit_group`.
fn documented(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::NoNewPrivileges => &["write", "read", "execve", "exit_group"],
        Mode::Privileged => &["write", "read", "execve", "exit_group", "capset", "prctl"],
    }
}

/// A bundle whose profile kills the process at any call that is not among these.
///
/// A profile has ENOSYS for calls that are newer than all that it names; `fchmodat2` is there so that this starts late.
fn allowing(b: Bundle, mode: Mode, names: &[&str]) -> Bundle {
    let names: Vec<&str> = names.iter().copied().chain(["fchmodat2"]).collect();
    let b = b.set("/process/noNewPrivileges", json!(mode == Mode::NoNewPrivileges)).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }]
        }),
    );
    with_program(b)
}

fn is_skep(sb: &Sandbox) -> bool {
    sb.runtime.kind == Kind::Skep
}

#[test]
fn run_needs_the_documented_calls_alone() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            let out = sb.run(&allowing(sb.bundle(), mode, documented(mode)));
            assert_eq!((out.code, out.stdout.as_str()), (0, WORDS), "{mode:?}: {out:#?}");
        }
    });
}

#[test]
fn a_plain_users_run_needs_the_documented_calls_alone() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            let b = allowing(sb.bundle(), mode, documented(mode));
            let b = b.set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000] }));
            let out = sb.run(&b.capabilities(&["CAP_KILL"]));
            assert_eq!((out.code, out.stdout.as_str()), (0, WORDS), "{mode:?}: {out:#?}");
        }
    });
}

#[test]
fn create_and_start_need_the_documented_calls_alone() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            let b = allowing(sb.bundle(), mode, documented(mode));
            let made = sb.create(&b);
            made.ok();
            sb.start(&b.id).ok();
            integration::host::eventually("it speaks", || made.stdout_now() == WORDS);
            sb.wait_status(&b.id, "stopped");
        }
    });
}

#[test]
fn exec_needs_the_documented_calls_alone() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            // Its own process waits for a start that never comes, so it needs nothing.
            let b = allowing(sb.bundle(), mode, documented(mode));
            sb.create(&b).ok();
            let out = sb.exec(&b.id, &["/bin/words"]);
            assert_eq!((out.code, out.stdout.as_str()), (0, WORDS), "{mode:?}: {out:#?}");
        }
    });
}

/// The list is not longer than it has to be: without any one of these, the container does not come to its end.
#[test]
fn each_documented_call_is_made() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            for missing in documented(mode) {
                let rest: Vec<&str> = documented(mode).iter().copied().filter(|name| name != missing).collect();
                let out = sb.run(&allowing(sb.bundle(), mode, &rest));
                assert_ne!(out.code, 0, "{mode:?} without {missing}: {out:#?}");
            }
        }
    });
}

/// Before the filter is loaded, profiles do not bind: each call that prepares a container may be denied alone.
#[test]
fn any_other_call_may_be_denied_alone() {
    const MADE_BEFORE: [&str; 24] = [
        "sendmsg",
        "recvmsg",
        "capget",
        "setresuid",
        "setresgid",
        "setgroups",
        "chdir",
        "fchdir",
        "getcwd",
        "openat",
        "openat2",
        "close",
        "close_range",
        "fstat",
        "mmap",
        "munmap",
        "brk",
        "mount_setattr",
        "move_mount",
        "pivot_root",
        "umask",
        "keyctl",
        "setsid",
        "seccomp",
    ];
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            for name in MADE_BEFORE {
                let b = with_program(sb.bundle()).set("/process/noNewPrivileges", json!(mode == Mode::NoNewPrivileges));
                let rule = json!({ "names": [name], "action": "SCMP_ACT_KILL_PROCESS" });
                let b = b.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
                let out = sb.run(&b);
                assert_eq!((out.code, out.stdout.as_str()), (0, WORDS), "{mode:?} without {name}: {out:#?}");
            }
        }
    });
}

/// An error of the exec itself still reaches the caller of start, with `write` and `exit_group` alone.
#[test]
fn a_failed_exec_is_told_under_the_strictest_filter() {
    case(|sb| {
        for mode in MODES.into_iter().filter(|_| is_skep(sb)) {
            let b = allowing(sb.bundle(), mode, documented(mode));
            sb.create(&b).ok();
            fs::remove_file(b.rootfs().join("bin/words")).expect("remove the program");
            sb.start(&b.id).fails_saying("/bin/words");
        }
    });
}

/// With a notify rule the descriptor rides along with the gate, which makes it `sendmsg`.
#[test]
fn a_notify_rule_adds_sendmsg_alone() {
    case(|sb| {
        for (n, mode) in MODES.into_iter().enumerate().filter(|_| is_skep(sb)) {
            let socket = FdSocket::bind(&sb.dir, &format!("agent{n}"));
            let names: Vec<&str> = documented(mode).iter().copied().chain(["sendmsg"]).collect();
            let b = allowing(sb.bundle(), mode, &names).set("/linux/seccomp/listenerPath", json!(socket.path));
            let b = b.push("/linux/seccomp/syscalls", json!({ "names": ["getpid"], "action": "SCMP_ACT_NOTIFY" }));
            let made = sb.create(&b);
            made.ok();
            assert_eq!(socket.receive().fds.len(), 1, "{mode:?}");
            sb.start(&b.id).ok();
            integration::host::eventually("it speaks", || made.stdout_now() == WORDS);
        }
    });
}

/// Nobody could answer for a call that the process makes before the agent has the descriptor: refused, not hung.
#[test]
fn notify_of_a_call_on_the_way_to_the_agent_is_refused() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        for name in ["sendmsg", "capset", "prctl"].into_iter().filter(|_| is_skep(sb)) {
            let b = with_program(sb.bundle()).set("/process/noNewPrivileges", json!(false)).set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "listenerPath": socket.path,
                    "syscalls": [{ "names": [name], "action": "SCMP_ACT_NOTIFY" }]
                }),
            );
            sb.create(&b).code_is(1).fails_saying(name);
        }
        assert!(!readable(socket.listener(), Duration::ZERO), "nobody connects");
    });
}

/// The same, seen by strace: names of all calls between the filter and the exec.
#[test]
fn strace_sees_the_documented_calls_alone() {
    case_with(&[Need::Program("/usr/bin/strace")], |sb| {
        if !is_skep(sb) {
            return;
        }
        for mode in MODES {
            let b = allowing(sb.bundle(), mode, documented(mode));
            b.write();
            let file = sb.dir.join(format!("trace-{mode:?}"));
            let call = sb.program("/usr/bin/strace").args(["-f", "-o"]).arg(&file).arg(&sb.runtime.path);
            let call = call.arg("--root").arg(&sb.root).args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
            assert_eq!(call.run().stdout, WORDS, "{mode:?}");
            let text = fs::read_to_string(&file).expect("read the trace");
            let loaded = text.lines().position(|l| l.contains("seccomp(SECCOMP_SET_MODE_FILTER")).expect("a filter");
            let pid = text.lines().nth(loaded).and_then(|l| l.split(' ').next()).expect("a pid");
            let own = text.lines().skip(loaded + 1).filter(|line| line.split(' ').next() == Some(pid));
            let calls =
                own.filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(').map(|(name, _)| name));
            let calls: Vec<&str> =
                calls.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).collect();
            let made: BTreeSet<&str> = calls.iter().copied().collect();
            let listed: BTreeSet<&str> = documented(mode).iter().copied().collect();
            assert_eq!(made, listed, "{mode:?}: {calls:?}");
        }
    });
}
