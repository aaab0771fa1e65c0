//! The unit that stands for a container where a service manager makes its group.

use serde::{Deserialize, Serialize};
use systemd::{Endpoint, Manager};

use crate::error::{Error, Result};

/// A container's unit. The undo list keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `prefix-name.scope`, or a slice.
    pub name: String,
    /// By which it is known for this container's, should another one of its name be there.
    pub description: String,
    /// The service manager's version when it was made.
    pub version: u32,
    /// Whether the manager is a user's.
    #[serde(default)]
    pub user: bool,
    /// Ways to the manager.
    pub endpoints: Vec<Endpoint>,
}

impl Unit {
    /// Connects to its manager.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub(crate) fn connect(&self) -> Result<Manager> {
        Ok(Manager::connect(&self.endpoints, sys::process::effective_uid())?)
    }

    /// Whether it is a slice, in which systemd starts no process.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        systemd::name::is_slice(&self.name)
    }
}

/// What the host side knows of the unit while it makes a container.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The connection that the unit was started through.
    pub(crate) manager: Option<Manager>,
    /// Whether a unit may have been made: from when it was asked for, unless another one of its name was there.
    pub(crate) begun: bool,
}

/// Stops a unit and forgets that it failed, if it did. One that is not there, or is another container's, is left alone.
///
/// A scope goes by itself when its last process does, so mostly there is none any more.
///
/// # Errors
/// [`Error::Systemd`].
pub(crate) fn stop(unit: &Unit) -> Result<()> {
    let named = |error: systemd::Error| Error::from(error).in_step(format!("stop unit {}", unit.name));
    let mut manager = unit.connect().map_err(|error| error.in_step(format!("stop unit {}", unit.name)))?;
    match manager.common_property(&unit.name, "Description") {
        Err(error) if error.is("NoSuchUnit") => return Ok(()),
        Ok(description) if description != unit.description => return Ok(()),
        other => drop(other.map_err(named)?),
    }
    manager.stop_unit(&unit.name).map_err(named)
}
