//! The bridge of a network, and the host's readiness to forward.

use super::definition::Network;
use super::error::Error;
use crate::address::{self, LinkAddress, Prefix};
use crate::attach::write_setting;
use crate::codec::{self, Request};
use crate::error::{Error as LinkFailure, Place};
use crate::link;
use crate::socket::Socket;
use crate::spec::mac_of;

/// Makes the bridge where it is not there, gives it what it lacks and brings it up; turns forwarding on.
pub(super) fn ensure(network: &Network) -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let name = &network.bridge;
    let bridge = match link::read_link(&mut socket, name, Place::Host)? {
        Some(found) => found,
        None => {
            link::create(&mut socket, render_bridge(network), "bridge", || format!("make the bridge {name:?}"))?;
            let made = link::read_link(&mut socket, name, Place::Host)?;
            made.ok_or_else(|| LinkFailure::Missing { name: name.clone(), place: Place::Host })?
        }
    };
    if bridge.kind.as_deref() != Some("bridge") {
        return Err(LinkFailure::NoBridge { name: name.clone() }.into());
    }
    let has: Vec<Prefix> =
        address::read_addresses(&mut socket, bridge.index)?.into_iter().map(|(_, address)| address.prefix).collect();
    for subnet in &network.subnets {
        let prefix = Prefix { ip: subnet.gateway, length: subnet.subnet.length };
        if !has.contains(&prefix) {
            address::add_address(&mut socket, bridge.index, name, &LinkAddress::new(prefix))?;
        }
    }
    if !bridge.up {
        link::bring_up(&mut socket, bridge.index, name)?;
    }
    // Connections of the host's own programs to a published port of 127.0.0.1 go out by the bridge; the rules keep others
    // from its addresses.
    write_setting(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    write_setting(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
    forward(network)?;
    Ok(())
}

fn render_bridge(network: &Network) -> Request {
    let header = link::render_header(0, 0, 0);
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    // An address of its own: else it takes the lowest of its ports', and changes when one comes or goes.
    request.put_text(link::NAME, &network.bridge).put(link::ADDRESS, &mac_of(&network.name).0);
    if let Some(mtu) = network.mtu {
        request.put_u32(link::MTU, mtu);
    }
    request.put_nested(link::INFO, &[], |info| {
        info.put_text(link::INFO_KIND, "bridge");
    });
    request
}

/// Turns forwarding on for the families that the network has. It stays on: others may have come to count on it.
fn forward(network: &Network) -> Result<(), Error> {
    if network.internal {
        return Ok(());
    }
    let has = |v6: bool| network.subnets.iter().any(|subnet| subnet.gateway.is_ipv6() == v6);
    if has(false) && !is_on("net/ipv4/ip_forward")? {
        write_setting("net/ipv4/ip_forward", "1")?;
    }
    if has(true) && !is_on("net/ipv6/conf/all/forwarding")? {
        keep_router_advertisements()?;
        write_setting("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards ignores router advertisements unless `accept_ra` is 2: it would lose its own default route.
///
/// Kernel: Documentation/networking/ip-sysctl.rst, `accept_ra`.
fn keep_router_advertisements() -> Result<(), Error> {
    let conf = "/proc/sys/net/ipv6/conf";
    for (name, _) in sys::fs::list(sys::fs::CWD, conf)? {
        let path = format!("net/ipv6/conf/{name}/accept_ra");
        if is_on(&path)? {
            write_setting(&path, "2")?;
        }
    }
    Ok(())
}

/// Whether a parameter is 1. One that is not there is not.
fn is_on(path: &str) -> Result<bool, Error> {
    match sys::fs::read_text_at(sys::fs::CWD, &format!("/proc/sys/{path}")) {
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        other => Ok(other?.trim() == "1"),
    }
}

/// Deletes the bridge. Whatever else has its name by now stays.
pub(super) fn delete(network: &Network) -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let found = link::read_link(&mut socket, &network.bridge, Place::Host)?;
    if let Some(link) = found.filter(|link| link.kind.as_deref() == Some("bridge")) {
        link::delete(&mut socket, &link)?;
    }
    Ok(())
}
