//! What the kernel was built with and how it is set up, as far as containers care: namespaces, controllers, options, settings.

use std::fs::{self, File};
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::{Finding, Verdict, finding, texts};

/// Namespaces without which no container starts, and what is done without the others.
const NAMESPACES: [(&str, Option<&str>); 8] = [
    ("mount", None),
    ("pid", None),
    ("ipc", None),
    ("uts", None),
    ("network", Some("containers can have the host's network alone (--network host)")),
    ("cgroup", Some("containers see the host's groups")),
    ("user", Some("systems need --privileged, and ordinary users have no containers")),
    ("time", Some("a system's clock and uptime are the machine's")),
];

/// Controllers besides those that limits take, by their names in v1 and v2, and what is done without.
const CONTROLLERS: [(&[&str], &str); 2] = [
    (&["cpuset"], "no container is held to processors: nproc tells the machine's"),
    (&["io", "blkio"], "nothing limits or counts block I/O"),
];

/// Options of a kernel's configuration, what each is called here, and what cannot be done without.
const OPTIONS: [(&str, &str, &str); 16] = [
    ("VETH", "veth links", "networks of containers"),
    ("BRIDGE", "bridges", "networks of containers"),
    ("MACVLAN", "macvlan links", "--link macvlan:…"),
    ("IPVLAN", "ipvlan links", "--link ipvlan:…"),
    ("VLAN_8021Q", "vlan links", "--link vlan:…"),
    ("NF_TABLES", "nftables", "NAT and published ports"),
    ("NF_NAT", "NAT", "NAT and published ports"),
    ("TUN", "tun devices", "VPNs in a container"),
    ("FUSE_FS", "FUSE", "files of /proc that tell a container of itself (docs/design/0009-view.md)"),
    ("SECCOMP_FILTER", "seccomp filters", "the filter of system calls"),
    ("CFS_BANDWIDTH", "processor quotas", "--cpus"),
    ("MEMCG", "limits of memory", "--memory"),
    ("CGROUP_PIDS", "limits of tasks", "--pids"),
    ("NET_SCH_HTB", "classes of traffic", "--class, --egress and --ingress"),
    ("KEYS", "keyrings", "a keyring for each container"),
    ("CHECKPOINT_RESTORE", "what CRIU asks for", "checkpoint and restore"),
];

/// Settings that many containers come to the end of: file below /proc/sys, least value that is enough, and what fails else.
const SETTINGS: [(&str, u64, &str); 4] = [
    ("fs/inotify/max_user_instances", 1024, "each system takes several, and those with --privileged share root's"),
    ("fs/inotify/max_user_watches", 65_536, "systems watch their files and units"),
    ("kernel/keys/maxkeys", 2000, "each system and each engine in one makes keyrings of its user"),
    ("kernel/keys/maxbytes", 2_000_000, "the same of what is in them"),
];

/// All of it.
pub(super) fn judge(host: &Value) -> Vec<Finding> {
    let mut findings = judge_lists(host);
    let release = host["kernel"].as_str().unwrap_or_default();
    match read_config(release) {
        Some(config) => findings.extend(judge_options(&config)),
        None => findings.push(finding(
            "kernel configuration",
            Verdict::Limited,
            "it cannot be read, so kinds of links, NAT and FUSE are not judged",
            Some(&format!("modprobe configs, or have /boot/config-{release}")),
        )),
    }
    findings.push(judge_stalls(fs::metadata("/proc/pressure/cpu").is_ok()));
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
    findings.extend(SETTINGS.iter().filter_map(|(name, least, why)| judge_setting(name, read(name)?, *least, why)));
    findings
}

/// Namespaces, controllers and security modules, as `skep features --host` has them.
fn judge_lists(host: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let release = host["kernel"].as_str().unwrap_or("?");
    findings.push(finding("kernel", Verdict::Good, release, None));
    let there = texts(&host["namespaces"]);
    for (kind, without) in NAMESPACES {
        let subject = format!("{kind} namespaces");
        findings.push(match without {
            _ if there.contains(&kind) => finding(&subject, Verdict::Good, "there", None),
            Some(without) => {
                let advice = format!("without them {without}; a kernel with CONFIG_{}_NS has them", short(kind));
                finding(&subject, Verdict::Limited, "the kernel has none", Some(&advice))
            }
            None => {
                let advice = format!("no container starts without; a kernel with CONFIG_{}_NS has them", short(kind));
                finding(&subject, Verdict::Bad, "the kernel has none", Some(&advice))
            }
        });
    }
    let there = texts(&host["cgroup"]["controllers"]);
    for (names, without) in CONTROLLERS {
        let subject = format!("controller {}", names[0]);
        findings.push(match names.iter().find(|name| there.contains(name)) {
            Some(name) => finding(&subject, Verdict::Good, *name, None),
            None => finding(&subject, Verdict::Limited, "not there", Some(&format!("without it {without}"))),
        });
    }
    let lsm = &host["lsm"];
    let modules: Vec<&str> = ["apparmor", "selinux"].into_iter().filter(|name| lsm[*name] == true).collect();
    let landlock = lsm["landlockAbi"].as_u64().filter(|abi| *abi > 0).map(|abi| format!("landlock {abi}"));
    let all: Vec<String> = modules.into_iter().map(str::to_owned).chain(landlock).collect();
    findings.push(match all.is_empty() {
        false => finding("security modules", Verdict::Good, all.join(", "), None),
        true => finding(
            "security modules",
            Verdict::Limited,
            "none",
            Some("containers have namespaces, capabilities and seccomp alone; lsm=… on the kernel's command line names modules"),
        ),
    });
    findings
}

/// The name of a namespace in the kernel's configuration; those of mounts are always there.
fn short(kind: &str) -> String {
    match kind {
        "network" => "NET".to_owned(),
        "cgroup" => "CGROUP".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

/// The configuration of the kernel that runs, where something tells it.
fn read_config(release: &str) -> Option<String> {
    /// It has some 200 KiB.
    const MOST: u64 = 4 << 20;
    let mut text = String::new();
    if let Ok(file) = File::open("/proc/config.gz") {
        GzDecoder::new(file).take(MOST).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let file = places.iter().find_map(|path| File::open(path).ok())?;
    file.take(MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

fn judge_options(config: &str) -> Vec<Finding> {
    let value = |option: &str| {
        config.lines().find_map(|line| line.strip_prefix("CONFIG_")?.strip_prefix(option)?.strip_prefix('='))
    };
    let judge = |(option, subject, without): &(&str, &str, &str)| match value(option) {
        Some("m") => finding(subject, Verdict::Good, "a module", None),
        Some(_) => finding(subject, Verdict::Good, "there", None),
        None => {
            let advice = format!("there is no {without}; a kernel with CONFIG_{option} has it");
            finding(subject, Verdict::Limited, "this kernel was built without", Some(&advice))
        }
    };
    OPTIONS.iter().map(judge).collect()
}

fn judge_stalls(is_there: bool) -> Finding {
    match is_there {
        true => finding("pressure", Verdict::Good, "there", None),
        false => finding(
            "pressure",
            Verdict::Limited,
            "the kernel does not count what waits",
            Some("psi=1 on the kernel's command line lets skep status tell it"),
        ),
    }
}

/// `None` of a setting that this kernel has not.
fn judge_setting(name: &str, value: u64, least: u64, why: &str) -> Option<Finding> {
    let subject = name.replace('/', ".");
    Some(match value >= least {
        true => finding(&subject, Verdict::Good, value.to_string(), None),
        false => {
            let advice = format!("{why}: sysctl -w {subject}={least}, and in /etc/sysctl.d for the next boot");
            finding(&subject, Verdict::Limited, value.to_string(), Some(&advice))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.subject == subject).unwrap()
    }

    #[test]
    fn a_kernel_is_judged_by_what_it_was_built_with() {
        let findings =
            judge_options("CONFIG_VETH=m\nCONFIG_BRIDGE=y\n# CONFIG_IPVLAN is not set\nCONFIG_MACVLAN_X=y\n");
        assert_eq!(
            (of(&findings, "veth links").verdict, of(&findings, "bridges").verdict),
            (Verdict::Good, Verdict::Good)
        );
        assert_eq!(of(&findings, "macvlan links").verdict, Verdict::Limited);
        let advice = of(&findings, "ipvlan links").advice.clone().unwrap();
        assert!(advice.contains("CONFIG_IPVLAN") && advice.contains("--link ipvlan"), "{advice}");
        assert_eq!(findings.len(), OPTIONS.len());
    }

    #[test]
    fn what_no_container_can_do_without_is_bad() {
        let host = json!({ "kernel": "6.1.0", "namespaces": ["mount", "ipc", "uts", "network"], "cgroup": { "controllers": ["blkio"] } });
        let findings = judge_lists(&host);
        assert_eq!(of(&findings, "pid namespaces").verdict, Verdict::Bad);
        assert_eq!(of(&findings, "user namespaces").verdict, Verdict::Limited);
        assert_eq!(
            (of(&findings, "controller io").verdict, of(&findings, "controller cpuset").verdict),
            (Verdict::Good, Verdict::Limited)
        );
        assert_eq!(of(&findings, "security modules").verdict, Verdict::Limited);
        let small = judge_setting("fs/inotify/max_user_instances", 128, 1024, "why").unwrap();
        assert!(small.advice.unwrap().contains("sysctl -w fs.inotify.max_user_instances=1024"));
        assert_eq!(judge_setting("a", 5, 5, "").unwrap().verdict, Verdict::Good);
    }
}
