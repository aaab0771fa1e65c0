//! The system call filter.

use super::{items, kernel_text, lookup, quote, text};
use crate::finding::{Log, Path};
use crate::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use crate::oci;

const SECTION: &str = "config-linux.md, seccomp";

/// The number that ERRNO and TRACE carry when none is given: EPERM.
const EPERM: u16 = 1;

/// Actions by name; the numbers of ERRNO and TRACE are set afterwards.
pub(crate) const ACTIONS: [(&str, SeccompAction); 9] = [
    ("SCMP_ACT_ALLOW", SeccompAction::Allow),
    ("SCMP_ACT_ERRNO", SeccompAction::Errno(EPERM)),
    ("SCMP_ACT_KILL", SeccompAction::KillThread),
    ("SCMP_ACT_KILL_PROCESS", SeccompAction::KillProcess),
    ("SCMP_ACT_KILL_THREAD", SeccompAction::KillThread),
    ("SCMP_ACT_LOG", SeccompAction::Log),
    ("SCMP_ACT_NOTIFY", SeccompAction::Notify),
    ("SCMP_ACT_TRACE", SeccompAction::Trace(EPERM)),
    ("SCMP_ACT_TRAP", SeccompAction::Trap),
];

/// Comparisons by name.
pub(crate) const OPERATORS: [(&str, SeccompOp); 7] = [
    ("SCMP_CMP_EQ", SeccompOp::Eq),
    ("SCMP_CMP_GE", SeccompOp::Ge),
    ("SCMP_CMP_GT", SeccompOp::Gt),
    ("SCMP_CMP_LE", SeccompOp::Le),
    ("SCMP_CMP_LT", SeccompOp::Lt),
    ("SCMP_CMP_MASKED_EQ", SeccompOp::MaskedEq),
    ("SCMP_CMP_NE", SeccompOp::Ne),
];

const SPEC_ALLOW: u64 = 4;

/// Flags by name, with the kernel's bit (include/uapi/linux/seccomp.h).
pub(crate) const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32),
];

/// Architectures of the specification, and whether this runtime has their system call numbers.
pub(crate) const ARCHITECTURES: [(&str, bool); 23] = [
    ("SCMP_ARCH_AARCH64", true),
    ("SCMP_ARCH_ARM", true),
    ("SCMP_ARCH_LOONGARCH64", false),
    ("SCMP_ARCH_M68K", false),
    ("SCMP_ARCH_MIPS", false),
    ("SCMP_ARCH_MIPS64", false),
    ("SCMP_ARCH_MIPS64N32", false),
    ("SCMP_ARCH_MIPSEL", false),
    ("SCMP_ARCH_MIPSEL64", false),
    ("SCMP_ARCH_MIPSEL64N32", false),
    ("SCMP_ARCH_PARISC", false),
    ("SCMP_ARCH_PARISC64", false),
    ("SCMP_ARCH_PPC", false),
    ("SCMP_ARCH_PPC64", false),
    ("SCMP_ARCH_PPC64LE", true),
    ("SCMP_ARCH_RISCV64", true),
    ("SCMP_ARCH_S390", false),
    ("SCMP_ARCH_S390X", true),
    ("SCMP_ARCH_SH", false),
    ("SCMP_ARCH_SHEB", false),
    ("SCMP_ARCH_X32", true),
    ("SCMP_ARCH_X86", true),
    ("SCMP_ARCH_X86_64", true),
];

/// Judges and lowers the filter. `None` for one that says nothing, which other runtimes take as no filter.
pub(super) fn lower(filter: &oci::Seccomp, at: &Path<'_>, log: &mut Log) -> Option<Seccomp> {
    let default_at = at.key("defaultAction");
    let Some(default) = text(&filter.default_action) else {
        if items(&filter.syscalls).is_empty() {
            log.warn(&default_at, SECTION, "is absent and there are no rules: no filter is used");
        } else {
            log.error(&default_at, SECTION, "is required");
        }
        return None;
    };
    let default_action = action(default, filter.default_errno_ret, &default_at, &at.key("defaultErrnoRet"), log);
    let list = at.key("syscalls");
    let result = Seccomp {
        default_action: default_action.unwrap_or(SeccompAction::KillProcess),
        architectures: architectures(items(&filter.architectures), &at.key("architectures"), log),
        flags: flags(filter.flags.as_deref(), &at.key("flags"), log),
        rules: items(&filter.syscalls)
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| rule(entry, &list.item(index), log))
            .collect(),
        listener_path: kernel_text(&filter.listener_path, &at.key("listenerPath"), SECTION, log),
        listener_metadata: text(&filter.listener_metadata).map(str::to_owned),
    };
    check_notify(&result, at, log);
    Some(result)
}

/// An action with its number. Only ERRNO and TRACE carry one.
fn action(name: &str, errno: Option<u64>, at: &Path<'_>, errno_at: &Path<'_>, log: &mut Log) -> Option<SeccompAction> {
    /// Highest number that the kernel returns (MAX_ERRNO, include/linux/err.h).
    const MAX_ERRNO: u16 = 4095;
    let action = lookup(&ACTIONS, name, at, SECTION, log)?;
    let Some(errno) = errno else { return Some(action) };
    let number = u16::try_from(errno).ok();
    match (action, number) {
        (SeccompAction::Errno(_), Some(number @ 0..=MAX_ERRNO)) => Some(SeccompAction::Errno(number)),
        (SeccompAction::Errno(_), _) => {
            log.error(errno_at, SECTION, format_args!("must be from 0 to {MAX_ERRNO}, not {errno}"));
            None
        }
        (SeccompAction::Trace(_), Some(number)) => Some(SeccompAction::Trace(number)),
        (SeccompAction::Trace(_), None) => {
            log.error(errno_at, SECTION, format_args!("must be from 0 to 65535, not {errno}"));
            None
        }
        _ => {
            log.error(errno_at, SECTION, format_args!("{errno} has no meaning for {name}"));
            None
        }
    }
}

fn architectures(names: &[String], at: &Path<'_>, log: &mut Log) -> Vec<String> {
    let mut result = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = at.item(index);
        let Some(has_table) = lookup(&ARCHITECTURES, name, &at, SECTION, log) else { continue };
        if !has_table {
            log.warn(&at, SECTION, format_args!("{name} has no table here: system calls of that kind are killed"));
        }
        result.push(name.trim_start_matches("SCMP_ARCH_").to_ascii_lowercase());
    }
    result
}

/// Flag bits. An absent list, unlike an empty one, means SPEC_ALLOW, as in other runtimes: without it the kernel slows
/// every container down against a speculation attack that most CPUs no longer have.
fn flags(names: Option<&[String]>, at: &Path<'_>, log: &mut Log) -> u64 {
    let Some(names) = names else { return SPEC_ALLOW };
    let mut bits = 0;
    for (index, name) in names.iter().enumerate() {
        bits |= lookup(&FLAGS, name, &at.item(index), SECTION, log).unwrap_or(0);
    }
    bits
}

fn rule(entry: &oci::SeccompSyscall, at: &Path<'_>, log: &mut Log) -> Option<SeccompRule> {
    let names_at = at.key("names");
    let names = items(&entry.names);
    if names.is_empty() {
        log.error(&names_at, SECTION, "must have at least one entry");
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            log.error(&names_at.item(index), SECTION, "must not be empty");
        }
    }
    let args_at = at.key("args");
    let args: Vec<SeccompArg> =
        items(&entry.args).iter().enumerate().filter_map(|(index, a)| arg(a, &args_at.item(index), log)).collect();
    let Some(name) = text(&entry.action) else {
        log.error(&at.key("action"), SECTION, "is required");
        return None;
    };
    let action = action(name, entry.errno_ret, &at.key("action"), &at.key("errnoRet"), log)?;
    if action == SeccompAction::Notify && names.iter().any(|name| name == "write") {
        log.error(&names_at, SECTION, "cannot have \"write\" with SCMP_ACT_NOTIFY: the start would wait for itself");
    }
    Some(SeccompRule { names: names.to_vec(), action, args })
}

fn arg(entry: &oci::SeccompArg, at: &Path<'_>, log: &mut Log) -> Option<SeccompArg> {
    /// A system call has six arguments.
    const LAST: u8 = 5;
    let index = super::required(entry.index, &at.key("index"), SECTION, log);
    let value = super::required(entry.value, &at.key("value"), SECTION, log);
    let index = u8::try_from(index).ok().filter(|index| *index <= LAST).or_else(|| {
        log.error(&at.key("index"), SECTION, format_args!("must be from 0 to {LAST}, not {index}"));
        None
    });
    let Some(name) = text(&entry.op) else {
        log.error(&at.key("op"), SECTION, "is required");
        return None;
    };
    let op = lookup(&OPERATORS, name, &at.key("op"), SECTION, log)?;
    Some(SeccompArg { index: index?, value, value_two: entry.value_two.unwrap_or(0), op })
}

/// What notification needs, and where it would lock the start up.
fn check_notify(filter: &Seccomp, at: &Path<'_>, log: &mut Log) {
    if filter.default_action == SeccompAction::Notify {
        log.error(
            &at.key("defaultAction"),
            SECTION,
            "cannot be SCMP_ACT_NOTIFY: it would hold the calls that hand over the notification",
        );
    }
    let path = filter.listener_path.as_deref();
    if filter.rules.iter().any(|rule| rule.action == SeccompAction::Notify) && path.is_none() {
        log.error(&at.key("listenerPath"), SECTION, "is required for SCMP_ACT_NOTIFY");
    }
    if let (Some(metadata), None) = (&filter.listener_metadata, path) {
        let value = quote(metadata);
        log.error(&at.key("listenerMetadata"), SECTION, format_args!("{value} must not be set without listenerPath"));
    }
}
