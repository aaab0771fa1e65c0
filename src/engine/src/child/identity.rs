//! Who the process is: groups, ids, capabilities.

use std::os::fd::{AsFd, BorrowedFd};

use runtime_spec::model::{Capabilities, User};
use sys::fs;
use sys::process::{self, CAP_SYS_ADMIN, CapMasks};
use sys::{Errno, ProcFs};

use super::Child;
use crate::error::{Error, Result};
use crate::facts::setgroups_denied;

/// Highest capability number that a mask of 64 bits can hold.
const CAP_MAX: u32 = 63;

/// Whoever makes files in the user namespace, with no group of the host's left. An id other than 0 keeps the capabilities
/// too: where 0 is not mapped, no change of the user counts as leaving root (security/commoncap.c, `cap_emulate_setxuid`).
pub(crate) fn become_namespace_root(uid: u32, gid: u32, proc: &ProcFs) -> Result<()> {
    process::set_gid(gid)?;
    process::set_uid(uid)?;
    leave_groups(proc)
}

/// Leaves the caller's supplementary groups. Where the user namespace denies that for good (whoever mapped the ids had no
/// right to drop a group) they stay; every other refusal is an error, since it would leave them too.
pub(super) fn leave_groups(proc: &ProcFs) -> Result<()> {
    match process::set_groups(&[]) {
        Err(error) if error.is(Errno::PERM) && setgroups_denied(proc)? => Ok(()),
        other => Ok(other?),
    }
}

/// Becomes the user. Permitted capabilities are kept for the last `capset`. Effective at once are those that the program
/// will have (the search for it is judged by them), and CAP_SYS_ADMIN where a filter is still to be loaded. The caller's
/// groups were left before, see [`leave_groups`].
pub(super) fn become_user(user: &User, capabilities: &Capabilities, keep_for_seccomp: bool) -> Result<()> {
    own_standard_files(user.uid)?;
    drop_bounding(capabilities.bounding.0)?;
    process::set_umask(user.umask.unwrap_or(0o022));
    process::set_keep_caps(true)?;
    if !user.additional_gids.is_empty() {
        process::set_groups(&user.additional_gids)?;
    }
    process::set_gid(user.gid).map_err(|error| unmapped(error, "gid", user.gid))?;
    process::set_uid(user.uid).map_err(|error| unmapped(error, "uid", user.uid))?;
    process::set_keep_caps(false)?;
    let kept = process::capget()?;
    let for_filter = if keep_for_seccomp { 1 << CAP_SYS_ADMIN } else { 0 };
    let effective = kept.permitted & (capabilities.effective.0 | for_filter) | kept.effective;
    if effective != kept.effective {
        process::capset(CapMasks { effective, ..kept })?;
    }
    Ok(())
}

/// The kernel's EINVAL for an id that the user namespace does not have.
fn unmapped(error: sys::Error, kind: &str, id: u32) -> Error {
    if error.is(Errno::INVAL) {
        return Error::Unsupported(format!("cannot set{kind} to unmapped {kind} {id} in user namespace"));
    }
    error.into()
}

/// Every capability that the kernel knows and the set does not hold. One that is gone already is dropped again, which is
/// one call where asking first would be two; without the right to drop (CAP_SETPCAP) it has to be gone.
fn drop_bounding(keep: u64) -> Result<()> {
    for capability in (0..=CAP_MAX).filter(|capability| keep >> capability & 1 == 0) {
        match process::drop_bounding(capability) {
            Err(error) if error.is(Errno::INVAL) => break,
            Err(error) if error.is(Errno::PERM) && process::in_bounding(capability) == Some(false) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The final sets. What the runtime does not have itself it cannot give: that is an error, not less than was asked for.
/// Capabilities that this kernel does not know are passed over by it.
pub(super) fn set_capabilities(capabilities: &Capabilities) -> Result<()> {
    process::capset(CapMasks {
        effective: capabilities.effective.0,
        permitted: capabilities.permitted.0,
        inheritable: capabilities.inheritable.0,
    })?;
    process::clear_ambient()?;
    for capability in 0..=CAP_MAX {
        if capabilities.ambient.0 & (1 << capability) != 0 {
            process::raise_ambient(capability)?;
        }
    }
    Ok(())
}

/// Standard input, output and error belong to the user, so that `/dev/stdout` can be opened. The null device is
/// everybody's, and some files have no owner that could change.
fn own_standard_files(uid: u32) -> Result<()> {
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        own_file(fd, uid)?;
    }
    Ok(())
}

/// Whether a descriptor is the null device, whichever node it was opened by.
pub(super) fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fs::stat(fd)?;
    Ok(fs::file_type(&stat) == fs::FileType::CharacterDevice
        && (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) == (1, 3))
}

impl Child<'_> {
    /// The host's node is a file outside: it cannot be saved with the container, nor opened again in it.
    pub(super) fn reopen_null(&self) -> Result<()> {
        let mut own = None;
        for (number, fd) in
            [(0, std::io::stdin().as_fd()), (1, std::io::stdout().as_fd()), (2, std::io::stderr().as_fd())]
        {
            if !is_null(fd)? {
                continue;
            }
            let own = match &own {
                Some(own) => own,
                None => own.insert(self.proc.reopen(self.null_device()?.as_fd(), fs::OFlags::RDWR)?),
            };
            process::dup_onto(own.as_fd(), number)?;
        }
        Ok(())
    }
}

fn own_file(fd: BorrowedFd<'_>, uid: u32) -> Result<()> {
    let stat = fs::stat(fd)?;
    if is_null(fd)? || stat.st_uid == uid {
        return Ok(());
    }
    match fs::chown_at(fd, "", uid, stat.st_gid) {
        // The group may have no mapping here, the file may be on a read-only or foreign file system.
        Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        other => Ok(other?),
    }
}
