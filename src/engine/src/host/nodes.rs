//! Device nodes for a container in a user namespace, which can make none itself.
//!
//! A node that the definition wants as it says (its mode, its owner) is made on a file system that nobody else sees, by a
//! maker ([`super::maker`]); a copy of the node's mount outlives both.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::Device;
use sys::fs::{self, OFlags};
use sys::mount::{Depth, FsContext};

use super::maker::{self, Sender};
use crate::error::Result;
use crate::source;
use crate::step::Slot;

/// Makes nodes and returns a copy of each, in order.
///
/// # Errors
/// What the kernel says, with the node.
pub(crate) fn make(nodes: &[(Device, Slot)], label: Option<&str>) -> Result<Vec<OwnedFd>> {
    let wanted = nodes.iter().map(|(device, _)| format!("make node {}", device.path));
    maker::start(|sender| make_and_send(nodes, label, sender))?.take(wanted)
}

fn make_and_send(nodes: &[(Device, Slot)], label: Option<&str>, sender: &Sender) -> Result<()> {
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
        sender.send(node.as_fd())?;
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
