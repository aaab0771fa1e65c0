//! One small process for each container that runs for long.
//!
//! It starts the container by `skep`, holds the reading end of its output (the terminal's master, or a FIFO), writes the
//! log, lets people attach, and learns how the first process ended: it is a child subreaper, so that the process becomes its
//! child when `skep` has gone. Then it runs the command that decides whether the container is started again.
//!
//! It can die, and another can take its place while the container runs on: [`serve::attach`] says what is lost.
//!
//! | module | has |
//! |---|---|
//! | [`log`] | the log with its rotation, and the last of the output in memory |
//! | [`serve`] | the one loop: output, input, people, the end |
//! | [`start`] | how it comes to life, with a container or for one that runs |
//! | [`view`] | files of `/proc` that tell a container of itself, by a process of their own |

pub mod log;
pub mod serve;
pub mod start;
pub mod view;
