//! A link from its description to a container that has it, and back.

use std::os::fd::{AsFd, BorrowedFd};

use sys::fs::OFlags;

use crate::address::{self, LinkAddress, Prefix};
use crate::error::{Error, Place};
use crate::link;
use crate::name;
use crate::phys;
use crate::route::{self, Onlink};
use crate::socket::Socket;
use crate::spec::{LinkKind, LinkRecord, LinkSpec, plan_mac};
use crate::stacked;
use crate::veth::{self, Ends};

/// Makes a link, gives it its addresses, brings it up and adds its routes.
///
/// `record` is what [`crate::plan_record`] said, for a device of the host with what [`crate::read_phys`] added; it is what
/// [`undo_link`] takes and should be on disk before this is called. A failure takes back what was done.
///
/// # Errors
/// [`Error::Name`], [`Error::Taken`] on either side, [`Error::Missing`] for a bridge or a device below, [`Error::NoKind`],
/// [`Error::NoTrafficControl`], what the kernel says, or [`Error::Undo`] where taking it back failed too.
pub fn create_link(spec: &LinkSpec, record: &LinkRecord, container: BorrowedFd<'_>) -> Result<(), Error> {
    check_name(&spec.name)?;
    let mac = plan_mac(spec);
    let made = match (&spec.link, record) {
        (LinkKind::Veth(veth), LinkRecord::Veth { host, shaper, proxy }) => {
            check_name(&host.name)?;
            let ends = Ends { host, shaper: shaper.as_ref(), proxy: proxy.as_ref() };
            veth::create(spec, veth, &ends, mac.as_ref(), container)
        }
        (LinkKind::Phys { .. }, LinkRecord::Phys { device: Some(device), .. }) => phys::create(spec, device, container),
        (_, LinkRecord::Inside { .. }) => stacked::create(spec, mac.as_ref(), container),
        _ => Err(Error::Record { name: spec.name.clone() }),
    };
    made.map_err(|error| match error {
        // Whoever has the name had it before: there is nothing of ours to take back.
        error @ Error::Taken { .. } => error,
        error => error.after_undo(undo_in(record, Some(container))),
    })
}

/// Takes a link back, however far its making came; may be called again, and when nothing is there. False where nothing
/// was.
///
/// A device of the host comes out of the container's network namespace, under its old name, with its addresses. What
/// carries the record's name and is another link stays.
///
/// # Errors
/// What the kernel says.
pub fn undo_link(record: &LinkRecord) -> Result<bool, Error> {
    undo_in(record, None)
}

fn undo_in(record: &LinkRecord, container: Option<BorrowedFd<'_>>) -> Result<bool, Error> {
    match record {
        LinkRecord::Veth { host, shaper, proxy } => {
            veth::undo(&Ends { host, shaper: shaper.as_ref(), proxy: proxy.as_ref() })
        }
        LinkRecord::Inside { name, driver, netns } => match (container, netns) {
            (Some(container), _) => stacked::delete(name, driver, container),
            (None, None) => Ok(false),
            (None, Some(path)) => match sys::fs::open(path, OFlags::RDONLY) {
                Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
                other => stacked::delete(name, driver, other?.as_fd()),
            },
        },
        LinkRecord::Phys { pin, device } => device.as_ref().map_or(Ok(false), |device| phys::undo(device, pin)),
    }
}

/// Deletes a link of the caller's network namespace, whatever it is. False where there is none.
///
/// # Errors
/// What the kernel says; EOPNOTSUPP for a physical device.
pub fn delete_link(name: &str) -> Result<bool, Error> {
    let mut socket = Socket::open()?;
    match link::read_link(&mut socket, name, Place::Host)? {
        Some(link) => link::delete(&mut socket, &link),
        None => Ok(false),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    name::validate_name(name).map_err(|reason| Error::Name { name: name.to_owned(), reason })
}

/// Gives a link its addresses and brings it up; returns its number.
pub(crate) fn configure(socket: &mut Socket, name: &str, place: Place, addresses: &[Prefix]) -> Result<u32, Error> {
    let found = link::read_link(socket, name, place)?;
    let link = found.ok_or_else(|| Error::Missing { name: name.to_owned(), place })?;
    for prefix in addresses {
        address::add_address(socket, link.index, name, &LinkAddress::new(*prefix))?;
    }
    link::bring_up(socket, link.index, name)?;
    Ok(link.index)
}

/// Gives the container's end its addresses, brings it up and adds its routes.
pub(crate) fn configure_inside(socket: &mut Socket, spec: &LinkSpec, onlink: Onlink) -> Result<(), Error> {
    let index = configure(socket, &spec.name, Place::Container, &spec.addresses)?;
    // After it is up: a gateway has to be reachable when its route is added.
    for gateway in &spec.gateways {
        route::add_default_route(socket, index, &spec.name, *gateway, onlink)?;
    }
    spec.routes.iter().try_for_each(|route| route::add_route(socket, index, &spec.name, route))
}

/// Lets packets that come in on a device of the host go out on others.
pub(crate) fn write_forwarding(device: &str) -> Result<(), Error> {
    for family in ["ipv4", "ipv6"] {
        write_setting(&format!("net/{family}/conf/{device}/forwarding"), "1")?;
    }
    Ok(())
}

/// Has the host take no routes from who is behind one of its devices: neither router advertisements nor redirects.
pub(crate) fn refuse_routes(device: &str) -> Result<(), Error> {
    for (family, name) in [("ipv6", "accept_ra"), ("ipv6", "accept_redirects"), ("ipv4", "accept_redirects")] {
        match write_setting(&format!("net/{family}/conf/{device}/{name}"), "0") {
            // Inside a container whose /proc/sys nobody can change: its network has what the outer host chose.
            Err(Error::Call(error)) if error.is(sys::Errno::ROFS) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Writes a parameter of the caller's network namespace, below `/proc/sys`. One of a protocol that the kernel does not
/// have (`net/ipv6` after `ipv6.disable=1`) is left out: no packet of it comes.
pub(crate) fn write_setting(path: &str, value: &str) -> Result<(), Error> {
    match sys::fs::write_value_at(sys::fs::CWD, &format!("/proc/sys/{path}"), value) {
        Err(error) if error.is(sys::Errno::NOENT) && path.starts_with("net/ipv6/") => Ok(()),
        other => Ok(other?),
    }
}
