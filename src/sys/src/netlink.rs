//! Netlink sockets for routes, also inside another network namespace, and for netfilter, and the one interface ioctl of the start path.
//!
//! What the bytes of a message mean is not known here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{Context, Result};
use crate::raw::last_errno;

/// Bytes that one datagram of the kernel may have: the most that a dump puts into one (NETLINK_SKB limit 32 KiB, since
/// 4.9). A single answer is far smaller.
const DATAGRAM: usize = 32 * 1024;

/// A NETLINK_ROUTE socket in the network namespace of the calling thread.
///
/// Connected to the kernel, so that nobody else can put a message into its queue. The kernel checks requests strictly
/// (NETLINK_GET_STRICT_CHK, where it knows that: 4.20), explains refusals (NETLINK_EXT_ACK, 4.12) and does not repeat
/// the request in them (NETLINK_CAP_ACK).
///
/// # Errors
/// What the kernel says.
pub fn route_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
        .call(|| "socket(AF_NETLINK, NETLINK_ROUTE)".to_owned())?;
    net::connect(&fd, &SocketAddrNetlink::new(0, 0)).call(|| "connect(NETLINK_ROUTE, kernel)".to_owned())?;
    set_option(&fd, libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK")?;
    set_option(&fd, libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK")?;
    match set_option(&fd, libc::NETLINK_GET_STRICT_CHK, "NETLINK_GET_STRICT_CHK") {
        // KERNEL(4.20): an older kernel ignores the filters of a dump; whoever reads it filters again.
        Err(error) if error.is(Errno::NOPROTOOPT) => {}
        other => other?,
    }
    Ok(fd)
}

/// A NETLINK_NETFILTER socket in the network namespace of the calling thread, connected to the kernel.
///
/// # Errors
/// What the kernel says; EPROTONOSUPPORT where it has no such protocol.
pub fn netfilter_socket() -> Result<OwnedFd> {
    let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))
        .call(|| "socket(AF_NETLINK, NETLINK_NETFILTER)".to_owned())?;
    net::connect(&fd, &SocketAddrNetlink::new(0, 0)).call(|| "connect(NETLINK_NETFILTER, kernel)".to_owned())?;
    set_option(&fd, libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK")?;
    set_option(&fd, libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK")?;
    Ok(fd)
}

/// A NETLINK_ROUTE socket in the network namespace that `netns` refers to; the calling thread is back in its own when
/// this returns.
///
/// The way back is tried before the thread leaves: a process without CAP_SYS_ADMIN over its own network namespace (one
/// in a user namespace of its own, for instance) is refused while nothing has changed yet.
///
/// # Errors
/// What the kernel says: EPERM for want of CAP_SYS_ADMIN, EINVAL where `netns` is no network namespace.
///
/// # Panics
/// When the way back is refused although it was tried. A process in a foreign network namespace must not go on.
pub fn route_socket_in(netns: BorrowedFd<'_>) -> Result<OwnedFd> {
    let home = current_netns()?;
    enter(home.as_fd())?;
    enter(netns)?;
    let socket = route_socket();
    enter(home.as_fd()).expect("the kernel let this thread into its own network namespace a moment ago");
    socket
}

/// The network namespace of the calling thread.
///
/// # Errors
/// What the kernel says; ENOENT without `/proc`.
pub fn current_netns() -> Result<OwnedFd> {
    const PATH: &str = "/proc/thread-self/ns/net";
    fs::open(PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({PATH:?})"))
}

fn enter(netns: BorrowedFd<'_>) -> Result<()> {
    crate::namespace::join(netns, libc::CLONE_NEWNET as u64)
}

/// Sends one datagram to the peer that the socket is connected to.
///
/// # Errors
/// What the kernel says.
pub fn send(socket: BorrowedFd<'_>, datagram: &[u8]) -> Result<()> {
    loop {
        match net::send(socket, datagram, SendFlags::empty()) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).call(|| format!("send(netlink, {} bytes)", datagram.len())),
        }
    }
}

/// Waits for one datagram and replaces the contents of `datagram` by it.
///
/// # Errors
/// What the kernel says; EMSGSIZE for a datagram above 32 KiB, which is lost then.
pub fn receive(socket: BorrowedFd<'_>, datagram: &mut Vec<u8>) -> Result<()> {
    datagram.clear();
    datagram.reserve(DATAGRAM);
    loop {
        match net::recv(socket, rustix::buffer::spare_capacity(datagram), RecvFlags::TRUNC) {
            Ok((taken, whole)) if whole > taken => {
                return Err(Errno::MSGSIZE).call(|| format!("recv(netlink, {taken} of {whole} bytes)"));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "recv(netlink)".to_owned()),
        }
    }
}

/// `ioctl(SIOCSIFFLAGS)`: sets the flags of an interface to IFF_UP alone, which fits the loopback device of a new
/// network namespace and not much else.
///
/// # Errors
/// What the kernel says: ENODEV where there is none of that name, EINVAL for a name above 15 bytes.
pub fn set_interface_up(name: &str) -> Result<()> {
    let call = || format!("ioctl(SIOCSIFFLAGS, {name:?}, IFF_UP)");
    if name.len() >= libc::IFNAMSIZ {
        return Err(Errno::INVAL).call(call);
    }
    // Any family does; a unix socket is the cheapest to make and cannot be missing from the kernel.
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).call(call)?;
    // SAFETY: ifreq is plain data of the kernel's, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads one ifreq through the pointer, which outlives the call, and keeps nothing of it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(last_errno()).call(call) }
}

fn set_option(socket: &OwnedFd, option: libc::c_int, name: &str) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one c_int through the pointer, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()).call(|| format!("setsockopt({name})")) }
}
