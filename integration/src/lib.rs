//! End-to-end tests that judge any OCI runtime through its command line, on the real kernel.
//!
//! The runtime under test is the program that the environment variable `RUNTIME` names, else the `skep` of this
//! workspace. Nothing here links the runtime (of its crates `sys` for kernel calls, and `rootfs-tools`, whose tests with root
//! are here too): a test writes a bundle, calls verbs and looks at the kernel, so the
//! same cases run on runc and crun, the oracle. Where an oracle is known to differ, [`oracle`] says so as data.
//!
//! ```text
//! case(|sb| ...)      a Sandbox per test (case_with where the machine must have more than root): own folder, --root, ids and cgroup subtree; removed even on a panic
//!   sb.bundle()       the default config.json and a rootfs of one static busybox, changed fluently
//!   sb.run(&bundle)   any verb with a deadline -> Output { code, stdout, stderr }
//! ```
//!
//! Invariants: a test shares nothing that it changes with another test; a wait has a deadline; a skip is printed and
//! must be in `allowed-skips.txt`.

pub mod booted;
pub mod bundle;
pub mod client;
pub mod console;
pub mod criu;
pub mod defined;
pub mod group;
pub mod host;
pub mod net;
pub mod nodes;
pub mod oracle;
pub mod protobuf;
pub mod race;
pub mod requires;
pub mod rootless;
pub mod runtime;
pub mod sandbox;
pub mod systems;

pub use bundle::Bundle;
pub use oracle::{case, case_with};
pub use runtime::{Call, Output, Running, Runtime};
pub use sandbox::{Container, Sandbox};
pub use serde_json::{Value, json};
