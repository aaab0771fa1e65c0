//! `skepd`: keeps services running on one machine. Definitions become replicas, and what dies comes back.
//!
//! ```text
//!                 API (unix socket) ─► command ┐
//! deaths (pidfd), ends of calls, probes, timers ┼─► decide(state, event, now) ─► next state + actions with reasons
//!                                               ┘    pure                                │
//!                                                                   store (redb) ◄──────┼──────► runtime: `skep` by exec
//! ```
//!
//! One task owns the state. Everything that happens reaches it as an event; a pure function says what follows, and calls of
//! the runtime run beside it and answer with events. It never enters a namespace and touches no container itself: `skep`
//! does, and a container's monitor stays with it, whatever becomes of this program.

pub mod api;
pub mod args;
pub mod audit;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod decide;
pub mod definition;
pub mod files;
pub mod log;
pub mod probe;
pub mod render;
pub mod run;
pub mod runtime;
pub mod state;
pub mod store;
pub mod systemd;
pub mod table;
pub mod writer;
