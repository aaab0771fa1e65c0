//! What a network is: a name, a bridge, subnets, and what is let through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::address::Prefix;
use crate::name::{NAME_MAX, NameError, validate_name};
use crate::spec::hash;

/// What the names of our bridges begin with, so that nobody's else are touched.
const BRIDGE_PREFIX: &str = "skep-";
/// Longest name of a network: it is part of a file's name.
const NETWORK_NAME_MAX: usize = 64;
/// Where IPv4 subnets come from that nobody chose: 10.90.0.0/24 to 10.99.255.0/24.
const POOL_V4: (u8, std::ops::RangeInclusive<u8>) = (10, 90..=99);
/// Smallest IPv4 and IPv6 subnets: a gateway and a container need two addresses.
const LONGEST: (u8, u8) = (30, 126);

/// A network as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The bridge of the host, at most 15 bytes.
    pub bridge: String,
    /// At most one of each family.
    pub subnets: Vec<Subnet>,
    /// Whether the host stands in for containers outside (masquerading); nobody outside reaches them but by port
    /// forwards then. Else their addresses are routed as they are.
    pub nat: bool,
    /// Most bytes of a packet; None leaves 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether containers of other networks of ours reach its containers by port forwards alone.
    pub isolate: bool,
    /// Whether nothing goes in or out but to and from the host itself.
    pub internal: bool,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub subnet: Prefix,
    /// The host's own address in it.
    pub gateway: IpAddr,
}

/// What somebody wants of a new network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNetwork {
    /// Letters, digits, `_`, `.` and `-`, beginning with a letter or digit; at most 64.
    pub name: String,
    /// The bridge, of the letters of `name`; None for `skep-` and the name, or a number made from it where that is too long.
    pub bridge: Option<String>,
    /// Ranges, at most one of each family; none for ranges that are free.
    pub subnets: Vec<Prefix>,
    /// The host's addresses; the first of each range where none is given.
    pub gateways: Vec<IpAddr>,
    /// See [`Network::nat`].
    pub nat: bool,
    /// 68..=65535, and 1280 at least with IPv6.
    pub mtu: Option<u32>,
    /// See [`Network::isolate`].
    pub isolate: bool,
    /// See [`Network::internal`].
    pub internal: bool,
}

impl NewNetwork {
    /// With NAT, apart from other networks, all else by itself.
    #[must_use]
    pub fn new(name: &str) -> NewNetwork {
        NewNetwork {
            name: name.to_owned(),
            bridge: None,
            subnets: Vec::new(),
            gateways: Vec::new(),
            nat: true,
            mtu: None,
            isolate: true,
            internal: false,
        }
    }
}

/// A definition that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A name that is no file's name, or nobody's.
    #[error("a name has 1 to 64 letters, digits, _ . and -, and begins with a letter or digit")]
    Name,
    /// The bridge's name.
    #[error("bridge {name:?}")]
    Bridge {
        /// As given.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: NameError,
    },
    /// A bridge whose name means something to programs that are given it: `+` and `*` to iptables and nft, `-` as the first.
    #[error("bridge {0:?}: its name has letters, digits, _ . and - alone, and does not begin with -")]
    BridgeName(String),
    /// The bridge of another network.
    #[error("bridge {bridge:?} belongs to network {network:?}")]
    BridgeTaken {
        /// The bridge.
        bridge: String,
        /// Whose it is.
        network: String,
    },
    /// Two ranges of one family.
    #[error("two subnets of one family")]
    Family,
    /// A range that leaves no address for a container.
    #[error("subnet {0} has no address for a container beside the host's")]
    Small(Prefix),
    /// A range whose address is not its first.
    #[error("subnet {0} has bits behind its prefix; {1} is meant")]
    Bits(Prefix, Prefix),
    /// A range that no container can have.
    #[error("subnet {0} is of loopback, link-local or multicast addresses")]
    Special(Prefix),
    /// A range that is in use.
    #[error("subnet {subnet} overlaps {with}")]
    Overlap {
        /// The range that was asked for.
        subnet: Prefix,
        /// What it overlaps, with whose it is.
        with: String,
    },
    /// No range is left.
    #[error("no subnet below 10.90.0.0 to 10.99.255.0 is free")]
    Exhausted,
    /// A gateway of no range.
    #[error("gateway {0} is no address that a host can have in the subnets")]
    Gateway(IpAddr),
    /// Too small or large.
    #[error("mtu {0} is outside 68..=65535, or below 1280 with IPv6")]
    Mtu(u32),
}

/// Checks the name of a network.
///
/// # Errors
/// [`NetworkError::Name`].
pub fn validate_network_name(name: &str) -> Result<(), NetworkError> {
    let fits = (1..=NETWORK_NAME_MAX).contains(&name.len()) && name.bytes().all(is_known);
    if fits && name.as_bytes()[0].is_ascii_alphanumeric() { Ok(()) } else { Err(NetworkError::Name) }
}

fn is_known(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Decides on all that a definition leaves open. Pure: `others` are the networks that are there, `used` the ranges of the
/// host's devices.
///
/// # Errors
/// [`NetworkError`].
pub fn plan_network(new: &NewNetwork, others: &[Network], used: &[Prefix]) -> Result<Network, NetworkError> {
    validate_network_name(&new.name)?;
    let bridge = plan_bridge(new)?;
    if let Some(other) = others.iter().find(|other| other.bridge == bridge) {
        return Err(NetworkError::BridgeTaken { bridge, network: other.name.clone() });
    }
    let ranges = match new.subnets.is_empty() {
        true => choose_ranges(&new.name, others, used)?,
        false => new.subnets.clone(),
    };
    for (position, range) in ranges.iter().enumerate() {
        if ranges[..position].iter().any(|other| other.ip.is_ipv4() == range.ip.is_ipv4()) {
            return Err(NetworkError::Family);
        }
        validate_range(*range, others, used)?;
    }
    let subnets: Vec<Subnet> =
        ranges.iter().map(|range| plan_subnet(*range, &new.gateways)).collect::<Result<_, _>>()?;
    if let Some(gateway) = new.gateways.iter().find(|gateway| !subnets.iter().any(|subnet| subnet.gateway == **gateway))
    {
        return Err(NetworkError::Gateway(*gateway));
    }
    let least = if ranges.iter().any(|range| range.ip.is_ipv6()) { 1280 } else { 68 };
    if let Some(mtu) = new.mtu.filter(|mtu| !(least..=65535).contains(mtu)) {
        return Err(NetworkError::Mtu(mtu));
    }
    let NewNetwork { name, nat, mtu, isolate, internal, .. } = new.clone();
    Ok(Network { name, bridge, subnets, nat, mtu, isolate, internal })
}

fn plan_bridge(new: &NewNetwork) -> Result<String, NetworkError> {
    let bridge = new.bridge.clone().unwrap_or_else(|| {
        let plain = format!("{BRIDGE_PREFIX}{}", new.name);
        let digits = hash(&[&new.name]) & 0xff_ffff_ffff;
        if plain.len() <= NAME_MAX { plain } else { format!("{BRIDGE_PREFIX}{digits:010x}") }
    });
    if let Err(reason) = validate_name(&bridge) {
        return Err(NetworkError::Bridge { name: bridge, reason });
    }
    let fits = bridge.bytes().all(is_known) && !bridge.starts_with('-');
    if fits { Ok(bridge) } else { Err(NetworkError::BridgeName(bridge)) }
}

fn validate_range(range: Prefix, others: &[Network], used: &[Prefix]) -> Result<(), NetworkError> {
    if range != range.network() {
        return Err(NetworkError::Bits(range, range.network()));
    }
    let special = match range.ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if special {
        return Err(NetworkError::Special(range));
    }
    if range.length > if range.ip.is_ipv4() { LONGEST.0 } else { LONGEST.1 } {
        return Err(NetworkError::Small(range));
    }
    for other in others {
        if let Some(found) = other.subnets.iter().find(|other| other.subnet.overlaps(&range)) {
            let with = format!("{} of network {:?}", found.subnet, other.name);
            return Err(NetworkError::Overlap { subnet: range, with });
        }
    }
    match used.iter().find(|used| used.length > 0 && used.overlaps(&range)) {
        Some(used) => Err(NetworkError::Overlap { subnet: range, with: format!("{used} of a network device") }),
        None => Ok(()),
    }
}

/// The first IPv4 range of the pool that is free, and an IPv6 range of RFC 4193 whose 40 bits come from the name.
fn choose_ranges(name: &str, others: &[Network], used: &[Prefix]) -> Result<Vec<Prefix>, NetworkError> {
    let free = |range: &Prefix| validate_range(*range, others, used).is_ok();
    let (first, seconds) = POOL_V4;
    let v4 = seconds
        .flat_map(|second| (0..=255).map(move |third| Ipv4Addr::new(first, second, third, 0)))
        .map(|ip| Prefix { ip: ip.into(), length: 24 })
        .find(free)
        .ok_or(NetworkError::Exhausted)?;
    let v6 = (0u8..=255).map(|attempt| {
        let [_, _, _, a, b, c, d, e] = hash(&[name, &attempt.to_string()]).to_be_bytes();
        let ip = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Prefix { ip: ip.into(), length: 64 }
    });
    Ok(std::iter::once(v4).chain(v6.into_iter().find(free)).collect())
}

fn plan_subnet(subnet: Prefix, gateways: &[IpAddr]) -> Result<Subnet, NetworkError> {
    let given = gateways.iter().copied().find(|gateway| subnet.contains(*gateway));
    let gateway = given.unwrap_or_else(|| nth(subnet, 1));
    if is_usable(subnet, gateway) { Ok(Subnet { subnet, gateway }) } else { Err(NetworkError::Gateway(gateway)) }
}

/// The address at a distance from the first of a range.
pub(super) fn nth(range: Prefix, distance: u64) -> IpAddr {
    match range.ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).wrapping_add(distance as u32)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).wrapping_add(u128::from(distance))).into(),
    }
}

/// Whether a host can have an address: in the range, neither its first nor, with IPv4, its last.
pub(super) fn is_usable(range: Prefix, ip: IpAddr) -> bool {
    let last = match (range.network().ip, range.length) {
        (IpAddr::V4(first), length) => {
            Some(IpAddr::from(Ipv4Addr::from(u32::from(first) | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0))))
        }
        (IpAddr::V6(_), _) => None,
    };
    range.contains(ip) && ip != range.network().ip && Some(ip) != last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn with(subnets: &[&str]) -> NewNetwork {
        NewNetwork { subnets: subnets.iter().map(|text| prefix(text)).collect(), ..NewNetwork::new("lan") }
    }

    #[test]
    fn what_is_left_open_is_decided() {
        let network = plan_network(&NewNetwork::new("lan"), &[], &[prefix("10.90.0.0/24")]).unwrap();
        assert_eq!(network.bridge, "skep-lan");
        assert_eq!(network.subnets[0].subnet, prefix("10.90.1.0/24"));
        assert_eq!(network.subnets[0].gateway.to_string(), "10.90.1.1");
        assert!(network.subnets[1].subnet.to_string().starts_with("fd"));
        assert_eq!(network.subnets[1].subnet.length, 64);
        let second = plan_network(&NewNetwork::new("dmz"), std::slice::from_ref(&network), &[]).unwrap();
        assert_eq!(second.subnets[0].subnet, prefix("10.90.0.0/24"));
        assert_ne!(second.subnets[1].subnet, network.subnets[1].subnet);
        let long = plan_network(&NewNetwork::new("a-network-with-a-long-name"), &[], &[]).unwrap();
        assert_eq!((long.bridge.len(), &long.bridge[..5]), (15, "skep-"));
    }

    #[test]
    fn gateways() {
        let mut new = with(&["10.1.0.0/16", "fd01::/64"]);
        new.gateways = vec!["10.1.255.254".parse().unwrap()];
        let network = plan_network(&new, &[], &[]).unwrap();
        let gateways: Vec<String> = network.subnets.iter().map(|subnet| subnet.gateway.to_string()).collect();
        assert_eq!(gateways, ["10.1.255.254", "fd01::1"]);
        for wrong in ["10.2.0.1", "10.1.255.255", "10.1.0.0", "fd02::1"] {
            new.gateways = vec![wrong.parse().unwrap()];
            assert_eq!(plan_network(&new, &[], &[]), Err(NetworkError::Gateway(new.gateways[0])));
        }
    }

    fn check(new: &NewNetwork, expected: &str) {
        let other = plan_network(&NewNetwork { name: "other".to_owned(), ..with(&["10.5.0.0/16"]) }, &[], &[]).unwrap();
        let error = plan_network(new, &[other], &[prefix("192.168.7.0/24"), prefix("0.0.0.0/0")]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for name in ["", ".x", "-x", "a/b", "a b", "x".repeat(65).as_str()] {
            check(
                &NewNetwork::new(name),
                "a name has 1 to 64 letters, digits, _ . and -, and begins with a letter or digit",
            );
        }
        check(&with(&["10.5.7.0/24"]), r#"subnet 10.5.7.0/24 overlaps 10.5.0.0/16 of network "other""#);
        check(&with(&["192.168.0.0/16"]), "subnet 192.168.0.0/16 overlaps 192.168.7.0/24 of a network device");
        check(&with(&["10.1.0.1/24"]), "subnet 10.1.0.1/24 has bits behind its prefix; 10.1.0.0/24 is meant");
        check(&with(&["10.1.0.0/31"]), "subnet 10.1.0.0/31 has no address for a container beside the host's");
        check(&with(&["fd01::/127"]), "subnet fd01::/127 has no address for a container beside the host's");
        check(&with(&["127.0.0.0/8"]), "subnet 127.0.0.0/8 is of loopback, link-local or multicast addresses");
        check(&with(&["10.1.0.0/24", "10.2.0.0/24"]), "two subnets of one family");
        let mut new = with(&["fd01::/64"]);
        new.mtu = Some(1000);
        check(&new, "mtu 1000 is outside 68..=65535, or below 1280 with IPv6");
        new = NewNetwork { bridge: Some("skep-other".to_owned()), ..NewNetwork::new("x") };
        check(&new, r#"bridge "skep-other" belongs to network "other""#);
        new.bridge = Some("a/b".to_owned());
        check(&new, r#"bridge "a/b""#);
        for name in ["br+", "br*", "-br", "b\"r", "br\\", "brücke"] {
            new.bridge = Some(name.to_owned());
            check(
                &new,
                &format!("bridge {name:?}: its name has letters, digits, _ . and - alone, and does not begin with -"),
            );
        }
    }

    #[test]
    fn the_pool_ends() {
        let used = [prefix("10.0.0.0/8")];
        assert_eq!(plan_network(&NewNetwork::new("lan"), &[], &used), Err(NetworkError::Exhausted));
    }
}
