//! Files of a container's group by the names that the kernel gives them.
//!
//! A whole system makes groups below its own and moves itself into them; its limits are on its own, which its bundle names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

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

/// Finds a file of a container's group, by its first process.
///
/// # Errors
/// The name is none, or no hierarchy has such a file for the container.
pub fn find(places: &Places, name: &str, pid: u32, key: &str) -> Result<GroupFile> {
    validate_key(key)?;
    let path = format!("/proc/{pid}/cgroup");
    let groups = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
    let config = read_config(places, name)?;
    let own = own_group(config["linux"]["cgroupsPath"].as_str().unwrap_or_default());
    let controller = key.split('.').next().unwrap_or_default();
    for mount in sys::mountinfo::parse(&mountinfo) {
        let unified = match mount.kind.as_str() {
            "cgroup2" => true,
            "cgroup" if mount.options.split(',').any(|option| option == controller) => false,
            _ => continue,
        };
        let is_of = |controllers: &str| match unified {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|name| name == controller),
        };
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
            if !is_of(controllers) {
                continue;
            }
            let group = cut(group, &own);
            let path = Path::new(&mount.mountpoint).join(group.trim_start_matches('/')).join(key);
            if path.is_file() {
                return Ok(GroupFile { path, unified });
            }
        }
    }
    bail!("no group of container {name:?} has a file {key}")
}

/// The last part of the path of a container's own group: a unit's name where systemd has made it.
fn own_group(cgroups_path: &str) -> String {
    match cgroups_path.split(':').collect::<Vec<_>>()[..] {
        [_, prefix, name] => format!("{prefix}-{name}.scope"),
        _ => cgroups_path.trim_matches('/').to_owned(),
    }
}

/// The part of a process's group that is the container's own; all of it where that is not among its parents.
fn cut<'a>(group: &'a str, own: &str) -> &'a str {
    if own.is_empty() {
        return group;
    }
    let with_slash = format!("/{own}");
    let ends = group.match_indices(&with_slash).map(|(at, found)| at + found.len());
    ends.filter(|end| group[*end..].is_empty() || group[*end..].starts_with('/'))
        .map(|end| &group[..end])
        .next()
        .unwrap_or(group)
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
    fn the_own_group_is_found_among_its_children() {
        let own = own_group("/skep/web1");
        assert_eq!(cut("/skep/web1", &own), "/skep/web1");
        assert_eq!(cut("/outer/skep/web1/init.scope", &own), "/outer/skep/web1");
        assert_eq!(cut("/skep/web10/x", &own), "/skep/web10/x");
        let unit = own_group("system.slice:skep:web1");
        assert_eq!(cut("/system.slice/skep-web1.scope/init.scope", &unit), "/system.slice/skep-web1.scope");
    }
}
