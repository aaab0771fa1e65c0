//! Removing groups, those that the container made below its own included.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sys::fs::OFlags;
use sys::{Errno, ProcFs};

use super::freeze::{event, wait_changed};
use super::kill::{survivors, wait_ended};
use super::procs::{self, FOLDER};
use crate::error::{Error, RemoveFailure, Result};
use crate::path::GroupPath;

/// How long a group may stay busy after its last task was killed.
pub const REMOVE_BOUND: Duration = Duration::from_secs(10);
/// Pause where the kernel tells nothing: a task that has left the list still holds its v1 group for some microseconds.
const PAUSE: Duration = Duration::from_micros(200);

/// Removes a container's groups in all hierarchies, whatever is below them first. Groups that are not there are fine.
///
/// A busy group is waited for within `bound` (for all together), by the end of its tasks. Tries every hierarchy, whatever
/// happens in the others.
///
/// # Errors
/// [`Error::Remove`] with every group that stayed, why, and the tasks in it.
pub fn remove(places: &[GroupPath], bound: Duration, proc: &ProcFs) -> Result<()> {
    let deadline = Instant::now() + bound;
    let fail = |place: &GroupPath, source: sys::Error| {
        let pids = open(&place.dir()).and_then(|dir| procs::below(dir.as_fd()));
        RemoveFailure { dir: place.dir(), source, tasks: survivors(&pids.unwrap_or_default(), proc) }
    };
    let remove = |place: &GroupPath| remove_tree(&place.dir(), deadline).err().map(|error| fail(place, error));
    let failures: Vec<RemoveFailure> = places.iter().filter_map(remove).collect();
    if failures.is_empty() { Ok(()) } else { Err(Error::Remove(failures)) }
}

fn open(dir: &str) -> sys::Result<OwnedFd> {
    sys::fs::open_dir(dir)
}

fn remove_tree(dir: &str, deadline: Instant) -> sys::Result<()> {
    loop {
        // Most groups are empty by now: one call.
        match sys::fs::rmdir_at(sys::fs::CWD, dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            Err(error) if error.is(Errno::BUSY) && Instant::now() < deadline => {}
            // A read-only mount says so even of a group that is not there.
            Err(error) => {
                return if open(dir).is_err_and(|error| error.is(Errno::NOENT)) { Ok(()) } else { Err(error) };
            }
        }
        let group = match open(dir) {
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if procs::children(group.as_fd())?.is_empty() {
            wait_empty(&group, deadline)?;
        } else {
            remove_below(&group, deadline)?;
        }
    }
}

/// Removes all groups below a group, deepest first, going down and up by descriptors: a path could become longer than the
/// kernel takes, and a call for each level deeper than the stack.
fn remove_below(top: &OwnedFd, deadline: Instant) -> sys::Result<()> {
    let mut here = sys::fs::open_at(top.as_fd(), ".", FOLDER, 0)?;
    let mut depth = 0_u64;
    loop {
        let Some(name) = procs::children(here.as_fd())?.pop() else {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            here = sys::fs::open_at(here.as_fd(), "..", FOLDER, 0)?;
            continue;
        };
        match sys::fs::rmdir_at(here.as_fd(), &name) {
            Ok(()) => continue,
            Err(error) if error.is(Errno::NOENT) => continue,
            Err(error) if error.is(Errno::BUSY) && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
        let child = match sys::fs::open_at(here.as_fd(), &name, FOLDER, 0) {
            Err(error) if error.is(Errno::NOENT) => continue,
            other => other?,
        };
        if procs::children(child.as_fd())?.is_empty() {
            wait_empty(&child, deadline)?;
        } else {
            depth += 1;
            here = child;
        }
    }
}

/// Waits for something that may have made the group removable.
fn wait_empty(group: &OwnedFd, deadline: Instant) -> sys::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let events = match sys::fs::open_at(group.as_fd(), "cgroup.events", OFlags::RDONLY, 0) {
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NODEV) => None,
        other => Some(other?),
    };
    if let Some(events) = events {
        let text = match sys::fs::read_all(events.as_fd()) {
            Err(error) if error.is(Errno::NODEV) => return Ok(()),
            other => String::from_utf8_lossy(&other?).into_owned(),
        };
        if event(&text, "populated") {
            return wait_changed(&events, left);
        }
    } else {
        let opened = procs::below(group.as_fd())?.into_iter().map(sys::process::pidfd_open);
        let pidfds: Vec<OwnedFd> = opened.filter_map(sys::Result::ok).take(256).collect();
        if !pidfds.is_empty() {
            return wait_ended(pidfds, left);
        }
    }
    sys::watch::wait(&[], PAUSE.min(left)).map(drop)
}
