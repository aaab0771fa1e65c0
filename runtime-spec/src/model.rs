//! The validated container definition: what every later stage works from.
//!
//! A value of these types has passed [`validate()`](crate::validate()): names are known, numbers are in range, paths that
//! must be absolute are absolute. Nothing here is optional in three ways: `None` means that the definition is silent.
//! The types serialize so that a plan can be printed; they are not a stored format (the bytes of `config.json` are).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::guest_cgroups::GuestCgroups;
use crate::landlock::Landlock;
use crate::overlay::Overlay;
use crate::ttys::Ttys;

/// One container, as the engine sees it, whichever language it was written in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ContainerSpec {
    /// The version of runtime-spec that the definition names.
    pub oci_version: String,
    /// Free keys and values. Some steer the runtime; all are shown by `state`.
    pub annotations: BTreeMap<String, String>,
    /// UTS host name. Needs a new UTS namespace.
    pub hostname: Option<String>,
    /// UTS NIS domain name. Needs a new UTS namespace.
    pub domainname: Option<String>,
    /// The root file system; `None` only where no process is run.
    pub root: Root,
    /// What to run. `None` is legal for `create`; `start` then fails.
    pub process: Option<Process>,
    /// Mounts in the order of the definition, which is the order of mounting.
    pub mounts: Vec<Mount>,
    /// Hooks by point, in order.
    pub hooks: Hooks,
    /// Namespaces to make or to join. A kind that is absent is inherited from the caller.
    pub namespaces: Vec<Namespace>,
    /// User id mappings of a new user namespace, in order.
    pub uid_mappings: Vec<IdMapping>,
    /// Group id mappings of a new user namespace, in order.
    pub gid_mappings: Vec<IdMapping>,
    /// Clock offsets of a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// Device nodes to make besides the default ones.
    pub devices: Vec<Device>,
    /// Host network devices to move into the container.
    pub net_devices: Vec<NetDevice>,
    /// Where the container's cgroup is. `None` lets the runtime choose.
    pub cgroups_path: Option<String>,
    /// Limits.
    pub resources: Resources,
    /// Kernel parameters, sorted by key, written as the key with dots turned to slashes under `/proc/sys`.
    pub sysctl: BTreeMap<String, String>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// Propagation of the root mount. `None` means recursive slave, as runc does.
    pub rootfs_propagation: Option<Propagation>,
    /// Absolute paths to hide, files behind `/dev/null`, folders behind an empty read-only tmpfs.
    pub masked_paths: Vec<String>,
    /// Absolute paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// SELinux label for the mounts.
    pub mount_label: Option<String>,
    /// Execution domain for `personality(2)`.
    pub personality: Option<Personality>,
    /// Intel resource director settings.
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy for `set_mempolicy(2)`.
    pub memory_policy: Option<MemoryPolicy>,
    /// Landlock rules for every process.
    pub landlock: Option<Landlock>,
    /// Layers that are mounted where the root file system is to be.
    pub overlay: Option<Overlay>,
    /// What a whole system gets of its groups; `None` is what the specification says.
    pub guest_cgroups: Option<GuestCgroups>,
    /// Terminals besides the console.
    pub ttys: Option<Ttys>,
}

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Path of the folder, absolute or relative to the bundle. Empty when the definition has no `root`.
    pub path: String,
    /// Whether the container sees it read-only.
    pub readonly: bool,
}

/// The process to run, at creation or by `exec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Process {
    /// Whether it gets a pseudo terminal.
    pub terminal: bool,
    /// Size of that terminal.
    pub console_size: Option<ConsoleSize>,
    /// Absolute working folder inside the container.
    pub cwd: String,
    /// `NAME=value` strings, in order.
    pub env: Vec<String>,
    /// Argument vector; never empty for a validated process.
    pub args: Vec<String>,
    /// Credentials.
    pub user: User,
    /// `None` keeps no capability at all (as an empty object does).
    pub capabilities: Capabilities,
    /// Resource limits, each kind once.
    pub rlimits: Vec<Rlimit>,
    /// Whether `PR_SET_NO_NEW_PRIVS` is set.
    pub no_new_privileges: bool,
    /// Value for `/proc/self/oom_score_adj`, -1000..=1000. `None` keeps the caller's.
    pub oom_score_adj: Option<i32>,
    /// CPU scheduling policy.
    pub scheduler: Option<Scheduler>,
    /// I/O scheduling class and level.
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of an `exec` before and after it joins the container's cgroup.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
    /// AppArmor profile by name.
    pub apparmor_profile: Option<String>,
    /// SELinux label of the process.
    pub selinux_label: Option<String>,
}

/// Terminal size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Credentials of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// User id inside the container; never 2^32-1.
    pub uid: u32,
    /// Group id inside the container; never 2^32-1.
    pub gid: u32,
    /// File mode mask, 0..=0o777. `None` means 0o022.
    pub umask: Option<u32>,
    /// Supplementary groups. The caller's are always dropped.
    pub additional_gids: Vec<u32>,
}

/// A set of capabilities as the kernel's bit mask: bit N is capability N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CapSet(pub u64);

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// What may ever be gained.
    pub bounding: CapSet,
    /// What counts now.
    pub effective: CapSet,
    /// What passes through an exec of a file with inheritable capabilities.
    pub inheritable: CapSet,
    /// What may be made effective.
    pub permitted: CapSet,
    /// What passes through an exec of any file.
    pub ambient: CapSet,
}

/// A resource limit as `prlimit(2)` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    /// The kernel's number (RLIMIT_CPU is 0, ... RLIMIT_RTTIME is 15).
    pub resource: u32,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Arguments of `sched_setattr(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Scheduler {
    /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5, DEADLINE 6 (ISO 4 is accepted by the specification).
    pub policy: u32,
    /// Nice value, -20..=19, for OTHER and BATCH.
    pub nice: i32,
    /// Static priority for FIFO and RR.
    pub priority: u32,
    /// SCHED_FLAG_ bits.
    pub flags: u64,
    /// Nanoseconds, for DEADLINE.
    pub runtime_ns: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline_ns: u64,
    /// Nanoseconds, for DEADLINE.
    pub period_ns: u64,
}

/// I/O priority as `ioprio_set(2)` knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IoPriority {
    /// IOPRIO_CLASS_RT 1, BE 2, IDLE 3.
    pub class: u32,
    /// 0 (highest) to 7.
    pub level: u32,
}

/// CPU sets for an `exec`, each CPU by number, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExecCpuAffinity {
    /// Before it joins the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// After it has joined.
    pub final_: Option<Vec<u32>>,
}

bitflags::bitflags! {
    /// Attributes of one mount, in the numbers of `mount_setattr(2)` (MOUNT_ATTR_*).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
    pub struct MountAttr: u64 {
        /// Read-only.
        const RDONLY = 0x1;
        /// Set-user-ID bits have no effect.
        const NOSUID = 0x2;
        /// Device nodes cannot be opened.
        const NODEV = 0x4;
        /// Nothing can be executed.
        const NOEXEC = 0x8;
        /// Access times are not updated. With [`MountAttr::STRICTATIME`] this is the field MOUNT_ATTR__ATIME.
        const NOATIME = 0x10;
        /// Access times are always updated.
        const STRICTATIME = 0x20;
        /// Access times of folders are not updated.
        const NODIRATIME = 0x80;
        /// Symbolic links are not followed.
        const NOSYMFOLLOW = 0x20_0000;
    }
}

impl MountAttr {
    /// The two bits that together hold the access time mode (0 is relatime).
    pub const ATIME: MountAttr = MountAttr::from_bits_retain(0x70);
}

bitflags::bitflags! {
    /// Flags of a super block, in the numbers of `mount(2)` (SB_* / MS_*).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
    pub struct SuperFlags: u64 {
        /// The file system itself is read-only.
        const RDONLY = 1;
        /// Writes are synchronous.
        const SYNCHRONOUS = 1 << 4;
        /// Mandatory locks (without effect since Linux 5.15).
        const MANDLOCK = 1 << 6;
        /// Folder changes are synchronous.
        const DIRSYNC = 1 << 7;
        /// Fewer kernel messages.
        const SILENT = 1 << 15;
        /// Inode version numbers.
        const I_VERSION = 1 << 23;
        /// Times are kept in memory.
        const LAZYTIME = 1 << 25;
    }
}

/// How mount events spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Propagation {
    /// The type.
    pub kind: PropagationKind,
    /// Whether all mounts below follow.
    pub recursive: bool,
}

/// Propagation types of `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationKind {
    /// Both ways.
    Shared,
    /// Inwards only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and cannot be bind mounted.
    Unbindable,
}

/// One entry of `mounts`, its options sorted by what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Absolute path inside the container (a relative one was put below `/`).
    pub destination: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Source as written: a path for binds (relative to the bundle), a name otherwise.
    pub source: Option<String>,
    /// Attributes to set on the mount itself.
    pub set: MountAttr,
    /// Attributes to clear on the mount itself.
    pub clear: MountAttr,
    /// Attributes to set on the mount and all below it (`rro`, `rnosuid`, ...).
    pub recursive_set: MountAttr,
    /// Attributes to clear on the mount and all below it (`rrw`, `rsuid`, ...).
    pub recursive_clear: MountAttr,
    /// Flags of the super block.
    pub super_set: SuperFlags,
    /// Flags of the super block to clear.
    pub super_clear: SuperFlags,
    /// Propagation changes, in order.
    pub propagation: Vec<Propagation>,
    /// What is left over for the file system itself, in order, such as `size=64k`.
    pub data: Vec<String>,
    /// Id mapping of the mount.
    pub idmap: Option<MountIdmap>,
    /// Whether the folder that a tmpfs covers is copied into it (`tmpcopyup`).
    pub tmpcopyup: bool,
    /// Whether a source that is a symbolic link is recreated as a link (`copy-symlink`).
    pub copy_symlink: bool,
    /// Whether a source that is a symbolic link is mounted itself (`src-nofollow`).
    pub src_nofollow: bool,
    /// Whether a destination that is a symbolic link is not followed (`dest-nofollow`).
    pub dest_nofollow: bool,
}

/// What is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A folder or file that exists already.
    Bind {
        /// With all that is mounted below it (`rbind`).
        recursive: bool,
    },
    /// The view of the container's own cgroup, in the layout of the host.
    Cgroup,
    /// A change of an existing mount (`remount`).
    Remount {
        /// `bind,remount` changes the mount's attributes alone and leaves the file system as it is.
        bind: bool,
    },
    /// A new file system of this type.
    Filesystem(String),
    /// Not given; validation never leaves this.
    #[default]
    Missing,
}

/// Id mapping of a mount (`idmap`, `ridmap`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MountIdmap {
    /// Whether mounts below are mapped too.
    pub recursive: bool,
    /// Empty means the container's own mapping.
    pub uid_mappings: Vec<IdMapping>,
    /// Empty means the container's own mapping.
    pub gid_mappings: Vec<IdMapping>,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// How many; at least 1.
    pub size: u32,
}

impl IdMapping {
    /// The id outside for one inside; `None` for one that no range has.
    #[must_use]
    pub fn host_id_of(id: u32, map: &[IdMapping]) -> Option<u32> {
        map.iter().find_map(|range| {
            let offset = id.checked_sub(range.container_id).filter(|offset| *offset < range.size)?;
            range.host_id.checked_add(offset)
        })
    }
}

/// Hooks by point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hooks {
    /// Deprecated; host side, before `createRuntime`.
    pub prestart: Vec<Hook>,
    /// Host side, after the namespaces exist and before the root is changed.
    pub create_runtime: Vec<Hook>,
    /// Container namespaces, host paths, before the root is changed.
    pub create_container: Vec<Hook>,
    /// Inside the container, at `start`.
    pub start_container: Vec<Hook>,
    /// Host side, after the process has started.
    pub poststart: Vec<Hook>,
    /// Host side, after the container is deleted.
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Absolute path of the executable.
    pub path: String,
    /// Argument vector with `argv[0]`; empty means the path alone.
    pub args: Vec<String>,
    /// The hook's whole environment; nothing is inherited.
    pub env: Vec<String>,
    /// Seconds after which the hook is killed and counts as failed.
    pub timeout_s: Option<u32>,
}

/// A namespace to make (`path` is `None`) or to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// Which one.
    pub kind: NamespaceKind,
    /// File of the namespace to join; absolute.
    pub path: Option<String>,
}

/// The eight kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// CLONE_NEWUSER.
    User,
    /// CLONE_NEWPID.
    Pid,
    /// CLONE_NEWNET.
    Network,
    /// CLONE_NEWNS.
    Mount,
    /// CLONE_NEWIPC.
    Ipc,
    /// CLONE_NEWUTS.
    Uts,
    /// CLONE_NEWCGROUP.
    Cgroup,
    /// CLONE_NEWTIME.
    Time,
}

impl NamespaceKind {
    /// All kinds, in the order in which they are joined.
    pub const ALL: [NamespaceKind; 8] = [
        NamespaceKind::User,
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Mount,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
        NamespaceKind::Time,
    ];

    /// The CLONE_NEW* flag.
    #[must_use]
    pub const fn clone_flag(self) -> u64 {
        match self {
            NamespaceKind::User => 0x1000_0000,
            NamespaceKind::Pid => 0x2000_0000,
            NamespaceKind::Network => 0x4000_0000,
            NamespaceKind::Mount => 0x0002_0000,
            NamespaceKind::Ipc => 0x0800_0000,
            NamespaceKind::Uts => 0x0400_0000,
            NamespaceKind::Cgroup => 0x0200_0000,
            NamespaceKind::Time => 0x0000_0080,
        }
    }

    /// The name in `config.json`.
    #[must_use]
    pub const fn oci_name(self) -> &'static str {
        match self {
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "network",
            NamespaceKind::Mount => "mount",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        }
    }

    /// The name under `/proc/PID/ns`.
    #[must_use]
    pub const fn proc_name(self) -> &'static str {
        match self {
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        }
    }
}

impl ContainerSpec {
    /// Whether its root could change the limits of its own v1 groups: a whole system that shares the host's user namespace. Its
    /// processes are in groups below those that have the limits then.
    #[must_use]
    pub fn guest_is_below(&self) -> bool {
        self.guest_cgroups.is_some() && self.namespace(NamespaceKind::User).is_none()
    }

    /// The entry for a kind of namespace, if the definition has one.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.kind == kind)
    }

    /// Whether a namespace of this kind is made new.
    #[must_use]
    pub fn makes(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some_and(|n| n.path.is_none())
    }
}

/// Offset of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeOffset {
    /// CLOCK_MONOTONIC (1) or CLOCK_BOOTTIME (7).
    pub clock: TimeClock,
    /// Whole seconds.
    pub secs: i64,
    /// 0..=999_999_999.
    pub nanosecs: u32,
}

/// Clocks that a time namespace shifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeClock {
    /// CLOCK_MONOTONIC.
    Monotonic,
    /// CLOCK_BOOTTIME.
    Boottime,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Absolute path inside the container.
    pub path: String,
    /// Kind of node.
    pub kind: DeviceKind,
    /// Major number; 0 for a FIFO.
    pub major: u32,
    /// Minor number; 0 for a FIFO.
    pub minor: u32,
    /// Permission bits; `None` means 0o666.
    pub mode: Option<u32>,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// Kinds of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// `c` or `u`.
    Char,
    /// `b`.
    Block,
    /// `p`.
    Fifo,
}

/// A host network device to move into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetDevice {
    /// Name on the host.
    pub host_name: String,
    /// Name inside; the same when the definition is silent.
    pub name: String,
}

/// A number that may be unlimited (-1 in the definition).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// No limit.
    Max,
    /// This much.
    Value(u64),
}

/// `linux.resources`. `None` everywhere means "leave as it is".
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Device access rules, in order; later rules win.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: MemoryLimits,
    /// CPU time and CPU sets.
    pub cpu: CpuLimits,
    /// Number of tasks. 0 is passed on as it is.
    pub pids: Option<Limit>,
    /// Block I/O.
    pub block_io: BlockIo,
    /// Huge pages, by size such as `2MB`.
    pub hugepages: Vec<HugepageLimit>,
    /// Network class and priorities (v1).
    pub network: NetworkLimits,
    /// RDMA handles and objects, by device.
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// v2 files and values, written as they are. Keys have no slash.
    pub unified: BTreeMap<String, String>,
}

/// One device access rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `None` is both kinds (`a`).
    pub kind: Option<DeviceRuleKind>,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be made with mknod.
    pub mknod: bool,
}

/// Kinds of device in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRuleKind {
    /// `c`.
    Char,
    /// `b`.
    Block,
}

/// `linux.resources.memory`. Sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryLimits {
    /// Hard limit.
    pub limit: Option<Limit>,
    /// Soft limit.
    pub reservation: Option<Limit>,
    /// Memory plus swap.
    pub swap: Option<Limit>,
    /// Kernel memory (ignored by kernels since 5.4).
    pub kernel: Option<Limit>,
    /// TCP buffers.
    pub kernel_tcp: Option<Limit>,
    /// 0..=100.
    pub swappiness: Option<u64>,
    /// Whether the OOM killer stays away (v1).
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting (v1; always on in v2).
    pub use_hierarchy: Option<bool>,
    /// Whether an update to below the usage is refused.
    pub check_before_update: bool,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuLimits {
    /// Relative weight, 2..=262144; 0 is as if silent.
    pub shares: Option<u64>,
    /// Microseconds of CPU time per period; [`Limit::Max`] for negative numbers.
    pub quota_us: Option<Limit>,
    /// Microseconds.
    pub period_us: Option<u64>,
    /// Microseconds that may be saved up.
    pub burst_us: Option<u64>,
    /// Microseconds of realtime scheduling per period (v1).
    pub realtime_runtime_us: Option<i64>,
    /// Microseconds (v1).
    pub realtime_period_us: Option<u64>,
    /// CPU list such as `0-3,7`.
    pub cpus: Option<String>,
    /// Memory node list.
    pub mems: Option<String>,
    /// 0 or 1: SCHED_IDLE for the whole group.
    pub idle: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockIo {
    /// 10..=1000; 0 is as if silent.
    pub weight: Option<u16>,
    /// 10..=1000.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second.
    pub throttle_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second.
    pub throttle_write_bps: Vec<ThrottleDevice>,
    /// Operations per second.
    pub throttle_read_iops: Vec<ThrottleDevice>,
    /// Operations per second.
    pub throttle_write_iops: Vec<ThrottleDevice>,
}

/// I/O weight of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10..=1000.
    pub weight: Option<u16>,
    /// 10..=1000.
    pub leaf_weight: Option<u16>,
}

/// I/O rate of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second; 0 removes the limit.
    pub rate: u64,
}

/// Limit of one huge page size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugepageLimit {
    /// Such as `2MB` or `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// `linux.resources.network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetworkLimits {
    /// Class of net_cls.
    pub class_id: Option<u32>,
    /// Priority by interface name.
    pub priorities: Vec<(String, u32)>,
}

/// Limit of one RDMA device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RdmaLimit {
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
}

/// `linux.seccomp`. Names of system calls stay names: which numbers they have is the compiler's matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seccomp {
    /// What happens to calls that no rule names.
    pub default_action: SeccompAction,
    /// Architectures besides the native one, by SCMP_ARCH_ name without the prefix, lower case (`x86_64`, `x32`).
    pub architectures: Vec<String>,
    /// SECCOMP_FILTER_FLAG_ bits (TSYNC 1, LOG 2, SPEC_ALLOW 4, WAIT_KILLABLE_RECV 32). The engine adds NEW_LISTENER.
    pub flags: u64,
    /// Rules in order.
    pub rules: Vec<SeccompRule>,
    /// Unix socket that gets the notification fd. Required when a rule notifies.
    pub listener_path: Option<String>,
    /// Opaque text sent along with it.
    pub listener_metadata: Option<String>,
}

/// What a filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompAction {
    /// SCMP_ACT_KILL_PROCESS.
    KillProcess,
    /// SCMP_ACT_KILL_THREAD and SCMP_ACT_KILL.
    KillThread,
    /// SCMP_ACT_TRAP.
    Trap,
    /// SCMP_ACT_ERRNO with the number.
    Errno(u16),
    /// SCMP_ACT_TRACE with the number for the tracer.
    Trace(u16),
    /// SCMP_ACT_LOG.
    Log,
    /// SCMP_ACT_ALLOW.
    Allow,
    /// SCMP_ACT_NOTIFY.
    Notify,
}

/// One rule: any of the names, all of the arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeccompRule {
    /// System call names; unknown ones have no effect.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// Conditions; all must hold, but several on one argument index are alternatives, as in runc.
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SeccompArg {
    /// 0..=5.
    pub index: u8,
    /// The value, or the mask of [`SeccompOp::MaskedEq`].
    pub value: u64,
    /// The value that the masked argument is compared with.
    pub value_two: u64,
    /// Comparison.
    pub op: SeccompOp,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompOp {
    /// Not equal.
    Ne,
    /// Less than.
    Lt,
    /// Less or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Greater than.
    Gt,
    /// `(arg & value) == value_two`.
    MaskedEq,
}

/// `linux.personality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Personality {
    /// PER_LINUX 0 or PER_LINUX32 8.
    pub domain: u64,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// Class of service; `None` is the container id.
    pub clos_id: Option<String>,
    /// Schemata lines, one per entry.
    pub schemata: Vec<String>,
    /// Level 3 cache schema.
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema.
    pub mem_bw_schema: Option<String>,
    /// Whether a monitoring group is made.
    pub enable_monitoring: bool,
}

/// `linux.memoryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// MPOL_ mode number (DEFAULT 0, PREFERRED 1, BIND 2, INTERLEAVE 3, LOCAL 4, PREFERRED_MANY 5,
    /// WEIGHTED_INTERLEAVE 6).
    pub mode: u32,
    /// MPOL_F_ flag bits.
    pub flags: u32,
    /// Node numbers, sorted.
    pub nodes: Vec<u32>,
}
