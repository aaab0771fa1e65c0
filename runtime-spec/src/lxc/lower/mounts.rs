//! Mounts: those that LXC makes by itself, `lxc.mount.entry`, and tables of mounts.

use serde_json::{Value, json};

use super::{Layout, Lowering};
use crate::lxc::config::{Config, Setting};
use crate::lxc::source::{Found, Reader};
use crate::lxc::value::parse_mount_entry;

/// Bytes of `/dev` where nothing is said (lxc.container.conf(5), lxc.autodev.tmpfs.size).
const DEV_BYTES: u32 = 500_000;

/// Lowers all mounts.
pub(super) fn lower(config: &Config, reader: &mut Reader<'_>, to: &mut Lowering<'_>) {
    devices(config, to);
    automatic(config, to);
    if let Some(setting) = config.get("lxc.mount.fstab") {
        match reader(&setting.value) {
            Ok(Found::File(text)) => {
                for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    entry(config, &Setting { value: line.to_owned(), ..setting.clone() }, to);
                }
            }
            Ok(Found::Folder(_)) => to.log.error(&setting.place, format!("{} is a folder", setting.value)),
            Err(reason) => to.log.error(&setting.place, format!("{}: {reason}", setting.key)),
        }
    }
    for setting in config.all("lxc.mount.entry") {
        entry(config, setting, to);
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// `/dev` and its terminals.
fn devices(config: &Config, to: &mut Lowering<'_>) {
    let bytes = config.get("lxc.autodev.tmpfs.size");
    if config.is_on("lxc.autodev", true) {
        let size = bytes.and_then(|setting| setting.value.parse().ok()).unwrap_or(DEV_BYTES);
        let size = format!("size={size}");
        to.merge(json!({ "mounts": [mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", &size])] }));
        if let Some(setting) = config.get("lxc.autodev") {
            to.translated(setting, "the mount on /dev and the usual devices");
        }
    } else {
        to.merge(json!({ "mounts": [{ "destination": "/dev" }] }));
        if let Some(setting) = config.get("lxc.autodev") {
            to.approximated(setting, "no mount on /dev; the usual devices are made in the root file system's own");
        }
    }
    if let Some(setting) = bytes {
        to.translated(setting, "the size of the mount on /dev");
    }
    if let Some(setting) = config.get("lxc.pty.max") {
        let max = format!("max={}", setting.value);
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", &max];
        to.merge(json!({ "mounts": [mount("/dev/pts", "devpts", "devpts", &options)] }));
        to.translated(setting, "the option max of /dev/pts");
    }
}

/// `lxc.mount.auto`. LXC mounts `/proc` whether it is asked to or not.
fn automatic(config: &Config, to: &mut Lowering<'_>) {
    let (mut proc_mixed, mut sys, mut cgroup) = (false, None, None);
    for setting in config.all("lxc.mount.auto") {
        for word in setting.value.split_whitespace() {
            let part = Setting { value: word.to_owned(), ..setting.clone() };
            let (name, how) = word.split_once(':').unwrap_or((word, "mixed"));
            match name {
                "proc" => {
                    proc_mixed = how == "mixed";
                    let what = if proc_mixed { "/proc, with linux.readonlyPaths" } else { "/proc" };
                    to.translated(&part, what);
                }
                "sys" => {
                    sys = Some(how.to_owned());
                    match how {
                        "mixed" => to.approximated(&part, "/sys can be read, /sys/devices/virtual/net too"),
                        _ => to.translated(&part, "/sys"),
                    }
                }
                "shmounts" => shared(&part, how, to),
                _ => {
                    let access = if how.split(':').any(|part| part == "ro") { "ro" } else { "rw" };
                    cgroup = Some(access);
                    let text = "/sys/fs/cgroup: the container's own groups, by its cgroup namespace";
                    if name == "cgroup-full" { to.approximated(&part, text) } else { to.translated(&part, text) }
                }
            }
        }
    }
    let read_only: &[&str] = if proc_mixed { &["/proc/sys", "/proc/sysrq-trigger"] } else { &[] };
    to.merge(json!({ "linux": { "readonlyPaths": read_only, "maskedPaths": [] } }));
    let common = ["nosuid", "noexec", "nodev"];
    match sys.as_deref() {
        None => to.merge(json!({ "mounts": [{ "destination": "/sys" }] })),
        Some("rw") => to.merge(json!({ "mounts": [mount("/sys", "sysfs", "sysfs", &common)] })),
        Some(_) => {}
    }
    let on_cgroup = |access: &str| {
        let options = [&common[..], &["relatime", access]].concat();
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
    };
    let mount = match (cgroup, to.around.layout) {
        (Some(access), _) => on_cgroup(access),
        // As LXC: few first programs mount version 2 by themselves.
        (None, Layout::Unified) if sys.is_some() => on_cgroup("rw"),
        (None, _) => json!({ "destination": "/sys/fs/cgroup" }),
    };
    to.merge(json!({ "mounts": [mount] }));
}

/// `shmounts:HOST[:INSIDE]`: a folder by which mounts come in.
fn shared(setting: &Setting, paths: &str, to: &mut Lowering<'_>) {
    let (host, inside) = paths.split_once(':').unwrap_or((paths, "/dev/.lxc-mounts"));
    if !host.starts_with('/') || !inside.starts_with('/') {
        to.not_possible(setting, "the folder of the host has to be named: shmounts:/HOST[:/INSIDE]");
        return;
    }
    to.merge(json!({ "mounts": [mount(inside, "bind", host, &["bind", "rslave"])] }));
    to.translated(setting, "a mount that follows the host's");
}

/// A line of `fstab`.
fn entry(config: &Config, setting: &Setting, to: &mut Lowering<'_>) {
    let parsed = match parse_mount_entry(&setting.value) {
        Ok(parsed) => parsed,
        Err(reason) => {
            to.log.error(&setting.place, format!("{} {reason}, not {:?}", setting.key, setting.value));
            return;
        }
    };
    let Some(destination) = inside(config, &parsed.target, to) else {
        to.not_possible(setting, "the target is absolute and not in the root file system; LXC passes it over too");
        return;
    };
    let is_bind = parsed.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    let mut options = parsed.options.clone();
    if let Some(of) = &parsed.idmap {
        if of != "container" {
            to.not_possible(setting, "ids follow the container's user namespace only: idmap=container");
            return;
        }
        options.push("idmap".to_owned());
    }
    let source = match (parsed.relative, is_bind) {
        (true, _) => format!("{}/{}", to.root(), parsed.source.trim_start_matches('/')),
        (false, true) if !parsed.source.starts_with('/') => {
            to.not_possible(setting, "the source of a bind mount is absolute, or relative to the container");
            return;
        }
        _ => parsed.source.clone(),
    };
    let kind = if is_bind { "bind" } else { &parsed.kind };
    let mut entry = json!({ "destination": destination, "type": kind, "source": source, "options": options });
    if parsed.optional && is_bind && !parsed.relative {
        entry["optional"] = json!(true);
    }
    to.merge(json!({ "mounts": [entry] }));
    if parsed.optional && (!is_bind || parsed.relative) {
        to.approximated(setting, "a mount; a failure is one, only a missing source of a bind mount is passed over");
    } else {
        to.translated(setting, "a mount");
    }
}

/// The place inside the container; `None` where the target is an absolute path of the host.
fn inside(config: &Config, target: &str, to: &Lowering<'_>) -> Option<String> {
    let below = |root: &str| {
        let rest = target.strip_prefix(root.trim_end_matches('/'))?;
        (rest.starts_with('/') && rest.len() > 1).then(|| rest.to_owned())
    };
    if !target.starts_with('/') {
        return Some(format!("/{target}"));
    }
    let roots = [to.lowered.rootfs.as_ref().map(|rootfs| rootfs.path.as_str()), {
        config.get("lxc.rootfs.mount").map(|setting| setting.value.as_str())
    }];
    roots.into_iter().flatten().find_map(below)
}
