//! CRIU, the program that saves and restores trees of processes: one process for each request, spoken to over a socket.
//!
//! ```text
//! wire     bytes of protocol buffers          \
//! rpc      CRIU's requests and answers         > pure
//! service  the process `criu swrk FD`, asking it, and what its log says when it fails
//! places   where a destination leads in a root file system, which is what CRIU calls a mount
//! ```
//! What is asked is planned in [`plan`](crate::plan); here it is only said. CRIU opens images and logs through this
//! process's descriptors, so both stay open for as long as it works.

mod folders;
mod places;
pub(crate) mod rpc;
mod service;
mod wire;

pub(crate) use folders::Folders;
pub(crate) use places::{covered_file, mount_point};
pub(crate) use service::{Answer, Service, check_version, failure, program, receive, send};

/// The oldest version that is asked for anything: it was the first to tell its version.
pub(crate) const OLDEST: rpc::Version = rpc::Version(3, 0, 0);
/// The first that restores into network namespaces which are not its own.
pub(crate) const EXTERNAL_NETWORK: rpc::Version = rpc::Version(3, 11, 0);
/// The first that freezes by the unified hierarchy.
pub(crate) const UNIFIED_FREEZER: rpc::Version = rpc::Version(3, 14, 0);
/// The first that restores into pid namespaces which are not its own, and that tells by notification when pages can be
/// fetched.
pub(crate) const EXTERNAL_PID: rpc::Version = rpc::Version(3, 15, 0);
/// The first in which another LSM label than the images' can be given.
pub(crate) const OTHER_LABEL: rpc::Version = rpc::Version(3, 16, 0);
