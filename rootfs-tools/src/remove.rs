//! The removal of a tree, however deep it is.
//!
//! Whoever is root in a container can make folders inside each other without end. So nothing here calls itself, and no more
//! than a few folders are open at a time: what lies deeper is moved to the top first. No link is followed and no other mount
//! is entered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::Errno;
use sys::entry::{self, ResolveFlags};
use sys::fs::OFlags;

/// How many folders are open at a time: far below the usual limit of 1024 descriptors, deeper than usual trees.
const DEPTH_MAX: usize = 64;

/// One name at a time: no link and no other mount on the way.
pub(crate) const HERE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Removes a file, a link, or a folder with all that is in it. What is not there is no error.
///
/// # Errors
/// What the kernel says: EXDEV where something is mounted below, EILSEQ for a folder on the way that is no text.
pub fn remove_tree(path: &Path) -> Result<(), sys::Error> {
    let wrong = |errno| sys::Error::new(format!("remove({path:?})"), errno);
    let name = path.file_name().ok_or_else(|| wrong(Errno::INVAL))?;
    let folder = match path.parent() {
        None => "/",
        Some(parent) if parent.as_os_str().is_empty() => ".",
        Some(parent) => parent.to_str().ok_or_else(|| wrong(Errno::ILSEQ))?,
    };
    match sys::fs::open_dir(folder) {
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        other => remove_at(other?.as_fd(), name.as_bytes()),
    }
}

/// A folder that is being emptied.
struct Level {
    folder: OwnedFd,
    /// Its name in the one above.
    name: Vec<u8>,
    /// What is in it still.
    left: Vec<Vec<u8>>,
}

/// The same of an entry of an open folder.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), sys::Error> {
    if unlink(folder, name)? {
        return Ok(());
    }
    let Some(top) = enter(folder, name)? else { return Ok(()) };
    let mut levels = vec![top];
    let mut moved: u64 = 0;
    while let Some(level) = levels.last_mut() {
        let Some(next) = level.left.pop() else {
            let done = levels.pop().expect("one was looked at");
            let above = levels.last().map_or(folder, |above| above.folder.as_fd());
            ignore_missing(entry::rmdir(above, &done.name))?;
            continue;
        };
        if unlink(level.folder.as_fd(), &next)? {
            continue;
        }
        if levels.len() < DEPTH_MAX {
            let at = levels.last().expect("one was looked at").folder.as_fd();
            levels.extend(enter(at, &next)?);
        } else {
            let at = levels.last().expect("one was looked at").folder.as_fd();
            let name = move_up(at, &next, levels[0].folder.as_fd(), &mut moved)?;
            levels[0].left.extend(name);
        }
    }
    Ok(())
}

/// Removes what is no folder; `false` for a folder.
fn unlink(folder: BorrowedFd<'_>, name: &[u8]) -> Result<bool, sys::Error> {
    match entry::unlink(folder, name) {
        Err(error) if error.is(Errno::ISDIR) => Ok(false),
        other => ignore_missing(other).map(|()| true),
    }
}

/// Opens a folder and lists it; `None` where it is gone by now.
fn enter(above: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Level>, sys::Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder = match entry::open(above, name, flags, 0, HERE) {
        Err(error) if error.is(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let left = entry::list(folder.as_fd())?;
    Ok(Some(Level { folder, name: name.to_vec(), left }))
}

/// Moves a folder to the top of the tree under a name that nothing has there, and returns the name.
fn move_up(
    from: BorrowedFd<'_>,
    name: &[u8],
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<Option<Vec<u8>>, sys::Error> {
    loop {
        *moved += 1;
        let new = format!(".removed-{moved}").into_bytes();
        match entry::rename_new(from, name, top, &new) {
            Err(error) if error.is(Errno::EXIST) => {}
            Err(error) if error.is(Errno::NOENT) => return Ok(None),
            other => return other.map(|()| Some(new)),
        }
    }
}

fn ignore_missing(result: Result<(), sys::Error>) -> Result<(), sys::Error> {
    match result {
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_is_removed_and_what_its_links_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/b/link")).unwrap();
        std::os::unix::fs::symlink(&kept, dir.path().join("link")).unwrap();
        for name in ["tree", "link", "never/was", "never-was"] {
            remove_tree(&dir.path().join(name)).unwrap();
            assert!(fs::symlink_metadata(dir.path().join(name)).is_err());
        }
        remove_tree(&kept.join("file")).unwrap();
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
        remove_tree(Path::new("/")).unwrap_err();
    }

    /// The standard library opens a folder for each level, and calls itself for each: this tree ended the process.
    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let mut at: OwnedFd = fs::File::open(dir.path().join("tree")).unwrap().into();
        for _ in 0..1500 {
            entry::mkdir(at.as_fd(), b"sub", 0o755).unwrap();
            entry::mkdir(at.as_fd(), b".removed-1", 0o755).unwrap();
            at = entry::open(at.as_fd(), b"sub", OFlags::PATH | OFlags::DIRECTORY, 0, HERE).unwrap();
        }
        remove_tree(&dir.path().join("tree")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
