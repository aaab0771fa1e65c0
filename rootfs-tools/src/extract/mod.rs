//! Fills a folder with the entries of one layer.
//!
//! ```text
//! entry ─► its name judged (path) ─► its folder found (tree) ─► made ─► owner ─► attributes ─► mode ─► times
//!                                                                        times of folders: at the very end
//! `.wh.name`       a character device 0:0 `name`            what overlay takes for "gone"
//! `.wh..wh..opq`   trusted.overlay.opaque on the folder     … for "nothing below shows"
//! ```
//!
//! The folder belongs to this process alone while it is filled. Ids are kept as they are, which needs root. A later entry
//! takes the place of an earlier one with its name, as tar has it; a folder keeps what is in it.

mod path;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::entry::{self, ResolveFlags, Timespec};
use sys::fs::{FileType, OFlags};

use crate::limits::{Budget, LimitError};
use crate::tar::{Entry, Kind, Reader, TarError, Time};

use path::{EntryPath, Mark, parse_mark, parse_path};
use tree::{Tree, is_whiteout, make_folder, make_opaque, make_whiteout, replace_whiteout, stat_if_any};

/// Bytes that are moved at once.
const CHUNK: usize = 256 * 1024;

/// Why an entry is not taken, whatever the file system says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A part of the name is `..`.
    #[error("its name has a part \"..\"")]
    DotDot,
    /// The name has a NUL byte.
    #[error("its name has a NUL byte")]
    Nul,
    /// A whiteout for a name that nothing can have, or as a folder of other entries.
    #[error("its name is no whiteout that means anything")]
    Mark,
    /// The root can be a folder only.
    #[error("it would take the place of the root")]
    Root,
    /// A part of the way is neither a folder nor a link to one.
    #[error("{} is no folder", shown(.0))]
    NotAFolder(Vec<u8>),
    /// A chain of symbolic links without end.
    #[error("its name leads through too many symbolic links")]
    Links,
    /// The target of a hard link is not in this layer.
    #[error("it is a hard link to {}, which is not in this layer", shown(.0))]
    Target(Vec<u8>),
    /// A hard link to a folder.
    #[error("it is a hard link to the folder {}", shown(.0))]
    FolderLink(Vec<u8>),
    /// A link without a target.
    #[error("it is a link to nothing")]
    NoTarget,
    /// An id that 32 bits cannot say.
    #[error("its owner {0} is no id that Linux has")]
    Id(u64),
    /// A bound was passed.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// An entry failed.
    #[error("cannot unpack {path}")]
    Entry {
        /// Its name.
        path: String,
        /// Why.
        source: Box<ExtractError>,
    },
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The content of an entry cannot be read.
    #[error("cannot read its content")]
    Content(#[source] io::Error),
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel refused a call.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// A folder that a later entry replaces cannot be removed.
    #[error("cannot remove the folder {name}")]
    Remove {
        /// Its name.
        name: String,
        /// Why.
        source: sys::Error,
    },
    /// No descriptor is left.
    #[error("cannot duplicate a descriptor")]
    Descriptor(#[source] io::Error),
    /// Owners and devices can be made by root only.
    #[error("unpacking keeps owners and devices, which only root can make")]
    NotRoot,
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// The root is opaque: layers below do not count.
    pub(crate) opaque_root: bool,
    /// What was left out, a line each.
    pub(crate) notes: Vec<String>,
}

/// Fills an empty folder with the entries of an archive. The archive is read to its end.
///
/// # Errors
/// The first entry that cannot be made as the archive says, or is refused; the folder is then to be thrown away.
pub(crate) fn extract<R: Read>(
    archive: &mut Reader<R>,
    root: OwnedFd,
    budget: &Budget,
) -> Result<Summary, ExtractError> {
    if !entry::is_root() {
        return Err(ExtractError::NotRoot);
    }
    let mut extractor = Extractor {
        tree: Tree::new(root, budget),
        budget,
        folders: Vec::new(),
        left_out: BTreeMap::new(),
        buffer: vec![0; CHUNK],
        summary: Summary::default(),
    };
    while let Some(entry) = archive.next()? {
        let applied = extractor.apply(&entry, archive);
        applied.map_err(|source| ExtractError::Entry { path: shown(&entry.path), source: Box::new(source) })?;
    }
    extractor.finish()
}

/// A folder whose times are set at the end.
struct FolderTimes {
    path: Vec<u8>,
    /// Device and inode: another folder may have taken its place.
    inode: (u64, u64),
    access: Time,
    change: Time,
}

struct Extractor<'a> {
    tree: Tree<'a>,
    budget: &'a Budget,
    folders: Vec<FolderTimes>,
    /// Attributes that could not be kept: why and which, how many, and the first entry.
    left_out: BTreeMap<String, (u64, String)>,
    buffer: Vec<u8>,
    summary: Summary,
}

impl Extractor<'_> {
    fn apply<R: Read>(&mut self, entry: &Entry, content: &mut Reader<R>) -> Result<(), ExtractError> {
        self.budget.take_entry().map_err(Refusal::from)?;
        self.summary.entries += 1;
        let path = parse_path(&entry.path, self.budget.limits.depth)?;
        match parse_mark(&path)? {
            Mark::Private => return Ok(()),
            Mark::Gone(name) => {
                let folder = self.tree.folder(&path.0[..path.0.len() - 1])?;
                return make_whiteout(folder.as_fd(), name);
            }
            Mark::Opaque => {
                let folders = &path.0[..path.0.len() - 1];
                self.summary.opaque_root |= folders.is_empty();
                return make_opaque(self.tree.folder(folders)?.as_fd(), b".");
            }
            Mark::Entry => {}
        }
        let Some((folders, name)) = path.split() else { return self.apply_root(entry) };
        let folder = self.tree.folder(folders)?;
        let folder = folder.as_fd();
        match &entry.kind {
            Kind::Folder => {
                self.make_folder(folder, name)?;
                self.set_attributes(folder, name, entry)?;
                self.note_times(folder, name, &path, entry)
            }
            Kind::File { map } => self.write_file(folder, name, entry, map.as_deref(), content),
            Kind::HardLink => self.make_link(folder, name, entry),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(Refusal::NoTarget.into());
                }
                self.retry_cleared(folder, name, || entry::symlink(&entry.link, folder, name))?;
                self.set_attributes(folder, name, entry)?;
                set_times(folder, name, entry)
            }
            Kind::Character => self.make_node(folder, name, entry, FileType::CharacterDevice),
            Kind::Block => self.make_node(folder, name, entry, FileType::BlockDevice),
            Kind::Fifo => self.make_node(folder, name, entry, FileType::Fifo),
        }
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        if entry.kind != Kind::Folder {
            return Err(Refusal::Root.into());
        }
        let root = self.tree.folder(&[])?;
        self.set_attributes(root.as_fd(), b".", entry)?;
        self.note_times(root.as_fd(), b".", &EntryPath(Vec::new()), entry)
    }

    /// Makes what can exist only once; when something is there already, removes it first.
    fn retry_cleared<T>(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        make: impl Fn() -> sys::Result<T>,
    ) -> Result<T, ExtractError> {
        match make() {
            Err(error) if error.is(Errno::EXIST) => {
                self.tree.clear(folder, name)?;
                Ok(make()?)
            }
            other => Ok(other?),
        }
    }

    fn make_folder(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
        match stat_if_any(folder, name)? {
            Some(stat) if sys::fs::file_type(&stat) == FileType::Directory => return Ok(()),
            Some(stat) if is_whiteout(&stat) => return replace_whiteout(folder, name),
            Some(_) => self.tree.clear(folder, name)?,
            None => {}
        }
        make_folder(folder, name)
    }

    fn write_file<R: Read>(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        map: Option<&[(u64, u64)]>,
        content: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        // Holes take no space, but who copies the file may fill them.
        if entry.size > self.budget.limits.bytes {
            return Err(Refusal::from(LimitError::Bytes(self.budget.limits.bytes)).into());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let file = self.retry_cleared(folder, name, || entry::open(folder, name, flags, 0o600, how))?;
        let file = file.as_fd();
        match map {
            None => self.copy(content, entry.size, file)?,
            Some(map) => {
                for (offset, length) in map {
                    entry::seek(file, *offset)?;
                    self.copy(content, *length, file)?;
                }
                entry::set_length(file, entry.size)?;
            }
        }
        self.set_attributes(folder, name, entry)?;
        let (access, change) = times(entry);
        Ok(entry::set_times_of(file, access, change)?)
    }

    fn copy<R: Read>(&mut self, from: &mut Reader<R>, mut left: u64, to: BorrowedFd<'_>) -> Result<(), ExtractError> {
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match from.read(&mut self.buffer[..want]) {
                Ok(0) => return Err(ExtractError::Content(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ExtractError::Content(error)),
            };
            // Before the bytes are on disk: a bound that is passed by one write is no bound.
            self.budget.take_bytes(count as u64).map_err(Refusal::from)?;
            sys::fs::write_all(to, &self.buffer[..count])?;
            self.summary.bytes += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    fn make_link(&mut self, folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), ExtractError> {
        let target = parse_path(&entry.link, self.budget.limits.depth)?;
        let Some((folders, old)) = target.split() else { return Err(Refusal::NoTarget.into()) };
        let missing = || Refusal::Target(entry.link.clone());
        let old_folder = match self.tree.existing_folder(folders) {
            Err(ExtractError::Call(error)) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => {
                return Err(missing().into());
            }
            other => other?,
        };
        let stat = stat_if_any(old_folder.as_fd(), old)?.ok_or_else(missing)?;
        if is_whiteout(&stat) {
            return Err(missing().into());
        }
        if sys::fs::file_type(&stat) == FileType::Directory {
            return Err(Refusal::FolderLink(entry.link.clone()).into());
        }
        if let Some(here) = stat_if_any(folder, name)?
            && (here.st_dev, here.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.retry_cleared(folder, name, || entry::link(old_folder.as_fd(), old, folder, name))
    }

    fn make_node(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        kind: FileType,
    ) -> Result<(), ExtractError> {
        let device = match kind {
            FileType::Fifo => 0,
            _ => {
                self.budget.take_device().map_err(Refusal::from)?;
                sys::fs::makedev(entry.device.0, entry.device.1)
            }
        };
        if (kind, device) == (FileType::CharacterDevice, 0) {
            // Overlay takes it for a name that is gone: it becomes what a whiteout becomes, and nothing else.
            self.leave_out("owner, mode and times of devices 0:0, which say that a name is gone", entry);
            return self.retry_cleared(folder, name, || entry::mknod(folder, name, kind, 0, device));
        }
        self.retry_cleared(folder, name, || entry::mknod(folder, name, kind, 0o600, device))?;
        self.set_attributes(folder, name, entry)?;
        set_times(folder, name, entry)
    }

    /// Owner, attributes and mode, in this order: a new owner takes set-user-id and file capabilities away.
    fn set_attributes(&mut self, folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), ExtractError> {
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Refusal::Id(id));
        entry::chown(folder, name, id(entry.uid)?, id(entry.gid)?)?;
        for (key, value) in &entry.xattrs {
            self.set_xattr(folder, name, entry, key, value)?;
        }
        if entry.kind != Kind::Symlink {
            entry::chmod(folder, name, entry.mode & 0o7777)?;
        }
        Ok(())
    }

    fn set_xattr(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), ExtractError> {
        // They would lead overlay to other places of the lower layers.
        if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
            self.leave_out("attributes that are overlay's own", entry);
            return Ok(());
        }
        if !is_taken(key) {
            self.leave_out(&format!("attribute {}, which is the host's to set", shown(key)), entry);
            return Ok(());
        }
        match entry::set_xattr(folder, name, key, value) {
            Err(error) if error.is(Errno::OPNOTSUPP) => {
                self.leave_out(&format!("attribute {}, which the file system has not", shown(key)), entry);
                Ok(())
            }
            // Linux allows attributes of users on files and folders alone.
            Err(error)
                if error.is(Errno::PERM)
                    && key.starts_with(b"user.")
                    && !matches!(entry.kind, Kind::File { .. } | Kind::Folder) =>
            {
                self.leave_out("attributes of users on what is neither file nor folder", entry);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn leave_out(&mut self, what: &str, entry: &Entry) {
        let (count, _) = self.left_out.entry(what.to_owned()).or_insert_with(|| (0, shown(&entry.path)));
        *count += 1;
    }

    /// Keeps the times of a folder for the end: each entry that is made in it changes them.
    fn note_times(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &EntryPath<'_>,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        let stat = entry::stat(folder, name)?;
        let path = if path.0.is_empty() { b".".to_vec() } else { path.0.join(&b'/') };
        let access = entry.atime.unwrap_or(entry.mtime);
        self.folders.push(FolderTimes { path, inode: (stat.st_dev, stat.st_ino), access, change: entry.mtime });
        Ok(())
    }

    fn finish(mut self) -> Result<Summary, ExtractError> {
        let root = self.tree.folder(&[])?;
        for FolderTimes { path, inode, access, change } in std::mem::take(&mut self.folders) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            let folder = match entry::open(root.as_fd(), &path, flags, 0, how) {
                // A later entry took its place.
                Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => continue,
                other => other?,
            };
            let stat = sys::fs::stat(folder.as_fd())?;
            if (stat.st_dev, stat.st_ino) == inode {
                entry::set_times(folder.as_fd(), b".", timespec(access), timespec(change))?;
            }
        }
        let notes = self.left_out.iter();
        self.summary.notes =
            notes.map(|(what, (count, first))| format!("left out: {what} ({count}, first {first})")).collect();
        Ok(self.summary)
    }
}

/// Whether an attribute may come from a layer: what programs in the container note, capabilities and access lists of files.
/// Labels of a security module and marks of the host's own programs (`trusted.*`) are the host's.
fn is_taken(key: &[u8]) -> bool {
    key.starts_with(b"user.") || key.starts_with(b"system.posix_acl_") || key == b"security.capability"
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

/// Times of the last access and the last change. An archive without the first has the second for both.
fn times(entry: &Entry) -> (Timespec, Timespec) {
    (timespec(entry.atime.unwrap_or(entry.mtime)), timespec(entry.mtime))
}

fn set_times(folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), ExtractError> {
    let (access, change) = times(entry);
    Ok(entry::set_times(folder, name, access, change)?)
}

/// How bytes are shown: as text, with what is none escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_host_do_not_come_from_layers() {
        for (key, expected) in [
            ("user.note", true),
            ("security.capability", true),
            ("system.posix_acl_access", true),
            ("system.posix_acl_default", true),
            ("security.selinux", false),
            ("security.ima", false),
            ("security.capability2", false),
            ("trusted.note", false),
            ("system.nfs4_acl", false),
            ("", false),
        ] {
            assert_eq!(is_taken(key.as_bytes()), expected, "{key}");
        }
    }
}
