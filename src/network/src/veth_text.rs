//! The text form of a veth on a command line:
//! `eth0,address=10.88.0.2/24,gateway=10.88.0.1,host=veth-web1,host-address=10.88.0.1/24,mtu=1500`.

use std::net::{AddrParseError, IpAddr};
use std::num::ParseIntError;

use crate::address::{Prefix, PrefixError};
use crate::name::{NameError, validate_name};
use crate::veth::Veth;

/// Fewest and most bytes of an MTU that the kernel gives a veth (ETH_MIN_MTU, ETH_MAX_MTU).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;
/// IPV6_MIN_MTU: below it a link has no IPv6.
const MTU_IPV6: u32 = 1280;

/// A text that describes no veth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VethError {
    /// A name that the kernel would refuse.
    #[error("{key} {name:?}")]
    Name {
        /// `name` for the one in the container, `host`.
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
    #[error("unknown key {0:?}: address, gateway, host, host-address and mtu are known")]
    Key(String),
    /// A key that may stand once, or a second gateway of a family.
    #[error("{key} is given twice")]
    Twice {
        /// The key.
        key: &'static str,
    },
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
}

/// Reads a veth: the name in the container, then `key=value` parts, all with commas between.
///
/// Keys: `address` and `host-address` (any number, both families, each with its prefix length), `gateway` (one per
/// family), `host` (a name), `mtu` (bytes).
///
/// # Errors
/// [`VethError`] names the part and what is wrong with it.
pub fn parse_veth(text: &str) -> Result<Veth, VethError> {
    let mut parts = text.split(',');
    let mut veth = Veth {
        container_name: parse_name("name", parts.next().unwrap_or_default())?,
        host_name: None,
        addresses: Vec::new(),
        host_addresses: Vec::new(),
        gateways: Vec::new(),
        mtu: None,
    };
    for part in parts {
        match part.split_once('=').ok_or_else(|| VethError::NoValue(part.to_owned()))? {
            ("address", value) => veth.addresses.push(parse_prefix("address", value)?),
            ("host-address", value) => veth.host_addresses.push(parse_prefix("host-address", value)?),
            ("gateway", value) => veth.gateways.push(parse_gateway(value)?),
            ("host", value) => set_once("host", &mut veth.host_name, parse_name("host", value)?)?,
            ("mtu", value) => set_once("mtu", &mut veth.mtu, parse_mtu(value)?)?,
            (key, _) => return Err(VethError::Key(key.to_owned())),
        }
    }
    validate_veth(&veth)?;
    Ok(veth)
}

fn parse_name(key: &'static str, name: &str) -> Result<String, VethError> {
    match validate_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(reason) => Err(VethError::Name { key, name: name.to_owned(), reason }),
    }
}

fn parse_prefix(key: &'static str, text: &str) -> Result<Prefix, VethError> {
    let prefix: Prefix = text.parse().map_err(|reason| VethError::Prefix { key, reason })?;
    check_usable(key, prefix.ip)?;
    Ok(prefix)
}

fn parse_gateway(text: &str) -> Result<IpAddr, VethError> {
    let gateway = text.parse().map_err(|reason| VethError::Gateway { text: text.to_owned(), reason })?;
    check_usable("gateway", gateway)?;
    Ok(gateway)
}

fn check_usable(key: &'static str, address: IpAddr) -> Result<(), VethError> {
    match address.is_unspecified() || address.is_multicast() {
        true => Err(VethError::Unusable { key, address }),
        false => Ok(()),
    }
}

fn parse_mtu(text: &str) -> Result<u32, VethError> {
    let mtu = text.parse().map_err(|reason| VethError::MtuText { text: text.to_owned(), reason })?;
    if MTU.contains(&mtu) { Ok(mtu) } else { Err(VethError::MtuRange(mtu)) }
}

fn set_once<T>(key: &'static str, place: &mut Option<T>, value: T) -> Result<(), VethError> {
    match place.replace(value) {
        Some(_) => Err(VethError::Twice { key }),
        None => Ok(()),
    }
}

/// What only the parts together can show.
fn validate_veth(veth: &Veth) -> Result<(), VethError> {
    let ips: Vec<IpAddr> = veth.addresses.iter().chain(&veth.host_addresses).map(|prefix| prefix.ip).collect();
    if let Some((_, ip)) = ips.iter().enumerate().find(|(position, ip)| ips[..*position].contains(ip)) {
        return Err(VethError::Same(*ip));
    }
    for (position, gateway) in veth.gateways.iter().enumerate() {
        if veth.gateways[..position].iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return Err(VethError::Twice { key: "gateway" });
        }
        if veth.addresses.iter().any(|prefix| prefix.ip == *gateway) {
            return Err(VethError::OwnGateway(*gateway));
        }
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !veth.addresses.iter().any(|prefix| prefix.contains(*gateway)) {
            return Err(VethError::Unreachable(*gateway));
        }
    }
    match veth.mtu {
        Some(mtu) if mtu < MTU_IPV6 && ips.iter().any(IpAddr::is_ipv6) => Err(VethError::MtuIpv6(mtu)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys() {
        let veth = parse_veth(
            "eth0,address=10.88.0.2/24,gateway=10.88.0.1,host=veth-web1,host-address=10.88.0.1/24,mtu=1500,\
             address=fd00::2/64,gateway=fd00::1,host-address=fd00::1/64",
        )
        .unwrap();
        let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
        assert_eq!(veth.container_name, "eth0");
        assert_eq!(veth.host_name.as_deref(), Some("veth-web1"));
        assert_eq!(veth.addresses, prefixes(&["10.88.0.2/24", "fd00::2/64"]));
        assert_eq!(veth.host_addresses, prefixes(&["10.88.0.1/24", "fd00::1/64"]));
        assert_eq!(veth.gateways, ["10.88.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(veth.mtu, Some(1500));
    }

    #[test]
    fn a_name_is_enough() {
        let veth = parse_veth("net1").unwrap();
        assert_eq!((veth.container_name.as_str(), veth.host_name, veth.mtu), ("net1", None, None));
        assert!(veth.addresses.is_empty() && veth.gateways.is_empty());
    }

    #[test]
    fn a_link_local_gateway_needs_no_address() {
        assert_eq!(parse_veth("eth0,gateway=fe80::1").unwrap().gateways, ["fe80::1".parse::<IpAddr>().unwrap()]);
    }

    fn check(text: &str, expected: &str) {
        let error = parse_veth(text).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        assert_eq!(format!("{error}{source}"), expected, "{text:?}");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        check("", r#"name "": a name must not be empty"#);
        check("address=10.0.0.1/8", r#"name "address=10.0.0.1/8": a name has at most 15 bytes"#);
        check("a/b", r#"name "a/b": a name must not contain a slash, a colon, white space or a NUL"#);
        check(
            "eth0,host=eth%d",
            r#"host "eth%d": a name must not contain % except, where a template is allowed, one %d"#,
        );
        check("eth0,", r#""" is not of the form key=value"#);
        check("eth0,up", r#""up" is not of the form key=value"#);
        check("eth0,adress=1", r#"unknown key "adress": address, gateway, host, host-address and mtu are known"#);
        check("eth0,host=a,host=b", "host is given twice");
        check("eth0,mtu=1500,mtu=1500", "mtu is given twice");
        check(
            "eth0,address=10.0.0.1",
            r#"address: "10.0.0.1" is no address with a prefix length, such as 10.88.0.2/24 or fd00::2/64"#,
        );
        check("eth0,host-address=0.0.0.0/8", "host-address 0.0.0.0 is the unspecified or a multicast address");
        check("eth0,address=ff02::1/64", "address ff02::1 is the unspecified or a multicast address");
        check("eth0,address=10.0.0.1/8,host-address=10.0.0.1/8", "address 10.0.0.1 is given twice");
        check("eth0,gateway=x", r#"gateway "x": invalid IP address syntax"#);
        check(
            "eth0,address=10.0.0.2/24,gateway=10.0.1.1",
            "gateway 10.0.1.1 is in the network of no address of the container",
        );
        check("eth0,address=10.0.0.2/24,gateway=10.0.0.2", "gateway 10.0.0.2 is the container's own address");
        check("eth0,address=10.0.0.2/24,gateway=10.0.0.1,gateway=10.0.0.3", "gateway is given twice");
        check("eth0,mtu=x", r#"mtu "x": invalid digit found in string"#);
        check("eth0,mtu=67", "mtu 67 is outside 68..=65535");
        check("eth0,mtu=65536", "mtu 65536 is outside 68..=65535");
        check("eth0,mtu=1000,address=fd00::1/64", "mtu 1000 is below 1280, the least for an IPv6 address");
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text in "(eth0)?(,(address|host|mtu|gateway|host-address|x)=[0-9a-f:./%]{0,12}){0,4}") {
            if let Ok(veth) = parse_veth(&text) {
                assert!(veth.container_name.len() <= 15);
            }
        }
    }
}
