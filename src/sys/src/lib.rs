//! Typed kernel calls with strace-like errors.
//!
//! This is the only crate of the workspace that may contain `unsafe`. It makes no choices: a function performs the call
//! that its name says or fails with the call, its arguments and the errno. There are no defaults, no retries by another
//! way and no opinions here; those are made by whoever calls.

pub mod bpf;
pub mod entry;
pub mod error;
pub mod fs;
pub mod groups;
pub mod heap;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
#[cfg(feature = "agent")]
pub mod notify;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod quota;
mod raw;
pub mod regex;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod stream;
pub mod terminal;
pub mod watch;

pub use error::{Error, Result};
pub use procfs::ProcFs;
pub use rustix::io::Errno;
