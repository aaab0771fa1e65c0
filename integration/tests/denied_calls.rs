//! An old kernel, or an old engine around the runtime: each young system call is denied, as ENOSYS and as EPERM, by a
//! filter on the runtime and all that it starts. It works another way, or refuses with the name of the call and of the
//! kernel that has it; a half-made container there is never.
#![cfg(target_arch = "x86_64")]

use std::fs;

use integration::requires::PERL;
use integration::{Bundle, Call, Output, Sandbox, case_with};

/// Perl: loads a filter that answers an errno to these calls, then executes the rest of its arguments.
/// Arguments: the errno, the numbers of the calls separated by commas, the program.
const DENY: &str = r#"
    my ($errno, $calls, @program) = @ARGV;
    # Loads the number; each comparison leads to the last instruction; else allowed.
    my @numbers = split /,/, $calls;
    my $code = pack "SCCL", 0x20, 0, 0, 0;
    my $left = @numbers;
    $code .= pack "SCCL", 0x15, $left--, 0, $_ for @numbers;
    $code .= pack "SCCL", 0x06, 0, 0, 0x7fff0000;
    $code .= pack "SCCL", 0x06, 0, 0, 0x00050000 | $errno;
    my $filter = pack "Sx6P", length($code) / 8, $code;
    syscall(317, 1, 0, $filter) == 0 or die "seccomp: $!";
    exec @program or die "exec: $!";
"#;

const ENOSYS: i32 = 38;
const EPERM: i32 = 1;

/// A call of the runtime that a filter is around.
fn denied(sb: &Sandbox, errno: i32, numbers: &str, args: &[&str]) -> Call {
    let call = sb.program("/usr/bin/perl").args(["-e", DENY]).arg(errno.to_string()).arg(numbers);
    call.arg(&sb.runtime.path).arg("--root").arg(&sb.root).args(args)
}

fn run(sb: &Sandbox, errno: i32, numbers: &str, b: &Bundle) -> Output {
    b.write();
    denied(sb, errno, numbers, &["run", "--bundle"]).arg(&b.dir).arg(&b.id).run()
}

/// Without the call a container is refused, says why, and leaves neither state nor group nor process.
#[track_caller]
fn refused(call: &str, since: &str, numbers: &str) {
    case_with(&[PERL], |sb| {
        for (errno, name) in [(ENOSYS, "ENOSYS"), (EPERM, "EPERM")] {
            let b = sb.bundle().sh("echo started");
            let out = run(sb, errno, numbers, &b);
            let said = out.fails();
            assert_eq!(out.stdout, "", "{call} {name}: the program ran");
            assert!(said.contains(call) && said.contains(&format!("Linux {since}: ")), "{call} {name}: {said}");
            assert!(said.contains(name), "{call} {name}: {said}");
            let left = fs::read_dir(&sb.root).map(|entries| entries.flatten().count()).unwrap_or(0);
            assert_eq!(left, 0, "{call} {name}: state was left");
            sb.run(&b).ok();
        }
    });
}

#[test]
fn clone3() {
    refused("clone3", "5.3", "435");
}

#[test]
fn openat2() {
    refused("openat2", "5.6", "437");
}

#[test]
fn open_tree() {
    refused("open_tree", "5.2", "428");
}

#[test]
fn fsopen() {
    refused("fsopen", "5.2", "430");
}

#[test]
fn fsconfig() {
    refused("fsconfig", "5.2", "431");
}

#[test]
fn fsmount() {
    refused("fsmount", "5.2", "432");
}

#[test]
fn move_mount() {
    refused("move_mount", "5.2", "429");
}

#[test]
fn mount_setattr() {
    refused("mount_setattr", "5.12", "442");
}

#[test]
fn close_range() {
    refused("close_range", "5.9", "436");
}

/// Whether the program may be executed can be asked in an older way, where the ids that count are the process' only ones.
#[test]
fn faccessat2() {
    case_with(&[PERL], |sb| {
        assert_eq!(run(sb, ENOSYS, "439", &sb.bundle().sh("echo started")).ok(), "started");
        let b = sb.bundle().file("/tmp/plain", "#!/bin/sh\n", 0o644).args(&["/tmp/plain"]);
        run(sb, ENOSYS, "439", &b).fails_saying("permission denied");
        let said = run(sb, EPERM, "439", &sb.bundle().sh("echo started"));
        assert!(said.code == 0 || said.stderr.contains("faccessat2 (Linux 5.8: "), "{said:#?}");
    });
}

/// All at once, as on Linux 5.0.
#[test]
fn a_kernel_without_any_of_them() {
    refused("openat2", "5.6", "424,428,429,430,431,432,433,434,435,436,437,438,439,442");
}

/// A container that runs can be looked at; what would need the call is refused and changes nothing.
#[test]
fn pidfd_open() {
    case_with(&[PERL], |sb| {
        for errno in [ENOSYS, EPERM] {
            let c = sb.detached(&sb.bundle().sleeper());
            assert_eq!(denied(sb, errno, "434", &["state", &c.id]).run().json()["status"], "running");
            for args in [&["exec", &c.id, "true"][..], &["kill", &c.id, "KILL"], &["delete", "--force", &c.id]] {
                let said = denied(sb, errno, "434", args).run().fails();
                assert!(said.contains("pidfd_open") && said.contains("Linux 5.3"), "{args:?}: {said}");
            }
            assert_eq!(sb.status(&c.id), "running");
            sb.delete_force(&c.id).ok();
        }
    });
}

/// The process that a failed creation has begun ends without a signal, too: it sees the end of its gate.
#[test]
fn pidfd_send_signal() {
    case_with(&[PERL], |sb| {
        for errno in [ENOSYS, EPERM] {
            let c = sb.detached(&sb.bundle().sleeper());
            let said = denied(sb, errno, "424", &["kill", &c.id, "KILL"]).run().fails();
            assert!(said.contains("pidfd_send_signal") && said.contains("Linux 5.1"), "{said}");
            assert_eq!(sb.status(&c.id), "running");
            sb.delete_force(&c.id).ok();
            let b = sb.bundle().args(&["/not/there"]);
            run(sb, errno, "424", &b).fails();
            // What the failed creation could not take back, if anything, can be taken back now.
            sb.delete_force(&b.id).ok();
        }
    });
}

/// Self-protection has two ways: without the mount calls a sealed copy in memory.
#[test]
fn the_own_file_is_protected_without_mount_calls() {
    case_with(&[PERL], |sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for errno in [ENOSYS, EPERM] {
            let out = denied(sb, errno, "428,442", &["exec", &c.id, "echo", "inside"]).run();
            assert_eq!(out.ok(), "inside");
        }
    });
}
