//! Turns options and operands into a [`Command`] and a [`Global`].

use engine::ops::inside::{Change, Owners};
use engine::options::{CgroupsMode, NetworkLock};
use runtime_spec::signal::{Signal, parse_signal};

use super::command::*;
use super::duration::parse_duration;
use super::flags::*;
use super::pressure::parse_trigger;
use super::scan::Matches;
use super::size::parse_limit;
use super::usage::UsageError;

type Result<T> = std::result::Result<T, UsageError>;

/// Reads the options that hold for every command into `global`, the logger's first, so that it can tell about the rest.
///
/// # Errors
/// A value that an option does not take.
pub fn read_global(m: &Matches, global: &mut Global) -> Result<()> {
    global.log = m.text(&LOG).map(parse_log_target);
    match m.last(&LOG_FORMAT) {
        None | Some("" | "text") => {}
        Some("json") => global.log_format = LogFormat::Json,
        Some(other) => return Err(UsageError::invalid(other, &LOG_FORMAT, "invalid log-format: want text or json")),
    }
    match m.last(&LOG_LEVEL) {
        None | Some("info") => {}
        Some("error") => global.log_level = Level::Error,
        Some("warning" | "warn") => global.log_level = Level::Warning,
        Some("debug") => global.log_level = Level::Debug,
        Some(other) => return Err(UsageError::invalid(other, &LOG_LEVEL, "want error, warning, info or debug")),
    }
    if m.is_on(&DEBUG) {
        global.log_level = Level::Debug;
    }
    global.root = match m.last(&ROOT) {
        Some("") => return Err(UsageError::invalid("", &ROOT, "the folder needs a name")),
        root => root.map(str::to_owned),
    };
    global.data = m.text(&DATA);
    global.trace = match m.last(&TRACE) {
        Some("") => return Err(UsageError::invalid("", &TRACE, "the file needs a name")),
        trace => trace.map(str::to_owned),
    };
    global.cgroup_manager = read_cgroup_manager(m)?;
    global.rootless = match m.last(&ROOTLESS).map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "auto") => None,
        Some("true" | "t" | "1") => Some(true),
        Some("false" | "f" | "0") => Some(false),
        Some(other) => return Err(UsageError::invalid(other, &ROOTLESS, "want true, false or auto")),
    };
    Ok(())
}

/// The later one of `--systemd-cgroup` and `--cgroup-manager` counts.
fn read_cgroup_manager(m: &Matches) -> Result<CgroupManager> {
    if m.position(&SYSTEMD_CGROUP) > m.position(&CGROUP_MANAGER) {
        return Ok(if m.is_on(&SYSTEMD_CGROUP) { CgroupManager::Systemd } else { CgroupManager::Cgroupfs });
    }
    match m.last(&CGROUP_MANAGER) {
        None | Some("cgroupfs") => Ok(CgroupManager::Cgroupfs),
        Some("systemd") => Ok(CgroupManager::Systemd),
        Some("disabled") => Ok(CgroupManager::Disabled),
        Some(other) => Err(UsageError::invalid(other, &CGROUP_MANAGER, "want cgroupfs, systemd or disabled")),
    }
}

fn parse_log_target(text: String) -> LogTarget {
    match text.split_once(':') {
        Some(("file", path)) => LogTarget::File(path.to_owned()),
        Some(("journald", id)) => LogTarget::Journald(id.to_owned()),
        Some(("syslog", id)) => LogTarget::Syslog(id.to_owned()),
        _ => LogTarget::File(text),
    }
}

// One function a command, named in its entry of the table. The number of operands has been checked by then.

pub(super) fn create(m: &Matches) -> Result<Command> {
    read_create(m).map(Command::Create)
}

pub(super) fn start(m: &Matches) -> Result<Command> {
    id(m).map(Command::Start)
}

pub(super) fn run(m: &Matches) -> Result<Command> {
    Ok(Command::Run(RunArgs {
        create: read_create(m)?,
        detach: m.is_on(&DETACH),
        keep: m.is_on(&KEEP),
        no_subreaper: m.is_on(&NO_SUBREAPER),
    }))
}

pub(super) fn exec(m: &Matches) -> Result<Command> {
    read_exec(m).map(|args| Command::Exec(Box::new(args)))
}

pub(super) fn state(m: &Matches) -> Result<Command> {
    id(m).map(Command::State)
}

pub(super) fn kill(m: &Matches) -> Result<Command> {
    let signal = match m.operands.get(1).map(String::as_str) {
        None | Some("") => Signal::TERM,
        Some(text) => parse_signal(text).ok_or_else(|| {
            UsageError::invalid_at(text, "signal", "unknown signal: want a name such as TERM or a number up to 64")
        })?,
    };
    Ok(Command::Kill(KillArgs { target: target(m)?, signal, all: m.is_on(&ALL) }))
}

pub(super) fn delete(m: &Matches) -> Result<Command> {
    Ok(Command::Delete(DeleteArgs { target: target(m)?, force: m.is_on(&FORCE), usage: m.is_on(&LAST_USAGE) }))
}

pub(super) fn list(m: &Matches) -> Result<Command> {
    Ok(Command::List(ListArgs { format: format(m)?, quiet: m.is_on(&QUIET), usage: m.is_on(&USAGE) }))
}

pub(super) fn ps(m: &Matches) -> Result<Command> {
    let options = &m.operands[1..];
    let options = if options.first().is_some_and(|o| o == "--") { &options[1..] } else { options };
    Ok(Command::Ps(PsArgs { id: id(m)?, format: format(m)?, options: options.to_vec() }))
}

pub(super) fn pause(m: &Matches) -> Result<Command> {
    id(m).map(Command::Pause)
}

pub(super) fn resume(m: &Matches) -> Result<Command> {
    id(m).map(Command::Resume)
}

pub(super) fn update(m: &Matches) -> Result<Command> {
    let resources = m.text(&RESOURCES);
    let limits = if resources.is_some() { Limits::default() } else { read_limits(m)? };
    let kernel_memory = m.text(&KERNEL_MEMORY).or(m.text(&KERNEL_MEMORY_TCP));
    Ok(Command::Update(Box::new(UpdateArgs {
        id: id(m)?,
        limits,
        kernel_memory: resources.is_none() && kernel_memory.is_some(),
        resources,
        l3_cache_schema: m.text(&L3_CACHE_SCHEMA),
        mem_bw_schema: m.text(&MEM_BW_SCHEMA),
    })))
}

pub(super) fn inside(m: &Matches) -> Result<Command> {
    let text = |at: usize| m.operands.get(at).cloned().unwrap_or_default();
    let (word, source, target) = (text(1), text(2), text(3));
    let change = match (word.as_str(), m.operands.len()) {
        ("mount", 4) => {
            let owners = if m.is_on(&HOST_OWNERS) { Owners::Host } else { Owners::Container };
            Change::Mount { source, target, read_only: m.is_on(&READ_ONLY), owners }
        }
        ("node", 4) => Change::Node { source, target },
        ("unmount", 3) => Change::Unmount { target: source },
        ("remove-node", 3) => Change::RemoveNode { target: source },
        _ => {
            let wanted = "want mount or node with SOURCE and TARGET, unmount or remove-node with TARGET";
            return Err(UsageError::invalid_at(&word, "change", wanted));
        }
    };
    Ok(Command::Inside(InsideArgs { id: id(m)?, change }))
}

pub(super) fn events(m: &Matches) -> Result<Command> {
    let text = m.last(&INTERVAL).unwrap_or("5s");
    let interval = parse_duration(text).map_err(|e| UsageError::invalid(text, &INTERVAL, e))?;
    if interval.is_zero() {
        return Err(UsageError::invalid(text, &INTERVAL, "duration interval must be greater than 0"));
    }
    let pressure = m.all(&PRESSURE);
    let pressure = pressure.iter().map(|text| parse_trigger(text).map_err(|e| UsageError::invalid(text, &PRESSURE, e)));
    let pressure = pressure.collect::<Result<_>>()?;
    Ok(Command::Events(EventsArgs { id: id(m)?, interval, stats: m.is_on(&STATS), pressure }))
}

pub(super) fn checkpoint(m: &Matches) -> Result<Command> {
    Ok(Command::Checkpoint(Box::new(CheckpointArgs {
        id: id(m)?,
        criu: read_criu(m)?,
        parent_path: m.text(&PARENT_PATH),
        leave_running: m.is_on(&LEAVE_RUNNING),
        pre_dump: m.is_on(&PRE_DUMP),
        tcp_skip_in_flight: m.is_on(&TCP_SKIP_IN_FLIGHT),
        link_remap: m.is_on(&LINK_REMAP),
        status_fd: number(m, &STATUS_FD, "want a number of a descriptor")?.filter(|fd| *fd >= 0),
        page_server: m.text(&PAGE_SERVER).map(|text| parse_page_server(&text)).transpose()?,
    })))
}

pub(super) fn restore(m: &Matches) -> Result<Command> {
    Ok(Command::Restore(Box::new(RestoreArgs {
        create: read_create(m)?,
        criu: read_criu(m)?,
        detach: m.is_on(&DETACH),
        no_subreaper: m.is_on(&NO_SUBREAPER),
        tcp_close: m.is_on(&TCP_CLOSE),
        lsm_profile: m.text(&LSM_PROFILE),
        lsm_mount_context: m.text(&LSM_MOUNT_CONTEXT),
    })))
}

fn read_criu(m: &Matches) -> Result<CriuArgs> {
    if let Some(other) = m.all(&EMPTY_NS).iter().find(|kind| *kind != "network") {
        return Err(UsageError::invalid(other, &EMPTY_NS, "namespace is not supported: want network"));
    }
    Ok(CriuArgs {
        image_path: m.text(&IMAGE_PATH),
        work_path: m.text(&WORK_PATH),
        tcp_established: m.is_on(&TCP_ESTABLISHED),
        ext_unix_sk: m.is_on(&EXT_UNIX_SK),
        shell_job: m.is_on(&SHELL_JOB),
        file_locks: m.is_on(&FILE_LOCKS),
        auto_dedup: m.is_on(&AUTO_DEDUP),
        lazy_pages: m.is_on(&LAZY_PAGES),
        cgroups: match m.last(&MANAGE_CGROUPS_MODE) {
            None | Some("") => CgroupsMode::Default,
            Some("soft") => CgroupsMode::Soft,
            Some("full") => CgroupsMode::Full,
            Some("strict") => CgroupsMode::Strict,
            Some("ignore") => CgroupsMode::Ignore,
            Some(other) => {
                let reason = "invalid manage-cgroups-mode value: want soft, full, strict or ignore";
                return Err(UsageError::invalid(other, &MANAGE_CGROUPS_MODE, reason));
            }
        },
        network_lock: match m.last(&NETWORK_LOCK) {
            None | Some("") => None,
            Some("iptables") => Some(NetworkLock::Iptables),
            Some("nftables") => Some(NetworkLock::Nftables),
            Some("skip") => Some(NetworkLock::Skip),
            Some(other) => return Err(UsageError::invalid(other, &NETWORK_LOCK, "want iptables, nftables or skip")),
        },
    })
}

/// `HOST:PORT`; an address with colons of its own stands in brackets.
fn parse_page_server(text: &str) -> Result<(String, u16)> {
    let refuse = || UsageError::invalid(text, &PAGE_SERVER, "use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = bare.or(Some(address).filter(|address| !address.contains(':')));
    match (address, port.parse()) {
        (Some(address), Ok(port)) if !address.is_empty() && port != 0 => Ok((address.to_owned(), port)),
        _ => Err(refuse()),
    }
}

pub(super) fn spec(m: &Matches) -> Result<Command> {
    Ok(Command::Spec(SpecArgs { bundle: m.text(&BUNDLE), rootless: m.is_on(&SPEC_ROOTLESS) }))
}

pub(super) fn check(m: &Matches) -> Result<Command> {
    Ok(Command::Check(CheckArgs { bundle: m.text(&BUNDLE), config: m.text(&CONFIG), json: m.is_on(&JSON) }))
}

pub(super) fn plan(m: &Matches) -> Result<Command> {
    let id = if m.operands.is_empty() { None } else { Some(id(m)?) };
    Ok(Command::Plan(PlanArgs { id, bundle: read_bundle(m), json: m.is_on(&JSON) }))
}

pub(super) fn features(m: &Matches) -> Result<Command> {
    let host = m.is_on(&HOST);
    match m.last(&HOST_FORMAT) {
        Some("text") if !host => {
            Err(UsageError::invalid("text", &HOST_FORMAT, "the features of the build are JSON: give --host too"))
        }
        None | Some("text") => Ok(Command::Features(FeaturesArgs { host, json: !host })),
        Some("json") => Ok(Command::Features(FeaturesArgs { host, json: true })),
        Some(other) => Err(UsageError::invalid(other, &HOST_FORMAT, "want text or json")),
    }
}

fn id(m: &Matches) -> Result<String> {
    m.operands.first().filter(|id| !id.is_empty()).cloned().ok_or(UsageError::EmptyId)
}

fn target(m: &Matches) -> Result<Target> {
    id(m).map(if m.is_on(&REGEX) { Target::Matching } else { Target::Id })
}

fn format(m: &Matches) -> Result<Format> {
    match m.last(&FORMAT) {
        None | Some("table") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(UsageError::invalid(other, &FORMAT, "invalid format option: want table or json")),
    }
}

fn read_bundle(m: &Matches) -> BundleArgs {
    BundleArgs {
        bundle: m.text(&BUNDLE),
        config: m.text(&CONFIG),
        no_pivot: m.is_on(&NO_PIVOT),
        no_new_keyring: m.is_on(&NO_NEW_KEYRING),
        veth: m.all(&VETH),
        link: m.all(&LINK),
    }
}

fn read_handover(m: &Matches) -> Result<HandoverArgs> {
    Ok(HandoverArgs {
        console_socket: m.text(&CONSOLE_SOCKET),
        pidfd_socket: m.text(&PIDFD_SOCKET),
        pid_file: m.text(&PID_FILE),
        preserve_fds: number(m, &PRESERVE_FDS, "want a number of descriptors")?.unwrap_or(0),
    })
}

fn read_create(m: &Matches) -> Result<CreateArgs> {
    Ok(CreateArgs { id: id(m)?, bundle: read_bundle(m), handover: read_handover(m)? })
}

fn read_exec(m: &Matches) -> Result<ExecArgs> {
    let process = m.text(&PROCESS);
    let command = m.operands[1..].to_vec();
    let id = id(m)?;
    if command.is_empty() && process.is_none() {
        return Err(UsageError::NoCommand);
    }
    Ok(ExecArgs {
        id,
        command,
        process,
        handover: read_handover(m)?,
        detach: m.is_on(&DETACH),
        cwd: m.text(&CWD),
        env: m.all(&ENV),
        tty: m.is_on(&TTY),
        user: m.text(&USER).map(|text| parse_user(&text)).transpose()?,
        additional_gids: m.all(&ADDITIONAL_GIDS).iter().map(|text| parse_gid(text)).collect::<Result<_>>()?,
        process_label: m.text(&PROCESS_LABEL),
        apparmor: m.text(&APPARMOR),
        no_new_privs: m.switch(&NO_NEW_PRIVS),
        caps: m.all(&CAP),
        cgroups: parse_sub_cgroups(&m.all(&CGROUP))?,
        ignore_paused: m.is_on(&IGNORE_PAUSED),
    })
}

fn parse_user(text: &str) -> Result<UserArg> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |part: &str, what: &str| {
        parse_id(part)
            .ok_or_else(|| UsageError::invalid(text, &USER, format!("bad {what}: want numbers, UID or UID:GID")))
    };
    Ok(UserArg { uid: number(uid, "uid")?, gid: gid.map(|gid| number(gid, "gid")).transpose()? })
}

fn parse_gid(text: &str) -> Result<u32> {
    parse_id(text).ok_or_else(|| UsageError::invalid(text, &ADDITIONAL_GIDS, "want a group id from 0 to 4294967294"))
}

/// An id of digits alone. 2^32-1 is none: to the kernel it means "leave it as it is".
fn parse_id(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

/// Reads `--cgroup` options: one path for all hierarchies, or paths with controllers in front, each controller once.
fn parse_sub_cgroups(given: &[String]) -> Result<Vec<SubCgroup>> {
    let mut all: Vec<SubCgroup> = Vec::with_capacity(given.len());
    for text in given {
        let refuse = |reason: String| Err(UsageError::invalid(text, &CGROUP, reason));
        let Some((controllers, path)) = text.split_once(':') else {
            if given.len() > 1 {
                return refuse("missing CONTROLLER: prefix, as there is more than one".to_owned());
            }
            all.push(SubCgroup { controllers: Vec::new(), path: text.clone() });
            continue;
        };
        let mut group = SubCgroup { controllers: Vec::new(), path: path.to_owned() };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return refuse("empty controller name".to_owned());
            }
            if all.iter().chain([&group]).any(|g| g.controllers.iter().any(|c| c == controller)) {
                return refuse(format!("controller {controller} specified multiple times"));
            }
            group.controllers.push(controller.to_owned());
        }
        all.push(group);
    }
    Ok(all)
}

fn read_limits(m: &Matches) -> Result<Limits> {
    const WHOLE: &str = "want a whole number";
    const MICROS: &str = "want a whole number of microseconds";
    Ok(Limits {
        blkio_weight: number(m, &BLKIO_WEIGHT, "want a weight from 10 to 1000")?.filter(|weight| *weight != 0),
        cpu_period: number(m, &CPU_PERIOD, MICROS)?,
        cpu_quota: number(m, &CPU_QUOTA, MICROS)?,
        cpu_burst: number(m, &CPU_BURST, MICROS)?,
        cpu_shares: number(m, &CPU_SHARE, WHOLE)?,
        cpu_rt_period: number(m, &CPU_RT_PERIOD, MICROS)?,
        cpu_rt_runtime: number(m, &CPU_RT_RUNTIME, MICROS)?,
        cpu_idle: number(m, &CPU_IDLE, "want 0 or 1")?,
        cpuset_cpus: m.text(&CPUSET_CPUS),
        cpuset_mems: m.text(&CPUSET_MEMS),
        memory: limit(m, &MEMORY)?,
        memory_reservation: limit(m, &MEMORY_RESERVATION)?,
        memory_swap: limit(m, &MEMORY_SWAP)?,
        pids: number(m, &PIDS_LIMIT, WHOLE)?,
    })
}

fn limit(m: &Matches, flag: &'static Flag) -> Result<Option<i64>> {
    let Some(text) = m.last(flag).filter(|text| !text.is_empty()) else { return Ok(None) };
    parse_limit(text).map(Some).map_err(|e| UsageError::invalid(text, flag, e))
}

fn number<T: std::str::FromStr>(m: &Matches, flag: &'static Flag, wanted: &str) -> Result<Option<T>> {
    let Some(text) = m.last(flag).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| UsageError::invalid(text, flag, wanted))
}
