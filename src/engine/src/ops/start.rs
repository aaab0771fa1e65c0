//! `start`: the word that a created container waits for.

use std::os::fd::{AsFd, BorrowedFd};

use runtime_spec::ContainerSpec;
use runtime_spec::state::Status;
use sys::Errno;
use sys::fs::OFlags;

use super::delete::{Force, Report, delete};
use super::{Context, hook_state, spec_of};
use crate::error::{Error, Result};
use crate::gate::decode_failure;
use crate::hooks;
use crate::notify::{self, Proxy};
use crate::state::{Folder, RESULT_FIFO, Record, START_FIFO, open_process};
use crate::step::HookPoint;

/// Starts the program of a created container and waits until it runs; with `supervisor`, the socket of the caller's supervisor,
/// and a container that was created with one, until the program says that it is ready (sd_notify(3)).
///
/// # Errors
/// The exec's own failure; [`Error::StartRunning`], [`Error::StartStopped`]; a failed hook (`startContainer` or
/// `poststart`). A failed `poststart` hook also stops and deletes the container.
pub fn start(context: &Context<'_>, id: &str, supervisor: Option<&str>) -> Result<()> {
    let mark = context.mark();
    let (_, folder) = context.find(id)?;
    let lock = folder.lock()?;
    let (record, config) = folder.read()?;
    match folder.status(&record, &context.proc)? {
        Status::Created => {}
        Status::Running | Status::Paused => return Err(Error::StartRunning),
        Status::Stopped => return Err(Error::StartStopped),
        Status::Creating => return Err(Error::StartCreating),
    }
    let spec = spec_of(id, &config)?;
    if spec.process.is_none() {
        return Err(Error::NoProcess);
    }
    let proxy = supervisor.map(|socket| Proxy::listen(&folder, socket)).transpose()?.flatten();
    // Opened before it starts: it may end, and its number be used again, before it is waited for.
    let waited_for = match (proxy, record.init) {
        (Some(proxy), Some(init)) => open_process(&context.proc, init)?.map(|pidfd| (proxy, init.pid, pidfd)),
        _ => None,
    };
    context.spent("read_record", mark);
    let mark = context.mark();
    release(&folder)?;
    context.spent("start_program", mark);
    for name in [START_FIFO, RESULT_FIFO] {
        sys::fs::unlink_at(folder.as_fd(), name)?;
    }
    drop(lock);
    run_poststart(context, &spec, &record).or_else(|error| {
        // The life of the container goes on with its end, as if it had been deleted (runtime.md, lifecycle, step 9).
        delete(context, id, Force::Yes, Report::No)?;
        Err(error)
    })?;
    if let Some((proxy, pid, pidfd)) = waited_for {
        await_readiness(context, &proxy, pid, pidfd.as_fd());
    }
    Ok(())
}

/// Lasts until the program is ready or has ended. A supervisor that cannot be told is a warning.
pub(super) fn await_readiness(context: &Context<'_>, notify: &Proxy<'_>, pid: i32, pidfd: BorrowedFd<'_>) {
    match notify.wait_until_ready(pid, pidfd) {
        Ok(true) => {}
        Ok(false) => context.warn("the supervisor behind NOTIFY_SOCKET has not answered for 30 s"),
        Err(error) => context.warn(&notify::warning(&error)),
    }
}

/// Sends the byte and reads the outcome: bytes are a failure, the end of the file is the exec.
fn release(folder: &Folder) -> Result<()> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let result = sys::fs::open_at(folder.as_fd(), RESULT_FIFO, OFlags::RDONLY | flags, 0)?;
    let start = match sys::fs::open_at(folder.as_fd(), START_FIFO, OFlags::WRONLY | flags, 0) {
        Err(error) if error.is(Errno::NXIO) => return Err(Error::StartStopped),
        other => other?,
    };
    sys::fs::write_all(start.as_fd(), b"1")?;
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        sys::process::poll_readable(&[result.as_fd()], None)?;
        match sys::fs::read_some(result.as_fd(), &mut buffer) {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(decode_failure(&bytes)),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.is(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the hooks that follow the start. One that fails stops the container.
pub(super) fn run_poststart(context: &Context<'_>, spec: &ContainerSpec, record: &Record) -> Result<()> {
    let state = hook_state(record);
    for (index, hook) in spec.hooks.poststart.iter().enumerate() {
        if let Err(error) = hooks::run(HookPoint::Poststart, index, hook, &state, Some(&record.bundle), None) {
            if let Some(init) = record.init {
                match super::kill::signal_process(&context.proc, init, sys::signal::SIGKILL) {
                    Ok(()) | Err(Error::NotRunning) => {}
                    Err(also) => context.warn(&also.chain().join(": ")),
                }
            }
            return Err(error);
        }
    }
    Ok(())
}
