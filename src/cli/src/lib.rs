//! The command line: what was asked for, the log, the output, the exit code.
//!
//! This is the only place of the program that prints, reads its arguments or its environment. A library so that the
//! tables of options are there for whoever makes man pages and completions; the binary is a handful of lines on top.

pub mod args;
pub mod bundle;
pub mod caller;
pub mod containers;
pub mod criu;
pub mod errors;
pub mod follow;
pub mod limits;
pub mod log;
pub mod manager;
pub mod output;
pub mod protect;
pub mod run;
pub mod trace;
