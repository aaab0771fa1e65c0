//! `landlock_create_ruleset(2)`, `landlock_add_rule(2)`, `landlock_restrict_self(2)`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::{Context, Result};
use crate::raw;

const CREATE_RULESET_VERSION: usize = 1;
const RULE_PATH_BENEATH: usize = 1;
const RULE_NET_PORT: usize = 2;

/// What a rule set denies unless a rule grants it: masks of LANDLOCK_ACCESS_FS_*, LANDLOCK_ACCESS_NET_* and
/// LANDLOCK_SCOPE_*, laid out as `struct landlock_ruleset_attr`. A kernel that knows a shorter one takes it while what it
/// does not know is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Handled {
    /// Access to files.
    pub file_system: u64,
    /// Access to ports.
    pub network: u64,
    /// Reach beyond the domain.
    pub scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: RawFd,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed: u64,
    port: u64,
}

/// The version of the interface that the kernel speaks, 1 or more.
///
/// # Errors
/// ENOSYS before Linux 5.13, EOPNOTSUPP where Landlock was not enabled at boot.
pub fn abi() -> Result<u32> {
    // SAFETY: no pointer is passed; with this flag the kernel wants none.
    let version = unsafe { raw::syscall(libc::SYS_landlock_create_ruleset, [0, 0, CREATE_RULESET_VERSION, 0, 0, 0]) }
        .call(|| "landlock_create_ruleset(VERSION)".to_owned())?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// A new rule set without rules.
///
/// # Errors
/// What the kernel says; EINVAL for a right that it does not know, ENOMSG for no right at all.
pub fn create_ruleset(handled: Handled) -> Result<OwnedFd> {
    let call = || format!("landlock_create_ruleset({handled:?})");
    let size = std::mem::size_of::<Handled>();
    // SAFETY: `handled` is of the given size and outlives the call; the kernel copies it.
    let got = unsafe {
        raw::syscall(libc::SYS_landlock_create_ruleset, [std::ptr::from_ref(&handled) as usize, size, 0, 0, 0, 0])
    }
    .call(call)?;
    // SAFETY: the kernel returns a new descriptor, which nobody else owns.
    unsafe { raw::owned(got) }.call(call)
}

/// Grants rights to a file, or to a folder and what is below it.
///
/// # Errors
/// What the kernel says; EINVAL for a right that is not handled or that a file does not have, ENOMSG for none.
pub fn allow_beneath(ruleset: BorrowedFd<'_>, parent: BorrowedFd<'_>, allowed: u64) -> Result<()> {
    let attr = PathBeneath { allowed, parent: parent.as_raw_fd() };
    // SAFETY: `attr` is the structure that this kind of rule wants and outlives the call; the kernel copies it.
    unsafe { add_rule(ruleset, RULE_PATH_BENEATH, std::ptr::from_ref(&attr) as usize) }
        .call(|| format!("landlock_add_rule(PATH_BENEATH, {allowed:#x})"))
}

/// Grants rights to a TCP port.
///
/// # Errors
/// What the kernel says; EINVAL for a right that is not handled, ENOMSG for none.
pub fn allow_port(ruleset: BorrowedFd<'_>, port: u16, allowed: u64) -> Result<()> {
    let attr = NetPort { allowed, port: u64::from(port) };
    // SAFETY: `attr` is the structure that this kind of rule wants and outlives the call; the kernel copies it.
    unsafe { add_rule(ruleset, RULE_NET_PORT, std::ptr::from_ref(&attr) as usize) }
        .call(|| format!("landlock_add_rule(NET_PORT, {port}, {allowed:#x})"))
}

/// # Safety
/// `attr` is the address of the structure that `kind` of rule wants.
unsafe fn add_rule(ruleset: BorrowedFd<'_>, kind: usize, attr: usize) -> std::result::Result<(), rustix::io::Errno> {
    let ruleset = usize::try_from(ruleset.as_raw_fd()).unwrap_or(usize::MAX);
    // SAFETY: our caller vouches for `attr`.
    unsafe { raw::syscall(libc::SYS_landlock_add_rule, [ruleset, kind, attr, 0, 0, 0]) }.map(drop)
}

/// Puts the calling thread, and all that it will ever start, under the rules.
///
/// # Errors
/// What the kernel says; EPERM without no_new_privs and without CAP_SYS_ADMIN, E2BIG beyond 16 nested domains.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    let ruleset = usize::try_from(ruleset.as_raw_fd()).unwrap_or(usize::MAX);
    // SAFETY: no pointer is passed.
    unsafe { raw::syscall(libc::SYS_landlock_restrict_self, [ruleset, 0, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| "landlock_restrict_self".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::io::Errno;

    use super::*;
    use crate::fs::{self, OFlags};

    const READ_FILE: u64 = 1 << 2;

    #[test]
    fn what_no_rule_grants_is_denied_to_the_thread_alone() {
        match abi() {
            Ok(version) => assert!(version >= 1),
            Err(error) => {
                assert!(error.is(Errno::NOSYS) || error.is(Errno::OPNOTSUPP), "{error}");
                return;
            }
        }
        let restricted = std::thread::spawn(|| {
            let ruleset = create_ruleset(Handled { file_system: READ_FILE, ..Handled::default() }).unwrap();
            let etc = fs::open_dir("/etc").unwrap();
            allow_beneath(ruleset.as_fd(), etc.as_fd(), READ_FILE).unwrap();
            crate::process::set_no_new_privs().unwrap();
            restrict_self(ruleset.as_fd()).unwrap();
            fs::open("/etc/passwd", OFlags::RDONLY).unwrap();
            fs::open("/proc/version", OFlags::RDONLY).unwrap_err().errno()
        });
        assert_eq!(restricted.join().unwrap(), Errno::ACCESS);
        fs::open("/proc/version", OFlags::RDONLY).unwrap();
    }

    #[test]
    fn the_kernel_refuses_what_makes_no_sense() {
        if abi().is_err() {
            return;
        }
        assert!(create_ruleset(Handled::default()).unwrap_err().is(Errno::NOMSG));
        assert!(create_ruleset(Handled { scoped: 1 << 60, ..Handled::default() }).is_err());
        let ruleset = create_ruleset(Handled { file_system: READ_FILE, ..Handled::default() }).unwrap();
        let etc = fs::open_dir("/etc").unwrap();
        assert!(allow_beneath(ruleset.as_fd(), etc.as_fd(), 1).unwrap_err().is(Errno::INVAL));
        assert!(allow_port(ruleset.as_fd(), 80, 1).unwrap_err().is(Errno::INVAL));
    }
}
