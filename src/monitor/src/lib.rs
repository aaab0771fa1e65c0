//! One small process for each container that runs for long.
//!
//! It starts the container by `skep`, holds the reading end of its output (the terminal's master, or a FIFO), writes the
//! log, lets people attach, and learns how the first process ended: it is a child subreaper, so that the process becomes its
//! child when `skep` has gone. Then it runs the command that decides whether the container is started again.
//!
//! It can die: its spare, a copy of it that only waits, holds the terminals and the first process as well, and takes its place
//! while the container runs on. Where both died another can be started: [`start`] says what is lost then.
//!
//! | module | has |
//! |---|---|
//! | [`log`] | the log with its rotation, and the last of the output in memory |
//! | [`serve`] | the one loop: output, input, people, the end |
//! | [`terminal`] | one terminal, and what is typed at it |
//! | [`spare`] | the second holder |
//! | [`start`] | how it comes to life, with a container or for one that runs |
//! | [`view`] | files of `/proc` that tell a container of itself, by a process of their own |

pub mod log;
pub mod serve;
pub mod spare;
pub mod start;
pub mod terminal;
pub mod view;
