//! The root file system: attached where it lies, then made the root.

use std::os::fd::AsFd;

use runtime_spec::model::{MountAttr, PropagationKind};
use sys::mount::{AttrChange, Depth, Propagation, UnmountFlags};

use super::Child;
use super::resolve::Links;
use crate::error::Result;
use crate::step::{ChangeRoot, Slot};

/// The kernel's name of a propagation type.
pub(super) fn kernel(kind: PropagationKind) -> Propagation {
    match kind {
        PropagationKind::Shared => Propagation::Shared,
        PropagationKind::Slave => Propagation::Slave,
        PropagationKind::Private => Propagation::Private,
        PropagationKind::Unbindable => Propagation::Unbindable,
    }
}

/// Changes propagation of the whole tree, or of its root alone.
pub(super) fn set_propagation(kind: PropagationKind, recursive: bool) -> Result<()> {
    let root = sys::mount::open_mount("/")?;
    let change = AttrChange { propagation: Some(kernel(kind)), ..AttrChange::default() };
    Ok(sys::mount::set_attr(root.as_fd(), change, if recursive { Depth::Tree } else { Depth::One })?)
}

/// Makes the mount that a folder lies on private: the first of its parents that is the root of a mount. What is mounted on
/// a shared one would become shared itself, and would show on the host.
pub(super) fn make_parent_private(path: &str) -> Result<()> {
    let change = AttrChange { propagation: Some(Propagation::Private), ..AttrChange::default() };
    let mut folder = path;
    loop {
        match sys::mount::set_attr(sys::fs::open_dir(folder)?.as_fd(), change, Depth::One) {
            // Not the root of a mount.
            Err(error) if error.is(sys::Errno::INVAL) && folder != "/" => {}
            other => return Ok(other?),
        }
        folder = folder.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
    }
}

impl Child<'_> {
    /// `pivot_root` wants the new root to be a mount whose parent is not shared.
    pub(super) fn attach_rootfs(&mut self, path: &str, slot: Slot, propagation: PropagationKind) -> Result<()> {
        let rootfs = self.take_slot(slot)?;
        let (kind, depth) = match propagation {
            PropagationKind::Shared => (Propagation::Private, Depth::One),
            kind => (kernel(kind), Depth::Tree),
        };
        let change = AttrChange { propagation: Some(kind), ..AttrChange::default() };
        sys::mount::set_attr(rootfs.as_fd(), change, depth)?;
        sys::mount::attach(rootfs.as_fd(), sys::fs::open_dir(path)?.as_fd())?;
        self.progress.root = Some(rootfs);
        Ok(())
    }

    pub(super) fn change_root(&mut self, how: ChangeRoot) -> Result<()> {
        match how {
            ChangeRoot::Pivot => self.pivot(),
            ChangeRoot::Move => self.move_root(),
            ChangeRoot::Chroot => self.chroot(),
        }
    }

    /// The old root ends up on top of the new one and is taken away from there, so no folder is needed for it.
    fn pivot(&mut self) -> Result<()> {
        let old = sys::fs::open_dir("/")?;
        sys::process::chdir_fd(self.root()?)?;
        sys::mount::pivot_root_here()?;
        sys::process::chdir_fd(old.as_fd())?;
        // Taking it away must not reach the host's own mounts.
        let change = AttrChange { propagation: Some(Propagation::Slave), ..AttrChange::default() };
        sys::mount::set_attr(old.as_fd(), change, Depth::Tree)?;
        sys::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(sys::process::chdir("/")?)
    }

    /// For a root that cannot be pivoted. Every bare procfs and sysfs outside the root is taken away first, wherever it is
    /// mounted: it would stay within reach below the moved mount, and the kernel lets a user namespace mount a new one as
    /// long as one is wholly visible.
    fn move_root(&mut self) -> Result<()> {
        sys::process::chdir_fd(self.root()?)?;
        let own = sys::process::current_dir()?;
        let mountinfo = self.proc.read(&format!("{}/mountinfo", self.proc.own_thread()?))?;
        for path in bare_mounts(&mountinfo, &own) {
            take_away(&path)?;
        }
        sys::mount::move_here_to_root()?;
        sys::process::chroot_here()?;
        Ok(sys::process::chdir("/")?)
    }

    fn chroot(&mut self) -> Result<()> {
        if self.progress.root.is_none() {
            self.progress.root = Some(self.take_slot(0)?);
        }
        sys::process::chdir_fd(self.root()?)?;
        sys::process::chroot_here()?;
        Ok(sys::process::chdir("/")?)
    }

    /// Sets attributes of the mount at a path of the container.
    pub(super) fn set_attributes(&self, destination: &str, set: MountAttr) -> Result<()> {
        let mount = self.look(destination, Links::Inside)?;
        let change = AttrChange { set: set.bits(), ..AttrChange::default() };
        Ok(sys::mount::set_attr(mount.as_fd(), change, Depth::One)?)
    }

    pub(super) fn make_working_folder(&self, path: &str) -> Result<()> {
        let root = self.root()?;
        match super::resolve::make_folders(root, path, Links::Inside) {
            // Whoever enters it later says what is wrong with it, if anything is.
            Err(error) if matches!(error.errno(), Some(sys::Errno::ROFS | sys::Errno::NOTDIR | sys::Errno::ACCESS)) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// Mount points of whole procfs and sysfs instances outside `own`.
fn bare_mounts(mountinfo: &str, own: &str) -> Vec<String> {
    let is_bare = |mount: &sys::mountinfo::Mount| {
        let inside = mount.mountpoint.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        mount.root == "/" && matches!(mount.kind.as_str(), "proc" | "sysfs") && !inside
    };
    sys::mountinfo::parse(mountinfo).filter(is_bare).map(|mount| mount.mountpoint).collect()
}

fn take_away(path: &str) -> Result<()> {
    let mount = match sys::mount::open_mount(path) {
        // It went with one above it.
        Err(error) if error.is(sys::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    // The host keeps its own.
    let change = AttrChange { propagation: Some(Propagation::Slave), ..AttrChange::default() };
    sys::mount::set_attr(mount.as_fd(), change, Depth::Tree)?;
    drop(mount);
    match sys::mount::unmount(path, UnmountFlags::DETACH) {
        Err(error) if error.is(sys::Errno::INVAL) || error.is(sys::Errno::PERM) => cover(path),
        other => Ok(other?),
    }
}

/// Hides a mount that may not be taken away behind an empty file system.
fn cover(path: &str) -> Result<()> {
    let tmpfs = sys::mount::FsContext::open("tmpfs")?;
    tmpfs.set_string("size", "0")?;
    let mount = tmpfs.mount(MountAttr::RDONLY.bits())?;
    Ok(sys::mount::attach(mount.as_fd(), sys::fs::open_dir(path)?.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_procfs_and_sysfs_outside_the_root_is_found() {
        let mountinfo = "22 27 0:21 / /proc rw - proc proc rw\n\
            23 22 0:21 /sys /mnt/part rw - proc proc rw\n\
            24 27 0:22 / /srv/a\\040b/sys ro shared:1 - sysfs sysfs rw\n\
            25 27 0:23 / /b/rootfs/proc rw - proc proc rw\n\
            26 27 0:23 / /b/rootfs2/proc rw - proc proc rw\n\
            27 1 8:1 / / rw - ext4 /dev/sda rw\n";
        assert_eq!(bare_mounts(mountinfo, "/b/rootfs"), ["/proc", "/srv/a b/sys", "/b/rootfs2/proc"]);
    }
}
