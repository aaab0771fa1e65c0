//! Port forwards and their text: `8080:80`, `127.0.0.1:8080:80/tcp`, `[fd00::1]:5300-5309:53-62/udp`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::Prefix;

/// Ports in one range at most: each is an element of a map in the kernel.
const RANGE_MAX: u16 = 4096;

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As in `/etc/protocols`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Ports of the host that lead to as many ports of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortForward {
    /// The address of the host; None for all of both families.
    pub address: Option<IpAddr>,
    /// The first port of the host.
    pub host_port: u16,
    /// The first port of the container.
    pub container_port: u16,
    /// How many; at least 1.
    pub count: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A text that is no port forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no port forward, such as 8080:80, 127.0.0.1:8080:80/tcp or [fd00::1]:5300-5309:53-62/udp: {reason}"
)]
pub struct ForwardError {
    text: String,
    reason: &'static str,
}

impl PortForward {
    /// Whether a port of the host is in both.
    #[must_use]
    pub fn overlaps(&self, other: &PortForward) -> bool {
        let ports = |forward: &PortForward| {
            let first = u32::from(forward.host_port);
            first..first + u32::from(forward.count)
        };
        let (a, b) = (ports(self), ports(other));
        let addresses = match (self.address, other.address) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.protocol == other.protocol && addresses && a.start < b.end && b.start < a.end
    }

    /// Whether a container with these addresses can be reached by it.
    #[must_use]
    pub fn fits(&self, addresses: &[Prefix]) -> bool {
        addresses.iter().any(|prefix| self.address.is_none_or(|ip| ip.is_ipv4() == prefix.ip.is_ipv4()))
    }
}

impl FromStr for PortForward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<PortForward, ForwardError> {
        parse(text).map_err(|reason| ForwardError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<PortForward, &'static str> {
    let (rest, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err("tcp and udp are known"),
    };
    let (rest, inside) = rest.rsplit_once(':').ok_or("a port of the host and one of the container are needed")?;
    let (address, outside) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, outside)) => (Some(parse_address(address)?), outside),
    };
    if address == Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)) {
        return Err("from ::1 the kernel leads nothing elsewhere; 127.0.0.1 can be had");
    }
    let (host_port, count) = parse_ports(outside)?;
    let (container_port, inside_count) = parse_ports(inside)?;
    if count != inside_count {
        return Err("the two ranges differ in length");
    }
    Ok(PortForward { address: address.filter(|ip| !ip.is_unspecified()), host_port, container_port, count, protocol })
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    let wrong = "no address before the port (an IPv6 address has brackets)";
    match text.strip_prefix('[') {
        Some(rest) => {
            let ip = rest.strip_suffix(']').ok_or(wrong)?;
            ip.parse::<std::net::Ipv6Addr>().map(IpAddr::from).map_err(|_| wrong)
        }
        None => text.parse::<std::net::Ipv4Addr>().map(IpAddr::from).map_err(|_| wrong),
    }
}

/// The first port and how many there are.
fn parse_ports(text: &str) -> Result<(u16, u16), &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or("a port is a number from 1 to 65535")
    };
    let (first, last) = (port(first)?, port(last)?);
    let count = last.checked_sub(first).ok_or("a range begins with its smaller port")?;
    if count < RANGE_MAX { Ok((first, count + 1)) } else { Err("a range has 4096 ports at most") }
}

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        let range = |first: u16| match self.count {
            1 => first.to_string(),
            count => format!("{first}-{}", first + (count - 1)),
        };
        write!(f, "{}:{}/{}", range(self.host_port), range(self.container_port), self.protocol.name())
    }
}

impl TryFrom<String> for PortForward {
    type Error = ForwardError;

    fn try_from(text: String) -> Result<PortForward, ForwardError> {
        text.parse()
    }
}

impl From<PortForward> for String {
    fn from(forward: PortForward) -> String {
        forward.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> PortForward {
        text.parse().unwrap()
    }

    #[test]
    fn forwards_read_as_they_print() {
        for text in
            ["8080:80/tcp", "127.0.0.1:53:5353/udp", "[fd00::1]:1-4096:61440-65535/tcp", "5000-5009:6000-6009/udp"]
        {
            assert_eq!(forward(text).to_string(), text);
        }
        assert_eq!(forward("8080:80").to_string(), "8080:80/tcp");
        assert_eq!(forward("0.0.0.0:8080:80").to_string(), "8080:80/tcp");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let check = |text: &str, reason: &str| assert_eq!(text.parse::<PortForward>().unwrap_err().reason, reason);
        check("80", "a port of the host and one of the container are needed");
        check("80:80/sctp", "tcp and udp are known");
        check("0:80", "a port is a number from 1 to 65535");
        check("80:65536", "a port is a number from 1 to 65535");
        check("+80:80", "a port is a number from 1 to 65535");
        check("81-80:1-2", "a range begins with its smaller port");
        check("80-81:80", "the two ranges differ in length");
        check("1-4097:1-4097", "a range has 4096 ports at most");
        check("[::1]:80:80", "from ::1 the kernel leads nothing elsewhere; 127.0.0.1 can be had");
        check("::1:80:80", "no address before the port (an IPv6 address has brackets)");
        check("host:80:80", "no address before the port (an IPv6 address has brackets)");
    }

    #[test]
    fn overlaps() {
        let check = |a: &str, b: &str, expected| {
            assert_eq!(forward(a).overlaps(&forward(b)), expected, "{a} {b}");
            assert_eq!(forward(b).overlaps(&forward(a)), expected, "{b} {a}");
        };
        check("80:80", "80:81", true);
        check("80:80", "80:80/udp", false);
        check("127.0.0.1:80:80", "80:80", true);
        check("127.0.0.1:80:80", "127.0.0.2:80:80", false);
        check("80-89:80-89", "89:1", true);
        check("80-89:80-89", "90:1", false);
        check("65535:80", "65535:80", true);
    }
}
