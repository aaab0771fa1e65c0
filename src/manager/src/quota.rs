//! How much a container may change on disk: a project quota of the file system that its upper layer lies on.
//!
//! ```text
//! containers/NAME/own        has the project's number and hands it down: to upper, work and all that is made in them
//! changes/ID/root            a frozen upper layer keeps the number of the container that made it
//! ```
//!
//! Nothing is recorded but the size, in the definition. The file system itself knows which numbers are taken: those that
//! files have. So a crash at any moment leaves no number that is given twice and none that is lost: the folder with it is
//! either the container's or removed by the next command.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sys::quota::{self, Usage};

use crate::places::{CLOSED, Places};

/// Numbers of projects that are this program's to give: far from those that people (`/etc/projid`) and engines count up
/// from.
const NUMBERS: std::ops::Range<u32> = 0x736b_0000..0x736c_0000;
/// Lock of whoever gives a number.
const LOCK: &str = ".projects";

/// Smallest size: the folders of a container alone take a few blocks.
pub const SIZE_MIN: u64 = 64 << 10;

/// Space on disk, as `ls --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Most bytes.
    pub limit: u64,
    /// Bytes that the container's changes take, frozen ones that it made included.
    pub used: u64,
}

/// Gives a container's folder, in which nothing is yet, a project with a limit.
///
/// # Errors
/// The file system enforces no limits of projects; what the kernel says.
pub fn limit_new(places: &Places, own: &Path, bytes: u64) -> Result<()> {
    let folder = open(own)?;
    need_enforced(&folder, own)?;
    let _lock = places.lock_own(LOCK)?;
    let number = free_number(&folder)?;
    // The limit first: what is in the folder never goes without it. One that is left by a crash limits nothing.
    quota::set_limit(folder.as_fd(), number, bytes)?;
    quota::set_project(folder.as_fd(), number)?;
    Ok(())
}

/// Sets the limit of a container that has a project already, whatever became of it: the file system may have been
/// restored, or was mounted without quotas for a time.
///
/// # Errors
/// The file system enforces no limits of projects, or the folder has lost its project; what the kernel says.
pub fn limit_again(container: &Path, bytes: u64) -> Result<()> {
    let own = container.join(CLOSED);
    let folder = open(&own)?;
    need_enforced(&folder, &own)?;
    let Some(number) = number(&folder)? else {
        bail!("{} was copied or restored without its project: a copy by skep copy has one of its own", own.display());
    };
    if quota::usage(folder.as_fd(), number)?.limit != bytes.next_multiple_of(1024) {
        quota::set_limit(folder.as_fd(), number, bytes)?;
    }
    Ok(())
}

/// What a container uses; `None` where nothing counts it.
///
/// # Errors
/// What the kernel says.
pub fn read(container: &Path, limit: u64) -> Result<Option<Disk>> {
    let folder = open(&container.join(CLOSED))?;
    let Some(number) = number(&folder)? else { return Ok(None) };
    match quota::usage(folder.as_fd(), number) {
        // Mounted without quotas.
        Err(error) if error.is(sys::Errno::SRCH) || error.is(sys::Errno::NOSYS) => Ok(None),
        other => Ok(Some(Disk { limit, used: other?.bytes })),
    }
}

/// Takes the limit away before a container's folder is removed. The number is free once no file has it.
///
/// # Errors
/// What the kernel says.
pub fn release(container: &Path) -> Result<()> {
    let own = container.join(CLOSED);
    if !own.exists() {
        return Ok(());
    }
    let folder = open(&own)?;
    let Some(number) = number(&folder)? else { return Ok(()) };
    match quota::set_limit(folder.as_fd(), number, 0) {
        Err(error) if error.is(sys::Errno::SRCH) || error.is(sys::Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

fn open(own: &Path) -> Result<File> {
    File::open(own).with_context(|| format!("cannot open {}", own.display()))
}

/// The project of a folder, if it is one that this program gave.
fn number(folder: &File) -> Result<Option<u32>> {
    match quota::project(folder.as_fd()) {
        Err(error) if [sys::Errno::NOTTY, sys::Errno::OPNOTSUPP].iter().any(|errno| error.is(*errno)) => Ok(None),
        other => Ok(Some(other?).filter(|number| NUMBERS.contains(number))),
    }
}

/// Whether the file system of a folder, or of the folder where it will be, enforces limits of projects.
#[must_use]
pub fn is_enforced(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    File::open(there).is_ok_and(|folder| quota::state(folder.as_fd()).is_ok_and(|state| state.enforced))
}

fn need_enforced(folder: &File, path: &Path) -> Result<()> {
    let is_enforced = quota::state(folder.as_fd()).is_ok_and(|state| state.enforced);
    if !is_enforced {
        bail!(
            "the disk space of a container cannot be limited: the file system of {} enforces no project quotas (ext4: \
             tune2fs -O project,quota and the mount option prjquota; xfs: the mount option pquota)",
            path.display()
        );
    }
    Ok(())
}

/// The first number that no file has.
fn free_number(folder: &File) -> Result<u32> {
    for number in NUMBERS {
        if is_free(quota::usage(folder.as_fd(), number)?) {
            return Ok(number);
        }
    }
    bail!("all {} project numbers are taken", NUMBERS.len());
}

/// A limit without files was left by a crash.
fn is_free(usage: Usage) -> bool {
    usage.inodes == 0 && usage.bytes == 0
}

/// Reads the most that a container may take on disk.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_disk_size(text: &str) -> Result<u64, String> {
    match crate::size::parse_size(text)? {
        bytes if bytes < SIZE_MIN => Err(format!("{text:?}: want at least 64 KiB")),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_hold_no_container_are_refused() {
        assert_eq!(parse_disk_size("64K"), Ok(64 << 10));
        parse_disk_size("63K").unwrap_err();
        parse_disk_size("much").unwrap_err();
    }

    #[test]
    fn a_number_is_free_when_no_file_has_it() {
        let usage = Usage { bytes: 0, inodes: 0, limit: 1 << 20 };
        assert!(is_free(usage));
        assert!(!is_free(Usage { inodes: 1, ..usage }) && !is_free(Usage { bytes: 1, ..usage }));
    }

    #[test]
    fn a_file_system_without_quotas_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let said = limit_new(&Places { data: dir.path().to_owned() }, Path::new("/proc"), 1 << 20).unwrap_err();
        assert!(said.to_string().contains("/proc enforces no project quotas"), "{said}");
        release(dir.path()).unwrap();
    }
}
