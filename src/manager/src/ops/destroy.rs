//! `destroy NAME`: the definition and everything that its container changed.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::definition::Definition;
use crate::ops::{network, remove_tree, stop};
use crate::pending;
use crate::run::Manager;
use crate::runtime::is_alive;

/// Removes a container. The rename is the moment from which it is gone; what is left after an interruption is removed by
/// the next command.
///
/// # Errors
/// It runs and `force` is not set, or it is not there and `force` is not set; what the kernel says.
pub fn destroy(manager: &Manager, name: &str, force: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let Some(definition) = Definition::read(&manager.places, name)? else {
        if force {
            return Ok(());
        }
        bail!("container {name:?} is not defined");
    };
    if let Some(state) = manager.runtime.state(name)? {
        if is_alive(state.status) && !force {
            bail!("container {name:?} is {}: stop it, or destroy it with --force", state.status);
        }
        stop::stop_locked(manager, &definition, 0)?;
    }
    network::disconnect(manager, &definition)?;
    remove(manager, name)?;
    network::tell_neighbours(manager, &definition)
}

/// Takes a container's folder away, if it is there.
pub(super) fn remove(manager: &Manager, name: &str) -> Result<()> {
    let folder = manager.places.container(name);
    if !folder.exists() {
        return Ok(());
    }
    let gone = manager.places.containers().join(format!(".{name}.gone"));
    remove_tree(&gone)?;
    fs::rename(&folder, &gone).with_context(|| format!("cannot remove {}", folder.display()))?;
    remove_tree(&gone)
}
