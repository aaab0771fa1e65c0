//! A copy of a tree of files: what layers show together, or one layer with its marks.
//!
//! Owners, modes, times, extended attributes, devices, holes and hard links are kept. Where the file system can share
//! blocks between files (btrfs, xfs) content is shared, else it is copied.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::entry::{self, Timespec};
use sys::fs::{FileType, OFlags, Stat};

use crate::extract::shown;
use crate::remove::HERE;
use crate::source::folder::{TreeError, called, read_map};
use crate::stack::{Stack, join};

/// Overlay's own attributes that say something of one mount of one layer, and nothing of a copy
/// (fs/overlayfs/overlayfs.h, `enum ovl_xattr`).
const OF_A_MOUNT: [&[u8]; 5] = [b"origin", b"impure", b"nlink", b"upper", b"uuid"];

/// Copies what a stack shows into an empty folder. Returns what was left out, a line each.
///
/// # Errors
/// [`TreeError`] for the first entry that cannot be read or made; the folder is then to be thrown away.
pub fn copy_stack(stack: &Stack, to: OwnedFd) -> Result<Vec<String>, TreeError> {
    let mut copier =
        Copier { raw: stack.is_raw(), root: to, links: HashMap::new(), folders: Vec::new(), notes: Vec::new() };
    let root = stack.root()?;
    let top = stack.open_folder(&root, 0)?.ok_or_else(|| TreeError::Gone("/".to_owned()))?;
    let stat = sys::fs::stat(top.as_fd()).map_err(called(b""))?;
    let target = copier.root.try_clone().map_err(|source| copy_error(b"", source))?;
    copier.copy_attributes(Entry { from: (top.as_fd(), b"."), to: (target.as_fd(), b"."), full: b"", stat: &stat })?;
    let mut pending = vec![root];
    while let Some(folder) = pending.pop() {
        let target = copier.open_target(&folder.path)?;
        for found in stack.entries(&folder)? {
            let Some(parent) = stack.open_folder(&folder, found.layer)? else { continue };
            let full = join(&folder.path, &found.name);
            let entry = Entry {
                from: (parent.as_fd(), &found.name),
                to: (target.as_fd(), &found.name),
                full: &full,
                stat: &found.stat,
            };
            match copier.copy(entry) {
                // Gone since the folder was read.
                Err(TreeError::Call { source, .. }) if source.is(Errno::NOENT) => continue,
                other => other?,
            }
            pending.extend(found.folder);
        }
    }
    copier.finish()
}

/// One entry: where it is, and where it shall be.
#[derive(Clone, Copy)]
struct Entry<'a> {
    from: (BorrowedFd<'a>, &'a [u8]),
    to: (BorrowedFd<'a>, &'a [u8]),
    full: &'a [u8],
    stat: &'a Stat,
}

struct Copier {
    raw: bool,
    root: OwnedFd,
    /// The copy of each file that has several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Times of folders, which are set when nothing more is made in them.
    folders: Vec<(Vec<u8>, Timespec, Timespec)>,
    notes: Vec<String>,
}

impl Copier {
    fn open_target(&self, path: &[u8]) -> Result<OwnedFd, TreeError> {
        let at: &[u8] = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        entry::open(self.root.as_fd(), at, flags, 0, HERE).map_err(called(path))
    }

    fn copy(&mut self, one: Entry<'_>) -> Result<(), TreeError> {
        let Entry { from, to, full, stat } = one;
        let kind = sys::fs::file_type(stat);
        let key = (stat.st_dev, stat.st_ino);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&key) {
                return entry::link(self.root.as_fd(), first, to.0, to.1).map_err(called(full));
            }
            self.links.insert(key, full.to_vec());
        }
        match kind {
            FileType::Directory => entry::mkdir(to.0, to.1, 0o700).map_err(called(full))?,
            FileType::RegularFile => copy_file(one)?,
            FileType::Symlink => {
                let target = entry::readlink(from.0, from.1).map_err(called(full))?;
                entry::symlink(&target, to.0, to.1).map_err(called(full))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket => {
                entry::mknod(to.0, to.1, kind, 0o600, stat.st_rdev).map_err(called(full))?;
            }
            _ => {
                self.notes.push(format!("left out: {} (of no kind that is known)", shown(full)));
                return Ok(());
            }
        }
        self.copy_attributes(one)
    }

    /// Owner first: it takes set-user-id and file capabilities away.
    fn copy_attributes(&mut self, one: Entry<'_>) -> Result<(), TreeError> {
        let Entry { from, to, full, stat } = one;
        let failed = || called(full);
        // Of an ordinary user everything is its own, and its container's root is that user.
        if entry::is_root() {
            entry::chown(to.0, to.1, stat.st_uid, stat.st_gid).map_err(failed())?;
        }
        let names = match entry::list_xattrs(from.0, from.1) {
            Err(error) if error.is(Errno::OPNOTSUPP) => Vec::new(),
            other => other.map_err(failed())?,
        };
        for name in names.iter().filter(|name| is_kept(name, self.raw)) {
            match entry::get_xattr(from.0, from.1, name) {
                Err(error) if error.is(Errno::NODATA) => {}
                value => entry::set_xattr(to.0, to.1, name, &value.map_err(failed())?).map_err(failed())?,
            }
        }
        let kind = sys::fs::file_type(stat);
        if kind != FileType::Symlink {
            entry::chmod(to.0, to.1, stat.st_mode & 0o7777).map_err(failed())?;
        }
        let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
        let (access, change) = (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
        if kind == FileType::Directory {
            self.folders.push((full.to_vec(), access, change));
            return Ok(());
        }
        entry::set_times(to.0, to.1, access, change).map_err(failed())
    }

    fn finish(self) -> Result<Vec<String>, TreeError> {
        for (path, access, change) in self.folders.iter().rev() {
            let folder = self.open_target(path)?;
            entry::set_times_of(folder.as_fd(), *access, *change).map_err(called(path))?;
        }
        Ok(self.notes)
    }
}

fn is_kept(name: &[u8], raw: bool) -> bool {
    name.strip_prefix(b"trusted.overlay.").is_none_or(|mark| raw && !OF_A_MOUNT.contains(&mark))
}

fn copy_file(one: Entry<'_>) -> Result<(), TreeError> {
    let Entry { from, to, full, stat } = one;
    // Without waiting: it may be something else by now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let source = File::from(entry::open(from.0, from.1, flags, 0, HERE).map_err(called(full))?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let target = File::from(entry::open(to.0, to.1, flags, 0o600, HERE).map_err(called(full))?);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        return Ok(());
    }
    match entry::share_content(source.as_fd(), target.as_fd()) {
        Err(error) if [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY].iter().any(|e| error.is(*e)) => {}
        other => return other.map_err(called(full)),
    }
    for (start, length) in read_map(&source, size).map_err(called(full))? {
        entry::seek(source.as_fd(), start).map_err(called(full))?;
        entry::seek(target.as_fd(), start).map_err(called(full))?;
        io::copy(&mut (&source).take(length), &mut &target).map_err(|source| copy_error(full, source))?;
    }
    entry::set_length(target.as_fd(), size).map_err(called(full))
}

fn copy_error(path: &[u8], source: io::Error) -> TreeError {
    TreeError::Copy { path: if path.is_empty() { "/".to_owned() } else { shown(path) }, source }
}

#[cfg(test)]
mod tests;
