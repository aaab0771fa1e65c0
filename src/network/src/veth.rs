//! A plain veth: one end in a container, the other on the host, addresses on both.
//!
//! No bridge, no NAT. The pair is made in one message that puts the far end right into the container, so no half of it
//! is ever seen in the wrong place.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::address::{self, LinkAddress, Prefix};
use crate::codec::{self, Request};
use crate::error::{Error, Place};
use crate::link::{self, HardwareAddress};
use crate::name;
use crate::socket::Socket;

/// VETH_INFO_PEER of include/uapi/linux/veth.h.
const PEER: u16 = 1;

/// What somebody wants: the pair without what only a container's id decides. See [`crate::parse_veth`] for its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veth {
    /// Name inside the container.
    pub container_name: String,
    /// Name on the host; None for one made from the container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Addresses of the end in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
    /// Addresses of the end on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_addresses: Vec<Prefix>,
    /// Where the container's default routes go: at most one IPv4 and one IPv6 address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Most bytes of a packet, 68..=65535; None leaves the kernel's 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// The end of a veth that stays on the host: what there is to delete, and how it is told from somebody else's link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its hardware address, made from the container's id: the same at every start.
    pub mac: HardwareAddress,
}

/// Names the host's end of a veth for a container. Pure: equal inputs, equal ends.
///
/// Without a name of its own it is called `veth` and ten hexadecimal digits.
#[must_use]
pub fn plan_host_end(veth: &Veth, container_id: &str) -> HostEnd {
    let hash = hash(&[container_id, &veth.container_name]);
    let name = veth.host_name.clone().unwrap_or_else(|| format!("veth{:010x}", hash & 0xff_ffff_ffff));
    let mut mac = hash.to_be_bytes()[..6].to_vec();
    // Locally administered, not multicast.
    mac[0] = mac[0] & 0xfe | 0x02;
    HostEnd { name, mac: HardwareAddress(mac) }
}

/// FNV-1a with 64 bits, then one round of mixing so that all bits depend on the last byte too.
fn hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in texts.iter().flat_map(|text| text.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Makes the pair, gives both ends their addresses, brings them up and adds the container's default routes.
///
/// `host` is what [`plan_host_end`] said and what [`delete_veth`] takes: it should be on disk before this is called.
/// A failure takes back what was done.
///
/// # Errors
/// [`Error::Name`], [`Error::Taken`] on either side, what the kernel says, or [`Error::Undo`] where taking it back
/// failed too.
pub fn create_veth(veth: &Veth, host: &HostEnd, container: BorrowedFd<'_>) -> Result<(), Error> {
    for name in [&host.name, &veth.container_name] {
        name::validate_name(name).map_err(|reason| Error::Name { name: name.clone(), reason })?;
    }
    let mut inside = Socket::open_in(container)?;
    let mut outside = Socket::open()?;
    check_free(&mut outside, &host.name, Place::Host)?;
    check_free(&mut inside, &veth.container_name, Place::Container)?;
    let pair = || format!("make the veth {:?} with {:?} in the container", host.name, veth.container_name);
    outside.change(render_pair(veth, host, container.as_raw_fd()), pair)?;
    configure(&mut outside, &host.name, Place::Host, &veth.host_addresses, &[])
        .and_then(|()| configure(&mut inside, &veth.container_name, Place::Container, &veth.addresses, &veth.gateways))
        .map_err(|error| error.after_undo(delete_veth(host)))
}

/// The kernel says no more than EEXIST, which leaves open whose name it is.
fn check_free(socket: &mut Socket, name: &str, place: Place) -> Result<(), Error> {
    match link::read_link(socket, name, place)? {
        Some(_) => Err(Error::Taken { name: name.to_owned(), place }),
        None => Ok(()),
    }
}

fn configure(
    socket: &mut Socket,
    name: &str,
    place: Place,
    addresses: &[Prefix],
    gateways: &[IpAddr],
) -> Result<(), Error> {
    let found = link::read_link(socket, name, place)?;
    let link = found.ok_or_else(|| Error::Missing { name: name.to_owned(), place })?;
    for prefix in addresses {
        address::add_address(socket, link.index, name, &LinkAddress::new(*prefix))?;
    }
    link::bring_up(socket, link.index, name)?;
    // After it is up: a gateway has to be reachable when its route is added.
    for gateway in gateways {
        address::add_default_route(socket, link.index, name, *gateway)?;
    }
    Ok(())
}

pub(crate) fn render_pair(veth: &Veth, host: &HostEnd, container: i32) -> Request {
    let header = link::render_header(0, 0, 0);
    let put_mtu = |request: &mut Request| {
        if let Some(mtu) = veth.mtu {
            request.put_u32(link::MTU, mtu);
        }
    };
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    request.put_text(link::NAME, &host.name).put(link::ADDRESS, &host.mac.0);
    put_mtu(&mut request);
    request.put_nested(link::INFO, &[], |info| {
        info.put_text(link::INFO_KIND, "veth").put_nested(link::INFO_DATA, &[], |data| {
            data.put_nested(PEER, &header, |peer| {
                peer.put_text(link::NAME, &veth.container_name);
                peer.put_u32(link::NETNS_FD, container.cast_unsigned());
                put_mtu(peer);
            });
        });
    });
    request
}

/// Deletes the pair by its end on the host. False where it is gone, or where the name belongs to another link by now:
/// that one stays.
///
/// # Errors
/// What the kernel says.
pub fn delete_veth(host: &HostEnd) -> Result<bool, Error> {
    let mut socket = Socket::open()?;
    let found = link::read_link(&mut socket, &host.name, Place::Host)?;
    match found.filter(|link| link.kind.as_deref() == Some("veth") && link.mac == host.mac) {
        Some(link) => link::delete(&mut socket, &link),
        None => Ok(false),
    }
}

/// Deletes a link of the caller's network namespace, whatever it is. False where there is none.
///
/// # Errors
/// What the kernel says; EOPNOTSUPP for a physical device.
pub fn delete_link(name: &str) -> Result<bool, Error> {
    let mut socket = Socket::open()?;
    match link::read_link(&mut socket, name, Place::Host)? {
        Some(link) => link::delete(&mut socket, &link),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(host_name: Option<&str>) -> Veth {
        Veth {
            container_name: "eth0".to_owned(),
            host_name: host_name.map(str::to_owned),
            addresses: vec![],
            host_addresses: vec![],
            gateways: vec![],
            mtu: None,
        }
    }

    #[test]
    fn the_host_end_depends_on_the_container_and_the_name() {
        let first = plan_host_end(&veth(None), "web1");
        assert_eq!(first, plan_host_end(&veth(None), "web1"));
        assert_eq!(name::validate_name(&first.name), Ok(()));
        assert_eq!(first.name.len(), 14);
        assert_eq!(first.mac.0.len(), 6);
        assert_eq!(first.mac.0[0] & 3, 2);
        let second = plan_host_end(&veth(None), "web2");
        assert!(first.name != second.name && first.mac != second.mac);
        let named = plan_host_end(&veth(Some("veth-web1")), "web1");
        assert_eq!((named.name.as_str(), named.mac), ("veth-web1", first.mac));
    }

    #[test]
    fn a_request_reads_as_it_is_written() {
        let veth = crate::parse_veth("eth0,address=10.88.0.2/24,gateway=10.88.0.1,host-address=fd00::1/64").unwrap();
        let text = serde_json::to_string(&veth).unwrap();
        assert_eq!(
            text,
            r#"{"container_name":"eth0","addresses":["10.88.0.2/24"],"host_addresses":["fd00::1/64"],"gateways":["10.88.0.1"]}"#
        );
        assert_eq!(serde_json::from_str::<Veth>(&text).unwrap(), veth);
        let end = plan_host_end(&veth, "web1");
        assert_eq!(serde_json::from_str::<HostEnd>(&serde_json::to_string(&end).unwrap()).unwrap(), end);
    }
}
