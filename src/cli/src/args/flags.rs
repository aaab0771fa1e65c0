//! The flag table: every option of the command line, once.
//!
//! The parser, `--help`, the man pages and the shell completions are all made from these statics. A static is also the
//! key by which a parsed value is asked for, so an option that is not in the table cannot be read by mistake. The order
//! inside a command is in [`verbs`](super::verbs).

/// One option.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes. `--name` and, as Go programs accept it, `-name` are the same.
    pub long: &'static str,
    /// One-letter name.
    pub short: Option<&'static str>,
    /// What follows it.
    pub takes: Takes,
    /// One line for `-h` and for completions: no full stop.
    pub help: &'static str,
    /// Further sentences for `--help` and the man page; may be empty.
    pub more: &'static str,
    /// What counts when the option is absent, as text for the reader.
    pub default: Option<&'static str>,
    /// Accepted, but not shown.
    pub hidden: bool,
    /// May be given more than once; otherwise the last one counts.
    pub repeats: bool,
}

/// What kind of value an option takes, with the word that stands for it in help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// No value; `--x=false` turns it off.
    Nothing,
    /// Any text.
    Text(&'static str),
    /// A path of a file.
    File,
    /// A path of a folder.
    Dir,
    /// A decimal number.
    Number,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Takes {
    /// The word for the value in help texts; empty where there is none.
    #[must_use]
    pub fn placeholder(self) -> String {
        match self {
            Takes::Nothing => String::new(),
            Takes::Text(word) => word.to_owned(),
            Takes::File => "FILE".to_owned(),
            Takes::Dir => "DIR".to_owned(),
            Takes::Number => "N".to_owned(),
            Takes::OneOf(words) => words.join("|"),
        }
    }
}

impl Flag {
    const fn new(long: &'static str, takes: Takes, help: &'static str) -> Flag {
        Flag { long, short: None, takes, help, more: "", default: None, hidden: false, repeats: false }
    }

    const fn short(mut self, short: &'static str) -> Flag {
        self.short = Some(short);
        self
    }

    const fn more(mut self, more: &'static str) -> Flag {
        self.more = more;
        self
    }

    const fn default(mut self, default: &'static str) -> Flag {
        self.default = Some(default);
        self
    }

    const fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }

    const fn repeats(mut self) -> Flag {
        self.repeats = true;
        self
    }

    /// Whether this is what `-name` or `--name` means.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.long == name || self.short == Some(name)
    }
}

use Takes::{Dir, File, Nothing, Number, OneOf, Text};

// Of the program.
/// Folder of the run-time state.
pub static ROOT: Flag = Flag::new("root", Dir, "keep the state of containers below DIR").more(
    "DIR should be on a tmpfs. The default is /run/skep, or skep below $XDG_RUNTIME_DIR for an unprivileged user.",
);
/// Folder of what is kept.
pub static DATA: Flag = Flag::new("data", Dir, "keep definitions, images, templates and networks below DIR")
    .more("The environment variable SKEP_DATA says the same.")
    .default("/var/lib/skep");
/// Where messages go.
pub static LOG: Flag = Flag::new("log", Text("TARGET"), "write messages to a file, to journald:ID or to syslog:ID")
    .more("TARGET is a path, file:PATH, journald:ID or syslog:ID. Errors then also go to standard error as bare text.")
    .default("standard error");
/// How messages look.
pub static LOG_FORMAT: Flag =
    Flag::new("log-format", OneOf(&["text", "json"]), "write messages as text or as one JSON object a line")
        .default("text");
/// Which messages are written.
pub static LOG_LEVEL: Flag =
    Flag::new("log-level", OneOf(&["error", "warning", "info", "debug"]), "write messages from this level up")
        .default("info");
/// All messages.
pub static DEBUG: Flag = Flag::new("debug", Nothing, "same as --log-level=debug");
/// Where the time goes.
pub static TRACE: Flag = Flag::new("trace", File, "write the time of each phase and step to FILE")
    .more("A name that ends in .json gets a Chrome trace, which Perfetto shows; - is text on standard error.");
/// The systemd driver, by runc's name.
pub static SYSTEMD_CGROUP: Flag = Flag::new("systemd-cgroup", Nothing, "same as --cgroup-manager=systemd")
    .more("The cgroupsPath of the bundle then has the form slice:prefix:name.");
/// Which driver makes cgroups.
pub static CGROUP_MANAGER: Flag =
    Flag::new("cgroup-manager", OneOf(&["cgroupfs", "systemd", "disabled"]), "choose who makes the cgroup")
        .default("cgroupfs");
/// Whether cgroup permission errors are tolerated.
pub static ROOTLESS: Flag =
    Flag::new("rootless", OneOf(&["true", "false", "auto"]), "tolerate cgroups that may not be written")
        .default("auto");
/// Path of criu, of no effect.
pub static CRIU: Flag = Flag::new("criu", File, "accepted and ignored").hidden();
/// Asks for the version.
pub static VERSION: Flag = Flag::new("version", Nothing, "print the version").short("v");
/// Asks for help.
pub static HELP: Flag = Flag::new("help", Nothing, "show this help; -h is shorter").short("h");

// Of create and run, some of them of others too.
/// Folder of the bundle.
pub static BUNDLE: Flag = Flag::new("bundle", Dir, "folder with config.json").short("b").default("the current folder");
/// Another file than `config.json`.
pub static CONFIG: Flag = Flag::new("config", File, "read FILE instead of config.json in the bundle").short("f");
/// Receiver of the terminal.
pub static CONSOLE_SOCKET: Flag =
    Flag::new("console-socket", File, "send the terminal's controlling end to this AF_UNIX socket");
/// Receiver of the pidfd.
pub static PIDFD_SOCKET: Flag =
    Flag::new("pidfd-socket", File, "send a pidfd of the new process to this AF_UNIX socket");
/// File for the process id.
pub static PID_FILE: Flag = Flag::new("pid-file", File, "write the process id to FILE")
    .more("The file appears complete: it is written under another name and renamed.");
/// chroot instead of pivot_root.
pub static NO_PIVOT: Flag = Flag::new("no-pivot", Nothing, "change the root by moving the mount instead of pivot_root")
    .more("Needed where the root file system is the initial ramdisk. It is less safe.");
/// Keep the caller's session keyring.
pub static NO_NEW_KEYRING: Flag =
    Flag::new("no-new-keyring", Nothing, "keep the session keyring of the caller instead of a new one");
/// Extra descriptors.
pub static PRESERVE_FDS: Flag = Flag::new("preserve-fds", Number, "pass N more descriptors to the process")
    .more("They are the N that follow standard input, output, error and those of $LISTEN_FDS.")
    .default("0");
/// Network link of any kind.
pub static LINK: Flag = Flag::new("link", Text("SPEC"), "give the container a network link; may be repeated")
    .more(
        "KIND:KEY=VALUE,...: veth (bridge=, mode=routed, egress=10mbit), macvlan, vlan, ipvlan (parent=), phys (device=). \
         See docs/networks.md.",
    )
    .repeats();
/// Plain network link.
pub static VETH: Flag = Flag::new("veth", Text("SPEC"), "give the container a veth link; may be repeated").repeats();
/// Leave the process in the background.
pub static DETACH: Flag = Flag::new("detach", Nothing, "return once the process runs").short("d");
/// `create` always detaches; go-runc may say so all the same.
pub static CREATE_DETACH: Flag = Flag::new("detach", Nothing, "accepted: create always detaches").short("d").hidden();
/// Keep the container after its end.
pub static KEEP: Flag = Flag::new("keep", Nothing, "do not delete the container when its process ends");
/// Do not adopt orphans.
pub static NO_SUBREAPER: Flag =
    Flag::new("no-subreaper", Nothing, "do not adopt processes that the container leaves behind");
/// The same on `create`, where there is nothing to adopt for.
pub static CREATE_NO_SUBREAPER: Flag =
    Flag::new("no-subreaper", Nothing, "accepted: create does not wait for the container").hidden();

// Of exec.
/// Working folder inside the container.
pub static CWD: Flag = Flag::new("cwd", Dir, "working folder inside the container");
/// One more environment variable.
pub static ENV: Flag =
    Flag::new("env", Text("NAME=VALUE"), "add an environment variable; may be repeated").short("e").repeats();
/// Wants a terminal.
pub static TTY: Flag = Flag::new("tty", Nothing, "give the process a terminal").short("t");
/// Ids of the process.
pub static USER: Flag = Flag::new("user", Text("UID[:GID]"), "run as this user, by number").short("u");
/// Further groups.
pub static ADDITIONAL_GIDS: Flag =
    Flag::new("additional-gids", Text("GID"), "add a group, by number; may be repeated").short("g").repeats();
/// The whole process as a file.
pub static PROCESS: Flag = Flag::new("process", File, "take the process from a JSON file")
    .short("p")
    .more("FILE holds a process object of the runtime specification. Options that describe the process are ignored.");
/// SELinux label.
pub static PROCESS_LABEL: Flag = Flag::new("process-label", Text("LABEL"), "SELinux label of the process");
/// AppArmor profile.
pub static APPARMOR: Flag = Flag::new("apparmor", Text("PROFILE"), "AppArmor profile of the process");
/// Never gain privileges.
pub static NO_NEW_PRIVS: Flag =
    Flag::new("no-new-privs", Nothing, "the process and its children can never gain privileges");
/// One more capability.
pub static CAP: Flag =
    Flag::new("cap", Text("CAP"), "add a capability, such as CAP_NET_RAW; may be repeated").short("c").repeats();
/// Cgroup below the container's.
pub static CGROUP: Flag =
    Flag::new("cgroup", Text("[CONTROLLER[,...]:]PATH"), "run in an existing cgroup below the container's")
        .repeats()
        .more("Where each controller has its own hierarchy the option may be repeated, with different controllers.");
/// Do not refuse a frozen container.
pub static IGNORE_PAUSED: Flag =
    Flag::new("ignore-paused", Nothing, "also when the container is paused; the process waits for resume");

// Of kill and delete.
/// All processes.
pub static ALL: Flag =
    Flag::new("all", Nothing, "accepted: succeeds also when the container has stopped").short("a").hidden();
/// Many containers at once.
pub static REGEX: Flag =
    Flag::new("regex", Nothing, "the id is an extended regular expression for many containers").short("r");
/// Whatever its state.
pub static FORCE: Flag = Flag::new("force", Nothing, "kill the container first if it runs").short("f");

// Of list, ps, events, spec, plan, check.
/// Table or JSON.
pub static FORMAT: Flag =
    Flag::new("format", OneOf(&["table", "json"]), "print a table or JSON").short("f").default("table");
/// The host instead of the build.
pub static HOST: Flag = Flag::new("host", Nothing, "tell what this host offers instead");
/// Text or JSON.
pub static HOST_FORMAT: Flag =
    Flag::new("format", OneOf(&["text", "json"]), "print text or JSON (with --host)").short("f").default("text");
/// Ids only.
pub static QUIET: Flag = Flag::new("quiet", Nothing, "print ids only").short("q");
/// What was used.
pub static LAST_USAGE: Flag = Flag::new("usage", Nothing, "print the state as it was at the end, with what was used");
/// What is used.
pub static USAGE: Flag = Flag::new("usage", Nothing, "add to each one in JSON what it uses");
/// Time between two reports.
pub static INTERVAL: Flag =
    Flag::new("interval", Text("DURATION"), "time between two reports, such as 500ms or 1m30s").default("5s");
/// One report.
pub static STATS: Flag = Flag::new("stats", Nothing, "print one report and end");
/// Stalls to be told of.
pub static PRESSURE: Flag = Flag::new("pressure", Text("SPEC"), "report stalls, such as memory:some:150ms/1s; may be repeated")
    .repeats()
    .more(
        "SPEC is RESOURCE:SHARE:STALL/WINDOW: cpu, memory or io; some or full; how long tasks have to stall within a window \
         of 500ms to 10s. One line of the type pressure is printed per window at most.",
    );
/// Nothing can be written.
pub static READ_ONLY: Flag = Flag::new("read-only", Nothing, "with mount: let nothing be written there");
/// Owners as the host knows them.
pub static HOST_OWNERS: Flag =
    Flag::new("host-owners", Nothing, "with mount: show the owners of files as they are, in a user namespace too");
/// For an unprivileged user.
pub static SPEC_ROOTLESS: Flag = Flag::new("rootless", Nothing, "write one that an unprivileged user can run");
/// JSON output.
pub static JSON: Flag = Flag::new("json", Nothing, "print JSON");

// Of checkpoint and restore.
/// Folder of the images.
pub static IMAGE_PATH: Flag =
    Flag::new("image-path", Dir, "folder of the images").default("the folder checkpoint in the current folder");
/// Folder of the log.
pub static WORK_PATH: Flag =
    Flag::new("work-path", Dir, "folder of CRIU's log and sockets").default("the folder of the images");
/// Older images.
pub static PARENT_PATH: Flag =
    Flag::new("parent-path", Dir, "folder of the images of an earlier --pre-dump, relative to --image-path");
/// The container goes on.
pub static LEAVE_RUNNING: Flag = Flag::new("leave-running", Nothing, "let the container run on instead of deleting it");
/// Established connections.
pub static TCP_ESTABLISHED: Flag = Flag::new("tcp-established", Nothing, "keep established TCP connections");
/// Connections that are being made.
pub static TCP_SKIP_IN_FLIGHT: Flag =
    Flag::new("tcp-skip-in-flight", Nothing, "leave out TCP connections that are being made");
/// Connections come back closed.
pub static TCP_CLOSE: Flag = Flag::new("tcp-close", Nothing, "restore established TCP connections as closed ones");
/// Files without a name.
pub static LINK_REMAP: Flag = Flag::new("link-remap", Nothing, "give open files without a name one again");
/// Sockets with one end outside.
pub static EXT_UNIX_SK: Flag = Flag::new("ext-unix-sk", Nothing, "allow unix sockets whose other end is outside");
/// Session of the caller.
pub static SHELL_JOB: Flag = Flag::new("shell-job", Nothing, "allow a session or terminal that is the caller's");
/// Memory on demand.
pub static LAZY_PAGES: Flag = Flag::new("lazy-pages", Nothing, "bring memory when it is touched (userfaultfd)");
/// Told once pages can be fetched.
pub static STATUS_FD: Flag =
    Flag::new("status-fd", Number, "with --lazy-pages: write a zero byte to descriptor N once pages can be fetched");
/// Where pages go.
pub static PAGE_SERVER: Flag = Flag::new("page-server", Text("ADDRESS:PORT"), "send memory to a page server");
/// Locks of files.
pub static FILE_LOCKS: Flag = Flag::new("file-locks", Nothing, "keep file locks");
/// Memory alone.
pub static PRE_DUMP: Flag = Flag::new("pre-dump", Nothing, "save memory alone and let the container run on");
/// Limits of groups.
pub static MANAGE_CGROUPS_MODE: Flag = Flag::new(
    "manage-cgroups-mode",
    OneOf(&["soft", "full", "strict", "ignore"]),
    "what CRIU does with the limits of cgroups",
)
.more("A container's own group has the limits of the bundle whatever the mode.")
.default("soft");
/// Namespaces without their properties.
pub static EMPTY_NS: Flag =
    Flag::new("empty-ns", OneOf(&["network"]), "accepted: network devices are never saved").repeats().hidden();
/// Memory once.
pub static AUTO_DEDUP: Flag = Flag::new("auto-dedup", Nothing, "drop memory from older images when newer ones have it");
/// The network meanwhile.
pub static NETWORK_LOCK: Flag = Flag::new(
    "network-lock",
    OneOf(&["iptables", "nftables", "skip"]),
    "how packets are kept away while connections are saved",
);
/// Another label.
pub static LSM_PROFILE: Flag =
    Flag::new("lsm-profile", Text("TYPE:NAME"), "label of the processes, such as apparmor:web or selinux:LABEL")
        .default("that of the bundle, else that of the images");
/// Another label of mounts.
pub static LSM_MOUNT_CONTEXT: Flag =
    Flag::new("lsm-mount-context", Text("LABEL"), "SELinux label of mounts, instead of that of the images");
/// CRIU never uses pivot_root to less effect.
pub static RESTORE_NO_PIVOT: Flag =
    Flag::new("no-pivot", Nothing, "accepted: CRIU changes the root in its own way").hidden();

// Of update.
/// All limits from a file.
pub static RESOURCES: Flag =
    Flag::new("resources", File, "read the new limits from a JSON file, or from - for input").short("r").more(
        "FILE holds a linux.resources object of the runtime specification; what it leaves out stays. The options for \
         single limits are ignored then.",
    );
/// Weight of block I/O.
pub static BLKIO_WEIGHT: Flag = Flag::new("blkio-weight", Number, "share of block I/O, 10 to 1000");
/// CFS period.
pub static CPU_PERIOD: Flag = Flag::new("cpu-period", Text("USEC"), "period of the CPU limit, in microseconds");
/// CFS quota.
pub static CPU_QUOTA: Flag =
    Flag::new("cpu-quota", Text("USEC"), "CPU time in a period, in microseconds; -1 for no limit");
/// CFS burst.
pub static CPU_BURST: Flag =
    Flag::new("cpu-burst", Text("USEC"), "unused CPU time that may be spent later, in microseconds");
/// CPU weight.
pub static CPU_SHARE: Flag = Flag::new("cpu-share", Text("N"), "CPU weight against other containers");
/// Real-time period.
pub static CPU_RT_PERIOD: Flag =
    Flag::new("cpu-rt-period", Text("USEC"), "period of the real-time limit, in microseconds");
/// Real-time quota.
pub static CPU_RT_RUNTIME: Flag =
    Flag::new("cpu-rt-runtime", Text("USEC"), "real-time CPU time in a period, in microseconds");
/// CPUs to run on.
pub static CPUSET_CPUS: Flag = Flag::new("cpuset-cpus", Text("LIST"), "CPUs to run on, such as 0-3,7");
/// Memory nodes to use.
pub static CPUSET_MEMS: Flag = Flag::new("cpuset-mems", Text("LIST"), "memory nodes to use, such as 0-1");
/// No effect.
pub static KERNEL_MEMORY: Flag = Flag::new("kernel-memory", Text("SIZE"), "accepted and ignored").hidden();
/// No effect.
pub static KERNEL_MEMORY_TCP: Flag = Flag::new("kernel-memory-tcp", Text("SIZE"), "accepted and ignored").hidden();
/// Memory limit.
pub static MEMORY: Flag = Flag::new("memory", Text("SIZE"), "memory limit, such as 512m; -1 for no limit")
    .more("SIZE is in bytes; the suffixes k, m, g, t and p are powers of 1024.");
/// SCHED_IDLE for the whole cgroup.
pub static CPU_IDLE: Flag = Flag::new("cpu-idle", OneOf(&["0", "1"]), "1: run only when nothing else wants the CPU");
/// Soft limit.
pub static MEMORY_RESERVATION: Flag =
    Flag::new("memory-reservation", Text("SIZE"), "memory to reclaim down to under pressure");
/// Memory and swap together.
pub static MEMORY_SWAP: Flag =
    Flag::new("memory-swap", Text("SIZE"), "limit of memory and swap together; -1 for no limit");
/// Number of processes.
pub static PIDS_LIMIT: Flag = Flag::new("pids-limit", Number, "number of processes and threads; -1 for no limit");
/// Intel RDT: cache.
pub static L3_CACHE_SCHEMA: Flag = Flag::new("l3-cache-schema", Text("SCHEMA"), "Intel RDT schema of the L3 cache");
/// Intel RDT: memory bandwidth.
pub static MEM_BW_SCHEMA: Flag = Flag::new("mem-bw-schema", Text("SCHEMA"), "Intel RDT schema of memory bandwidth");
