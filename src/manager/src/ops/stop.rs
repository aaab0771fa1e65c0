//! `stop NAME`: the signal that asks, then the one that does not.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime_spec::state::Status;

use crate::definition::Definition;
use crate::ops::network;
use crate::pending;
use crate::run::Manager;
use crate::runtime::is_alive;

/// How long a process may take to die of SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

/// Stops a container and undoes what its start did. One that does not run is stopped already.
///
/// # Errors
/// What the runtime says; a process that outlives SIGKILL.
pub fn stop(manager: &Manager, name: &str, seconds: u64) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    stop_locked(manager, &definition, seconds)
}

pub(super) fn stop_locked(manager: &Manager, definition: &Definition, seconds: u64) -> Result<()> {
    let name = &definition.name;
    // Ports that an interrupted stop or a crash left are taken back, too.
    let Some(state) = manager.runtime.state(name)? else { return network::lower(manager, definition) };
    if is_alive(state.status) {
        end(manager, definition, state.status, seconds).with_context(|| format!("cannot stop container {name:?}"))?;
    }
    manager.runtime.delete(name)?;
    network::lower(manager, definition)
}

fn end(manager: &Manager, definition: &Definition, status: Status, seconds: u64) -> Result<()> {
    let name = &definition.name;
    let runtime = &manager.runtime;
    // One that has not begun, or may not go on, can follow no request.
    if status == Status::Running && seconds > 0 {
        runtime.kill(name, &definition.stop_signal)?;
        if runtime.wait(name, Duration::from_secs(seconds))? {
            return Ok(());
        }
    }
    match runtime.kill(name, "KILL") {
        // It ended in between.
        Err(_) if !runtime.state(name)?.is_some_and(|state| is_alive(state.status)) => return Ok(()),
        other => other?,
    }
    if status == Status::Paused {
        runtime.set_frozen(name, false)?;
    }
    if !runtime.wait(name, DEATH)? {
        bail!("its first process is still there {} seconds after SIGKILL", DEATH.as_secs());
    }
    Ok(())
}
