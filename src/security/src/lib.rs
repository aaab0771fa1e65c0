//! Turns the security parts of a validated container definition into what the kernel takes, as data.
//!
//! * [`seccomp`] compiles a system call profile into a classic BPF program.
//! * [`devices`] reduces device rules to a set, and renders the set as lines for a v1 cgroup or as an eBPF program for a
//!   v2 cgroup.
//! * [`simulate`] executes both kinds of program.
//!
//! The crate is pure: it makes no system call, reads no file and knows nothing of the machine that it runs on. Loading
//! the programs is the business of others.

pub mod devices;
pub mod seccomp;
pub mod simulate;
