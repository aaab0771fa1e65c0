//! What somebody wants of a link, and what it leaves behind to be taken back. Values only: nothing here makes a call.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::Prefix;
use crate::device::DeviceMove;
use crate::link::HardwareAddress;
use crate::rate::Rate;
use crate::route::Route;

/// Where a routed veth's default routes go when nobody says: the host's end has these addresses on every such link.
/// RFC 3927 and RFC 4291 have them for one link alone.
pub const LINK_LOCAL_GATEWAYS: [&str; 2] = ["169.254.1.1/32", "fe80::1/64"];

/// A link of a container. See [`crate::parse_link`] for its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// Name inside the container.
    pub name: String,
    /// What it is, and what it has to do with the host.
    pub link: LinkKind,
    /// Addresses of the end in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
    /// Where the container's default routes go: at most one IPv4 and one IPv6 address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Other routes of the container through this link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Most bytes of a packet, 68..=65535; None leaves the kernel's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Hardware address inside; None for one made from the container's id, or that of the device below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<HardwareAddress>,
}

/// The kinds of links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LinkKind {
    /// A pair with one end on the host.
    Veth(Veth),
    /// A device with a hardware address of its own on a device of the host.
    Macvlan {
        /// The device of the host.
        parent: String,
        /// Who reaches whom.
        mode: MacvlanMode,
    },
    /// A tagged part of a device of the host (802.1Q).
    Vlan {
        /// The device of the host.
        parent: String,
        /// The tag, 1..=4094.
        id: u16,
    },
    /// A device with an IP address of its own and the hardware address of a device of the host.
    Ipvlan {
        /// The device of the host.
        parent: String,
        /// On which layer packets are told apart.
        mode: IpvlanMode,
    },
    /// A device of the host itself, until the container stops.
    Phys {
        /// Its name on the host.
        device: String,
    },
}

impl LinkKind {
    /// Its name in the text form; that of the kernel too, except for `phys`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            LinkKind::Veth(_) => "veth",
            LinkKind::Macvlan { .. } => "macvlan",
            LinkKind::Vlan { .. } => "vlan",
            LinkKind::Ipvlan { .. } => "ipvlan",
            LinkKind::Phys { .. } => "phys",
        }
    }
}

/// What a veth has on the host's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veth {
    /// Name on the host; None for one made from the container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Addresses of the end on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_addresses: Vec<Prefix>,
    /// The bridge whose port the host's end becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Whether the bridge may send a packet back to the port that it came from, as where a container asks for its own
    /// published port and the bridge itself does the translation (`bridge-nf-call-iptables`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// Whether the host routes to each of the container's addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routed: bool,
    /// With `routed`: the device of the host on which it answers for the container's addresses (proxy ARP and NDP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Most that the container may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rate>,
    /// Most that the container may receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Rate>,
}

/// Modes of a macvlan.
///
/// Kernel: include/uapi/linux/if_link.h, MACVLAN_MODE_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Those of one parent do not reach each other.
    Private,
    /// They reach each other through the switch that the parent is on.
    Vepa,
    /// They reach each other directly.
    Bridge,
    /// One alone has the parent.
    Passthru,
}

/// Modes of an ipvlan.
///
/// Kernel: include/uapi/linux/if_link.h, IPVLAN_MODE_*; Documentation/networking/ipvlan.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// As on a switch.
    L2,
    /// The parent's namespace routes; no broadcast or multicast.
    L3,
    /// As `L3`, and connections are tracked in the parent's namespace.
    L3s,
}

/// A device of the host that exists for a container: what there is to delete, and how it is told from somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its hardware address, made from the container's id: the same at every start.
    pub mac: HardwareAddress,
}

/// What a link leaves on the host. It is on disk before the link is made, and enough to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LinkRecord {
    /// The host's end of a pair.
    Veth {
        /// The end; the other one goes with it.
        host: HostEnd,
        /// The device through which the container's packets are slowed down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shaper: Option<HostEnd>,
        /// Addresses for which the host answers on another device of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proxy: Option<Proxy>,
    },
    /// A device in the container alone, which goes with the container's network namespace.
    Inside {
        /// Its name there.
        name: String,
        /// Its kind, as the kernel names it.
        driver: String,
        /// Path of a network namespace that outlives the container; None for the container's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns: Option<String>,
    },
    /// A device of the host.
    Phys {
        /// File on which the container's network namespace is mounted, so that it outlives the container until the device
        /// is out. Empty until the device is about to go.
        pin: String,
        /// What brings it back; None while it has not left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<DeviceMove>,
    },
}

/// Addresses that the host answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// The device of the host on which it does.
    pub parent: String,
    /// Which ones.
    pub addresses: Vec<IpAddr>,
}

/// Decides what a link leaves on the host. Pure: equal inputs, equal records.
///
/// `netns` is the path of a network namespace that the container joins; None for a new one. The host's end of a veth
/// without a name of its own is called `veth` and ten hexadecimal digits.
#[must_use]
pub fn plan_record(spec: &LinkSpec, container_id: &str, netns: Option<&str>) -> LinkRecord {
    let veth = match &spec.link {
        LinkKind::Veth(veth) => veth,
        LinkKind::Phys { .. } => return LinkRecord::Phys { pin: String::new(), device: None },
        other => {
            let (name, driver) = (spec.name.clone(), other.name().to_owned());
            return LinkRecord::Inside { name, driver, netns: netns.map(str::to_owned) };
        }
    };
    let end = hash(&[container_id, &spec.name]);
    let host_name = veth.host_name.clone().unwrap_or_else(|| format!("veth{}", ten_digits(end)));
    let shaper = veth.egress.map(|_| {
        let hash = hash(&[container_id, &spec.name, "ifb"]);
        HostEnd { name: format!("ifb{}", ten_digits(hash)), mac: mac(hash) }
    });
    let addresses = || spec.addresses.iter().map(|prefix| prefix.ip).collect();
    let proxy = veth.parent.clone().map(|parent| Proxy { parent, addresses: addresses() });
    LinkRecord::Veth { host: HostEnd { name: host_name, mac: mac(end) }, shaper, proxy }
}

/// The hardware address of a link inside the container; None where the kernel is to choose.
///
/// Without one in the text it is made from the first address: neighbours that remember it find the container again after
/// a restart, and it is as unique on the network as the address is, whatever containers of other machines are called.
pub(crate) fn plan_mac(spec: &LinkSpec) -> Option<HardwareAddress> {
    if spec.mac.is_some() || !matches!(spec.link, LinkKind::Veth(_) | LinkKind::Macvlan { .. }) {
        return spec.mac.clone();
    }
    spec.addresses.first().map(|prefix| mac(hash(&[&prefix.ip.to_string()])))
}

fn ten_digits(hash: u64) -> String {
    format!("{:010x}", hash & 0xff_ffff_ffff)
}

/// A hardware address that belongs to a name.
pub(crate) fn mac_of(name: &str) -> HardwareAddress {
    mac(hash(&[name]))
}

fn mac(hash: u64) -> HardwareAddress {
    let mut mac = hash.to_be_bytes()[..6].to_vec();
    // Locally administered, not multicast.
    mac[0] = mac[0] & 0xfe | 0x02;
    HardwareAddress(mac)
}

/// FNV-1a with 64 bits, then one round of mixing so that all bits depend on the last byte too.
pub(crate) fn hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in texts.iter().flat_map(|text| text.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse_link, parse_veth, validate_name};

    fn host_end(text: &str, id: &str) -> HostEnd {
        match plan_record(&parse_veth(text).unwrap(), id, None) {
            LinkRecord::Veth { host, .. } => host,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_host_end_depends_on_the_container_and_the_name() {
        let first = host_end("eth0", "web1");
        assert_eq!(first, host_end("eth0", "web1"));
        assert_eq!(validate_name(&first.name), Ok(()));
        assert_eq!(first.name.len(), 14);
        assert_eq!(first.mac.0.len(), 6);
        assert_eq!(first.mac.0[0] & 3, 2);
        let second = host_end("eth0", "web2");
        assert!(first.name != second.name && first.mac != second.mac);
        let named = host_end("eth0,host=veth-web1", "web1");
        assert_eq!((named.name.as_str(), named.mac), ("veth-web1", first.mac));
    }

    fn check(text: &str, spec: &str, record: &str) {
        let link = parse_link(text).unwrap();
        assert_eq!(serde_json::to_string(&link).unwrap(), spec);
        assert_eq!(serde_json::from_str::<LinkSpec>(spec).unwrap(), link);
        let planned = plan_record(&link, "web1", Some("/run/netns/a"));
        assert_eq!(serde_json::to_string(&planned).unwrap(), record);
        assert_eq!(serde_json::from_str::<LinkRecord>(record).unwrap(), planned);
    }

    #[test]
    fn the_hardware_address_inside_is_that_of_the_address() {
        let mac = |text: &str| plan_mac(&parse_link(text).unwrap()).map(|mac| mac.to_string());
        assert_eq!(mac("veth"), None);
        assert_eq!(mac("vlan:parent=e,id=1,address=10.0.0.2/24"), None);
        assert_eq!(mac("veth:mac=02:00:00:00:00:07,address=10.0.0.2/24").as_deref(), Some("02:00:00:00:00:07"));
        let of_address = mac("veth:address=10.0.0.2/24").unwrap();
        assert_eq!(mac("macvlan:parent=e,name=x,address=10.0.0.2/16").unwrap(), of_address);
        assert_ne!(mac("veth:address=10.0.0.3/24").unwrap(), of_address);
    }

    #[test]
    fn requests_and_records_read_as_they_are_written() {
        check(
            "veth:name=eth0,address=10.88.0.2/24,gateway=10.88.0.1,bridge=br0,egress=10mbit",
            r#"{"name":"eth0","link":{"kind":"veth","bridge":"br0","egress":"10mbit"},"addresses":["10.88.0.2/24"],"gateways":["10.88.0.1"]}"#,
            r#"{"kind":"veth","host":{"name":"veth84f331f266","mac":"8e:1f:44:84:f3:31"},"shaper":{"name":"ifb69a033647c","mac":"36:51:a0:69:a0:33"}}"#,
        );
        check(
            "veth:mode=routed,address=192.0.2.7/32,parent=eth1",
            r#"{"name":"eth0","link":{"kind":"veth","host_addresses":["169.254.1.1/32"],"routed":true,"parent":"eth1"},"addresses":["192.0.2.7/32"],"gateways":["169.254.1.1"]}"#,
            r#"{"kind":"veth","host":{"name":"veth84f331f266","mac":"8e:1f:44:84:f3:31"},"proxy":{"parent":"eth1","addresses":["192.0.2.7"]}}"#,
        );
        check(
            "ipvlan:parent=eth0,mode=l3s,name=net1,route=10.0.0.0/8 via 10.88.0.9,address=10.88.0.2/24",
            r#"{"name":"net1","link":{"kind":"ipvlan","parent":"eth0","mode":"l3s"},"addresses":["10.88.0.2/24"],"routes":[{"to":"10.0.0.0/8","via":"10.88.0.9"}]}"#,
            r#"{"kind":"inside","name":"net1","driver":"ipvlan","netns":"/run/netns/a"}"#,
        );
        check(
            "phys:device=eth1",
            r#"{"name":"eth0","link":{"kind":"phys","device":"eth1"}}"#,
            r#"{"kind":"phys","pin":""}"#,
        );
    }
}
