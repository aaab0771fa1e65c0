//! macvlan, vlan and ipvlan: a device in the container on a device of the host.
//!
//! Made in one message that puts it right into the container; it goes with the container's network namespace, and with
//! the device below.
//! Kernel: include/uapi/linux/if_link.h, IFLA_MACVLAN_*, IFLA_VLAN_*, IFLA_IPVLAN_*.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::attach;
use crate::codec::{self, Request};
use crate::error::{Error, Place};
use crate::link::{self, HardwareAddress};
use crate::route::Onlink;
use crate::socket::Socket;
use crate::spec::{IpvlanMode, LinkKind, LinkSpec, MacvlanMode};

/// IFLA_MACVLAN_MODE, IFLA_VLAN_ID and IFLA_IPVLAN_MODE have the same number.
const FIRST: u16 = 1;

pub(crate) fn create(spec: &LinkSpec, mac: Option<&HardwareAddress>, container: BorrowedFd<'_>) -> Result<(), Error> {
    let (LinkKind::Macvlan { parent, .. } | LinkKind::Vlan { parent, .. } | LinkKind::Ipvlan { parent, .. }) =
        &spec.link
    else {
        return Err(Error::Record { name: spec.name.clone() });
    };
    let mut inside = Socket::open_in(container)?;
    let mut outside = Socket::open()?;
    link::check_free(&mut inside, &spec.name, Place::Container)?;
    let found = link::read_link(&mut outside, parent, Place::Host)?;
    let lower = found.ok_or_else(|| Error::Missing { name: parent.clone(), place: Place::Host })?;
    let kind = spec.link.name();
    let operation = || format!("make the {kind} {:?} in the container on network device {parent:?}", spec.name);
    let request = render_stacked(spec, lower.index, mac, container.as_raw_fd());
    link::create(&mut outside, request, kind, operation)?;
    attach::configure_inside(&mut inside, spec, Onlink::No)
}

pub(crate) fn render_stacked(spec: &LinkSpec, lower: u32, mac: Option<&HardwareAddress>, container: i32) -> Request {
    let header = link::render_header(0, 0, 0);
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    request.put_text(link::NAME, &spec.name).put_u32(link::LOWER, lower);
    request.put_u32(link::NETNS_FD, container.cast_unsigned());
    if let Some(mac) = mac {
        request.put(link::ADDRESS, &mac.0);
    }
    if let Some(mtu) = spec.mtu {
        request.put_u32(link::MTU, mtu);
    }
    request.put_nested(link::INFO, &[], |info| {
        info.put_text(link::INFO_KIND, spec.link.name()).put_nested(link::INFO_DATA, &[], |data| {
            match &spec.link {
                LinkKind::Macvlan { mode, .. } => data.put_u32(FIRST, render_macvlan(*mode)),
                LinkKind::Vlan { id, .. } => data.put_u16(FIRST, *id),
                LinkKind::Ipvlan { mode, .. } => data.put_u16(FIRST, render_ipvlan(*mode)),
                LinkKind::Veth(_) | LinkKind::Phys { .. } => data,
            };
        });
    });
    request
}

fn render_macvlan(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

fn render_ipvlan(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

/// Deletes it in a network namespace. False where it is gone, or where the name belongs to a link of another kind.
pub(crate) fn delete(name: &str, kind: &str, netns: BorrowedFd<'_>) -> Result<bool, Error> {
    let mut inside = Socket::open_in(netns)?;
    let found = link::read_link(&mut inside, name, Place::Container)?;
    match found.filter(|link| link.kind.as_deref() == Some(kind)) {
        Some(link) => link::delete(&mut inside, &link),
        None => Ok(false),
    }
}
