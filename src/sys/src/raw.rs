//! `syscall(2)` for the calls that rustix does not wrap.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// Makes a system call and turns -1 into the errno.
///
/// # Safety
/// The caller keeps the promises of the call `number`: every pointer among `args` is valid for what the kernel does with
/// it, and no memory of this process is given away.
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller, who vouches for the pointers; unused arguments are ignored by the kernel.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    usize::try_from(result).map_err(|_| last_errno())
}

/// The descriptor that a call returned, closed at exec by the call's own doing.
///
/// # Errors
/// EBADF for a number that is none.
///
/// # Safety
/// `number` was returned by a call that makes a new descriptor, and nobody else owns it.
pub(crate) unsafe fn owned(number: usize) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: passed on to our caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The errno of the last failed call of the C library.
pub(crate) fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// A C string for a path or a name.
pub(crate) fn c_string(text: &str) -> Result<std::ffi::CString, Errno> {
    std::ffi::CString::new(text).map_err(|_| Errno::INVAL)
}
