//! Routes: default routes, those of a container's text, and the host's to a routed container.
//!
//! Kernel: include/uapi/linux/rtnetlink.h, `struct rtmsg`, RTA_*.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::{Prefix, family, put_ip};
use crate::codec::{self, Request};
use crate::error::Error;
use crate::socket::Socket;

const NEWROUTE: u16 = 24;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// RT_SCOPE_UNIVERSE: through a gateway.
const SCOPE_GLOBAL: u8 = 0;
/// RT_SCOPE_LINK: on the link itself.
const SCOPE_LINK: u8 = 253;
/// RTNH_F_ONLINK: the gateway is on the link, whatever the other routes say.
const ONLINK: u32 = 4;

/// A route as its text has it: `10.0.0.0/8 via 10.88.0.1`, or `10.0.0.0/8` for what is on the link itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; the bits behind the prefix are zero.
    pub to: Prefix,
    /// Through which neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
}

/// A text that is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no route, such as 10.0.0.0/8 via 10.88.0.1 or fd00:1::/64")]
pub struct RouteError(String);

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Route, RouteError> {
        let parse = || {
            let (to, via) = match text.split_once(" via ") {
                Some((to, via)) => (to, Some(via.trim().parse::<IpAddr>().ok()?)),
                None => (text, None),
            };
            let to = to.trim().parse::<Prefix>().ok().filter(|to| to.network() == *to)?;
            (via.is_none_or(|via| via.is_ipv4() == to.ip.is_ipv4())).then_some(Route { to, via })
        };
        parse().ok_or_else(|| RouteError(text.to_owned()))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Some(via) => write!(f, "{} via {via}", self.to),
            None => write!(f, "{}", self.to),
        }
    }
}

/// Adds a route through a link. One that is there already is an error: somebody else's must not be taken over.
pub(crate) fn add_route(socket: &mut Socket, index: u32, name: &str, route: &Route) -> Result<(), Error> {
    let request = render_route(index, Some(route.to), route.via, Onlink::No);
    socket.change(request, || format!("add the route {route} on network device {name:?}"))
}

/// Adds the default route through a gateway that a link reaches.
pub(crate) fn add_default_route(
    socket: &mut Socket,
    index: u32,
    name: &str,
    gateway: IpAddr,
    onlink: Onlink,
) -> Result<(), Error> {
    let request = render_route(index, None, Some(gateway), onlink);
    socket.change(request, || format!("add the default route through {gateway} on network device {name:?}"))
}

/// Whether the kernel takes our word that a gateway is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onlink {
    /// The addresses of the link have to say it too.
    No,
    /// It is.
    Yes,
}

/// One of the two must be given: where to, or through whom.
pub(crate) fn render_route(index: u32, to: Option<Prefix>, via: Option<IpAddr>, onlink: Onlink) -> Request {
    let ip = via.or(to.map(|to| to.ip)).expect("a route has a destination or a gateway");
    let length = to.map_or(0, |to| to.length);
    let scope = if via.is_none() && ip.is_ipv4() { SCOPE_LINK } else { SCOPE_GLOBAL };
    // struct rtmsg: family, destination length, source length 0, tos 0, table RT_TABLE_MAIN, protocol RTPROT_STATIC,
    // scope, type RTN_UNICAST, flags u32.
    let mut header = [family(ip), length, 0, 0, 254, 4, scope, 1, 0, 0, 0, 0];
    if onlink == Onlink::Yes {
        header[8..].copy_from_slice(&ONLINK.to_ne_bytes());
    }
    let mut request = Request::new(NEWROUTE, codec::ACK | codec::CREATE | codec::EXCL, &header);
    if let Some(to) = to {
        put_ip(&mut request, RTA_DST, to.ip);
    }
    if let Some(via) = via {
        put_ip(&mut request, RTA_GATEWAY, via);
    }
    request.put_u32(RTA_OIF, index);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_read_as_they_print() {
        for text in ["10.0.0.0/8 via 10.88.0.1", "fd00:1::/64", "192.0.2.7/32", "0.0.0.0/1 via 10.0.0.1"] {
            assert_eq!(text.parse::<Route>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.1/8", "10.0.0.0/8 via", "10.0.0.0/8 via fd00::1", "10.0.0.0 via 10.0.0.1", "", " via "] {
            assert_eq!(text.parse::<Route>(), Err(RouteError(text.to_owned())));
        }
    }
}
