//! What of the host goes into a container, as descriptors: opened by the host side before the clone, or by the child where
//! only its new namespaces give the right to copy a mount, or at its turn, where the order counts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{Device, DeviceKind, PropagationKind};
use sys::Errno;
use sys::fs::{FileType, OFlags};
use sys::mount::{AttrChange, Depth, Propagation};

use crate::error::{Error, Result};
use crate::step::{Source, Within};

/// Opens the folder of the root file system: a detached copy of its mounts, or the folder itself.
pub(crate) fn open_rootfs(path: &str, detached: bool) -> Result<OwnedFd> {
    let fd = if detached { sys::mount::clone_path(path, Depth::Tree, false)? } else { sys::fs::open_dir(path)? };
    if sys::fs::file_type(&sys::fs::stat(fd.as_fd())?) != sys::fs::FileType::Directory {
        return Err(sys::Error::new(format!("open({path:?})"), Errno::NOTDIR).into());
    }
    Ok(fd)
}

/// Takes the copy that a source describes. `root` is the container's, for sources that begin there.
///
/// A symbolic link that is to be copied as a link is opened, not mounted.
pub(crate) fn copy(source: &Source, root: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let nofollow = source.nofollow || source.copy_symlink;
    let depth = if source.recursive { Depth::Tree } else { Depth::One };
    let fd = match (source.within, root) {
        (Within::Host, _) if source.copy_symlink && is_symlink(&source.path)? => {
            return Ok(sys::fs::open(&source.path, OFlags::PATH | OFlags::NOFOLLOW)?);
        }
        (Within::Host, _) => sys::mount::clone_path(&source.path, depth, source.nofollow && !source.copy_symlink)?,
        (Within::Container, Some(root)) => {
            let last = if nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
            let place = sys::fs::open_in_root(root, source.path.trim_start_matches('/'), OFlags::PATH | last)?;
            if source.copy_symlink && sys::fs::file_type(&sys::fs::stat(place.as_fd())?) == FileType::Symlink {
                return Ok(place);
            }
            sys::mount::clone_tree(place.as_fd(), depth)?
        }
        (Within::Container, None) => {
            return Err(sys::Error::new("the root of the container is not known yet", Errno::BADF).into());
        }
    };
    let propagation = match source.propagation {
        None | Some(PropagationKind::Shared) => return Ok(fd),
        Some(PropagationKind::Slave) => Propagation::Slave,
        Some(PropagationKind::Private | PropagationKind::Unbindable) => Propagation::Private,
    };
    let change = AttrChange { propagation: Some(propagation), ..AttrChange::default() };
    sys::mount::set_attr(fd.as_fd(), change, Depth::Tree)?;
    Ok(fd)
}

fn is_symlink(path: &str) -> Result<bool> {
    Ok(sys::fs::file_type(&sys::fs::stat_at(sys::fs::CWD, path)?) == FileType::Symlink)
}

/// Takes a private copy of the host's node of a device.
///
/// # Errors
/// [`Error::Unsupported`] where it is another device; what the kernel says where there is none.
pub(crate) fn open_device(device: &Device) -> Result<OwnedFd> {
    let node = sys::mount::clone_path(&device.path, Depth::One, false)?;
    let stat = sys::fs::stat(node.as_fd())?;
    let found = (sys::fs::file_type(&stat), sys::fs::major(stat.st_rdev), sys::fs::minor(stat.st_rdev));
    let wanted = (file_type(device.kind), device.major, device.minor);
    if found != wanted {
        return Err(Error::Unsupported(format!(
            "the host's {} is {}, not {}; a user namespace can have no node but the host's",
            device.path,
            shown(found),
            shown(wanted)
        )));
    }
    let change = AttrChange { propagation: Some(Propagation::Private), ..AttrChange::default() };
    sys::mount::set_attr(node.as_fd(), change, Depth::One)?;
    Ok(node)
}

/// The kind of file that a device is.
pub(crate) fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

/// `c 1:3`, as device rules are written, or what it is instead.
fn shown((kind, major, minor): (FileType, u32, u32)) -> String {
    match kind {
        FileType::CharacterDevice => format!("c {major}:{minor}"),
        FileType::BlockDevice => format!("b {major}:{minor}"),
        FileType::Fifo => "a fifo".to_owned(),
        _ => "no device".to_owned(),
    }
}
