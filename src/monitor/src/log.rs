//! What a container writes: a log that never grows beyond its bound, and its end in memory for who attaches.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of output that somebody who attaches sees of what was before.
const TAIL: usize = 8 << 10;

/// The last of the output.
#[derive(Debug, Default)]
pub struct Tail(VecDeque<u8>);

impl Tail {
    /// Adds output; what is too old is forgotten.
    pub fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(TAIL)..];
        let surplus = (self.0.len() + data.len()).saturating_sub(TAIL);
        self.0.drain(..surplus);
        self.0.extend(data);
    }

    /// What stands at the end of a log.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of_log(path: &Path) -> std::io::Result<Tail> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL as u64)))?;
        let mut text = Vec::new();
        file.take(TAIL as u64).read_to_end(&mut text)?;
        Ok(Tail(text.into()))
    }

    /// All of it, the oldest first.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        self.0.iter().copied().collect()
    }
}

/// A log that is put aside when it has reached its size.
///
/// A container must never stand still or end because its log cannot be written: what cannot be is counted, and the count
/// is written when it can be again.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    files: u32,
    lost: u64,
}

impl Log {
    /// Opens a log, which is made if it is not there. `limit` is a size in bytes, 0 for none; `files` is how many old ones
    /// are kept, as `PATH.1` (the newest) and so on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &Path, limit: u64, files: u32) -> Result<Log> {
        let file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
        Ok(Log { path: path.to_owned(), file: Some(file), size, limit, files, lost: 0 })
    }

    /// Adds output.
    pub fn write(&mut self, data: &[u8]) {
        if self.limit > 0 && self.size > 0 && self.size + data.len() as u64 > self.limit && self.rotate().is_err() {
            // Better a log that is too long than none; the next write tries again.
            self.file = self.file.take().or_else(|| open(&self.path).ok());
        }
        if self.lost > 0 {
            let note = format!("\n[skep: {} bytes of output could not be written]\n", self.lost);
            if !self.append(note.as_bytes()) {
                self.lost += data.len() as u64;
                return;
            }
            self.lost = 0;
        }
        if !self.append(data) {
            self.lost += data.len() as u64;
        }
    }

    /// Whether it was written, whole.
    fn append(&mut self, data: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        let written = file.write_all(data).is_ok();
        if written {
            self.size += data.len() as u64;
        }
        written
    }

    fn rotate(&mut self) -> Result<()> {
        // Where somebody took it away, or the last rotation got no further, what is kept stays.
        if fs::symlink_metadata(&self.path).is_ok() {
            sys::fs::put_aside(self.path.to_str().context("the log's name is no text")?, self.files)?;
        }
        self.size = 0;
        self.file = None;
        self.file = Some(open(&self.path)?);
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_within_its_size_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 10, 2).unwrap();
        for text in ["12345678", "90", "abc", "0123456789", "x"] {
            log.write(text.as_bytes());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("log"), read("log.1"), read("log.2")), ("x".into(), "0123456789".into(), "abc".into()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        // One that goes on knows how long it is.
        Log::open(&path, 10, 2).unwrap().write(b"123456789A");
        assert_eq!((read("log"), read("log.1")), ("123456789A".into(), "x".into()));
    }

    #[test]
    fn a_log_that_was_taken_away_begins_anew_and_the_old_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 4, 2).unwrap();
        log.write(b"1234");
        log.write(b"5678");
        fs::remove_file(&path).unwrap();
        log.write(b"9");
        assert_eq!(fs::read(&path).unwrap(), b"9");
        assert_eq!(fs::read(dir.path().join("log.1")).unwrap(), b"1234");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn without_old_ones_a_log_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 4, 0).unwrap();
        log.write(b"1234");
        log.write(b"5");
        assert_eq!(fs::read(&path).unwrap(), b"5");
        let mut endless = Log::open(&path, 0, 0).unwrap();
        endless.write(&[b'x'; 100]);
        assert_eq!(fs::read(&path).unwrap().len(), 101);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        let good = log.file.replace(OpenOptions::new().append(true).open("/dev/full").unwrap());
        log.write(b"one");
        log.write(b"four");
        log.file = good;
        log.write(b"five");
        assert_eq!(fs::read_to_string(&path).unwrap(), "\n[skep: 7 bytes of output could not be written]\nfive");
    }

    #[test]
    fn the_tail_is_the_last_of_it() {
        let mut tail = Tail::default();
        for number in 0..3000 {
            tail.push(format!("{number}\n").as_bytes());
        }
        let text = String::from_utf8(tail.read()).unwrap();
        assert!(text.len() == TAIL && text.ends_with("2998\n2999\n"));
        tail.push(&vec![b'y'; TAIL * 3]);
        assert_eq!(tail.read(), vec![b'y'; TAIL]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (text, expected) in [("short".to_owned(), "short"), (format!("{}end", "x".repeat(TAIL)), "xend")] {
            fs::write(&path, &text).unwrap();
            let read = String::from_utf8(Tail::of_log(&path).unwrap().read()).unwrap();
            assert!(read.len() <= TAIL && read.ends_with(expected), "{} bytes", read.len());
        }
    }
}
