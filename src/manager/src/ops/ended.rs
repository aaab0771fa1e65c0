//! What is done when a run has ended, by whoever notices: `stop`, the next `start`, or the monitor, which calls the two
//! verbs of this file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::added;
use crate::args_running::RunArgs;
use crate::definition::Definition;
use crate::monitor::{self, Input, Waiting, Watched};
use crate::ops::{network, start};
use crate::output;
use crate::pending;
use crate::places::now;
use crate::run::Manager;
use crate::runs::{Last, Run, plan_restart, plan_system_restart};
use runtime_spec::monitor::End;
use runtime_spec::state::State;

/// Kills what is left of a run, takes away what it left and puts down how it ended. The container's lock is to be held.
/// `there` says whether the runtime has something of it; `stopped` that somebody asked for the end.
///
/// # Errors
/// What the kernel or the runtime says; the next command tries again.
pub(super) fn clear(manager: &Manager, definition: &Definition, there: bool, stopped: bool) -> Result<()> {
    let (places, name) = (&manager.places, &definition.name);
    let state = take_back(manager, definition, there)?;
    match &Run::read(places, name)? {
        // It was concluded when it ended; now nobody shall start it again.
        Some(run) if run.again_at.is_some() => monitor::dismiss(&run.folder(places, name))?,
        Some(run) => drop(conclude(manager, definition, run, state.as_ref(), stopped)?),
        None => {}
    }
    Run::forget(places, name)
}

/// Puts down how a run ended; `state` is what the runtime had of it then.
fn conclude(
    manager: &Manager,
    definition: &Definition,
    run: &Run,
    state: Option<&State>,
    stopped: bool,
) -> Result<End> {
    let (places, name) = (&manager.places, &definition.name);
    let end = monitor::await_end(|| run.end(places, name), &run.folder(places, name))?;
    let kills = state.and_then(|state| state.oom_kills).unwrap_or(0);
    let usage = state.and_then(|state| state.usage);
    let last = Last::plan(run, end, kills, usage, stopped || run.stopping, now());
    if definition.system.is_some() { last.of_system(end) } else { last }.write(places, name)?;
    Ok(end)
}

/// Takes away what the runtime still has of a run, and what connected it: also ports that an interrupted stop or a crash left.
/// What it was at its end.
fn take_back(manager: &Manager, definition: &Definition, there: bool) -> Result<Option<State>> {
    let last = if there { manager.runtime.delete(&definition.name)? } else { None };
    added::take_back(&manager.places, &definition.name)?;
    network::lower(manager, definition)?;
    Ok(last)
}

/// `ended NAME RUN`: the monitor has seen the end of a run. Says `again MILLISECONDS` where it is to be started again.
///
/// # Errors
/// What the kernel or the runtime says.
pub fn ended(manager: &Manager, args: &RunArgs) -> Result<()> {
    let (places, name) = (&manager.places, &args.name);
    // Also a lock would be something that is left.
    if !places.container(name).exists() {
        return Ok(());
    }
    let _lock = pending::lock(manager, name)?;
    let Some(definition) = Definition::read(places, name)? else { return Ok(()) };
    // Somebody may have stopped it, and started it again.
    let Some(run) = Run::read(places, name)?.filter(|run| run.id == args.run) else { return Ok(()) };
    let state = manager.runtime.state(name)?;
    if state.as_ref().is_some_and(|state| state.status.is_alive()) {
        return Ok(());
    }
    if let Some(at) = run.again_at {
        // The monitor died when that had been decided, and its spare asks again.
        return output::write(&format!("again {}\n", at.saturating_sub(now_ms())));
    }
    let state = take_back(manager, &definition, state.is_some())?;
    let end = conclude(manager, &definition, &run, state.as_ref(), false)?;
    let lasted = Duration::from_secs(now().saturating_sub(run.started));
    let plan = if definition.system.is_some() { plan_system_restart } else { plan_restart };
    match plan(definition.restart, end, lasted, run.restarts).filter(|_| !run.stopping) {
        None => Run::forget(places, name),
        Some((pause, restarts)) => postpone(manager, name, run, pause, restarts),
    }
}

fn postpone(manager: &Manager, name: &str, run: Run, pause: Duration, restarts: u32) -> Result<()> {
    let pause_ms = u64::try_from(pause.as_millis())?;
    Run { restarts, again_at: Some(now_ms() + pause_ms), ..run }.write(&manager.places, name)?;
    output::write(&format!("again {pause_ms}\n"))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `again NAME RUN`: starts a container again whose pause is over. Says `again MILLISECONDS` where that failed, and is to be
/// tried again.
///
/// # Errors
/// What the kernel says.
pub fn again(manager: &Manager, args: &RunArgs) -> Result<()> {
    let (places, name) = (&manager.places, &args.name);
    // Also a lock would be something that is left.
    if !places.container(name).exists() {
        return Ok(());
    }
    let _lock = pending::lock(manager, name)?;
    let Some(definition) = Definition::read(places, name)? else { return Ok(()) };
    let waits = |run: &Run| run.id == args.run && run.again_at.is_some();
    let Some(run) = Run::read(places, name)?.filter(waits) else { return Ok(()) };
    let Err(error) = start::start_locked(manager, &definition, Some(&run), Input::Null) else { return Ok(()) };
    start::note(manager, name, &format!("{error:#}")).context("cannot write to the log")?;
    match plan_restart(definition.restart, End::Unknown, Duration::ZERO, run.restarts) {
        None => Run::forget(places, name),
        Some((pause, restarts)) => postpone(manager, name, run, pause, restarts),
    }
}

/// Gives a container that runs a monitor, if the one that it had has died. Whether that was so.
///
/// # Errors
/// What the monitor says.
pub(super) fn watch_again(manager: &Manager, definition: &Definition) -> Result<bool> {
    let (places, name) = (&manager.places, &definition.name);
    let Some(run) = Run::read(places, name)?.filter(|_| definition.monitor) else { return Ok(false) };
    if monitor::is_there(&run.folder(places, name))? {
        return Ok(false);
    }
    let monitor = Waiting::start(name, &run.folder(places, name), Watched::Running)?;
    start::launch(manager, definition, &run, &[], Some(monitor))?;
    Ok(true)
}
