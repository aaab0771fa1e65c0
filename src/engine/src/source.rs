//! What of the host goes into a container, as descriptors: opened by the host side, or by the child where only its new
//! namespaces give the right to copy a mount.

use std::os::fd::{AsFd, OwnedFd};

use runtime_spec::model::PropagationKind;
use sys::Errno;
use sys::fs::OFlags;
use sys::mount::{AttrChange, Depth, Propagation};

use crate::error::Result;
use crate::step::Source;

/// Opens the folder of the root file system: a detached copy of its mounts, or the folder itself.
pub(crate) fn open_rootfs(path: &str, detached: bool) -> Result<OwnedFd> {
    let fd = if detached { sys::mount::clone_path(path, Depth::Tree, false)? } else { sys::fs::open_dir(path)? };
    if sys::fs::file_type(&sys::fs::stat(fd.as_fd())?) != sys::fs::FileType::Directory {
        return Err(sys::Error::new(format!("open({path:?})"), Errno::NOTDIR).into());
    }
    Ok(fd)
}

/// Takes a detached copy that is no peer of the host's mount.
pub(crate) fn open(source: &Source) -> Result<OwnedFd> {
    if source.copy_symlink && is_symlink(&source.path)? {
        return Ok(sys::fs::open(&source.path, OFlags::PATH | OFlags::NOFOLLOW)?);
    }
    let depth = if source.recursive { Depth::Tree } else { Depth::One };
    let fd = sys::mount::clone_path(&source.path, depth, source.nofollow && !source.copy_symlink)?;
    let propagation = match source.propagation {
        PropagationKind::Shared => None,
        PropagationKind::Slave => Some(Propagation::Slave),
        PropagationKind::Private | PropagationKind::Unbindable => Some(Propagation::Private),
    };
    if propagation.is_some() {
        sys::mount::set_attr(fd.as_fd(), AttrChange { propagation, ..AttrChange::default() }, Depth::Tree)?;
    }
    Ok(fd)
}

fn is_symlink(path: &str) -> Result<bool> {
    Ok(sys::fs::file_type(&sys::fs::stat_at(sys::fs::CWD, path)?) == sys::fs::FileType::Symlink)
}
