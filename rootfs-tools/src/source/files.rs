//! The files of an image's layout: in a folder, or inside an archive without unpacking it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sys::Errno;
use sys::fs::{FileType, OFlags};

use crate::limits::LimitError;
use crate::tar::{Kind, Reader, TarError};

use super::SourceError;

/// A file of a layout, opened, with its length in bytes.
pub(crate) type Opened<'a> = (Box<dyn Read + Send + 'a>, u64);

/// Files by their names in the layout, which may be opened by several threads at once.
pub(crate) trait Files: Sync {
    /// Opens a file; none where there is no such file.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, SourceError>;

    /// Opens a file whose length its name's owner knows.
    fn open_sized(&self, name: &str, _size: u64) -> Result<Option<Opened<'_>>, SourceError> {
        self.open(name)
    }

    /// Reads a document, which is no longer than `limit` bytes.
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let Some((mut file, size)) = self.open(name)? else { return Ok(None) };
        if size > limit {
            return Err(LimitError::Document(limit).into());
        }
        let mut bytes = Vec::new();
        // Its length may be another by now.
        let read = file.by_ref().take(limit).read_to_end(&mut bytes);
        read.map(|_| Some(bytes)).map_err(|source| SourceError::Read { name: name.to_owned(), source })
    }
}

/// A layout in a folder. No name leads out of it.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Folder, SourceError> {
        let opened = sys::fs::open_dir(&path.to_string_lossy());
        opened.map(Folder).map_err(|error| read_error(&path.display().to_string(), &error))
    }
}

impl Files for Folder {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, SourceError> {
        let failed = |error: sys::Error| read_error(name, &error);
        // Without waiting: a FIFO here is no file.
        let file = match sys::fs::open_in_root(self.0.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let stat = sys::fs::stat(file.as_fd()).map_err(failed)?;
        if sys::fs::file_type(&stat) != FileType::RegularFile {
            return Err(SourceError::Unsupported(format!("{name} is no regular file")));
        }
        Ok(Some((Box::new(File::from(file)), u64::try_from(stat.st_size).unwrap_or(0))))
    }
}

/// A layout in an archive that is not compressed as a whole.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    /// Where the content of each file is: first byte and length.
    places: BTreeMap<String, (u64, u64)>,
    /// Symbolic links among them: docker saves a layer that two images share once.
    links: BTreeMap<String, String>,
}

impl Archive {
    /// Reads the headers alone. At most `limit` entries.
    pub(crate) fn index(file: File, limit: u64) -> Result<Archive, SourceError> {
        let mut archive = Archive { file, places: BTreeMap::new(), links: BTreeMap::new() };
        let length = archive.file.metadata().map_err(|source| read("the archive", source))?.len();
        let mut reader = Reader::new(Seeking { file: &archive.file, at: 0, length });
        let mut entries = 0;
        while let Some(entry) = reader.next()? {
            entries += 1;
            if entries > limit {
                return Err(LimitError::Entries(limit).into());
            }
            let Some(name) = parse_member(&entry.path) else { continue };
            match entry.kind {
                Kind::File { map: None } => {
                    let at = reader.content_at();
                    if at.checked_add(entry.size).is_none_or(|end| end > length) {
                        return Err(TarError::Read { at, source: io::ErrorKind::UnexpectedEof.into() }.into());
                    }
                    archive.places.insert(name, (at, entry.size));
                    reader.pass_content()?;
                }
                Kind::Symlink => {
                    if let Some(target) = parse_member(&join(&name, &entry.link)) {
                        archive.links.insert(name, target);
                    }
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, SourceError> {
        let name = self.links.get(name).map_or(name, String::as_str);
        let Some((at, length)) = self.places.get(name) else { return Ok(None) };
        Ok(Some((Box::new(Seeking { file: &self.file, at: *at, length: at + length }), *length)))
    }
}

/// A part of a file that is read without moving the file's position, which others share.
pub(crate) struct Seeking<'a> {
    pub(crate) file: &'a File,
    pub(crate) at: u64,
    /// Where it ends.
    pub(crate) length: u64,
}

impl Read for Seeking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let want = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl crate::tar::Skip for Seeking<'_> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let skipped = count.min(self.length - self.at);
        self.at += skipped;
        Ok(skipped)
    }
}

/// The name of a file in a layout, with `.` and `..` taken away; none for what leads out or is no text.
fn parse_member(path: &[u8]) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in std::str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The target of a link, seen from the layout's root.
fn join(link: &str, target: &[u8]) -> Vec<u8> {
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    [folder.as_bytes(), b"/", target].concat()
}

fn read_error(name: &str, error: &sys::Error) -> SourceError {
    read(name, io::Error::from_raw_os_error(error.errno().raw_os_error()))
}

fn read(name: &str, source: io::Error) -> SourceError {
    SourceError::Read { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Entry, Writer};

    #[test]
    fn members_have_one_name() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(parse_member(path.as_bytes()).as_deref(), expected);
        check("./a//b", Some("a/b"));
        check("a/../b", Some("b"));
        check("../b", None);
        check("./", None);
        assert_eq!(join("x/layer.tar", b"../y/layer.tar"), b"x/../y/layer.tar");
    }

    #[test]
    fn files_in_an_archive_are_found_by_name() {
        let mut writer = Writer::new(tempfile::tempfile().unwrap());
        let mut add = |path: &str, content: &[u8]| {
            let entry = Entry { path: path.into(), size: content.len() as u64, ..Entry::default() };
            writer.append(&entry, &mut &content[..]).unwrap();
        };
        add("./a/layer.tar", &[7; 1000]);
        add("manifest.json", b"{}");
        let link = Entry {
            path: b"b/layer.tar".to_vec(),
            link: b"../a/layer.tar".to_vec(),
            kind: Kind::Symlink,
            ..Entry::default()
        };
        writer.append(&link, &mut io::empty()).unwrap();
        let archive = Archive::index(writer.finish().unwrap(), 10).unwrap();
        assert_eq!(archive.document("manifest.json", 10).unwrap().unwrap(), b"{}");
        assert_eq!(archive.document("b/layer.tar", 1000).unwrap().unwrap(), [7; 1000]);
        assert!(matches!(archive.document("a/layer.tar", 999), Err(SourceError::Limit(LimitError::Document(999)))));
        assert!(archive.document("layer.tar", 10).unwrap().is_none());
    }

    #[test]
    fn a_folder_does_not_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        let layout = folder.path().join("layout");
        std::fs::create_dir(&layout).unwrap();
        std::os::unix::fs::symlink("../secret", layout.join("index.json")).unwrap();
        let files = Folder::open(&layout).unwrap();
        assert!(files.open("index.json").unwrap().is_none());
        assert!(files.open("../secret").unwrap().is_none());
        assert!(matches!(Folder::open(&folder.path().join("none")), Err(SourceError::Read { .. })));
    }
}
