//! How the host side and the child side meet.
//!
//! A gate is one message up ([`Up::Reached`] or [`Up::Failed`]) and one byte down, over a SOCK_SEQPACKET pair. Descriptors
//! ride along: idmapped mounts on the way down, the notification descriptor of seccomp on the way up. On its way to the
//! second gate the child may hand over mounts whose ids only the host can map, again by one message up and one byte down.
//! The end of the connection is a message too: to the child it means that nobody waits for it any more, to the host that
//! the child has either executed its program or died.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};

/// The three meeting points of every container and every exec, and the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// All namespaces exist; the host maps ids, sets limits of the process and moves network devices.
    Namespaces,
    /// Mounts and devices are made; the host applies limits and runs its hooks.
    Rootfs,
    /// Everything but the exec is done; the host records `created`.
    Ready,
}

impl Gate {
    const fn number(self) -> u8 {
        match self {
            Gate::Namespaces => 1,
            Gate::Rootfs => 2,
            Gate::Ready => 3,
        }
    }

    /// What the child does on the way to this gate, for errors.
    #[must_use]
    pub const fn during(self) -> &'static str {
        match self {
            Gate::Namespaces => "entering its namespaces",
            Gate::Rootfs => "setting up its root file system",
            Gate::Ready => "preparing its process",
        }
    }
}

/// A message of the child side.
#[derive(Debug)]
pub(crate) enum Up {
    /// It stands at this gate.
    Reached(Gate, Vec<OwnedFd>),
    /// The launcher has made this process; its pidfd rides along.
    Spawned(i32, Vec<OwnedFd>),
    /// The launcher waits for id mappings.
    NeedsMaps,
    /// It waits for the ids of the mount that rides along to be mapped.
    Source(Vec<OwnedFd>),
    /// A step was performed (only when tracing).
    Trace(Told),
    /// It failed and has ended.
    Failed(Error),
    /// It closed the connection without a word: it executed, or died.
    Gone,
}

/// A step of the child side and when it was performed, on the clock of [`crate::clock::now`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

/// The largest message: an error text. Small enough for the program's own heap, which uses the buffer again.
const LIMIT: usize = 16 * 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Both ends: host, child.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = sys::socket::pair()?;
        Ok((Channel { socket: a }, Channel { socket: b }))
    }

    /// The descriptor, to wait on.
    #[must_use]
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Child side: says that a gate is reached and waits for the word to go on, with what came along.
    ///
    /// # Errors
    /// EPIPE or an end of file when the host side is gone.
    pub(crate) fn reach(&self, gate: Gate, fds: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>> {
        sys::socket::send(self.as_fd(), &[b'R', gate.number()], fds)?;
        self.wait_for_go()
    }

    /// Child side: says that it is ready. The word to go on is the start, which the child waits for elsewhere.
    ///
    /// A filter may be in force, so without descriptors it is a plain `write(2)`, which every program needs anyway.
    ///
    /// # Errors
    /// EPIPE when the host side is gone (or SIGPIPE, which ends the child as well).
    pub(crate) fn tell_ready(&self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let message = [b'R', Gate::Ready.number()];
        // A filter may be in force: without descriptors `write` is enough, as for everything else that is told now.
        match fds {
            [] => Ok(sys::fs::write_all(self.as_fd(), &message)?),
            _ => Ok(sys::socket::send(self.as_fd(), &message, fds)?),
        }
    }

    /// Child side: hands a detached mount over and waits until its ids are mapped. Both sides have the same mount then, so
    /// nothing comes back but the word.
    ///
    /// # Errors
    /// EPIPE when the host side is gone.
    pub(crate) fn hand_over_source(&self, mount: BorrowedFd<'_>) -> Result<()> {
        sys::socket::send(self.as_fd(), b"C", &[mount])?;
        self.wait_for_go().map(drop)
    }

    /// Child side: waits for the word to go on.
    ///
    /// # Errors
    /// EPIPE when the host side is gone.
    pub(crate) fn wait_for_go(&self) -> Result<Vec<OwnedFd>> {
        let message = sys::socket::receive(self.as_fd(), 1)?;
        if message.bytes.is_empty() {
            return Err(sys::Error::new("wait at the gate: the other side is gone", sys::Errno::PIPE).into());
        }
        Ok(message.fds)
    }

    /// Launcher: asks for id mappings and waits for them.
    ///
    /// # Errors
    /// EPIPE when the host side is gone.
    pub(crate) fn ask_for_maps(&self) -> Result<()> {
        sys::socket::send(self.as_fd(), b"M", &[])?;
        self.wait_for_go().map(drop)
    }

    /// Launcher: hands over the process that it made.
    ///
    /// # Errors
    /// EPIPE when the host side is gone.
    pub(crate) fn hand_over(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let mut bytes = vec![b'S'];
        bytes.extend(pid.to_le_bytes());
        Ok(sys::socket::send(self.as_fd(), &bytes, &[pidfd])?)
    }

    /// Child side: tells of a performed step.
    ///
    /// # Errors
    /// EPIPE when the host side is gone.
    pub(crate) fn trace(&self, step: &str, begin: Duration, end: Duration) -> Result<()> {
        let mut bytes = vec![b'T'];
        for time in [begin, end] {
            // Nanoseconds since 1970 fill 64 bits in the year 2554.
            bytes.extend(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        }
        bytes.extend_from_slice(step.as_bytes());
        bytes.truncate(LIMIT);
        Ok(sys::socket::send(self.as_fd(), &bytes, &[])?)
    }

    /// Host side: lets the child go on.
    ///
    /// # Errors
    /// EPIPE when the child is gone.
    pub(crate) fn go(&self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        Ok(sys::socket::send(self.as_fd(), b"G", fds)?)
    }

    /// Host side: the next message; waits for it.
    ///
    /// # Errors
    /// What the kernel says; EPROTO for bytes that are no message.
    pub(crate) fn receive(&self) -> Result<Up> {
        let message = match sys::socket::receive(self.as_fd(), LIMIT) {
            // A child that is killed with unread messages resets the connection.
            Err(error) if error.is(sys::Errno::CONNRESET) => return Ok(Up::Gone),
            other => other?,
        };
        decode(&message.bytes, message.fds)
            .ok_or_else(|| sys::Error::new("message at the gate: unknown kind", sys::Errno::PROTO).into())
    }
}

/// Host side: the next message, or [`Up::Gone`] when the process of the pidfd ends without one.
///
/// # Errors
/// As [`Channel::receive`].
pub(crate) fn next(channel: &Channel, pidfd: BorrowedFd<'_>) -> Result<Up> {
    if await_word(channel.as_fd(), pidfd)? { channel.receive() } else { Ok(Up::Gone) }
}

/// Waits until a socket can be read, or the process of the pidfd has ended. Returns whether there is something to read: what
/// a process said before it ended is heard.
///
/// # Errors
/// What the kernel says.
pub(crate) fn await_word(socket: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<bool> {
    let is_ready = |ready: sys::process::Ready| ready.readable || ready.hung_up;
    let ready = sys::process::poll_readable(&[socket, pidfd], None)?;
    // Both are looked at one after the other: it may have spoken and ended in between.
    Ok(is_ready(ready[0]) || is_ready(sys::process::poll_readable(&[socket], Some(0))?[0]))
}

/// The bytes of a failure, as [`decode_failure`] reads them. Also what the child writes when its exec fails.
#[must_use]
pub(crate) fn encode_failure(error: &Error) -> Vec<u8> {
    let mut bytes = vec![b'F'];
    bytes.extend_from_slice(error.chain().join("\0").as_bytes());
    bytes.truncate(LIMIT);
    bytes
}

/// Reads [`encode_failure`]'s bytes.
#[must_use]
pub(crate) fn decode_failure(bytes: &[u8]) -> Error {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"F").unwrap_or(bytes)).into_owned();
    Error::from_chain(text.split('\0').map(str::to_owned).collect::<Vec<_>>().into_iter())
}

fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> Option<Up> {
    Some(match bytes.split_first() {
        None => Up::Gone,
        Some((b'R', [1])) => Up::Reached(Gate::Namespaces, fds),
        Some((b'R', [2])) => Up::Reached(Gate::Rootfs, fds),
        Some((b'R', [3])) => Up::Reached(Gate::Ready, fds),
        Some((b'M', [])) => Up::NeedsMaps,
        Some((b'S', pid)) => Up::Spawned(i32::from_le_bytes(pid.try_into().ok()?), fds),
        Some((b'C', [])) => Up::Source(fds),
        Some((b'T', rest)) => {
            let (begin, rest) = rest.split_first_chunk()?;
            let (end, name) = rest.split_first_chunk()?;
            let time = |nanos: &[u8; 8]| Duration::from_nanos(u64::from_le_bytes(*nanos));
            Up::Trace(Told { name: String::from_utf8_lossy(name).into_owned(), begin: time(begin), end: time(end) })
        }
        Some((b'F', _)) => Up::Failed(decode_failure(bytes)),
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_no_message() {
        for bytes in [&b"R"[..], b"R\x04", b"R\x01\x01", b"S\x01", b"C\x01", b"T1234567", b"X", b"\0"] {
            assert!(decode(bytes, Vec::new()).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_failure_keeps_its_chain() {
        let error = Error::from(sys::Error::new("chdir(\"/x\")", sys::Errno::NOENT)).in_step("change folder");
        let bytes = encode_failure(&error);
        match decode(&bytes, Vec::new()) {
            Some(Up::Failed(back)) => assert_eq!(back.chain(), error.chain()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_word_of_a_process_that_has_ended_is_heard() {
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        let pidfd = sys::process::pidfd_open(i32::try_from(ended.id()).unwrap()).unwrap();
        ended.wait().unwrap();
        let (host, child) = Channel::pair().unwrap();
        child.tell_ready(&[]).unwrap();
        assert!(matches!(next(&host, pidfd.as_fd()).unwrap(), Up::Reached(Gate::Ready, _)));
        assert!(matches!(next(&host, pidfd.as_fd()).unwrap(), Up::Gone));
    }

    #[test]
    fn both_sides_pass_a_gate() {
        let (host, child) = Channel::pair().unwrap();
        host.go(&[]).unwrap();
        assert!(child.reach(Gate::Rootfs, &[]).unwrap().is_empty());
        assert!(matches!(host.receive().unwrap(), Up::Reached(Gate::Rootfs, fds) if fds.is_empty()));
        drop(child);
        assert!(matches!(host.receive().unwrap(), Up::Gone));
    }

    #[test]
    fn what_a_process_said_before_its_end_is_heard() {
        let (host, child) = Channel::pair().unwrap();
        let mut process = std::process::Command::new("true").spawn().unwrap();
        let pidfd = sys::process::pidfd_open(i32::try_from(process.id()).unwrap()).unwrap();
        assert!(matches!(next(&host, pidfd.as_fd()).unwrap(), Up::Gone));
        let (begin, end) = (Duration::new(1_787_142_896, 5), Duration::new(1_787_142_897, 6));
        child.trace("last words", begin, end).unwrap();
        let told = Told { name: "last words".to_owned(), begin, end };
        assert!(matches!(next(&host, pidfd.as_fd()).unwrap(), Up::Trace(step) if step == told));
        process.wait().unwrap();
    }
}
