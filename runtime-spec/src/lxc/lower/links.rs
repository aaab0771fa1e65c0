//! Links: `lxc.net.N.*` as the text of `skep run --link`.

use std::net::IpAddr;

use super::Lowering;
use crate::lxc::config::{Config, Setting};
use crate::lxc::network::{self, Net, NetKind};

/// Lowers all links.
pub(super) fn lower(config: &Config, to: &mut Lowering<'_>) {
    let mut next_name = 0;
    for net in network::links(config) {
        let kind = net.settings.iter().find(|setting| setting.key.ends_with(".type"));
        let kind = *kind.expect("a link has a type");
        match net.kind {
            NetKind::None if to.lowered.host_network => to.translated(kind, "the host's network"),
            NetKind::None => to.not_possible(kind, "there are other links, or another network namespace"),
            NetKind::Empty => to.translated(kind, "loopback alone"),
            _ if to.lowered.host_network => to.not_possible(kind, "the network is the host's"),
            _ => {
                let name = inside_name(&net, &mut next_name);
                link(&net, kind, &name, to);
            }
        }
    }
}

/// The name inside: the one that is said, a device's own, or the next of `eth0`, `eth1`.
fn inside_name(net: &Net<'_>, next: &mut u32) -> String {
    let value = |key: &str| net.get(key).map(|setting| setting.value.clone());
    if let Some(name) = value("name") {
        return name;
    }
    if let (NetKind::Phys, Some(link)) = (net.kind, value("link")) {
        return link;
    }
    *next += 1;
    format!("eth{}", *next - 1)
}

fn link(net: &Net<'_>, kind: &Setting, name: &str, to: &mut Lowering<'_>) {
    let mut parts = vec![format!("name={name}")];
    let routed = net.get("veth.mode").is_some_and(|mode| mode.value == "router");
    for setting in &net.settings {
        let sub = setting.key.splitn(4, '.').nth(3).unwrap_or_default();
        part(net, sub, setting, routed, &mut parts, to);
    }
    if routed {
        parts.push("mode=routed".to_owned());
    }
    // LXC's defaults.
    match net.kind {
        NetKind::Macvlan if net.get("macvlan.mode").is_none() => parts.push("mode=private".to_owned()),
        NetKind::Ipvlan if net.get("ipvlan.mode").is_none() => parts.push("mode=l3".to_owned()),
        _ => {}
    }
    let text = format!("{}:{}", net.kind.name(), parts.join(","));
    to.translated(kind, format!("the link {text}"));
    to.lowered.links.push(text);
}

/// A key as a part of the text, or why it is none.
fn part(net: &Net<'_>, sub: &str, setting: &Setting, routed: bool, parts: &mut Vec<String>, to: &mut Lowering<'_>) {
    let value = setting.value.as_str();
    let text = match (sub, net.kind) {
        ("type" | "script.up" | "script.down", _) => return,
        ("name" | "veth.mode", _) => None,
        ("flags", _) if value == "up" => None,
        ("flags", _) => return to.not_possible(setting, "links are up"),
        ("link", NetKind::Veth) if routed => Some(format!("parent={value}")),
        ("link", NetKind::Veth) => Some(format!("bridge={value}")),
        ("link", NetKind::Phys) => Some(format!("device={value}")),
        ("link", _) => Some(format!("parent={value}")),
        ("veth.pair", NetKind::Veth) => Some(format!("host={value}")),
        ("mtu", NetKind::Phys) | ("hwaddr", NetKind::Phys | NetKind::Ipvlan) => {
            return to.not_possible(setting, "such a link has that of the device");
        }
        ("mtu", _) => Some(format!("mtu={value}")),
        ("hwaddr", _) if value.contains(['x', 'X']) => {
            let address = fill(value, to.around.name, net.number);
            parts.push(format!("mac={address}"));
            return to.approximated(setting, format!("{address}: what is open follows from the container's name"));
        }
        ("hwaddr", _) => Some(format!("mac={}", value.to_ascii_lowercase())),
        ("vlan.id", NetKind::Vlan) => Some(format!("id={value}")),
        ("macvlan.mode", NetKind::Macvlan) | ("ipvlan.mode", NetKind::Ipvlan) => Some(format!("mode={value}")),
        ("ipv4.address" | "ipv6.address", _) => {
            let mut words = value.split_whitespace();
            parts.push(format!("address={}", with_length(words.next().unwrap_or_default(), routed)));
            match words.next() {
                None => to.translated(setting, "an address of the link"),
                Some(_) => to.approximated(setting, "an address of the link; its broadcast address follows from it"),
            }
            return;
        }
        ("ipv4.gateway" | "ipv6.gateway", _) if value == "auto" => {
            let wants_v4 = sub.starts_with("ipv4");
            let link = net.get("link").map(|setting| setting.value.as_str()).unwrap_or_default();
            match (to.around.addresses)(link).into_iter().find(|address| address.is_ipv4() == wants_v4) {
                Some(address) => Some(format!("gateway={address}")),
                None => return to.not_possible(setting, format!("{link:?} has no such address: say the gateway's")),
            }
        }
        ("ipv4.gateway" | "ipv6.gateway", _) if value == "dev" => {
            return to.not_possible(setting, "a default route has a gateway");
        }
        ("ipv4.gateway" | "ipv6.gateway", _) => Some(format!("gateway={value}")),
        ("veth.ipv4.route" | "veth.ipv6.route", _) => return to.not_possible(setting, "the host gets no routes"),
        ("veth.vlan.id" | "veth.vlan.tagged.id", _) => {
            return to.not_possible(setting, "ports of bridges get no tags");
        }
        ("veth.n_rxqueues" | "veth.n_txqueues", _) => return to.not_possible(setting, "a link has one queue"),
        ("l2proxy", _) if value == "0" => None,
        ("l2proxy", _) => return to.not_possible(setting, "a veth with lxc.net.N.veth.mode = router does it"),
        ("ipvlan.isolation", _) if value == "bridge" => None,
        ("ipvlan.isolation", _) => return to.not_possible(setting, "an ipvlan reaches its neighbours"),
        _ => return to.not_possible(setting, "such a link has no use for it"),
    };
    parts.extend(text);
    to.translated(setting, "the link");
}

/// A hardware address with its open digits filled in, always the same for a container and a link.
fn fill(pattern: &str, name: &str, number: u32) -> String {
    /// Of the hash FNV-1a with 64 bits.
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = name.bytes().chain(number.to_le_bytes());
    let mut hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let digit = |c: char| match c {
        'x' | 'X' => {
            let value = u32::try_from(hash >> 60).ok().and_then(|value| char::from_digit(value, 16));
            hash <<= 4;
            value.unwrap_or('0')
        }
        other => other.to_ascii_lowercase(),
    };
    pattern.chars().map(digit).collect()
}

/// An address with its prefix length, by LXC's default where none is said: that of the old classes, and 64.
fn with_length(text: &str, routed: bool) -> String {
    if text.contains('/') {
        return text.to_owned();
    }
    let length = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) if routed => 32,
        Ok(IpAddr::V6(_)) if routed => 128,
        Ok(IpAddr::V4(address)) => match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
        _ => 64,
    };
    format!("{text}/{length}")
}
