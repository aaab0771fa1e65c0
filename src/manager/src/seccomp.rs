//! The system calls that a defined container has no use for.
//!
//! All else is allowed: a list of what is allowed ages with each kernel and breaks programs that are newer than it. What is
//! denied concerns the machine as a whole (its clock, modules, swap, another kernel), what every container shares (keys,
//! tracing, BPF), or new namespaces and mounts, which have been the way into most holes of the kernel since 2013. Without
//! the capabilities for them most would fail anyway; a filter keeps the code behind them out of reach.

use serde_json::{Value, json};

/// Denied with EPERM, as without the capability.
const DENIED: [&str; 50] = [
    "acct",
    "add_key",
    "bpf",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "umount",
    "umount2",
    "unshare",
    "userfaultfd",
    "uselib",
    "vm86",
    "vm86old",
];

/// CLONE_NEW* of `clone(2)` (include/uapi/linux/sched.h): cgroup, uts, ipc, user, pid, net, mnt.
const NEW_NAMESPACES: [u64; 7] =
    [0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0002_0000];

/// ENOSYS: with it the C library takes `clone` instead, whose flags a filter can see.
const ENOSYS: u32 = 38;
/// EPERM.
const EPERM: u32 = 1;

/// The ioctl that gives a file another project, out of the quota of its container (include/uapi/linux/fs.h,
/// `FS_IOC_FSSETXATTR`); and the call that does the same since Linux 6.17.
const SET_PROJECT: (u64, &str) = (0x401c_5820, "file_setattr");

/// Renders the filter. With a project quota, files stay in their project.
#[must_use]
pub fn render_filter(has_project: bool) -> Value {
    let mut rules = vec![
        json!({ "names": DENIED.as_slice(), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }),
    ];
    for flag in NEW_NAMESPACES {
        // The flags are the first argument on every architecture but s390.
        let has = json!({ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(json!({ "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [has] }));
    }
    if has_project {
        // The kernel takes the lower half of the register alone.
        let is = json!({ "index": 1, "value": 0xffff_ffffu64, "valueTwo": SET_PROJECT.0, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [is] }));
        rules.push(json!({ "names": [SET_PROJECT.1], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }));
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules })
}

/// Denied to a whole system: what no namespace holds back, or leads past all of them (`open_by_handle_at`).
const DENIED_TO_SYSTEMS: [&str; 17] = [
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "nfsservctl",
    "open_by_handle_at",
    "query_module",
    "swapoff",
    "swapon",
    "uselib",
    "vm86",
];

/// MNT_FORCE of `umount2(2)`: it cuts off others who use the same file system.
const MNT_FORCE: u64 = 1;

/// Renders the filter of a whole system: it mounts, and makes namespaces, as its services and containers inside need.
#[must_use]
pub fn render_system_filter() -> Value {
    let force = json!({ "index": 1, "value": MNT_FORCE, "valueTwo": MNT_FORCE, "op": "SCMP_CMP_MASKED_EQ" });
    let rules = [
        json!({ "names": DENIED_TO_SYSTEMS.as_slice(), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }),
        json!({ "names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [force] }),
    ];
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules })
}

/// The machine's own, and those that it also runs.
pub(crate) fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "powerpc64" => &["SCMP_ARCH_PPC64LE"],
        _ => &[],
    }
}
