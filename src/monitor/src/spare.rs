//! The spare: a copy of the monitor that holds what would be lost with it, waits, and takes its place.
//!
//! ```text
//! spare ══ pair ══ monitor ── skep run ──► first process
//!   │ subreaper       │ subreaper            child of the monitor; of the spare when the monitor has died
//!   └ pidfd, masters  └ pidfd, masters, slave, log, listener
//! ```
//!
//! Both have the lock of the run: as long as one lives the run has a monitor. Each sees at its end of the pair that the other
//! has died. The spare then goes on as the monitor; the monitor makes another spare. A copy costs what is written to after it
//! was made: its program and what it has read stay shared.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use sys::process::Cloned;

use crate::terminal::Terminal;

/// Messages of the monitor: what to hold, and that it is no longer needed.
const HOLD: u8 = b'H';
const DONE: u8 = b'D';
/// Longest message: a letter and a pid.
const LIMIT: usize = 32;

/// The monitor's end of the pair.
#[derive(Debug)]
pub struct Spare {
    /// Before its number is that of standard output, which is the caller's until the container runs.
    own: Option<OwnedFd>,
    /// The spare's, where it is this process's child.
    child: Option<i32>,
}

/// What a spare holds.
#[derive(Debug)]
pub struct Held {
    /// The container's first process.
    pub pid: i32,
    /// A descriptor of it.
    pub process: OwnedFd,
    /// The masters of its terminals, the console first.
    pub masters: Vec<OwnedFd>,
}

/// Which of the two a process is after it has been copied.
#[derive(Debug)]
pub enum Side {
    /// The one that goes on.
    Monitor(Spare),
    /// The one that waits.
    Waiting(Waiting),
}

/// A spare that waits.
#[derive(Debug)]
pub struct Waiting {
    /// The monitor's pid, where it is this process's child.
    monitor: Option<i32>,
}

/// Copies this process before there is a container: the one that was called becomes the spare, its child the monitor. So the
/// first process of the container becomes the spare's child when the monitor dies, and wait(2) tells how it ended.
///
/// # Errors
/// What the kernel says.
pub fn split() -> Result<Side> {
    sys::process::set_child_subreaper()?;
    let (ours, theirs) = sys::socket::pair()?;
    match sys::process::clone3(0, None)? {
        Cloned::Child => {
            drop(theirs);
            // A child is no subreaper because its parent is one.
            sys::process::set_child_subreaper()?;
            Ok(Side::Monitor(Spare { own: Some(ours), child: None }))
        }
        Cloned::Parent { pid, pidfd } => {
            drop((ours, pidfd));
            wait_at(theirs)?;
            Ok(Side::Waiting(Waiting { monitor: Some(pid) }))
        }
    }
}

/// Copies a monitor whose spare has died. The copy is its child: how the container ends it learns from the kernel, from 6.15 on.
///
/// # Errors
/// What the kernel says.
pub fn make() -> Result<Side> {
    let (ours, theirs) = sys::socket::pair()?;
    match sys::process::clone3(0, None)? {
        Cloned::Parent { pid, .. } => {
            sys::process::dup_onto(ours.as_fd(), PAIR)?;
            Ok(Side::Monitor(Spare { own: None, child: Some(pid) }))
        }
        Cloned::Child => {
            sys::process::set_child_subreaper()?;
            drop(ours);
            wait_at(theirs)?;
            // What the monitor has is not the copy's; its values are never dropped here.
            sys::process::close_all_but(vec![0, 1, 2])?;
            Ok(Side::Waiting(Waiting { monitor: None }))
        }
    }
}

/// Where either has its end of the pair: the number of standard output, which neither has any use for.
const PAIR: i32 = 1;

/// Lets go of the caller.
fn wait_at(pair: OwnedFd) -> Result<()> {
    sys::process::dup_onto(pair.as_fd(), PAIR)?;
    let null = null()?;
    Ok(sys::process::dup_onto(null.as_fd(), 2)?)
}

fn null() -> Result<std::fs::File> {
    OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")
}

impl Spare {
    /// Has it hold what it needs to take this one's place.
    ///
    /// # Errors
    /// What the kernel says; EPIPE when it has died.
    pub fn hold(&self, pid: i32, process: BorrowedFd<'_>, terminals: &[&Terminal]) -> sys::Result<()> {
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(process).chain(terminals.iter().map(|terminal| terminal.master())).collect();
        let message = [&[HOLD], pid.to_string().as_bytes()].concat();
        sys::socket::send(self.as_fd().as_fd(), &message, &fds)
    }

    /// Lets go of the caller, who waits until nobody has its pipe any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn leave_caller(&mut self) -> Result<()> {
        if let Some(own) = self.own.take() {
            sys::process::dup_onto(own.as_fd(), PAIR)?;
        }
        Ok(())
    }

    /// Sends it away: how the container ended is written down.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn dismiss(self) -> Result<()> {
        match sys::socket::send(self.as_fd().as_fd(), &[DONE], &[]) {
            Err(error) if error.is(sys::Errno::PIPE) => {}
            other => other?,
        }
        self.bury()
    }

    /// Takes note of its end, which has come or is about to.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bury(self) -> Result<()> {
        sys::process::dup_onto(null()?.as_fd(), PAIR)?;
        if let Some(pid) = self.child {
            sys::process::wait(pid)?;
        }
        Ok(())
    }

    /// The monitor's end of the pair.
    #[must_use]
    pub fn as_fd(&self) -> PairEnd<'_> {
        match &self.own {
            Some(own) => PairEnd::Own(own.as_fd()),
            None => PairEnd::Standard(std::io::stdout()),
        }
    }
}

/// See [`Spare::as_fd`].
#[derive(Debug)]
pub enum PairEnd<'a> {
    /// A descriptor of its own.
    Own(BorrowedFd<'a>),
    /// The one with the number of standard output.
    Standard(std::io::Stdout),
}

impl AsFd for PairEnd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            PairEnd::Own(fd) => *fd,
            PairEnd::Standard(stdout) => stdout.as_fd(),
        }
    }
}

impl Waiting {
    /// Waits until it is needed; `None` when it is not, or never was told what to hold.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(self) -> Result<Option<Held>> {
        let pair = std::io::stdout();
        let mut held = None;
        loop {
            let message = sys::socket::receive(pair.as_fd(), LIMIT)?;
            match &message.bytes[..] {
                [HOLD, pid @ ..] => held = parse_held(pid, message.fds),
                [DONE] => return Ok(None),
                [] => break,
                _ => {}
            }
        }
        if let Some(monitor) = self.monitor {
            // It has died: nothing else closes its end of the pair.
            sys::process::wait(monitor)?;
        }
        sys::process::dup_onto(null()?.as_fd(), PAIR)?;
        Ok(held)
    }
}

fn parse_held(pid: &[u8], fds: Vec<OwnedFd>) -> Option<Held> {
    let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
    let mut fds = fds.into_iter();
    let process = fds.next()?;
    Some(Held { pid, process, masters: fds.collect() })
}
