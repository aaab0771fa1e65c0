//! netDevices of runtime-spec 1.3: an existing device goes from the host into a container.
//!
//! Three steps, so that what is needed to take the move back can be on disk before it happens:
//! [`read_device_move`] looks and decides, [`apply_device_move`] does, [`undo_device_move`] brings the device back after a
//! failed create. A container that ran keeps its devices: when its network namespace ends, the kernel returns physical
//! ones to the first network namespace (under the name `devN`) and destroys virtual ones; the specification forbids the
//! runtime to move them out before.
//! Spec: runtime-spec 1.3, config-linux.md, "Network Devices".

use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::address::{self, LinkAddress};
use crate::error::{Error, Place};
use crate::link::{self, HardwareAddress, Link};
use crate::name;
use crate::socket::Socket;

/// A device that is to go into a container, and all that brings it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMove {
    /// Its name on the host.
    pub host_name: String,
    /// Its name in the container.
    pub container_name: String,
    /// Tells it from another device of the same name.
    pub mac: HardwareAddress,
    /// Whether it was up on the host. In the container it always is.
    pub was_up: bool,
    /// Its permanent addresses of global scope, which the kernel drops on the way.
    pub addresses: Vec<LinkAddress>,
}

/// What became of a move that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The device is on the host under its old name, with its addresses, up if it was.
    Restored,
    /// It is in neither network namespace.
    Gone,
}

/// Looks at a device of the host and decides under which name it goes into the container. Changes nothing.
///
/// `new_name` is None for the same name; a `%d` in it becomes the lowest number that is free in the container.
///
/// # Errors
/// [`Error::Name`], [`Error::Missing`] on the host, [`Error::Taken`] in the container, or what the kernel says.
pub fn read_device_move(
    host_name: &str,
    new_name: Option<&str>,
    container: BorrowedFd<'_>,
) -> Result<DeviceMove, Error> {
    check(host_name, name::validate_name(host_name))?;
    let mut host = Socket::open()?;
    let found = link::read_link(&mut host, host_name, Place::Host)?;
    let device = found.ok_or_else(|| Error::Missing { name: host_name.to_owned(), place: Place::Host })?;
    let found = address::read_addresses(&mut host, device.index)?;
    let addresses = found.into_iter().map(|(_, address)| address).filter(LinkAddress::is_permanent_global).collect();
    let template = new_name.unwrap_or(&device.name);
    check(template, name::validate_template(template))?;
    let container_name = choose_name(&mut Socket::open_in(container)?, template)?;
    Ok(DeviceMove { host_name: device.name, container_name, mac: device.mac, was_up: device.up, addresses })
}

fn choose_name(container: &mut Socket, template: &str) -> Result<String, Error> {
    let links = link::read_links(container)?;
    let taken = |name: &str| links.iter().any(|link| link.name == name);
    let name = check(template, name::resolve_template(template, taken))?;
    if taken(&name) { Err(Error::Taken { name, place: Place::Container }) } else { Ok(name) }
}

fn check<T>(name: &str, result: Result<T, name::NameError>) -> Result<T, Error> {
    result.map_err(|reason| Error::Name { name: name.to_owned(), reason })
}

/// Moves a device into the container, renames it in the same message, gives it back its addresses and brings it up.
///
/// A failure takes back what was done; nothing of it stays in the container then.
///
/// # Errors
/// [`Error::Missing`], what the kernel says, or [`Error::Undo`] where taking it back failed too.
pub fn apply_device_move(device: &DeviceMove, container: BorrowedFd<'_>) -> Result<(), Error> {
    // Before the move: where this is refused, the device has not left.
    let mut inside = Socket::open_in(container)?;
    let mut host = Socket::open()?;
    let found = link::read_link(&mut host, &device.host_name, Place::Host)?;
    let link = found.ok_or_else(|| Error::Missing { name: device.host_name.clone(), place: Place::Host })?;
    link::move_link(&mut host, &link, container, &device.container_name)
        .and_then(|()| configure(&mut inside, &device.container_name, Place::Container, &device.addresses, true))
        .map_err(|error| error.after_undo(undo_device_move(device, container)))
}

/// Gives a link its addresses and brings it up where it should be. Tries all of that and returns the first failure.
fn configure(socket: &mut Socket, name: &str, place: Place, addresses: &[LinkAddress], up: bool) -> Result<(), Error> {
    let found = link::read_link(socket, name, place)?;
    let link = found.ok_or_else(|| Error::Missing { name: name.to_owned(), place })?;
    let mut result = Ok(());
    for address in addresses {
        result = result.and(address::add_address(socket, link.index, name, address));
    }
    if up { result.and(link::bring_up(socket, link.index, name)) } else { result }
}

/// Brings a device back to the host after a create that failed, however far that came; may be called again.
///
/// Its routes do not come back except those that its addresses bring: they are not its attributes.
///
/// # Errors
/// What the kernel says.
pub fn undo_device_move(device: &DeviceMove, container: BorrowedFd<'_>) -> Result<Undone, Error> {
    let mut host = Socket::open()?;
    if link::read_link(&mut host, &device.host_name, Place::Host)?.is_none() {
        let mut inside = Socket::open_in(container)?;
        let Some(link) = find_moved(&mut inside, device)? else {
            return Ok(Undone::Gone);
        };
        let home = sys::netlink::current_netns()?;
        link::move_link(&mut inside, &link, home.as_fd(), &device.host_name)?;
    }
    configure(&mut host, &device.host_name, Place::Host, &device.addresses, device.was_up)?;
    Ok(Undone::Restored)
}

/// Sets a device up again whose container's network namespace has ended: the kernel has given it back, under a name of its
/// own (`devN`) where the old one was taken meanwhile. False where it is not on the host.
pub(crate) fn undo_ended_move(device: &DeviceMove) -> Result<bool, Error> {
    let mut host = Socket::open()?;
    if link::read_link(&mut host, &device.host_name, Place::Host)?.is_none() {
        let returned = |link: &Link| {
            let number = link.name.strip_prefix("dev").and_then(|number| number.parse::<u32>().ok());
            link.mac == device.mac && (number.is_some() || link.name == device.container_name)
        };
        let Some(link) = link::read_links(&mut host)?.into_iter().find(returned) else { return Ok(false) };
        let home = sys::netlink::current_netns()?;
        link::move_link(&mut host, &link, home.as_fd(), &device.host_name)?;
    }
    configure(&mut host, &device.host_name, Place::Host, &device.addresses, device.was_up)?;
    Ok(true)
}

/// A move whose renaming failed leaves a device in the container under its old name, so both are looked for.
fn find_moved(container: &mut Socket, device: &DeviceMove) -> Result<Option<Link>, Error> {
    for name in [&device.container_name, &device.host_name] {
        let found = link::read_link(container, name, Place::Container)?;
        if let Some(link) = found.filter(|link| link.mac == device.mac) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}
