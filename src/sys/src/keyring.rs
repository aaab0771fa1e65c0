//! Session keyrings.

use crate::error::{Context, Result};
use crate::raw;

const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const KEYCTL_SETPERM: usize = 5;
const KEYCTL_DESCRIBE: usize = 6;

/// Joins the session keyring of this name, or makes it. Returns its serial number.
///
/// # Errors
/// What the kernel says; ENOSYS without keyrings, EDQUOT when the user has too many.
pub fn join_session(name: &str) -> Result<i32> {
    let call = || format!("keyctl(JOIN_SESSION_KEYRING, {name:?})");
    let c_name = raw::c_string(name).call(call)?;
    // SAFETY: `c_name` is NUL terminated and outlives the call.
    let serial =
        unsafe { raw::syscall(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, c_name.as_ptr() as usize, 0, 0, 0, 0]) }
            .call(call)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // A serial is an i32 in a register.
    Ok(serial as i32)
}

/// The permission bits of a key: 8 bits each for possessor, user, group and others, from the top.
///
/// # Errors
/// What the kernel says.
pub fn permissions(serial: i32) -> Result<u32> {
    let call = || format!("keyctl(DESCRIBE, {serial})");
    let mut buffer = vec![0u8; 1024];
    // SAFETY: the kernel writes at most the given number of bytes into `buffer`, which outlives the call.
    unsafe {
        raw::syscall(
            libc::SYS_keyctl,
            [KEYCTL_DESCRIBE, serial as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0],
        )
    }
    .call(call)?;
    let text = String::from_utf8_lossy(&buffer);
    text.split(';')
        .nth(3)
        .and_then(|mask| u32::from_str_radix(mask, 16).ok())
        .ok_or(rustix::io::Errno::INVAL)
        .call(call)
}

/// `keyctl(KEYCTL_SETPERM)`.
///
/// # Errors
/// What the kernel says.
pub fn set_permissions(serial: i32, mask: u32) -> Result<()> {
    // SAFETY: no pointer is passed.
    unsafe { raw::syscall(libc::SYS_keyctl, [KEYCTL_SETPERM, serial as usize, mask as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("keyctl(SETPERM, {serial}, {mask:#x})"))
}
