//! The child of a restore: it prepares the root file system where it alone sees it, then becomes CRIU.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use sys::mount::UnmountFlags;

use super::Child;
use super::resolve::{Links, Want};
use crate::error::{Error, Result};
use crate::step::Slot;

impl Child<'_> {
    pub(super) fn make_mount_point(&self, destination: &str) -> Result<()> {
        self.make(destination, Want::Folder, Links::Inside).map(drop)
    }

    /// The mount namespace is this process's own, so nothing else shows what is taken away.
    pub(super) fn detach_mounts(&mut self, path: &str) -> Result<()> {
        self.progress.root = None;
        Ok(sys::mount::unmount(path, UnmountFlags::DETACH)?)
    }

    /// Returns only where CRIU cannot be executed. Everything else that is open closes.
    pub(super) fn become_criu(&self, program: &str, slot: Slot, keep: &[Slot]) -> Result<()> {
        let socket = self.slot(slot)?.as_raw_fd();
        sys::process::keep_on_exec(socket)?;
        for slot in keep {
            sys::process::keep_on_exec(self.slot(*slot)?.as_raw_fd())?;
        }
        let error = Command::new(program).args(["swrk", &socket.to_string()]).exec();
        Err(Error::Unsupported(format!("{program} cannot be started: {error}")))
    }
}
