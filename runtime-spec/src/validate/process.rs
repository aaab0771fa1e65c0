//! The process.

use std::collections::BTreeSet;

use super::{check_absolute, items, kernel_text, kernel_texts, lookup, quote, required, scheduling, text};
use crate::capabilities;
use crate::finding::{Log, Path};
use crate::model::{CapSet, Capabilities, ConsoleSize, Process, Rlimit, User};
use crate::oci;

const SECTION: &str = "config.md, process";
const POSIX: &str = "config.md, POSIX process";
const LINUX: &str = "config.md, Linux process";
const USER: &str = "config.md, POSIX-platform user";

/// Kinds of resource limit, with the kernel's number (include/uapi/asm-generic/resource.h; x86, arm, riscv, s390 and
/// powerpc share it).
const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// Judges and lowers a process.
pub(super) fn lower(process: &oci::Process, at: &Path<'_>, log: &mut Log) -> Process {
    let cwd_at = at.key("cwd");
    match text(&process.cwd) {
        Some(cwd) => check_absolute(cwd, &cwd_at, SECTION, log),
        None => log.error(&cwd_at, SECTION, "is required and must not be empty"),
    }
    let args = kernel_texts(&process.args, &at.key("args"), SECTION, log);
    if args.is_empty() {
        log.error(&at.key("args"), SECTION, "must have at least one entry");
    }
    let terminal = process.terminal.unwrap_or(false);
    let size = process.console_size.as_ref().filter(|_| terminal);
    Process {
        terminal,
        console_size: size.map(|size| console_size(size, &at.key("consoleSize"), log)),
        cwd: process.cwd.clone().unwrap_or_default(),
        env: env(items(&process.env), &at.key("env"), log),
        args,
        user: user(process.user.as_ref(), &at.key("user"), log),
        capabilities: capability_sets(process.capabilities.as_ref(), &at.key("capabilities"), log),
        rlimits: rlimits(items(&process.rlimits), &at.key("rlimits"), log),
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        oom_score_adj: process.oom_score_adj.map(|value| oom_score_adj(value, &at.key("oomScoreAdj"), log)),
        scheduler: process.scheduler.as_ref().and_then(|s| scheduling::scheduler(s, &at.key("scheduler"), log)),
        io_priority: process.io_priority.as_ref().and_then(|p| scheduling::io_priority(p, &at.key("ioPriority"), log)),
        exec_cpu_affinity: process
            .exec_cpu_affinity
            .as_ref()
            .and_then(|affinity| scheduling::cpu_affinity(affinity, &at.key("execCPUAffinity"), log)),
        apparmor_profile: kernel_text(&process.apparmor_profile, &at.key("apparmorProfile"), LINUX, log),
        selinux_label: kernel_text(&process.selinux_label, &at.key("selinuxLabel"), LINUX, log),
    }
}

/// The environment: each name once, where its last value stands.
fn env(list: &[String], at: &Path<'_>, log: &mut Log) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut result = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate().rev() {
        let at = at.item(index);
        if entry.contains('\0') {
            // Without the value, which may be a secret.
            log.error(&at, SECTION, "must not contain a NUL character");
        }
        match entry.split_once('=') {
            None => log.error(&at, SECTION, format_args!("{} must be NAME=value", quote(entry))),
            Some(("", _)) => log.error(&at, SECTION, format_args!("{} has no name", quote(entry))),
            Some((name, _)) if seen.insert(name) => result.push(entry.clone()),
            Some(_) => {}
        }
    }
    result.reverse();
    result
}

fn console_size(size: &oci::ConsoleSize, at: &Path<'_>, log: &mut Log) -> ConsoleSize {
    let mut side = |value: Option<u64>, name: &str| {
        let value = required(value, &at.key(name), SECTION, log);
        u16::try_from(value).unwrap_or_else(|_| {
            log.warn(&at.key(name), SECTION, format_args!("{value} is more than a terminal has; 65535 is used"));
            u16::MAX
        })
    };
    ConsoleSize { height: side(size.height, "height"), width: side(size.width, "width") }
}

fn user(user: Option<&oci::User>, at: &Path<'_>, log: &mut Log) -> User {
    /// Most supplementary groups of a process (NGROUPS_MAX, include/uapi/linux/limits.h).
    const GROUPS_MAX: usize = 65_536;
    let Some(user) = user else { return User::default() };
    let groups_at = at.key("additionalGids");
    let groups = items(&user.additional_gids);
    if groups.len() > GROUPS_MAX {
        log.error(&groups_at, USER, format_args!("has {} groups; the kernel takes {GROUPS_MAX}", groups.len()));
    }
    for (index, gid) in groups.iter().enumerate() {
        id(Some(*gid), &groups_at.item(index), USER, log);
    }
    User {
        uid: id(user.uid, &at.key("uid"), USER, log),
        gid: id(user.gid, &at.key("gid"), USER, log),
        umask: user.umask.map(|mask| umask(mask, &at.key("umask"), log)),
        additional_gids: groups.to_vec(),
    }
}

/// A user or group id; 0 when absent. 2^32-1 means "leave it as it is" to the kernel's calls, which would keep the
/// runtime's own id.
pub(super) fn id(value: Option<u32>, at: &Path<'_>, section: &'static str, log: &mut Log) -> u32 {
    if value == Some(u32::MAX) {
        log.error(at, section, "4294967295 is not an id");
    }
    value.unwrap_or(0)
}

fn umask(mask: u32, at: &Path<'_>, log: &mut Log) -> u32 {
    if mask > 0o777 {
        log.warn(at, USER, format_args!("{mask} is more than 511 (octal 777); {} is used", mask & 0o777));
    }
    mask & 0o777
}

fn capability_sets(sets: Option<&oci::Capabilities>, at: &Path<'_>, log: &mut Log) -> Capabilities {
    let Some(sets) = sets else { return Capabilities::default() };
    let mut result = Capabilities {
        bounding: capability_set(items(&sets.bounding), &at.key("bounding"), log),
        effective: capability_set(items(&sets.effective), &at.key("effective"), log),
        inheritable: capability_set(items(&sets.inheritable), &at.key("inheritable"), log),
        permitted: capability_set(items(&sets.permitted), &at.key("permitted"), log),
        ambient: capability_set(items(&sets.ambient), &at.key("ambient"), log),
    };
    // The kernel grants neither (capabilities(7)); a capability that cannot be granted is a warning.
    let grantable = result.permitted;
    drop_ungrantable(&mut result.effective, grantable, "permitted", &at.key("effective"), log);
    let grantable = result.permitted.and(result.inheritable);
    drop_ungrantable(&mut result.ambient, grantable, "permitted and inheritable", &at.key("ambient"), log);
    result
}

fn capability_set(names: &[String], at: &Path<'_>, log: &mut Log) -> CapSet {
    let mut set = CapSet::default();
    for (index, name) in names.iter().enumerate() {
        match capabilities::bit(name) {
            Some(bit) => set.0 |= 1 << bit,
            None => log.warn(
                &at.item(index),
                LINUX,
                format_args!("{} is not a known capability and is ignored", quote(name)),
            ),
        }
    }
    set
}

fn drop_ungrantable(set: &mut CapSet, grantable: CapSet, other: &str, at: &Path<'_>, log: &mut Log) {
    let dropped: Vec<&str> = set.without(grantable).names().collect();
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        log.warn(at, LINUX, format_args!("has {dropped}, which without being {other} cannot be granted; ignored"));
    }
    *set = set.and(grantable);
}

fn rlimits(list: &[oci::Rlimit], at: &Path<'_>, log: &mut Log) -> Vec<Rlimit> {
    let mut result: Vec<Rlimit> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        let soft = required(entry.soft, &at.key("soft"), POSIX, log);
        let hard = required(entry.hard, &at.key("hard"), POSIX, log);
        if entry.soft.is_some() && entry.hard.is_some() && soft > hard {
            log.error(&at.key("soft"), POSIX, format_args!("{soft} is more than the hard limit, {hard}"));
        }
        let at = at.key("type");
        let Some(name) = text(&entry.kind) else {
            log.error(&at, POSIX, "is required");
            continue;
        };
        let Some(resource) = lookup(&RLIMITS, name, &at, POSIX, log) else { continue };
        if result.iter().any(|earlier| earlier.resource == resource) {
            log.error(&at, POSIX, format_args!("{name} stands in the list twice"));
        }
        result.push(Rlimit { resource, soft, hard });
    }
    result
}

fn oom_score_adj(value: i64, at: &Path<'_>, log: &mut Log) -> i32 {
    match i32::try_from(value) {
        Ok(value @ -1000..=1000) => value,
        _ => {
            log.error(at, LINUX, format_args!("must be from -1000 to 1000, not {value}"));
            0
        }
    }
}
