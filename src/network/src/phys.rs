//! A device of the host that a container has while it runs.
//!
//! ```text
//! read_phys    looks; its answer goes into the record           pin_netns    mounts the container's namespace on a file
//! create       the device goes in                               undo         comes out, unmounts, deletes the file
//! ```
//! A network namespace that ends destroys virtual devices and gives physical ones to the machine's first namespace under
//! another name. It ends with the container's last process, which nobody waits for; so a file holds it until the device
//! is out. Unlike netDevices of the runtime specification, where the container keeps what it got.

use std::os::fd::{AsFd, BorrowedFd};

use sys::fs::OFlags;
use sys::mount::{Depth, UnmountFlags};

use crate::address::LinkAddress;
use crate::attach;
use crate::device::{self, DeviceMove};
use crate::error::Error;
use crate::route::Onlink;
use crate::socket::Socket;
use crate::spec::{LinkKind, LinkRecord, LinkSpec};

/// CLONE_NEWNET, which is also what the kernel calls the kind of a network namespace's file.
const NETWORK: u64 = 0x4000_0000;

/// Looks at the device of the host that a link is to be, and completes its record; `pin` is the path of a file that will
/// be made. Other kinds of links have complete records: None. Changes nothing.
///
/// # Errors
/// As [`crate::read_device_move`].
pub fn read_phys(spec: &LinkSpec, pin: &str, container: BorrowedFd<'_>) -> Result<Option<LinkRecord>, Error> {
    let LinkKind::Phys { device } = &spec.link else { return Ok(None) };
    let device = device::read_device_move(device, Some(&spec.name), container)?;
    Ok(Some(LinkRecord::Phys { pin: pin.to_owned(), device: Some(device) }))
}

/// Mounts a network namespace on a file that is made for it, so that it outlives its processes.
///
/// # Errors
/// What the kernel says.
pub fn pin_netns(pin: &str, container: BorrowedFd<'_>) -> Result<(), Error> {
    use std::os::fd::AsRawFd;
    let file = sys::fs::open_at(sys::fs::CWD, pin, OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, 0o600)?;
    let mount = sys::mount::clone_path(&format!("/proc/thread-self/fd/{}", container.as_raw_fd()), Depth::One, false)?;
    Ok(sys::mount::attach(mount.as_fd(), file.as_fd())?)
}

/// Whether a network namespace is mounted on a file.
///
/// # Errors
/// What the kernel says.
pub fn is_pinned(pin: &str) -> Result<bool, Error> {
    match sys::fs::open(pin, OFlags::RDONLY) {
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        other => Ok(matches!(sys::namespace::kind(other?.as_fd()), Ok(NETWORK))),
    }
}

/// Lets go of a network namespace that is mounted on a file, and deletes the file. False where there is no file.
///
/// # Errors
/// What the kernel says.
pub fn unpin_netns(pin: &str) -> Result<bool, Error> {
    if is_pinned(pin)? {
        sys::mount::unmount(pin, UnmountFlags::DETACH)?;
    }
    match sys::fs::unlink_at(sys::fs::CWD, pin) {
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

pub(crate) fn create(spec: &LinkSpec, device: &DeviceMove, container: BorrowedFd<'_>) -> Result<(), Error> {
    let mut inside = device.clone();
    if !spec.addresses.is_empty() {
        inside.addresses = spec.addresses.iter().map(|prefix| LinkAddress::new(*prefix)).collect();
    }
    device::apply_device_move(&inside, container)?;
    let routes = LinkSpec { addresses: Vec::new(), ..spec.clone() };
    attach::configure_inside(&mut Socket::open_in(container)?, &routes, Onlink::No)
}

/// Brings the device out and lets go of the namespace. False where there was nothing to do.
pub(crate) fn undo(device: &DeviceMove, pin: &str) -> Result<bool, Error> {
    let file = match sys::fs::open(pin, OFlags::RDONLY) {
        Err(error) if error.is(sys::Errno::NOENT) => return device::undo_ended_move(device),
        other => other?,
    };
    // The mount may never have been made: then the device has not left, or its namespace has ended.
    if matches!(sys::namespace::kind(file.as_fd()), Ok(NETWORK)) {
        device::undo_device_move(device, file.as_fd())?;
    } else {
        device::undo_ended_move(device)?;
    }
    drop(file);
    unpin_netns(pin).map(|_| true)
}
