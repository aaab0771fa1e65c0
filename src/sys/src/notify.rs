//! The agent's side of seccomp notifications: the ioctls on the descriptor that a filter with `NEW_LISTENER` gives.
//!
//! The runtime only passes that descriptor on, so this is built for agents alone (feature `agent`), such as that of the
//! tests.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::raw;

const NOTIF_RECV: usize = 0xc050_2100;
const NOTIF_SEND: usize = 0xc018_2101;
const NOTIF_ID_VALID: usize = 0x4008_2102;
const NOTIF_ADDFD: usize = 0x4018_2103;
const USER_NOTIF_FLAG_CONTINUE: u32 = 1;
const ADDFD_FLAG_SEND: u32 = 1 << 1;

/// A call that waits for its answer, laid out as `struct seccomp_notif`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Notification {
    /// Names the notification.
    pub id: u64,
    /// The thread that makes the call, as the agent's pid namespace numbers it.
    pub pid: u32,
    /// None so far.
    pub flags: u32,
    /// Number of the system call.
    pub call: i32,
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// Where the program is.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

/// What a waiting call is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It fails.
    Error(Errno),
    /// The kernel performs it.
    Continue,
}

/// Waits for the next call.
///
/// # Errors
/// What the kernel says; ENOENT when the caller was killed meanwhile or no process has the filter any more.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification> {
    let mut notification = Notification::default();
    // SAFETY: the kernel writes one `struct seccomp_notif`, which `Notification` is laid out as and which it wants zeroed.
    unsafe { ioctl(listener, NOTIF_RECV, std::ptr::from_mut(&mut notification) as usize) }
        .call(|| "ioctl(SECCOMP_IOCTL_NOTIF_RECV)".to_owned())?;
    Ok(notification)
}

/// Answers a call.
///
/// # Errors
/// What the kernel says; ENOENT when it waits no longer.
pub fn respond(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    let mut response = Response { id, value: 0, error: 0, flags: 0 };
    match answer {
        Answer::Value(value) => response.value = value,
        Answer::Error(errno) => response.error = -errno.raw_os_error(),
        Answer::Continue => response.flags = USER_NOTIF_FLAG_CONTINUE,
    }
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`, which `Response` is laid out as.
    unsafe { ioctl(listener, NOTIF_SEND, std::ptr::from_ref(&response) as usize) }
        .map(drop)
        .call(|| format!("ioctl(SECCOMP_IOCTL_NOTIF_SEND, {answer:?})"))
}

/// Whether a call still waits.
///
/// # Errors
/// What the kernel says.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> Result<bool> {
    // SAFETY: the kernel reads one u64.
    match unsafe { ioctl(listener, NOTIF_ID_VALID, std::ptr::from_ref(&id) as usize) } {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno).call(|| "ioctl(SECCOMP_IOCTL_NOTIF_ID_VALID)".to_owned()),
    }
}

/// Puts a copy of a descriptor into the caller and answers the call with its number there, which is returned too.
///
/// # Errors
/// What the kernel says; ENOENT when the call waits no longer, EMFILE when the caller has no room.
pub fn respond_with_fd(listener: BorrowedFd<'_>, id: u64, source: BorrowedFd<'_>) -> Result<i32> {
    let call = || "ioctl(SECCOMP_IOCTL_NOTIF_ADDFD)".to_owned();
    let source = u32::try_from(source.as_raw_fd()).map_err(|_| Errno::BADF).call(call)?;
    let request = AddFd { id, flags: ADDFD_FLAG_SEND, source, number: 0, number_flags: 0 };
    // SAFETY: the kernel reads one `struct seccomp_notif_addfd`, which `AddFd` is laid out as.
    let number = unsafe { ioctl(listener, NOTIF_ADDFD, std::ptr::from_ref(&request) as usize) }.call(call)?;
    Ok(i32::try_from(number).unwrap_or(i32::MAX))
}

/// # Safety
/// `argument` is the address of what `request` wants.
unsafe fn ioctl(fd: BorrowedFd<'_>, request: usize, argument: usize) -> std::result::Result<usize, Errno> {
    let fd = usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX);
    // SAFETY: our caller vouches for `argument`.
    unsafe { raw::syscall(libc::SYS_ioctl, [fd, request, argument, 0, 0, 0]) }
}
