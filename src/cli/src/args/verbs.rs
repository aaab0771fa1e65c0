//! The command table: what each command is called, takes and explains.

use super::command::Command;
use super::flags::*;
use super::scan::Matches;
use super::typed;
use super::usage::UsageError;

/// One command.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// One line for lists of commands: no full stop.
    pub about: &'static str,
    /// What stands after the options.
    pub operands: &'static str,
    /// Further paragraphs for `--help` and the man page.
    pub more: &'static str,
    /// Its own options, in the order in which help shows them.
    pub flags: &'static [&'static Flag],
    /// How many operands it wants.
    pub count: Count,
    /// After that many operands everything that follows is an operand too, dashes or not.
    pub stop_after: Option<usize>,
    /// Turns options and operands into the command.
    pub read: fn(&Matches) -> Result<Command, UsageError>,
}

/// How many operands a command wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// From the first to the second number.
    Between(usize, usize),
}

/// Options that stand before the command and, as in runc 1.4 and later, may also stand after it.
pub static GLOBAL: &[&Flag] =
    &[&ROOT, &DATA, &LOG, &LOG_FORMAT, &LOG_LEVEL, &DEBUG, &TRACE, &SYSTEMD_CGROUP, &CGROUP_MANAGER, &ROOTLESS, &CRIU];

/// Options that only stand before the command.
pub static FIRST: &[&Flag] = &[&HELP, &VERSION];

const ID: &str = "<container-id>";
const ONE: Count = Count::Exactly(1);

/// Commands, in the order in which help lists them.
pub static VERBS: &[&Verb] = &[
    &CREATE,
    &START,
    &RUN,
    &EXEC,
    &STATE,
    &KILL,
    &DELETE,
    &LIST,
    &PS,
    &PAUSE,
    &RESUME,
    &UPDATE,
    &INSIDE,
    &EVENTS,
    &SPEC,
    &CHECK,
    &PLAN,
    &FEATURES,
    &CHECKPOINT,
    &RESTORE,
];

/// Commands for containers that are defined once, and what these are made of: name and one line. Another program has them,
/// with their options and their help.
pub static MANAGED: &[(&str, &str)] = &[
    ("create --from", "define a container"),
    ("start", "start defined containers"),
    ("stop", "stop running containers"),
    ("restart", "stop containers and start them again"),
    ("wait", "wait until a container has stopped, or runs"),
    ("logs", "show what a container wrote"),
    ("console", "join the terminal of a container"),
    ("attach", "run a program, or a shell, in a container"),
    ("info", "show all that is known of containers"),
    ("status", "show what a container does just now"),
    ("top", "show what containers use, again and again"),
    ("autostart", "start what begins with the machine, or stop it"),
    ("config", "print and change values of a definition"),
    ("edit", "change a definition in your editor"),
    ("checkconfig", "say what is wrong with definitions, with file and line"),
    ("doctor", "say what this host can do and what is missing"),
    ("cgroup", "print and set limits of a container by their files"),
    ("device", "give a container a device or a link of the host, or take it away"),
    ("mount", "show something of the host in a container, or take it away"),
    ("monitor", "tell when containers change their states"),
    ("freeze", "let no process of a container go on"),
    ("unfreeze", "let them go on"),
    ("destroy", "remove definitions with all that the containers changed"),
    ("ls", "list containers with what they use"),
    ("network", "make networks for containers, list and remove them"),
    ("image", "import, list and remove root file systems"),
    ("snapshot", "keep what a container has changed so far"),
    ("restore", "with a snapshot's name: take a stopped container back to it"),
    ("copy", "define a container that begins with the files of another"),
    ("rename", "give a stopped container another name"),
    ("diff", "list what a container has changed"),
    ("export", "write the files that a container sees as a tar archive"),
    ("refresh", "restart containers whose template or host has newer files"),
    ("gc", "remove changes, layers and template versions that nothing needs"),
    ("template", "build, list and switch templates"),
    (SVC, "keep services running, with skepd"),
    ("lxc-TOOL", "behave as a tool of LXC, such as lxc-ls"),
];

/// The command whose verbs are the supervisor's.
pub const SVC: &str = "svc";

/// What monitors call; of no use to people.
const INTERNAL: [&str; 2] = ["ended", "again"];

/// Whether a command is one of those by its name alone.
#[must_use]
pub fn is_managed(name: &str) -> bool {
    INTERNAL.contains(&name)
        || MANAGED.iter().any(|(known, _)| *known == name) && !VERBS.iter().any(|verb| verb.name == name)
}

/// The options that make `create` define a container.
pub const DEFINING: [&str; 2] = ["--from", "--lxc-config"];

/// Makes a container whose process waits for `start`.
pub static CREATE: Verb = Verb {
    name: "create",
    about: "create a container",
    operands: ID,
    more: "Builds the container that config.json in the bundle describes, up to the point where its process would be \
           executed. The process waits there for `start`. The id is your name for the container; it is unique below \
           one --root.",
    flags: &[
        &BUNDLE,
        &CONFIG,
        &CONSOLE_SOCKET,
        &PIDFD_SOCKET,
        &PID_FILE,
        &NO_PIVOT,
        &NO_NEW_KEYRING,
        &PRESERVE_FDS,
        &VETH,
        &LINK,
        &CREATE_DETACH,
        &CREATE_NO_SUBREAPER,
    ],
    count: ONE,
    stop_after: None,
    read: typed::create,
};

/// Lets the process of a created container run.
pub static START: Verb = Verb {
    name: "start",
    about: "execute the process of a created container",
    operands: ID,
    more: "",
    flags: &[],
    count: ONE,
    stop_after: None,
    read: typed::start,
};

/// Creates, starts and waits.
pub static RUN: Verb = Verb {
    name: "run",
    about: "create a container, start it and wait for its end",
    operands: ID,
    more: "The exit status is that of the container's process, or 128 and the number of the signal that killed it. \
           Signals are passed on. The container is deleted afterwards. With --detach the command returns once the \
           process runs.",
    flags: &[
        &BUNDLE,
        &CONFIG,
        &CONSOLE_SOCKET,
        &PIDFD_SOCKET,
        &DETACH,
        &KEEP,
        &PID_FILE,
        &NO_SUBREAPER,
        &NO_PIVOT,
        &NO_NEW_KEYRING,
        &PRESERVE_FDS,
        &VETH,
        &LINK,
    ],
    count: ONE,
    stop_after: None,
    read: typed::run,
};

/// Another process in a running container.
pub static EXEC: Verb = Verb {
    name: "exec",
    about: "run another process in a container",
    operands: "<container-id> <command> [argument...]",
    more: "Options end where the command begins; everything after it belongs to it. With --process the command comes \
           from a file. The exit status is that of the process, or 255 where it could not be run.",
    flags: &[
        &CONSOLE_SOCKET,
        &PIDFD_SOCKET,
        &CWD,
        &ENV,
        &TTY,
        &USER,
        &ADDITIONAL_GIDS,
        &PROCESS,
        &DETACH,
        &PID_FILE,
        &PROCESS_LABEL,
        &APPARMOR,
        &NO_NEW_PRIVS,
        &CAP,
        &PRESERVE_FDS,
        &CGROUP,
        &IGNORE_PAUSED,
    ],
    count: Count::AtLeast(1),
    stop_after: Some(2),
    read: typed::exec,
};

/// The state document.
pub static STATE: Verb = Verb {
    name: "state",
    about: "print the state of a container as JSON",
    operands: ID,
    more: "",
    flags: &[],
    count: ONE,
    stop_after: None,
    read: typed::state,
};

/// A signal to the first process.
pub static KILL: Verb = Verb {
    name: "kill",
    about: "send a signal to the container's first process",
    operands: "<container-id> [signal]",
    more: "The signal is a number or a name: 9, KILL, SIGKILL, RTMIN+3. The default is SIGTERM.",
    flags: &[&ALL, &REGEX],
    count: Count::Between(1, 2),
    stop_after: None,
    read: typed::kill,
};

/// Removes what a container left.
pub static DELETE: Verb = Verb {
    name: "delete",
    about: "remove a stopped container and all that was made for it",
    operands: ID,
    more: "With --force a running container is killed first, and an id that does not exist is no error.",
    flags: &[&FORCE, &LAST_USAGE, &REGEX],
    count: ONE,
    stop_after: None,
    read: typed::delete,
};

/// All containers below one root.
pub static LIST: Verb = Verb {
    name: "list",
    about: "list the containers below --root",
    operands: "",
    more: "",
    flags: &[&FORMAT, &QUIET, &USAGE],
    count: Count::Exactly(0),
    stop_after: None,
    read: typed::list,
};

/// Processes of a container.
pub static PS: Verb = Verb {
    name: "ps",
    about: "list the processes of a container",
    operands: "<container-id> [ps option...]",
    more: "What follows the id goes to ps(1) of the host; the default is -ef. Its table is cut down to the container's \
           processes. With --format=json only their ids are printed.",
    flags: &[&FORMAT],
    count: Count::AtLeast(1),
    stop_after: Some(1),
    read: typed::ps,
};

/// Freezes all processes.
pub static PAUSE: Verb = Verb {
    name: "pause",
    about: "suspend all processes of a container",
    operands: ID,
    more: "",
    flags: &[],
    count: ONE,
    stop_after: None,
    read: typed::pause,
};

/// Thaws them.
pub static RESUME: Verb = Verb {
    name: "resume",
    about: "let a paused container run again",
    operands: ID,
    more: "",
    flags: &[],
    count: ONE,
    stop_after: None,
    read: typed::resume,
};

/// New limits.
pub static UPDATE: Verb = Verb {
    name: "update",
    about: "change the limits of a container",
    operands: ID,
    more: "",
    flags: &[
        &RESOURCES,
        &BLKIO_WEIGHT,
        &CPU_PERIOD,
        &CPU_QUOTA,
        &CPU_BURST,
        &CPU_SHARE,
        &CPU_RT_PERIOD,
        &CPU_RT_RUNTIME,
        &CPUSET_CPUS,
        &CPUSET_MEMS,
        &KERNEL_MEMORY,
        &KERNEL_MEMORY_TCP,
        &MEMORY,
        &CPU_IDLE,
        &MEMORY_RESERVATION,
        &MEMORY_SWAP,
        &PIDS_LIMIT,
        &L3_CACHE_SCHEMA,
        &MEM_BW_SCHEMA,
    ],
    count: ONE,
    stop_after: None,
    read: typed::update,
};

/// Mounts and nodes of a container that runs.
pub static INSIDE: Verb = Verb {
    name: "inside",
    about: "mount something in a running container, or take it away",
    operands: "<container-id> mount|node <source> <target> | unmount|remove-node <target>",
    more: "SOURCE is a folder, a file or a device of the host, TARGET an absolute path in the container, made where it is \
           not there; links in it lead nowhere outside. A node belongs to root of the container; what may be opened is \
           decided by its rules for devices, see update. In a user namespace the owners of files are mapped.",
    flags: &[&READ_ONLY, &HOST_OWNERS],
    count: Count::Between(3, 4),
    stop_after: None,
    read: typed::inside,
};

/// Statistics and out-of-memory notices.
pub static EVENTS: Verb = Verb {
    name: "events",
    about: "print usage and out-of-memory events as JSON lines",
    operands: ID,
    more: "One line per interval until the container ends, and one for each out-of-memory kill.",
    flags: &[&INTERVAL, &STATS, &PRESSURE],
    count: ONE,
    stop_after: None,
    read: typed::events,
};

/// A running container as files.
pub static CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    about: "save a running container as files",
    operands: ID,
    more: "CRIU, which has to be installed, saves all processes with their memory. The container is deleted then, unless \
           it is left running. Where CRIU fails, the container runs on, and dump.log in --work-path says why. Network \
           devices are not saved.",
    flags: &[
        &IMAGE_PATH,
        &WORK_PATH,
        &PARENT_PATH,
        &LEAVE_RUNNING,
        &PRE_DUMP,
        &TCP_ESTABLISHED,
        &TCP_SKIP_IN_FLIGHT,
        &EXT_UNIX_SK,
        &SHELL_JOB,
        &FILE_LOCKS,
        &LINK_REMAP,
        &LAZY_PAGES,
        &STATUS_FD,
        &PAGE_SERVER,
        &MANAGE_CGROUPS_MODE,
        &NETWORK_LOCK,
        &AUTO_DEDUP,
        &EMPTY_NS,
    ],
    count: ONE,
    stop_after: None,
    read: typed::checkpoint,
};

/// A container from files.
pub static RESTORE: Verb = Verb {
    name: "restore",
    about: "bring a saved container back",
    operands: ID,
    more: "The id is a new one, or that of a container that was deleted. The bundle decides on cgroups, limits, devices, \
           mounts and hooks; the processes, with their users and capabilities, come from the images, so restore only \
           images that you trust. Without --detach the command waits for the end of the container, as run does. Where \
           CRIU fails, nothing is left of the container, and restore.log in --work-path says why.",
    flags: &[
        &BUNDLE,
        &IMAGE_PATH,
        &WORK_PATH,
        &CONSOLE_SOCKET,
        &DETACH,
        &PID_FILE,
        &NO_SUBREAPER,
        &TCP_ESTABLISHED,
        &TCP_CLOSE,
        &EXT_UNIX_SK,
        &SHELL_JOB,
        &FILE_LOCKS,
        &LAZY_PAGES,
        &MANAGE_CGROUPS_MODE,
        &NETWORK_LOCK,
        &AUTO_DEDUP,
        &LSM_PROFILE,
        &LSM_MOUNT_CONTEXT,
        &EMPTY_NS,
        &RESTORE_NO_PIVOT,
    ],
    count: ONE,
    stop_after: None,
    read: typed::restore,
};

/// A `config.json` to start from.
pub static SPEC: Verb = Verb {
    name: "spec",
    about: "write a config.json to start from",
    operands: "",
    more: "The file runs sh in the folder rootfs of the bundle. One that is there already is left alone, with an error.",
    flags: &[&BUNDLE, &SPEC_ROOTLESS],
    count: Count::Exactly(0),
    stop_after: None,
    read: typed::spec,
};

/// All findings about a bundle.
pub static CHECK: Verb = Verb {
    name: "check",
    about: "report everything that is wrong with a bundle",
    operands: "",
    more: "Each finding names the place as a JSON pointer and the section of the runtime specification. The exit \
           status is 1 if one of them is an error.",
    flags: &[&BUNDLE, &CONFIG, &JSON],
    count: Count::Exactly(0),
    stop_after: None,
    read: typed::check,
};

/// What `create` would do.
pub static PLAN: Verb = Verb {
    name: "plan",
    about: "print what create would do, step by step, and do nothing",
    operands: "[container-id]",
    more: "Needs no privilege. The steps are the very ones that create consumes.",
    flags: &[&BUNDLE, &CONFIG, &NO_PIVOT, &NO_NEW_KEYRING, &VETH, &LINK, &JSON],
    count: Count::Between(0, 1),
    stop_after: None,
    read: typed::plan,
};

/// What this build supports.
pub static FEATURES: Verb = Verb {
    name: "features",
    about: "print what this build supports as JSON, or what this host offers",
    operands: "",
    more: "The document is the features structure of the runtime specification. It is the same on every host; with \
           --host the command tells what this one offers, and changes nothing.",
    flags: &[&HOST, &HOST_FORMAT],
    count: Count::Exactly(0),
    stop_after: None,
    read: typed::features,
};
