//! What we write, decoded by somebody else's crate.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::{LinkAddress, render_address, render_default_route};
use crate::codec::Request;
use crate::link::{render_move, render_up};
use crate::veth::{plan_host_end, render_pair};

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
    let host = plan_host_end(&veth, "web1");
    let link = decode_link(render_pair(&veth, &host, 5), NLM_F_CREATE | NLM_F_EXCL);
    let mut peer = LinkMessage::default();
    peer.attributes =
        vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::NetNsFd(5), LinkAttribute::Mtu(1400)];
    assert_eq!(
        link.attributes,
        [
            LinkAttribute::IfName(host.name),
            LinkAttribute::Address(host.mac.0),
            LinkAttribute::Mtu(1400),
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
        let message = match decode(render_default_route(3, gateway), NLM_F_CREATE | NLM_F_EXCL) {
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
