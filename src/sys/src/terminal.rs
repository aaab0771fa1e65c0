//! Pseudo terminals.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::{Context, Error, Result};
use crate::raw;

/// Settings of a terminal, to be put back later.
#[derive(Debug, Clone)]
pub struct Settings(Termios);

/// Magic number of devpts.
pub const DEVPTS_MAGIC: u64 = 0x1cd1;

/// The two ends of a new pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side that a person's terminal is joined with.
    pub master: OwnedFd,
    /// The side that the process sees.
    pub slave: OwnedFd,
    /// Number of the slave, its name under `/dev/pts`.
    pub number: u32,
}

/// Opens a new pseudo terminal of the devpts instance whose `ptmx` this descriptor (O_PATH is enough) stands for.
///
/// The master is checked to be the multiplexer of a devpts (character device 5:2 on that file system), and the slave is
/// opened through the master (TIOCGPTPEER), so that no path of the container's is looked up.
///
/// # Errors
/// What the kernel says; ENODEV when it is not a devpts multiplexer.
pub fn open_pty(proc: &crate::ProcFs, ptmx: BorrowedFd<'_>) -> Result<Pty> {
    let stat = crate::fs::stat(ptmx)?;
    let is_ptmx = crate::fs::file_type(&stat) == crate::fs::FileType::CharacterDevice
        && crate::fs::major(stat.st_rdev) == 5
        && crate::fs::minor(stat.st_rdev) == 2;
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)] // f_type differs in width and sign by architecture.
    let on_devpts = crate::fs::statfs(ptmx)?.f_type as u64 == DEVPTS_MAGIC;
    if !is_ptmx || !on_devpts {
        return Err(Error::new("open of a ptmx that is not the multiplexer of a devpts", Errno::NODEV));
    }
    let master = proc.reopen(ptmx, crate::fs::OFlags::RDWR | crate::fs::OFlags::NOCTTY)?;
    pty_of(master)
}

fn pty_of(master: OwnedFd) -> Result<Pty> {
    rustix::pty::unlockpt(&master).call(|| "ioctl(TIOCSPTLCK)".to_owned())?;
    let slave = open_peer(master.as_fd())?;
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN stores one unsigned int at the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) };
    if result < 0 {
        return Err(raw::last_errno()).call(|| "ioctl(TIOCGPTN)".to_owned());
    }
    Ok(Pty { master, slave, number })
}

/// Opens the slave of a master, by no path (TIOCGPTPEER).
///
/// # Errors
/// What the kernel says.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::pty::ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .call(|| "ioctl(TIOCGPTPEER)".to_owned())
}

/// Makes a terminal the controlling one of the calling session leader.
///
/// # Errors
/// What the kernel says.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).call(|| "ioctl(TIOCSCTTY)".to_owned())
}

/// Sets the size in characters.
///
/// # Errors
/// What the kernel says.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).call(|| format!("ioctl(TIOCSWINSZ, {rows}, {columns})"))
}

/// The size in characters: rows, columns.
///
/// # Errors
/// What the kernel says; ENOTTY for what is no terminal.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).call(|| "ioctl(TIOCGWINSZ)".to_owned())?;
    Ok((size.ws_row, size.ws_col))
}

/// `tcsetpgrp(3)`: what is typed at a terminal is for this process group.
///
/// # Errors
/// What the kernel says; ENOTTY where it is no terminal of the caller's session, EPERM for a group of another one.
pub fn set_foreground(terminal: BorrowedFd<'_>, group: i32) -> Result<()> {
    let call = || format!("tcsetpgrp({group})");
    let group = rustix::process::Pid::from_raw(group).ok_or(rustix::io::Errno::INVAL).call(call)?;
    rustix::termios::tcsetpgrp(terminal, group).call(call)
}

/// Whether a descriptor is a terminal.
#[must_use]
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

/// Passes every byte on as it is, and returns the settings from before.
///
/// # Errors
/// What the kernel says.
pub fn make_raw(terminal: BorrowedFd<'_>) -> Result<Settings> {
    let before = rustix::termios::tcgetattr(terminal).call(|| "tcgetattr".to_owned())?;
    let mut now = before.clone();
    now.make_raw();
    rustix::termios::tcsetattr(terminal.as_fd(), OptionalActions::Now, &now).call(|| "tcsetattr".to_owned())?;
    Ok(Settings(before))
}

/// Puts settings back.
///
/// # Errors
/// What the kernel says.
pub fn restore(terminal: BorrowedFd<'_>, settings: &Settings) -> Result<()> {
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings.0).call(|| "tcsetattr".to_owned())
}

/// Clears ONLCR, so that the reader of a master sees `\n` where the process wrote `\n`.
///
/// # Errors
/// What the kernel says.
pub fn clear_onlcr(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut settings = rustix::termios::tcgetattr(terminal).call(|| "tcgetattr".to_owned())?;
    settings.output_modes.remove(rustix::termios::OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings).call(|| "tcsetattr".to_owned())
}
