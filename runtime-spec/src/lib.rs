//! Turns the bytes of a container definition into one validated [`ContainerSpec`].
//!
//! The crate is pure: it opens no file, makes no system call, prints nothing and knows no other crate of the
//! workspace. `config.json` is read into plain structs that keep strings as strings ([`oci`]), then one pass
//! ([`validate()`]) turns them into the typed [`model`] and reports everything that it found at once, each finding with
//! its JSON pointer and the section of the specification that it cites.
//!
//! ```text
//! config.json -> oci::Config -> validate() -> Report { findings, spec: Option<ContainerSpec> }
//! ```

pub mod model;

pub use model::ContainerSpec;
