//! `delete`: everything that belongs to a container goes.

use std::os::fd::AsFd;

use runtime_spec::ContainerSpec;
use runtime_spec::state::{State as Document, Status};
use sys::ProcFs;

use super::{Context, hook_state, spec_of, stopped};
use crate::error::{Error, Result};
use crate::hooks;
use crate::state::{Folder, Phase, ProcessId, Record, Store, is_alive, open_process};
use crate::step::HookPoint;
use crate::undo::{self, Undo};

/// How long a process may take to die of SIGKILL before it is named as one that will not.
const KILL_BOUND_MS: u64 = 10_000;

/// How long a process may take to end whose runtime was killed before it could record it: it sees the end of its gate.
const ORPHAN_BOUND: std::time::Duration = std::time::Duration::from_secs(2);

/// Whether a container may still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It has to be stopped, or never started.
    No,
    /// It is killed; one that is not there is fine.
    Yes,
}

/// Whether it is told what the container was when it had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It is not.
    No,
    /// Its state document is, with what it used, unless its process was never made.
    Yes,
}

/// Deletes a container. What is returned is what [`Report`] says.
///
/// # Errors
/// [`Error::DeleteAlive`], [`Error::NotFound`] without force, [`Error::Unkillable`] with the tasks that outlive SIGKILL, or
/// everything that could not be undone; the rest was, and the container can be deleted again.
pub fn delete(context: &Context<'_>, id: &str, force: Force, report: Report) -> Result<Option<Document>> {
    let (store, folder) = match context.find(id) {
        Err(Error::NotFound) if force == Force::Yes => return Ok(None),
        other => other?,
    };
    if force == Force::Yes {
        break_creation(context, &folder)?;
    }
    let _lock = match folder.lock() {
        Err(Error::NotFound) if force == Force::Yes => return Ok(None),
        other => other?,
    };
    let (record, config) = match folder.read() {
        // Taken, and its taker ended before it wrote a word.
        Err(Error::NotFound) => return store.remove(&folder).map(|()| None),
        other => other?,
    };
    if force == Force::No {
        match folder.status(&record, &context.proc)? {
            Status::Stopped | Status::Created => {}
            status => return Err(Error::DeleteAlive { id: id.to_owned(), status: status.name() }),
        }
    }
    let document = destroy(context, &store, &folder, &record, report)?;
    if let Ok(spec) = spec_of(id, &config) {
        say_good_bye(context, &spec, &record);
    }
    Ok(document)
}

/// Deletes a container whose foreground `run` is over, unless somebody else has done it meanwhile.
pub(super) fn delete_own(context: &Context<'_>, store: &Store, folder: &Folder, spec: &ContainerSpec) -> Result<()> {
    let gone = |error| if matches!(error, Error::NotFound) { Ok(()) } else { Err(error) };
    let _lock = match folder.lock() {
        Err(error) => return gone(error),
        Ok(lock) => lock,
    };
    let record = match folder.read_record() {
        Err(error) => return gone(error),
        Ok(record) => record,
    };
    destroy(context, store, folder, &record, Report::No)?;
    say_good_bye(context, spec, &record);
    Ok(())
}

fn say_good_bye(context: &Context<'_>, spec: &ContainerSpec, record: &Record) {
    let mut state = hook_state(record);
    state.pid = None;
    run_poststop(context, spec, &record.bundle, &state);
}

/// A creation that is stuck holds the lock. Its container's process is killed; the runtime that waits for it then fails
/// and takes everything back itself.
fn break_creation(context: &Context<'_>, folder: &Folder) -> Result<()> {
    let record = match folder.read_record() {
        Err(Error::NotFound) => return Ok(()),
        other => other?,
    };
    if record.phase != Phase::Creating || !is_alive(&context.proc, record.creator) {
        return Ok(());
    }
    let Some(init) = record.init else { return Ok(()) };
    kill_process(&context.proc, init)?;
    wait_for_end(&context.proc, record.creator)
}

/// Kills what is left, undoes everything and gives the id back.
fn destroy(
    context: &Context<'_>,
    store: &Store,
    folder: &Folder,
    record: &Record,
    report: Report,
) -> Result<Option<Document>> {
    let Some(init) = record.init else {
        // Nothing was ever started in the groups, so what is in them is not this container's.
        let started = |undo: &&Undo| matches!(undo, Undo::Cgroups { .. } | Undo::Unit { .. });
        let list: Vec<Undo> = record.undo.iter().filter(|undo| !started(undo)).cloned().collect();
        undo::replay(&list, &context.proc)?;
        // Its own process, born just before the runtime was killed, ends by itself.
        if let Err(error) = cgroup::group::remove(&record.groups, ORPHAN_BOUND, &context.proc) {
            context.warn(&format!("a group of {} stays: {error}", record.id));
        }
        return store.remove(folder).map(|()| None);
    };
    let mark = context.mark();
    kill_process(&context.proc, init)?;
    if !record.own_pid_namespace || is_alive(&context.proc, init) || cgroup::group::is_occupied(&record.groups)? {
        kill_group(&record.id, &cgroup::Group::open(&record.groups)?, &context.proc)?;
    }
    wait_for_end(&context.proc, init)?;
    context.spent("kill", mark);
    // The groups tell no more once they are gone.
    let document = if report == Report::Yes { Some(stopped(record)?) } else { None };
    let mark = context.mark();
    undo::replay(&record.undo, &context.proc)?;
    context.spent("undo", mark);
    let mark = context.mark();
    store.remove(folder)?;
    context.spent("remove_record", mark);
    Ok(document)
}

/// Kills every process of the groups.
pub(super) fn kill_group(id: &str, group: &cgroup::Group, proc: &ProcFs) -> Result<()> {
    let left = group.kill_all(cgroup::group::KILL_BOUND, proc)?;
    if left.is_empty() {
        return Ok(());
    }
    let tasks = left
        .iter()
        .map(|task| format!("{} ({}, state {}, in {})", task.pid, task.comm, task.state, task.wchan))
        .collect::<Vec<_>>()
        .join(", ");
    Err(Error::Unkillable { id: id.to_owned(), tasks })
}

/// SIGKILL to a process that is still the one that was recorded.
fn kill_process(proc: &ProcFs, id: ProcessId) -> Result<()> {
    match super::kill::signal_process(proc, id, sys::signal::SIGKILL) {
        Err(Error::NotRunning) => Ok(()),
        other => other,
    }
}

fn wait_for_end(proc: &ProcFs, id: ProcessId) -> Result<()> {
    let Some(pidfd) = open_process(proc, id)? else { return Ok(()) };
    if sys::process::poll_readable(&[pidfd.as_fd()], Some(KILL_BOUND_MS))?[0].readable {
        return Ok(());
    }
    let wchan = proc.read(&format!("{}/wchan", id.pid)).unwrap_or_default();
    Err(Error::Unkillable { id: "(first process)".to_owned(), tasks: format!("{} (in {wchan})", id.pid) })
}

/// Runs the hooks that say good-bye. A failure is a warning; the others still run.
pub(super) fn run_poststop(context: &Context<'_>, spec: &ContainerSpec, bundle: &str, state: &hooks::State) {
    for (index, hook) in spec.hooks.poststop.iter().enumerate() {
        if let Err(error) = hooks::run(HookPoint::Poststop, index, hook, state, Some(bundle), None) {
            context.warn(&error.chain().join(": "));
        }
    }
}
