//! Stream connections on which no call waits for ever.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

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
/// # Errors
/// What the kernel says: EAGAIN when the other side takes nothing within the bound, EPIPE when it is gone.
pub fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8], bound: Duration) -> Result<()> {
    set_bound(socket, Timeout::Send, bound)?;
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format!("send({} bytes)", bytes.len()), errno)),
        }
    }
    Ok(())
}

/// Receives what is there, or waits for it; 0 bytes are the end of the stream.
///
/// # Errors
/// What the kernel says: EAGAIN when nothing comes within the bound.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], bound: Duration) -> Result<usize> {
    set_bound(socket, Timeout::Recv, bound)?;
    loop {
        match rustix::io::read(socket, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other.call(|| "receive".to_owned()),
        }
    }
}

/// Zero would mean to wait for ever.
fn set_bound(socket: BorrowedFd<'_>, which: Timeout, bound: Duration) -> Result<()> {
    let bound = bound.max(Duration::from_millis(1));
    set_socket_timeout(socket, which, Some(bound)).call(|| "setsockopt(SO_RCVTIMEO or SO_SNDTIMEO)".to_owned())
}
