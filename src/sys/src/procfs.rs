//! The host's `/proc`, opened once and checked.
//!
//! Everything that is read or written under `/proc` goes through this handle: the mount was checked to be a procfs at its
//! root, and each path is resolved beneath it without symbolic links and without crossing into another mount, so that a
//! tree which a container arranged (or a mount that hides a file) can redirect nothing. A process keeps the handle when
//! it enters a container's mount namespace, and what it means by `self` stays this process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fs::{self, OFlags};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// Inode of a procfs root.
const PROC_ROOT_INO: u64 = 1;

/// Whether a file is on a procfs.
///
/// # Errors
/// What the kernel says.
pub fn is_procfs(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool> {
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)] // f_type differs by architecture.
    Ok(fs::statfs(fd)?.f_type as u64 == PROC_SUPER_MAGIC)
}

/// The handle.
#[derive(Debug)]
pub struct ProcFs {
    root: OwnedFd,
}

impl ProcFs {
    /// Opens `/proc` and checks that it is the root of a procfs.
    ///
    /// # Errors
    /// What the kernel says; ENODEV when something else is mounted there.
    pub fn open() -> Result<ProcFs> {
        let root = fs::open_dir("/proc")?;
        if !is_procfs(root.as_fd())? || fs::stat(root.as_fd())?.st_ino != PROC_ROOT_INO {
            return Err(Error::new("open(\"/proc\"): not the root of a procfs", Errno::NODEV));
        }
        Ok(ProcFs { root })
    }

    /// Opens a file, such as `12/uid_map` or `sys/net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// What the kernel says; EXDEV when a mount covers it.
    pub fn open_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        fs::open_beneath(self.root.as_fd(), path, flags)
            .map_err(|error| Error::new(format!("open(\"/proc/{path}\")"), error.errno()))
    }

    /// Reads a text file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, path: &str) -> Result<String> {
        let fd = self.open_file(path, OFlags::RDONLY)?;
        fs::read_all(fd.as_fd()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a value in one `write(2)`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        let fd = self.open_file(path, OFlags::WRONLY)?;
        fs::write_all(fd.as_fd(), value.as_bytes())
            .map_err(|error| Error::new(format!("write(\"/proc/{path}\", {value:?})"), error.errno()))
    }

    /// The folder of the calling thread, such as `12/task/12`, as this procfs numbers it.
    ///
    /// # Errors
    /// What the kernel says; ENOENT when this process is not in the pid namespace of the procfs.
    pub fn own_thread(&self) -> Result<String> {
        fs::readlink_at(self.root.as_fd(), "thread-self")
    }

    /// The folder of this process, such as `12`, as this procfs numbers it.
    ///
    /// # Errors
    /// As [`ProcFs::own_thread`].
    pub fn own_process(&self) -> Result<String> {
        let mut thread = self.own_thread()?;
        thread.truncate(thread.find('/').unwrap_or(thread.len()));
        Ok(thread)
    }

    /// The signals that this process ignores: bit n-1 is signal n.
    ///
    /// # Errors
    /// What the kernel says; EPROTO for a file without `SigIgn`.
    pub fn own_ignored_signals(&self) -> Result<u64> {
        let path = format!("{}/status", self.own_thread()?);
        let text = self.read(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .ok_or_else(|| Error::new(format!("read(\"/proc/{path}\"): no SigIgn"), Errno::PROTO))
    }

    /// Opens a namespace of a process, such as `net`.
    ///
    /// # Errors
    /// What the kernel says; ENOENT for a kind that the kernel does not have.
    pub fn open_namespace(&self, pid: i32, name: &str) -> Result<OwnedFd> {
        fs::open_at(self.root.as_fd(), &format!("{pid}/ns/{name}"), OFlags::RDONLY, 0)
    }

    /// Opens a namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_own_namespace(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("{}/ns/{name}", self.own_thread()?);
        fs::open_at(self.root.as_fd(), &path, OFlags::RDONLY, 0)
    }

    /// A new descriptor for the file behind an O_PATH descriptor of this process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reopen(&self, fd: std::os::fd::BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        let path = format!("{}/fd/{}", self.own_thread()?, fd.as_raw_fd());
        fs::open_at(self.root.as_fd(), &path, flags, 0)
    }

    /// What a symbolic link of this procfs says, such as `12/fd/0`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn link(&self, path: &str) -> Result<String> {
        fs::readlink_at(self.root.as_fd(), path)
    }

    /// Where the file behind a descriptor of this process is: a path in the mount namespace that it was found in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn path_of(&self, fd: std::os::fd::BorrowedFd<'_>) -> Result<String> {
        use std::os::fd::AsRawFd;
        self.link(&format!("{}/fd/{}", self.own_thread()?, fd.as_raw_fd()))
    }

    /// Opens the root folder of a process (O_PATH), in its mount namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_root(&self, pid: i32) -> Result<OwnedFd> {
        fs::open_at(self.root.as_fd(), &format!("{pid}/root"), OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// When a process started, in clock ticks since boot: with the pid it names a process for ever.
    ///
    /// # Errors
    /// What the kernel says; ENOENT or ESRCH when there is no such process.
    pub fn start_time(&self, pid: i32) -> Result<u64> {
        self.status(pid).map(|status| status.start_time)
    }

    /// Opens a process that is still the one that began at that time; `None` where it has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_process(&self, pid: i32, start_time: u64) -> Result<Option<OwnedFd>> {
        let pidfd = match crate::process::pidfd_open(pid) {
            Err(error) if error.is(Errno::SRCH) => return Ok(None),
            other => other?,
        };
        // Looked at once the descriptor holds the process: a pid that was used again shows another start.
        Ok(self.runs(pid, start_time).then_some(pidfd))
    }

    /// Whether a process is there, is the one that began at that time, and is not a zombie.
    #[must_use]
    pub fn runs(&self, pid: i32, start_time: u64) -> bool {
        self.status(pid).is_ok_and(|status| status.start_time == start_time && !matches!(status.state, 'Z' | 'X'))
    }

    /// State letter and start time of a process, from `/proc/PID/stat`.
    ///
    /// # Errors
    /// What the kernel says; ENOENT or ESRCH when there is no such process.
    pub fn status(&self, pid: i32) -> Result<ProcessStatus> {
        let path = format!("{pid}/stat");
        let text = self.read(&path)?;
        parse_stat(&text).ok_or_else(|| Error::new(format!("read(\"/proc/{path}\"): unknown format"), Errno::PROTO))
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStatus {
    /// `R`, `S`, `D`, `Z` (dead, not reaped), `X` (dead), `T`, `t`, `I`.
    pub state: char,
    /// Pid of the parent.
    pub parent: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// Reads a line of `/proc/PID/stat`. The command name in parentheses may itself hold parentheses and spaces.
fn parse_stat(text: &str) -> Option<ProcessStatus> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // starttime is field 22; state is field 3 and ppid field 4.
    let start_time = fields.nth(22 - 5)?.parse().ok()?;
    Some(ProcessStatus { state, parent, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let line = "7 (a) R 1 (b)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 1";
        assert_eq!(parse_stat(line), Some(ProcessStatus { state: 'S', parent: 1, start_time: 4242 }));
    }

    #[test]
    fn stat_cut_short() {
        assert_eq!(parse_stat("7 (a) S 1 7"), None);
    }

    #[test]
    fn own_start_time_is_known_and_stable() {
        let proc = ProcFs::open().unwrap();
        let pid = crate::process::own_pid();
        assert_eq!(proc.start_time(pid).unwrap(), proc.start_time(pid).unwrap());
        assert!(proc.start_time(0).is_err());
    }
}
