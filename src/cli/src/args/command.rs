//! What a command line asks for, as types.
//!
//! Paths are as they were typed; [`Caller::absolute`](crate::caller::Caller::absolute) makes them absolute.

use std::time::Duration;

use engine::options::{CgroupsMode, NetworkLock};

use super::verbs::Verb;
use runtime_spec::signal::Signal;

/// The name that the program answers to, from the last part of argv[0].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Its own name.
    Skep,
    /// Called as `runc`: version and messages say so.
    Runc,
}

impl Program {
    /// The program that a first argument names.
    #[must_use]
    pub fn called(argv0: &str) -> Program {
        match argv0.rsplit('/').next() {
            Some("runc") => Program::Runc,
            _ => Program::Skep,
        }
    }

    /// Whether an error may be told in several lines on a terminal. As `runc` it is told as runc does.
    #[must_use]
    pub fn speaks_to_people(self) -> bool {
        self == Program::Skep
    }

    /// How it calls itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Program::Skep => "skep",
            Program::Runc => "runc",
        }
    }
}

/// Options that hold for every command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The name that the program was called by.
    pub program: Program,
    /// Folder of the run-time state; `None` is the default one.
    pub root: Option<String>,
    /// Folder of definitions; `None` is the default one.
    pub data: Option<String>,
    /// Where messages go besides standard error.
    pub log: Option<LogTarget>,
    /// How messages look.
    pub log_format: LogFormat,
    /// Messages below this level are dropped.
    pub log_level: Level,
    /// Who makes cgroups.
    pub cgroup_manager: CgroupManager,
    /// Whether cgroups that may not be written are tolerated; `None` decides by the caller's privileges.
    pub rootless: Option<bool>,
    /// Where the times of phases and steps go.
    pub trace: Option<String>,
}

impl Global {
    /// The defaults.
    #[must_use]
    pub fn new(program: Program) -> Global {
        Global {
            program,
            root: None,
            data: None,
            log: None,
            log_format: LogFormat::Text,
            log_level: Level::Info,
            cgroup_manager: CgroupManager::Cgroupfs,
            rootless: None,
            trace: None,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Appended to this file.
    File(String),
    /// To the journal, under this identifier.
    Journald(String),
    /// To the system log, under this identifier.
    Syslog(String),
}

/// How messages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `time="..." level=error msg="..."`.
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

/// Weight of a message; a lower one is more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The command failed.
    Error,
    /// The command goes on, but somebody should know.
    Warning,
    /// Worth a line.
    Info,
    /// Each step.
    Debug,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupManager {
    /// This program, in the cgroup file systems.
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// Nobody.
    Disabled,
}

/// One command with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `create`.
    Create(CreateArgs),
    /// `start ID`.
    Start(String),
    /// `run`.
    Run(RunArgs),
    /// `exec`.
    Exec(Box<ExecArgs>),
    /// `state ID`.
    State(String),
    /// `kill`.
    Kill(KillArgs),
    /// `delete`.
    Delete(DeleteArgs),
    /// `list`.
    List(ListArgs),
    /// `ps`.
    Ps(PsArgs),
    /// `pause ID`.
    Pause(String),
    /// `resume ID`.
    Resume(String),
    /// `update`.
    Update(Box<UpdateArgs>),
    /// `inside`.
    Inside(InsideArgs),
    /// `events`.
    Events(EventsArgs),
    /// `checkpoint`.
    Checkpoint(Box<CheckpointArgs>),
    /// `restore`.
    Restore(Box<RestoreArgs>),
    /// `spec`.
    Spec(SpecArgs),
    /// `features`.
    Features(FeaturesArgs),
    /// `plan`.
    Plan(PlanArgs),
    /// `check`.
    Check(CheckArgs),
    /// A command of the program for defined containers, which reads the arguments itself.
    Managed,
    /// A tool of LXC's, whose program reads the arguments itself.
    Lxc,
    /// A verb for services: the supervisor's.
    Svc,
    /// `--version`.
    Version,
    /// `help`, `--help`, or nothing at all.
    Help(HelpArgs),
}

/// A bundle and how a container is made from it; common to `create`, `run` and `plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleArgs {
    /// Folder of the bundle; `None` is the current one.
    pub bundle: Option<String>,
    /// File to read instead of `config.json` in the bundle.
    pub config: Option<String>,
    /// Move the mount over `/` instead of `pivot_root`.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptions of veth links, in order.
    pub veth: Vec<String>,
    /// Descriptions of links of any kind, in order; they come after the veth links.
    pub link: Vec<String>,
}

/// Who is told about a new process; common to `create`, `run` and `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandoverArgs {
    /// AF_UNIX socket that receives the terminal.
    pub console_socket: Option<String>,
    /// AF_UNIX socket that receives a pidfd.
    pub pidfd_socket: Option<String>,
    /// File that receives the process id.
    pub pid_file: Option<String>,
    /// How many descriptors after those of LISTEN_FDS the process keeps.
    pub preserve_fds: u32,
}

/// Arguments of `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateArgs {
    /// Name of the new container.
    pub id: String,
    /// What it is made from.
    pub bundle: BundleArgs,
    /// Who is told.
    pub handover: HandoverArgs,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunArgs {
    /// What it shares with `create`.
    pub create: CreateArgs,
    /// Return once the process runs.
    pub detach: bool,
    /// Do not delete the container when its process ends.
    pub keep: bool,
    /// Do not become the parent of orphans.
    pub no_subreaper: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecArgs {
    /// The container.
    pub id: String,
    /// The command and its arguments. Empty only where `process` is set.
    pub command: Vec<String>,
    /// File with a whole process object; the options below are ignored then, as in runc.
    pub process: Option<String>,
    /// Who is told.
    pub handover: HandoverArgs,
    /// Return once the process runs.
    pub detach: bool,
    /// Working folder in the container.
    pub cwd: Option<String>,
    /// `NAME=VALUE`, in order.
    pub env: Vec<String>,
    /// Give the process a terminal.
    pub tty: bool,
    /// Ids of the process.
    pub user: Option<UserArg>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// `None` keeps what the container's definition says.
    pub no_new_privs: Option<bool>,
    /// Capabilities to add.
    pub caps: Vec<String>,
    /// Cgroups below the container's. One without controllers stands for all.
    pub cgroups: Vec<SubCgroup>,
    /// Also when the container is frozen.
    pub ignore_paused: bool,
}

/// `UID[:GID]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserArg {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container; `None` keeps that of the definition.
    pub gid: Option<u32>,
}

/// A cgroup below the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCgroup {
    /// The controllers whose hierarchies are meant; empty means all.
    pub controllers: Vec<String>,
    /// Path below the container's cgroup.
    pub path: String,
}

/// Which containers a command works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one of this id.
    Id(String),
    /// All whose id matches this POSIX extended regular expression.
    Matching(String),
}

/// Arguments of `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillArgs {
    /// Whom.
    pub target: Target,
    /// With what.
    pub signal: Signal,
    /// A container that has stopped is no failure.
    pub all: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteArgs {
    /// Whom.
    pub target: Target,
    /// Kill first; one that does not exist is no failure.
    pub force: bool,
    /// Print what it was, and what it used.
    pub usage: bool,
}

/// Table or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One JSON document on one line.
    Json,
}

/// Arguments of `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListArgs {
    /// How it looks.
    pub format: Format,
    /// Ids only, whatever the format.
    pub quiet: bool,
    /// With what they use, in JSON.
    pub usage: bool,
}

/// Arguments of `features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeaturesArgs {
    /// Of the host, not of the build.
    pub host: bool,
    /// Print JSON. The features of the build are JSON always.
    pub json: bool,
}

/// Arguments of `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsArgs {
    /// The container.
    pub id: String,
    /// Table of ps(1), or ids as JSON.
    pub format: Format,
    /// Arguments for ps(1); empty means the default.
    pub options: Vec<String>,
}

/// Arguments of `inside`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideArgs {
    /// The container.
    pub id: String,
    /// What is changed in it.
    pub change: engine::ops::inside::Change,
}

/// Arguments of `update`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateArgs {
    /// The container.
    pub id: String,
    /// File with a `linux.resources` object, `-` for standard input. `limits` is then empty, as in runc.
    pub resources: Option<String>,
    /// Single limits.
    pub limits: Limits,
    /// A kernel memory limit was named; there is no such thing any more.
    pub kernel_memory: bool,
    /// Intel RDT schema of the L3 cache.
    pub l3_cache_schema: Option<String>,
    /// Intel RDT schema of memory bandwidth.
    pub mem_bw_schema: Option<String>,
}

/// Limits from single options. `None` leaves a limit as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// 10..=1000; 0 is as if absent, as in runc.
    pub blkio_weight: Option<u16>,
    /// Microseconds; 0 is the system's default.
    pub cpu_period: Option<u64>,
    /// Microseconds in a period; negative means no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_burst: Option<u64>,
    /// Weight as cgroup v1 counts it, 2..=262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds.
    pub cpu_rt_period: Option<u64>,
    /// Microseconds in a period.
    pub cpu_rt_runtime: Option<i64>,
    /// 0 or 1.
    pub cpu_idle: Option<i64>,
    /// List such as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// List such as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Bytes; -1 means no limit.
    pub memory: Option<i64>,
    /// Bytes; -1 means no limit.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together; -1 means no limit.
    pub memory_swap: Option<i64>,
    /// Number of tasks; -1 means no limit.
    pub pids: Option<i64>,
}

/// Arguments of `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsArgs {
    /// The container.
    pub id: String,
    /// Time between two reports; more than zero.
    pub interval: Duration,
    /// One report only.
    pub stats: bool,
    /// Stalls to be told of.
    pub pressure: Vec<cgroup::pressure::Trigger>,
}

/// Arguments of `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecArgs {
    /// Folder to write to; `None` is the current one.
    pub bundle: Option<String>,
    /// For an unprivileged user.
    pub rootless: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanArgs {
    /// Name that the container would have.
    pub id: Option<String>,
    /// What it would be made from.
    pub bundle: BundleArgs,
    /// Print JSON.
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckArgs {
    /// Folder of the bundle; `None` is the current one.
    pub bundle: Option<String>,
    /// File to read instead of `config.json` in the bundle.
    pub config: Option<String>,
    /// Print JSON.
    pub json: bool,
}

/// What `checkpoint` and `restore` have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriuArgs {
    /// Folder of the images; `None` is `checkpoint` in the current one.
    pub image_path: Option<String>,
    /// Folder of the log; `None` is that of the images.
    pub work_path: Option<String>,
    /// Keep established TCP connections.
    pub tcp_established: bool,
    /// Allow unix sockets with one end outside.
    pub ext_unix_sk: bool,
    /// Allow the caller's session and terminal.
    pub shell_job: bool,
    /// Keep file locks.
    pub file_locks: bool,
    /// Drop memory from older images.
    pub auto_dedup: bool,
    /// Bring memory when it is touched.
    pub lazy_pages: bool,
    /// What happens to limits of cgroups.
    pub cgroups: CgroupsMode,
    /// How packets are kept away.
    pub network_lock: Option<NetworkLock>,
}

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointArgs {
    /// The container.
    pub id: String,
    /// What `restore` has too.
    pub criu: CriuArgs,
    /// Older images, relative to the new ones.
    pub parent_path: Option<String>,
    /// Let the container run on.
    pub leave_running: bool,
    /// Save memory alone.
    pub pre_dump: bool,
    /// Leave out connections that are being made.
    pub tcp_skip_in_flight: bool,
    /// Name open files again.
    pub link_remap: bool,
    /// Descriptor that is written to once pages can be fetched.
    pub status_fd: Option<i32>,
    /// Address and port of a page server.
    pub page_server: Option<(String, u16)>,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreArgs {
    /// What it shares with `create`.
    pub create: CreateArgs,
    /// What `checkpoint` has too.
    pub criu: CriuArgs,
    /// Return once the processes run.
    pub detach: bool,
    /// Do not become the parent of orphans.
    pub no_subreaper: bool,
    /// Restore connections as closed ones.
    pub tcp_close: bool,
    /// Label of the processes.
    pub lsm_profile: Option<String>,
    /// SELinux label of mounts.
    pub lsm_mount_context: Option<String>,
}

/// Which help is wanted.
#[derive(Debug, Clone, Copy)]
pub struct HelpArgs {
    /// Of this command; `None` is that of the program.
    pub verb: Option<&'static Verb>,
    /// With the long texts.
    pub long: bool,
}

impl PartialEq for HelpArgs {
    fn eq(&self, other: &HelpArgs) -> bool {
        self.verb.map(|v| v.name) == other.verb.map(|v| v.name) && self.long == other.long
    }
}
