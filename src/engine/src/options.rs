//! What the caller of an operation asks for, besides the definition.

use std::os::fd::OwnedFd;

use serde::Serialize;

/// Options of `create` and `run`.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system, without symbolic links.
    pub rootfs: String,
    /// Socket that gets the master of the terminal.
    pub console_socket: Option<String>,
    /// Socket that gets the pidfd of the first process.
    pub pidfd_socket: Option<String>,
    /// File that gets the pid.
    pub pid_file: Option<String>,
    /// MS_MOVE in the place of `pivot_root`.
    pub no_pivot: bool,
    /// Whether the caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// How many descriptors above 2 stay open.
    pub preserve_fds: u32,
    /// Descriptors of socket activation: how many of the preserved ones are LISTEN_FDS.
    pub listen_fds: u32,
    /// Where the caller's supervisor waits to hear that the program is ready.
    pub notify: Option<Notify>,
    /// Network links to make.
    pub links: Vec<network::LinkSpec>,
    /// Whether cgroups are left alone (`--cgroup-manager=disabled`).
    pub no_cgroups: bool,
    /// Whether cgroups that may not be written are done without; `None` lets the caller's rights decide.
    pub rootless_cgroups: Option<bool>,
    /// The programs that map ids for those who may not.
    pub id_map_helpers: IdMapHelpers,
    /// The service manager that makes the group; `None` where the runtime makes it itself.
    pub systemd: Option<SystemdOptions>,
    /// Whether the start comes through the state folder (`create`) or from the very process that creates (`run`).
    pub start_by_other: bool,
}

/// Absolute paths of the set-user-id programs of the shadow suite; `None` where they are not installed.
#[derive(Debug, Clone, Default)]
pub struct IdMapHelpers {
    /// newuidmap(1).
    pub newuidmap: Option<String>,
    /// newgidmap(1).
    pub newgidmap: Option<String>,
}

/// The two ends of a notification (sd_notify(3)).
#[derive(Debug, Clone)]
pub struct Notify {
    /// The supervisor's socket: an absolute path, or an abstract name after `@`.
    pub socket: String,
    /// The folder that is mounted into the container: `notify` below its state folder.
    pub folder: String,
}

/// Which service manager makes a container's group.
#[derive(Debug, Clone, Default)]
pub struct SystemdOptions {
    /// Ways to it, the best first.
    pub endpoints: Vec<systemd::Endpoint>,
    /// Whether it is that of a user rather than that of the machine.
    pub user: bool,
}

/// What CRIU does with cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupsMode {
    /// CRIU's own choice, which is [`CgroupsMode::Soft`].
    #[default]
    Default,
    /// Groups that CRIU itself makes get the limits that they had.
    Soft,
    /// All groups get the limits that they had.
    Full,
    /// As [`CgroupsMode::Full`], and no group may exist already.
    Strict,
    /// Processes stay in the groups that the engine made.
    Ignore,
}

/// How CRIU keeps the network still while connections are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkLock {
    /// Rules of iptables.
    Iptables,
    /// Rules of nftables.
    Nftables,
    /// Not at all.
    Skip,
}

/// What `checkpoint` and `restore` have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CriuOptions {
    /// Absolute path of criu(8); `None` where it is not installed.
    pub program: Option<String>,
    /// Folder of the images.
    pub images: String,
    /// Folder of the log and of CRIU's sockets; `None` is that of the images.
    pub work: Option<String>,
    /// Whether established TCP connections are kept.
    pub tcp_established: bool,
    /// Whether one end of a connected unix socket may be outside.
    pub external_unix_sockets: bool,
    /// Whether the container's session and terminal may be the caller's.
    pub shell_job: bool,
    /// Whether file locks are kept.
    pub file_locks: bool,
    /// Whether memory is punched out of older images when newer ones have it.
    pub auto_dedup: bool,
    /// Whether memory is brought when it is touched.
    pub lazy_pages: bool,
    /// What happens to cgroups.
    pub cgroups: CgroupsMode,
    /// How the network is kept still; `None` is CRIU's own choice.
    pub network_lock: Option<NetworkLock>,
}

/// Options of `checkpoint`.
#[derive(Debug, Default)]
pub struct CheckpointOptions {
    /// What `restore` has too.
    pub criu: CriuOptions,
    /// Folder of older images, relative to that of the images.
    pub parent: Option<String>,
    /// Whether only memory is saved and the container goes on.
    pub pre_dump: bool,
    /// Whether the container goes on.
    pub leave_running: bool,
    /// Whether connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Whether files without a name get one again.
    pub link_remap: bool,
    /// Where memory goes: address and port.
    pub page_server: Option<(String, u16)>,
    /// Gets a zero byte once lazy pages can be fetched.
    pub status_fd: Option<OwnedFd>,
}

/// Options of `restore`, besides those of `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestoreOptions {
    /// What `checkpoint` has too.
    pub criu: CriuOptions,
    /// Whether connections are restored as closed ones.
    pub tcp_close: bool,
    /// LSM label in the place of the images', `TYPE:NAME`; `None` takes the definition's where it has one.
    pub lsm_profile: Option<String>,
    /// SELinux label of mounts in the place of the images'.
    pub lsm_mount_context: Option<String>,
}

/// Options of `exec`.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Socket that gets the master of the terminal.
    pub console_socket: Option<String>,
    /// Socket that gets the pidfd.
    pub pidfd_socket: Option<String>,
    /// File that gets the pid.
    pub pid_file: Option<String>,
    /// How many descriptors above 2 stay open.
    pub preserve_fds: u32,
    /// Whether to return as soon as the process runs.
    pub detach: bool,
    /// Whether a frozen container is no reason to refuse.
    pub ignore_paused: bool,
    /// Sub-groups to join in the place of the container's own.
    pub cgroups: Vec<cgroup::SubGroup>,
}
