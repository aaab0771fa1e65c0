//! Which of the mounts of a container that runs is one of the host's things that it was given.
//!
//! The container mounts what it likes, also over what it was given. A mount is recognised by its number and its file system,
//! which were put down when it was added; one that was there at the start by what it shows, which is what its source is.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sys::fs::OFlags;
use sys::mountinfo::Mount;

use crate::definition::Volume;

/// What the kernel adds to the name of something that has been removed.
const REMOVED: &str = "//deleted";

/// A mount that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its number.
    pub id: u64,
    /// Its file system, since numbers are given again.
    pub device: String,
}

/// Where a mount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nothing is over it: the path that leads to it.
    Uppermost(String),
    /// Something is mounted over it, or over a folder above.
    Covered,
    /// It is not there any more.
    Gone,
    /// Something is mounted there, and nobody can tell whether it is this.
    Other,
}

/// The mounts of a container as its first process sees them.
#[derive(Debug)]
pub struct Mounts {
    root: OwnedFd,
    all: Vec<Mount>,
}

impl Mounts {
    /// Looks at them.
    ///
    /// # Errors
    /// The process has ended; what the kernel says.
    pub fn read(pid: u32) -> Result<Mounts> {
        let root = sys::fs::open(&format!("/proc/{pid}/root"), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Mounts { root, all: read_mounts(&pid.to_string())? })
    }

    /// What a volume that was just added is known by; `None` where somebody inside has taken it away at once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mark(&self, volume: &Volume) -> Result<Option<Mark>> {
        let upper = self.uppermost(&volume.destination)?;
        let found = self.showing(volume, upper)?.unwrap_or_default().pop();
        Ok(found.map(|mount| Mark { id: mount.id, device: mount.device.clone() }))
    }

    /// Finds the mount of a volume.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn find(&self, volume: &Volume, mark: Option<&Mark>) -> Result<Place> {
        let upper = self.uppermost(&volume.destination)?;
        let is_upper = |mount: &Mount| upper.is_some_and(|upper| upper.id == mount.id);
        if let Some(mark) = mark {
            let marked = self.all.iter().find(|mount| mount.id == mark.id && mount.device == mark.device);
            return Ok(match marked {
                Some(mount) if is_upper(mount) => Place::Uppermost(mount.mountpoint.clone()),
                Some(_) => Place::Covered,
                None => Place::Gone,
            });
        }
        let nothing_known = if upper.is_some() { Place::Other } else { Place::Gone };
        let Some(showing) = self.showing(volume, upper)? else { return Ok(nothing_known) };
        Ok(match &showing[..] {
            [] => nothing_known,
            [mount] if is_upper(mount) => Place::Uppermost(mount.mountpoint.clone()),
            // The container may have mounted the same once more.
            _ => Place::Covered,
        })
    }

    /// What is mounted exactly there, the uppermost.
    fn uppermost(&self, target: &str) -> Result<Option<&Mount>> {
        let place = match sys::fs::open_in_root(self.root.as_fd(), target, OFlags::PATH) {
            Err(error) if [sys::Errno::NOENT, sys::Errno::NOTDIR, sys::Errno::LOOP].iter().any(|e| error.is(*e)) => {
                return Ok(None);
            }
            other => other?,
        };
        let (id, is_mounted) = sys::fs::mount_of(place.as_fd())?;
        Ok(self.all.iter().find(|mount| is_mounted && mount.id == id))
    }

    /// The mounts at a volume's place that show its source; `None` where the source is not there any more.
    fn showing(&self, volume: &Volume, upper: Option<&Mount>) -> Result<Option<Vec<&Mount>>> {
        let Some((device, root)) = read_source(&volume.source)? else { return Ok(None) };
        let is_here = |mount: &&Mount| {
            same(&mount.mountpoint, &volume.destination)
                || upper.is_some_and(|upper| upper.mountpoint == mount.mountpoint)
        };
        let shows = |mount: &&Mount| mount.device == device && mount.root.trim_end_matches(REMOVED) == root;
        Ok(Some(self.all.iter().filter(is_here).filter(shows).collect()))
    }
}

fn read_mounts(process: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(sys::mountinfo::parse(&text).collect())
}

/// The file system of a path of the host and the way to it from the root of that; `None` where there is no such path.
fn read_source(path: &str) -> Result<Option<(String, String)>> {
    let real = match fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot use {path}"))?,
    };
    let (id, _) = sys::fs::mount_of(fs_path(&real)?.as_fd())?;
    let mounts = read_mounts("self")?;
    let Some(mount) = mounts.iter().find(|mount| mount.id == id) else { return Ok(None) };
    let Ok(below) = real.strip_prefix(&mount.mountpoint) else { return Ok(None) };
    Ok(below.to_str().map(|below| (mount.device.clone(), joined(&mount.root, below))))
}

fn fs_path(path: &std::path::Path) -> Result<OwnedFd> {
    let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    Ok(sys::fs::open(text, OFlags::PATH)?)
}

fn joined(root: &str, below: &str) -> String {
    match (root.trim_end_matches('/'), below) {
        ("", "") => "/".to_owned(),
        (root, "") => root.to_owned(),
        (root, below) => format!("{root}/{below}"),
    }
}

/// Whether two paths are the same but for slashes.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    let parts = |path: &'_ str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_make_no_difference() {
        assert!(same("/a//b/", "/a/./b"));
        assert!(!same("/a/b", "/a/c"));
    }

    #[test]
    fn a_place_below_a_mount_is_told_from_its_root() {
        assert_eq!(joined("/", ""), "/");
        assert_eq!(joined("/", "a/b"), "/a/b");
        assert_eq!(joined("/sub", ""), "/sub");
        assert_eq!(joined("/sub", "a"), "/sub/a");
    }
}
