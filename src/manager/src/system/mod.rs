//! Whole systems: what `config.json` has for a container whose first process is an init.
//!
//! ```text
//! definition.system ─► ids (whose user namespace)      at creation
//!                   ├► files (machine-id, gettys)       before each start, in the upper layer
//!                   ├► render_system (this page, pure)  at each start, over what bundle renders for a program
//!                   └► init (who runs, what asks it)    at stop and restart
//! ```
//!
//! What each init wants to find is in docs/systems.md, with where it comes from.

pub mod files;
pub mod ids;
pub mod init;
pub mod nesting;

use std::path::Path;

use runtime_spec::guest_cgroups;
use runtime_spec::ttys::{self, Ttys};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::definition::{Definition, Seccomp};
use crate::seccomp;

/// What a definition keeps of a whole system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its `/etc/machine-id`: 32 hexadecimal digits, its own for as long as it is defined.
    pub machine_id: String,
    /// Whether it is prepared for engines that run containers inside ([`nesting`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nesting: bool,
    /// Terminals besides the console, on which gettys can be.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ttys: u16,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_none(count: &u16) -> bool {
    *count == 0
}

/// What is known when it starts, besides the definition.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// A folder that becomes `/run/host`.
    pub host: &'a Path,
    /// The container's folder.
    pub folder: &'a Path,
    /// The version of systemd if that is its init; 0 is unknown.
    pub systemd: Option<u32>,
    /// Whether the host has cgroup2 alone.
    pub unified: bool,
}

impl<'a> Guest<'a> {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(folder: &'a Path, host: &'a Path) -> Guest<'a> {
        Guest { host, folder, systemd: None, unified: false }
    }
}

/// The first version of systemd that knows cgroup v2 alone.
const UNIFIED_SYSTEMD: u32 = 258;

/// The program of a system that nothing else is said of.
pub const INIT: &str = "/sbin/init";

/// What an init and its services need. Left out is what reaches the host through no namespace: modules (SYS_MODULE), the clock
/// (SYS_TIME, WAKE_ALARM), hardware (SYS_RAWIO), its log (SYSLOG), its security modules (MAC_*), accounting (SYS_PACCT), and
/// auditing, whose namespaces do not exist (AUDIT_CONTROL, AUDIT_READ).
const CAPABILITIES: [&str; 26] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_TTY_CONFIG",
];

/// In a user namespace it goes over limits that are the namespace's own, and no others.
const MAPPED_CAPABILITIES: [&str; 1] = ["CAP_SYS_RESOURCE"];

/// Without a user namespace root inside is root outside: these would change the host, or tell what is not the container's.
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];

/// The same of what may be read. What belongs to the container's own namespaces (`/proc/sys/net`) can be written.
const READ_ONLY: [&str; 10] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys/abi",
    "/proc/sys/debug",
    "/proc/sys/dev",
    "/proc/sys/fs",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/sysrq-trigger",
];

/// Turns the definition of a program's container into that of a whole system's.
pub fn render_system(config: &mut Value, definition: &Definition, system: &System, guest: &Guest<'_>) {
    let mapped = definition.ids.is_some();
    let mut capabilities = CAPABILITIES.to_vec();
    if mapped {
        capabilities.extend(MAPPED_CAPABILITIES);
    }
    let process = &mut config["process"];
    process["capabilities"] = json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    process["env"] = json!(render_environment(definition, system, plan_ttys(definition, system, guest)));
    config["mounts"] = render_mounts(config["mounts"].take(), guest);
    let linux = &mut config["linux"];
    // The kernel refuses root of a user namespace what these are for, and refuses a new procfs where one is partly covered:
    // services with one of their own (ProtectProc=) and containers inside could not be.
    linux["maskedPaths"] = if mapped { json!([]) } else { json!(MASKED) };
    linux["readonlyPaths"] = if mapped { json!([]) } else { json!(READ_ONLY) };
    if definition.seccomp == Seccomp::Default {
        linux["seccomp"] = seccomp::render_system_filter();
    }
    let unified_only = !guest.unified && guest.systemd.is_some_and(|version| version >= UNIFIED_SYSTEMD);
    if system.nesting {
        nesting::render(config, definition, guest);
    }
    if let Some(ttys) = plan_ttys(definition, system, guest) {
        config["annotations"][ttys::ANNOTATION] = json!(ttys.render());
    }
    config["annotations"][guest_cgroups::ANNOTATION] = json!(if unified_only { "unified" } else { "all" });
}

/// Terminals besides the console, in the way that the init knows. systemd takes a `/dev/tty1` for a virtual console and would
/// ask it for what a pseudo terminal cannot do; it puts gettys on what `container_ttys` names. The others have gettys on
/// `/dev/tty1` and on. A container without a console has none.
///
/// Spec: systemd, "The Container Interface", `$container_ttys`.
#[must_use]
pub fn plan_ttys(definition: &Definition, system: &System, guest: &Guest<'_>) -> Option<Ttys> {
    let has_some = system.ttys > 0 && definition.process.terminal;
    has_some.then(|| Ttys { count: system.ttys, named: guest.systemd.is_none() })
}

/// An environment of its own, and what systemd's container interface and OpenRC look at. `lxc` is the one name that OpenRC
/// and systemd both know; which manager it really is stands in `/run/host/container-manager`.
fn render_environment(definition: &Definition, system: &System, ttys: Option<Ttys>) -> Vec<String> {
    let mut env = definition.process.env.clone();
    if let Some(Ttys { count, named: false }) = ttys {
        let names: Vec<String> = (1..=count).map(|number| format!("pts/{number}")).collect();
        env.push(format!("container_ttys={}", names.join(" ")));
    }
    let uuid = format!("container_uuid={}", render_uuid(&system.machine_id));
    for default in [crate::bundle::PATH, "HOME=/root", "TERM=linux", "container=lxc", &uuid] {
        let key = default.split('=').next().unwrap_or_default();
        if !env.iter().any(|entry| entry.split('=').next() == Some(key)) {
            env.push(default.to_owned());
        }
    }
    env
}

/// 32 digits with the dashes of a UUID.
#[must_use]
pub fn render_uuid(digits: &str) -> String {
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// What a program has, with groups that can be written, room for what a booted system keeps in memory, and what the host
/// says of itself. They come first: what the definition mounts may lie in them.
fn render_mounts(mounts: Value, guest: &Guest<'_>) -> Value {
    let Value::Array(mut mounts) = mounts else { return mounts };
    for mount in &mut mounts {
        let drop = |mount: &mut Value, unwanted: &[&str]| {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !unwanted.iter().any(|other| option == other));
            }
        };
        match mount["destination"].as_str() {
            Some("/sys/fs/cgroup") => drop(mount, &["ro"]),
            // Databases keep more there than an example of a definition says.
            Some("/dev/shm") => drop(mount, &["size=65536k", "noexec"]),
            _ => {}
        }
    }
    let tmpfs = |path: &str, mode: &str| json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", mode] });
    let host = json!({
        "destination": "/run/host", "type": "bind", "source": guest.host,
        "options": ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"],
    });
    let own =
        mounts.iter().position(|mount| mount["destination"] == "/sys/fs/cgroup").map_or(mounts.len(), |at| at + 1);
    mounts.splice(own..own, [tmpfs("/run", "mode=755"), tmpfs("/tmp", "mode=1777"), host]);
    Value::Array(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_with_dashes() {
        assert_eq!(render_uuid("0123456789abcdef0123456789abcdef"), "01234567-89ab-cdef-0123-456789abcdef");
    }

    #[test]
    fn a_system_has_its_mounts_before_those_of_the_definition() {
        let mounts = json!([
            { "destination": "/dev/shm", "options": ["nosuid", "noexec", "size=65536k"] },
            { "destination": "/sys/fs/cgroup", "options": ["nosuid", "ro"] },
            { "destination": "/run/app", "options": ["ro"] },
        ]);
        let guest = Guest::new(Path::new("/c"), Path::new("/c/host"));
        let rendered = render_mounts(mounts, &guest);
        let places: Vec<&str> =
            rendered.as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
        assert_eq!(places, ["/dev/shm", "/sys/fs/cgroup", "/run", "/tmp", "/run/host", "/run/app"]);
        assert_eq!((&rendered[0]["options"], &rendered[1]["options"]), (&json!(["nosuid"]), &json!(["nosuid"])));
    }
}
