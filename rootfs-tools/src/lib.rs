//! Makes root file systems.
//!
//! It owns what lies in a root file system before a container starts. It never mounts into one and never enters one.

mod busybox;

pub use busybox::{Error, busybox};
