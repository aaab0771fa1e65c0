//! One terminal of a container: its master, and what is typed at it until the container reads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use sys::Errno;

/// Input that may wait for a terminal, in bytes: with as much, whoever types more waits.
const INPUT_MAX: usize = 64 << 10;
/// The same with what people have left behind who are gone.
const LEFT_MAX: usize = 1 << 20;

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// As long as it is open the master does not hang up (EIO) while nothing inside has the terminal open.
    slave: Option<OwnedFd>,
    input: Vec<u8>,
}

impl Terminal {
    /// A terminal by its master, whose calls no longer wait.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(master: OwnedFd) -> Result<Terminal> {
        sys::process::set_nonblocking(master.as_fd())?;
        Ok(Terminal { master, slave: None, input: Vec::new() })
    }

    /// Its master.
    #[must_use]
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Keeps it from hanging up, or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_open(&mut self, open: bool) -> Result<()> {
        self.slave = match (open, self.slave.take()) {
            (false, _) => None,
            (true, Some(slave)) => Some(slave),
            (true, None) => Some(sys::terminal::open_peer(self.master.as_fd())?),
        };
        Ok(())
    }

    /// Whether input waits for it.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes input if there is room for it. Whether it was taken.
    pub fn take(&mut self, data: &[u8]) -> bool {
        let fits = self.input.len() + data.len() <= INPUT_MAX;
        if fits {
            self.input.extend_from_slice(data);
            self.pass_on();
        }
        fits
    }

    /// Takes the last input of somebody who is gone, and cannot be made to wait.
    pub fn take_left(&mut self, data: &[u8]) {
        let room = LEFT_MAX.saturating_sub(self.input.len());
        self.input.extend_from_slice(&data[..data.len().min(room)]);
        self.pass_on();
    }

    /// Passes on what the terminal takes.
    pub fn pass_on(&mut self) {
        if self.input.is_empty() {
            return;
        }
        match sys::fs::write_some(self.master.as_fd(), &self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(error) if error.is(Errno::AGAIN) => {}
            // Nobody will read it any more.
            Err(_) => self.input.clear(),
        }
        if self.input.is_empty() {
            // A buffer that was needed once is not kept for the container's life.
            self.input = Vec::new();
        }
    }

    /// Takes output into `buffer`; its length, 0 where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        read(self.master.as_fd(), buffer)
    }
}

/// Takes output of a descriptor that does not wait; its length, 0 where there is none.
///
/// # Errors
/// What the kernel says.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    match sys::fs::read_some(fd, buffer) {
        // A terminal whose slaves are all closed says EIO.
        Err(error) if error.is(Errno::AGAIN) || error.is(Errno::IO) => Ok(0),
        other => Ok(other?),
    }
}
