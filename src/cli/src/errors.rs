//! How a failure is told, and with which exit code: the one place for both.
//!
//! A person at a terminal sees the chain of causes and a hint. Everybody else gets one line, the causes joined by
//! colons: the last record of level `error` is what containerd, docker, podman and CRI-O show and search.

use crate::args::command::Level;
use crate::args::{Command, Program, Usage, UsageError, verbs};
use crate::caller;
use crate::log::Log;
use sys::error::Reason;
use sys::process::CAP_SYS_ADMIN;

/// Exit code of a command that did its work.
pub const SUCCESS: u8 = 0;

/// Exit code of a command that failed.
pub const FAILURE: u8 = 1;

/// Exit code for a command that does not exist, as in runc.
pub const UNKNOWN_COMMAND: u8 = 3;

/// Exit code of an `exec` that could not run its process: an ordinary process rarely uses it.
pub const EXEC_FAILURE: u8 = 255;

/// The exit code for a failure of this command.
#[must_use]
pub fn failure_code(command: &Command) -> u8 {
    match command {
        Command::Exec(_) => EXEC_FAILURE,
        _ => FAILURE,
    }
}

/// The exit code for a command line that cannot be understood. An `exec` that does not say what to run or where has
/// failed as an `exec`, as in runc.
#[must_use]
pub fn usage_code(usage: &Usage) -> u8 {
    let is_exec = usage.verb.is_some_and(|verb| verb.name == verbs::EXEC.name);
    match usage.error {
        UsageError::UnknownCommand { .. } => UNKNOWN_COMMAND,
        UsageError::NoCommand | UsageError::EmptyId if is_exec => EXEC_FAILURE,
        _ => FAILURE,
    }
}

/// Tells about a failure.
pub fn report(log: &Log, error: &anyhow::Error) {
    let line = render_line(error);
    let missing = missing_calls(&line);
    if log.is_human() {
        log.say(&render_for_people(error));
        if let Some(missing) = &missing {
            log.say(&format!("hint: {missing}\n"));
        }
    }
    log.write(Level::Error, &missing.map_or_else(|| line.clone(), |missing| format!("{line}: {missing}")));
}

/// Which calls of the kernel are not there, where a failure looks like that.
fn missing_calls(line: &str) -> Option<String> {
    if !line.contains("(ENOSYS)") && !line.contains("(EPERM)") {
        return None;
    }
    let admin = sys::process::capget().is_ok_and(|masks| masks.has(CAP_SYS_ADMIN));
    let missing = sys::probe::missing_calls(admin && caller::has_every_id().unwrap_or(false));
    let list = missing.iter().map(|m| format!("{} (Linux {}: {})", m.name, m.since, Reason(m.errno)));
    let list = list.collect::<Vec<_>>().join(", ");
    (!missing.is_empty())
        .then(|| format!("this kernel does not have, or a seccomp filter around the runtime denies, {list}"))
}

/// Renders the causes as one line, the outermost first.
#[must_use]
pub fn render_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

/// Renders one cause a line, and a hint where there is one.
#[must_use]
pub fn render_for_people(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        text += if depth == 0 { "error: " } else { "  caused by: " };
        text += &format!("{cause}\n");
    }
    if let Some(hint) = hint(&render_line(error)) {
        text += &format!("hint: {hint}\n");
    }
    text
}

/// Renders what is wrong with a command line, and where help is.
#[must_use]
pub fn render_usage_for_people(program: Program, usage: &Usage) -> String {
    let verb = usage.verb.map(|verb| format!("{} ", verb.name)).unwrap_or_default();
    format!("error: {}\nhint: `{} {verb}--help` tells more\n", usage.error, program.name())
}

/// The kernel's rule against uncovering what is hidden ("Mount too revealing"), in force inside most containers.
const COVERED: &str = "a new user namespace may mount proc and sysfs only when the runtime's own are not partly covered or \
                       read-only (in docker: --security-opt systempaths=unconfined)";

/// Whose namespaces can be joined.
const FOREIGN_NAMESPACE: &str = "a namespace can be joined with rights in the user namespace that owns it: for an ordinary \
                                 user those of its own containers";

/// Whose parameters can be set.
const FOREIGN_PARAMETER: &str = "inside a user namespace only parameters of its own namespaces can be set: net.* with a new \
                                 network namespace, some of kernel.* and fs.mqueue.* with a new ipc namespace";

/// What to do about a failure, by the words of which its message has all.
static HINTS: &[(&[&str], &str)] = &[
    (&["fsopen(\"proc\")", "EPERM"], COVERED),
    (&["fsmount(proc)", "EPERM"], COVERED),
    (&["fsmount(sysfs)", "EPERM"], COVERED),
    (
        &["fsopen(\"sysfs\")", "EPERM"],
        "a new user namespace may mount sysfs only together with a new network namespace",
    ),
    (&["specification file", "not found"], "`skep spec` writes one to start from; --bundle names its folder"),
    (
        &["criu is not installed"],
        "install the package criu (CRIU 3.0 or later); `criu check` says whether it works on this kernel",
    ),
    (
        &["Can't lookup mount=", "criu"],
        "a file of the host is open in the container, maybe as a standard stream: pipes can be saved, files outside cannot",
    ),
    (&["container does not exist"], "`skep list` shows the containers below --root"),
    (&["container with given ID already exists"], "choose another id, or remove the old one with `skep delete`"),
    (&["that is not stopped"], "`skep delete --force` kills the container first"),
    (&["cannot exec in a paused container"], "`skep resume` lets it run again"),
    (
        &["executable file not found"],
        "the command is searched in the PATH of process.env, inside the container's root file system",
    ),
    (&["cgroup", "EACCES"], "an unprivileged user needs a cgroup of its own, or --cgroup-manager=disabled"),
    (
        &["cgroup", "EROFS"],
        "the cgroup file systems are mounted read-only here, as inside most containers: remount them writable, or give up \
         limits with --cgroup-manager=disabled",
    ),
    (
        &["SIOCSIFFLAGS", "EPERM"],
        "to bring up the loopback device of a new network namespace needs CAP_NET_ADMIN, or a new user namespace",
    ),
    (
        &["exec: \"", "no such file or directory (ENOENT)"],
        "the program is there, but not the interpreter of its first line or its dynamic loader",
    ),
    (
        &["org.freedesktop.systemd1.UnitExists"],
        "another container or service has a unit of this name: linux.cgroupsPath (slice:prefix:name) can name another",
    ),
    (
        &["cannot reach systemd", "/bus"],
        "a user needs a session of its own for its service manager: log in, or `loginctl enable-linger`, and keep \
         XDG_RUNTIME_DIR",
    ),
    (&["systemd does not run this host"], "without --systemd-cgroup the runtime makes cgroups itself"),
    (&["clone3", "ENOSPC"], "/proc/sys/user/max_*_namespaces limits how many namespaces there may be"),
    (
        &["rootless container requires user namespaces"],
        "`skep spec --rootless` writes a definition with a user namespace; root needs none",
    ),
    (
        &["is not in PATH: it is needed to map"],
        "the package uidmap (Debian) or shadow-utils (Fedora) has newuidmap and newgidmap",
    ),
    (
        &["did not map the ids", "not allowed"],
        "root gives a user a range of ids by `usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER`",
    ),
    (
        &["_map", "EPERM"],
        "ids can only be mapped to ids that the runtime's own user namespace has: see /proc/self/uid_map",
    ),
    (
        &["container could not join or create cgroup"],
        "limits need a cgroup that belongs to the user: on cgroup v2 inside `systemd-run --user --scope -p Delegate=yes`",
    ),
    (
        &["oom_score_adj", "EACCES"],
        "only root of the machine may make a process less likely to be killed than its parent",
    ),
    (&["prlimit", "EPERM"], "a hard limit can be raised with CAP_SYS_RESOURCE on the machine only; lowering is free"),
    (&["set scheduler", "EPERM"], "realtime and deadline scheduling need CAP_SYS_NICE on the machine"),
    (&["set io priority", "EPERM"], "the realtime class of I/O needs CAP_SYS_NICE on the machine"),
    (&["write sysctls", "EACCES"], FOREIGN_PARAMETER),
    (&["write sysctls", "EPERM"], FOREIGN_PARAMETER),
    (&["join", "namespace", "setns", "EPERM"], FOREIGN_NAMESPACE),
    (&["open", "namespace", "/path)", "EACCES"], FOREIGN_NAMESPACE),
    (
        &["open mount source", "/linux/devices/", "ENOENT"],
        "a user namespace cannot make device nodes: the host's node of the same path is bound, and the host has none",
    ),
    (
        &["fsconfig(proc, create)", "EPERM"],
        "a new procfs shows a pid namespace, so it has to belong to the same user namespace: ask for a new one",
    ),
    (
        &["fsconfig(", "create)", "EPERM"],
        "a user namespace can mount proc, sysfs, tmpfs, devpts, mqueue, cgroup, overlay and fuse; a disk is mounted by root \
         and bound",
    ),
    (
        &["open_tree", "EINVAL"],
        "a folder with other mounts below it can be bound into a user namespace with rbind only",
    ),
    (
        &["clone3", "EPERM"],
        "an unprivileged user needs a user namespace in linux.namespaces: see `skep spec --rootless`",
    ),
];

fn hint(message: &str) -> Option<&'static str> {
    HINTS.iter().find(|(signs, _)| signs.iter().all(|sign| message.contains(sign))).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn failure() -> anyhow::Error {
        let cause = sys::Error::new("fsopen(\"proc\")", sys::Errno::PERM);
        Err::<(), _>(cause)
            .context("mount /proc (config.json /mounts/0)")
            .context("cannot create container \"web1\"")
            .unwrap_err()
    }

    #[test]
    fn people_get_a_chain_and_a_hint() {
        let expected = "\
error: cannot create container \"web1\"
  caused by: mount /proc (config.json /mounts/0)
  caused by: fsopen(\"proc\"): operation not permitted (EPERM)
hint: a new user namespace may mount proc and sysfs only when the runtime's own are not partly covered or read-only (in docker: --security-opt systempaths=unconfined)
";
        assert_eq!(render_for_people(&failure()), expected);
    }

    #[test]
    fn callers_get_one_line_with_the_words_that_they_search() {
        let line = render_line(&failure());
        assert_eq!(
            line,
            "cannot create container \"web1\": mount /proc (config.json /mounts/0): fsopen(\"proc\"): \
             operation not permitted (EPERM)"
        );
    }

    #[test]
    fn a_hint_needs_all_its_signs() {
        assert_eq!(hint("open cgroup: no such file or directory (ENOENT)"), None);
        assert!(hint("mkdirat(cgroup): permission denied (EACCES)").is_some());
    }

    #[test]
    fn what_fails_inside_other_containers_has_a_hint() {
        let check = |message, part| assert!(hint(message).is_some_and(|hint| hint.contains(part)), "{message}");
        check("fsmount(proc) [VFS: Mount too revealing]: operation not permitted (EPERM)", "systempaths");
        check("mkdir(\"/sys/fs/cgroup/pids/c1\"): read-only file system (EROFS)", "remount");
        check("ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP): operation not permitted (EPERM)", "CAP_NET_ADMIN");
        check("exec: \"sh\": no such file or directory (ENOENT)", "dynamic loader");
        assert_eq!(hint("exec: \"/no\": stat /no: no such file or directory"), None);
    }

    #[test]
    fn what_an_ordinary_user_cannot_have_has_a_hint() {
        let check = |message, part| assert!(hint(message).is_some_and(|hint| hint.contains(part)), "{message}");
        check(
            "set rlimits (config.json /process/rlimits): prlimit(7, 8, 9, 9): operation not permitted (EPERM)",
            "CAP_SYS_RESOURCE",
        );
        check("set oom score adj: write(\"/proc/1/oom_score_adj\", \"-5\"): permission denied (EACCES)", "less likely");
        check("set scheduler: sched_setattr(7, policy 1): operation not permitted (EPERM)", "CAP_SYS_NICE");
        check("mount /x (ext4): fsconfig(ext4, create): operation not permitted (EPERM)", "overlay");
        check("mount /proc (proc): fsconfig(proc, create): operation not permitted (EPERM)", "pid namespace");
        check("write sysctls: open(\"/proc/sys/net/x\"): permission denied (EACCES)", "network namespace");
        check(
            "open ipc namespace (config.json /linux/namespaces/1/path): open(\"/proc/1/ns/ipc\"): permission denied (EACCES)",
            "own containers",
        );
        check(
            "open mount source \"/dev/x\" (config.json /linux/devices/0): open_tree(\"/dev/x\", OPEN_TREE_CLONE): no such \
             file or directory (ENOENT)",
            "device nodes",
        );
        check("map ids: /usr/bin/newuidmap did not map the ids: uid range [1-3) -> [7-9) not allowed", "usermod");
    }
}
