//! Real container clients, each started privately, as drivers of the runtime under test.
//!
//! A test names its [`Need`]s, enters a [`cell`] (own mount, network, pid, uts, ipc and cgroup namespaces, own cgroup
//! subtree, own `/run`, `/etc`, `/var` and home), starts one daemon there and runs a table of [`Case`]s against it.
//! The environment variable `RUNTIME` names the runtime under test; the same table runs against the reference runtimes,
//! and `expectations/clients-<name>.txt` lists the cases that end differently with one of them, each with its reason.
//!
//! `CASES=text` runs only the cases whose name contains the text. `KEEP_LOGS=dir` keeps the daemons' logs there.

pub mod cell;
pub mod command;
pub mod cri;
pub mod daemon;
pub mod expectations;
pub mod image;
pub mod leftovers;
pub mod lifecycle;
pub mod privileges;
pub mod pty;
pub mod table;
pub mod traces;

pub use cell::{Cell, Need, in_cell};
pub use command::{Cli, Done};
pub use privileges::lacks_resource_capability;
pub use table::{Case, Test, report_left, run_table};
