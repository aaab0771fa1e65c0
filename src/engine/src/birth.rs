//! Where a process is born: which namespaces the clone makes, and in which group of the unified hierarchy it begins.

use std::os::fd::{AsFd, BorrowedFd};

use cgroup::Group;
use sys::Errno;
use sys::process::Cloned;

use crate::error::{Error, Result};

/// A clone to be made, by the host side or by the launcher.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// CLONE_NEW*.
    pub(crate) flags: u64,
    /// Folder of the group to begin in; `None` for the caller's.
    pub(crate) unified: Option<BorrowedFd<'a>>,
    /// The container's groups.
    pub(crate) group: Option<&'a Group>,
    /// Process whose group below the container's is taken where the container's own takes no process (an exec).
    pub(crate) beside: Option<i32>,
}

impl Birth<'_> {
    /// Clones, with `more` flags.
    ///
    /// # Errors
    /// What the kernel says; where it is about the group, with the group and the reason.
    pub(crate) fn clone_process(&self, more: u64) -> Result<Cloned> {
        let flags = self.flags | more;
        let refused = match (sys::process::clone3(flags, self.unified), self.unified) {
            (Err(error), Some(_)) => error,
            (outcome, _) => return Ok(outcome?),
        };
        if let (Errno::BUSY | Errno::OPNOTSUPP, Some(pid), Some(group)) = (refused.errno(), self.beside, self.group)
            && let Some(leaf) = group.open_group_of(pid)?
        {
            return Ok(sys::process::clone3(flags, Some(leaf.as_fd()))?);
        }
        let dir = self.group.and_then(|group| group.places().find(|place| place.is_unified()));
        let dir = dir.map(cgroup::GroupPath::dir).unwrap_or_default();
        Err(match cgroup::group::why_no_process(refused.errno()) {
            Some(why) => Error::from(refused).in_step(format!("start a process in {dir}: {why}")),
            None => refused.into(),
        })
    }
}
