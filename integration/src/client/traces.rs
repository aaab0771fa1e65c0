//! What a client could leave on the host outside its cell, compared before and after.
//!
//! Only traces that a container client makes are looked at, because other programs change the machine meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Folders and files that the daemons make where they are not told otherwise.
const PATHS: [&str; 13] = [
    "/run/docker",
    "/run/docker.sock",
    "/run/containerd",
    "/run/containers",
    "/run/libpod",
    "/run/netns",
    "/run/cni",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/cni",
    "/etc/cni/net.d/cni.lock",
    "/etc/docker/key.json",
];

/// Links, rules and cgroups that they name after themselves.
const MARKS: [&str; 7] = ["docker", "DOCKER", "CNI-", "cni-podman", "libpod", "kubepods", "pods0"];

/// The traces of one moment.
#[derive(Debug, Eq, PartialEq)]
pub struct Traces {
    found: BTreeSet<String>,
    /// The controllers of each hierarchy of the machine. Clients fail when another program changes these.
    pub hierarchies: BTreeSet<String>,
}

impl Traces {
    /// Looks at files, mounts, links, packet filter rules and cgroups.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read() -> Result<Self> {
        let mut found = BTreeSet::new();
        found.extend(PATHS.iter().filter(|path| Path::new(path).exists()).map(|path| format!("file {path}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let dir = std::env::temp_dir().join("clients-cell-").display().to_string();
        found.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/sys/class/net")? {
            keep_marked(&mut found, "link", &entry?.file_name().to_string_lossy());
        }
        for rule in read_rules()?.lines() {
            keep_marked(&mut found, "rule", rule.trim());
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
            let hierarchy = hierarchy?;
            if hierarchy.file_type()?.is_dir() {
                for group in fs::read_dir(hierarchy.path())? {
                    keep_marked(&mut found, "cgroup", &group?.path().display().to_string());
                }
            }
        }
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let hierarchies = groups.lines().filter_map(|line| line.split(':').nth(1)).map(str::to_owned).collect();
        Ok(Self { found, hierarchies })
    }

    /// Lists what is in `after` and not in `self`.
    #[must_use]
    pub fn compare(&self, after: &Self) -> Vec<String> {
        after.found.difference(&self.found).cloned().collect()
    }
}

/// Reads the packet filter rules of both generations; nothing where the tools are not installed.
fn read_rules() -> Result<String> {
    let mut rules = String::new();
    for (program, arguments) in [("nft", &["list", "ruleset"][..]), ("iptables-save", &[])] {
        if let Some(path) = super::cell::find_program(program) {
            let output = Command::new(path).args(arguments).output().with_context(|| format!("run {program}"))?;
            rules.push_str(&String::from_utf8_lossy(&output.stdout));
        }
    }
    Ok(rules)
}

fn keep_marked(found: &mut BTreeSet<String>, kind: &str, text: &str) {
    if MARKS.iter().any(|mark| text.contains(mark)) {
        found.insert(format!("{kind} {text}"));
    }
}
