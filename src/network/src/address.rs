//! Addresses of links.
//!
//! Kernel: include/uapi/linux/if_addr.h, `struct ifaddrmsg`, IFA_*.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Attributes, Malformed, Request};
use crate::error::Error;
use crate::socket::Socket;

const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;

/// Bytes of `struct ifaddrmsg`: family, prefix length, flags, scope (u8 each), index u32.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// All 32 flags; the header has room for eight.
const IFA_FLAGS: u16 = 8;
/// Metric of the route that an address brings.
const IFA_RT_PRIORITY: u16 = 9;

/// Duplicate address detection is off: the address is usable at once.
const NODAD: u32 = 0x02;
/// The address does not expire.
const PERMANENT: u32 = 0x80;
/// What somebody chose for an address and what goes with it to another network namespace: NODAD, HOMEADDRESS,
/// MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN. The other flags are states.
const CHOSEN: u32 = NODAD | 0x10 | 0x100 | 0x200 | 0x400;
/// RT_SCOPE_UNIVERSE: global.
const GLOBAL: u8 = 0;

/// An address with the length of its network's prefix, as `10.88.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address.
    pub ip: IpAddr,
    /// 0..=32 for IPv4, 0..=128 for IPv6.
    pub length: u8,
}

/// A text that is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address with a prefix length, such as 10.88.0.2/24 or fd00::2/64")]
pub struct PrefixError(String);

impl Prefix {
    /// Whether another address is in the same network.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(b)).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The network that the address is in: the bits behind the prefix are zero.
    #[must_use]
    pub fn network(&self) -> Prefix {
        let ip = match self.ip {
            IpAddr::V4(ip) => IpAddr::from(
                (u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)).to_be_bytes(),
            ),
            IpAddr::V6(ip) => IpAddr::from(
                (u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0)).to_be_bytes(),
            ),
        };
        Prefix { ip, length: self.length }
    }

    /// Whether two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Prefix) -> bool {
        if self.length <= other.length { self.contains(other.ip) } else { other.contains(self.ip) }
    }

    /// The address alone: `/32` or `/128`.
    #[must_use]
    pub fn host(ip: IpAddr) -> Prefix {
        Prefix { ip, length: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// The broadcast address of an IPv4 network that has one (prefixes up to 30).
    fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.ip {
            IpAddr::V4(ip) if self.length <= 30 => Some(Ipv4Addr::from(u32::from(ip) | (u32::MAX >> self.length))),
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let parse = || {
            let (ip, length) = text.split_once('/')?;
            let ip: IpAddr = ip.parse().ok()?;
            let length = length.bytes().all(|byte| byte.is_ascii_digit()).then(|| length.parse().ok())??;
            (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Prefix { ip, length })
        };
        parse().ok_or_else(|| PrefixError(text.to_owned()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Prefix, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.to_string()
    }
}

/// An address of a link with all that goes with it to another network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAddress {
    /// The address and its network.
    pub prefix: Prefix,
    /// The other end of a point-to-point link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// IPv4 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// IFA_F_* as the kernel gave them.
    #[serde(default)]
    pub flags: u32,
    /// RT_SCOPE_*: 0 is global, 253 link, 254 host.
    #[serde(default)]
    pub scope: u8,
    /// Metric of its route, where it is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl LinkAddress {
    /// A permanent global address that is usable at once. An IPv4 one gets its network's broadcast address.
    ///
    /// Without duplicate address detection, which takes an IPv6 address out of use for a second or two: for links with
    /// two ends, where whoever makes both knows the addresses.
    #[must_use]
    pub fn new(prefix: Prefix) -> LinkAddress {
        let flags = if prefix.ip.is_ipv6() { PERMANENT | NODAD } else { PERMANENT };
        LinkAddress { prefix, peer: None, broadcast: prefix.broadcast(), flags, scope: GLOBAL, metric: None }
    }

    /// Whether runtime-spec 1.3 has it go with a moved device: permanent and of global scope.
    #[must_use]
    pub fn is_permanent_global(&self) -> bool {
        self.flags & PERMANENT != 0 && self.scope == GLOBAL
    }
}

/// Index of the link that has it, and the address; None for a family that is neither IPv4 nor IPv6.
fn decode_address(payload: &[u8]) -> Result<Option<(u32, LinkAddress)>, Malformed> {
    let &[family, length, flags, scope, ..] = payload else { return Err(Malformed) };
    let index = codec::u32_at(payload, 4).ok_or(Malformed)?;
    if !matches!(i32::from(family), AF_INET | AF_INET6) {
        return Ok(None);
    }
    let (mut address, mut local, mut broadcast, mut metric) = (None, None, None, None);
    let mut flags = u32::from(flags);
    for attribute in Attributes::after(payload, HEADER)? {
        match attribute? {
            (IFA_ADDRESS, value) => address = Some(decode_ip(value)?),
            (IFA_LOCAL, value) => local = Some(decode_ip(value)?),
            (IFA_BROADCAST, value) => broadcast = value.first_chunk().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets)),
            (IFA_FLAGS, value) => flags = codec::u32_at(value, 0).ok_or(Malformed)?,
            (IFA_RT_PRIORITY, value) => metric = codec::u32_at(value, 0),
            _ => {}
        }
    }
    // With both, IFA_ADDRESS is the other end; without IFA_LOCAL (IPv6) it is the address itself.
    let ip = local.or(address).ok_or(Malformed)?;
    let peer = address.filter(|peer| *peer != ip);
    Ok(Some((index, LinkAddress { prefix: Prefix { ip, length }, peer, broadcast, flags, scope, metric })))
}

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

fn decode_ip(value: &[u8]) -> Result<IpAddr, Malformed> {
    match value.len() {
        4 => value.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(*octets)),
        16 => value.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(*octets)),
        _ => None,
    }
    .ok_or(Malformed)
}

/// Addresses of one link (`index`), or of all links (0), with the index of the link each; the kernel's order, in which
/// the primary address of a network stands before its secondary ones.
pub(crate) fn read_addresses(socket: &mut Socket, index: u32) -> Result<Vec<(u32, LinkAddress)>, Error> {
    let mut header = [0; HEADER];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let request = Request::new(GETADDR, codec::DUMP, &header);
    let mut found = socket.dump(&request, || format!("list addresses of network device {index}"), decode_address)?;
    // KERNEL(4.20): an older kernel lists all links whatever the index.
    found.retain(|entry| entry.as_ref().is_some_and(|(owner, _)| index == 0 || *owner == index));
    Ok(found.into_iter().flatten().collect())
}

/// Gives a link an address. One that it has already stays.
pub(crate) fn add_address(socket: &mut Socket, index: u32, name: &str, address: &LinkAddress) -> Result<(), Error> {
    let request = render_address(index, address);
    socket.change(request, || format!("give network device {name:?} the address {}", address.prefix))
}

pub(crate) fn render_address(index: u32, address: &LinkAddress) -> Request {
    let flags = address.flags & (CHOSEN | PERMANENT);
    let mut header = [0; HEADER];
    header[0] = family(address.prefix.ip);
    header[1] = address.prefix.length;
    header[2] = flags.to_le_bytes()[0];
    header[3] = address.scope;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let mut request = Request::new(NEWADDR, codec::ACK | codec::CREATE | codec::REPLACE, &header);
    put_ip(&mut request, IFA_LOCAL, address.prefix.ip);
    put_ip(&mut request, IFA_ADDRESS, address.peer.unwrap_or(address.prefix.ip));
    request.put_u32(IFA_FLAGS, flags);
    if let Some(broadcast) = address.broadcast {
        request.put(IFA_BROADCAST, &broadcast.octets());
    }
    if let Some(metric) = address.metric {
        request.put_u32(IFA_RT_PRIORITY, metric);
    }
    request
}

pub(crate) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET as u8 } else { AF_INET6 as u8 }
}

pub(crate) fn put_ip(request: &mut Request, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => request.put(kind, &ip.octets()),
        IpAddr::V6(ip) => request.put(kind, &ip.octets()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_read_as_they_print() {
        for text in ["10.88.0.2/24", "0.0.0.0/0", "fd00::2/64", "::1/128", "10.0.0.1/32"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        for text in
            ["10.88.0.2", "10.88.0.2/33", "fd00::/129", "10.88.0/24", "/24", "10.88.0.2/", "10.88.0.2/+4", "x/1"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError(text.to_owned())));
        }
    }

    #[test]
    fn networks() {
        let check = |text: &str, ip: &str, expected| {
            assert_eq!(prefix(text).contains(ip.parse().unwrap()), expected, "{ip} in {text}");
        };
        check("10.88.0.2/24", "10.88.0.1", true);
        check("10.88.0.2/24", "10.88.1.1", false);
        check("10.88.0.2/32", "10.88.0.2", true);
        check("10.88.0.2/32", "10.88.0.3", false);
        check("10.88.0.2/0", "1.2.3.4", true);
        check("fd00::2/64", "fd00::1", true);
        check("fd00::2/64", "fd00:0:0:1::1", false);
        check("fd00::2/0", "::1", true);
        check("10.88.0.2/0", "::1", false);
    }

    #[test]
    fn networks_of_addresses() {
        for (text, network) in [
            ("10.88.3.2/24", "10.88.3.0/24"),
            ("10.88.3.2/0", "0.0.0.0/0"),
            ("10.88.3.2/32", "10.88.3.2/32"),
            ("fd00::7/64", "fd00::/64"),
            ("fd00::7/0", "::/0"),
        ] {
            assert_eq!(prefix(text).network(), prefix(network));
        }
        let overlap = |a: &str, b: &str| prefix(a).overlaps(&prefix(b)) && prefix(b).overlaps(&prefix(a));
        assert!(overlap("10.0.0.0/8", "10.88.0.0/24") && overlap("fd00::/64", "fd00::1/128"));
        assert!(!overlap("10.88.1.0/24", "10.88.0.0/24") && !overlap("10.0.0.0/8", "fd00::/64"));
    }

    #[test]
    fn broadcasts() {
        assert_eq!(prefix("10.88.0.2/24").broadcast(), Some(Ipv4Addr::new(10, 88, 0, 255)));
        assert_eq!(prefix("10.88.0.2/0").broadcast(), Some(Ipv4Addr::BROADCAST));
        assert_eq!(prefix("10.88.0.2/31").broadcast(), None);
        assert_eq!(prefix("fd00::1/64").broadcast(), None);
    }

    fn round_trip(address: &LinkAddress) -> Option<(u32, LinkAddress)> {
        let mut request = render_address(7, address);
        let bytes = request.finish(1).to_vec();
        let message = codec::Messages(&bytes).next().unwrap().unwrap();
        decode_address(message.payload).unwrap()
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let mut address = LinkAddress::new(prefix("10.88.0.2/24"));
        assert_eq!(round_trip(&address), Some((7, address.clone())));
        address.peer = Some(Ipv4Addr::new(10, 9, 9, 9).into());
        address.metric = Some(300);
        address.flags |= 0x200;
        assert_eq!(round_trip(&address), Some((7, address)));
        let address = LinkAddress::new(prefix("fd00::2/64"));
        assert_eq!(round_trip(&address), Some((7, address)));
    }

    #[test]
    fn states_of_an_address_are_not_written() {
        let mut address = LinkAddress::new(prefix("fd00::2/64"));
        // SECONDARY, DADFAILED, TENTATIVE.
        address.flags |= 0x01 | 0x08 | 0x40;
        assert_eq!(round_trip(&address).unwrap().1.flags, PERMANENT | NODAD);
    }

    #[test]
    fn only_permanent_global_addresses_go_along() {
        let mut address = LinkAddress::new(prefix("10.88.0.2/24"));
        assert!(address.is_permanent_global());
        address.scope = 253;
        assert!(!address.is_permanent_global());
        address.scope = 0;
        address.flags = 0;
        assert!(!address.is_permanent_global());
    }

    proptest::proptest! {
        #[test]
        fn foreign_addresses_never_panic(payload: Vec<u8>) {
            if decode_address(&payload).is_ok() {
                assert!(payload.len() >= HEADER);
            }
        }
    }
}
