//! The process (config.md, process), which `exec` also reads alone.

object! {
    /// The process to run.
    Process {
        "terminal" terminal: bool,
        "consoleSize" console_size: ConsoleSize,
        "user" user: User,
        "args" args: Vec<String>,
        "env" env: Vec<String>,
        "cwd" cwd: String,
        "capabilities" capabilities: Capabilities,
        "rlimits" rlimits: Vec<Rlimit>,
        "noNewPrivileges" no_new_privileges: bool,
        "apparmorProfile" apparmor_profile: String,
        "oomScoreAdj" oom_score_adj: i64,
        "scheduler" scheduler: Scheduler,
        "selinuxLabel" selinux_label: String,
        "ioPriority" io_priority: IoPriority,
        "execCPUAffinity" exec_cpu_affinity: ExecCpuAffinity,
    }

    /// Terminal size in characters.
    ConsoleSize {
        "height" height: u64,
        "width" width: u64,
    }

    /// Credentials.
    User {
        "uid" uid: u32,
        "gid" gid: u32,
        "umask" umask: u32,
        "additionalGids" additional_gids: Vec<u32>,
    }

    /// Capability names by set.
    Capabilities {
        "bounding" bounding: Vec<String>,
        "effective" effective: Vec<String>,
        "inheritable" inheritable: Vec<String>,
        "permitted" permitted: Vec<String>,
        "ambient" ambient: Vec<String>,
    }

    /// One resource limit.
    Rlimit {
        "type" kind: String,
        "hard" hard: u64,
        "soft" soft: u64,
    }

    /// CPU scheduling.
    Scheduler {
        "policy" policy: String,
        "nice" nice: i32,
        "priority" priority: i32,
        "flags" flags: Vec<String>,
        "runtime" runtime: u64,
        "deadline" deadline: u64,
        "period" period: u64,
    }

    /// I/O scheduling.
    IoPriority {
        "class" class: String,
        "priority" priority: i64,
    }

    /// CPU lists of an exec.
    ExecCpuAffinity {
        "initial" initial: String,
        "final" final_: String,
    }
}
