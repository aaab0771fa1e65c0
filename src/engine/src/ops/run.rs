//! `run`: create and start in one process, which then may stay in the foreground.

use std::os::fd::AsFd;

use sys::process::Exit;

use super::create::with_created;
use super::foreground::{Session, follow};
use super::start::{await_readiness, run_poststart};
use super::{Context, delete};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::notify::Proxy;
use crate::options::CreateOptions;
use crate::state::Folder;

/// What happens after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// The caller gets control back at once.
    Detached,
    /// The call lasts as long as the program; then the container is deleted.
    Foreground,
    /// As [`Stay::Foreground`], but the container is kept.
    ForegroundAndKeep,
}

/// Runs a container. Returns how it ended, or `None` when detached.
///
/// # Errors
/// As [`create`](super::create::create()) and [`start`](super::start::start()).
pub fn run(context: &Context<'_>, bundle: &Bundle, options: &CreateOptions, stay: Stay) -> Result<Option<Exit>> {
    check_terminal(bundle, options, stay)?;
    let (exit, store, folder) = with_created(context, bundle, options, |host| {
        let session = if stay == Stay::Detached { None } else { Some(Session::begin(host.console.take())?) };
        let notify = match (&options.notify, &host.recorder) {
            (Some(notify), Some(recorder)) => Proxy::listen(recorder.folder, &notify.socket)?,
            _ => None,
        };
        let mark = context.mark();
        release(host)?;
        context.spent("start_program", mark);
        if let Some(recorder) = &mut host.recorder {
            recorder.lock = None;
            run_poststart(context, &bundle.spec, &recorder.record)?;
        }
        let spawned = host.spawned()?;
        match session {
            None => {
                if let Some(notify) = notify {
                    await_readiness(context, &notify, spawned.id.pid, spawned.pidfd.as_fd());
                }
                Ok(None)
            }
            Some(session) => {
                let mark = context.mark();
                let exit = follow(context, session, spawned.id.pid, &spawned.pidfd, notify.as_ref())?;
                context.spent("program_runs", mark);
                Ok(Some(exit))
            }
        }
    })?;
    if exit == Some(Exit::Signal(sys::signal::SIGKILL)) {
        tell_out_of_memory(context, &folder)?;
    }
    if stay == Stay::Foreground {
        let mark = context.mark();
        delete::delete_own(context, &store, &folder, &bundle.spec)?;
        context.spent("delete", mark);
    }
    Ok(exit)
}

/// A program that ends by SIGKILL leaves nobody who could say why.
fn tell_out_of_memory(context: &Context<'_>, folder: &Folder) -> Result<()> {
    let record = match folder.read_record() {
        Err(Error::NotFound) => return Ok(()),
        other => other?,
    };
    if let Some(kills) = crate::state::oom_kills(&record)? {
        context.warn(&format!("the kernel killed {kills} process(es) of the container for want of memory"));
    }
    Ok(())
}

/// Refuses a container without a process, and a terminal that has nowhere to go.
pub(super) fn check_terminal(bundle: &Bundle, options: &CreateOptions, stay: Stay) -> Result<()> {
    let terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
    if bundle.spec.process.is_none() {
        return Err(Error::NoProcess);
    }
    if stay == Stay::Detached && terminal && options.console_socket.is_none() {
        return Err(Error::Usage(
            "cannot allocate tty if runc will detach without setting console socket (the terminal has nowhere to go: give --console-socket)".to_owned(),
        ));
    }
    if stay != Stay::Detached && options.console_socket.is_some() {
        return Err(Error::Usage("cannot use console socket if runc will not detach or allocate tty".to_owned()));
    }
    Ok(())
}

/// Lets the program begin and waits until it does: the end of the connection is the exec.
pub(super) fn release(host: &mut Host<'_>) -> Result<()> {
    let spawned = host.spawned()?;
    match spawned.channel.go(&[]) {
        Err(error) if error.errno() == Some(sys::Errno::PIPE) => return Err(host.died("waiting for its start")),
        other => other?,
    }
    host.await_exec()
}
