//! Files of a container's group by the names that the kernel gives them.
//!
//! A whole system makes groups below its own and moves itself into them; its limits are on its own, which its bundle names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sys::groups;
use sys::mountinfo::Mount;

use crate::places::Places;

/// A file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is one of cgroup v2.
    pub unified: bool,
}

/// Checks the name of a file: letters, digits, `_`, `-` and `.`, with a `.` between its parts.
///
/// # Errors
/// It is none, such as one that leads to another group.
pub fn validate_key(key: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let parts: Vec<&str> = key.split('.').collect();
    if parts.len() < 2 || parts.contains(&"") || !key.chars().all(fits) {
        bail!("{key:?} is no file of a group: want a name such as memory.max");
    }
    Ok(())
}

/// The bundle of a container's last start.
///
/// # Errors
/// It cannot be read.
pub fn read_config(places: &Places, name: &str) -> Result<Value> {
    let path = places.container(name).join("config.json");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// The groups of a container, by its first process, and where they are mounted.
#[derive(Debug)]
pub struct Groups {
    of_process: String,
    mounts: Vec<Mount>,
    /// How the path of the container's own group ends: with a unit's name where systemd has made it. Empty where its bundle names
    /// none.
    own: String,
}

impl Groups {
    /// Looks where they are.
    ///
    /// # Errors
    /// The process has ended; the bundle cannot be read.
    pub fn read(places: &Places, name: &str, pid: u32) -> Result<Groups> {
        let path = format!("/proc/{pid}/cgroup");
        let of_process = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
        let config = read_config(places, name)?;
        let own = parse_own(config["linux"]["cgroupsPath"].as_str().unwrap_or_default());
        Ok(Groups { of_process, mounts: sys::mountinfo::parse(&mountinfo).collect(), own })
    }

    /// Finds a file of them; `None` where no hierarchy has such a file for the container.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<GroupFile> {
        let controller = key.split('.').next().unwrap_or_default();
        let places = groups::find(&self.of_process, &self.mounts, controller, &self.own);
        let mut files = places.map(|place| GroupFile { path: Path::new(&place.dir).join(key), unified: place.unified });
        files.find(|file| file.path.is_file())
    }

    /// The text of a file of them, if there is one.
    #[must_use]
    pub fn read_file(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.find(key)?.path).ok()
    }

    /// The path of the container's own group: in cgroup v2, else in systemd's hierarchy, else in the first.
    #[must_use]
    pub fn own_path(&self) -> &str {
        groups::cut(main_path(&self.of_process), &self.own)
    }
}

/// Finds a file of a container's group, by its first process.
///
/// # Errors
/// The name is none, or no hierarchy has such a file for the container.
pub fn find(places: &Places, name: &str, pid: u32, key: &str) -> Result<GroupFile> {
    validate_key(key)?;
    let found = Groups::read(places, name, pid)?.find(key);
    found.with_context(|| format!("no group of container {name:?} has a file {key}"))
}

/// Of the text of `/proc/PID/cgroup` the path that says most.
#[must_use]
pub fn main_path(of_process: &str) -> &str {
    let of = |name: &str| groups::lines(of_process).find(|(controllers, path)| *controllers == name && *path != "/");
    of("").or(of("name=systemd")).or(groups::lines(of_process).next()).map_or("/", |(_, path)| path)
}

fn parse_own(cgroups_path: &str) -> String {
    match cgroups_path.split(':').collect::<Vec<_>>()[..] {
        [_, prefix, name] => format!("/{prefix}-{name}.scope"),
        _ if cgroups_path.trim_matches('/').is_empty() => String::new(),
        _ => format!("/{}", cgroups_path.trim_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for key in ["memory.max", "cpu.cfs_quota_us", "hugetlb.2MB.max"] {
            validate_key(key).unwrap();
        }
        for key in ["", "tasks", "..", "../memory.max", "a/memory.max", "memory..max", ".memory", "memory.", "a.b c"] {
            validate_key(key).unwrap_err();
        }
    }

    #[test]
    fn the_own_group_is_a_path_or_a_unit() {
        assert_eq!(parse_own("/skep/web1"), "/skep/web1");
        assert_eq!(parse_own("system.slice:skep:web1"), "/skep-web1.scope");
        assert_eq!(parse_own(""), "");
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(main_path("3:cpu:/x/y\n1:name=systemd:/s/u\n0::/\n"), "/s/u");
        assert_eq!(main_path("0::/skep/web1\n"), "/skep/web1");
        assert_eq!(main_path(""), "/");
    }
}
