//! The tree that is filled: where an entry's folder is.
//!
//! Nothing is reached by a path of the host. The kernel resolves a folder's path with the tree's root as `/` and refuses
//! magic links and other mounts. Symbolic links in the middle are followed as a process in the tree would follow them: an
//! image may have `var/run -> /run` and an entry `var/run/x`. A folder that no entry made is made on the way.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use sys::Errno;
use sys::entry::{self, ResolveFlags};
use sys::fs::{FileType, OFlags, Stat};

use super::{ExtractError, Refusal};
use crate::limits::{Budget, LimitError};
use crate::remove::remove_at;

/// Links that one path may lead through, as the kernel has it.
const LINKS_MAX: u32 = 40;

/// Marks a folder of which lower layers show nothing. Kernel: Documentation/filesystems/overlayfs.rst.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// What is opened is in the folder, and neither it nor a part of the way is a link.
const HERE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The whole way: the root is `/`, links are followed in it.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

/// A tree and the folder that was used last: archives are written folder by folder.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    /// Folders that are made on the way count as entries, and the real way has a greatest depth as a name has.
    budget: &'a Budget,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: OwnedFd, budget: &'a Budget) -> Tree<'a> {
        Tree { root: Rc::new(root), budget, last: None }
    }

    /// The folder with this path, made where it is missing.
    pub(super) fn folder(&mut self, folders: &[&[u8]]) -> Result<Rc<OwnedFd>, ExtractError> {
        if folders.is_empty() {
            return Ok(self.root.clone());
        }
        let path = folders.join(&b'/');
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return Ok(fd.clone());
        }
        // A way through links is gone part by part too: only so its depth is known.
        let found = match entry::open(self.root.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY, 0, HERE) {
            Ok(fd) => fd,
            Err(error) if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.is(*errno)) => {
                self.make_way(folders)?
            }
            Err(error) => return Err(error.into()),
        };
        let found = Rc::new(found);
        self.last = Some((path, found.clone()));
        Ok(found)
    }

    /// The folder with this path, if it is there.
    pub(super) fn existing_folder(&self, folders: &[&[u8]]) -> Result<Rc<OwnedFd>, ExtractError> {
        if folders.is_empty() {
            return Ok(self.root.clone());
        }
        let path = folders.join(&b'/');
        Ok(Rc::new(entry::open(self.root.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY, 0, IN_ROOT)?))
    }

    /// Removes what has this name, a folder with all that is in it. Nothing is there afterwards in any case.
    pub(super) fn clear(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
        let Some(stat) = stat_if_any(folder, name)? else { return Ok(()) };
        match sys::fs::file_type(&stat) {
            FileType::Directory => {
                self.last = None;
                remove_tree(folder, name)?;
            }
            kind => {
                if kind == FileType::Symlink {
                    self.last = None;
                }
                entry::unlink(folder, name)?;
            }
        }
        Ok(())
    }

    /// Goes part by part, following links by hand, and makes what is missing.
    fn make_way(&self, folders: &[&[u8]]) -> Result<OwnedFd, ExtractError> {
        let mut pending: VecDeque<Vec<u8>> = folders.iter().map(|part| part.to_vec()).collect();
        // Real folders from the root to where we are: `..` in a link's target goes back along them.
        let mut way: Vec<Vec<u8>> = Vec::new();
        let mut here = self.root.try_clone().map_err(ExtractError::Descriptor)?;
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    here = self.open_way(&way)?;
                    continue;
                }
                _ => {}
            }
            match stat_if_any(here.as_fd(), &name)? {
                None => {
                    self.budget.take_entry().map_err(Refusal::from)?;
                    make_folder(here.as_fd(), &name)?;
                }
                Some(stat) if is_whiteout(&stat) => {
                    self.budget.take_entry().map_err(Refusal::from)?;
                    replace_whiteout(here.as_fd(), &name)?;
                }
                Some(stat) if sys::fs::file_type(&stat) == FileType::Directory => {}
                Some(stat) if sys::fs::file_type(&stat) == FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Refusal::Links.into());
                    }
                    let target = entry::readlink(here.as_fd(), &name)?;
                    if target.starts_with(b"/") {
                        way.clear();
                        here = self.open_way(&way)?;
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        pending.push_front(part.to_vec());
                    }
                    continue;
                }
                Some(_) => {
                    return Err(
                        Refusal::NotAFolder(way.into_iter().chain([name]).collect::<Vec<_>>().join(&b'/')).into()
                    );
                }
            }
            here = entry::open(here.as_fd(), &name, FOLDER, 0, HERE)?;
            way.push(name);
            if way.len() > self.budget.limits.depth {
                return Err(Refusal::from(LimitError::Depth(self.budget.limits.depth)).into());
            }
        }
        Ok(here)
    }

    fn open_way(&self, way: &[Vec<u8>]) -> Result<OwnedFd, ExtractError> {
        let path = if way.is_empty() { b".".to_vec() } else { way.join(&b'/') };
        Ok(entry::open(self.root.as_fd(), &path, FOLDER, 0, HERE)?)
    }
}

/// What has this name, if anything has.
pub(super) fn stat_if_any(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, ExtractError> {
    match entry::stat(folder, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether overlay takes an entry for a name that is gone: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    sys::fs::file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Says that the name is gone, unless this layer has an entry of its own there: that hides what is below already, a
/// folder once it is opaque.
pub(super) fn make_whiteout(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
    match stat_if_any(folder, name)? {
        None => Ok(entry::mknod(folder, name, FileType::CharacterDevice, 0, 0)?),
        Some(stat) if sys::fs::file_type(&stat) == FileType::Directory => make_opaque(folder, name),
        Some(_) => Ok(()),
    }
}

/// Marks a folder as opaque; `.` is `folder` itself.
pub(super) fn make_opaque(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
    Ok(entry::set_xattr(folder, name, OPAQUE, b"y")?)
}

/// Makes a folder where the lower layers' entry was said to be gone: none of it may show through.
pub(super) fn replace_whiteout(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
    entry::unlink(folder, name)?;
    make_folder(folder, name)?;
    make_opaque(folder, name)
}

/// Makes a folder with mode 0755 whatever the umask is.
pub(super) fn make_folder(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
    entry::mkdir(folder, name, 0o755)?;
    Ok(entry::chmod(folder, name, 0o755)?)
}

/// Removes a folder with all that is in it.
fn remove_tree(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
    remove_at(folder, name).map_err(|source| ExtractError::Remove { name: super::shown(name), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn check(limits: Limits, path: &str, expected: Result<(), LimitError>) {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("a/b/c", folder.path().join("link")).unwrap();
        let root = sys::fs::open(folder.path().to_str().unwrap(), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let budget = Budget::new(limits);
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let found = Tree::new(root, &budget).folder(&parts);
        match (found, expected) {
            (Ok(_), Ok(())) => assert!(folder.path().join(path).is_dir()),
            (Err(ExtractError::Refused(Refusal::Limit(found))), Err(expected)) => assert_eq!(found, expected),
            (found, _) => panic!("{path}: {found:?}"),
        }
    }

    #[test]
    fn folders_on_the_way_count() {
        check(Limits { entries: 3, ..Limits::default() }, "a/b/c", Ok(()));
        check(Limits { entries: 2, ..Limits::default() }, "a/b/c", Err(LimitError::Entries(2)));
        check(Limits { depth: 5, ..Limits::default() }, "link/d/e", Ok(()));
        check(Limits { depth: 4, ..Limits::default() }, "link/d/e", Err(LimitError::Depth(4)));
    }
}
