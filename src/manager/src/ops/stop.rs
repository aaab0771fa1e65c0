//! `stop NAME`: the signal that asks, then the one that does not.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime_spec::state::Status;

use crate::definition::Definition;
use crate::ops::{ended, start};
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

/// Stops a container and starts it again, with nobody else in between.
///
/// # Errors
/// As [`stop`]; it does not start again.
pub fn restart(manager: &Manager, name: &str, seconds: u64) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    stop_locked(manager, &definition, seconds)?;
    start::start_locked(manager, &definition, None)
}

pub(crate) fn stop_locked(manager: &Manager, definition: &Definition, seconds: u64) -> Result<()> {
    let name = &definition.name;
    let alive = manager.runtime.state(name)?.map(|state| state.status).filter(|status| is_alive(*status));
    if let Some(status) = alive {
        end(manager, definition, status, seconds).with_context(|| format!("cannot stop container {name:?}"))?;
    }
    ended::clear(manager, definition, alive.is_some())
}

fn end(manager: &Manager, definition: &Definition, status: Status, seconds: u64) -> Result<()> {
    let (name, runtime) = (&definition.name, &manager.runtime);
    // One that has not begun, or may not go on, can follow no request.
    if status == Status::Running
        && seconds > 0
        && (send(manager, name, &definition.stop_signal)? == Sent::Nobody
            || runtime.wait(name, Duration::from_secs(seconds))?)
    {
        return Ok(());
    }
    // The runtime lets a paused one go on, so that it dies of it.
    if send(manager, name, "KILL")? == Sent::Signal && !runtime.wait(name, DEATH)? {
        bail!("its first process is still there {} seconds after SIGKILL", DEATH.as_secs());
    }
    Ok(())
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// A process got it.
    Signal,
    /// There is no process: it has ended in between, or its making was interrupted. The removal takes what is left.
    Nobody,
}

fn send(manager: &Manager, name: &str, signal: &str) -> Result<Sent> {
    match manager.runtime.kill(name, signal) {
        Ok(()) => Ok(Sent::Signal),
        Err(error) => match manager.runtime.state(name)?.map(|state| state.status) {
            Some(status) if is_alive(status) && status != Status::Creating => Err(error),
            _ => Ok(Sent::Nobody),
        },
    }
}
