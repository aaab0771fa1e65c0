//! Which processes are in a group and below it.

use std::os::fd::{AsFd, BorrowedFd};

use sys::Errno;
use sys::fs::{FileType, OFlags};

use super::{Group, Member, open_place};
use crate::error::{Error, Result};
use crate::path::GroupPath;

/// Hierarchies to ask, best first. runc asks `devices`, and so a container that a process left in another hierarchy
/// looks the same to both.
const ASKED: [&str; 5] = ["devices", "pids", "memory", "freezer", "cpu"];

impl Group {
    /// All processes of the container, those in groups that it made itself included, as the caller's pid namespace
    /// numbers them. Empty once the group is gone.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn procs(&self) -> Result<Vec<i32>> {
        self.asked().map_or_else(|| Ok(Vec::new()), |member| below(member.dir.as_fd()).map_err(Error::from))
    }

    /// The hierarchy that tells what belongs to the container.
    pub(super) fn asked(&self) -> Option<&Member> {
        let place = asked(self.members.iter().map(|member| &member.place))?;
        self.members.iter().find(|member| std::ptr::eq(&raw const member.place, place))
    }
}

/// Whether any process is in the groups, as [`Group::procs`] has it, without opening them all.
///
/// # Errors
/// [`Error::Sys`].
pub fn is_occupied(places: &[GroupPath]) -> Result<bool> {
    let Some(place) = asked(places.iter()) else { return Ok(false) };
    match open_place(place) {
        Ok(dir) => Ok(!below(dir.as_fd())?.is_empty()),
        // The next one that is left tells.
        Err(error) if is_gone(&error) => Ok(!Group::open(places)?.procs()?.is_empty()),
        Err(error) => Err(error.into()),
    }
}

fn asked<'a>(mut places: impl Iterator<Item = &'a GroupPath> + Clone) -> Option<&'a GroupPath> {
    let has = |controller: &&str| places.clone().find(|place| place.has(controller));
    let named = ASKED.iter().find_map(has).or_else(|| places.clone().find(|place| !place.is_unified()));
    named.or_else(|| places.next())
}

/// The processes in a group and in all below it. A group that vanishes meanwhile counts as empty.
pub(super) fn below(dir: BorrowedFd<'_>) -> sys::Result<Vec<i32>> {
    let mut pids = Vec::new();
    walk(dir, &mut |group| {
        pids.extend(in_group(group)?);
        Ok(())
    })?;
    Ok(pids)
}

/// Calls a function for a group and all below it, parents first.
///
/// A container to which its group was given can nest groups as deep as it likes, so depth costs neither descriptors nor
/// stack: the way back up is by `..`, which leads to the parent of a group that was removed meanwhile, too.
pub(super) fn walk(dir: BorrowedFd<'_>, visit: &mut dyn FnMut(BorrowedFd<'_>) -> sys::Result<()>) -> sys::Result<()> {
    visit(dir)?;
    let mut left = vec![children(dir)?];
    if left[0].is_empty() {
        return Ok(());
    }
    let mut here = sys::fs::open_at(dir, ".", FOLDER, 0)?;
    while let Some(names) = left.last_mut() {
        let Some(name) = names.pop() else {
            left.pop();
            here = sys::fs::open_at(here.as_fd(), "..", FOLDER, 0)?;
            continue;
        };
        match sys::fs::open_at(here.as_fd(), &name, FOLDER, 0) {
            Ok(child) => {
                visit(child.as_fd())?;
                left.push(children(child.as_fd())?);
                here = child;
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A group's folder, to go on from.
pub(super) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Names of the groups in a group.
pub(super) fn children(dir: BorrowedFd<'_>) -> sys::Result<Vec<String>> {
    // A folder's link count is 2 plus its folders: most groups have none, and need not be listed.
    match sys::fs::stat(dir) {
        Ok(stat) if stat.st_nlink == 2 => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    match sys::fs::list(dir, ".") {
        Ok(names) => {
            Ok(names.into_iter().filter(|(_, kind)| *kind == FileType::Directory).map(|(name, _)| name).collect())
        }
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(super) fn in_group(group: BorrowedFd<'_>) -> sys::Result<Vec<i32>> {
    let text = match sys::fs::read_text_at(group, "cgroup.procs") {
        // A threaded v2 group lists its threads only.
        Err(error) if error.is(Errno::OPNOTSUPP) => sys::fs::read_text_at(group, "cgroup.threads"),
        other => other,
    };
    match text {
        // 0 is a process that the caller's pid namespace does not see.
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The group was removed: its folder is not there, or a descriptor of it has nothing behind it any more.
pub(super) fn is_gone(error: &sys::Error) -> bool {
    error.is(Errno::NOENT) || error.is(Errno::NODEV)
}
