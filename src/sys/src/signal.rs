//! Signals as descriptors, and what exec inherits of them.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::raw;

pub use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM, SIGWINCH};

/// Highest signal number.
pub const SIGNAL_MAX: i32 = 64;

fn full_set() -> libc::sigset_t {
    // SAFETY: a sigset_t is plain integers, and sigfillset initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

/// Blocks every signal and returns a descriptor that delivers them.
///
/// # Errors
/// What the kernel says.
pub fn take_all() -> Result<OwnedFd> {
    let set = full_set();
    // SAFETY: `set` is initialised and outlives the calls; signalfd returns a new descriptor or -1.
    let number = unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)
    };
    if number < 0 {
        return Err(Error::new("signalfd", raw::last_errno()));
    }
    // SAFETY: checked above to be a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has a program begin with no signal blocked, whatever [`take_all`] has blocked for its parent.
pub fn unblock_in(command: &mut Command) {
    let unblock = || {
        // SAFETY: a sigset_t is plain integers; `set` outlives the call, which is async-signal-safe.
        let code = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
        };
        if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure makes one call, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(unblock) };
}

/// Reads one signal from a descriptor of [`take_all`].
///
/// # Errors
/// What the kernel says.
pub fn next(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: a signalfd_siginfo is plain integers.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `info`.
    let got = unsafe { libc::read(fd.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), std::mem::size_of_val(&info)) };
    if got < 0 {
        return Err(Error::new("read(signalfd)", raw::last_errno()));
    }
    i32::try_from(info.ssi_signo).map_err(|_| rustix::io::Errno::INVAL).call(|| "read(signalfd)".to_owned())
}

/// Unblocks every signal and puts the ignored ones back to the default, as a program expects them at exec. Bit n-1 of the
/// mask is signal n, as [`ProcFs::own_ignored_signals`](crate::ProcFs::own_ignored_signals) has it.
pub fn reset(ignored: u64) {
    // SAFETY: `set` is initialised by sigemptyset; SIG_DFL has no handler that could run. The numbers that cannot be
    // changed (those of the C library) answer EINVAL, which changes nothing.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in (1..=SIGNAL_MAX).filter(|number| ignored >> (number - 1) & 1 == 1) {
            libc::signal(number, libc::SIG_DFL);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The signals that ask a program to end.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Whether a signal asks a program to end.
#[must_use]
pub fn asks_to_end(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// Makes the signals that ask a program to end do so, until an exec puts the default back.
///
/// The first process of a pid namespace ignores every signal that it has no handler for, so without this one that waits
/// for its start could not be ended but by SIGKILL. The exit status is 128 and the signal's number, as shells have it.
pub fn end_on_termination() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit may be called in a signal handler and runs nothing of this process.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in ENDING {
        // SAFETY: `end` has the signature of a handler and calls async-signal-safe functions alone.
        unsafe { libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// `kill(2)`.
///
/// # Errors
/// What the kernel says.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no pointer is passed.
    let result = unsafe { libc::kill(pid, signal) };
    if result < 0 { Err(raw::last_errno()).call(|| format!("kill({pid}, {signal})")) } else { Ok(()) }
}
