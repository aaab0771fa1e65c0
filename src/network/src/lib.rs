//! Links, addresses and routes of containers, over one blocking route netlink socket.
//!
//! ```text
//! parse_link, parse_veth, plan_record, validate_name     text -> values             pure, as is render_link, the way back
//! read_device_move, read_phys, list_addresses, counters  looks
//! loopback_up, create_link, apply_classes, apply_device_move    changes; takes back what it did when a later step of it fails
//! undo_device_move, undo_link, delete_link               for the undo list: may be called again, and when nothing is there
//!      \ attach -> veth, stacked, phys -> link, address, route, tc -> socket (request, answers, verdict) -> codec (bytes)
//! ```
//! [`managed`] has networks that outlive containers, with a folder and a table of rules of their own; [`names`] renders the
//! files that give containers names.
//!
//! Another network namespace is given by a descriptor of it. Work inside is done through a socket that was opened there;
//! the calling thread itself is inside for that one call only, and only where its way back is known to work. Nothing here
//! outside those two is resolved by path, waits for anything but the kernel's answer, or is cached.

mod address;
mod attach;
mod classes;
pub mod cni;
mod codec;
mod conntrack;
mod counters;
mod device;
mod error;
mod files;
mod link;
mod link_render;
mod link_text;
mod list;
mod loopback;
pub mod managed;
mod name;
pub mod names;
mod neighbour;
mod phys;
mod program;
mod rate;
mod route;
mod shape;
mod socket;
mod spec;
mod stacked;
mod tc;
pub mod uplink;
mod veth;

#[cfg(test)]
mod cross_check;

pub use address::{LinkAddress, Prefix, PrefixError};
pub use attach::{create_link, delete_link, undo_link};
pub use classes::{Class, Classes, Member, apply_classes, render_class_rules, render_no_class_rules, undo_classes};
pub use counters::{Counters, counters};
pub use device::{DeviceMove, Undone, apply_device_move, read_device_move, undo_device_move};
pub use error::{Error, Place};
pub use files::FileError;
pub use link::{HardwareAddress, HardwareAddressError, Link};
pub use link_render::render_link;
pub use link_text::{LinkError, parse_link, parse_veth};
pub use list::list_addresses;
pub use loopback::loopback_up;
pub use name::{NAME_MAX, NameError, validate_name, validate_template};
pub use phys::{is_pinned, pin_netns, read_phys, unpin_netns};
pub use rate::{Rate, RateError};
pub use route::{Route, RouteError};
pub use spec::{
    HostEnd, IpvlanMode, LINK_LOCAL_GATEWAYS, LinkKind, LinkRecord, LinkSpec, MacvlanMode, Proxy, Veth, plan_record,
};
pub use uplink::{Share, ShareError};
