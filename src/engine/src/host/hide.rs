//! A layer that hides paths of the layers below it.
//!
//! A folder that is opaque in it shows nothing of theirs, a whiteout takes away what is no folder, and what is not there
//! yet. It lies in the maker's own file system, so no name of the host leads to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::fs::{self, FileType, OFlags};

use crate::error::Result;

/// Makes the layer in `folder` under `name`. `lower` are the layers below it, the uppermost first; at least one.
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
    let mut folder = sys::process::dup(layer)?;
    let mut so_far = String::new();
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    while let Some(part) = parts.next() {
        so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}/{part}") };
        let found = find(lower, &so_far)?;
        let kind = match &found {
            Some(found) => Some(fs::file_type(&fs::stat(found.as_fd())?)),
            None => None,
        };
        match (found, kind) {
            (Some(below), Some(FileType::Directory)) => folder = make_folder(folder.as_fd(), part, below.as_fd())?,
            // What the link stands for has a path of its own, which whoever hides this one hides too.
            (_, Some(FileType::Symlink)) => return Ok(()),
            // Also where only a part of the way is there: the rest may come up while the container runs.
            _ => return whiteout(folder.as_fd(), part),
        }
        if parts.peek().is_none() {
            let mark = if user_xattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
            sys::entry::set_xattr(folder.as_fd(), b".", mark.as_bytes(), b"y")?;
        }
    }
    Ok(())
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
