//! The definition that `spec` writes for people to start from: the one of runc, value for value.

use crate::oci;

/// What every caller of `spec` gets. `cgroup_namespace`: the host has cgroup v2 alone, where runc asks for one.
#[must_use]
pub fn example(cgroup_namespace: bool) -> oci::Config {
    oci::Config {
        oci_version: Some(crate::version()),
        process: Some(process()),
        root: Some(oci::Root { path: owned("rootfs"), readonly: Some(true) }),
        hostname: owned("runc"),
        mounts: Some(mounts()),
        linux: Some(linux(cgroup_namespace)),
        ..oci::Config::default()
    }
}

/// The variant of `spec --rootless`: a user namespace with the caller mapped to root, the host's network, no limits.
#[must_use]
pub fn rootless(cgroup_namespace: bool, uid: u32, gid: u32) -> oci::Config {
    let mut config = example(cgroup_namespace);
    for mount in config.mounts.iter_mut().flatten() {
        if mount.destination.as_deref() == Some("/sys") {
            // sysfs needs a network namespace of one's own.
            *mount = self::mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
        if let Some(options) = &mut mount.options {
            options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        }
    }
    if let Some(linux) = &mut config.linux {
        let map = |id| Some(vec![oci::IdMapping { container_id: Some(0), host_id: Some(id), size: Some(1) }]);
        linux.uid_mappings = map(uid);
        linux.gid_mappings = map(gid);
        linux.resources = None;
        if let Some(namespaces) = &mut linux.namespaces {
            namespaces.retain(|entry| entry.kind.as_deref() != Some("network"));
            namespaces.push(oci::Namespace { kind: owned("user"), path: None });
        }
    }
    config
}

fn process() -> oci::Process {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    oci::Process {
        terminal: Some(true),
        user: Some(oci::User { uid: Some(0), gid: Some(0), ..oci::User::default() }),
        args: list(&["sh"]),
        env: list(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: owned("/"),
        capabilities: Some(oci::Capabilities {
            bounding: list(&capabilities),
            effective: list(&capabilities),
            permitted: list(&capabilities),
            ..oci::Capabilities::default()
        }),
        rlimits: Some(vec![oci::Rlimit { kind: owned("RLIMIT_NOFILE"), hard: Some(1024), soft: Some(1024) }]),
        no_new_privileges: Some(true),
        ..oci::Process::default()
    }
}

/// The mounts that every program expects, as runc's example has them: `/proc` first, without options.
#[must_use]
pub fn mounts() -> Vec<oci::Mount> {
    vec![
        oci::Mount { options: None, ..mount("/proc", "proc", "proc", &[]) },
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn linux(cgroup_namespace: bool) -> oci::Linux {
    let kinds = ["pid", "network", "ipc", "uts", "mount"].into_iter().chain(cgroup_namespace.then_some("cgroup"));
    let deny = oci::DeviceRule { allow: Some(false), access: owned("rwm"), ..oci::DeviceRule::default() };
    oci::Linux {
        resources: Some(oci::LinuxResources { devices: Some(vec![deny]), ..oci::LinuxResources::default() }),
        namespaces: Some(kinds.map(|kind| oci::Namespace { kind: owned(kind), path: None }).collect()),
        masked_paths: list(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]),
        readonly_paths: list(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..oci::Linux::default()
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: owned(destination),
        kind: owned(kind),
        source: owned(source),
        options: list(options),
        ..oci::Mount::default()
    }
}

fn owned(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn list(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}
