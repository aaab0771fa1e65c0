//! Reads an archive from a stream, entry by entry.

use std::io::{self, Read};

use super::header::{self, BLOCK, Header};
use super::pax::{self, Record};
use super::sparse::{self, Declared, InContent};
use super::{Entry, Kind, TarError, Time};

/// Most bytes that the extensions of one entry (long names, extended headers) have together: room for 16 attributes of the
/// greatest length (64 KiB).
const EXTENSION_MAX: u64 = 1 << 20;

/// An archive that is read once, from front to back.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes of the current content that nobody has read yet.
    content: u64,
    /// Zeros that fill the content's last block.
    padding: u64,
    ended: bool,
    /// The end was there, and not only no more bytes.
    marked: bool,
}

/// What extensions say of the entry that follows them.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<Record>,
    /// Bytes of all of them.
    size: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R) -> Reader<R> {
        Reader { source, at: 0, content: 0, padding: 0, ended: false, marked: false }
    }

    /// The next entry; none at the end. What nobody read of the content before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.content + self.padding)?;
            (self.content, self.padding) = (0, 0);
            let at = self.at;
            let Some(header) = self.next_header()? else { return Ok(None) };
            if !matches!(header.flag, b'x' | b'X' | b'L' | b'K' | b'g' | b'V') {
                return self.make_entry(header, extensions, at).map(Some);
            }
            extensions.size = extensions.size.saturating_add(header.size);
            let bytes = self.read_extension(&header, extensions.size, at)?;
            match header.flag {
                b'x' | b'X' => extensions.records.extend(pax::parse_records(&bytes, at)?),
                b'L' => extensions.name = Some(until_nul(bytes)),
                b'K' => extensions.link = Some(until_nul(bytes)),
                // Records for all entries and the name of a volume: no tool that makes images writes any that matter.
                _ => {}
            }
        }
    }

    /// Where the content of the current entry begins, in bytes from the start.
    pub(crate) fn content_at(&self) -> u64 {
        self.at
    }

    /// Fails where the bytes ended without the archive's end: whoever wrote them may have been killed between two entries.
    /// Some tools leave the end out, so this is for archives whose hash nobody knows.
    pub(crate) fn require_end(&self) -> Result<(), TarError> {
        if self.marked { Ok(()) } else { Err(TarError::NoEnd { at: self.at }) }
    }

    /// Reads what follows the archive's end, so that whoever watches the source has seen all of it.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        let at = self.at;
        io::copy(&mut self.source, &mut io::sink()).map(drop).map_err(|source| TarError::Read { at, source })
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.at;
        let Some(block) = self.read_block()? else {
            // Some tools leave the zeros out.
            self.ended = true;
            return Ok(None);
        };
        if !header::is_zero(&block) {
            return header::parse_header(&block, at).map(Some);
        }
        (self.ended, self.marked) = (true, true);
        match self.read_block()? {
            Some(block) if !header::is_zero(&block) => Err(TarError::AfterEnd { at: self.at }),
            _ => Ok(None),
        }
    }

    fn make_entry(&mut self, header: Header, extensions: Extensions, at: u64) -> Result<Entry, TarError> {
        let mut entry = Entry {
            path: extensions.name.unwrap_or(header.name),
            link: extensions.link.unwrap_or(header.link),
            kind: Kind::File { map: None },
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            size: header.size,
            mtime: Time { seconds: header.mtime, nanos: 0 },
            atime: None,
            device: header.device,
            xattrs: Vec::new(),
        };
        apply_records(&mut entry, &extensions.records, at)?;
        check_size(entry.size, at)?;
        entry.kind = parse_kind(header.flag, &entry.path, at)?;
        if !matches!(entry.kind, Kind::File { .. }) {
            // Content of anything else is not there, whatever the field says, as Go's reader has it.
            entry.size = 0;
            return Ok(entry);
        }
        self.content = entry.size;
        self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
        let declared = match header.sparse {
            Some(mut old) => {
                while old.extended {
                    let place = self.at;
                    let block = self.read_block()?.ok_or_else(|| ended(place))?;
                    let (pieces, more) = header::parse_sparse_block(&block, place)?;
                    sparse::extend(&mut old, pieces, more).map_err(|()| TarError::Sparse { at })?;
                }
                Some(Declared::Map(old.size, old.pieces))
            }
            None => sparse::parse_declared(&extensions.records).map_err(|()| TarError::Sparse { at })?,
        };
        if let Some(declared) = declared {
            self.apply_map(&mut entry, declared, at)?;
        }
        Ok(entry)
    }

    fn apply_map(&mut self, entry: &mut Entry, declared: Declared, at: u64) -> Result<(), TarError> {
        let (size, map) = match declared {
            Declared::Map(size, map) => (size, map),
            Declared::InContent(size) => (size, self.read_map(at)?),
        };
        check_size(size, at)?;
        let map = sparse::validate(map, size, self.content).map_err(|()| TarError::Sparse { at })?;
        entry.size = size;
        entry.kind = Kind::File { map: Some(map) };
        Ok(())
    }

    /// Reads the map in front of the content, which counts as content.
    fn read_map(&mut self, at: u64) -> Result<Vec<(u64, u64)>, TarError> {
        let mut map = InContent::default();
        loop {
            let place = self.at;
            let block = self.read_block()?.ok_or_else(|| ended(place))?;
            self.content = self.content.checked_sub(BLOCK as u64).ok_or(TarError::Sparse { at })?;
            if let Some(map) = map.push(&block).map_err(|()| TarError::Sparse { at })? {
                return Ok(map);
            }
        }
    }

    /// Reads an extension, with which those of its entry have `sum` bytes.
    fn read_extension(&mut self, header: &Header, sum: u64, at: u64) -> Result<Vec<u8>, TarError> {
        let size = header.size;
        if sum > EXTENSION_MAX {
            return Err(TarError::Extension { at, size: sum, limit: EXTENSION_MAX });
        }
        let mut bytes = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        let place = self.at;
        self.source.read_exact(&mut bytes).map_err(|source| TarError::Read { at: place, source })?;
        self.at += bytes.len() as u64;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    /// The next block; none at the end of the source. A part of a block is an error.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ended(self.at)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { at: self.at, source }),
            }
        }
        self.at += BLOCK as u64;
        Ok(Some(block))
    }

    fn skip(&mut self, count: u64) -> Result<(), TarError> {
        let at = self.at;
        let skipped = io::copy(&mut self.source.by_ref().take(count), &mut io::sink());
        let skipped = skipped.map_err(|source| TarError::Read { at, source })?;
        self.at += skipped;
        if skipped == count { Ok(()) } else { Err(ended(self.at)) }
    }
}

/// A source that can pass over bytes without reading them.
pub(crate) trait Skip {
    /// Passes over so many bytes, or those that are left. Returns how many.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

impl<R: Read + Skip> Reader<R> {
    /// Passes over the content of the current entry.
    pub(crate) fn pass_content(&mut self) -> Result<(), TarError> {
        let at = self.at;
        let skipped = self.source.skip(self.content).map_err(|source| TarError::Read { at, source })?;
        self.at += skipped;
        self.content -= skipped;
        Ok(())
    }
}

/// The content of the current entry: 0 bytes once it is all read.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= count as u64;
        self.at += count as u64;
        Ok(count)
    }
}

/// No file is longer: the kernel's offsets are signed. Sums of a size and a place in the archive do not overflow then.
fn check_size(size: u64, at: u64) -> Result<(), TarError> {
    if i64::try_from(size).is_ok() { Ok(()) } else { Err(TarError::Field { field: "size", at }) }
}

fn ended(at: u64) -> TarError {
    TarError::Read { at, source: io::ErrorKind::UnexpectedEof.into() }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

fn parse_kind(flag: u8, path: &[u8], at: u64) -> Result<Kind, TarError> {
    match flag {
        // V7 had no type for a folder.
        0 | b'0' | b'7' if path.ends_with(b"/") => Ok(Kind::Folder),
        0 | b'0' | b'7' | b'S' => Ok(Kind::File { map: None }),
        b'1' => Ok(Kind::HardLink),
        b'2' => Ok(Kind::Symlink),
        b'3' => Ok(Kind::Character),
        b'4' => Ok(Kind::Block),
        b'5' => Ok(Kind::Folder),
        b'6' => Ok(Kind::Fifo),
        _ => Err(TarError::Type { flag: char::from(flag), at }),
    }
}

/// Applies the records of extended headers. A later record takes the place of an earlier one; an empty value leaves what
/// the header says. Keys that say nothing of a file are passed over.
fn apply_records(entry: &mut Entry, records: &[Record], at: u64) -> Result<(), TarError> {
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            entry.xattrs.retain(|(known, _)| known != name);
            entry.xattrs.push((name.to_vec(), value.clone()));
            continue;
        }
        if value.is_empty() {
            continue;
        }
        let number = || pax::parse_decimal(value).ok_or(TarError::Record { at });
        let time = || pax::parse_time(value).ok_or(TarError::Record { at });
        match key.as_slice() {
            b"path" => entry.path = value.clone(),
            b"linkpath" => entry.link = value.clone(),
            b"size" => entry.size = number()?,
            b"uid" => entry.uid = number()?,
            b"gid" => entry.gid = number()?,
            b"mtime" => entry.mtime = time()?,
            b"atime" => entry.atime = Some(time()?),
            _ => {}
        }
    }
    // The path of a sparse file is one for readers that do not know what it is.
    if let Some((_, name)) = records.iter().rev().find(|(key, _)| key == b"GNU.sparse.name") {
        entry.path.clone_from(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
