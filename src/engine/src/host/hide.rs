//! A layer that hides paths of the layers below it.
//!
//! A folder that is opaque in it shows nothing of theirs, a whiteout takes away what is no folder, and what is not there
//! yet. It lies in the maker's own file system, so no name of the host leads to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::fs::{self, FileType, OFlags};

use crate::error::Result;

/// Makes the layer in `folder` under `name`. `lower` are the layers below, the uppermost first.
///
/// # Errors
/// What the kernel says, with the path.
pub(super) fn make_layer(
    folder: BorrowedFd<'_>,
    name: &str,
    lower: &[BorrowedFd<'_>],
    paths: &[String],
    user_xattr: bool,
) -> Result<()> {
    let layer = make_folder(folder, name, lower[0])?;
    for path in paths {
        hide(layer.as_fd(), lower, path.trim_matches('/'), user_xattr)
            .map_err(|error| error.in_step(format!("hide {path:?}")))?;
    }
    Ok(())
}

fn hide(layer: BorrowedFd<'_>, lower: &[BorrowedFd<'_>], path: &str, user_xattr: bool) -> Result<()> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut folder = sys::process::dup(layer)?;
    let mut so_far = String::new();
    for part in above.split('/').filter(|part| !part.is_empty()) {
        so_far = format!("{so_far}{part}/");
        // A link stands for a path that has a name of its own; below what is no folder there is nothing to hide.
        let Some(below) = find_folder(lower, &so_far)? else { return Ok(()) };
        folder = make_folder(folder.as_fd(), part, below.as_fd())?;
    }
    match find(lower, path)? {
        Some(found) => match fs::file_type(&fs::stat(found.as_fd())?) {
            FileType::Directory => {
                let opaque = make_folder(folder.as_fd(), name, found.as_fd())?;
                let mark = if user_xattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
                Ok(sys::entry::set_xattr(opaque.as_fd(), b".", mark.as_bytes(), b"y")?)
            }
            FileType::Symlink => Ok(()),
            _ => whiteout(folder.as_fd(), name),
        },
        None => whiteout(folder.as_fd(), name),
    }
}

/// What the layers show at a path, the last part not followed; `None` where no layer has it.
fn find(lower: &[BorrowedFd<'_>], path: &str) -> Result<Option<OwnedFd>> {
    for layer in lower {
        match fs::open_in_root_no_links(*layer, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(error) if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.is(*errno)) => {}
            other => return Ok(Some(other?)),
        }
    }
    Ok(None)
}

fn find_folder(lower: &[BorrowedFd<'_>], path: &str) -> Result<Option<OwnedFd>> {
    let Some(found) = find(lower, path.trim_end_matches('/'))? else { return Ok(None) };
    let is_folder = fs::file_type(&fs::stat(found.as_fd())?) == FileType::Directory;
    Ok(is_folder.then_some(found))
}

/// Makes a folder, or opens it, with the owner and mode of the one below: the layer above has the say on both.
fn make_folder(at: BorrowedFd<'_>, name: &str, below: BorrowedFd<'_>) -> Result<OwnedFd> {
    let stat = fs::stat(below)?;
    match fs::mkdir_at(at, name, 0o700) {
        Err(error) if error.is(Errno::EXIST) => {}
        other => {
            other?;
            fs::chown_at(at, name, stat.st_uid, stat.st_gid)?;
        }
    }
    let folder = fs::open_at(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
    fs::chmod(folder.as_fd(), stat.st_mode & 0o7777)?;
    Ok(folder)
}

fn whiteout(folder: BorrowedFd<'_>, name: &str) -> Result<()> {
    match fs::mknod_at(folder, name, FileType::CharacterDevice, 0, 0) {
        Err(error) if error.is(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}
