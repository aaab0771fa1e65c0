//! What the first process of a whole system gets of its container's groups.
//!
//! The specification mounts every hierarchy as the host does, and gives a container the unified group alone ("Cgroup
//! ownership"). An init divides its groups on v1, too, and one that knows v2 alone (systemd 258 and later) finds nothing that
//! it can use on a hybrid host. The annotation [`ANNOTATION`] names what it gets; limits stay with the host.

use serde::Serialize;

/// The annotation.
pub const ANNOTATION: &str = "io.skep.guest-cgroups";

/// What is mounted at `/sys/fs/cgroup`, and belongs to root of the container's user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestCgroups {
    /// Every hierarchy, as the host has them.
    All,
    /// The unified hierarchy, also beside others.
    Unified,
}

/// The values of the annotation.
pub const NAMES: [(&str, GuestCgroups); 2] = [("all", GuestCgroups::All), ("unified", GuestCgroups::Unified)];
