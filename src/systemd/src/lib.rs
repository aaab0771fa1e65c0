//! Transient units of systemd: their names, their properties, and the few calls that make, change and end them.
//!
//! The crate owns its own D-Bus client: one blocking connection, no thread, a deadline on every wait and a bound on every
//! size. It never looks at the environment (its caller says where the bus is) and writes no cgroup file: what systemd has
//! no property for is written by whoever knows the group.
//!
//! ```text
//! name::place(cgroupsPath) -> Placement { unit, slice, path }                        pure
//! property::from_files([(file, value)], version) -> [Property]                      pure
//! gvariant::parse(text) -> Value                                                    pure
//! Manager::connect([Endpoint]) -> start_transient_unit, set_unit_properties, stop_unit, ...
//!   connection   SASL, calls, signals        message   header and body        wire   values as bytes
//! ```

mod address;
mod connection;
mod error;
#[cfg(test)]
mod foreign_bytes;
pub mod gvariant;
mod manager;
mod message;
pub mod name;
pub mod property;
mod value;
mod wire;

pub use address::Endpoint;
pub use error::{Error, Result};
pub use manager::{JOB_BOUND, Manager};
pub use name::Placement;
pub use property::Property;
pub use value::Value;
