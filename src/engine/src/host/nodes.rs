//! Device nodes for a container in a user namespace, which can make none itself.
//!
//! A node that the definition wants as it says (its mode, its owner) is made on a file system that nobody else sees, in
//! the mount namespace of a process that lives no longer than that; a copy of the node's mount outlives both. Nothing has
//! a name on the host, so there is nothing to undo. The kernel copies a mount only in the mount namespace that it is
//! attached in, hence that process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{Device, NamespaceKind};
use sys::Errno;
use sys::fs::{self, OFlags};
use sys::mount::{AttrChange, Depth, FsContext, Propagation};
use sys::process::Cloned;

use crate::error::Result;
use crate::gate::{decode_failure, encode_failure};
use crate::source;
use crate::step::Slot;

/// Makes nodes and returns a copy of each, in order.
///
/// # Errors
/// What the kernel says, with the node.
pub(super) fn make(nodes: &[(Device, Slot)], label: Option<&str>) -> Result<Vec<OwnedFd>> {
    let (ours, theirs) = sys::socket::pair()?;
    match sys::process::clone3(NamespaceKind::Mount.clone_flag(), None)? {
        Cloned::Child => {
            drop(ours);
            let told = match make_and_send(nodes, label, theirs.as_fd()) {
                Ok(()) => Ok(()),
                Err(error) => sys::socket::send(theirs.as_fd(), &encode_failure(&error), &[]),
            };
            sys::process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Parent { pid, .. } => {
            drop(theirs);
            let made = nodes.iter().map(|(device, _)| receive(ours.as_fd(), device)).collect();
            // Whatever came of it, a maker that still sends gets an error and ends.
            drop(ours);
            sys::process::wait(pid)?;
            made
        }
    }
}

/// The largest message of the maker: an error text.
const LIMIT: usize = 4096;

fn receive(socket: BorrowedFd<'_>, device: &Device) -> Result<OwnedFd> {
    let message = sys::socket::receive(socket, LIMIT)?;
    match (message.bytes.first(), message.fds.into_iter().next()) {
        (Some(b'F'), _) => Err(decode_failure(&message.bytes)),
        (Some(_), Some(node)) => Ok(node),
        _ => Err(sys::Error::new(format!("make node {}: its maker ended", device.path), Errno::PROTO).into()),
    }
}

fn make_and_send(nodes: &[(Device, Slot)], label: Option<&str>, socket: BorrowedFd<'_>) -> Result<()> {
    sys::process::set_umask(0);
    let change = AttrChange { propagation: Some(Propagation::Private), ..AttrChange::default() };
    sys::mount::set_attr(sys::mount::open_mount("/")?.as_fd(), change, Depth::Tree)?;
    let context = FsContext::open("tmpfs")?;
    context.set_string("source", "devices")?;
    if let Some((key, value)) = label.and_then(|label| label.split_once('=')) {
        context.set_string(key, value.trim_matches('"'))?;
    }
    let folder = context.mount(0)?;
    sys::mount::attach(folder.as_fd(), fs::open_dir("/")?.as_fd())?;
    for (number, (device, _)) in nodes.iter().enumerate() {
        let node = make_node(folder.as_fd(), &number.to_string(), device)
            .map_err(|error| error.in_step(format!("make node {}", device.path)))?;
        sys::socket::send(socket, b"N", &[node.as_fd()])?;
    }
    Ok(())
}

fn make_node(folder: BorrowedFd<'_>, name: &str, device: &Device) -> Result<OwnedFd> {
    let number = fs::makedev(device.major, device.minor);
    let mode = device.mode.unwrap_or(0o666) & 0o7777;
    fs::mknod_at(folder, name, source::file_type(device.kind), mode, number)?;
    fs::chown_at(folder, name, device.uid, device.gid)?;
    let node = fs::open_at(folder, name, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
    Ok(sys::mount::clone_tree(node.as_fd(), Depth::One)?)
}
