//! A process that lives no longer than it takes to make some mounts, in a mount namespace of its own.
//!
//! The kernel copies a mount only in the mount namespace that it is attached in. What is made there has no name on the host,
//! so there is nothing to undo; a copy of each mount outlives the process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::NamespaceKind;
use sys::Errno;
use sys::mount::{AttrChange, Depth, Propagation};
use sys::process::Cloned;

use crate::error::Result;
use crate::gate::{decode_failure, encode_failure};

/// The largest message of the maker: an error text.
const LIMIT: usize = 4096;

/// The maker's end, over which it hands over what it has made.
pub(super) struct Sender(OwnedFd);

impl Sender {
    /// Hands over the next mount.
    pub(super) fn send(&self, mount: BorrowedFd<'_>) -> Result<()> {
        Ok(sys::socket::send(self.0.as_fd(), b"M", &[mount])?)
    }
}

/// A maker at work, and the end that it hands over to.
#[derive(Debug)]
pub(crate) struct Maker {
    pid: i32,
    made: OwnedFd,
}

impl Maker {
    /// Takes what it sends: one mount for each of `wanted`, which says in an error what it is.
    ///
    /// # Errors
    /// That of its work, and what the kernel says.
    pub(super) fn take<W: AsRef<str>>(self, wanted: impl Iterator<Item = W>) -> Result<Vec<OwnedFd>> {
        let made = wanted.map(|what| receive(self.made.as_fd(), what.as_ref())).collect();
        self.end()?;
        made
    }

    /// Waits for its end. Whatever came of it, one that still sends gets an error and ends.
    pub(super) fn end(self) -> Result<()> {
        drop(self.made);
        sys::process::wait(self.pid)?;
        Ok(())
    }
}

/// Starts `work` in a maker.
///
/// # Errors
/// What the kernel says.
pub(super) fn start(work: impl FnOnce(&Sender) -> Result<()>) -> Result<Maker> {
    let (ours, theirs) = sys::socket::pair()?;
    match sys::process::clone3(NamespaceKind::Mount.clone_flag(), None)? {
        Cloned::Child => {
            drop(ours);
            let sender = Sender(theirs);
            let told = match be_alone().and_then(|()| work(&sender)) {
                Ok(()) => Ok(()),
                Err(error) => sys::socket::send(sender.0.as_fd(), &encode_failure(&error), &[]),
            };
            sys::process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Parent { pid, .. } => {
            drop(theirs);
            Ok(Maker { pid, made: ours })
        }
    }
}

/// Nothing that is mounted from here on is seen elsewhere, and modes are as they are asked for.
fn be_alone() -> Result<()> {
    sys::process::set_umask(0);
    let private = AttrChange { propagation: Some(Propagation::Private), ..AttrChange::default() };
    Ok(sys::mount::set_attr(sys::mount::open_mount("/")?.as_fd(), private, Depth::Tree)?)
}

fn receive(socket: BorrowedFd<'_>, what: &str) -> Result<OwnedFd> {
    let message = sys::socket::receive(socket, LIMIT)?;
    match (message.bytes.first(), message.fds.into_iter().next()) {
        (Some(b'F'), _) => Err(decode_failure(&message.bytes)),
        (Some(_), Some(mount)) => Ok(mount),
        _ => Err(sys::Error::new(format!("{what}: its maker ended"), Errno::PROTO).into()),
    }
}
