//! sd_notify(3): what a container says of its readiness reaches whoever supervises the runtime.
//!
//! ```text
//! program ── /run/notify/notify.sock ── STATE/ID/notify/notify.sock ── the runtime ── NOTIFY_SOCKET of the caller
//! ```
//!
//! The folder is made and mounted by `create`; whoever starts the program listens there. A foreground `run` passes on what
//! comes for as long as the program lives. `start` and a detached `run` wait until the program says that it is ready, or
//! ends, and then name it as the one to watch. Only what tells of the service itself is passed on: a container must not
//! name other processes or hand over descriptors in the runtime's name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::fs::OFlags;

use crate::error::{Error, Result};
use crate::gate;
use crate::state::{Folder, NOTIFY_FOLDER};

/// The folder inside the container.
pub(crate) const INSIDE: &str = "/run/notify";

/// The socket in it.
const SOCKET: &str = "notify.sock";

/// The longest message: systemd's NOTIFY_BUFFER_MAX.
const LIMIT: usize = 4096;

/// How many messages may wait in the socket: net.unix.max_dgram_qlen as systemd sets it. Whoever outlives the program may
/// go on to send.
const QUEUE: usize = 512;

/// How long the supervisor may take to have seen what was sent, in milliseconds; runc waits as long.
const BARRIER_MS: u64 = 30_000;

/// What a program may say of itself (sd_notify(3)); the rest is about processes, descriptors and the socket.
const PASSED: [&str; 8] =
    ["READY", "STATUS", "STOPPING", "RELOADING", "MONOTONIC_USEC", "ERRNO", "WATCHDOG", "EXTEND_TIMEOUT_USEC"];

/// The name of the socket for the program.
pub(crate) fn variable() -> String {
    format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}")
}

/// Makes the folder that is mounted into the container.
pub(crate) fn make_folder(folder: &Folder) -> Result<()> {
    Ok(sys::fs::mkdir_at(folder.as_fd(), NOTIFY_FOLDER, 0o755)?)
}

/// The container's socket and where its messages go.
#[derive(Debug)]
pub(crate) struct Proxy<'a> {
    socket: OwnedFd,
    host: &'a str,
}

impl<'a> Proxy<'a> {
    /// Listens in the container's folder; `None` for a container that has none.
    pub(crate) fn listen(folder: &Folder, host: &'a str) -> Result<Option<Proxy<'a>>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match sys::fs::open_at(folder.as_fd(), NOTIFY_FOLDER, flags, 0) {
            Err(error) if error.is(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        // Whoever the program is inside, it may write there.
        Ok(Some(Proxy { socket: sys::socket::bind_datagram(dir.as_fd(), SOCKET, 0o777)?, host }))
    }

    /// The socket, to wait on.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Passes on the next message; with the word that the program is ready, names `main_pid` as the process to watch.
    /// Returns whether that word came.
    pub(crate) fn relay(&self, main_pid: i32) -> Result<bool> {
        let mut buffer = [0u8; LIMIT];
        // Descriptors that come along are let go by the kernel.
        let got = sys::fs::read_some(self.socket.as_fd(), &mut buffer)?;
        let (mut text, ready) = select(&String::from_utf8_lossy(&buffer[..got]));
        if ready {
            text.push_str(&format!("MAINPID={main_pid}\n"));
        }
        if !text.is_empty() {
            sys::socket::send_datagram(self.host, text.as_bytes(), &[])?;
        }
        Ok(ready)
    }

    /// Waits until the program says that it is ready, or ends; then until the supervisor has seen it, since that one looks
    /// up who sent a message, and this process is about to end. Returns whether it has.
    pub(crate) fn wait_until_ready(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<bool> {
        while gate::await_word(self.as_fd(), pidfd)? {
            if self.relay(pid)? {
                return self.barrier();
            }
        }
        Ok(true)
    }

    /// Passes on what is left once the program has ended.
    pub(crate) fn relay_rest(&self, main_pid: i32) -> Result<()> {
        for _ in 0..QUEUE {
            if !sys::process::poll_readable(&[self.as_fd()], Some(0))?[0].readable {
                break;
            }
            self.relay(main_pid)?;
        }
        Ok(())
    }

    /// sd_notify_barrier(3): the supervisor closes the descriptor when it has read everything before it.
    fn barrier(&self) -> Result<bool> {
        let (ours, theirs) = sys::socket::pair()?;
        sys::socket::send_datagram(self.host, b"BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let ended = sys::process::poll_readable(&[ours.as_fd()], Some(BARRIER_MS))?[0];
        Ok(ended.readable || ended.hung_up)
    }
}

/// The lines that are passed on, and whether the word that all is ready is among them.
fn select(message: &str) -> (String, bool) {
    let mut passed = String::new();
    for line in message.lines() {
        if line.split_once('=').is_some_and(|(key, _)| PASSED.contains(&key)) {
            passed.push_str(line);
            passed.push('\n');
        }
    }
    let ready = passed.lines().any(|line| line == "READY=1");
    (passed, ready)
}

/// Starts nothing and stops nothing: a supervisor that cannot be told is a warning, not the end of the container.
pub(crate) fn warning(error: &Error) -> String {
    format!("the notification of the container cannot be passed on: {}", error.chain().join(": "))
}

#[cfg(test)]
mod tests {
    use super::select;

    #[track_caller]
    fn check(message: &str, passed: &str, ready: bool) {
        assert_eq!(select(message), (passed.to_owned(), ready));
    }

    #[test]
    fn what_concerns_the_service_is_passed_on() {
        check("READY=1", "READY=1\n", true);
        check("STATUS=warming up\nREADY=1\n", "STATUS=warming up\nREADY=1\n", true);
        check("WATCHDOG=1", "WATCHDOG=1\n", false);
        check("READY=0", "READY=0\n", false);
    }

    #[test]
    fn what_concerns_others_is_not() {
        check("MAINPID=1\nREADY=1\nFDSTORE=1\nFDNAME=x", "READY=1\n", true);
        check("BARRIER=1", "", false);
        check("X_READY=1", "", false);
        check("READY", "", false);
        check("", "", false);
    }
}
