//! Control groups: where a container's groups are, what is written into them, and what they tell.
//!
//! The crate owns the layout of the host's hierarchies, the rendering of limits to file writes, the life of one
//! container's groups (make, attach, limit, freeze, kill, remove) and the reading of their statistics. It never decides
//! whether a limit is wanted, never talks to systemd and never writes a pid to `cgroup.procs`: that takes the kernel's
//! thread-group lock for writing and waits 10 ms for a grace period on an idle machine. A task enters a v1 hierarchy by
//! writing `0` to `tasks` itself, through descriptors that the host opened ([`Group::open_attach`]), and the unified
//! hierarchy by being cloned into it.
//!
//! ```text
//! layout::probe() -> Layout                          what is mounted where, once per command
//! path::plan(&Layout, cgroupsPath, id) -> [GroupPath]   pure; kept in the state file
//! legacy::writes / unified::writes -> Limits { attach, rest, ignored }   pure; printed by the plan
//! Group::create(&[GroupPath], Below) -> apply(attach) -> open_attach() -> the child attaches -> apply(rest)
//! Group::open(&[GroupPath])   -> freeze, thaw, procs, kill_all, stats::read, oom::watch, remove
//! ```
//!
//! `cross-check/` compares the v1 values with those of cgroups-rs, in a workspace of its own.

pub mod access;
pub mod convert;
mod error;
pub mod group;
pub mod layout;
pub mod legacy;
pub mod limit;
pub mod oom;
pub mod path;
pub mod pressure;
pub mod stats;
pub mod unified;

pub use error::{Error, Result};
pub use group::{AttachFd, AttachFds, Group, SubGroup, Survivor, attach_order};
pub use layout::{Hierarchy, Layout, Mode};
pub use limit::{Current, FileWrite, Limits};
pub use path::GroupPath;
