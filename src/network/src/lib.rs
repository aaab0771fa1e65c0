//! Links, addresses and routes of containers, over one blocking route netlink socket.
//!
//! ```text
//! parse_veth, plan_host_end, validate_name      text -> values             pure
//! read_device_move, list_addresses              looks
//! loopback_up, create_veth, apply_device_move   changes; takes back what it did when a later step of it fails
//! undo_device_move, delete_veth, delete_link    for the undo list: may be called again, and when nothing is there
//!      \ device, veth, list -> link, address -> socket (request, answers, verdict) -> codec (bytes) -> sys::netlink
//! ```
//! Another network namespace is given by a descriptor of it. Work inside is done through a socket that was opened there;
//! the calling thread itself is inside for that one call only, and only where its way back is known to work. Nothing here
//! is resolved by path, waits for anything but the kernel's answer, or is cached.

mod address;
mod codec;
mod device;
mod error;
mod link;
mod list;
mod loopback;
mod name;
mod socket;
mod veth;
mod veth_text;

#[cfg(test)]
mod cross_check;

pub use address::{LinkAddress, Prefix, PrefixError};
pub use device::{DeviceMove, Undone, apply_device_move, read_device_move, undo_device_move};
pub use error::{Error, Place};
pub use link::{HardwareAddress, HardwareAddressError, Link};
pub use list::list_addresses;
pub use loopback::loopback_up;
pub use name::{NAME_MAX, NameError, validate_name, validate_template};
pub use veth::{HostEnd, Veth, create_veth, delete_link, delete_veth, plan_host_end};
pub use veth_text::{VethError, parse_veth};
