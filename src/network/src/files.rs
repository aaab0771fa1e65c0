//! Folders whose files are replaced as a whole and changed by one process at a time.

use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::Errno;
use sys::fs::{self, FileType, FlockOperation, OFlags};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// One that was not written by this library, or not by this version.
    #[error("{path} cannot be read")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// What the kernel says.
    #[error(transparent)]
    Call(#[from] sys::Error),
}

/// A folder of JSON files.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: OwnedFd,
    path: String,
}

/// Held while something is changed; dropping it, or the end of the process, lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: OwnedFd,
}

impl Folder {
    /// Opens a folder, and makes it and those above where they are not there. Root alone reads it.
    pub(crate) fn open(path: &str) -> Result<Folder, FileError> {
        for (position, _) in path.match_indices('/').filter(|(position, _)| *position > 0) {
            make_dir(&path[..position], 0o755)?;
        }
        make_dir(path, 0o700)?;
        let dir = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Folder { dir, path: path.to_owned() })
    }

    /// Waits for a lock, which is a file of its own.
    pub(crate) fn lock(&self, file: &str) -> Result<Lock, FileError> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW;
        let held = fs::open_at(self.dir.as_fd(), file, flags, 0o600)?;
        fs::flock(held.as_fd(), FlockOperation::LockExclusive)?;
        Ok(Lock { _held: held })
    }

    /// Names of its files, sorted; without those that begin with a dot.
    pub(crate) fn list(&self) -> Result<Vec<String>, FileError> {
        let files = fs::list(self.dir.as_fd(), ".")?.into_iter();
        let shown = files.filter(|(name, kind)| *kind == FileType::RegularFile && !name.starts_with('.'));
        let mut names: Vec<String> = shown.map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a file; None where there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, FileError> {
        let bytes = match fs::read_at(self.dir.as_fd(), file) {
            Err(error) if error.is(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let damaged = |source| FileError::Damaged { path: format!("{}/{file}", self.path), source };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Replaces a file as a whole: what a crash leaves is the old one or the new one.
    pub(crate) fn write<T: Serialize>(&self, file: &str, value: &T) -> Result<(), FileError> {
        let mut bytes = serde_json::to_vec_pretty(value).expect("plain data with text keys");
        bytes.push(b'\n');
        let new = format!(".{file}.new");
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW;
        let open = fs::open_at(self.dir.as_fd(), &new, flags, 0o600)?;
        fs::write_all(open.as_fd(), &bytes)?;
        fs::fsync(open.as_fd())?;
        fs::rename_at(self.dir.as_fd(), &new, self.dir.as_fd(), file)?;
        self.sync()
    }

    /// Deletes a file. One that is gone is no error.
    pub(crate) fn remove(&self, file: &str) -> Result<(), FileError> {
        match fs::unlink_at(self.dir.as_fd(), file) {
            Err(error) if !error.is(Errno::NOENT) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Has what was renamed and deleted outlive a crash of the machine.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        Ok(fs::fsync(self.dir.as_fd())?)
    }
}

fn make_dir(path: &str, mode: u32) -> Result<(), FileError> {
    match fs::mkdir_at(fs::CWD, path, mode) {
        Err(error) if !error.is(Errno::EXIST) => Err(error.into()),
        _ => Ok(()),
    }
}
