//! Waiting for the kernel to tell: poll with urgent data, event counters, inotify; and what file system a path is on.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::error::{Context, Result};

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It can be read without waiting (POLLIN): a pidfd whose process ended, an event counter, inotify.
    Readable,
    /// It changed since it was read last (POLLPRI): `cgroup.events`, `memory.events` and their like.
    Changed,
}

/// `ppoll(2)`: waits until one of the descriptors is ready, and tells which are. Empty when the time is up.
///
/// A descriptor that is in error or hung up counts as ready: the read that follows tells why.
///
/// # Errors
/// What the kernel says.
pub fn wait(fds: &[(BorrowedFd<'_>, Until)], timeout: Duration) -> Result<Vec<usize>> {
    let flags = |until| if until == Until::Readable { PollFlags::IN } else { PollFlags::PRI };
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|(fd, until)| PollFd::from_borrowed_fd(*fd, flags(*until))).collect();
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timespec = Timespec::try_from(left).map_err(|_| Errno::INVAL).call(|| format!("ppoll({left:?})"))?;
        match rustix::event::poll(&mut polled, Some(&timespec)) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| format!("ppoll({} fds, {left:?})", fds.len())),
            Ok(_) => break,
        }
    }
    let ready = |(index, fd): (usize, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(index);
    Ok(polled.iter().enumerate().filter_map(ready).collect())
}

/// `eventfd(2)`, non-blocking, at 0.
///
/// # Errors
/// What the kernel says.
pub fn event_counter() -> Result<OwnedFd> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).call(|| "eventfd(0)".to_owned())
}

/// Reads an event counter and sets it to 0. 0 where nothing happened.
///
/// # Errors
/// What the kernel says.
pub fn take_count(counter: BorrowedFd<'_>) -> Result<u64> {
    let mut bytes = [0; 8];
    loop {
        match rustix::io::read(counter, &mut bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            other => return other.map(|_| u64::from_ne_bytes(bytes)).call(|| "read(eventfd)".to_owned()),
        }
    }
}

/// An inotify instance that watches files for changes of their content, and folders for files that are closed.
#[derive(Debug)]
pub struct Modified {
    fd: OwnedFd,
}

impl Modified {
    /// `inotify_init1(2)`, non-blocking, and a watch for IN_MODIFY on each path.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch(paths: &[&str]) -> Result<Modified> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).call(|| "inotify_init1()".to_owned())?;
        let watch = Modified { fd };
        paths.iter().try_for_each(|path| watch.add(path))?;
        Ok(watch)
    }

    /// A watch for IN_MODIFY on one more path. One that is there already stays as it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, path: &str) -> Result<()> {
        inotify::add_watch(&self.fd, path, inotify::WatchFlags::MODIFY)
            .map(drop)
            .call(|| format!("inotify_add_watch({path:?}, IN_MODIFY)"))
    }

    /// A watch for IN_CLOSE_WRITE on what is in a folder: somebody who could write to a file there has closed it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_closed_in(&self, folder: &str) -> Result<()> {
        inotify::add_watch(&self.fd, folder, inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::ONLYDIR)
            .map(drop)
            .call(|| format!("inotify_add_watch({folder:?}, IN_CLOSE_WRITE)"))
    }

    /// Throws all pending events away and tells whether there was one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&self) -> Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(any),
                Err(errno) => return Err(errno).call(|| "read(inotify)".to_owned()),
            }
        }
    }
}

impl AsFd for Modified {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `statfs(2)`: the type number of the file system at a path, as in linux/magic.h.
///
/// # Errors
/// What the kernel says.
pub fn statfs_type(path: &str) -> Result<u64> {
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // f_type differs by architecture.
    rustix::fs::statfs(path).map(|stat| stat.f_type as u64).call(|| format!("statfs({path:?})"))
}
