//! Turns the bytes of a container definition into one validated [`ContainerSpec`].
//!
//! The crate is pure: it opens no file, makes no system call, prints nothing and knows no other crate of the
//! workspace. `config.json` is read into plain structs that keep strings as strings ([`oci`]), then one pass
//! ([`validate()`]) turns them into the typed [`model`] and reports everything that it found at once, each finding with
//! its JSON pointer and the section of the specification that it cites.
//!
//! ```text
//! config.json -> oci::Config -> validate() -> Report { findings, spec: Option<ContainerSpec> }
//! lxc.* keys  -> lxc::Config -> lower()    -> a definition, and what config.json says beyond it
//! ```

pub mod capabilities;
pub mod clock;
pub mod example;
pub mod features;
mod finding;
pub mod fragment;
pub mod guest_cgroups;
pub mod landlock;
pub mod lxc;
pub mod model;
pub mod monitor;
pub mod oci;
pub mod overlay;
pub mod signal;
pub mod state;
pub mod stats;
pub mod timeline;
pub mod ttys;
pub mod validate;

pub use finding::{Finding, Severity};
pub use model::ContainerSpec;
pub use validate::{Report, load, load_process, load_resources, validate, validate_process};

/// The version of runtime-spec that this crate follows: major, minor, patch.
pub const VERSION: (u64, u64, u64) = (1, 3, 0);

/// The same as text, for the documents that the runtime writes.
#[must_use]
pub fn version() -> String {
    format!("{}.{}.{}", VERSION.0, VERSION.1, VERSION.2)
}
