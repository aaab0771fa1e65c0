//! The vocabulary of a plan: everything that is done to make a container, as data.
//!
//! A plan is two lists. The host side performs [`HostStep`]s, the container's first process performs [`ChildStep`]s; both
//! meet at the gates. Steps hold values that were decided before; performing one means doing what it says or failing.
//! Descriptors that the host opens for the child have a slot, the index of a table that both sides know.

use cgroup::FileWrite;
use cgroup::group::Below;
use runtime_spec::guest_cgroups::GuestCgroups;
use runtime_spec::landlock::Landlock;
use runtime_spec::model::{
    Capabilities, ConsoleSize, Device, Hook, IdMapping, IntelRdt, IoPriority, MemoryPolicy, MountAttr, NamespaceKind,
    NetDevice, PropagationKind, Rlimit, Scheduler, SuperFlags, TimeOffset, User,
};
use runtime_spec::overlay::Overlay;
use runtime_spec::ttys::Ttys;
use serde::Serialize;

use crate::gate::Gate;
use crate::options::RestoreOptions;

/// Index of a descriptor that the host opens and the child uses.
pub type Slot = usize;

/// A step with the place of the definition that asks for it.
#[derive(Debug, Clone, Serialize)]
pub struct Planned<S> {
    /// What is done.
    #[serde(flatten)]
    pub step: S,
    /// JSON pointer into `config.json`; `None` where the runtime itself wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What the host side does, in order.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum HostStep {
    /// Makes the container's group in each hierarchy and opens what the child needs to join them.
    MakeCgroups {
        /// What happens in the unified hierarchy below a group that has processes of its own.
        below: Below,
    },
    /// Writes what an attach needs: CPU sets, realtime budget, network class.
    WriteEarlyLimits {
        /// Files and values.
        writes: Vec<FileWrite>,
    },
    /// Makes v1 groups below the container's for a guest whose root could change limits, and opens what it needs to join them.
    MakeGuestCgroups,
    /// Opens a folder of the root file system.
    OpenRootfs {
        /// Absolute path.
        path: String,
        /// Where it goes.
        slot: Slot,
        /// Whether a detached copy of its mounts is taken; else the folder itself.
        detached: bool,
    },
    /// Opens the root of the container's first process.
    OpenContainerRoot {
        /// Where it goes.
        slot: Slot,
    },
    /// Opens a namespace to join.
    OpenNamespace {
        /// Kind; the file is checked to be one.
        kind: NamespaceKind,
        /// Absolute path.
        path: String,
        /// Whether the runtime's own namespace and that of the host's first process are refused: what is going to be set
        /// in it (kernel parameters, names, the root) would be the host's.
        not_own: bool,
        /// Where it goes.
        slot: Slot,
    },
    /// Takes a detached copy of a mount or folder of the host.
    OpenSource(Source),
    /// Takes a copy of the host's node of a device, which has to be that device.
    OpenDevice {
        /// Path on the host, type and numbers.
        device: Device,
        /// Where it goes.
        slot: Slot,
    },
    /// Makes device nodes on a file system of their own that nobody else sees, and takes a copy of each.
    MakeNodes {
        /// Nodes with the ids of their owners on the host, and where they go.
        nodes: Vec<(Device, Slot)>,
        /// SELinux label of that file system, as its mount option.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Makes the folder for the socket of sd_notify(3), in the state folder.
    MakeNotifyFolder {
        /// Absolute path.
        path: String,
    },
    /// Connects to the socket that gets the master of the terminal, or makes a pair for the caller's own terminal.
    OpenConsole {
        /// The socket; `None` for the caller's own terminal.
        socket: Option<String>,
        /// Where it goes.
        slot: Slot,
    },
    /// Clones the container's first process (or its launcher).
    Spawn {
        /// CLONE_NEW* of the clone.
        namespaces: Vec<NamespaceKind>,
        /// Whether the clone begins in the unified group.
        into_cgroup: bool,
        /// What a short-lived process does before the clone, where the clone alone cannot.
        #[serde(skip_serializing_if = "Option::is_none")]
        launcher: Option<Launcher>,
        /// Pid namespace that the child is born in.
        #[serde(skip_serializing_if = "Option::is_none")]
        pid_namespace: Option<Slot>,
    },
    /// Makes and starts the unit with the container's process in it, and waits until that is done.
    StartUnit {
        /// `prefix-name.scope`, or a slice.
        unit: String,
        /// What it is told besides the process.
        properties: Vec<systemd::Property>,
    },
    /// Opens the groups that the service manager made for the unit, and makes those that it does not know.
    AdoptCgroups,
    /// Has the service manager move the process into a unit that runs.
    AttachToUnit {
        /// The unit.
        unit: String,
    },
    /// Tells the service manager the limits, so that it writes the same ones that are then written here.
    SetUnitProperties {
        /// The unit.
        unit: String,
        /// The limits that it has a word for.
        properties: Vec<systemd::Property>,
    },
    /// Writes the id mappings of the new user namespace.
    MapIds(IdMaps),
    /// Sets resource limits of the process; from outside, since inside a user namespace none can be raised. The number of
    /// open files is not lowered yet, see [`ChildStep::LimitFiles`].
    SetRlimits {
        /// Each kind once.
        rlimits: Vec<Rlimit>,
    },
    /// Writes `/proc/PID/oom_score_adj`.
    SetOomScoreAdj {
        /// -1000..=1000.
        value: i32,
    },
    /// Makes a detached mount follow an id mapping.
    IdmapSource {
        /// Which one.
        slot: Slot,
        /// Whether the child takes the copy and hands it over, at its turn; it goes on when this is done.
        of_child: bool,
        /// Whether mounts below follow too.
        recursive: bool,
        /// Empty means the container's own.
        uids: Vec<IdMapping>,
        /// Empty means the container's own.
        gids: Vec<IdMapping>,
    },
    /// Mounts the layers of the root file system, attached nowhere.
    MountOverlay(Box<OverlayRoot>),
    /// Moves a network device into the container.
    MoveNetDevice {
        /// Which one and its name inside.
        device: NetDevice,
    },
    /// Makes a network link of the container.
    MakeLink {
        /// What it is.
        link: Box<network::LinkSpec>,
        /// What it has on the host.
        record: network::LinkRecord,
    },
    /// Brings `lo` up in the network namespace of the process.
    BringLoopbackUp,
    /// Makes the pair of sockets over which CRIU is spoken to.
    OpenRpc {
        /// CRIU's end.
        slot: Slot,
    },
    /// Lets CRIU restore the images. What it restores takes its place as the container's first process.
    RestoreImages(Box<RestoreImages>),
    /// Puts the process into a resctrl group.
    JoinResctrl {
        /// The settings.
        rdt: IntelRdt,
    },
    /// Waits until the child stands at a gate.
    AwaitGate {
        /// Which one.
        gate: Gate,
    },
    /// Lets the child pass.
    OpenGate {
        /// Which one.
        gate: Gate,
        /// Descriptors that go along.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        slots: Vec<Slot>,
    },
    /// Writes device rules, then all other limits.
    WriteLimits {
        /// Files and values.
        writes: Vec<FileWrite>,
    },
    /// Loads and attaches our device program (unified hierarchy).
    AttachDeviceProgram {
        /// Instructions.
        instructions: usize,
    },
    /// Gives the group of the unified hierarchy to the user that the process runs as, so that it can make groups below.
    DelegateCgroup {
        /// As the host numbers it.
        uid: u32,
        /// Whether those of v1 go with it.
        which: GuestCgroups,
    },
    /// CPU scheduling policy of the process.
    SetScheduler {
        /// Arguments.
        scheduler: Scheduler,
    },
    /// I/O priority of the process.
    SetIoPriority {
        /// Class and level.
        priority: IoPriority,
    },
    /// CPU affinity of the process.
    SetAffinity {
        /// CPUs by number.
        cpus: Vec<u32>,
    },
    /// Takes the caller's CPU affinity from the process: every CPU of its cpuset.
    ResetAffinity,
    /// Runs hooks in the runtime's namespaces.
    RunHooks {
        /// Hook point.
        point: HookPoint,
        /// In order.
        hooks: Vec<Hook>,
    },
    /// Sends the notification descriptor to the seccomp agent.
    SendSeccompNotify {
        /// Its socket.
        listener: String,
        /// Text that goes along.
        metadata: Option<String>,
    },
    /// Sends the pidfd of the process to a socket.
    SendPidfd {
        /// The socket.
        socket: String,
    },
    /// Writes the pid file, by rename.
    WritePidFile {
        /// Path.
        path: String,
    },
    /// Records the container as created.
    RecordCreated,
}

/// The mappings of a new user namespace, and who writes them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
    /// Path of newuidmap(1), where the runtime itself may not write the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newuidmap: Option<String>,
    /// Path of newgidmap(1), where the runtime itself may not write the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newgidmap: Option<String>,
    /// Whether `setgroups(2)` is switched off first: the kernel's condition for whoever maps its own group without a right.
    pub deny_setgroups: bool,
}

/// A detached copy of something of the host, or of what the container has mounted so far.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// Absolute path.
    pub path: String,
    /// What the path begins at.
    pub within: Within,
    /// With all mounts below.
    pub recursive: bool,
    /// Whether a symbolic link in the last place is taken itself.
    pub nofollow: bool,
    /// Whether a symbolic link in the last place is to become a link inside, not a mount.
    pub copy_symlink: bool,
    /// Propagation that the copy gets at once, so that it is no peer of the host's mount; `None` leaves it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<PropagationKind>,
    /// Where it goes.
    pub slot: Slot,
}

/// Roots of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// The host's.
    Host,
    /// The container's: links are followed inside it and never lead out.
    Container,
}

/// A root file system of layers.
#[derive(Debug, Clone, Serialize)]
pub struct OverlayRoot {
    /// The layers.
    #[serde(flatten)]
    pub layers: Overlay,
    /// Host ids of the container's root, user and group, where the layers follow its user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// SELinux label of every file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Where the mount goes. It may be made while other steps are performed: the gate that it goes through waits for it.
    pub slot: Slot,
    /// Where a second copy of it goes, which is waited for at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Slot>,
}

/// What CRIU restores, and into what.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreImages {
    /// What the caller asks for.
    pub options: RestoreOptions,
    /// Our end of CRIU's socket is on the host side; this is CRIU's, closed here once CRIU has it.
    pub rpc: Slot,
    /// Where the root file system is mounted for CRIU.
    pub root: String,
    /// Where it is for everybody else.
    pub rootfs: String,
    /// Mounts of things of the host.
    pub mounts: Vec<ExternalMount>,
    /// Namespaces that are handed to CRIU by descriptor.
    pub inherited: Vec<(NamespaceKind, Slot)>,
    /// Namespaces that CRIU joins by path.
    pub joined: Vec<(NamespaceKind, String)>,
    /// File of further options for CRIU.
    pub config_file: Option<String>,
    /// LSM label in the place of the images'.
    pub lsm_profile: Option<String>,
    /// Socket that gets the master of the terminal.
    pub console: Option<Slot>,
    /// What is done once the namespaces are there, before anything runs in them.
    pub inside: Vec<Planned<HostStep>>,
}

/// A mount in the container of something outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalMount {
    /// Absolute path inside, as the definition writes it.
    pub destination: String,
    /// Absolute path on the host.
    pub source: String,
}

/// What a launcher does.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Launcher {
    /// User namespace to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<Slot>,
    /// Mappings that the joined user namespace must have, where the definition gives some: users, groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_maps: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
    /// The mappings of the user namespace that it makes, for which it waits; `None` where it makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_user_namespace: Option<IdMaps>,
    /// Other namespaces to join, before the user namespace where the rights suffice, else after.
    pub join: Vec<(NamespaceKind, Slot)>,
    /// Clock offsets of a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// Whether a time namespace is made.
    pub new_time_namespace: bool,
    /// Whether it closes itself to tracers before it enters anything. One whose ids an ordinary user maps cannot yet.
    pub hides_first: bool,
    /// What it sets on itself for the process that it makes: once closed to tracers, an ordinary user may not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// Hook points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HookPoint {
    /// `prestart`
    Prestart,
    /// `createRuntime`
    CreateRuntime,
    /// `createContainer`
    CreateContainer,
    /// `startContainer`
    StartContainer,
    /// `poststart`
    Poststart,
    /// `poststop`
    Poststop,
}

impl HookPoint {
    /// The name in `config.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HookPoint::Prestart => "prestart",
            HookPoint::CreateRuntime => "createRuntime",
            HookPoint::CreateContainer => "createContainer",
            HookPoint::StartContainer => "startContainer",
            HookPoint::Poststart => "poststart",
            HookPoint::Poststop => "poststop",
        }
    }
}

/// What the container's first process (or the process of an exec) does, in order.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ChildStep {
    /// Closes the process to tracers: what lives in a namespace that it enters may not look into it.
    HideFromTracers,
    /// Opens the process to tracers again while it waits for its start, without the environment of the runtime.
    ShowToTracers,
    /// A new session, so that no signal of the caller's terminal reaches it.
    NewSession,
    /// Opens a folder of the root file system, where the host side may not copy mounts.
    OpenRootfs {
        /// Absolute path.
        path: String,
        /// Where it goes.
        slot: Slot,
    },
    /// Takes a detached copy of a source: before anything is mounted where the host side may not, or at its turn.
    OpenSource(Source),
    /// Takes a copy of the host's node of a device, which has to be that device, where the host side may not.
    OpenDevice {
        /// Path on the host, type and numbers.
        device: Device,
        /// Where it goes.
        slot: Slot,
    },
    /// The mask of file modes.
    SetUmask {
        /// Bits that new files do not get.
        mask: u32,
    },
    /// Joins namespaces by descriptor, in order.
    JoinNamespaces {
        /// Kinds and their slots.
        list: Vec<(NamespaceKind, Slot)>,
    },
    /// Joins all of these namespaces of the container's first process at once.
    JoinContainer {
        /// Kinds.
        kinds: Vec<NamespaceKind>,
        /// That process.
        slot: Slot,
        /// Its root, where no mount namespace brings it along.
        #[serde(skip_serializing_if = "Option::is_none")]
        root: Option<Slot>,
    },
    /// Stands at a gate until it opens.
    PassGate {
        /// Which one.
        gate: Gate,
        /// Slots of the descriptors that come along.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        slots: Vec<Slot>,
    },
    /// Writes `0` to each group's `tasks` file, through descriptors that the host opened.
    JoinCgroups,
    /// A cgroup namespace whose root is the groups that were joined.
    UnshareCgroup,
    /// Becomes the user and group of the user namespace that make files and folders in it, and leaves the caller's groups as
    /// [`ChildStep::LeaveGroups`] does.
    BecomeNamespaceRoot {
        /// 0 where it is mapped, else the process's.
        uid: u32,
        /// 0 where it is mapped, else the process's.
        gid: u32,
    },
    /// A session keyring of its own, by name.
    JoinKeyring {
        /// `_ses.` and the container's id.
        name: String,
        /// Whether it may exist already (exec).
        existing: bool,
        /// SELinux label of keys that are made.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Brings `lo` up.
    LoopbackUp,
    /// Propagation of the whole tree that was inherited.
    SetRootPropagation {
        /// Type.
        kind: PropagationKind,
        /// Whether all below follow.
        recursive: bool,
    },
    /// Mounts the root file system where it lies, as `pivot_root` wants it.
    AttachRootfs {
        /// Where it lies.
        path: String,
        /// The copy of its mount.
        slot: Slot,
        /// Propagation of what was inherited. Under a shared one the root file system is private until it is the root:
        /// `pivot_root` takes no shared mounts.
        propagation: PropagationKind,
        /// Whether the mount that it lies on may be shared, and is made private first.
        private_parent: bool,
    },
    /// Mounts a new file system.
    MountFilesystem(FilesystemMount),
    /// Hands a copy to the host side and waits until its ids are mapped.
    HandOverSource {
        /// Which one.
        slot: Slot,
    },
    /// Mounts a copy of something.
    MountBind(BindMount),
    /// Mounts the view of the container's own groups.
    MountCgroups(CgroupMount),
    /// Changes an existing mount.
    Remount {
        /// Absolute path inside.
        destination: String,
        /// Attributes to set.
        set: MountAttr,
        /// Attributes to clear.
        clear: MountAttr,
        /// Super block flags to set, unless it is the mount alone that changes.
        super_set: SuperFlags,
        /// Super block flags to clear.
        super_clear: SuperFlags,
        /// Options of the file system.
        data: Vec<String>,
    },
    /// Makes what a mount is mounted on, where it is not there, and mounts nothing.
    MakeMountPoint {
        /// Absolute path inside; a folder.
        destination: String,
    },
    /// Takes the mounts at a path away, and all below them.
    DetachMounts {
        /// Absolute path, outside.
        path: String,
    },
    /// Opens the folders of the images and of the log; they go to the host side at the next gate.
    OpenFolders {
        /// Absolute path of the images.
        images: String,
        /// Absolute path of the log's folder, where it is another.
        work: Option<String>,
    },
    /// Becomes CRIU, with the socket and some other descriptors open.
    BecomeCriu {
        /// Its absolute path.
        program: String,
        /// The socket.
        slot: Slot,
        /// The others.
        keep: Vec<Slot>,
    },
    /// Makes a device node.
    MakeDevice {
        /// Which.
        device: Device,
        /// The host's node to bind where none can be made.
        #[serde(skip_serializing_if = "Option::is_none")]
        bind: Option<Slot>,
    },
    /// The links that every `/dev` has: fd, stdin, stdout, stderr, core, ptmx.
    MakeDeviceLinks,
    /// Runs hooks inside the container's namespaces.
    RunHooks {
        /// Hook point.
        point: HookPoint,
        /// In order.
        hooks: Vec<Hook>,
    },
    /// Makes the root file system the root.
    ChangeRoot {
        /// How.
        how: ChangeRoot,
    },
    /// UTS host name.
    SetHostname {
        /// The name.
        name: String,
    },
    /// UTS domain name.
    SetDomainname {
        /// The name.
        name: String,
    },
    /// Makes the pseudo terminal, mounts it on `/dev/console` and sends the master away.
    MakeTerminal {
        /// Its size.
        size: Option<ConsoleSize>,
        /// Socket that gets the master.
        slot: Slot,
        /// The host's multiplexer, for a root without one.
        #[serde(skip_serializing_if = "Option::is_none")]
        multiplexer: Option<Slot>,
        /// Whether `/dev/console` is made.
        console: bool,
        /// Terminals besides.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttys: Option<Ttys>,
    },
    /// Makes a mount read-only (or what else was put off until it was filled).
    SetMountAttributes {
        /// Absolute path inside.
        destination: String,
        /// Attributes to set.
        set: MountAttr,
    },
    /// Puts the container's `/dev/null` into the place of standard streams that are the host's.
    ReopenNull,
    /// Writes kernel parameters.
    WriteSysctls {
        /// Paths under `/proc/sys` and values.
        values: Vec<(String, String)>,
    },
    /// Hides paths.
    MaskPaths {
        /// Absolute.
        paths: Vec<String>,
        /// SELinux label of the tmpfs, as its mount option.
        label: Option<String>,
    },
    /// Makes paths read-only.
    ProtectPaths {
        /// Absolute.
        paths: Vec<String>,
    },
    /// Makes the working folder if it is not there.
    MakeWorkingFolder {
        /// Absolute.
        path: String,
    },
    /// `personality(2)`.
    SetPersonality {
        /// Execution domain.
        domain: u64,
    },
    /// `set_mempolicy(2)`.
    SetMemoryPolicy {
        /// Policy.
        policy: MemoryPolicy,
    },
    /// Writes the LSM label for the coming exec.
    SetLsmLabel {
        /// Which module.
        lsm: Lsm,
        /// Profile or label.
        label: String,
        /// Whether it adds to the label that the runtime has itself (AppArmor), and does not replace it.
        stacked: bool,
    },
    /// Becomes the user: bounding set, groups, ids, and keeps what capabilities are still needed.
    BecomeUser {
        /// Credentials.
        user: User,
        /// The five sets.
        capabilities: Capabilities,
        /// Whether CAP_SYS_ADMIN stays until [`ChildStep::SetCapabilities`], for the filter or Landlock.
        keep_for_seccomp: bool,
    },
    /// Finds the program and checks that it can be executed.
    FindProgram {
        /// `args[0]`.
        name: String,
        /// `PATH` of the environment.
        path: Option<String>,
    },
    /// Changes to the working folder and checks that it is inside.
    ChangeFolder {
        /// Absolute. Where root of the container may not enter it, the user tries again.
        path: String,
    },
    /// `PR_SET_NO_NEW_PRIVS`.
    SetNoNewPrivs,
    /// Leaves the caller's supplementary groups, unless the user namespace denies that for good.
    LeaveGroups,
    /// Closes every descriptor above the kept ones, but those that the start needs, which close at the exec.
    CloseDescriptors {
        /// How many above 2 stay open.
        keep: u32,
    },
    /// The final limits of open files, once what was opened for the making is closed.
    LimitFiles {
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Makes a Landlock rule set and opens the paths of its rules.
    MakeLandlockRuleset {
        /// What this kernel can enforce of the definition.
        rules: Box<Landlock>,
    },
    /// Enforces the rule set.
    RestrictByLandlock,
    /// Loads the filter.
    LoadSeccomp {
        /// Number of BPF instructions.
        instructions: usize,
        /// SECCOMP_FILTER_FLAG_*.
        flags: u64,
        /// Whether a notification descriptor comes back.
        notify: bool,
    },
    /// The final capability sets.
    SetCapabilities {
        /// The five sets.
        capabilities: Capabilities,
    },
    /// Waits for `start`.
    AwaitStart,
    /// Executes the program. An error is reported to whoever started it.
    Execute {
        /// Argument vector.
        args: Vec<String>,
        /// Environment; HOME is added where it is missing.
        env: Vec<String>,
    },
}

/// Security modules that take a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lsm {
    /// AppArmor.
    Apparmor,
    /// SELinux.
    Selinux,
}

/// Ways to change the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeRoot {
    /// `pivot_root(2)`.
    Pivot,
    /// MS_MOVE and chroot (`--no-pivot`), for a runtime in an initial ramdisk.
    Move,
    /// chroot alone, for a container without a mount namespace of its own.
    Chroot,
}

/// A new file system.
#[derive(Debug, Clone, Serialize)]
pub struct FilesystemMount {
    /// Absolute path inside.
    pub destination: String,
    /// Type.
    pub fstype: String,
    /// Source as the file system knows it.
    pub source: String,
    /// Attributes of the mount.
    pub attributes: MountAttr,
    /// Attributes to set on all below as well.
    pub recursive: MountAttr,
    /// Super block flags.
    pub super_flags: SuperFlags,
    /// Options of the file system.
    pub data: Vec<String>,
    /// Propagation, in order.
    pub propagation: Vec<(PropagationKind, bool)>,
    /// Whether what the mount covers is copied into it first.
    pub copy_up: bool,
    /// Whether a destination that is a symbolic link is refused.
    pub nofollow: bool,
    /// Whether it may be mounted on something of a procfs.
    pub on_proc: bool,
}

/// A mount of a copy.
#[derive(Debug, Clone, Serialize)]
pub struct BindMount {
    /// Absolute path inside.
    pub destination: String,
    /// The copy (a plain descriptor of the link, where the source is one and `copy-symlink` was given).
    pub slot: Slot,
    /// Attributes to set on the mount itself.
    pub set: MountAttr,
    /// Attributes to clear.
    pub clear: MountAttr,
    /// Attributes to set on all below.
    pub recursive_set: MountAttr,
    /// Attributes to clear on all below.
    pub recursive_clear: MountAttr,
    /// Propagation, in order.
    pub propagation: Vec<(PropagationKind, bool)>,
    /// Whether a destination that is a symbolic link is itself what is mounted on.
    pub nofollow: bool,
    /// Whether a destination with a symbolic link in it is refused.
    pub links_refused: bool,
    /// Whether it may be mounted on something of a procfs.
    pub on_proc: bool,
    /// Whether a source that is a symbolic link becomes a link.
    pub copy_symlink: bool,
}

/// The view of the container's own groups.
#[derive(Debug, Clone, Serialize)]
pub struct CgroupMount {
    /// Absolute path inside.
    pub destination: String,
    /// Attributes of every mount of it.
    pub attributes: MountAttr,
    /// Whether the unified hierarchy is the only one.
    pub unified_only: bool,
    /// Whether new mounts are made in the container's cgroup namespace; else copies of the host's folders are used.
    pub namespaced: bool,
    /// One per hierarchy.
    pub views: Vec<CgroupView>,
    /// Propagation, in order.
    pub propagation: Vec<(PropagationKind, bool)>,
}

/// One hierarchy in that view.
#[derive(Debug, Clone, Serialize)]
pub struct CgroupView {
    /// Folder name under the destination, such as `cpu,cpuacct`.
    pub name: String,
    /// Mount options of a new mount; empty for cgroup2.
    pub options: Vec<String>,
    /// Further names that link to it, such as `cpu`.
    pub links: Vec<String>,
    /// The copy of the host's folder, where the mount is not made new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}
