//! A command that lasts as long as a container's process: signals go to the process, a terminal is joined with the
//! caller's, and everything waits on descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::process::Exit;
use sys::terminal::Settings;

use super::Context;
use crate::error::Result;
use crate::notify::{self, Proxy};

/// What is set up before the program begins, so that no signal is lost.
#[derive(Debug)]
pub struct Session {
    signals: OwnedFd,
    terminal: Option<Terminal>,
}

/// The caller's terminal (or what stands in for it) and the container's.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    before: Option<Settings>,
}

/// How much is relayed in one go.
const CHUNK: usize = 32 * 1024;

impl Session {
    /// Takes all signals. `console` is the socket that the master of the container's terminal comes through.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(console: Option<OwnedFd>) -> Result<Session> {
        let signals = sys::signal::take_all()?;
        let terminal = match console {
            None => None,
            Some(socket) => {
                let message = sys::socket::receive(socket.as_fd(), 4096)?;
                let master = message
                    .fds
                    .into_iter()
                    .next()
                    .ok_or_else(|| sys::Error::new("no terminal came from the container", Errno::PROTO))?;
                sys::terminal::clear_onlcr(master.as_fd())?;
                let stdin = std::io::stdin();
                let before = match sys::terminal::is_terminal(stdin.as_fd()) {
                    true => Some(sys::terminal::make_raw(stdin.as_fd())?),
                    false => None,
                };
                let terminal = Terminal { master, before };
                terminal.resize();
                Some(terminal)
            }
        };
        Ok(Session { signals, terminal })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The caller's terminal may be gone by now; there is nothing to put back then.
            drop(sys::terminal::restore(std::io::stdin().as_fd(), before));
        }
    }
}

impl Terminal {
    /// Gives the container's terminal the size of the caller's, where that one has a size.
    fn resize(&self) {
        if let Ok((rows, columns)) = sys::terminal::size(std::io::stdin().as_fd()) {
            // Its process may have ended; a size is of no use then.
            drop(sys::terminal::set_size(self.master.as_fd(), rows, columns));
        }
    }
}

/// Lasts until a process ends, and returns how. What the process says of its readiness is passed on; the one to watch is
/// the runtime then, which ends as the process does.
///
/// # Errors
/// What the kernel says.
pub(crate) fn follow(
    context: &Context<'_>,
    session: Session,
    pid: i32,
    pidfd: &OwnedFd,
    notify: Option<&Proxy<'_>>,
) -> Result<Exit> {
    let stdin = std::io::stdin();
    let mut stdin_open = session.terminal.is_some();
    let mut master_open = session.terminal.is_some();
    let mut ended = None;
    loop {
        let mut fds: Vec<BorrowedFd<'_>> = vec![pidfd.as_fd(), session.signals.as_fd()];
        let master = session.terminal.as_ref().map(|t| t.master.as_fd()).filter(|_| master_open);
        fds.extend(master);
        fds.extend(Some(stdin.as_fd()).filter(|_| stdin_open && master_open));
        let relayed = fds.len();
        fds.extend(notify.map(Proxy::as_fd));
        let ready = sys::process::poll_readable(&fds, None)?;
        if let Some(notify) = notify.filter(|_| ready[relayed].readable)
            && let Err(error) = notify.relay(sys::process::own_pid())
        {
            context.warn(&notify::warning(&error));
        }
        if ready[1].readable {
            match sys::signal::next(session.signals.as_fd())? {
                sys::signal::SIGCHLD => ended = reap(pid)?.or(ended),
                signal => forward(&session, pidfd, signal)?,
            }
        }
        if let Some(master) = master {
            if ready.get(2).is_some_and(|r| r.readable || r.hung_up) {
                master_open = relay(master, std::io::stdout().as_fd())?;
            }
            if stdin_open && ready.get(3).is_some_and(|r| r.readable || r.hung_up) {
                stdin_open = relay(stdin.as_fd(), master)?;
            }
        }
        if ready[0].readable {
            if let Some(master) = session.terminal.as_ref().map(|t| t.master.as_fd()).filter(|_| master_open) {
                drain(master)?;
            }
            if let Some(Err(error)) = notify.map(|notify| notify.relay_rest(sys::process::own_pid())) {
                context.warn(&notify::warning(&error));
            }
            return ended.map_or_else(|| Ok(sys::process::wait(pid)?), Ok);
        }
    }
}

/// Reaps whatever has ended: orphans of the container come here when it has no first process of its own that takes them.
/// Returns how the process itself ended, if it did.
fn reap(pid: i32) -> Result<Option<Exit>> {
    let mut ended = None;
    while let Some((child, exit)) = sys::process::reap_any()? {
        if child == pid {
            ended = Some(exit);
        }
    }
    Ok(ended)
}

/// What the process wrote before it ended.
fn drain(master: BorrowedFd<'_>) -> Result<()> {
    while sys::process::poll_readable(&[master], Some(0))?[0].readable {
        if !relay(master, std::io::stdout().as_fd())? {
            break;
        }
    }
    Ok(())
}

/// Passes on what there is. False at the end of the file, which a master tells by EIO.
fn relay(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool> {
    let mut buffer = vec![0u8; CHUNK];
    match sys::fs::read_some(from, &mut buffer) {
        Ok(0) => Ok(false),
        Err(error) if error.is(Errno::IO) => Ok(false),
        Ok(n) => match sys::fs::write_all(to, &buffer[..n]) {
            // Nobody reads any more; the process goes on, as it would with a closed terminal.
            Err(error) if error.is(Errno::PIPE) => Ok(false),
            other => Ok(other.map(|()| true)?),
        },
        Err(error) => Err(error.into()),
    }
}

/// A signal of the runtime's is the process's, but for those that concern the runtime alone.
fn forward(session: &Session, pidfd: &OwnedFd, signal: i32) -> Result<()> {
    match signal {
        sys::signal::SIGPIPE => Ok(()),
        sys::signal::SIGWINCH => {
            if let Some(terminal) = &session.terminal {
                terminal.resize();
            }
            Ok(())
        }
        signal => match sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
            // It has ended; the next look at its descriptor says so.
            Err(error) if error.is(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        },
    }
}
