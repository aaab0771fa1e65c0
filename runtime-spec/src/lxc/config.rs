//! The keys: which there are, what their values look like, and what a configuration says after all its lines.

use super::network;
use super::source::{self, Entry, Reader, Source};
use super::value::{
    parse_bytes, parse_idmap, parse_limit, parse_mount_entry, parse_number, parse_offset, parse_signal_value,
    parse_switch,
};
use super::{Finding, Log, Place};
use crate::{Severity, capabilities};

/// A key that is set, with a value that has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key by its present name.
    pub key: String,
    /// Its value, never empty.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// What a configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The keys that are set, in the order of their lines. What was taken back or replaced is not there.
    pub settings: Vec<Setting>,
}

/// The kinds of hooks, in the order in which they come.
pub const HOOKS: [&str; 10] =
    ["pre-start", "pre-mount", "mount", "autodev", "start-host", "start", "stop", "post-stop", "clone", "destroy"];

/// How hooks are told what they are called for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookVersion {
    /// By arguments: name, section, kind (`lxc.hook.version = 0`).
    #[default]
    Arguments,
    /// By variables (`lxc.hook.version = 1`).
    Variables,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Absolute,
    Switch,
    Unsigned,
    Signed,
    Signal,
    Bytes,
    IdMap,
    Limit,
    Offset,
    Mount,
    Capabilities,
    Namespaces,
    MountAuto,
    Ids,
    OneOf(&'static [&'static str]),
}

/// Whether a key that is set again adds to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Adds,
    Replaces,
}

use Again::{Adds, Replaces};
use Form::{
    Absolute, Bytes, Capabilities, IdMap, Ids, Limit, Mount, MountAuto, Namespaces, Offset, OneOf, Signal, Signed,
    Switch, Text, Unsigned,
};

/// Names of architectures, each with whether its programs have 32 bits.
pub(super) const ARCHITECTURES: [(&str, bool); 31] = [
    ("aarch64", false),
    ("amd64", false),
    ("arm", true),
    ("arm64", false),
    ("armel", true),
    ("armhf", true),
    ("armv7l", true),
    ("athlon", true),
    ("i386", true),
    ("i486", true),
    ("i586", true),
    ("i686", true),
    ("linux32", true),
    ("linux64", false),
    ("loongarch64", false),
    ("mips", true),
    ("mips64", false),
    ("mips64el", false),
    ("mipsel", true),
    ("powerpc", true),
    ("powerpc64", false),
    ("ppc", true),
    ("ppc64", false),
    ("ppc64el", false),
    ("ppc64le", false),
    ("riscv64", false),
    ("s390", true),
    ("s390x", false),
    ("x86", true),
    ("x86_64", false),
    ("armv8l", true),
];

/// Keys without a part of the caller's own, sorted: those of LXC 5.0 and 7.0.
const KEYS: [(&str, Form, Again); 78] = [
    ("lxc.apparmor.allow_incomplete", Switch, Replaces),
    ("lxc.apparmor.allow_nesting", Switch, Replaces),
    ("lxc.apparmor.profile", Text, Replaces),
    ("lxc.apparmor.raw", Text, Adds),
    ("lxc.arch", Text, Replaces),
    ("lxc.autodev", Switch, Replaces),
    ("lxc.autodev.tmpfs.size", Unsigned, Replaces),
    ("lxc.cap.drop", Capabilities, Adds),
    ("lxc.cap.keep", Capabilities, Adds),
    ("lxc.cgroup.dir", Text, Replaces),
    ("lxc.cgroup.dir.container", Text, Replaces),
    ("lxc.cgroup.dir.container.inner", Text, Replaces),
    ("lxc.cgroup.dir.monitor", Text, Replaces),
    ("lxc.cgroup.dir.monitor.pivot", Text, Replaces),
    ("lxc.cgroup.relative", Switch, Replaces),
    ("lxc.console.buffer.size", Bytes, Replaces),
    ("lxc.console.logfile", Text, Replaces),
    ("lxc.console.path", Text, Replaces),
    ("lxc.console.rotate", Switch, Replaces),
    ("lxc.console.size", Bytes, Replaces),
    ("lxc.environment", Text, Adds),
    ("lxc.environment.hooks", Text, Adds),
    ("lxc.environment.runtime", Text, Adds),
    ("lxc.ephemeral", Switch, Replaces),
    ("lxc.execute.cmd", Text, Replaces),
    ("lxc.group", Text, Adds),
    ("lxc.hook.autodev", Text, Adds),
    ("lxc.hook.clone", Text, Adds),
    ("lxc.hook.destroy", Text, Adds),
    ("lxc.hook.mount", Text, Adds),
    ("lxc.hook.post-stop", Text, Adds),
    ("lxc.hook.pre-mount", Text, Adds),
    ("lxc.hook.pre-start", Text, Adds),
    ("lxc.hook.start", Text, Adds),
    ("lxc.hook.start-host", Text, Adds),
    ("lxc.hook.stop", Text, Adds),
    ("lxc.hook.version", Switch, Replaces),
    ("lxc.idmap", IdMap, Adds),
    ("lxc.init.cmd", Text, Replaces),
    ("lxc.init.cwd", Absolute, Replaces),
    ("lxc.init.gid", Unsigned, Replaces),
    ("lxc.init.groups", Ids, Replaces),
    ("lxc.init.uid", Unsigned, Replaces),
    ("lxc.keyring.session", Switch, Replaces),
    ("lxc.log.file", Text, Replaces),
    ("lxc.log.level", Text, Replaces),
    ("lxc.log.syslog", Text, Replaces),
    ("lxc.monitor.signal.pdeath", Text, Replaces),
    ("lxc.monitor.unshare", Switch, Replaces),
    ("lxc.mount.auto", MountAuto, Adds),
    ("lxc.mount.entry", Mount, Adds),
    ("lxc.mount.fstab", Text, Replaces),
    ("lxc.namespace.clone", Namespaces, Adds),
    ("lxc.namespace.keep", Namespaces, Adds),
    ("lxc.no_new_privs", Switch, Replaces),
    ("lxc.pty.max", Unsigned, Replaces),
    ("lxc.rootfs.managed", Switch, Replaces),
    ("lxc.rootfs.mount", Text, Replaces),
    ("lxc.rootfs.options", Text, Replaces),
    ("lxc.rootfs.path", Text, Replaces),
    ("lxc.sched.core", Switch, Replaces),
    ("lxc.seccomp.allow_nesting", Switch, Replaces),
    ("lxc.seccomp.notify.cookie", Text, Replaces),
    ("lxc.seccomp.notify.proxy", Text, Replaces),
    ("lxc.seccomp.profile", Text, Replaces),
    ("lxc.selinux.context", Text, Replaces),
    ("lxc.selinux.context.keyring", Text, Replaces),
    ("lxc.signal.halt", Signal, Replaces),
    ("lxc.signal.reboot", Signal, Replaces),
    ("lxc.signal.stop", Signal, Replaces),
    ("lxc.start.auto", Switch, Replaces),
    ("lxc.start.delay", Unsigned, Replaces),
    ("lxc.start.order", Signed, Replaces),
    ("lxc.time.offset.boot", Offset, Replaces),
    ("lxc.time.offset.monotonic", Offset, Replaces),
    ("lxc.tty.dir", Text, Replaces),
    ("lxc.tty.max", Unsigned, Replaces),
    ("lxc.uts.name", Text, Replaces),
];

/// Keys that end in a name of the caller's own.
const FAMILIES: [(&str, Form, Again); 7] = [
    ("lxc.cgroup.", Text, Adds),
    ("lxc.cgroup2.", Text, Adds),
    ("lxc.namespace.share.", Text, Replaces),
    ("lxc.prlimit.", Limit, Replaces),
    ("lxc.proc.", Text, Replaces),
    ("lxc.sysctl.", Text, Replaces),
    ("lxc.net.", Text, Replaces),
];

/// Namespaces as the configuration names them, and as config.json does.
pub(super) const NAMESPACES: [(&str, &str); 9] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mnt", "mount"),
    ("mount", "mount"),
    ("net", "network"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// What `lxc.mount.auto` takes, without `shmounts`, which has paths behind it.
const AUTO: [&str; 26] = [
    "proc",
    "proc:mixed",
    "proc:rw",
    "sys",
    "sys:mixed",
    "sys:ro",
    "sys:rw",
    "cgroup",
    "cgroup:mixed",
    "cgroup:ro",
    "cgroup:rw",
    "cgroup:force",
    "cgroup:mixed:force",
    "cgroup:ro:force",
    "cgroup:rw:force",
    "cgroup-full",
    "cgroup-full:mixed",
    "cgroup-full:ro",
    "cgroup-full:rw",
    "cgroup-full:force",
    "cgroup-full:mixed:force",
    "cgroup-full:ro:force",
    "cgroup-full:rw:force",
    "cgroup2",
    "cgroup2:ro",
    "cgroup2:force",
];

/// Reads a configuration, and all that it includes, through `reader`. Each line that is wrong or odd has a finding; the
/// result has what could be read.
#[must_use]
pub fn parse(source: Source<'_>, reader: &mut Reader<'_>) -> (Config, Vec<Finding>) {
    let mut log = Log::default();
    let mut config = Config::default();
    source::read(source, reader, &mut log, &mut |entry, log| config.apply(entry, log));
    network::check(&config, &mut log);
    (config, log.into_findings())
}

/// Reads settings beside those of a file, each `key=value`, as a command line has them, and adds them.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn read_entries(config: &mut Config, texts: &[String]) -> Result<(), Finding> {
    for text in texts {
        let place = Place { file: "the command line".to_owned(), line: 0 };
        let mut log = Log::default();
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                config.apply(Entry { place, key, value }, &mut log);
            }
            _ => log.error(&place, format!("{text:?} is not of the form key=value")),
        }
        if let Some(finding) = log.into_findings().into_iter().find(|finding| finding.severity == Severity::Error) {
            return Err(finding);
        }
    }
    Ok(())
}

impl Config {
    /// The value of a key that can be set once.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key)
    }

    /// All values of a key, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.settings.iter().filter(move |setting| setting.key == key)
    }

    /// Whether a switch is on; `default` where it is not set.
    #[must_use]
    pub fn is_on(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |setting| setting.value == "1")
    }

    fn apply(&mut self, entry: Entry, log: &mut Log) {
        let Entry { place, key, value } = entry;
        if value.is_empty() {
            self.take_back(&key, &place, log);
            return;
        }
        let Some((form, again)) = find(&key) else {
            log.error(&place, format!("{key} is no key of LXC's"));
            return;
        };
        if let Err(reason) = judge(&key, form, &value) {
            log.error(&place, format!("{key} {reason}, not {value:?}"));
            return;
        }
        if again == Replaces && !network::is_list(&key) {
            self.settings.retain(|setting| setting.key != key);
        }
        self.settings.push(Setting { key, value, place });
    }

    /// A key without a value takes back what it said before: `lxc.net` all networks, `lxc.hook` all hooks.
    fn take_back(&mut self, key: &str, place: &Place, log: &mut Log) {
        let below = format!("{key}.");
        let is_group = |prefix: &str| prefix.starts_with(&below);
        let keys = KEYS.iter().map(|(key, ..)| *key);
        let is_known = find(key).is_some()
            || keys.chain(FAMILIES.iter().map(|(prefix, ..)| *prefix)).any(is_group)
            || network::is_whole(key);
        if !is_known {
            log.error(place, format!("{key} is no key of LXC's"));
        }
        // `lxc.environment` has others below it that are keys of their own.
        let with_those_below = find(key).is_none() || network::is_whole(key);
        self.settings.retain(|setting| setting.key != key && !(with_those_below && setting.key.starts_with(&below)));
    }
}

fn find(key: &str) -> Option<(Form, Again)> {
    let exact = KEYS.iter().find(|(known, ..)| *known == key);
    if let Some((_, form, again)) = exact {
        return Some((*form, *again));
    }
    if key.starts_with("lxc.net.") {
        return network::is_key(key).then_some((Text, Replaces));
    }
    let (prefix, form, again) = FAMILIES.iter().find(|(prefix, ..)| key.starts_with(prefix))?;
    (key.len() > prefix.len()).then_some((*form, *again))
}

fn judge(key: &str, form: Form, value: &str) -> Result<(), String> {
    match form {
        Text => judge_text(key, value),
        Absolute if value.starts_with('/') => Ok(()),
        Absolute => Err("must be an absolute path".to_owned()),
        Switch => parse_switch(value).map(drop),
        Unsigned => parse_number::<u32>(value).map(drop),
        Signed => parse_number::<i32>(value).map(drop),
        Signal => parse_signal_value(value).map(drop),
        Bytes => parse_bytes(value).map(drop),
        IdMap => parse_idmap(value).map(drop),
        Limit => parse_limit(value).map(drop),
        Offset => parse_offset(value).map(drop),
        Mount => parse_mount_entry(value).map(drop),
        Capabilities => each(value, |word| {
            let name = format!("CAP_{}", word.to_ascii_uppercase());
            let is_number = word.parse().is_ok_and(|bit| capabilities::name(bit).is_some());
            word == "none" || is_number || capabilities::bit(&name).is_some()
        }),
        Namespaces => each(value, |word| NAMESPACES.iter().any(|(name, _)| *name == word)),
        MountAuto => each(value, |word| AUTO.contains(&word) || word.starts_with("shmounts:")),
        Ids => each_of(value, &[' ', ','], |word| word.parse::<u32>().is_ok()),
        OneOf(known) if known.contains(&value) => Ok(()),
        OneOf(known) => Err(format!("must be one of {}", known.join(", "))),
    }
}

/// Judges the values that are more than any text.
fn judge_text(key: &str, value: &str) -> Result<(), String> {
    match key {
        "lxc.arch" if !ARCHITECTURES.iter().any(|(name, _)| *name == value) => {
            Err("must be an architecture such as x86_64".to_owned())
        }
        "lxc.monitor.signal.pdeath" if value != "0" => parse_signal_value(value).map(drop),
        "lxc.log.level" => {
            const LEVELS: [&str; 10] =
                ["trace", "debug", "info", "notice", "warn", "error", "crit", "alert", "fatal", "emerg"];
            let is_level = value.parse().is_ok_and(|level: u8| level <= 8);
            let is_name = LEVELS.contains(&value.to_ascii_lowercase().as_str());
            if is_level || is_name { Ok(()) } else { Err("must be a level from 0 to 8 or its name".to_owned()) }
        }
        "lxc.log.syslog" => {
            const LOCAL: &[&str] =
                &["daemon", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"];
            judge(key, OneOf(LOCAL), value)
        }
        _ if key.starts_with("lxc.net.") => network::judge(key, value),
        _ => match key.strip_prefix("lxc.namespace.share.") {
            Some(name) if !NAMESPACES.iter().any(|(known, _)| *known == name) => Err("names no namespace".to_owned()),
            _ => Ok(()),
        },
    }
}

fn each(value: &str, is_fit: impl Fn(&str) -> bool) -> Result<(), String> {
    each_of(value, &[' ', '\t'], is_fit)
}

fn each_of(value: &str, separators: &[char], is_fit: impl Fn(&str) -> bool) -> Result<(), String> {
    match value.split(separators).find(|word| !word.is_empty() && !is_fit(word)) {
        None => Ok(()),
        Some(word) => Err(format!("has {word:?}, which is not known")),
    }
}
