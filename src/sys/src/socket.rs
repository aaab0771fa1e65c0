//! Unix sockets that carry descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::{Context, Error, Result};

/// How many descriptors one message may carry: the kernel's SCM_MAX_FD.
pub const MAX_FDS: usize = 253;

/// A pair of connected sockets that keep message borders (SOCK_SEQPACKET).
///
/// # Errors
/// What the kernel says.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socketpair(SOCK_SEQPACKET)".to_owned())
}

/// A stream connection to a socket of the file system. Paths beyond the 107 bytes of `sun_path` go through
/// `/proc/self/fd`.
///
/// # Errors
/// What the kernel says.
pub fn connect(path: &str) -> Result<OwnedFd> {
    let call = || format!("connect({path:?})");
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX)".to_owned())?;
    if path.len() < 108 {
        let address = SocketAddrUnix::new(path).call(call)?;
        rustix::net::connect(&socket, &address).call(call)?;
    } else {
        let node = crate::fs::open(path, crate::fs::OFlags::PATH)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", node.as_raw_fd())).call(call)?;
        rustix::net::connect(&socket, &address).call(call)?;
    }
    Ok(socket)
}

/// A datagram socket that is bound to a name in a folder, with the mode given. The path goes through `/proc/self/fd`, so
/// its length does not matter.
///
/// # Errors
/// What the kernel says; EADDRINUSE for a name that is there.
pub fn bind_datagram(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd> {
    let call = || format!("bind({name:?})");
    let socket = datagram()?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).call(call)?;
    rustix::net::bind(&socket, &address).call(call)?;
    let mode_bits = rustix::fs::Mode::from_raw_mode(mode);
    rustix::fs::chmodat(dir, name, mode_bits, rustix::fs::AtFlags::empty())
        .call(|| format!("fchmodat({name:?}, {mode:#o})"))?;
    Ok(socket)
}

/// Sends one datagram to a socket: an absolute path, or an abstract name after `@`.
///
/// # Errors
/// What the kernel says; ECONNREFUSED when nobody listens there.
pub fn send_datagram(to: &str, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let call = || format!("connect({to:?})");
    let address = match to.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(to),
    };
    let socket = datagram()?;
    rustix::net::connect(&socket, &address.call(call)?).call(call)?;
    send(socket.as_fd(), bytes, fds)
}

fn datagram() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_DGRAM)".to_owned())
}

/// `sendmsg(2)` of bytes and descriptors.
///
/// # Errors
/// What the kernel says; EPIPE when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    // On the stack: a process under a filter cannot be sure of getting memory.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::new(format!("sendmsg with {} descriptors", fds.len()), Errno::INVAL));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).call(|| format!("sendmsg({} bytes, {} fds)", bytes.len(), fds.len())),
        }
    }
}

/// A received message.
#[derive(Debug, Default)]
pub struct Message {
    /// Its bytes; none means that the other side is gone.
    pub bytes: Vec<u8>,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// `recvmsg(2)` of one message of at most `limit` bytes; the rest of a longer one is lost.
///
/// # Errors
/// What the kernel says.
pub fn receive(socket: BorrowedFd<'_>, limit: usize) -> Result<Message> {
    let mut bytes = vec![0u8; limit];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other.call(|| "recvmsg".to_owned())?,
        }
    };
    bytes.truncate(got.bytes);
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Message { bytes, fds })
}
