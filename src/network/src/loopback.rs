//! The loopback device of a new network namespace.

use crate::error::Error;

/// Brings `lo` up in the network namespace of the caller, which must be a new one: other flags of it are cleared.
///
/// One ioctl on a unix socket: the kernel gives it 127.0.0.1 and ::1 itself.
///
/// # Errors
/// What the kernel says: EPERM without CAP_NET_ADMIN in the network namespace.
pub fn loopback_up() -> Result<(), Error> {
    Ok(sys::netlink::set_interface_up("lo")?)
}
