//! From a definition to `config.json`. Rendering is pure: what the host has to be asked is asked before.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runtime_spec::{fragment, overlay};
use serde_json::{Value, json};

use crate::base::User;
use crate::definition::{Definition, From, Network, Seccomp, Upper};
use crate::host::Part;
use crate::places::{UPPER, WORK, is_lost};
use crate::seccomp;
use crate::system::{Guest, nesting, render_system};
use crate::view;

/// What a bundle is made from, besides the definition.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The container's folder.
    pub folder: &'a Path,
    /// Layers below the upper one, the uppermost first.
    pub lower: &'a [PathBuf],
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
    /// Whether all this is in a user namespace.
    pub nested: bool,
    /// Whom the process runs as.
    pub user: &'a User,
    /// Devices of the host: type, major and minor number, in the order of the definition.
    pub devices: &'a [(char, u32, u32)],
    /// Files of the container's folder that are mounted: name and place inside.
    pub files: &'a [(&'a str, &'a str)],
    /// Paths of the lower layers that are not shown.
    pub hidden: &'a [PathBuf],
    /// Paths in such parts that are not shown, and whether each is a folder.
    pub covers: &'a [(PathBuf, bool)],
    /// Parts of the host that are mounts of their own.
    pub parts: &'a [Part],
    /// What a whole system is told.
    pub guest: Option<Guest<'a>>,
    /// Where the files are that tell it of itself.
    pub view: Option<&'a Path>,
    /// The processors that it is held to.
    pub cpus: Option<&'a str>,
    /// Its clocks, as `linux.timeOffsets`.
    pub offsets: Option<&'a Value>,
    /// The program that starts others, where the definition wants it.
    pub init: Option<&'a Path>,
}

impl<'a> Surroundings<'a> {
    /// Those of a container that gets nothing of the host, for what differs to be laid over.
    pub(crate) fn bare(folder: &'a Path, user: &'a User) -> Surroundings<'a> {
        Surroundings {
            folder,
            lower: &[],
            systemd: false,
            nested: false,
            user,
            devices: &[],
            files: &[],
            hidden: &[],
            covers: &[],
            parts: &[],
            guest: None,
            view: None,
            cpus: None,
            offsets: None,
            init: None,
        }
    }
}

/// Where that program is inside.
const INIT: &str = "/dev/.skep-init";

/// What a process may by default: docker's list, which images are made for.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Where programs are looked for, unless the definition says otherwise.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Length of a period of the processor quota in microseconds: the kernel's default.
pub const CPU_PERIOD_US: u64 = 100_000;

/// Devices that anybody may open, as udev has it: what can be done with them is decided by what is done, not by who opens.
const EVERYBODYS: [&str; 2] = ["/dev/fuse", "/dev/net/tun"];

/// The group that the groups of all containers are below.
const CGROUP_PARENT: &str = "/skep";

/// The same where systemd makes the groups.
const SLICE: &str = "system.slice";

/// Renders the definition of a container's next run.
#[must_use]
pub fn render_config(definition: &Definition, around: &Surroundings<'_>) -> Value {
    let (devices, rules) = devices(definition, around);
    let mut linux = json!({
        "namespaces": namespaces(definition),
        "cgroupsPath": cgroups_path(definition, around.systemd),
        "resources": resources(definition, around, rules),
        "devices": devices,
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
            "/sys/firmware",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if definition.seccomp == Seccomp::Default {
        linux["seccomp"] = seccomp::render_filter(definition.limits.disk.is_some());
    }
    if let Some((first, count)) = definition.ids {
        let map = json!([{ "containerID": 0, "hostID": first, "size": count }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    let mut config = json!({
        "ociVersion": runtime_spec::version(),
        "process": process(definition, around),
        "root": { "path": "rootfs", "readonly": false },
        "hostname": definition.hostname,
        "mounts": mounts(definition, around),
        "linux": linux,
        "annotations": {
            "org.opencontainers.image.stopSignal": definition.stop_signal,
        },
    });
    match &definition.from {
        From::Adopted { path, lower, idmap: false } if lower.is_empty() => config["root"]["path"] = json!(path),
        _ => config["annotations"][overlay::ANNOTATION] = json!(render_overlay(definition, around).to_string()),
    }
    if let (Some(system), Some(guest)) = (&definition.system, &around.guest) {
        render_system(&mut config, definition, system, guest);
    }
    if let (Some(mounts), Some(place)) = (config["mounts"].as_array_mut(), around.view) {
        mounts.extend(view::render_mounts(place));
    }
    if let (Some(mounts), Some(system)) = (config["mounts"].as_array_mut(), &definition.system)
        && (system.nesting || (around.view.is_some() && definition.ids.is_some()))
    {
        mounts.extend(nesting::render_whole());
    }
    if let (Some(namespaces), Some(offsets)) = (config["linux"]["namespaces"].as_array_mut(), around.offsets) {
        namespaces.push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = offsets.clone();
    }
    if definition.oci.is_object() {
        fragment::merge(&mut config, &definition.oci);
    }
    config
}

/// The layers below the upper one of a container's last start, the uppermost first; `None` where it never started.
///
/// # Errors
/// Its config.json cannot be read.
pub fn read_lower(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    #[derive(serde::Deserialize)]
    struct Layers {
        lower: Vec<PathBuf>,
    }
    let path = folder.join("config.json");
    let bytes = match std::fs::read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if is_lost(&bytes) {
        return Ok(None);
    }
    let read = || -> Result<Option<Layers>> {
        let config: Value = serde_json::from_slice(&bytes)?;
        match config["annotations"][overlay::ANNOTATION].as_str() {
            Some(text) => Ok(Some(serde_json::from_str(text)?)),
            // A plain folder has no layers.
            None => Ok(None),
        }
    };
    let layers = read().with_context(|| format!("cannot use {}", path.display()))?;
    Ok(layers.map(|layers| layers.lower))
}

/// Where its groups are, or what systemd is told of them.
pub(crate) fn cgroups_path(definition: &Definition, systemd: bool) -> String {
    let (parent, name) = (definition.cgroup_parent.as_deref(), &definition.name);
    if systemd {
        let slice = parent.filter(|parent| !parent.starts_with('/')).unwrap_or(SLICE);
        format!("{slice}:skep:{name}")
    } else {
        format!("{}/{name}", parent.unwrap_or(CGROUP_PARENT).trim_end_matches('/'))
    }
}

fn process(definition: &Definition, around: &Surroundings<'_>) -> Value {
    let user = around.user;
    let mut args = definition.process.args.clone();
    if around.init.is_some() {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    let mut env = definition.process.env.clone();
    let home = format!("HOME={}", user.home.as_deref().unwrap_or("/"));
    for default in [PATH, home.as_str(), "container=skep"] {
        let key = default.split('=').next().unwrap_or_default();
        if !env.iter().any(|entry| entry.split('=').next() == Some(key)) {
            env.push(default.to_owned());
        }
    }
    json!({
        "terminal": definition.process.terminal,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": args,
        "env": env,
        "cwd": definition.process.cwd,
        "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        "noNewPrivileges": false,
    })
}

fn namespaces(definition: &Definition) -> Vec<Value> {
    let mut kinds = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if definition.network != Network::Host {
        kinds.push("network");
    }
    if definition.ids.is_some() {
        kinds.push("user");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn resources(definition: &Definition, around: &Surroundings<'_>, rules: Vec<Value>) -> Value {
    let limits = definition.limits;
    let mut resources = json!({ "devices": rules });
    if let Some(bytes) = limits.memory {
        resources["memory"] = json!({ "limit": bytes });
    }
    if let Some(millicpus) = limits.millicpus {
        resources["cpu"] = json!({ "quota": millicpus * CPU_PERIOD_US / 1000, "period": CPU_PERIOD_US });
    }
    if let Some(cpus) = around.cpus {
        resources["cpu"]["cpus"] = json!(cpus);
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}

/// Nodes and rules: nothing may be opened but what is listed; making a node is no use without.
fn devices(definition: &Definition, around: &Surroundings<'_>) -> (Vec<Value>, Vec<Value>) {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(["c", "b"].map(|kind| json!({ "allow": true, "type": kind, "access": "m" })));
    let mut nodes = Vec::new();
    for (device, (kind, major, minor)) in definition.devices.iter().zip(around.devices) {
        let mode = if EVERYBODYS.contains(&device.source.as_str()) { 0o666 } else { 0o660 };
        nodes.push(json!({
            "path": device.destination, "type": kind, "major": major, "minor": minor, "fileMode": mode, "uid": 0, "gid": 0,
        }));
        rules.push(device_rule(*kind, *major, *minor, &device.access));
    }
    (nodes, rules)
}

/// The rule that lets a device be opened, as `linux.resources.devices` has it.
pub(crate) fn device_rule(kind: char, major: u32, minor: u32, access: &str) -> Value {
    json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": access })
}

fn mounts(definition: &Definition, around: &Surroundings<'_>) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let mut mounts: Vec<Value> = runtime_spec::example::mounts().iter().map(|mount| json!(mount)).collect();
    mounts[0]["options"] = json!(["nosuid", "noexec", "nodev"]);
    // They can be read; what is installed is not the container's to change.
    mounts.extend(around.parts.iter().map(|part| mount(&part.path, "bind", &part.path, &["bind", "rprivate", "ro"])));
    for (path, is_folder) in around.covers {
        let path = path.to_string_lossy();
        mounts.push(match is_folder {
            true => mount(&path, "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "ro", "size=4k", "mode=755"]),
            false => mount(&path, "bind", "/dev/null", &["bind", "nosuid", "noexec", "ro"]),
        });
    }
    if let Some(init) = around.init {
        mounts.push(mount(INIT, "bind", &init.to_string_lossy(), &["bind", "rprivate", "ro", "nosuid", "nodev"]));
    }
    for (name, destination) in around.files {
        let source = around.folder.join(name);
        mounts.push(mount(destination, "bind", &source.to_string_lossy(), &["bind", "nosuid", "nodev", "noexec"]));
    }
    for volume in &definition.volumes {
        let access = if volume.read_only { "rro" } else { "rw" };
        let mut options = vec!["rbind", "rprivate", access];
        // There is nothing to map without a user namespace, which may have been taken away since.
        if volume.idmap && definition.ids.is_some() {
            options.push("ridmap");
        }
        mounts.push(mount(&volume.destination, "bind", &volume.source, &options));
    }
    mounts
}

fn render_overlay(definition: &Definition, around: &Surroundings<'_>) -> Value {
    if let From::Adopted { path, lower, idmap } = &definition.from {
        // A folder alone is the upper layer of nothing: the kernel maps the ids of layers, not of a plain root.
        let empty = [around.folder.join(UPPER)];
        let lower = if lower.is_empty() { &empty[..] } else { lower };
        return json!({ "lower": lower, "upper": path, "work": adopted_work(path), "idmap": idmap });
    }
    let mut layers = json!({ "lower": around.lower, "hide": around.hidden, "idmap": definition.ids.is_some() });
    if around.nested {
        layers["userXattr"] = json!(true);
    }
    match definition.upper {
        Upper::Disk => {
            layers["upper"] = json!(around.folder.join(UPPER));
            layers["work"] = json!(around.folder.join(WORK));
        }
        Upper::Memory(bytes) => layers["memory"] = json!(bytes),
    }
    layers
}

/// The kernel's working folder beside an upper layer that is not ours, by LXC's name for it.
#[must_use]
pub fn adopted_work(upper: &Path) -> PathBuf {
    upper.with_file_name("olwork")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Device, First, From, Limits, Process, Restart, Volume};
    use crate::system::System;

    fn definition() -> Definition {
        Definition {
            schema: Definition::SCHEMA,
            name: "web1".to_owned(),
            created: 0,
            from: From::Folder { path: "/srv/base".into() },
            changes: Vec::new(),
            upper: Upper::Disk,
            storage: crate::copied::Storage::Overlay,
            process: Process { args: vec!["true".to_owned()], cwd: "/".to_owned(), ..Process::default() },
            hostname: "web1".to_owned(),
            ids: None,
            limits: Limits::default(),
            cgroup_parent: None,
            volumes: Vec::new(),
            devices: Vec::new(),
            network: Network::None,
            links: Vec::new(),
            share: None,
            publish: Vec::new(),
            restart: Restart::No,
            seccomp: Seccomp::Default,
            stop_signal: "TERM".to_owned(),
            monitor: true,
            view: true,
            autostart: None,
            log: crate::definition::LogBounds::default(),
            oci: Value::Null,
            lxc: None,
            system: None,
        }
    }

    fn render(definition: &Definition) -> Value {
        let user = User { uid: 33, gid: 44, groups: vec![29], home: None };
        let lower = [PathBuf::from("/srv/base")];
        let config = render_config(
            definition,
            &Surroundings {
                folder: Path::new("/data/containers/web1"),
                lower: &lower,
                systemd: false,
                nested: false,
                user: &user,
                devices: &[('c', 10, 229)],
                files: &[("hosts", "/etc/hosts")],
                hidden: &["/root".into()],
                covers: &[("/usr/secret".into(), true), ("/usr/key".into(), false)],
                parts: &[Part { path: "/usr".to_owned() }],
                guest: definition.system.is_some().then_some(Guest {
                    systemd: Some(258),
                    ..Guest::new(Path::new("/data/containers/web1"), Path::new("/data/containers/web1/host"))
                }),
                view: definition.limits.memory.map(|_| Path::new("/data/containers/web1/own/view")),
                cpus: None,
                offsets: None,
                init: (definition.process.first == First::SkepInit).then_some(Path::new("/libexec/skep-init")),
            },
        );
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        assert!(report.spec.is_some() && report.findings.is_empty(), "{:?}", report.findings);
        config
    }

    #[test]
    fn every_part_of_a_definition_is_in_the_bundle() {
        let mut all = definition();
        all.ids = Some((100_000, 65_536));
        all.limits = Limits { memory: Some(64 << 20), millicpus: Some(500), pids: Some(32), disk: Some(1 << 30) };
        all.volumes = vec![Volume {
            source: "/srv/www".to_owned(),
            destination: "/www".to_owned(),
            read_only: true,
            idmap: false,
        }];
        let fuse = "/dev/fuse".to_owned();
        all.devices = vec![Device { source: fuse.clone(), destination: fuse, access: "rw".to_owned() }];
        all.process.env = vec!["PATH=/x".to_owned()];
        let config = render(&all);
        assert_eq!(config["linux"]["resources"]["cpu"], json!({ "quota": 50_000, "period": 100_000 }));
        assert_eq!(config["linux"]["resources"]["memory"], json!({ "limit": 64 << 20 }));
        assert_eq!(config["linux"]["devices"][0]["minor"], 229);
        assert_eq!(config["process"]["env"], json!(["PATH=/x", "HOME=/", "container=skep"]));
        let mounts: Vec<&str> =
            config["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
        assert_eq!(mounts[7..12], ["/usr", "/usr/secret", "/usr/key", "/etc/hosts", "/www"]);
        assert_eq!(mounts[12..15], ["/proc/cpuinfo", "/proc/loadavg", "/proc/meminfo"]);
        let layers: Value = serde_json::from_str(config["annotations"][overlay::ANNOTATION].as_str().unwrap()).unwrap();
        assert_eq!(
            layers,
            json!({
                "lower": ["/srv/base"], "hide": ["/root"], "idmap": true,
                "upper": "/data/containers/web1/own/upper", "work": "/data/containers/web1/own/work"
            })
        );
    }

    #[test]
    fn a_fragment_is_laid_over_all() {
        let oci = json!({ "hostname": "other", "mounts": [{ "destination": "/sys" }], "process": { "env": ["A=1"] } });
        let config = render(&Definition { oci, ..definition() });
        assert_eq!((&config["hostname"], &config["process"]["env"][3]), (&json!("other"), &json!("A=1")));
        assert!(!config["mounts"].as_array().unwrap().iter().any(|mount| mount["destination"] == "/sys"));
    }

    #[test]
    fn an_adopted_root_is_used_where_it_lies() {
        let adopted = |lower: &[&str], idmap: bool| {
            let lower = lower.iter().map(PathBuf::from).collect();
            let ids = idmap.then_some((100_000, 65_536));
            render(&Definition { ids, from: From::Adopted { path: "/c/root".into(), lower, idmap }, ..definition() })
        };
        let plain = adopted(&[], false);
        assert_eq!(
            (&plain["root"]["path"], &plain["annotations"][overlay::ANNOTATION]),
            (&json!("/c/root"), &Value::Null)
        );
        let layers = |config: Value| -> Value {
            serde_json::from_str(config["annotations"][overlay::ANNOTATION].as_str().unwrap()).unwrap()
        };
        let expected = json!({ "lower": ["/a"], "upper": "/c/root", "work": "/c/olwork", "idmap": false });
        assert_eq!(layers(adopted(&["/a"], false)), expected);
        assert_eq!(layers(adopted(&[], true))["lower"], json!(["/data/containers/web1/own/upper"]));
    }

    #[test]
    fn a_first_process_stands_before_the_program() {
        let mut definition = definition();
        definition.process.first = First::SkepInit;
        let config = render(&definition);
        assert_eq!(config["process"]["args"], json!([INIT, "--", "true"]));
        let mounts = config["mounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["destination"] == INIT && mount["source"] == "/libexec/skep-init"));
    }

    #[test]
    fn a_whole_system_can_be_rendered() {
        let system =
            Some(System { machine_id: "0123456789abcdef0123456789abcdef".to_owned(), ttys: 2, ..System::default() });
        let config = render(&Definition { system: system.clone(), ids: Some((100_000, 65_536)), ..definition() });
        let env = config["process"]["env"].as_array().unwrap();
        assert!(env.contains(&json!("container=lxc")));
        assert!(env.contains(&json!("container_uuid=01234567-89ab-cdef-0123-456789abcdef")));
        let has = |config: &Value, capability: &str| {
            config["process"]["capabilities"]["bounding"].as_array().unwrap().contains(&json!(capability))
        };
        assert!(has(&config, "CAP_SYS_ADMIN") && has(&config, "CAP_SYS_RESOURCE") && !has(&config, "CAP_SYS_MODULE"));
        // Nothing that is covered keeps a new procfs from being mounted inside.
        assert_eq!((&config["linux"]["maskedPaths"], &config["linux"]["readonlyPaths"]), (&json!([]), &json!([])));
        assert_eq!(config["annotations"]["io.skep.guest-cgroups"], "unified");
        let privileged = render(&Definition { system, ..definition() });
        assert!(!has(&privileged, "CAP_SYS_RESOURCE"));
        assert!(privileged["linux"]["readonlyPaths"].as_array().unwrap().contains(&json!("/proc/sys/kernel")));
    }

    #[test]
    fn nesting_adds_what_engines_need() {
        let system = Some(System { machine_id: "0".repeat(32), nesting: true, ..System::default() });
        let destination = "/var/lib/docker".to_owned();
        let volume = Volume { source: "/srv".to_owned(), destination, read_only: false, idmap: false };
        let nesting = Definition { system, volumes: vec![volume], ..definition() };
        let places = |config: &Value| -> Vec<(String, String)> {
            let mounts = config["mounts"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            mounts.map(|mount| (text(&mount["destination"]), text(&mount["source"]))).collect()
        };
        let has =
            |config: &Value, place: &str, source: &str| places(config).contains(&(place.to_owned(), source.to_owned()));
        let console = json!({ "allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm" });
        let may_console =
            |config: &Value| config["linux"]["resources"]["devices"].as_array().unwrap().contains(&console);
        let privileged = render(&nesting);
        assert!(has(&privileged, "/var/lib/skep", "/data/containers/web1/own/nested/skep"));
        assert!(has(&privileged, "/dev/.skep/proc", "proc") && may_console(&privileged));
        assert_eq!(places(&privileged).iter().filter(|(place, _)| place == "/var/lib/docker").count(), 1);
        let mapped = render(&Definition { ids: Some((100_000, 65_536)), upper: Upper::Memory(0), ..nesting });
        assert!(has(&mapped, "/var/lib/containers", "tmpfs") && !may_console(&mapped));
    }

    #[test]
    fn a_group_is_a_path_or_a_unit() {
        let parent = |parent: Option<&str>, systemd| {
            cgroups_path(&Definition { cgroup_parent: parent.map(str::to_owned), ..definition() }, systemd)
        };
        assert_eq!(parent(None, false), "/skep/web1");
        assert_eq!(parent(Some("/a/b/"), false), "/a/b/web1");
        assert_eq!(parent(None, true), "system.slice:skep:web1");
        assert_eq!(parent(Some("web.slice"), true), "web.slice:skep:web1");
    }

    #[test]
    fn the_network_of_the_host_is_no_namespace() {
        let has = |network| {
            let config = render(&Definition { network, ..definition() });
            let namespaces = config["linux"]["namespaces"].as_array().unwrap().clone();
            namespaces.contains(&json!({ "type": "network" }))
        };
        assert!(has(Network::None) && !has(Network::Host));
    }
}
