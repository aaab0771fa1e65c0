//! Addresses for which the host answers in a container's place, on a device that is not the container's.
//!
//! Kernel: include/uapi/linux/neighbour.h, `struct ndmsg`, NDA_*; Documentation/networking/ip-sysctl.rst, `proxy_ndp`.

use std::net::IpAddr;

use sys::Errno;

use crate::address::{family, put_ip};
use crate::attach;
use crate::codec::{self, Request};
use crate::error::{Error, Place};
use crate::link;
use crate::socket::Socket;
use crate::spec::Proxy;

const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const NDA_DST: u16 = 1;
/// NTF_PROXY.
const PROXY: u8 = 8;
/// NUD_PERMANENT.
const PERMANENT: u16 = 0x80;

/// Has the host answer for addresses on a device. ARP is answered where the host forwards from it; NDP where `proxy_ndp`
/// is on as well, which this turns on and nothing turns off: without an entry it does nothing.
pub(crate) fn add_proxy(socket: &mut Socket, proxy: &Proxy) -> Result<(), Error> {
    let found = link::read_link(socket, &proxy.parent, Place::Host)?;
    let parent = found.ok_or_else(|| Error::Missing { name: proxy.parent.clone(), place: Place::Host })?;
    if proxy.addresses.iter().any(IpAddr::is_ipv6) {
        attach::write_setting(&format!("net/ipv6/conf/{}/proxy_ndp", parent.name), "1")?;
    }
    for ip in &proxy.addresses {
        let request = render_proxy(NEWNEIGH, codec::CREATE | codec::REPLACE, parent.index, *ip);
        socket.change(request, || format!("answer for {ip} on network device {:?}", parent.name))?;
    }
    Ok(())
}

/// Takes that back. What is gone already is no error.
pub(crate) fn delete_proxy(socket: &mut Socket, proxy: &Proxy) -> Result<(), Error> {
    let Some(parent) = link::read_link(socket, &proxy.parent, Place::Host)? else { return Ok(()) };
    for ip in &proxy.addresses {
        let request = render_proxy(DELNEIGH, 0, parent.index, *ip);
        match socket.change(request, || format!("stop answering for {ip} on network device {:?}", parent.name)) {
            Err(Error::Refused { errno: Errno::NOENT, .. }) => {}
            other => other?,
        }
    }
    Ok(())
}

fn render_proxy(kind: u16, flags: u16, index: u32, ip: IpAddr) -> Request {
    // struct ndmsg: family u8, padding u8 and u16, index i32, state u16, flags u8, type u8.
    let mut header = [0; 12];
    header[0] = family(ip);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    header[10] = PROXY;
    let mut request = Request::new(kind, codec::ACK | flags, &header);
    put_ip(&mut request, NDA_DST, ip);
    request
}
