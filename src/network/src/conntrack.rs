//! Connections that the kernel remembers.
//!
//! A flow of datagrams is looked up in the table of translations once, with its first packet; what was decided then holds for
//! as long as packets come. So a forward that appears is not seen by who has sent before, and one that is gone goes on for
//! who goes on sending. TCP ends its connections by itself.
//!
//! Kernel: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use sys::Errno;

use crate::codec::{self, Attributes, Malformed, Request};
use crate::error::Error;
use crate::list::list_addresses;
use crate::managed::{PortForward, Protocol};
use crate::socket::Socket;

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
/// IPPROTO_UDP.
const UDP: u8 = 17;
/// Bytes of `struct nfgenmsg`: family u8, version u8, resource u16.
const HEADER: usize = 4;

/// One direction of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    destination_port: u16,
}

/// A flow that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Flow {
    family: u8,
    original: Tuple,
    reply: Tuple,
    /// The attribute that names it, as it came.
    name: Vec<u8>,
}

/// Has the kernel forget flows of datagrams that came to forwarded ports of the host, or went to containers by them. `to`
/// are the containers' addresses. Nothing is done where the kernel remembers nothing, or tells nobody.
pub(crate) fn forget_udp(forwards: &[PortForward], to: &[IpAddr]) -> Result<(), Error> {
    let forwards: Vec<&PortForward> = forwards.iter().filter(|forward| forward.protocol == Protocol::Udp).collect();
    if forwards.is_empty() {
        return Ok(());
    }
    let mut socket = match sys::netlink::netfilter_socket() {
        // A kernel without netfilter's own netlink.
        Err(error) if error.is(Errno::PROTONOSUPPORT) => return Ok(()),
        other => Socket::from_fd(other?),
    };
    let list = Request::new(GET, codec::DUMP, &[0; HEADER]);
    let flows = match socket.dump(&list, || "list remembered connections".to_owned(), decode) {
        // One without nf_conntrack_netlink.
        Err(Error::Refused { errno: Errno::INVAL | Errno::OPNOTSUPP, .. }) => return Ok(()),
        other => other?,
    };
    let own: Vec<IpAddr> = list_addresses(None)?.into_iter().flat_map(|(_, list)| list).map(|a| a.prefix.ip).collect();
    for flow in flows.iter().filter(|flow| is_forwarded(flow, &forwards, to, &own)) {
        let mut request = Request::new(DELETE, codec::ACK, &[flow.family, 0, 0, 0]);
        request.put_nested(ORIGINAL, &flow.name, |_| {});
        match socket.change(request, || "forget a connection".to_owned()) {
            Err(Error::Refused { errno: Errno::NOENT, .. }) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether a flow came to a forwarded port of the host: at one of its addresses, or it was led to a container.
fn is_forwarded(flow: &Flow, forwards: &[&PortForward], to: &[IpAddr], own: &[IpAddr]) -> bool {
    let (original, reply) = (&flow.original, &flow.reply);
    let Some(destination) = original.destination.filter(|_| original.protocol == UDP) else { return false };
    let here = destination.is_loopback() || own.contains(&destination);
    let led = reply.source.is_some_and(|source| source != destination && to.contains(&source));
    let forwarded = |forward: &&PortForward| {
        let ports = u32::from(forward.host_port)..u32::from(forward.host_port) + u32::from(forward.count);
        ports.contains(&u32::from(original.destination_port))
            && forward.address.map_or(here || led, |address| address == destination)
    };
    forwards.iter().any(forwarded)
}

fn decode(payload: &[u8]) -> Result<Flow, Malformed> {
    let mut flow = Flow { family: *payload.first().ok_or(Malformed)?, ..Flow::default() };
    for attribute in Attributes::after(payload, HEADER)? {
        match attribute? {
            (ORIGINAL, value) => (flow.original, flow.name) = (decode_tuple(value)?, value.to_vec()),
            (REPLY, value) => flow.reply = decode_tuple(value)?,
            _ => {}
        }
    }
    Ok(flow)
}

/// CTA_TUPLE_IP with CTA_IP_V4_SRC, V4_DST, V6_SRC, V6_DST; CTA_TUPLE_PROTO with CTA_PROTO_NUM and CTA_PROTO_DST_PORT.
fn decode_tuple(value: &[u8]) -> Result<Tuple, Malformed> {
    let mut tuple = Tuple::default();
    for part in Attributes::nested(value) {
        let (part, value) = part?;
        for attribute in Attributes::nested(value).filter(|_| part == 1 || part == 2) {
            match (part, attribute?) {
                (1, (1 | 3, value)) => tuple.source = Some(decode_ip(value)?),
                (1, (2 | 4, value)) => tuple.destination = Some(decode_ip(value)?),
                (2, (1, value)) => tuple.protocol = *value.first().ok_or(Malformed)?,
                (2, (3, value)) => {
                    let bytes = value.first_chunk().ok_or(Malformed)?;
                    tuple.destination_port = u16::from_be_bytes(*bytes);
                }
                _ => {}
            }
        }
    }
    Ok(tuple)
}

fn decode_ip(value: &[u8]) -> Result<IpAddr, Malformed> {
    match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
        (Ok(four), _) => Ok(four.into()),
        (_, Ok(sixteen)) => Ok(sixteen.into()),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(destination: &str, port: u16, reply: &str) -> Flow {
        let ip = |text: &str| text.parse().ok();
        let original =
            Tuple { source: ip("192.0.2.9"), destination: ip(destination), protocol: UDP, destination_port: port };
        Flow { original, reply: Tuple { source: ip(reply), ..Tuple::default() }, ..Flow::default() }
    }

    #[test]
    fn only_flows_of_the_forward_are_forgotten() {
        let own: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        let to: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap()];
        let check = |forward: &str, flow: Flow, expected: bool| {
            let forward: PortForward = forward.parse().unwrap();
            assert_eq!(is_forwarded(&flow, &[&forward], &to, &own), expected, "{forward} {flow:?}");
        };
        check("53:53/udp", flow("192.0.2.1", 53, "192.0.2.1"), true);
        check("53:53/udp", flow("127.0.0.1", 53, "127.0.0.1"), true);
        check("53:53/udp", flow("192.0.2.77", 53, "10.0.0.2"), true);
        // What the host only passes on, or asks others.
        check("53:53/udp", flow("198.51.100.1", 53, "198.51.100.1"), false);
        check("53:53/udp", flow("192.0.2.1", 54, "192.0.2.1"), false);
        check("50-60:50-60/udp", flow("192.0.2.1", 54, "192.0.2.1"), true);
        check("127.0.0.1:53:53/udp", flow("192.0.2.1", 53, "192.0.2.1"), false);
        let tcp = Flow { original: Tuple { protocol: 6, ..flow("192.0.2.1", 53, "").original }, ..Flow::default() };
        check("53:53/udp", tcp, false);
    }

    proptest::proptest! {
        #[test]
        fn foreign_flows_never_panic(payload: Vec<u8>) {
            if let Ok(flow) = decode(&payload) {
                assert_eq!(Some(&flow.family), payload.first());
            }
        }
    }
}
