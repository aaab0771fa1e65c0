//! `stop NAME`: what asks the first process to end, then SIGTERM, then what does not ask. `restart NAME`: the same, and a start.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use runtime_spec::state::Status;

use crate::definition::{Definition, Restart};
use crate::monitor::{self, Input};
use crate::ops::{ended, start};
use crate::pending;
use crate::run::Manager;
use crate::runs::Run;
use crate::runtime::{open_process, wait_process};
use crate::system::init::{self, STOP_SIGNAL, Verb, Wanted};

/// Stops a container and undoes what its start did. One that does not run is stopped already.
///
/// # Errors
/// What the runtime says, also of a process that outlives SIGKILL.
pub fn stop(manager: &Manager, name: &str, seconds: u64) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    stop_locked(manager, &definition, seconds)
}

/// Stops a container, whose init is told that it begins again, and starts it, with nobody else in between.
///
/// # Errors
/// As [`stop`]; it does not start again.
pub fn restart(manager: &Manager, name: &str, seconds: u64) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    stop_for(manager, &definition, seconds, Wanted::Reboot)?;
    start::start_locked(manager, &definition, None, Input::Null)
}

pub(crate) fn stop_locked(manager: &Manager, definition: &Definition, seconds: u64) -> Result<()> {
    stop_for(manager, definition, seconds, Wanted::PowerOff)
}

fn stop_for(manager: &Manager, definition: &Definition, seconds: u64, wanted: Wanted) -> Result<()> {
    let name = &definition.name;
    let run = Run::read(&manager.places, name)?;
    let watched = match &run {
        Some(run) => run.again_at.is_none() && monitor::is_there(&run.folder(&manager.places, name))?,
        None => false,
    };
    // Nobody is asked before the kill of one whose monitor lives, and so most likely it, too.
    let alive = if seconds == 0 && watched {
        None
    } else {
        let state = manager.runtime.state(name)?;
        match state.as_ref().is_some_and(|state| state.status.is_alive()) {
            true => state,
            false => return ended::clear(manager, definition, state.is_some(), false),
        }
    };
    // Whoever sees its end without us shall not start it again.
    let comes_back = definition.restart != Restart::No || definition.system.is_some();
    if let Some(run) = run.filter(|_| comes_back) {
        Run { stopping: true, ..run }.write(&manager.places, name)?;
    }
    let end = || {
        // One that has not begun, or may not go on, can follow no request.
        if let Some(state) = alive.filter(|state| seconds > 0 && state.status == Status::Running)
            && let Some(process) = open_process(&state)?
        {
            ask_to_end(manager, definition, &process, seconds, wanted)?;
        }
        ended::clear(manager, definition, true, true)
    };
    end().with_context(|| format!("cannot stop container {name:?}"))
}

/// Has a container end by itself, by its first process, of which the pid and a descriptor are given. One that does not will be
/// killed.
fn ask_to_end(
    manager: &Manager,
    definition: &Definition,
    first: &(i32, OwnedFd),
    seconds: u64,
    wanted: Wanted,
) -> Result<()> {
    let (name, (_, process)) = (&definition.name, first);
    let until = Instant::now() + Duration::from_secs(seconds);
    // The last fifth of the time is for an init that does not know, or does not do, what it was asked.
    let asked = ask(manager, definition, first, wanted)?;
    let late = if asked.by_signal(STOP_SIGNAL) { Duration::ZERO } else { Duration::from_secs(seconds) / 5 };
    if asked == Asked::Nobody
        || wait_process(process, until.saturating_duration_since(Instant::now() + late))?
        || asked.by_signal(STOP_SIGNAL)
        || send(manager, name, STOP_SIGNAL)? == Sent::Nobody
    {
        return Ok(());
    }
    wait_process(process, until.saturating_duration_since(Instant::now())).map(drop)
}

/// How long a program may take that is to ask an init.
const REQUEST: Duration = Duration::from_secs(3);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// It was made.
    By(Verb),
    /// It could not be made.
    Not,
    /// There is no process any more.
    Nobody,
}

impl Asked {
    fn by_signal(&self, name: &str) -> bool {
        matches!(self, Asked::By(Verb::Signal(signal)) if signal == name)
    }
}

/// Looks at what runs, and asks it in its own way.
fn ask(manager: &Manager, definition: &Definition, (pid, process): &(i32, OwnedFd), wanted: Wanted) -> Result<Asked> {
    let (name, runtime) = (&definition.name, &manager.runtime);
    let has_ended = || sys::process::has_ended(process.as_fd());
    let seen = match init::probe(*pid) {
        Err(_) if has_ended()? => return Ok(Asked::Nobody),
        // What its files are on is the container's own affair.
        Err(_) => return Ok(Asked::Not),
        Ok(seen) => seen,
    };
    // Only now it is certain that it was this process that was looked at.
    if has_ended()? {
        return Ok(Asked::Nobody);
    }
    let verb = init::plan_end(init::parse_init(&seen), wanted, &definition.stop_signal);
    let made = match &verb {
        Verb::Signal(signal) => {
            return Ok(if send(manager, name, signal)? == Sent::Nobody { Asked::Nobody } else { Asked::By(verb) });
        }
        Verb::Runlevel(level) => init::write_runlevel(*pid, *level),
        Verb::Program(program) => runtime.exec(name, program, REQUEST),
    };
    match made {
        Ok(()) => Ok(Asked::By(verb)),
        Err(_) if has_ended()? => Ok(Asked::Nobody),
        // It cannot be asked so: it is asked as any program is.
        Err(_) => Ok(Asked::Not),
    }
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
            Some(status) if status.is_alive() && status != Status::Creating => Err(error),
            _ => Ok(Sent::Nobody),
        },
    }
}
