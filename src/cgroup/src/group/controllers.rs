//! v2: controllers handed down from the root to a container's group, and groups in threaded trees.
//!
//! A group with processes of its own hands no domain controller on (memory, io, hugetlb, rdma, misc). It may hand on those
//! that work on threads, and becomes the root of a threaded tree by that: everything below it must be threaded then.

use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;
use sys::Errno;
use sys::fs::OFlags;

use super::Member;
use crate::error::Result;

/// Controllers that work on threads. Kernel: admin-guide/cgroup-v2.rst, "Threads".
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

/// What [`super::Group::create`] does below a group that has processes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Below {
    /// Nothing is enabled there: the container's group is an ordinary one without limits.
    Ordinary,
    /// What limits threads is enabled, at the price that all groups below become threaded.
    Threaded,
}

impl Below {
    /// What limits by these controllers need: a threaded group where there are some and each works on threads.
    pub fn for_limits<'a>(controllers: impl Iterator<Item = &'a str>) -> Below {
        let mut controllers = controllers.filter(|name| *name != "cgroup").peekable();
        let some = controllers.peek().is_some();
        if some && controllers.all(|name| THREADED.contains(&name)) { Below::Threaded } else { Below::Ordinary }
    }
}

impl Member {
    /// Makes the group of the unified hierarchy fit to be entered, with all controllers of the root that can be had.
    ///
    /// What one ancestor refuses is found again when a limit needs it: its file is missing then, and the reason is looked
    /// for.
    pub(super) fn prepare_unified(&self, mount: BorrowedFd<'_>, below: Below) -> Result<()> {
        if !self.place.controllers.is_empty() {
            self.take_controllers(mount, below)?;
        }
        self.join_threaded(mount)
    }

    fn take_controllers(&self, mount: BorrowedFd<'_>, below: Below) -> Result<()> {
        let have = self.read("cgroup.controllers")?;
        let missing = |name: &&String| !have.split_ascii_whitespace().any(|have| have == name.as_str());
        if !self.place.controllers.iter().any(|name| missing(&name)) {
            return Ok(());
        }
        for parent in std::iter::once(".").chain(self.place.parents()) {
            let parent = sys::fs::open_beneath(mount, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            hand_down(parent.as_fd(), &self.place.controllers, below)?;
        }
        Ok(())
    }

    /// Makes a group below a threaded one threaded too, with the parents that are not yet: until then the kernel calls it
    /// invalid and lets no process in. Limits of memory, I/O and huge pages cannot be had there; asking for one says so.
    fn join_threaded(&self, mount: BorrowedFd<'_>) -> Result<()> {
        const INVALID: &str = "domain invalid";
        // KERNEL(4.14): no types.
        if self.optional("cgroup.type")?.is_none_or(|kind| kind != INVALID) {
            return Ok(());
        }
        for group in self.place.parents().chain(std::iter::once(self.place.relative())) {
            let dir = sys::fs::open_beneath(mount, group, OFlags::PATH | OFlags::DIRECTORY)?;
            if sys::fs::read_text_at(dir.as_fd(), "cgroup.type")?.trim() == INVALID {
                sys::fs::write_value_at(dir.as_fd(), "cgroup.type", "threaded").map_err(|error| {
                    let path = format!("{}/{group}/cgroup.type", self.place.mountpoint);
                    sys::Error::new(format!("write({path:?}, \"threaded\")"), error.errno())
                })?;
            }
        }
        Ok(())
    }
}

/// Enables all controllers in one group for those below it, or as many as it lets.
fn hand_down(group: BorrowedFd<'_>, controllers: &[String], below: Below) -> sys::Result<()> {
    let enable = |names: &str| sys::fs::write_value_at(group, "cgroup.subtree_control", names);
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if enable(&all.join(" ")).is_ok() {
        return Ok(());
    }
    // All or nothing per write: one by one, those that can be had.
    let (threaded, domain): (Vec<_>, Vec<_>) = controllers.iter().partition(|name| THREADED.contains(&name.as_str()));
    let mut has_processes = false;
    for name in domain {
        if let Err(error) = enable(&format!("+{name}")) {
            has_processes |= error.is(Errno::BUSY);
            expected(error)?;
        }
    }
    if has_processes && below == Below::Ordinary {
        return Ok(());
    }
    threaded.into_iter().try_for_each(|name| enable(&format!("+{name}")).or_else(expected))
}

/// Refusals that a group may give for a controller.
fn expected(error: sys::Error) -> sys::Result<()> {
    let listed = [Errno::NOENT, Errno::BUSY, Errno::INVAL, Errno::OPNOTSUPP, Errno::PERM, Errno::ACCESS, Errno::ROFS];
    if listed.contains(&error.errno()) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_of_threads_make_a_threaded_group() {
        for (controllers, expected) in [
            (&[][..], Below::Ordinary),
            (&["cgroup"], Below::Ordinary),
            (&["pids", "cpu"], Below::Threaded),
            (&["pids", "cgroup"], Below::Threaded),
            (&["pids", "memory"], Below::Ordinary),
        ] {
            assert_eq!(Below::for_limits(controllers.iter().copied()), expected, "{controllers:?}");
        }
    }
}
