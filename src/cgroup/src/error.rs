//! What can go wrong with a container's groups.

use std::fmt;
use std::time::Duration;

use crate::group::Survivor;
use crate::limit::LimitError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A group that could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed; it names the file.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A limit cannot be rendered or was refused.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A file of the kernel does not look as documented.
    #[error("cannot understand {text:?} in {file}")]
    Parse {
        /// The file.
        file: String,
        /// The part that makes no sense.
        text: String,
    },
    /// The host mounts no hierarchy.
    #[error("no cgroup hierarchy is mounted below {root}")]
    NoHierarchy {
        /// Where they were looked for.
        root: String,
    },
    /// The definition names a place that cannot be a container's.
    #[error("cgroupsPath {path:?} cannot be used: {reason}")]
    Path {
        /// The path of the definition.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// The group is there already and in use.
    #[error("container's cgroup is not empty: {count} process(es) found in {dir}")]
    NotEmpty {
        /// The group's folder.
        dir: String,
        /// How many processes it holds.
        count: usize,
    },
    /// The group is there already and frozen: a task that enters would stop before it can report.
    #[error("container's cgroup unexpectedly frozen: {dir}")]
    Frozen {
        /// The group's folder in the freezer's hierarchy.
        dir: String,
    },
    /// Making the groups failed, and then folders that were made could not be removed.
    #[error("{cause}; moreover {}", Listed(.left))]
    Undo {
        /// Why it failed.
        cause: Box<Error>,
        /// What could not be undone.
        left: Vec<sys::Error>,
    },
    /// The container has no group in a hierarchy that the operation needs.
    #[error("the container has no {controller} cgroup")]
    NoGroup {
        /// The controller.
        controller: String,
    },
    /// The group did not freeze in time; it was thawed again.
    #[error("{dir} did not freeze within {after:?}{}", Tasks(.tasks))]
    NotFrozen {
        /// The group's folder.
        dir: String,
        /// The bound.
        after: Duration,
        /// Tasks that were still running.
        tasks: Vec<Survivor>,
    },
    /// A pressure trigger that needs a right which the caller does not have.
    #[error("without CAP_SYS_RESOURCE the window of a pressure trigger must be a multiple of 2s, not {window:?}")]
    PressureWindow {
        /// The window.
        window: Duration,
    },
    /// A parent allows no more groups.
    #[error("cannot make {dir}: cgroup.max.descendants or cgroup.max.depth of a group above it is reached")]
    TooManyGroups {
        /// The folder that could not be made.
        dir: String,
    },
    /// A group of a container that runs is not there.
    #[error("the container's cgroup {dir} was removed by somebody, and its processes were moved elsewhere")]
    Vanished {
        /// The group's folder.
        dir: String,
    },
    /// Somebody's device program allows none beside it.
    #[error(
        "{dir} has a device program of somebody else that allows no other beside or below it: the container's device rules cannot apply"
    )]
    DevicesExclusive {
        /// The folder that it is attached to.
        dir: String,
    },
    /// Groups that could not be removed.
    #[error("cannot remove {}", Failures(.0))]
    Remove(Vec<RemoveFailure>),
}

/// One group that stayed.
#[derive(Debug)]
pub struct RemoveFailure {
    /// Its folder.
    pub dir: String,
    /// What the kernel said last.
    pub source: sys::Error,
    /// Tasks that are still in it.
    pub tasks: Vec<Survivor>,
}

struct Listed<'a>(&'a [sys::Error]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

struct Tasks<'a>(&'a [Survivor]);

impl fmt::Display for Tasks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, task) in self.0.iter().enumerate() {
            write!(f, "{}{task}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

struct Failures<'a>(&'a [RemoveFailure]);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{} ({}{})", failure.dir, failure.source, Tasks(&failure.tasks))?;
        }
        Ok(())
    }
}
