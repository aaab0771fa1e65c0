//! What containers could leave inside the cell: looked at when all of them are removed and the daemon still runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cell::folders_below;
use super::command::until;
use crate::host;

/// The state of the cell that containers change.
#[derive(Debug)]
pub struct Leftovers {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Leftovers {
    /// Reads the state before the first container.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn before() -> Result<Self> {
        Ok(Self { mounts: read_mounts(), links: read_links()?, processes: read_processes()? })
    }

    /// Waits at most 10 s until mounts, links and processes are again as they were, no cgroup is left, and the
    /// folders in `kept.states`, which hold one entry for each container, are empty or gone; but for what `kept` names.
    ///
    /// # Errors
    /// Something is left; the error names it.
    pub fn check(&self, kept: &Kept) -> Result<()> {
        let mut left = Vec::new();
        let waited = until("nothing left behind", Duration::from_secs(10), || {
            left = self.list(kept)?;
            Ok(left.is_empty())
        });
        ensure!(waited.is_ok(), "left behind: {}", left.join("; "));
        Ok(())
    }

    fn list(&self, kept: &Kept) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let stays = |list: &[&str], text: &str| list.iter().any(|start| text.starts_with(start));
        let mounts = read_mounts();
        let mounts = mounts.difference(&self.mounts).filter(|path| !stays(kept.mounts, path));
        left.extend(mounts.map(|path| format!("mount {path}")));
        let links = read_links()?;
        let links = links.difference(&self.links).filter(|name| !stays(kept.bridges, name));
        left.extend(links.map(|name| format!("link {name}")));
        let processes = read_processes()?;
        left.extend(processes.difference(&self.processes).map(|line| format!("process {line}")));
        left.extend(list_groups(kept.group)?);
        for state in kept.states {
            left.extend(list_entries(state)?);
        }
        Ok(left)
    }
}

/// What a client keeps by itself when its last container is gone.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Whether a cgroup may stay, by its path within its hierarchy.
    pub group: fn(&str) -> bool,
    /// Starts of names of links.
    pub bridges: &'static [&'static str],
    /// Starts of mount points.
    pub mounts: &'static [&'static str],
    /// Folders that have an entry for each container.
    pub states: &'static [&'static str],
}

/// Mount points, with a count where several are stacked.
fn read_mounts() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for mount in host::own_mounts() {
        let mut name = mount.target;
        while !found.insert(name.clone()) {
            name.push_str(" again");
        }
    }
    found
}

fn read_links() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/sys/class/net")? {
        found.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(found)
}

/// Processes of the pid namespace with their command lines; those that just end are skipped.
///
/// # Errors
/// /proc cannot be listed.
pub fn read_processes() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let line = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        if !line.is_empty() {
            found.insert(format!("{name} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    Ok(found)
}

/// Lists cgroups of the cell that may not stay.
fn list_groups(may_stay: fn(&str) -> bool) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let hierarchy = hierarchy?.path();
        for group in folders_below(&hierarchy)? {
            let path = group.strip_prefix(&hierarchy)?.display().to_string();
            if !path.is_empty() && !may_stay(&path) {
                left.push(format!("cgroup {}", group.display()));
            }
        }
    }
    Ok(left)
}

/// Removes a cgroup with those below it from every hierarchy of the cell, waiting at most 10 s for tasks that are just ending.
///
/// # Errors
/// One has tasks.
pub fn remove_groups(path: &str) -> Result<()> {
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let group = hierarchy?.path().join(path);
        for below in folders_below(&group)? {
            until(&format!("{} is removed", below.display()), Duration::from_secs(10), || {
                Ok(fs::remove_dir(&below).is_ok())
            })?;
        }
    }
    Ok(())
}

fn list_entries(folder: &str) -> Result<Vec<String>> {
    let folder = Path::new(folder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut left = Vec::new();
    for entry in fs::read_dir(folder)? {
        left.push(format!("file {}", entry?.path().display()));
    }
    Ok(left)
}
