//! `destroy NAME`: the definition and everything that its container changed.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::definition::Definition;
use crate::lxc;
use crate::ops::{network, remove_tree, stop};
use crate::output::tell;
use crate::pending;
use crate::quota;
use crate::run::Manager;
use crate::view;

/// Removes a container. The rename is the moment from which it is gone; what is left after an interruption is removed by
/// the next command. With `force` also one whose documents cannot be used.
///
/// # Errors
/// It runs and `force` is not set, or it is not there and `force` is not set; what the kernel says.
pub fn destroy(manager: &Manager, name: &str, force: bool) -> Result<()> {
    let _lock = manager.places.lock(name)?;
    let settled = pending::settle(manager, name).and_then(|()| Definition::read(&manager.places, name));
    let definition = match settled {
        Err(error) if force => {
            tell(&format!("warning: container {name:?} is removed as it is: {error:#}"));
            None
        }
        other => other?,
    };
    if definition.is_none() && !(force && manager.places.container(name).exists()) {
        if force {
            return Ok(());
        }
        bail!("container {name:?} is not defined");
    }
    if let Some(state) = manager.runtime.state(name)? {
        if state.status.is_alive() && !force {
            bail!("container {name:?} is {}: stop it, or destroy it with --force", state.status);
        }
        if definition.is_none() {
            manager.runtime.delete(name)?;
        }
    }
    if let Some(definition) = &definition {
        stop::stop_locked(manager, definition, 0)?;
        lxc::run_hooks(definition, "destroy", &[], None)?;
    }
    remove(manager, name)?;
    if let Some(definition) = definition {
        network::tell_neighbours(manager, &definition);
    }
    Ok(())
}

/// Takes a container's folder away, if it is there, with its addresses.
pub(crate) fn remove(manager: &Manager, name: &str) -> Result<()> {
    let folder = manager.places.container(name);
    if !folder.exists() {
        return Ok(());
    }
    view::lower(&manager.places, name)?;
    let gone = manager.places.containers().join(format!(".{name}.gone"));
    remove_tree(&gone)?;
    fs::rename(&folder, &gone).with_context(|| format!("cannot remove {}", folder.display()))?;
    // As long as the folder is there, whoever finds it gives the addresses back.
    network::disconnect(manager, name)?;
    quota::release(&gone)?;
    remove_tree(&gone)
}
