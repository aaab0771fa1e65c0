//! Links: looking, moving, renaming, up, delete.
//!
//! Kernel: include/uapi/linux/if_link.h, `struct ifinfomsg` and IFLA_*.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sys::Errno;

use crate::codec::{self, Attributes, Malformed, Request};
use crate::error::{Error, Place};
use crate::socket::Socket;

/// RTM_NEWLINK: makes or changes a link; also how the kernel describes one.
pub(crate) const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;

/// Bytes of `struct ifinfomsg`: family u8, padding u8, hardware type u16, index i32, flags u32, mask of flags u32.
pub(crate) const HEADER: usize = 16;

/// IFLA_ADDRESS.
pub(crate) const ADDRESS: u16 = 1;
/// IFLA_IFNAME.
pub(crate) const NAME: u16 = 3;
/// IFLA_MTU.
pub(crate) const MTU: u16 = 4;
/// IFLA_LINK: the device below, by its number.
pub(crate) const LOWER: u16 = 5;
/// IFLA_MASTER: the bridge whose port it is.
pub(crate) const MASTER: u16 = 10;
/// IFLA_LINKINFO.
pub(crate) const INFO: u16 = 18;
/// IFLA_INFO_KIND.
pub(crate) const INFO_KIND: u16 = 1;
/// IFLA_INFO_DATA.
pub(crate) const INFO_DATA: u16 = 2;
/// IFLA_NET_NS_FD.
pub(crate) const NETNS_FD: u16 = 28;
const EXTENSIONS: u16 = 29;

/// RTEXT_FILTER_SKIP_STATS: leaves out the counters, half of an answer.
const SKIP_STATS: u32 = 8;
/// IFF_UP.
const UP: u32 = 1;

/// A link as the kernel describes it, as far as anybody here asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace; positive.
    pub index: u32,
    /// Its name, not an alternative one.
    pub name: String,
    /// The kind of a virtual one, such as `veth`.
    pub kind: Option<String>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Most bytes of a packet.
    pub mtu: u32,
    /// Its hardware address; empty for a link that has none.
    pub mac: HardwareAddress,
}

/// A hardware address, mostly six bytes, as `02:00:00:00:00:01`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HardwareAddress(pub Vec<u8>);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if position == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A text that is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hardware address: pairs of hexadecimal digits with colons are")]
pub struct HardwareAddressError(String);

impl FromStr for HardwareAddress {
    type Err = HardwareAddressError;

    fn from_str(text: &str) -> Result<HardwareAddress, HardwareAddressError> {
        let digits = |pair: &str| match pair.bytes().all(|byte| byte.is_ascii_hexdigit()) && pair.len() == 2 {
            true => u8::from_str_radix(pair, 16).map_err(|_| HardwareAddressError(text.to_owned())),
            false => Err(HardwareAddressError(text.to_owned())),
        };
        if text.is_empty() {
            return Ok(HardwareAddress::default());
        }
        text.split(':').map(digits).collect::<Result<_, _>>().map(HardwareAddress)
    }
}

impl TryFrom<String> for HardwareAddress {
    type Error = HardwareAddressError;

    fn try_from(text: String) -> Result<HardwareAddress, HardwareAddressError> {
        text.parse()
    }
}

impl From<HardwareAddress> for String {
    fn from(address: HardwareAddress) -> String {
        address.to_string()
    }
}

/// The family header of a link message. `change` is the mask of the flags that are to become as in `flags`.
pub(crate) fn render_header(index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn decode_link(payload: &[u8]) -> Result<Link, Malformed> {
    let index = codec::u32_at(payload, 4).ok_or(Malformed)?;
    let flags = codec::u32_at(payload, 8).ok_or(Malformed)?;
    let mac = HardwareAddress::default();
    let mut link = Link { index, name: String::new(), kind: None, up: flags & UP != 0, mtu: 0, mac };
    for attribute in Attributes::after(payload, HEADER)? {
        match attribute? {
            (ADDRESS, value) => link.mac = HardwareAddress(value.to_vec()),
            (NAME, value) => link.name = codec::decode_text(value),
            (MTU, value) => link.mtu = codec::u32_at(value, 0).ok_or(Malformed)?,
            (INFO, value) => link.kind = decode_kind(value)?,
            _ => {}
        }
    }
    if link.name.is_empty() { Err(Malformed) } else { Ok(link) }
}

fn decode_kind(info: &[u8]) -> Result<Option<String>, Malformed> {
    for attribute in Attributes::nested(info) {
        if let (INFO_KIND, value) = attribute? {
            return Ok(Some(codec::decode_text(value)));
        }
    }
    Ok(None)
}

/// Looks for a link by its name or one of its alternative names.
pub(crate) fn read_link(socket: &mut Socket, name: &str, place: Place) -> Result<Option<Link>, Error> {
    let mut request = Request::new(GETLINK, codec::ACK, &render_header(0, 0, 0));
    request.put_u32(EXTENSIONS, SKIP_STATS).put_text(NAME, name);
    match socket.get(request, || format!("look for network device {name:?} in {place}"), decode_link) {
        Err(Error::Refused { errno: Errno::NODEV, .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the counters of links are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    WithCounters,
    WithoutCounters,
}

/// Asks for all links.
pub(crate) fn render_dump(detail: Detail) -> Request {
    let mut request = Request::new(GETLINK, codec::DUMP, &render_header(0, 0, 0));
    if detail == Detail::WithoutCounters {
        request.put_u32(EXTENSIONS, SKIP_STATS);
    }
    request
}

/// All links of a network namespace, in the kernel's order.
pub(crate) fn read_links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    socket.dump(&render_dump(Detail::WithoutCounters), || "list network devices".to_owned(), decode_link)
}

/// The kernel says no more than EEXIST, which leaves open whose name it is.
pub(crate) fn check_free(socket: &mut Socket, name: &str, place: Place) -> Result<(), Error> {
    match read_link(socket, name, place)? {
        Some(_) => Err(Error::Taken { name: name.to_owned(), place }),
        None => Ok(()),
    }
}

/// Makes a link of a kind.
///
/// # Errors
/// [`Error::NoKind`] where the kernel does not know the kind.
pub(crate) fn create(
    socket: &mut Socket,
    request: Request,
    kind: &str,
    operation: impl Fn() -> String,
) -> Result<(), Error> {
    match socket.change(request, operation) {
        Err(Error::Refused { errno: Errno::OPNOTSUPP, explanation: Some(text), .. })
            if text.starts_with("Unknown device type") =>
        {
            Err(Error::NoKind { kind: kind.to_owned() })
        }
        other => other,
    }
}

/// Has a link go to another network namespace under a name, both in one message.
///
/// The kernel takes it down for that and forgets its addresses. It stays where it is when the name is taken.
pub(crate) fn move_link(socket: &mut Socket, link: &Link, netns: BorrowedFd<'_>, new_name: &str) -> Result<(), Error> {
    let request = render_move(link.index, netns.as_raw_fd(), new_name);
    socket
        .change(request, || format!("move network device {:?} to another network namespace as {new_name:?}", link.name))
}

pub(crate) fn render_move(index: u32, netns: i32, new_name: &str) -> Request {
    let mut request = Request::new(NEWLINK, codec::ACK, &render_header(index, 0, 0));
    request.put_text(NAME, new_name).put_u32(NETNS_FD, netns.cast_unsigned());
    request
}

/// Brings a link up.
pub(crate) fn bring_up(socket: &mut Socket, index: u32, name: &str) -> Result<(), Error> {
    socket.change(render_up(index), || format!("bring network device {name:?} up"))
}

pub(crate) fn render_up(index: u32) -> Request {
    Request::new(NEWLINK, codec::ACK, &render_header(index, UP, UP))
}

/// Lets a port of a bridge get back what it sent (IFLA_BRPORT_MODE).
pub(crate) fn set_hairpin(socket: &mut Socket, index: u32, name: &str) -> Result<(), Error> {
    let mut request = Request::new(NEWLINK, codec::ACK, &render_header(index, 0, 0));
    // IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA.
    request.put_nested(INFO, &[], |info| {
        info.put_text(4, "bridge").put_nested(5, &[], |port| {
            port.put(4, &[1]);
        });
    });
    socket.change(request, || format!("let the bridge send back to its port {name:?}"))
}

/// Deletes a link. False where it is gone already.
pub(crate) fn delete(socket: &mut Socket, link: &Link) -> Result<bool, Error> {
    let request = Request::new(DELLINK, codec::ACK, &render_header(link.index, 0, 0));
    match socket.change(request, || format!("delete network device {:?}", link.name)) {
        Err(Error::Refused { errno: Errno::NODEV, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_read_as_they_print() {
        for text in ["", "02:00:00:00:00:01", "aa"] {
            assert_eq!(text.parse::<HardwareAddress>().unwrap().to_string(), text);
        }
        for text in ["0", "02:", "+2:00", "02-00", "0g", "\u{e9}"] {
            assert!(text.parse::<HardwareAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_short_description_is_malformed() {
        assert_eq!(decode_link(&[0; 15]), Err(Malformed));
        assert_eq!(decode_link(&[0; 16]), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn foreign_descriptions_never_panic(payload: Vec<u8>) {
            if let Ok(link) = decode_link(&payload) {
                assert!(payload.len() >= HEADER && !link.name.is_empty());
            }
        }
    }
}
