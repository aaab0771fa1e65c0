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

/// Where a socket of the machine listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<'a> {
    /// A file. Paths beyond the 107 bytes of `sun_path` go through `/proc/self/fd`.
    Path(&'a str),
    /// A name of the network namespace, without its leading NUL.
    Abstract(&'a str),
}

/// A stream connection to a socket of the file system.
///
/// # Errors
/// What the kernel says.
pub fn connect(path: &str) -> Result<OwnedFd> {
    let socket = open(SocketType::STREAM)?;
    connect_to(&socket, Address::Path(path))?;
    Ok(socket)
}

/// `socket(2)` of the unix family.
pub(crate) fn open(kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_UNIX)".to_owned())
}

/// `connect(2)`.
pub(crate) fn connect_to(socket: &OwnedFd, address: Address<'_>) -> Result<()> {
    let call = || match address {
        Address::Path(path) => format!("connect({path:?})"),
        Address::Abstract(name) => format!("connect(\"@{name}\")"),
    };
    let node;
    let target = match address {
        Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        Address::Path(path) if path.len() < 108 => SocketAddrUnix::new(path),
        Address::Path(path) => {
            node = crate::fs::open(path, crate::fs::OFlags::PATH)?;
            SocketAddrUnix::new(format!("/proc/self/fd/{}", node.as_raw_fd()))
        }
    };
    rustix::net::connect(socket, &target.call(call)?).call(call)
}

/// A datagram socket that is bound to a name in a folder, with the mode given. The path goes through `/proc/self/fd`, so
/// its length does not matter.
///
/// # Errors
/// What the kernel says; EADDRINUSE for a name that is there.
pub fn bind_datagram(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd> {
    let socket = open(SocketType::DGRAM)?;
    bind(&socket, dir, name, mode)?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<()> {
    let call = || format!("bind({name:?})");
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).call(call)?;
    rustix::net::bind(socket, &address).call(call)?;
    let mode_bits = rustix::fs::Mode::from_raw_mode(mode);
    rustix::fs::chmodat(dir, name, mode_bits, rustix::fs::AtFlags::empty())
        .call(|| format!("fchmodat({name:?}, {mode:#o})"))
}

/// What a listener's connections carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Bytes (SOCK_STREAM).
    Bytes,
    /// Messages with their borders (SOCK_SEQPACKET).
    Messages,
}

impl Carries {
    fn kind(self) -> SocketType {
        match self {
            Carries::Bytes => SocketType::STREAM,
            Carries::Messages => SocketType::SEQPACKET,
        }
    }
}

/// A listener at a name in a folder, with the mode given. Its length does not matter, as with [`bind_datagram`].
///
/// # Errors
/// What the kernel says; EADDRINUSE for a name that is there.
pub fn listen(dir: BorrowedFd<'_>, name: &str, mode: u32, carries: Carries) -> Result<OwnedFd> {
    let socket = open(carries.kind())?;
    bind(&socket, dir, name, mode)?;
    rustix::net::listen(&socket, BACKLOG).call(|| format!("listen({name:?})"))?;
    Ok(socket)
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Takes the next connection of a listener, whose calls do not wait if `nonblocking`.
///
/// # Errors
/// What the kernel says.
pub fn accept(listener: BorrowedFd<'_>, nonblocking: bool) -> Result<OwnedFd> {
    let more = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | more) {
            Err(Errno::INTR) => {}
            other => return other.call(|| "accept4".to_owned()),
        }
    }
}

/// A connection that keeps message borders, to a listener of the file system.
///
/// # Errors
/// What the kernel says; ECONNREFUSED when nobody listens there any more.
pub fn connect_messages(path: &str) -> Result<OwnedFd> {
    let socket = open(SocketType::SEQPACKET)?;
    connect_to(&socket, Address::Path(path))?;
    Ok(socket)
}

/// Sends one datagram to a socket: an absolute path, or an abstract name after `@`.
///
/// # Errors
/// What the kernel says; ECONNREFUSED when nobody listens there.
pub fn send_datagram(to: &str, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let socket = open(SocketType::DGRAM)?;
    connect_to(&socket, to.strip_prefix('@').map_or(Address::Path(to), Address::Abstract))?;
    send(socket.as_fd(), bytes, fds)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_keeps_the_borders_of_messages() {
        let dir = std::env::temp_dir().join(format!("sys-listen-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let folder = crate::fs::open_dir(dir.to_str().unwrap()).unwrap();
        let listener = listen(folder.as_fd(), "s", 0o600, Carries::Messages).unwrap();
        let client = connect_messages(dir.join("s").to_str().unwrap()).unwrap();
        let server = accept(listener.as_fd(), true).unwrap();
        assert!(receive(server.as_fd(), 9).unwrap_err().is(Errno::AGAIN));
        send(client.as_fd(), b"one", &[]).unwrap();
        send(client.as_fd(), b"two", &[]).unwrap();
        assert_eq!(receive(server.as_fd(), 9).unwrap().bytes, b"one");
        assert_eq!(receive(server.as_fd(), 9).unwrap().bytes, b"two");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_datagram_reaches_a_path_that_no_address_has_room_for() {
        let dir = std::env::temp_dir().join(format!("sys-socket-{}", std::process::id())).join("x".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        let folder = crate::fs::open_dir(dir.to_str().unwrap()).unwrap();
        let listener = bind_datagram(folder.as_fd(), "notify", 0o600).unwrap();
        send_datagram(&format!("{}/notify", dir.display()), b"READY=1", &[]).unwrap();
        assert_eq!(receive(listener.as_fd(), 100).unwrap().bytes, b"READY=1");
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
}
