//! The bridge of a network, and the host's readiness to forward.

use super::definition::Network;
use super::error::Error;
use super::store::{USUAL, plan_table};
use crate::address::{self, LinkAddress, Prefix};
use crate::attach::write_setting;
use crate::codec::{self, Request};
use crate::error::{Error as LinkFailure, Place};
use crate::link::{self, HardwareAddress, Link};
use crate::socket::Socket;
use crate::spec::mac_of;

/// Makes the bridge where it is not there, gives it what it lacks and brings it up; turns forwarding on.
pub(super) fn ensure(table: &str, network: &Network) -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let name = &network.bridge;
    let bridge = match link::read_link(&mut socket, name, Place::Host)? {
        Some(found) => found,
        None => {
            link::create(&mut socket, render_bridge(table, network), "bridge", || format!("make the bridge {name:?}"))?;
            let made = link::read_link(&mut socket, name, Place::Host)?;
            made.ok_or_else(|| LinkFailure::Missing { name: name.clone(), place: Place::Host })?
        }
    };
    if bridge.kind.as_deref() != Some("bridge") {
        return Err(LinkFailure::NoBridge { name: name.clone() }.into());
    }
    check_ours(table, network, &bridge)?;
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

/// The hardware address of a network's bridge: that of the same name in another data folder has another one.
fn mac(table: &str, network: &Network) -> HardwareAddress {
    if table == plan_table(USUAL) { mac_of(&network.name) } else { mac_of(&format!("{table}/{}", network.name)) }
}

/// Whether a bridge was made for a network: it has the hardware address that [`ensure`] gives it.
fn is_ours(table: &str, network: &Network, link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge") && link.mac == mac(table, network)
}

/// Refuses a device that has the name of a network's bridge and is not.
pub(super) fn check_ours(table: &str, network: &Network, link: &Link) -> Result<(), Error> {
    match is_ours(table, network, link) {
        true => Ok(()),
        false => Err(Error::Foreign { bridge: link.name.clone(), network: network.name.clone() }),
    }
}

fn render_bridge(table: &str, network: &Network) -> Request {
    let header = link::render_header(0, 0, 0);
    let mut request = Request::new(link::NEWLINK, codec::ACK | codec::CREATE | codec::EXCL, &header);
    // An address of its own: else it takes the lowest of its ports', and changes when one comes or goes.
    request.put_text(link::NAME, &network.bridge).put(link::ADDRESS, &mac(table, network).0);
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
    let routes = match sys::fs::read_text_at(sys::fs::CWD, "/proc/net/ipv6_route") {
        Err(error) if error.is(sys::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let advertised = parse_advertised(&routes);
    for link in link::read_links(&mut Socket::open()?)? {
        let path = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if listens(&link, &advertised) && is_on(&path)? {
            write_setting(&path, "2")?;
        }
    }
    Ok(())
}

/// Whether a device may have routers of the host's behind it. Behind a bridge or a veth are containers and virtual machines,
/// whose word must not change the host's routes, unless the host has routes from there: its uplink may be a bridge.
fn listens(link: &Link, advertised: &[&str]) -> bool {
    let virtual_side = link.name == "lo" || matches!(link.kind.as_deref(), Some("bridge" | "veth"));
    !virtual_side || advertised.contains(&link.name.as_str())
}

/// The devices with routes from advertisements, of /proc/net/ipv6_route: flags and device are the last two of ten columns.
///
/// Kernel: include/uapi/linux/ipv6_route.h, RTF_ADDRCONF.
fn parse_advertised(text: &str) -> Vec<&str> {
    const ADDRCONF: u32 = 0x0004_0000;
    let device = |line| {
        let columns: Vec<&str> = str::split_ascii_whitespace(line).collect();
        let &[_, _, _, _, _, _, _, _, flags, name] = columns.as_slice() else { return None };
        (u32::from_str_radix(flags, 16).ok()? & ADDRCONF != 0).then_some(name)
    };
    text.lines().filter_map(device).collect()
}

/// Whether a parameter is 1. One that is not there is not.
fn is_on(path: &str) -> Result<bool, Error> {
    match sys::fs::read_text_at(sys::fs::CWD, &format!("/proc/sys/{path}")) {
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        other => Ok(other?.trim() == "1"),
    }
}

/// Deletes the bridge. Whatever else has its name, a bridge of somebody else too, stays.
pub(super) fn delete(table: &str, network: &Network) -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let found = link::read_link(&mut socket, &network.bridge, Place::Host)?;
    if let Some(link) = found.filter(|link| is_ours(table, network, link)) {
        link::delete(&mut socket, &link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::{NewNetwork, plan_network};

    fn link(name: &str, kind: Option<&str>, mac: HardwareAddress) -> Link {
        Link { index: 1, name: name.into(), kind: kind.map(Into::into), up: true, mtu: 1500, mac }
    }

    #[test]
    fn a_bridge_of_somebody_else_is_not_ours() {
        let network = plan_network(&NewNetwork::new("lan"), &[], &[]).unwrap();
        let ours = mac_of("lan");
        assert!(is_ours("skep", &network, &link("skep-lan", Some("bridge"), ours.clone())));
        assert!(!is_ours("skep", &network, &link("skep-lan", Some("bridge"), mac_of("other"))));
        assert!(!is_ours("skep", &network, &link("skep-lan", Some("bridge"), HardwareAddress::default())));
        assert!(!is_ours("skep-00000001", &network, &link("skep-lan", Some("bridge"), ours.clone())));
        let error = check_ours("skep", &network, &link("skep-lan", Some("veth"), ours)).unwrap_err();
        assert_eq!(error.to_string(), r#"network device "skep-lan" is no bridge that was made for network "lan""#);
    }

    #[test]
    fn devices_that_routers_are_behind_keep_their_advertisements() {
        let zero = "0".repeat(32);
        let route = |flags: &str, device: &str| {
            format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 {flags} {device:>8}\n")
        };
        let text = [route("00450003", "br0"), route("00000001", "br1"), "short 00450003 br2\n".to_owned()].concat();
        let advertised = parse_advertised(&text);
        assert_eq!(advertised, ["br0"]);
        for (name, kind, expected) in [
            ("eth0", None, true),
            ("bond0", Some("bond"), true),
            ("br0", Some("bridge"), true),
            ("br1", Some("bridge"), false),
            ("veth1", Some("veth"), false),
            ("lo", None, false),
        ] {
            assert_eq!(listens(&link(name, kind, HardwareAddress::default()), &advertised), expected, "{name}");
        }
    }
}
