//! Says what a test needs of the machine. A skip is printed, and only listed ones are allowed.

use std::io::Write;

use crate::host;

/// The reasons that a machine may have, one key a line; the text after the key is for people.
const ALLOWED: &str = include_str!("../allowed-skips.txt");

/// The perl that every Debian has (package perl-base): it can make any system call and any ioctl.
pub const PERL: Need = Need::Program("/usr/bin/perl");

/// Something a machine may lack. [`Need::key`] is its name in `allowed-skips.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The caller is root.
    Root,
    /// This controller is mounted as cgroup v1.
    V1(&'static str),
    /// This controller is enabled in the root of a cgroup v2 hierarchy.
    V2(&'static str),
    /// The caller has CAP_SYS_RESOURCE.
    SysResource,
    /// SELinux is enabled.
    Selinux,
    /// AppArmor is enabled.
    Apparmor,
    /// The kernel speaks this version of the Landlock interface, or a later one.
    Landlock(u32),
    /// This program exists.
    Program(&'static str),
    /// The temporary folder lies on a whole block device whose queue can be throttled.
    BlockDevice,
    /// Weights of the v1 block controller exist (`blkio.weight` or `blkio.bfq.weight`).
    BlkioWeight,
    /// The machine has this processor count at least.
    Cpus(usize),
    /// Swap accounting exists on v1 (`memory.memsw.limit_in_bytes`).
    SwapAccounting,
    /// resctrl is mounted or can be.
    Resctrl,
    /// systemd has booted the host.
    Systemd,
}

impl Need {
    /// The key under which `allowed-skips.txt` may list this need.
    pub fn key(self) -> String {
        match self {
            Need::Root => "root".into(),
            Need::V1(name) => format!("cgroup-v1-{name}"),
            Need::V2(name) => format!("cgroup-v2-{name}"),
            Need::SysResource => "cap-sys-resource".into(),
            Need::Selinux => "selinux".into(),
            Need::Apparmor => "apparmor".into(),
            Need::Landlock(abi) => format!("landlock-{abi}"),
            Need::Program(name) => format!("program-{}", name.rsplit('/').next().unwrap_or(name)),
            Need::BlockDevice => "block-device".into(),
            Need::BlkioWeight => "blkio-weight".into(),
            Need::Cpus(count) => format!("cpus-{count}"),
            Need::SwapAccounting => "swap-accounting".into(),
            Need::Resctrl => "resctrl".into(),
            Need::Systemd => "systemd".into(),
        }
    }

    /// Whether this machine has it.
    pub fn is_met(self) -> bool {
        match self {
            Need::Root => rustix::process::geteuid().is_root(),
            Need::V1(name) => host::v1_mount(name).is_some(),
            Need::V2(name) => host::v2_controllers().iter().any(|c| c == name),
            Need::SysResource => host::own_capability(24),
            Need::Selinux => std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            Need::Apparmor => {
                std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|s| s.starts_with('Y'))
            }
            Need::Landlock(abi) => host::landlock_abi() >= abi,
            Need::Program(path) => std::path::Path::new(path).is_file(),
            Need::BlockDevice => host::disk_of(&std::env::temp_dir()).is_some(),
            Need::BlkioWeight => host::v1_file("blkio", "blkio.weight") || host::v1_file("blkio", "blkio.bfq.weight"),
            Need::Cpus(count) => std::thread::available_parallelism().is_ok_and(|n| n.get() >= count),
            Need::SwapAccounting => host::v1_file("memory", "memory.memsw.limit_in_bytes"),
            // sd_booted(3).
            Need::Systemd => std::path::Path::new("/run/systemd/system").is_dir(),
            Need::Resctrl => std::fs::read_to_string("/proc/filesystems").is_ok_and(|s| s.contains("resctrl")),
        }
    }
}

/// Says whether the test must be skipped, because a need is not met.
///
/// # Panics
/// When the skip is not listed in `allowed-skips.txt`: then the machine, the list or the test is wrong.
#[track_caller]
pub fn skip_without(needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find(|need| !need.is_met()) else { return false };
    let key = missing.key();
    let place = std::panic::Location::caller();
    assert!(allowed(&key), "a skip that allowed-skips.txt does not list: {key} ({place})");
    // Written past the capture of the test harness, so that a skip is always seen.
    writeln!(std::io::stderr(), "SKIPPED {place}: needs {key}").expect("write to stderr");
    // A runner that hides what passing tests print may collect the skips in a file.
    if let Some(path) = std::env::var_os("SKIP_LOG") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("open SKIP_LOG");
        writeln!(file, "{key} {place}").expect("write SKIP_LOG");
    }
    crate::oracle::note_skip();
    true
}

/// Whether the list of allowed skips has this key.
pub fn allowed(key: &str) -> bool {
    listed().any(|line| line == key)
}

/// The keys of the list of allowed skips.
pub fn listed() -> impl Iterator<Item = &'static str> {
    ALLOWED.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next())
}
