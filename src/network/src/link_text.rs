//! The text form of a link on a command line: a kind, then `key=value` parts.
//!
//! ```text
//! veth:name=eth0,address=10.88.0.2/24,gateway=10.88.0.1,bridge=br0,egress=10mbit     a kind first, or
//! eth0,address=10.88.0.2/24,host=veth-web1,host-address=10.88.0.1/24,mtu=1500        a name first, for a veth
//! veth:mode=routed,address=192.0.2.7/32,parent=eth0      macvlan:parent=eth0,mode=bridge     vlan:parent=eth0,id=7
//! ipvlan:parent=eth0,mode=l3,address=192.0.2.9/24        phys:device=eth1
//! ```

use std::net::{AddrParseError, IpAddr};
use std::num::ParseIntError;

use crate::address::{Prefix, PrefixError};
use crate::link::{HardwareAddress, HardwareAddressError};
use crate::name::{NameError, validate_name};
use crate::rate::RateError;
use crate::route::RouteError;
use crate::spec::{IpvlanMode, LINK_LOCAL_GATEWAYS, LinkKind, LinkSpec, MacvlanMode, Veth};

/// Fewest and most bytes of an MTU that the kernel gives a link (ETH_MIN_MTU, ETH_MAX_MTU).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;
/// IPV6_MIN_MTU: below it a link has no IPv6.
const MTU_IPV6: u32 = 1280;
/// 802.1Q: 0 means no tag, 4095 is reserved.
const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

/// Keys that each kind takes, besides those of [`COMMON`].
const KINDS: [(&str, &[&str]); 5] = [
    (
        "veth",
        &[
            "host",
            "host-address",
            "bridge",
            "hairpin",
            "mode",
            "parent",
            "egress",
            "ingress",
            "gateway",
            "route",
            "mtu",
            "mac",
        ],
    ),
    ("macvlan", &["parent", "mode", "gateway", "route", "mtu", "mac"]),
    ("vlan", &["parent", "id", "gateway", "route", "mtu", "mac"]),
    ("ipvlan", &["parent", "mode", "gateway", "route", "mtu"]),
    ("phys", &["device", "gateway", "route"]),
];
/// Keys that every kind takes.
const COMMON: [&str; 2] = ["name", "address"];

/// A text that describes no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No such kind.
    #[error("unknown kind {0:?}: veth, macvlan, vlan, ipvlan and phys are known")]
    Kind(String),
    /// A name that the kernel would refuse.
    #[error("{key} {name:?}")]
    Name {
        /// Which name.
        key: &'static str,
        /// As given.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: NameError,
    },
    /// Not `key=value`.
    #[error("{0:?} is not of the form key=value")]
    NoValue(String),
    /// No such key.
    #[error("unknown key {key:?}: a {kind} has {}", known_keys(kind))]
    Key {
        /// As given.
        key: String,
        /// The kind of the link.
        kind: &'static str,
    },
    /// A key that may stand once, or a second gateway of a family.
    #[error("{key} is given twice")]
    Twice {
        /// The key.
        key: &'static str,
    },
    /// A key that must be there.
    #[error("a {kind} needs {key}=")]
    Needs {
        /// The kind of the link, with its mode where that decides.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// Keys that contradict each other.
    #[error("{key} goes with {with} alone")]
    Without {
        /// The key.
        key: &'static str,
        /// What it needs.
        with: &'static str,
    },
    /// No such mode.
    #[error("unknown mode {mode:?} of a {kind}: {known} are known")]
    Mode {
        /// As given.
        mode: String,
        /// The kind of the link.
        kind: &'static str,
        /// The modes.
        known: &'static str,
    },
    /// Neither on nor off.
    #[error("{key} {text:?} is neither on nor off")]
    Switch {
        /// The key.
        key: &'static str,
        /// As given.
        text: String,
    },
    /// No tag.
    #[error("id {0:?} is no number from 1 to 4094")]
    VlanId(String),
    /// No address with a prefix length.
    #[error("{key}")]
    Prefix {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        reason: PrefixError,
    },
    /// An address that no link can have.
    #[error("{key} {address} is the unspecified or a multicast address")]
    Unusable {
        /// The key.
        key: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// The same address twice, on one end or both.
    #[error("address {0} is given twice")]
    Same(IpAddr),
    /// A routed address with neighbours.
    #[error("address {0} of a routed veth: it has no neighbours, so /32 or /128")]
    Routed(Prefix),
    /// No address.
    #[error("gateway {text:?}")]
    Gateway {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        reason: AddrParseError,
    },
    /// A gateway that the container could not reach.
    #[error("gateway {0} is in the network of no address of the container")]
    Unreachable(IpAddr),
    /// A gateway that is the container itself.
    #[error("gateway {0} is the container's own address")]
    OwnGateway(IpAddr),
    /// No route.
    #[error("route")]
    Route(#[source] RouteError),
    /// No number.
    #[error("mtu {text:?}")]
    MtuText {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        reason: ParseIntError,
    },
    /// A number that is none for an MTU.
    #[error("mtu {0} is outside 68..=65535")]
    MtuRange(u32),
    /// IPv6 on a link that is too narrow for it.
    #[error("mtu {0} is below 1280, the least for an IPv6 address")]
    MtuIpv6(u32),
    /// No hardware address.
    #[error("mac")]
    Mac(#[source] HardwareAddressError),
    /// A hardware address that a link cannot have.
    #[error("mac {0} is no address of one Ethernet device: six bytes, not all zero, the first one even")]
    MacUnusable(HardwareAddress),
    /// No rate.
    #[error("{key}")]
    Rate {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        reason: RateError,
    },
}

fn known_keys(kind: &str) -> String {
    let own = KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    COMMON.iter().chain(own).copied().collect::<Vec<_>>().join(", ")
}

/// Reads a link: `KIND:`, then `key=value` parts with commas between. The name in the container is `eth0` where no
/// `name=` says otherwise.
///
/// Every kind: `address` (any number, both families, each with its prefix length), `gateway` (one per family), `route`
/// (`PREFIX` or `PREFIX via ADDRESS`, any number), `mtu` (bytes), `mac`. A veth: `host` (a name), `host-address`,
/// `bridge`, `hairpin` (`on`, `off`), `mode` (`pair`, `bridge` or `routed`), `parent` (with `routed`), `egress` and `ingress` (rates). The others:
/// `parent`, `mode`, `id`; `phys` has `device`, and no `mtu` or `mac`.
///
/// # Errors
/// [`LinkError`] names the part and what is wrong with it.
pub fn parse_link(text: &str) -> Result<LinkSpec, LinkError> {
    let (kind, parts) = text.split_once(':').unwrap_or((text, ""));
    let kind = KINDS.iter().find(|(name, _)| *name == kind).ok_or_else(|| LinkError::Kind(kind.to_owned()))?.0;
    let mut fields = Fields::default();
    if !parts.is_empty() {
        read_parts(kind, parts.split(','), &mut fields)?;
    }
    finish(kind, fields)
}

/// Reads a veth in its short form: the name in the container, then the parts of [`parse_link`].
///
/// # Errors
/// As [`parse_link`].
pub fn parse_veth(text: &str) -> Result<LinkSpec, LinkError> {
    let mut parts = text.split(',');
    let name = parse_name("name", parts.next().unwrap_or_default())?;
    let mut fields = Fields { name: Some(name), ..Fields::default() };
    read_parts("veth", parts, &mut fields)?;
    finish("veth", fields)
}

/// What stands in a text, before it is judged as a whole.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    veth: Veth,
    parent: Option<String>,
    device: Option<String>,
    mode: Option<String>,
    hairpin: Option<bool>,
    id: Option<u16>,
    addresses: Vec<Prefix>,
    gateways: Vec<IpAddr>,
    routes: Vec<crate::route::Route>,
    mtu: Option<u32>,
    mac: Option<HardwareAddress>,
}

fn read_parts<'a>(
    kind: &'static str,
    parts: impl Iterator<Item = &'a str>,
    fields: &mut Fields,
) -> Result<(), LinkError> {
    let own = KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| LinkError::NoValue(part.to_owned()))?;
        let Some(key) = COMMON.iter().chain(own).find(|known| **known == key) else {
            return Err(LinkError::Key { key: key.to_owned(), kind });
        };
        read_part(key, value, fields)?;
    }
    Ok(())
}

fn read_part(key: &'static str, value: &str, fields: &mut Fields) -> Result<(), LinkError> {
    let rate = |value: &str| value.parse().map_err(|reason| LinkError::Rate { key, reason });
    match key {
        "name" => set_once(key, &mut fields.name, parse_name(key, value)?),
        "host" => set_once(key, &mut fields.veth.host_name, parse_name(key, value)?),
        "bridge" => set_once(key, &mut fields.veth.bridge, parse_name(key, value)?),
        "parent" => set_once(key, &mut fields.parent, parse_name(key, value)?),
        "device" => set_once(key, &mut fields.device, parse_name(key, value)?),
        "mode" => set_once(key, &mut fields.mode, value.to_owned()),
        "id" => set_once(key, &mut fields.id, parse_vlan_id(value)?),
        "mtu" => set_once(key, &mut fields.mtu, parse_mtu(value)?),
        "mac" => set_once(key, &mut fields.mac, parse_mac(value)?),
        "hairpin" => set_once(key, &mut fields.hairpin, parse_switch(key, value)?),
        "egress" => set_once(key, &mut fields.veth.egress, rate(value)?),
        "ingress" => set_once(key, &mut fields.veth.ingress, rate(value)?),
        "address" => push(&mut fields.addresses, parse_prefix(key, value)?),
        "host-address" => push(&mut fields.veth.host_addresses, parse_prefix(key, value)?),
        "gateway" => push(&mut fields.gateways, parse_gateway(value)?),
        "route" => push(&mut fields.routes, value.parse().map_err(LinkError::Route)?),
        other => Err(LinkError::Key { key: other.to_owned(), kind: "link" }),
    }
}

fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), LinkError> {
    list.push(value);
    Ok(())
}

fn finish(kind: &'static str, mut fields: Fields) -> Result<LinkSpec, LinkError> {
    let mode = fields.mode.take();
    let needs = |key, value: Option<String>| value.ok_or(LinkError::Needs { kind, key });
    let link = match kind {
        "veth" => LinkKind::Veth(finish_veth(&mut fields, mode.as_deref())?),
        "macvlan" => {
            LinkKind::Macvlan { parent: needs("parent", fields.parent.take())?, mode: parse_macvlan(mode.as_deref())? }
        }
        "vlan" => LinkKind::Vlan {
            parent: needs("parent", fields.parent.take())?,
            id: fields.id.ok_or(LinkError::Needs { kind, key: "id" })?,
        },
        "ipvlan" => {
            LinkKind::Ipvlan { parent: needs("parent", fields.parent.take())?, mode: parse_ipvlan(mode.as_deref())? }
        }
        _ => LinkKind::Phys { device: needs("device", fields.device.take())? },
    };
    let spec = LinkSpec {
        name: fields.name.unwrap_or_else(|| "eth0".to_owned()),
        link,
        addresses: fields.addresses,
        gateways: fields.gateways,
        routes: fields.routes,
        mtu: fields.mtu,
        mac: fields.mac,
    };
    validate_link(&spec)?;
    Ok(spec)
}

fn finish_veth(fields: &mut Fields, mode: Option<&str>) -> Result<Veth, LinkError> {
    let mut veth = std::mem::take(&mut fields.veth);
    veth.routed = match mode {
        None => false,
        Some("routed") => true,
        Some("pair") if veth.bridge.is_some() => {
            return Err(LinkError::Without { key: "bridge", with: "mode=bridge" });
        }
        Some("bridge") if veth.bridge.is_none() => {
            return Err(LinkError::Needs { kind: "veth with mode=bridge", key: "bridge" });
        }
        Some("pair" | "bridge") => false,
        Some(mode) => {
            let known = "pair, bridge and routed";
            return Err(LinkError::Mode { mode: mode.to_owned(), kind: "veth", known });
        }
    };
    if fields.hairpin.is_some() && veth.bridge.is_none() {
        return Err(LinkError::Without { key: "hairpin", with: "bridge" });
    }
    veth.hairpin = fields.hairpin.unwrap_or(false);
    veth.parent = fields.parent.take();
    if veth.routed {
        return finish_routed(fields, veth);
    }
    if veth.parent.is_some() {
        return Err(LinkError::Without { key: "parent", with: "mode=routed" });
    }
    Ok(veth)
}

/// A routed container has addresses without neighbours; its gateway is the host's end.
fn finish_routed(fields: &mut Fields, mut veth: Veth) -> Result<Veth, LinkError> {
    if veth.bridge.is_some() {
        return Err(LinkError::Without { key: "bridge", with: "mode=bridge" });
    }
    if fields.addresses.is_empty() {
        return Err(LinkError::Needs { kind: "veth with mode=routed", key: "address" });
    }
    if let Some(prefix) = fields.addresses.iter().find(|prefix| **prefix != Prefix::host(prefix.ip)) {
        return Err(LinkError::Routed(*prefix));
    }
    for gateway in LINK_LOCAL_GATEWAYS {
        let gateway: Prefix = gateway.parse().map_err(|reason| LinkError::Prefix { key: "gateway", reason })?;
        let same = |ip: IpAddr| ip.is_ipv4() == gateway.ip.is_ipv4();
        if !fields.addresses.iter().any(|prefix| same(prefix.ip)) || fields.gateways.iter().any(|ip| same(*ip)) {
            continue;
        }
        let own = veth.host_addresses.iter().find(|prefix| same(prefix.ip)).map(|prefix| prefix.ip);
        if own.is_none() {
            veth.host_addresses.push(gateway);
        }
        fields.gateways.push(own.unwrap_or(gateway.ip));
    }
    Ok(veth)
}

fn parse_macvlan(mode: Option<&str>) -> Result<MacvlanMode, LinkError> {
    Ok(match mode.unwrap_or("bridge") {
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "bridge" => MacvlanMode::Bridge,
        "passthru" => MacvlanMode::Passthru,
        mode => {
            let known = "bridge, private, vepa and passthru";
            return Err(LinkError::Mode { mode: mode.to_owned(), kind: "macvlan", known });
        }
    })
}

fn parse_ipvlan(mode: Option<&str>) -> Result<IpvlanMode, LinkError> {
    Ok(match mode.unwrap_or("l2") {
        "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        mode => return Err(LinkError::Mode { mode: mode.to_owned(), kind: "ipvlan", known: "l2, l3 and l3s" }),
    })
}

fn parse_switch(key: &'static str, text: &str) -> Result<bool, LinkError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(LinkError::Switch { key, text: text.to_owned() }),
    }
}

fn parse_vlan_id(text: &str) -> Result<u16, LinkError> {
    let id = text.parse().ok().filter(|id| VLAN_IDS.contains(id));
    id.ok_or_else(|| LinkError::VlanId(text.to_owned()))
}

fn parse_mac(text: &str) -> Result<HardwareAddress, LinkError> {
    let mac: HardwareAddress = text.parse().map_err(LinkError::Mac)?;
    let usable = mac.0.len() == 6 && mac.0[0] & 1 == 0 && mac.0.iter().any(|byte| *byte != 0);
    if usable { Ok(mac) } else { Err(LinkError::MacUnusable(mac)) }
}

fn parse_name(key: &'static str, name: &str) -> Result<String, LinkError> {
    match validate_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(reason) => Err(LinkError::Name { key, name: name.to_owned(), reason }),
    }
}

fn parse_prefix(key: &'static str, text: &str) -> Result<Prefix, LinkError> {
    let prefix: Prefix = text.parse().map_err(|reason| LinkError::Prefix { key, reason })?;
    check_usable(key, prefix.ip)?;
    Ok(prefix)
}

fn parse_gateway(text: &str) -> Result<IpAddr, LinkError> {
    let gateway = text.parse().map_err(|reason| LinkError::Gateway { text: text.to_owned(), reason })?;
    check_usable("gateway", gateway)?;
    Ok(gateway)
}

fn check_usable(key: &'static str, address: IpAddr) -> Result<(), LinkError> {
    match address.is_unspecified() || address.is_multicast() {
        true => Err(LinkError::Unusable { key, address }),
        false => Ok(()),
    }
}

fn parse_mtu(text: &str) -> Result<u32, LinkError> {
    let mtu = text.parse().map_err(|reason| LinkError::MtuText { text: text.to_owned(), reason })?;
    if MTU.contains(&mtu) { Ok(mtu) } else { Err(LinkError::MtuRange(mtu)) }
}

fn set_once<T>(key: &'static str, place: &mut Option<T>, value: T) -> Result<(), LinkError> {
    match place.replace(value) {
        Some(_) => Err(LinkError::Twice { key }),
        None => Ok(()),
    }
}

/// What only the parts together can show.
fn validate_link(spec: &LinkSpec) -> Result<(), LinkError> {
    let (host, routed) = match &spec.link {
        LinkKind::Veth(veth) => (&veth.host_addresses[..], veth.routed),
        _ => (&[][..], false),
    };
    let ips: Vec<IpAddr> = spec.addresses.iter().chain(host).map(|prefix| prefix.ip).collect();
    if let Some((_, ip)) = ips.iter().enumerate().find(|(position, ip)| ips[..*position].contains(ip)) {
        return Err(LinkError::Same(*ip));
    }
    for (position, gateway) in spec.gateways.iter().enumerate() {
        if spec.gateways[..position].iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return Err(LinkError::Twice { key: "gateway" });
        }
        if spec.addresses.iter().any(|prefix| prefix.ip == *gateway) {
            return Err(LinkError::OwnGateway(*gateway));
        }
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !routed && !spec.addresses.iter().any(|prefix| prefix.contains(*gateway)) {
            return Err(LinkError::Unreachable(*gateway));
        }
    }
    match spec.mtu {
        Some(mtu) if mtu < MTU_IPV6 && ips.iter().any(IpAddr::is_ipv6) => Err(LinkError::MtuIpv6(mtu)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
