//! Namespaces: join, leave, name.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Context, Result};
use crate::raw;

/// `setns(2)`. `kinds` is one CLONE_NEW* for a namespace file, or several for a pidfd.
///
/// # Errors
/// What the kernel says.
pub fn join(fd: BorrowedFd<'_>, kinds: u64) -> Result<()> {
    // SAFETY: no pointer is passed. Only namespaces change; memory and descriptors stay as they are.
    unsafe { raw::syscall(libc::SYS_setns, [fd.as_raw_fd() as usize, kinds as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("setns(fd {}, {kinds:#x})", fd.as_raw_fd()))
}

/// `unshare(2)` of namespaces.
///
/// # Errors
/// What the kernel says.
pub fn unshare(kinds: u64) -> Result<()> {
    // SAFETY: no pointer is passed, and callers pass CLONE_NEW* alone, so descriptors stay shared as before.
    unsafe { raw::syscall(libc::SYS_unshare, [kinds as usize, 0, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("unshare({kinds:#x})"))
}

/// `sethostname(2)`.
///
/// # Errors
/// What the kernel says; EINVAL for more than 64 bytes.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).call(|| format!("sethostname({name:?})"))
}

/// `setdomainname(2)`.
///
/// # Errors
/// What the kernel says; EINVAL for more than 64 bytes.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).call(|| format!("setdomainname({name:?})"))
}

/// The kind of a namespace file, as its CLONE_NEW* flag (`ioctl(NS_GET_NSTYPE)`).
///
/// # Errors
/// What the kernel says; ENOTTY for what is no namespace file.
pub fn kind(fd: BorrowedFd<'_>) -> Result<u64> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    u64::try_from(kind).map_err(|_| raw::last_errno()).call(|| "ioctl(NS_GET_NSTYPE)".to_owned())
}

/// The user namespace that owns a namespace (`ioctl(NS_GET_USERNS)`).
///
/// # Errors
/// What the kernel says; EPERM for one that is outside the caller's own user namespace.
pub fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: this request takes no argument.
    let owner = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS as _) };
    if owner < 0 {
        return Err(raw::last_errno()).call(|| "ioctl(NS_GET_USERNS)".to_owned());
    }
    // SAFETY: the kernel returned a new descriptor, closed at exec, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// Whether an id map (`uid_map` and `gid_map` of a process) is that of the initial user namespace, where every id is itself
/// (user_namespaces(7)).
#[must_use]
pub fn maps_every_id(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::maps_every_id;

    #[test]
    fn the_initial_map_is_known() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0     100000      65536\n"));
        assert!(!maps_every_id(""));
    }
}
