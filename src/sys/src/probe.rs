//! Calls that the kernel is certain to refuse, made to learn whether it knows them.
//!
//! Each has an argument that no kernel takes, so that nothing can come of it: ENOSYS (or, where a flag is asked for,
//! another errno than for a known one) means that the kernel is older, EPERM that a filter or a missing right is in the way.

use rustix::io::Errno;

use crate::error::Result;
use crate::raw;

/// Flags that no call has.
const NO_SUCH_FLAGS: usize = 0xffff_ffff;
/// No address.
const NULL: usize = 0;
/// A descriptor that nobody has.
const NO_FD: usize = usize::MAX;

/// A call that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `clone3(2)`.
    Clone3,
    /// `close_range(2)`.
    CloseRange,
    /// `faccessat2(2)`.
    Faccessat2,
    /// `fsconfig(2)`.
    Fsconfig,
    /// `fsmount(2)`.
    Fsmount,
    /// `fsopen(2)`, and with it the other calls of the mount API.
    Fsopen,
    /// `keyctl(2)`.
    Keyctl,
    /// `move_mount(2)`.
    MoveMount,
    /// `mount_setattr(2)`.
    MountSetattr,
    /// `open_tree(2)`.
    OpenTree,
    /// `openat2(2)`.
    Openat2,
    /// `pidfd_open(2)`.
    PidfdOpen,
    /// `pidfd_send_signal(2)`.
    PidfdSendSignal,
    /// `set_mempolicy(2)`.
    SetMempolicy,
}

impl Call {
    /// Number, and arguments that are refused by the first check that the call makes after that of the caller's rights.
    fn arguments(self) -> (libc::c_long, [usize; 6]) {
        match self {
            // A structure of no size.
            Call::Clone3 => (libc::SYS_clone3, [NULL, 0, 0, 0, 0, 0]),
            Call::Openat2 => (libc::SYS_openat2, [NO_FD, NULL, NULL, 0, 0, 0]),
            // The end before the beginning.
            Call::CloseRange => (libc::SYS_close_range, [1, 0, 0, 0, 0, 0]),
            Call::Faccessat2 => (libc::SYS_faccessat2, [NO_FD, NULL, 0, NO_SUCH_FLAGS, 0, 0]),
            Call::Fsconfig => (libc::SYS_fsconfig, [NO_FD, 0x4000_0000, 0, 0, 0, 0]),
            Call::Fsmount => (libc::SYS_fsmount, [NO_FD, NO_SUCH_FLAGS, 0, 0, 0, 0]),
            Call::Fsopen => (libc::SYS_fsopen, [NULL, NO_SUCH_FLAGS, 0, 0, 0, 0]),
            // The keyring number 0.
            Call::Keyctl => (libc::SYS_keyctl, [0, 0, 0, 0, 0, 0]),
            Call::MoveMount => (libc::SYS_move_mount, [NO_FD, NULL, NO_FD, NULL, NO_SUCH_FLAGS, 0]),
            Call::MountSetattr => (libc::SYS_mount_setattr, [NO_FD, NULL, NO_SUCH_FLAGS, NULL, 0, 0]),
            Call::OpenTree => (libc::SYS_open_tree, [NO_FD, NULL, NO_SUCH_FLAGS, 0, 0, 0]),
            Call::PidfdOpen => (libc::SYS_pidfd_open, [NO_FD, NO_SUCH_FLAGS, 0, 0, 0, 0]),
            Call::PidfdSendSignal => (libc::SYS_pidfd_send_signal, [NO_FD, 0, NULL, NO_SUCH_FLAGS, 0, 0]),
            Call::SetMempolicy => (libc::SYS_set_mempolicy, [0x7fff, NULL, 0, 0, 0, 0]),
        }
    }
}

impl Call {
    /// Its name, and the kernel that brought it (manual pages).
    #[must_use]
    pub const fn origin(self) -> (&'static str, &'static str) {
        match self {
            Call::Clone3 => ("clone3", "5.3"),
            Call::CloseRange => ("close_range", "5.9"),
            Call::Faccessat2 => ("faccessat2", "5.8"),
            Call::Fsconfig => ("fsconfig", "5.2"),
            Call::Fsmount => ("fsmount", "5.2"),
            Call::Fsopen => ("fsopen", "5.2"),
            Call::Keyctl => ("keyctl", "2.6.10"),
            Call::MoveMount => ("move_mount", "5.2"),
            Call::MountSetattr => ("mount_setattr", "5.12"),
            Call::OpenTree => ("open_tree", "5.2"),
            Call::Openat2 => ("openat2", "5.6"),
            Call::PidfdOpen => ("pidfd_open", "5.3"),
            Call::PidfdSendSignal => ("pidfd_send_signal", "5.1"),
            Call::SetMempolicy => ("set_mempolicy", "2.6.7"),
        }
    }
}

/// Why the kernel refuses a call.
#[must_use]
pub fn refusal(call: Call) -> Option<Errno> {
    let (number, arguments) = call.arguments();
    // SAFETY: every address is null and every descriptor invalid, so the kernel reads and writes nothing of this process.
    unsafe { raw::syscall(number, arguments) }.err()
}

/// A call that every container needs and that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub name: &'static str,
    /// The kernel that brought it.
    pub since: &'static str,
    /// What was answered: ENOSYS by an old kernel, that or EPERM by a filter.
    pub errno: Errno,
}

/// The calls that every container needs, and whether each looks at the caller's right to mount before it looks at its
/// arguments (fs/namespace.c, fs/fsopen.c).
static NEEDED: &[(Call, bool)] = &[
    (Call::Clone3, false),
    (Call::Openat2, false),
    (Call::PidfdOpen, false),
    (Call::PidfdSendSignal, false),
    (Call::OpenTree, false),
    (Call::MoveMount, true),
    (Call::Fsopen, true),
    (Call::Fsconfig, false),
    (Call::Fsmount, true),
    (Call::MountSetattr, false),
    (Call::CloseRange, false),
    (Call::Faccessat2, false),
];

/// The needed calls that this kernel does not have, or that a filter around this process denies. `may_mount`: whether the
/// caller has the right to mount, without which EPERM says nothing of those that ask for it first.
#[must_use]
pub fn missing_calls(may_mount: bool) -> Vec<Missing> {
    let judge = |(call, asks_first): &(Call, bool)| {
        let errno = refusal(*call)?;
        let (name, since) = call.origin();
        let denied = errno == Errno::PERM && (may_mount || !asks_first);
        (errno == Errno::NOSYS || denied).then_some(Missing { name, since, errno })
    };
    NEEDED.iter().filter_map(judge).collect()
}

/// Why the kernel refuses to clone into a group that does not exist: EINVAL where it knows of such clones, E2BIG where its
/// structure is shorter.
#[must_use]
pub fn clone_into_cgroup_refusal() -> Option<Errno> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: clone_args is plain integers; all zero is a valid value of it.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    // Neither is a descriptor nor a signal of any kernel, so no process can come of it.
    args.cgroup = u64::MAX;
    args.exit_signal = u64::MAX;
    // SAFETY: `args` outlives the call and the size is that of the struct.
    unsafe {
        raw::syscall(
            libc::SYS_clone3,
            [std::ptr::from_ref(&args) as usize, std::mem::size_of::<libc::clone_args>(), 0, 0, 0, 0],
        )
    }
    .err()
}

/// Whether filters may have an action, one of SECCOMP_RET_*.
///
/// # Errors
/// What the kernel says but that it does not know the action; ENOSYS without seccomp.
pub fn seccomp_action(action: u32) -> Result<bool> {
    use crate::error::Context;
    const GET_ACTION_AVAIL: usize = 2;
    // SAFETY: the kernel reads one u32, which outlives the call.
    let got = unsafe {
        raw::syscall(libc::SYS_seccomp, [GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action) as usize, 0, 0, 0])
    };
    match got {
        Ok(_) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno).call(|| format!("seccomp(GET_ACTION_AVAIL, {action:#x})")),
    }
}

/// Why the kernel refuses to load no filter with these SECCOMP_FILTER_FLAG_*: EFAULT where it knows them all.
#[must_use]
pub fn seccomp_flags_refusal(flags: u64) -> Option<Errno> {
    const SET_MODE_FILTER: usize = 1;
    // SAFETY: the address of the program is null, which the kernel refuses to read.
    unsafe { raw::syscall(libc::SYS_seccomp, [SET_MODE_FILTER, flags as usize, NULL, 0, 0, 0]) }.err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_refused_and_none_for_being_unknown() {
        use Call::*;
        let all = [
            Clone3,
            CloseRange,
            Faccessat2,
            Fsconfig,
            Fsmount,
            Fsopen,
            Keyctl,
            MoveMount,
            MountSetattr,
            OpenTree,
            Openat2,
            PidfdOpen,
            PidfdSendSignal,
            SetMempolicy,
        ];
        for call in all {
            let refusal = refusal(call);
            assert!(refusal.is_some(), "{call:?}");
            // A kernel without keyrings or NUMA has no such calls.
            let optional = matches!(call, Keyctl | SetMempolicy);
            assert!(optional || refusal != Some(Errno::NOSYS), "{call:?}");
        }
        assert_eq!(clone_into_cgroup_refusal(), Some(Errno::INVAL));
    }

    #[test]
    fn a_kernel_that_has_them_all_misses_none() {
        assert_eq!(missing_calls(false), []);
    }

    #[test]
    fn a_filter_that_is_not_there_tells_flags_apart() {
        assert_eq!(seccomp_flags_refusal(1), Some(Errno::FAULT));
        assert_eq!(seccomp_flags_refusal(1 << 20), Some(Errno::INVAL));
        assert!(seccomp_action(0x7fff_0000).unwrap());
        assert!(!seccomp_action(0x1234_0000).unwrap());
    }
}
