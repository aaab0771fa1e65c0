//! What docker's definitions have besides those of `spec`, as `docker run` writes them without options.

use serde_json::{Value, json};

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What `devices` allows: type, numbers (`null` for any) and access. All else is denied.
const DEVICES: [(&str, Option<u32>, Option<u32>, &str); 10] = [
    ("c", Some(1), Some(5), "rwm"),
    ("c", Some(1), Some(3), "rwm"),
    ("c", Some(1), Some(9), "rwm"),
    ("c", Some(1), Some(8), "rwm"),
    ("c", Some(5), Some(0), "rwm"),
    ("c", Some(5), Some(1), "rwm"),
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", Some(136), None, "rwm"),
    ("c", Some(5), Some(2), "rwm"),
];

/// Makes a definition of `spec` into one of docker's. The group's path is left to the runtime, since each run has its own id.
pub(crate) fn change(config: &mut Value) {
    config["hostname"] = json!("4f0c2d1e9b7a");
    config["process"]["env"] =
        json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=4f0c2d1e9b7a"]);
    let capabilities = json!(CAPABILITIES);
    config["process"]["capabilities"] =
        json!({ "bounding": capabilities.clone(), "effective": capabilities.clone(), "permitted": capabilities });
    config["process"]["noNewPrivileges"] = json!(false);
    config["process"]["oomScoreAdj"] = json!(0);
    config["root"]["readonly"] = json!(false);
    config["mounts"] = mounts();
    config["linux"]["resources"] =
        json!({ "devices": devices(), "memory": {}, "cpu": { "shares": 0 }, "blockIO": { "weight": 0 } });
    config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" });
    config["linux"]["maskedPaths"] = json!(MASKED);
    config["linux"]["readonlyPaths"] = json!(READ_ONLY);
}

fn mounts() -> Value {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    json!([
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        mount("/etc/resolv.conf", "bind", "/etc/resolv.conf", &["rbind", "rprivate"]),
        mount("/etc/hostname", "bind", "/etc/hostname", &["rbind", "rprivate"]),
        mount("/etc/hosts", "bind", "/etc/hosts", &["rbind", "rprivate"]),
    ])
}

fn devices() -> Value {
    let allowed = DEVICES.iter().map(|(kind, major, minor, access)| {
        let mut rule = json!({ "allow": true, "type": kind, "access": access });
        for (key, number) in [("major", major), ("minor", minor)] {
            if let Some(number) = number {
                rule[key] = json!(number);
            }
        }
        rule
    });
    std::iter::once(json!({ "allow": false, "access": "rwm" })).chain(allowed).collect()
}
