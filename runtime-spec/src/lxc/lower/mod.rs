//! From keys to what a container is here.

mod hooks;
mod limits;
mod links;
mod mounts;
mod process;

pub use limits::plan_resource;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{Config, HookVersion, NAMESPACES, Setting};
use super::network::{self, NetKind};
use super::report::{Fate, Item, Report};
use super::source::{Found, Reader, Source};
use super::value::{IdRange, parse_idmap, parse_offset};
use super::{Finding, Log, seccomp};
use crate::fragment;
use crate::model::CapSet;

/// Which version of cgroups has the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Version 1, with or without an empty version 2 beside it.
    Legacy,
    /// Version 2 alone.
    Unified,
}

/// What a configuration is lowered for: the host, and the container that it becomes.
pub struct Around<'a> {
    /// The container's name.
    pub name: &'a str,
    /// Absolute path of the configuration.
    pub file: &'a str,
    /// Where a root file system of layers is mounted.
    pub mount_point: &'a str,
    /// The host's cgroups.
    pub layout: Layout,
    /// The machine's architectures as config.json names them, its own first.
    pub architectures: &'a [&'a str],
    /// Name of a system call by its number.
    pub call_name: &'a dyn Fn(u32) -> Option<String>,
    /// Capabilities that a container can have at most.
    pub capabilities: CapSet,
    /// Whether the kernel has AppArmor switched on.
    pub apparmor: bool,
    /// Whether the kernel has SELinux switched on.
    pub selinux: bool,
    /// The signal that halts what the root file system has as its first program.
    pub halt: &'a str,
    /// A variable of the caller's.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Addresses of a device of the host.
    pub addresses: &'a dyn Fn(&str) -> Vec<IpAddr>,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("name", &self.name).field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// A root file system that is used where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rootfs {
    /// Absolute path of the folder that takes changes.
    pub path: String,
    /// Layers below it, the uppermost first; empty for a plain folder.
    pub lower: Vec<String>,
    /// Whether the owners on disk are those inside the container.
    pub idmap: bool,
}

/// A program that runs at a moment of a container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The moment, one of [`HOOKS`](super::HOOKS).
    pub kind: String,
    /// What a shell runs.
    pub command: String,
}

/// What neither a definition nor config.json has a field for: it is a manager's to do or to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Absolute path of the configuration.
    pub file: String,
    /// Whether it starts with the host.
    #[serde(default)]
    pub auto: bool,
    /// Seconds to wait after its start before the next one's.
    #[serde(default)]
    pub delay: u32,
    /// Lower ones start earlier.
    #[serde(default)]
    pub order: i32,
    /// Its groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Hooks outside of a run: `pre-start`, `clone`, `destroy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// How hooks are told what they are called for.
    #[serde(default)]
    pub hook_version: HookVersion,
    /// Variables of hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hook_env: Vec<String>,
}

/// A container, as far as a configuration says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lowered {
    /// Its files; `None` where nothing is said.
    pub rootfs: Option<Rootfs>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: Option<String>,
    /// `UID:GID`.
    pub user: Option<String>,
    /// Name in its UTS namespace.
    pub hostname: Option<String>,
    /// First id on the host, and how many.
    pub ids: Option<(u32, u32)>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Tasks.
    pub pids: Option<i64>,
    /// The group that its group is below.
    pub cgroup_parent: Option<String>,
    /// Signal that asks it to end.
    pub stop_signal: String,
    /// Whether its network is the host's.
    pub host_network: bool,
    /// Links as `skep run --link` takes them.
    pub links: Vec<String>,
    /// All else that config.json can say.
    pub oci: Value,
    /// The rest.
    pub kept: Kept,
}

/// A lowering under way.
struct Lowering<'a> {
    around: &'a Around<'a>,
    lowered: Lowered,
    report: Report,
    log: Log,
}

impl Lowering<'_> {
    fn note(&mut self, fate: Fate, setting: &Setting, what: impl Into<String>) {
        let Setting { key, value, place } = setting.clone();
        self.report.add(fate, Item { key, value, place, what: what.into() });
    }

    fn translated(&mut self, setting: &Setting, what: impl Into<String>) {
        self.note(Fate::Translated, setting, what);
    }

    fn approximated(&mut self, setting: &Setting, what: impl Into<String>) {
        self.note(Fate::Approximated, setting, what);
    }

    fn not_possible(&mut self, setting: &Setting, why: impl Into<String>) {
        self.note(Fate::NotPossible, setting, why);
    }

    /// Lays a piece over what there is of config.json.
    fn merge(&mut self, piece: Value) {
        fragment::merge(&mut self.lowered.oci, &piece);
    }

    /// The folder that is the container's root while its hooks run.
    fn root(&self) -> String {
        match &self.lowered.rootfs {
            Some(rootfs) if rootfs.lower.is_empty() && !rootfs.idmap => rootfs.path.clone(),
            _ => self.around.mount_point.to_owned(),
        }
    }
}

/// Lowers a configuration. `reader` reads profiles and tables of mounts that it names. The findings are those of these
/// files; the report has every key that is set.
#[must_use]
pub fn lower(config: &Config, around: &Around<'_>, reader: &mut Reader<'_>) -> (Lowered, Report, Vec<Finding>) {
    let lowered = Lowered { oci: json!({}), ..Lowered::default() };
    let mut to = Lowering { around, lowered, report: Report::default(), log: Log::default() };
    rootfs(config, &mut to);
    process::lower(config, &mut to);
    namespaces(config, &mut to);
    limits::lower(config, &mut to);
    take_limits(&mut to.lowered);
    mounts::lower(config, reader, &mut to);
    links::lower(config, &mut to);
    security(config, reader, &mut to);
    hooks::lower(config, &mut to);
    others(config, &mut to);
    (to.lowered, to.report, to.log.into_findings())
}

fn rootfs(config: &Config, to: &mut Lowering<'_>) {
    let options = config.get("lxc.rootfs.options");
    let mut idmap = false;
    for option in options.into_iter().flat_map(|setting| setting.value.split(',')) {
        let setting = options.expect("an option is one of a setting");
        match option.trim() {
            "idmap=container" => {
                idmap = true;
                to.translated(setting, "the owners on disk follow the container's user namespace");
            }
            "ro" => {
                to.merge(json!({ "root": { "readonly": true } }));
                to.translated(setting, "root.readonly");
            }
            "" | "rw" => to.translated(setting, "the default"),
            other => to.not_possible(setting, format!("{other:?}: the root file system takes ro and idmap=container")),
        }
    }
    let Some(setting) = config.get("lxc.rootfs.path") else { return };
    let (kind, path) = setting.value.split_once(':').unwrap_or(("dir", &setting.value));
    let (kind, path) = if setting.value.starts_with('/') { ("dir", setting.value.as_str()) } else { (kind, path) };
    match kind {
        "dir" if path.starts_with('/') => {
            to.translated(setting, "the folder is used where it lies");
            to.lowered.rootfs = Some(Rootfs { path: path.to_owned(), lower: Vec::new(), idmap });
        }
        "overlay" | "overlayfs" => {
            let mut layers: Vec<String> = path.split(':').map(str::to_owned).collect();
            let upper = layers.pop().unwrap_or_default();
            if layers.is_empty() || !layers.iter().chain([&upper]).all(|layer| layer.starts_with('/')) {
                to.not_possible(setting, "an overlay has absolute paths: at least one lower layer, then the upper one");
                return;
            }
            to.translated(setting, "layers, mounted for the container alone; the upper one is used where it lies");
            // LXC has them from the lowest to the uppermost as the kernel's lowerdir does: the first is the uppermost.
            to.lowered.rootfs = Some(Rootfs { path: upper, lower: layers, idmap });
        }
        "loop" | "nbd" | "lvm" | "zfs" | "btrfs" | "rbd" => to
            .not_possible(setting, format!("nothing here attaches {kind}: mount it, and name the folder as dir:/PATH")),
        _ => to.not_possible(setting, "it is no folder: want an absolute path, dir:/PATH or overlay:/LOWER:/UPPER"),
    }
}

/// Namespaces, id maps and offsets of clocks.
fn namespaces(config: &Config, to: &mut Lowering<'_>) {
    let nets = network::links(config);
    let host_network = !nets.is_empty() && nets.iter().all(|net| net.kind == NetKind::None);
    let words = |key: &str| -> Vec<&'static str> {
        let values = config.all(key).flat_map(|setting| setting.value.split_whitespace()).collect::<Vec<_>>();
        let oci = |word: &&str| NAMESPACES.iter().find(|(name, _)| name == word).map(|(_, oci)| *oci);
        values.iter().filter_map(oci).collect()
    };
    let ranges: Vec<IdRange> = config.all("lxc.idmap").filter_map(|setting| parse_idmap(&setting.value).ok()).collect();
    let offsets = offsets(config, to);
    let (clone, keep) = (words("lxc.namespace.clone"), words("lxc.namespace.keep"));
    let wanted = |kind: &str| match kind {
        _ if !clone.is_empty() => clone.contains(&kind) || (kind == "user" && !ranges.is_empty()),
        _ if keep.contains(&kind) => false,
        "user" => !ranges.is_empty(),
        "network" => !host_network,
        "time" => offsets,
        _ => true,
    };
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user", "time"];
    let mut list: Vec<Value> = kinds
        .into_iter()
        // Without a mount namespace of its own a container would change the host's mounts.
        .filter(|kind| *kind == "mount" || wanted(kind))
        .map(|kind| json!({ "type": kind }))
        .collect();
    for key in ["lxc.namespace.clone", "lxc.namespace.keep"] {
        for setting in config.all(key) {
            to.translated(setting, "linux.namespaces");
        }
    }
    for setting in &config.settings {
        let Some(name) = setting.key.strip_prefix("lxc.namespace.share.") else { continue };
        let oci = NAMESPACES.iter().find(|(known, _)| *known == name).map_or(name, |(_, oci)| oci);
        match setting.value.parse::<u32>() {
            Ok(pid) => {
                let file = if oci == "mount" {
                    "mnt"
                } else if oci == "network" {
                    "net"
                } else {
                    oci
                };
                list.retain(|entry| entry["type"] != oci);
                list.push(json!({ "type": oci, "path": format!("/proc/{pid}/ns/{file}") }));
                to.translated(setting, "linux.namespaces, by the process");
            }
            Err(_) => to.not_possible(setting, "only the number of a process says whose it is before a start"),
        }
    }
    to.lowered.host_network = !list.iter().any(|entry| entry["type"] == "network");
    to.merge(json!({ "linux": { "namespaces": list } }));
    id_maps(config, &ranges, to);
}

fn id_maps(config: &Config, ranges: &[IdRange], to: &mut Lowering<'_>) {
    let of = |groups: bool| ranges.iter().filter(|range| range.of_groups == groups).copied().collect::<Vec<_>>();
    let (users, groups) = (of(false), of(true));
    let is_plain = |range: &IdRange| range.inside == 0 && range.outside > 0;
    let whole = match (users.as_slice(), groups.as_slice()) {
        ([u], [g]) if is_plain(u) && (u.inside, u.outside, u.count) == (g.inside, g.outside, g.count) => {
            Some((u.outside, u.count))
        }
        _ => None,
    };
    if whole.is_none() && !ranges.is_empty() {
        let map = |list: &[IdRange]| {
            let entry =
                |range: &IdRange| json!({ "containerID": range.inside, "hostID": range.outside, "size": range.count });
            list.iter().map(entry).collect::<Vec<_>>()
        };
        to.merge(json!({ "linux": { "uidMappings": map(&users), "gidMappings": map(&groups) } }));
    }
    to.lowered.ids = whole;
    let what = if whole.is_some() { "ids" } else { "linux.uidMappings and gidMappings" };
    for setting in config.all("lxc.idmap") {
        to.translated(setting, what);
    }
}

/// Whether a clock has an offset.
fn offsets(config: &Config, to: &mut Lowering<'_>) -> bool {
    let mut any = false;
    for (key, clock) in [("lxc.time.offset.boot", "boottime"), ("lxc.time.offset.monotonic", "monotonic")] {
        let Some(setting) = config.get(key) else { continue };
        let Ok((seconds, nanoseconds)) = parse_offset(&setting.value) else { continue };
        to.merge(json!({ "linux": { "timeOffsets": { clock: { "secs": seconds, "nanosecs": nanoseconds } } } }));
        to.translated(setting, format!("linux.timeOffsets.{clock}"));
        any = true;
    }
    any
}

/// Moves the limits that a definition has fields for.
fn take_limits(lowered: &mut Lowered) {
    let resources = &mut lowered.oci["linux"]["resources"];
    let mut take = |group: &str, field: &str| {
        let found = resources[group][field].as_i64().filter(|value| *value > 0);
        if let (Some(_), Some(group)) = (found, resources[group].as_object_mut()) {
            group.remove(field);
        }
        found
    };
    lowered.memory = take("memory", "limit").and_then(|bytes| u64::try_from(bytes).ok());
    lowered.pids = take("pids", "limit");
    if let Some(resources) = resources.as_object_mut() {
        resources.retain(|_, group| !group.is_null() && group.as_object().is_none_or(|group| !group.is_empty()));
    }
}

fn security(config: &Config, reader: &mut Reader<'_>, to: &mut Lowering<'_>) {
    if let Some(setting) = config.get("lxc.seccomp.profile") {
        if setting.value == "none" {
            to.translated(setting, "no filter");
        } else {
            let (names, architectures) = (to.around.call_name, to.around.architectures);
            let filter = match reader(&setting.value) {
                Ok(Found::File(text)) => {
                    seccomp::read(Source { name: &setting.value, text: &text }, architectures, names, &mut to.log)
                }
                Ok(Found::Folder(_)) => {
                    to.log.error(&setting.place, format!("{}: {} is a folder", setting.key, setting.value));
                    None
                }
                Err(reason) => {
                    to.log.error(&setting.place, format!("{}: {reason}", setting.key));
                    None
                }
            };
            if let Some(filter) = filter {
                to.merge(json!({ "linux": { "seccomp": filter } }));
                to.translated(setting, "linux.seccomp");
            }
        }
    }
    if let Some(setting) = config.get("lxc.apparmor.profile") {
        match setting.value.as_str() {
            "unconfined" | "unchanged" => to.translated(setting, "no profile is set"),
            _ if !to.around.apparmor => to.translated(setting, "nothing: this host has no AppArmor, as for LXC"),
            "generated" => to.not_possible(setting, "no profile is made: name one that is loaded, or unconfined"),
            name => {
                to.merge(json!({ "process": { "apparmorProfile": name } }));
                to.translated(setting, "process.apparmorProfile");
            }
        }
    }
    if let Some(setting) = config.get("lxc.selinux.context") {
        match setting.value.as_str() {
            "unconfined_t" => to.translated(setting, "no context is set"),
            _ if !to.around.selinux => to.translated(setting, "nothing: this host has no SELinux, as for LXC"),
            label => {
                to.merge(json!({ "process": { "selinuxLabel": label } }));
                to.translated(setting, "process.selinuxLabel; keys that the container makes have it too");
            }
        }
    }
}

/// What a manager does, what makes no difference, and what cannot be had.
fn others(config: &Config, to: &mut Lowering<'_>) {
    to.lowered.kept.file = to.around.file.to_owned();
    for setting in &config.settings {
        let value = setting.value.as_str();
        let kept = &mut to.lowered.kept;
        match setting.key.as_str() {
            "lxc.start.auto" => kept.auto = value == "1",
            "lxc.start.delay" => kept.delay = value.parse().unwrap_or(0),
            "lxc.start.order" => kept.order = value.parse().unwrap_or(0),
            "lxc.group" => kept.groups.push(value.to_owned()),
            key => {
                if let Some((_, fate, why)) = REST.iter().find(|(known, ..)| *known == key) {
                    to.note(*fate, setting, *why);
                } else if let Some(file) = key.strip_prefix("lxc.proc.").filter(|file| *file != "oom_score_adj") {
                    to.not_possible(setting, format!("config.json has no field for /proc/PID/{file}"));
                }
                continue;
            }
        }
        to.translated(setting, "kept with the definition, which autostart goes by");
    }
}

/// Keys that become nothing, with what that means.
const REST: [(&str, Fate, &str); 30] = [
    ("lxc.apparmor.allow_incomplete", Fate::Approximated, "there is no check that it would lift"),
    ("lxc.apparmor.allow_nesting", Fate::NotPossible, "it is of generated profiles, and none is made"),
    ("lxc.apparmor.raw", Fate::NotPossible, "it is of generated profiles, and none is made"),
    ("lxc.cgroup.dir.container.inner", Fate::NotPossible, "limits and the namespace have one group"),
    ("lxc.cgroup.dir.monitor", Fate::Translated, "nothing: no process stays behind that would need a group"),
    ("lxc.cgroup.dir.monitor.pivot", Fate::Translated, "nothing: no process stays behind that would need a group"),
    ("lxc.cgroup.relative", Fate::NotPossible, "groups are below /skep, or below lxc.cgroup.dir"),
    ("lxc.console.buffer.size", Fate::NotPossible, "there is no ring buffer of the console"),
    ("lxc.console.logfile", Fate::Approximated, "what the first process writes is in the container's own log"),
    ("lxc.console.path", Fate::NotPossible, "the standard streams are the container's log"),
    ("lxc.console.rotate", Fate::Approximated, "the log of the run before is kept as log.1"),
    ("lxc.console.size", Fate::NotPossible, "the log has no limit"),
    (
        "lxc.ephemeral",
        Fate::NotPossible,
        "nothing removes a container by itself; skep create --ephemeral forgets changes",
    ),
    ("lxc.execute.cmd", Fate::Translated, "nothing: it is of lxc-execute, which needs no program in the container"),
    ("lxc.keyring.session", Fate::NotPossible, "it is an option of skep create, not of config.json"),
    ("lxc.log.file", Fate::NotPossible, "the runtime's messages go where skep --log says"),
    ("lxc.log.level", Fate::Approximated, "skep --log-level says it"),
    ("lxc.log.syslog", Fate::NotPossible, "the runtime's messages go where skep --log says"),
    ("lxc.monitor.signal.pdeath", Fate::Translated, "nothing: no process has to live for the container to go on"),
    ("lxc.monitor.unshare", Fate::Translated, "nothing: the host side makes no mounts"),
    ("lxc.rootfs.managed", Fate::Translated, "nothing: a root file system that is used where it lies is never removed"),
    ("lxc.rootfs.mount", Fate::Translated, "nothing: the root is mounted in the container's namespace alone"),
    ("lxc.sched.core", Fate::NotPossible, "config.json has no field for core scheduling"),
    ("lxc.seccomp.allow_nesting", Fate::Translated, "the filter is added to those that are there"),
    ("lxc.seccomp.notify.cookie", Fate::NotPossible, "LXC's messages of system calls are not spoken"),
    ("lxc.seccomp.notify.proxy", Fate::NotPossible, "LXC's messages of system calls are not spoken"),
    ("lxc.selinux.context.keyring", Fate::NotPossible, "keys have the label of the process"),
    ("lxc.signal.reboot", Fate::NotPossible, "a restart is a stop and a start"),
    ("lxc.tty.dir", Fate::NotPossible, "there are no terminals beside /dev/pts"),
    ("lxc.tty.max", Fate::NotPossible, "there are no terminals beside /dev/pts"),
];
