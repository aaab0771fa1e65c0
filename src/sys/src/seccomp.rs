//! `seccomp(2)`.

use std::os::fd::OwnedFd;

use crate::error::{Context, Result};
use crate::raw;

/// SECCOMP_FILTER_FLAG_NEW_LISTENER: the call returns a descriptor for notifications.
pub const NEW_LISTENER: u64 = 1 << 3;

/// One instruction of classic BPF, laid out as `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FilterInstruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const FilterInstruction,
}

const SECCOMP_SET_MODE_FILTER: usize = 1;

/// Puts a filter on the calling thread. With [`NEW_LISTENER`] among the flags the descriptor is returned.
///
/// # Errors
/// What the kernel says; EACCES without CAP_SYS_ADMIN and no_new_privs, EINVAL for a bad program.
pub fn load(instructions: &[FilterInstruction], flags: u64) -> Result<Option<OwnedFd>> {
    let call = || format!("seccomp(SET_MODE_FILTER, {flags:#x}, {} instructions)", instructions.len());
    let length = u16::try_from(instructions.len()).map_err(|_| rustix::io::Errno::TOOBIG).call(call)?;
    let program = Program { length, filter: instructions.as_ptr() };
    // SAFETY: `program` and the instructions it points to outlive the call; the kernel copies them.
    let got = unsafe {
        raw::syscall(
            libc::SYS_seccomp,
            [SECCOMP_SET_MODE_FILTER, flags as usize, std::ptr::from_ref(&program) as usize, 0, 0, 0],
        )
    }
    .call(call)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the kernel returns a new descriptor, which nobody else owns.
    unsafe { raw::owned(got) }.map(Some).call(call)
}
