//! What is undone when a container goes, recorded before it is done.
//!
//! Every entry can be undone when its effect never happened, happened in part, or was undone before.

use cgroup::GroupPath;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::unit::Unit;

/// One effect outside the container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Groups to remove, with those that the container made below them.
    Cgroups {
        /// One per hierarchy.
        groups: Vec<GroupPath>,
    },
    /// A unit to stop, so that nothing of it stays loaded or failed.
    Unit {
        /// Which one, and whose.
        unit: Unit,
    },
    /// A network link to take back.
    Link {
        /// What it has on the host.
        link: network::LinkRecord,
    },
    /// A resctrl group to remove.
    Resctrl {
        /// Its folder.
        path: String,
    },
}

/// Undoes everything, last first, and returns all that failed.
///
/// # Errors
/// Every step that failed; the others were done.
pub(crate) fn replay(list: &[Undo], proc: &sys::ProcFs) -> Result<()> {
    Error::collect(list.iter().rev().filter_map(|entry| undo_one(entry, proc).err()).collect())
}

fn undo_one(entry: &Undo, proc: &sys::ProcFs) -> Result<()> {
    match entry {
        Undo::Cgroups { groups } => Ok(cgroup::group::remove(groups, cgroup::group::REMOVE_BOUND, proc)?),
        Undo::Unit { unit } => crate::unit::stop(unit),
        Undo::Link { link } => Ok(network::undo_link(link).map(drop)?),
        Undo::Resctrl { path } => match sys::fs::rmdir_at(sys::fs::CWD, path) {
            Err(error) if !error.is(sys::Errno::NOENT) => Err(error.into()),
            _ => Ok(()),
        },
    }
}
