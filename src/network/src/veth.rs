//! A veth: one end in a container, the other on the host, alone, on a bridge or with routes.
//!
//! The pair is made in one message that puts the far end right into the container and the near one on its bridge, so no
//! half of it is ever seen in the wrong place.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::Prefix;
use crate::attach;
use crate::codec::{self, Request};
use crate::error::{Error, Place};
use crate::link::{self, HardwareAddress};
use crate::neighbour;
use crate::route::{self, Onlink, Route};
use crate::shape;
use crate::socket::Socket;
use crate::spec::{HostEnd, LinkSpec, Proxy, Veth};

/// VETH_INFO_PEER of include/uapi/linux/veth.h.
const PEER: u16 = 1;

/// What of a veth is on the host, as the record has it.
pub(crate) struct Ends<'a> {
    pub(crate) host: &'a HostEnd,
    pub(crate) shaper: Option<&'a HostEnd>,
    pub(crate) proxy: Option<&'a Proxy>,
}

/// Makes the pair, gives both ends their addresses, brings them up and adds routes and limits. The caller takes back what
/// was done when this fails.
pub(crate) fn create(
    spec: &LinkSpec,
    veth: &Veth,
    ends: &Ends<'_>,
    mac: Option<&HardwareAddress>,
    container: BorrowedFd<'_>,
) -> Result<(), Error> {
    let host = ends.host;
    let mut inside = Socket::open_in(container)?;
    let mut outside = Socket::open()?;
    // All names before anything is made: what is taken is not ours to take back.
    for end in [Some(host), ends.shaper].into_iter().flatten() {
        link::check_free(&mut outside, &end.name, Place::Host)?;
    }
    link::check_free(&mut inside, &spec.name, Place::Container)?;
    let bridge = veth.bridge.as_deref().map(|name| find_bridge(&mut outside, name)).transpose()?;
    let pair = || format!("make the veth {:?} with {:?} in the container", host.name, spec.name);
    let request = render_pair(spec, host, mac, bridge, container.as_raw_fd());
    link::create(&mut outside, request, "veth", pair)?;
    // Before it is up: who is at the other end must not change the host's routes.
    attach::refuse_routes(&host.name)?;
    let near = attach::configure(&mut outside, &host.name, Place::Host, &veth.host_addresses)?;
    if veth.hairpin {
        link::set_hairpin(&mut outside, near, &host.name)?;
    }
    if veth.routed {
        attach::write_forwarding(&host.name)?;
        for prefix in &spec.addresses {
            let route = Route { to: Prefix::host(prefix.ip), via: None };
            route::add_route(&mut outside, near, &host.name, &route)?;
        }
    }
    if let Some(proxy) = ends.proxy {
        neighbour::add_proxy(&mut outside, proxy)?;
    }
    // Before the container's end is up: nothing gets past the limits.
    shape::limit(&mut outside, (near, &host.name), veth, ends.shaper)?;
    let onlink = if veth.routed { Onlink::Yes } else { Onlink::No };
    attach::configure_inside(&mut inside, spec, onlink)
}

fn find_bridge(socket: &mut Socket, name: &str) -> Result<u32, Error> {
    let found = link::read_link(socket, name, Place::Host)?;
    let link = found.ok_or_else(|| Error::Missing { name: name.to_owned(), place: Place::Host })?;
    match link.kind.as_deref() {
        Some("bridge") => Ok(link.index),
        _ => Err(Error::NoBridge { name: name.to_owned() }),
    }
}

pub(crate) fn render_pair(
    spec: &LinkSpec,
    host: &HostEnd,
    mac: Option<&HardwareAddress>,
    bridge: Option<u32>,
    container: i32,
) -> Request {
    let header = link::render_header(0, 0, 0);
    let put_mtu = |request: &mut Request| {
        if let Some(mtu) = spec.mtu {
            request.put_u32(link::MTU, mtu);
        }
    };
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    request.put_text(link::NAME, &host.name).put(link::ADDRESS, &host.mac.0);
    put_mtu(&mut request);
    if let Some(bridge) = bridge {
        request.put_u32(link::MASTER, bridge);
    }
    request.put_nested(link::INFO, &[], |info| {
        info.put_text(link::INFO_KIND, "veth").put_nested(link::INFO_DATA, &[], |data| {
            data.put_nested(PEER, &header, |peer| {
                peer.put_text(link::NAME, &spec.name);
                peer.put_u32(link::NETNS_FD, container.cast_unsigned());
                if let Some(mac) = mac {
                    peer.put(link::ADDRESS, &mac.0);
                }
                put_mtu(peer);
            });
        });
    });
    request
}

/// Deletes what a veth has on the host. False where its end is gone, or where the name belongs to another link by now:
/// that one stays.
pub(crate) fn undo(ends: &Ends<'_>) -> Result<bool, Error> {
    let mut socket = Socket::open()?;
    let proxies = ends.proxy.map_or(Ok(()), |proxy| neighbour::delete_proxy(&mut socket, proxy));
    let shaper = ends.shaper.map_or(Ok(false), |end| delete_end(&mut socket, end, "ifb"));
    let pair = delete_end(&mut socket, ends.host, "veth");
    proxies.and(shaper).and(pair)
}

fn delete_end(socket: &mut Socket, end: &HostEnd, kind: &str) -> Result<bool, Error> {
    let found = link::read_link(socket, &end.name, Place::Host)?;
    match found.filter(|link| link.kind.as_deref() == Some(kind) && link.mac == end.mac) {
        Some(link) => link::delete(socket, &link),
        None => Ok(false),
    }
}
