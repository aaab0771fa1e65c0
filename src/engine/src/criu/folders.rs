//! The folder of the images and that of the log.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;

use sys::fs::OFlags;

use super::rpc::Options;
use crate::error::{Error, Result};

/// File in the folder of the images that names the three standard streams of the container. runc and crun write and read
/// the same.
const DESCRIPTORS: &str = "descriptors.json";

/// Both folders, open.
#[derive(Debug)]
pub(crate) struct Folders {
    images: OwnedFd,
    work: Option<OwnedFd>,
    /// Path of the one that gets the log.
    log_path: String,
}

impl Folders {
    /// Opens the folders. The one for the log is made where it is not there, that of the images only with `make`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open(images: &str, work: Option<&str>, make: bool) -> Result<Folders> {
        if make {
            make_folder(images, true)?;
        }
        if let Some(work) = work {
            make_folder(work, false)?;
        }
        Ok(Folders {
            images: sys::fs::open_dir(images)?,
            work: work.map(sys::fs::open_dir).transpose()?,
            log_path: work.unwrap_or(images).to_owned(),
        })
    }

    /// Opens the folders as [`Folders::open`] does and gives them away: CRIU mounts in the one for the log, which it can
    /// only where that was opened in its own mount namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open_inside(images: &str, work: Option<&str>) -> Result<Vec<OwnedFd>> {
        let folders = Folders::open(images, work, false)?;
        Ok([folders.images].into_iter().chain(folders.work).collect())
    }

    /// Takes what [`Folders::open_inside`] gave.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn adopt(folders: Vec<OwnedFd>, log_path: &str) -> Result<Folders> {
        let mut folders = folders.into_iter();
        let images = folders.next().ok_or_else(|| sys::Error::new("no folder came", sys::Errno::PROTO))?;
        Ok(Folders { images, work: folders.next(), log_path: log_path.to_owned() })
    }

    /// Names the folders in a request.
    pub(crate) fn fill(&self, options: &mut Options) {
        options.images_dir_fd = self.images.as_raw_fd();
        options.work_dir_fd = self.work.as_ref().map(AsRawFd::as_raw_fd);
    }

    /// Writes what the standard streams are, for the restore.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn write_descriptors(&self, streams: &[String]) -> Result<()> {
        // Where none is a pipe nothing was recorded, and nothing is connected again.
        let three = ["", "", ""].map(str::to_owned);
        let bytes = serde_json::to_vec(if streams.is_empty() { &three[..] } else { streams })
            .expect("a list of texts can be rendered");
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW;
        let file = sys::fs::open_at(self.images.as_fd(), DESCRIPTORS, flags, 0o600)?;
        Ok(sys::fs::write_all(file.as_fd(), &bytes)?)
    }

    /// Reads what [`Folders::write_descriptors`] wrote.
    ///
    /// # Errors
    /// What the kernel says, and bytes that are no list of texts.
    pub(crate) fn read_descriptors(&self) -> Result<Vec<String>> {
        let bytes = sys::fs::read_at(self.images.as_fd(), DESCRIPTORS)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Usage(format!("{DESCRIPTORS} in the folder of the images: {error}")))
    }

    /// The lines of a log that tell of errors, see [`error_lines`].
    pub(crate) fn errors(&self, log: &str) -> Option<String> {
        let folder = self.work.as_ref().unwrap_or(&self.images);
        let file = sys::fs::open_at(folder.as_fd(), log, OFlags::RDONLY | OFlags::NOFOLLOW, 0).ok()?;
        error_lines(&sys::fs::read_all(file.as_fd()).ok()?)
    }

    /// Where a log is, for people.
    pub(crate) fn log_path(&self, log: &str) -> String {
        format!("{}/{log}", self.log_path)
    }
}

fn make_folder(path: &str, with_parents: bool) -> Result<()> {
    match DirBuilder::new().recursive(with_parents).mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            let errno = error.raw_os_error().map_or(sys::Errno::IO, sys::Errno::from_raw_os_error);
            Err(sys::Error::new(format!("mkdir({path:?})"), errno).into())
        }
        _ => Ok(()),
    }
}

/// How many errors of a log are told. The first may be one that CRIU gets over; those after the cause follow from it.
const TOLD: usize = 3;

/// The first lines that tell of errors: `(00.008123) Error (criu/mount.c:701): mnt: …` without its time.
pub(super) fn error_lines(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let errors = text.lines().filter_map(|line| line.find("Error (").map(|at| line[at..].trim_end()));
    let told: Vec<&str> = errors.take(TOLD).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_a_log_are_found() {
        let log = b"(00.000001) Version: 4.2\n(00.01) Warn  (criu/a.c:1): odd\n\
            (00.02)      7: Error (criu/mount.c:701): mnt: 25:./data doesn't have a proper root mount\n\
            (00.03) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        let expected = "Error (criu/mount.c:701): mnt: 25:./data doesn't have a proper root mount; \
            Error (criu/cr-dump.c:2111): Dumping FAILED.";
        assert_eq!(error_lines(log).as_deref(), Some(expected));
        assert_eq!(error_lines("1 Error (a)\n".repeat(9).as_bytes()).unwrap().matches("Error").count(), 3);
        assert_eq!(error_lines(b"(00.01) Dumping finished successfully\n"), None);
        assert_eq!(error_lines(b"\xff\n"), None);
    }

    #[test]
    fn streams_come_back() {
        let path = std::env::temp_dir().join(format!("skep-images-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let folders = Folders::open(&format!("{path}/a/b"), Some(&format!("{path}/work")), true).unwrap();
        let streams = ["pipe:[1]", "/dev/null", "pipe:[2]"].map(str::to_owned);
        folders.write_descriptors(&streams).unwrap();
        assert_eq!(folders.read_descriptors().unwrap(), streams);
        folders.write_descriptors(&[]).unwrap();
        assert_eq!(folders.read_descriptors().unwrap(), ["", "", ""]);
        std::fs::write(format!("{path}/a/b/{DESCRIPTORS}"), "{}").unwrap();
        assert!(folders.read_descriptors().is_err());
        assert_eq!(folders.log_path("dump.log"), format!("{path}/work/dump.log"));
        std::fs::write(format!("{path}/work/dump.log"), "x Error (a): b\n").unwrap();
        assert_eq!(folders.errors("dump.log").as_deref(), Some("Error (a): b"));
        assert!(Folders::open(&format!("{path}/none"), None, false).is_err());
        std::fs::remove_dir_all(path).unwrap();
    }
}
