//! Containers: what the host is like, what will be done, the two loops that do it, and one file per operation.
//!
//! ```text
//! ContainerSpec + HostFacts + CreateOptions -> plan -> Plan { host, child, undo }
//!                                                      |       |
//!                                    host side (host/) <- gates -> child side (child/)
//! ```
//!
//! The crate prints nothing and reads neither arguments nor environment: what an operation has to tell goes to the
//! [`Log`] that its caller gives.

mod birth;
pub mod bundle;
mod child;
pub mod clock;
mod criu;
mod error;
pub mod facts;
mod gate;
mod hooks;
mod host;
mod notify;
pub mod offer;
pub mod ops;
pub mod options;
pub mod plan;
mod source;
pub mod state;
pub mod step;
mod undo;
pub mod unit;

pub use error::{Error, Result};
pub use host::{Level, Log};
