//! `freeze` and `unfreeze`.

use anyhow::{Result, bail};

use crate::definition::Definition;
use crate::pending;
use crate::run::Manager;

/// Lets no process of a container go on, or lets them go on.
///
/// # Errors
/// It does not run; what the runtime says.
pub fn set_frozen(manager: &Manager, name: &str, frozen: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    Definition::need(&manager.places, name)?;
    if !manager.runtime.set_frozen(name, frozen)? {
        bail!("container {name:?} does not run");
    }
    Ok(())
}
