//! `lxc.net.N.*`: the links of a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::{parse_number, parse_switch};
use super::{Config, Log, Setting};

/// Keys of a network behind `lxc.net.N.`, and whether a key that is set again adds to what is there.
const KEYS: [(&str, bool); 25] = [
    ("flags", false),
    ("hwaddr", false),
    ("ipv4.address", true),
    ("ipv4.gateway", false),
    ("ipv6.address", true),
    ("ipv6.gateway", false),
    ("ipvlan.isolation", false),
    ("ipvlan.mode", false),
    ("l2proxy", false),
    ("link", false),
    ("macvlan.mode", false),
    ("mtu", false),
    ("name", false),
    ("script.down", false),
    ("script.up", false),
    ("type", false),
    ("veth.ipv4.route", true),
    ("veth.ipv6.route", true),
    ("veth.mode", false),
    ("veth.n_rxqueues", false),
    ("veth.n_txqueues", false),
    ("veth.pair", false),
    ("veth.vlan.id", false),
    ("veth.vlan.tagged.id", true),
    ("vlan.id", false),
];

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetKind {
    /// The host's own network.
    None,
    /// Loopback alone.
    Empty,
    /// A pair with the host.
    Veth,
    /// A tagged network of a device of the host.
    Vlan,
    /// A device of its own on a device of the host.
    Macvlan,
    /// Addresses of its own on a device of the host.
    Ipvlan,
    /// A device of the host.
    Phys,
}

/// The kinds by name.
const KINDS: [(&str, NetKind); 7] = [
    ("none", NetKind::None),
    ("empty", NetKind::Empty),
    ("veth", NetKind::Veth),
    ("vlan", NetKind::Vlan),
    ("macvlan", NetKind::Macvlan),
    ("ipvlan", NetKind::Ipvlan),
    ("phys", NetKind::Phys),
];

impl NetKind {
    /// Its name, as `lxc.net.N.type` and `LXC_NET_TYPE` have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// A link with all that is said of it.
#[derive(Debug, Clone)]
pub struct Net<'a> {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: NetKind,
    /// Its keys, in order.
    pub settings: Vec<&'a Setting>,
}

impl<'a> Net<'a> {
    /// The value of a key behind `lxc.net.N.`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Setting> {
        self.all(key).next_back()
    }

    /// All values of a key behind `lxc.net.N.`, in order.
    pub fn all<'s>(&'s self, key: &'s str) -> impl DoubleEndedIterator<Item = &'a Setting> + use<'a, 's> {
        self.settings.iter().copied().filter(move |setting| parse_key(&setting.key).is_some_and(|(_, sub)| sub == key))
    }
}

/// The links of a configuration by their numbers. What has no type is left out; [`check`] has told it.
#[must_use]
pub(super) fn links(config: &Config) -> Vec<Net<'_>> {
    let mut links: Vec<Net<'_>> = Vec::new();
    for setting in &config.settings {
        let Some((number, _)) = parse_key(&setting.key) else { continue };
        match links.iter_mut().find(|net| net.number == number) {
            Some(net) => net.settings.push(setting),
            None => links.push(Net { number, kind: NetKind::Empty, settings: vec![setting] }),
        }
    }
    for net in &mut links {
        let named = net.get("type").map(|setting| setting.value.as_str());
        net.kind = KINDS.iter().find(|(name, _)| Some(*name) == named).map_or(NetKind::Empty, |(_, kind)| *kind);
    }
    links.retain(|net| net.get("type").is_some());
    links.sort_by_key(|net| net.number);
    links
}

/// Tells links without a type, and without what their type needs.
pub(super) fn check(config: &Config, log: &mut Log) {
    let known = links(config);
    let mut told = Vec::new();
    for setting in &config.settings {
        let Some((number, _)) = parse_key(&setting.key) else { continue };
        if !known.iter().any(|net| net.number == number) && !told.contains(&number) {
            told.push(number);
            log.warn(&setting.place, format!("lxc.net.{number}.type is not set: this link is left out"));
        }
    }
    for net in &known {
        let needs: &[&str] = match net.kind {
            NetKind::None | NetKind::Empty | NetKind::Veth => &[],
            NetKind::Vlan => &["link", "vlan.id"],
            NetKind::Macvlan | NetKind::Ipvlan | NetKind::Phys => &["link"],
        };
        for key in needs.iter().filter(|key| net.get(key).is_none()) {
            let kind = net.kind.name();
            log.error(&net.settings[0].place, format!("lxc.net.{}.{key} is not set: a {kind} needs it", net.number));
        }
    }
}

/// The number and the rest of `lxc.net.N.REST`.
fn parse_key(key: &str) -> Option<(u32, &str)> {
    let (number, sub) = key.strip_prefix("lxc.net.")?.split_once('.')?;
    Some((number.parse().ok()?, sub))
}

pub(super) fn is_key(key: &str) -> bool {
    parse_key(key).is_some_and(|(_, sub)| KEYS.iter().any(|(known, _)| *known == sub))
}

/// Whether a key that is set again adds to what is there.
pub(super) fn is_list(key: &str) -> bool {
    parse_key(key).is_some_and(|(_, sub)| KEYS.contains(&(sub, true)))
}

/// Whether a key stands for all networks or for one as a whole.
pub(super) fn is_whole(key: &str) -> bool {
    key == "lxc.net" || key.strip_prefix("lxc.net.").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Judges a value.
pub(super) fn judge(key: &str, value: &str) -> Result<(), String> {
    let Some((_, sub)) = parse_key(key) else { return Ok(()) };
    let one_of = |known: &[&str]| match known.contains(&value) {
        true => Ok(()),
        false => Err(format!("must be one of {}", known.join(", "))),
    };
    match sub {
        "type" => one_of(&KINDS.map(|(name, _)| name)),
        "veth.mode" => one_of(&["bridge", "router"]),
        "macvlan.mode" => one_of(&["private", "vepa", "bridge", "passthru"]),
        "ipvlan.mode" => one_of(&["l2", "l3", "l3s"]),
        "ipvlan.isolation" => one_of(&["bridge", "private", "vepa"]),
        "l2proxy" => parse_switch(value).map(drop),
        "mtu" | "veth.n_rxqueues" | "veth.n_txqueues" => parse_number::<u32>(value).map(drop),
        "vlan.id" => parse_tag(value),
        "veth.vlan.id" if value == "none" => Ok(()),
        "veth.vlan.id" | "veth.vlan.tagged.id" => parse_tag(value),
        "name" | "link" | "veth.pair" => judge_name(value),
        "hwaddr" => judge_hardware(value),
        "ipv4.address" => value.split_whitespace().try_for_each(judge_prefix::<Ipv4Addr>),
        "ipv6.address" | "veth.ipv6.route" => judge_prefix::<Ipv6Addr>(value),
        "veth.ipv4.route" => judge_prefix::<Ipv4Addr>(value),
        "ipv4.gateway" | "ipv6.gateway" if matches!(value, "auto" | "dev") => Ok(()),
        "ipv4.gateway" => value.parse::<Ipv4Addr>().map(drop).map_err(|_| "must be an address".to_owned()),
        "ipv6.gateway" => value.parse::<Ipv6Addr>().map(drop).map_err(|_| "must be an address".to_owned()),
        _ => Ok(()),
    }
}

fn parse_tag(value: &str) -> Result<(), String> {
    match value.parse::<u16>() {
        Ok(0..=4095) => Ok(()),
        _ => Err("must be a number from 0 to 4095".to_owned()),
    }
}

/// What the kernel takes as the name of a device (dev_valid_name, net/core/dev.c), and no comma, which divides the parts
/// of a link's text.
fn judge_name(value: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | ',');
    if value.len() > 15 || value.contains(is_odd) || matches!(value, "." | "..") {
        return Err("must be a name of at most 15 bytes without blanks, commas, colons and slashes".to_owned());
    }
    Ok(())
}

/// Six bytes in hexadecimal, of which an `x` stands for a digit by chance.
fn judge_hardware(value: &str) -> Result<(), String> {
    let is_byte = |part: &str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, 'x' | 'X'));
    let parts: Vec<&str> = value.split(':').collect();
    if parts.len() == 6 && parts.iter().all(|part| is_byte(part)) {
        Ok(())
    } else {
        Err("must be a hardware address such as 00:16:3e:xx:xx:xx".to_owned())
    }
}

fn judge_prefix<T: std::str::FromStr + Into<IpAddr>>(value: &str) -> Result<(), String> {
    let (address, length) = value.split_once('/').map_or((value, None), |(address, length)| (address, Some(length)));
    let address: IpAddr =
        address.parse::<T>().map_err(|_| "must be an address with its prefix length".to_owned())?.into();
    let most = if address.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => Ok(()),
        Some(Ok(length)) if length <= most => Ok(()),
        _ => Err(format!("must have a prefix length from 0 to {most}")),
    }
}
