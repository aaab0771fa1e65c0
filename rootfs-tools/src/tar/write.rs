//! Writes an archive: ustar headers, with pax records for what they cannot say.

use std::io::{self, Read, Write};

use super::header::BLOCK;
use super::{Entry, Kind, Time};

/// Greatest value of a field of 7 and of 11 octal digits.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// An archive that is written once, from front to back. The same entries make the same bytes.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(sink: W) -> Writer<W> {
        Writer { sink }
    }

    /// Writes an entry. Of a file, `content` has the bytes: all of them, or with a map those of its pieces, one after
    /// the other.
    ///
    /// # Errors
    /// What the sink or the content says; UnexpectedEof where the content is shorter than the entry says.
    pub(crate) fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let map = match &entry.kind {
            Kind::File { map: Some(map) } => {
                Some((render_map(map, entry.size), map.iter().map(|(_, length)| length).sum::<u64>()))
            }
            _ => None,
        };
        let (front, size) = match map {
            Some((front, pieces)) => {
                let size = front.len() as u64 + pieces;
                (front, size)
            }
            None => (Vec::new(), entry.size),
        };
        let records = render_records(entry, size);
        if !records.is_empty() {
            let header = render_header(b"pax", b"", b'x', 0o644, records.len() as u64, &Entry::default());
            self.sink.write_all(&header)?;
            self.write_padded(&records)?;
        }
        let flag = match entry.kind {
            Kind::File { .. } => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Character => b'3',
            Kind::Block => b'4',
            Kind::Folder => b'5',
            Kind::Fifo => b'6',
        };
        self.sink.write_all(&render_header(&entry.path, &entry.link, flag, entry.mode, size, entry))?;
        if !matches!(entry.kind, Kind::File { .. }) {
            return Ok(());
        }
        self.sink.write_all(&front)?;
        let wanted = size - front.len() as u64;
        if io::copy(&mut content.take(wanted), &mut self.sink)? != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.sink.write_all(&[0; BLOCK][..padding(size)])
    }

    /// Ends the archive and returns the sink.
    ///
    /// # Errors
    /// What the sink says.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn write_padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.sink.write_all(&[0; BLOCK][..padding(bytes.len() as u64)])
    }
}

fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The map of a sparse file as format 1.0 has it in front of the content: decimal lines, padded to a block.
///
/// A file that ends in a hole ends in a piece without length: GNU tar asks for it.
fn render_map(map: &[(u64, u64)], size: u64) -> Vec<u8> {
    let end = map.last().is_none_or(|(offset, length)| offset + length < size).then_some((size, 0));
    let mut text = format!("{}\n", map.len() + usize::from(end.is_some()));
    for (offset, length) in map.iter().chain(&end) {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// The records for what a ustar header cannot say, attributes in the order of their names.
fn render_records(entry: &Entry, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut push = |key: &[u8], value: &[u8]| records.extend(render_record(key, value));
    if let Kind::File { map: Some(_) } = entry.kind {
        push(b"GNU.sparse.major", b"1");
        push(b"GNU.sparse.minor", b"0");
        push(b"GNU.sparse.name", &entry.path);
        push(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    }
    if entry.path.len() > 100 {
        push(b"path", &entry.path);
    }
    if entry.link.len() > 100 {
        push(b"linkpath", &entry.link);
    }
    if size > OCTAL_11 {
        push(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > OCTAL_7 {
            push(key, id.to_string().as_bytes());
        }
    }
    if entry.mtime.nanos != 0
        || u64::try_from(entry.mtime.seconds).is_ok_and(|s| s > OCTAL_11)
        || entry.mtime.seconds < 0
    {
        push(b"mtime", render_time(entry.mtime).as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        push(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// A record, whose length counts its own digits.
fn render_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// Seconds with a fraction, without zeros at its end.
fn render_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = match time.seconds {
        seconds if seconds >= 0 => ("", seconds, time.nanos),
        seconds => ("-", -(seconds + 1), 1_000_000_000 - time.nanos),
    };
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

fn render_header(name: &[u8], link: &[u8], flag: u8, mode: u32, size: u64, entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    // What does not fit stands in the records; a reader that knows none of them has at least the beginning.
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{:07o}", mode & 0o7777).as_bytes());
    let small = |value: u64| if value > OCTAL_7 { 0 } else { value };
    put(108, format!("{:07o}", small(entry.uid)).as_bytes());
    put(116, format!("{:07o}", small(entry.gid)).as_bytes());
    put(124, format!("{:011o}", if size > OCTAL_11 { 0 } else { size }).as_bytes());
    let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= OCTAL_11).unwrap_or(0);
    put(136, format!("{seconds:011o}").as_bytes());
    put(156, &[flag]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    if matches!(flag, b'3' | b'4') {
        put(329, format!("{:07o}", entry.device.0).as_bytes());
        put(337, format!("{:07o}", entry.device.1).as_bytes());
    }
    put(148, b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

impl Default for Entry {
    fn default() -> Entry {
        Entry {
            path: Vec::new(),
            link: Vec::new(),
            kind: Kind::File { map: None },
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}
