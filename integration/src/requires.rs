//! Says what a test needs of the machine. A skip is printed, and only listed ones are allowed.

use std::io::Write;
use std::path::Path;

use crate::host;
use crate::runtime::{Kind, Runtime};

/// The reasons that a machine may have, one key a line; the text after the key is for people.
const ALLOWED: &str = include_str!("../allowed-skips.txt");

/// The perl that every Debian has (package perl-base): it can make any system call and any ioctl.
pub const PERL: Need = Need::Program("/usr/bin/perl");

/// Something a machine may lack. [`Need::key`] is its name in `allowed-skips.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The caller is root.
    Root,
    /// The runtime under test is this one: what is tested is none of the specification's.
    Skep,
    /// This controller is mounted as cgroup v1.
    V1(&'static str),
    /// This controller is enabled in the root of a cgroup v2 hierarchy.
    V2(&'static str),
    /// cgroup v2 is the only hierarchy.
    V2Alone,
    /// systemd is PID 1 and its bus answers.
    Systemd,
    /// The environment variable `TEST_USER` names a user with subordinate ids and a running manager (`user@.service`).
    TestUser,
    /// The machine is thrown away after the test run: the environment variable `LANE` begins with `vm-`.
    OwnMachine,
    /// The caller has CAP_SYS_RESOURCE.
    SysResource,
    /// SELinux is enabled.
    Selinux,
    /// AppArmor is enabled.
    Apparmor,
    /// The kernel speaks this version of the Landlock interface, or a later one.
    Landlock(u32),
    /// The kernel has NUMA memory policies.
    MemoryPolicy,
    /// Mounts of tmpfs can have mapped ids (Linux 6.3).
    IdmappedTmpfs,
    /// Loop devices can be made.
    Loop,
    /// This program exists.
    Program(&'static str),
    /// The temporary folder lies on a whole block device whose queue can be throttled.
    BlockDevice,
    /// Weights of the v1 block controller exist (`blkio.weight` or `blkio.bfq.weight`).
    BlkioWeight,
    /// The machine has this processor count at least.
    Cpus(usize),
    /// Swap is counted: always on v2, on v1 where `memory.memsw.limit_in_bytes` exists.
    SwapAccounting,
    /// resctrl is mounted or can be.
    Resctrl,
    /// There is a CRIU that says that it works on this kernel.
    Criu,
    /// CRIU says that the kernel tells which memory was written to.
    DirtyTracking,
    /// The kernel keeps quotas in ext4, as a module or built in.
    ProjectQuotas,
    /// apt knows an archive of Debian and reaches it.
    DebianMirror,
    /// CRIU says that the kernel lets memory come later, to processes that fork too.
    LazyPages,
    /// Root file systems with an init can be made of Debian's packages, or have been.
    Systems,
    /// The same of root file systems with services.
    Services,
    /// One of them has the newest systemd that Debian has.
    NewestSystemd,
}

impl Need {
    /// The key under which `allowed-skips.txt` may list this need.
    pub fn key(self) -> String {
        match self {
            Need::Root => "root".into(),
            Need::Skep => "skep".into(),
            Need::V1(name) => format!("cgroup-v1-{name}"),
            Need::V2(name) => format!("cgroup-v2-{name}"),
            Need::V2Alone => "cgroup-v2".into(),
            Need::Systemd => "systemd".into(),
            Need::TestUser => "test-user".into(),
            Need::OwnMachine => "own-machine".into(),
            Need::SysResource => "cap-sys-resource".into(),
            Need::Selinux => "selinux".into(),
            Need::Apparmor => "apparmor".into(),
            Need::Landlock(abi) => format!("landlock-{abi}"),
            Need::MemoryPolicy => "memory-policy".into(),
            Need::IdmappedTmpfs => "idmapped-tmpfs".into(),
            Need::Loop => "loop".into(),
            Need::Program(name) => format!("program-{}", name.rsplit('/').next().unwrap_or(name)),
            Need::BlockDevice => "block-device".into(),
            Need::BlkioWeight => "blkio-weight".into(),
            Need::Cpus(count) => format!("cpus-{count}"),
            Need::SwapAccounting => "swap-accounting".into(),
            Need::Resctrl => "resctrl".into(),
            Need::Criu => "criu".into(),
            Need::DirtyTracking => "criu-dirty-tracking".into(),
            Need::ProjectQuotas => "project-quotas".into(),
            Need::DebianMirror => "debian-mirror".into(),
            Need::LazyPages => "criu-lazy-pages".into(),
            Need::Systems => "systems".into(),
            Need::Services => "services".into(),
            Need::NewestSystemd => "newest-systemd".into(),
        }
    }

    /// Whether this machine has it.
    pub fn is_met(self) -> bool {
        match self {
            Need::Root => rustix::process::geteuid().is_root(),
            Need::Skep => Runtime::under_test().kind == Kind::Skep,
            Need::V1(name) => host::v1_mount(name).is_some(),
            Need::V2(name) => host::v2_controllers().iter().any(|c| c == name),
            Need::V2Alone => host::v2_alone().is_some(),
            Need::Systemd => {
                ["/run/systemd/system", "/run/dbus/system_bus_socket"].iter().all(|p| Path::new(p).exists())
            }
            Need::TestUser => std::env::var_os("TEST_USER").is_some(),
            Need::OwnMachine => lane().starts_with("vm-"),
            Need::SysResource => host::own_capability(24),
            Need::Selinux => Path::new("/sys/fs/selinux/enforce").exists(),
            Need::Apparmor => {
                std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|s| s.starts_with('Y'))
            }
            Need::Landlock(abi) => host::landlock_abi() >= abi,
            Need::MemoryPolicy => sys::probe::refusal(sys::probe::Call::SetMempolicy) != Some(rustix::io::Errno::NOSYS),
            Need::IdmappedTmpfs => host::kernel() >= (6, 3),
            Need::Loop => std::path::Path::new("/dev/loop-control").exists(),
            Need::Program(path) => Path::new(path).is_file(),
            Need::BlockDevice => host::disk_of(&std::env::temp_dir()).is_some(),
            Need::BlkioWeight => host::v1_file("blkio", "blkio.weight") || host::v1_file("blkio", "blkio.bfq.weight"),
            Need::Cpus(count) => std::thread::available_parallelism().is_ok_and(|n| n.get() >= count),
            Need::SwapAccounting => {
                host::v2_alone().is_some() || host::v1_file("memory", "memory.memsw.limit_in_bytes")
            }
            Need::Resctrl => std::fs::read_to_string("/proc/filesystems").is_ok_and(|s| s.contains("resctrl")),
            Need::Criu => criu_agrees(&["check"]),
            Need::DirtyTracking => criu_agrees(&["check", "--feature", "mem_dirty_track"]),
            Need::ProjectQuotas => host::kernel_module("quota_v2"),
            Need::DebianMirror => host::debian_mirror().is_some(),
            Need::LazyPages => criu_agrees(&["check", "--feature", "uffd-noncoop"]),
            Need::Systems => crate::systems::roots().is_some(),
            Need::Services => crate::systems::services().is_some(),
            Need::NewestSystemd => crate::systems::newest().is_some(),
        }
    }
}

/// Whether CRIU is there and answers a question with yes.
fn criu_agrees(question: &[&str]) -> bool {
    let asked = std::process::Command::new("criu").args(question).output();
    asked.is_ok_and(|output| output.status.success())
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

/// Where the tests run: the environment variable `LANE`, else `native`.
pub fn lane() -> String {
    std::env::var("LANE").unwrap_or_else(|_| "native".to_owned())
}

/// Whether the list of allowed skips has this key for the lane that we are in.
pub fn allowed(key: &str) -> bool {
    let lane = lane();
    listed().any(|entry| entry.key == key && entry.allows(&lane))
}

/// The first word of a line in the lists of skips and of deviations: `KEY` or `KEY@LANE,LANE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// A [`Need::key`], or the name of a test.
    pub key: &'static str,
    /// The lanes that the line is for, with commas between; none means all.
    pub lanes: Option<&'static str>,
}

impl Entry {
    pub(crate) fn parse(word: &'static str) -> Entry {
        match word.split_once('@') {
            Some((key, lanes)) => Entry { key, lanes: Some(lanes) },
            None => Entry { key: word, lanes: None },
        }
    }

    /// Whether the line is for this lane.
    pub fn allows(&self, lane: &str) -> bool {
        self.lanes.is_none_or(|lanes| lanes.split(',').any(|other| other == lane))
    }
}

/// The list of allowed skips.
pub fn listed() -> impl Iterator<Item = Entry> {
    let words = ALLOWED.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    words.map(Entry::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_may_be_for_some_lanes_alone() {
        let everywhere = Entry::parse("selinux");
        assert!(everywhere.allows("native") && everywhere.allows("vm-v2"));
        let entry = Entry::parse("systemd@native,vm-v1");
        assert_eq!(entry, Entry { key: "systemd", lanes: Some("native,vm-v1") });
        assert!(entry.allows("native") && entry.allows("vm-v1") && !entry.allows("vm-v2"));
    }
}
