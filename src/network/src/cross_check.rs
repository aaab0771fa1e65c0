//! What we write, decoded by somebody else's crate.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::{LinkAddress, render_address};
use crate::codec::Request;
use crate::link::{render_move, render_up};
use crate::route::{Onlink, render_route};
use crate::spec::HostEnd;
use crate::veth::render_pair;

fn decode(mut request: Request, flags: u16) -> RouteNetlinkMessage {
    let bytes = request.finish(9);
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    assert_eq!(message.header.length as usize, bytes.len());
    assert_eq!(message.header.sequence_number, 9);
    assert_eq!(message.header.flags, NLM_F_REQUEST | NLM_F_ACK | flags);
    match message.payload {
        NetlinkPayload::InnerMessage(message) => message,
        other => panic!("{other:?}"),
    }
}

fn decode_link(request: Request, flags: u16) -> LinkMessage {
    match decode(request, flags) {
        RouteNetlinkMessage::NewLink(link) => link,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_veth_pair() {
    let veth = crate::parse_veth("eth0,mtu=1400").unwrap();
    let host = HostEnd { name: "veth1".to_owned(), mac: "02:00:00:00:00:01".parse().unwrap() };
    let inside: crate::HardwareAddress = "02:00:00:00:00:02".parse().unwrap();
    let request = render_pair(&veth, &host, Some(&inside), Some(9), 5);
    let link = decode_link(request, NLM_F_CREATE | NLM_F_EXCL);
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::NetNsFd(5),
        LinkAttribute::Address(inside.0),
        LinkAttribute::Mtu(1400),
    ];
    assert_eq!(
        link.attributes,
        [
            LinkAttribute::IfName(host.name),
            LinkAttribute::Address(host.mac.0),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Controller(9),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]
    );
}

#[test]
fn a_move_with_a_name() {
    let link = decode_link(render_move(4, 7, "eth1"), 0);
    assert_eq!(
        (link.header.index, link.header.flags, link.header.change_mask),
        (4, LinkFlags::empty(), LinkFlags::empty())
    );
    assert_eq!(link.attributes, [LinkAttribute::IfName("eth1".to_owned()), LinkAttribute::NetNsFd(7)]);
}

#[test]
fn a_link_going_up() {
    let link = decode_link(render_up(4), 0);
    assert_eq!((link.header.index, link.header.flags, link.header.change_mask), (4, LinkFlags::Up, LinkFlags::Up));
    assert!(link.attributes.is_empty());
}

#[test]
fn addresses_of_both_families() {
    for (text, family, broadcast, flags) in [
        ("10.88.0.2/24", AddressFamily::Inet, Some([10, 88, 0, 255].into()), AddressFlags::Permanent),
        ("fd00::2/64", AddressFamily::Inet6, None, AddressFlags::Permanent | AddressFlags::Nodad),
    ] {
        let prefix: crate::Prefix = text.parse().unwrap();
        let mut address = LinkAddress::new(prefix);
        address.metric = Some(77);
        let message = match decode(render_address(3, &address), NLM_F_CREATE | NLM_F_REPLACE) {
            RouteNetlinkMessage::NewAddress(message) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!((message.header.index, message.header.family), (3, family));
        assert_eq!((message.header.prefix_len, message.header.scope), (prefix.length, AddressScope::Universe));
        let mut expected = vec![
            AddressAttribute::Local(prefix.ip),
            AddressAttribute::Address(prefix.ip),
            AddressAttribute::Flags(flags),
        ];
        expected.extend(broadcast.map(AddressAttribute::Broadcast));
        expected.push(AddressAttribute::RoutePriority(77));
        assert_eq!(message.attributes, expected);
    }
}

#[test]
fn default_routes_of_both_families() {
    for (text, family) in [("10.88.0.1", AddressFamily::Inet), ("fd00::1", AddressFamily::Inet6)] {
        let gateway: std::net::IpAddr = text.parse().unwrap();
        let message = match decode(render_route(3, None, Some(gateway), Onlink::No), NLM_F_CREATE | NLM_F_EXCL) {
            RouteNetlinkMessage::NewRoute(message) => message,
            other => panic!("{other:?}"),
        };
        let header = &message.header;
        assert_eq!((header.address_family, header.destination_prefix_length, header.table), (family, 0, 254));
        assert_eq!((header.kind, header.scope), (RouteType::Unicast, RouteScope::Universe));
        assert_eq!(header.protocol, RouteProtocol::Static);
        let gateway = match gateway {
            std::net::IpAddr::V4(ip) => RouteAddress::Inet(ip),
            std::net::IpAddr::V6(ip) => RouteAddress::Inet6(ip),
        };
        assert_eq!(message.attributes, [RouteAttribute::Gateway(gateway), RouteAttribute::Oif(3)]);
    }
}

fn stacked(text: &str, mac: Option<&crate::HardwareAddress>) -> Vec<LinkAttribute> {
    let spec = crate::parse_link(text).unwrap();
    decode_link(crate::stacked::render_stacked(&spec, 4, mac, 5), NLM_F_CREATE | NLM_F_EXCL).attributes
}

#[test]
fn links_on_a_device_of_the_host() {
    let mac: crate::HardwareAddress = "02:00:00:00:00:02".parse().unwrap();
    let base = || vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::Link(4), LinkAttribute::NetNsFd(5)];
    let with = |mut list: Vec<LinkAttribute>, kind, data| {
        list.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
        list
    };
    let mut expected = base();
    expected.push(LinkAttribute::Address(mac.0.clone()));
    let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)]);
    assert_eq!(stacked("macvlan:parent=a,mode=private", Some(&mac)), with(expected, InfoKind::MacVlan, data));
    let data = InfoData::Vlan(vec![InfoVlan::Id(77)]);
    assert_eq!(stacked("vlan:parent=a,id=77", None), with(base(), InfoKind::Vlan, data));
    let data = InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L3)]);
    assert_eq!(stacked("ipvlan:parent=a,mode=l3", None), with(base(), InfoKind::IpVlan, data));
}

#[test]
fn other_routes_of_both_families() {
    for (text, scope) in [
        ("10.9.0.0/16", RouteScope::Link),
        ("10.9.0.0/16 via 10.0.0.9", RouteScope::Universe),
        ("fd01::/64", RouteScope::Universe),
    ] {
        let route: crate::Route = text.parse().unwrap();
        let message = match decode(render_route(3, Some(route.to), route.via, Onlink::Yes), NLM_F_CREATE | NLM_F_EXCL) {
            RouteNetlinkMessage::NewRoute(message) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!((message.header.destination_prefix_length, message.header.scope), (route.to.length, scope));
        assert!(message.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Destination(_))));
        assert_eq!(message.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_))), route.via.is_some());
    }
}
