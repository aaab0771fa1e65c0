//! A tree of files as an archive: the same tree makes the same bytes.
//!
//! Entries come in the order of their names, each folder before what is in it. What other mounts have is left out, and
//! sockets, which nothing can bring back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::entry::{self, ResolveFlags};
use sys::fs::{FileType, OFlags, Stat};

use crate::extract::shown;
use crate::remove::HERE;
use crate::tar::{Entry, Kind, Time, Writer};

/// Why a tree cannot be archived.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The kernel refused a call.
    #[error("cannot read {path}")]
    Call {
        /// The entry.
        path: String,
        /// Why.
        source: sys::Error,
    },
    /// The content could not be read or passed on.
    #[error("cannot copy {path}")]
    Copy {
        /// The entry.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The root of a layer is not there any more.
    #[error("{0} is gone")]
    Gone(String),
    /// A name means something else in a layer.
    #[error("{0} has a name that a layer keeps for what is gone")]
    Mark(String),
    /// The archive could not be ended.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// What overlay's own marks in a tree become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// Nothing: the tree is no layer. Names that would be taken for marks are refused.
    None,
    /// What images have: the tree is a layer or the upper of a container.
    Layer,
}

/// Writes a tree as an archive. Returns what was left out, a line each.
///
/// # Errors
/// [`TreeError`] for the first entry that cannot be read; one that vanishes meanwhile is left out.
pub fn write_tree<W: Write>(root: OwnedFd, marks: Marks, sink: W) -> Result<(W, Vec<String>), TreeError> {
    let mut walk = Walk::new(root, marks, sink);
    walk.write_root()?;
    // Folders whose entries are to come, the next one last: no depth is too great for it.
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let mut folders = walk.write_entries(&path)?;
        folders.reverse();
        pending.append(&mut folders);
    }
    walk.finish()
}

/// An archive that is being written.
pub(crate) struct Walk<W> {
    root: OwnedFd,
    marks: Marks,
    writer: Writer<W>,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    notes: Vec<String>,
}

impl<W: Write> Walk<W> {
    pub(crate) fn new(root: OwnedFd, marks: Marks, sink: W) -> Walk<W> {
        Walk { root, marks, writer: Writer::new(sink), links: HashMap::new(), notes: Vec::new() }
    }

    /// Writes the entry of the root, which is the first one.
    pub(crate) fn write_root(&mut self) -> Result<(), TreeError> {
        let top = self.root.try_clone().map_err(|source| TreeError::Copy { path: "/".into(), source })?;
        self.write_folder_entry(top.as_fd(), b"")
    }

    pub(crate) fn finish(self) -> Result<(W, Vec<String>), TreeError> {
        let sink = self.writer.finish().map_err(TreeError::Write)?;
        Ok((sink, self.notes))
    }

    /// Writes what is in a folder, and returns the folders among it, whose own entries are to follow.
    fn write_entries(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let at = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = match entry::open(self.root.as_fd(), at, flags, 0, HERE) {
            Err(error) if error.is(Errno::XDEV) => {
                self.notes.push(format!("left out: what is mounted on {}", shown(path)));
                return Ok(Vec::new());
            }
            Err(error) if error.is(Errno::NOENT) => return Ok(Vec::new()),
            other => other.map_err(called(path))?,
        };
        let mut names = entry::list(folder.as_fd()).map_err(called(path))?;
        names.sort();
        let mut folders = Vec::new();
        for name in names {
            let full = if path.is_empty() { name.clone() } else { [path, b"/", name.as_slice()].concat() };
            match entry::stat(folder.as_fd(), &name) {
                Err(error) if error.is(Errno::NOENT) => {}
                Err(error) => return Err(called(&full)(error)),
                Ok(stat) => {
                    if self.write_named(folder.as_fd(), &name, &full, &stat)? {
                        folders.push(full);
                    }
                }
            }
        }
        Ok(folders)
    }

    /// Writes one entry. Returns whether it is a folder, whose entries follow later.
    pub(crate) fn write_named(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        full: &[u8],
        stat: &Stat,
    ) -> Result<bool, TreeError> {
        if name.starts_with(b".wh.") {
            return Err(TreeError::Mark(shown(full)));
        }
        match self.write_entry(folder, name, full, stat) {
            // Gone since it was looked at.
            Err(TreeError::Call { source, .. }) if source.is(Errno::NOENT) => Ok(false),
            other => other,
        }
    }

    fn write_entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        full: &[u8],
        stat: &Stat,
    ) -> Result<bool, TreeError> {
        let kind = sys::fs::file_type(stat);
        if kind == FileType::Directory {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            // The root of another mount has its own attributes, which are those that count.
            let how = HERE - ResolveFlags::NO_XDEV;
            let opened = entry::open(folder, name, flags, 0, how).map_err(called(full))?;
            self.write_folder_entry(opened.as_fd(), full)?;
            return Ok(true);
        }
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 && self.marks == Marks::Layer {
            self.write_mark(full, &[b".wh.", name].concat())?;
            return Ok(false);
        }
        let mut written = self.make_entry(folder, name, full, stat)?;
        if stat.st_nlink > 1 {
            match self.links.get(&(stat.st_dev, stat.st_ino)) {
                Some(first) => {
                    written =
                        Entry { link: first.clone(), kind: Kind::HardLink, size: 0, xattrs: Vec::new(), ..written };
                    self.append(&written, &mut io::empty())?;
                    return Ok(false);
                }
                None => {
                    self.links.insert((stat.st_dev, stat.st_ino), full.to_vec());
                }
            }
        }
        match kind {
            FileType::RegularFile => self.write_file(folder, name, written, stat)?,
            FileType::Symlink => {
                written.kind = Kind::Symlink;
                written.link = entry::readlink(folder, name).map_err(called(full))?;
                self.append(&written, &mut io::empty())?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                written.kind = if kind == FileType::BlockDevice { Kind::Block } else { Kind::Character };
                written.device = (sys::fs::major(stat.st_rdev), sys::fs::minor(stat.st_rdev));
                self.append(&written, &mut io::empty())?;
            }
            FileType::Fifo => {
                written.kind = Kind::Fifo;
                self.append(&written, &mut io::empty())?;
            }
            _ => self.notes.push(format!("left out: {} (a socket)", shown(full))),
        }
        Ok(false)
    }

    fn write_folder_entry(&mut self, folder: BorrowedFd<'_>, full: &[u8]) -> Result<(), TreeError> {
        let stat = sys::fs::stat(folder).map_err(called(full))?;
        let mut written = self.make_entry(folder, b".", full, &stat)?;
        written.kind = Kind::Folder;
        written.path = if full.is_empty() { b"./".to_vec() } else { [full, b"/"].concat() };
        self.append(&written, &mut io::empty())?;
        let opaque = [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"];
        if self.marks == Marks::Layer {
            for name in opaque {
                match entry::get_xattr(folder, b".", name) {
                    Ok(value) if value == b"y" => return self.write_mark(full, b".wh..wh..opq").map(drop),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Writes a mark beside `full`, or in it where it is opaque itself.
    fn write_mark(&mut self, full: &[u8], mark: &[u8]) -> Result<(), TreeError> {
        let folder = if mark == b".wh..wh..opq" {
            full
        } else {
            full.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &full[..at])
        };
        let path = if folder.is_empty() { mark.to_vec() } else { [folder, b"/", mark].concat() };
        self.append(&Entry { path, mode: 0o600, ..Entry::default() }, &mut io::empty())
    }

    fn write_file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        mut written: Entry,
        stat: &Stat,
    ) -> Result<(), TreeError> {
        // Without waiting: it may be something else by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(entry::open(folder, name, flags, 0, HERE).map_err(called(&written.path))?);
        let has_holes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < written.size;
        if !has_holes {
            return self.append(&written, &mut &file);
        }
        let map = read_map(&file, written.size).map_err(called(&written.path))?;
        let mut pieces = Pieces { file: &file, map: map.clone().into_iter().collect() };
        written.kind = Kind::File { map: Some(map) };
        self.append(&written, &mut pieces)
    }

    fn make_entry(&self, folder: BorrowedFd<'_>, name: &[u8], full: &[u8], stat: &Stat) -> Result<Entry, TreeError> {
        let mut xattrs = Vec::new();
        match entry::list_xattrs(folder, name) {
            Err(error) if error.is(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(called(full)(error)),
            Ok(names) => {
                for key in names {
                    // Overlay's own attributes say something of one mount of one layer.
                    if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                        continue;
                    }
                    match entry::get_xattr(folder, name, &key) {
                        Err(error) if error.is(Errno::NODATA) => {}
                        other => xattrs.push((key, other.map_err(called(full))?)),
                    }
                }
            }
        }
        let is_file = sys::fs::file_type(stat) == FileType::RegularFile;
        Ok(Entry {
            path: full.to_vec(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            size: if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            mtime: Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
            xattrs,
            ..Entry::default()
        })
    }

    fn append(&mut self, written: &Entry, content: &mut dyn Read) -> Result<(), TreeError> {
        let appended = self.writer.append(written, content);
        appended.map_err(|source| TreeError::Copy { path: shown(&written.path), source })
    }
}

pub(crate) fn called(path: &[u8]) -> impl FnOnce(sys::Error) -> TreeError + use<> {
    let path = if path.is_empty() { "/".to_owned() } else { shown(path) };
    move |source| TreeError::Call { path, source }
}

/// The pieces of a file between its holes: where each begins, and its length.
pub(crate) fn read_map(file: &File, size: u64) -> sys::Result<Vec<(u64, u64)>> {
    let mut map = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = entry::next_data(file.as_fd(), at)? {
        let end = end.min(size);
        if start >= end {
            break;
        }
        map.push((start, end - start));
        at = end;
    }
    Ok(map)
}

/// The content of a file without its holes.
struct Pieces<'a> {
    file: &'a File,
    map: std::collections::VecDeque<(u64, u64)>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let Some((at, left)) = self.map.front_mut() else { return Ok(0) };
        let want = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..want], *at)?;
        *at += count as u64;
        *left -= count as u64;
        if *left == 0 {
            self.map.pop_front();
        }
        Ok(count)
    }
}
