//! Stream connections on which no call waits for ever.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SendFlags, SocketType};

use crate::error::{Context, Error, Result};
use crate::socket::{self, Address};

/// Connects, with a bound for the wait when the listener's queue is full (SO_SNDTIMEO).
///
/// # Errors
/// What the kernel says; EAGAIN after the bound.
pub fn connect(address: Address<'_>, bound: Duration) -> Result<OwnedFd> {
    let socket = socket::open(SocketType::STREAM)?;
    set_socket_timeout(&socket, Timeout::Send, Some(bound)).call(|| "setsockopt(SO_SNDTIMEO)".to_owned())?;
    socket::connect_to(&socket, address)?;
    Ok(socket)
}

/// Sends all bytes.
///
/// No call waits in the kernel: with SO_SNDTIMEO a peer that takes a little at a time would begin the bound anew with each
/// buffer (unix_stream_sendmsg in net/unix/af_unix.c).
///
/// # Errors
/// What the kernel says: EAGAIN when the other side has not taken all by the deadline, EPIPE when it is gone.
pub fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8], deadline: Instant) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if wait_for_room(socket, deadline)? => {}
            Err(errno) => return Err(Error::new(format!("send({} bytes)", bytes.len()), errno)),
        }
    }
    Ok(())
}

/// Waits until more can be sent, or the other side is gone. `false` when the deadline is over.
fn wait_for_room(socket: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Error::new("poll", Errno::INVAL))?;
        match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            other => return Ok(other.call(|| "poll".to_owned())? > 0),
        }
    }
}

/// Receives what is there, or waits for it; 0 bytes are the end of the stream.
///
/// # Errors
/// What the kernel says: EAGAIN when nothing comes within the bound.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], bound: Duration) -> Result<usize> {
    // Zero would mean to wait for ever.
    let bound = bound.max(Duration::from_millis(1));
    set_socket_timeout(socket, Timeout::Recv, Some(bound)).call(|| "setsockopt(SO_RCVTIMEO)".to_owned())?;
    loop {
        match rustix::io::read(socket, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other.call(|| "receive".to_owned()),
        }
    }
}
