//! `kill`: a signal to a container's first process, or to all of them.

use std::os::fd::AsFd;

use runtime_spec::state::Status;
use sys::{Errno, ProcFs};

use super::Context;
use crate::error::{Error, Result};
use crate::state::{ProcessId, Record, open_process};

/// Who gets the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The first process.
    Init,
    /// Every process.
    All,
}

/// Sends a signal. Never waits for a lock.
///
/// SIGKILL reaches every process of a container that has no pid namespace of its own (where the death of the first one
/// does not take the others with it), even when the first one has ended before; a frozen container is thawed to die.
///
/// # Errors
/// [`Error::NotRunning`] for a container that has ended, [`Error::NotFound`].
pub fn kill(context: &Context<'_>, id: &str, signal: i32, target: Target) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let ((record, _), status) = folder.judge(&context.proc)?;
    let group = cgroup::Group::open(&record.groups)?;
    if target == Target::All || (signal == sys::signal::SIGKILL && !record.own_pid_namespace) {
        if status == Status::Stopped && target == Target::Init && !has_orphans(&record, &group)? {
            return Err(Error::NotRunning);
        }
        if signal == sys::signal::SIGKILL && !group.is_empty() {
            return super::delete::kill_group(id, &group, &context.proc);
        }
        if !group.is_empty() {
            group.signal_all(signal, &context.proc)?;
            return Ok(());
        }
    }
    let init = record.init.filter(|_| status != Status::Stopped).ok_or(Error::NotRunning)?;
    signal_process(&context.proc, init, signal)?;
    if signal == sys::signal::SIGKILL && status == Status::Paused {
        group.thaw()?;
    }
    Ok(())
}

/// Whether processes of the container outlived its first one.
fn has_orphans(record: &Record, group: &cgroup::Group) -> Result<bool> {
    Ok(record.init.is_some() && !group.procs()?.is_empty())
}

/// A signal to a process that is still the one that was recorded.
pub(super) fn signal_process(proc: &ProcFs, id: ProcessId, signal: i32) -> Result<()> {
    let pidfd = open_process(proc, id)?.ok_or(Error::NotRunning)?;
    match sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(error) if error.is(Errno::SRCH) => Err(Error::NotRunning),
        other => Ok(other?),
    }
}
