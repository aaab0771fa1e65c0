//! What this machine's root may and may not do.

use anyhow::{Context, Result};

/// The capabilities by number. Kernel: linux/capability.h.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The bounding set of this process, one bit for each capability.
fn read_bounding_set() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("no CapBnd in /proc/self/status")?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

/// Whether this machine lacks CAP_SYS_RESOURCE (bit 24 of the bounding set), as a restricted virtual machine may.
///
/// Every container that asks for all capabilities, a raised limit or a lowered OOM score then ends in an error.
///
/// # Errors
/// The own status has another form.
pub fn lacks_resource_capability() -> Result<bool> {
    Ok(read_bounding_set()? & 1 << 24 == 0)
}

/// The names of all capabilities that this machine's root may have, in the kernel's order.
///
/// # Errors
/// The own status has another form.
pub fn bounding_capabilities() -> Result<Vec<&'static str>> {
    let set = read_bounding_set()?;
    Ok(NAMES.iter().enumerate().filter(|(bit, _)| set & 1 << bit != 0).map(|(_, name)| *name).collect())
}
