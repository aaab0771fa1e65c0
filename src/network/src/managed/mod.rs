//! Networks that outlive containers: a bridge, addresses to give away, NAT, port forwards.
//!
//! ```text
//! FOLDER/networks/                 a Store; the caller says which folder, mostly /var/lib/skep
//!   .lock                          flock: whoever changes anything here, or the rules, holds it
//!   NAME.json                      a Network, written once
//!   NAME.leases                    who has which address and which ports of the host; replaced as a whole
//!
//! create, remove       definitions          lease, release        addresses
//! ensure               bridge, addresses, forwarding, rules: again and again, at every start of a container
//! publish, unpublish   port forwards        reconcile             takes away what belongs to containers that are gone
//! ```
//! What is on disk decides; the rules in the kernel are rendered from it as a whole each time ([`rules`]), in one
//! transaction. So whatever was interrupted is right again after the next call. A file is written under another name,
//! synced and renamed; a lock belongs to an open file and goes with a process that is killed.
//!
//! Nothing here prints or looks for programs: [`Tools`] says where nft and iptables are.

mod bridge;
mod definition;
mod error;
mod firewall;
mod forward;
mod lease;
pub mod rules;
mod store;

use std::net::IpAddr;

use crate::address::Prefix;
use crate::list::list_addresses;
use crate::spec::{LinkKind, LinkSpec, Veth};

pub use definition::{Network, NetworkError, NewNetwork, Subnet, plan_network, validate_network_name};
pub use error::Error;
pub use firewall::{Tools, plan_legacy_rules};
pub use forward::{ForwardError, PortForward, Protocol};
pub use lease::{Lease, LeaseError, Leases, Wanted, plan_lease};
pub use store::Store;

/// Defines a network. Its bridge is not there before [`ensure`].
///
/// Without a subnet it gets an IPv4 one of 24 bits and an IPv6 one of 64 that no device and no other network of the host
/// has.
///
/// # Errors
/// [`Error::Exists`], [`Error::Definition`], what the kernel says.
pub fn create(store: &Store, new: &NewNetwork) -> Result<Network, Error> {
    let _lock = store.lock()?;
    let others = store.networks()?;
    if others.iter().any(|other| other.name == new.name) {
        return Err(Error::Exists { name: new.name.clone() });
    }
    let links = list_addresses(None)?;
    let used: Vec<Prefix> = links.iter().flat_map(|(_, list)| list).map(|address| address.prefix.network()).collect();
    let definition = |source| Error::Definition { name: new.name.clone(), source };
    let network = plan_network(new, &others, &used).map_err(definition)?;
    store.write_network(&network)?;
    Ok(network)
}

/// All networks, by name.
///
/// # Errors
/// [`Error::File`], what the kernel says.
pub fn list(store: &Store) -> Result<Vec<Network>, Error> {
    store.networks()
}

/// One network and who has addresses in it.
///
/// # Errors
/// [`Error::Missing`], [`Error::File`], what the kernel says.
pub fn read(store: &Store, name: &str) -> Result<(Network, Leases), Error> {
    Ok((store.network(name)?, store.leases(name)?))
}

/// Deletes a network: its bridge, its rules, its files. What was interrupted is finished by calling it again.
///
/// `exists` says whether there is a container of a name; leases of those that are gone do not count.
///
/// # Errors
/// [`Error::Missing`], [`Error::InUse`], [`Error::Program`], what the kernel says.
pub fn remove(store: &Store, tools: &Tools, name: &str, exists: &dyn Fn(&str) -> bool) -> Result<(), Error> {
    let _lock = store.lock()?;
    let network = store.network(name)?;
    let leases = store.leases(name)?;
    let users: Vec<String> =
        leases.leases.into_iter().map(|lease| lease.container).filter(|container| exists(container)).collect();
    if !users.is_empty() {
        return Err(Error::InUse { name: name.to_owned(), users });
    }
    let mut rest = store.all()?;
    rest.retain(|(other, _)| other.name != name);
    bridge::delete(&network)?;
    firewall::apply(tools, &rest)?;
    store.remove_network(name)
}

/// Gives a container addresses of a network, one of each family that the network has. One that has a lease keeps it.
///
/// # Errors
/// [`Error::Missing`], [`Error::Lease`] where no address is left or the wanted one cannot be had, what the kernel says.
pub fn lease(store: &Store, name: &str, container: &str, wanted: &Wanted) -> Result<Lease, Error> {
    let _lock = store.lock()?;
    let network = store.network(name)?;
    let mut leases = store.leases(name)?;
    let before = leases.clone();
    let planned = plan_lease(&network, &mut leases, container, wanted);
    let lease = planned.map_err(|source| Error::Lease { network: name.to_owned(), source })?;
    if leases != before {
        store.write_leases(name, &leases)?;
    }
    Ok(lease)
}

/// Takes back what a container has of every network: addresses and port forwards. False where it had nothing.
///
/// # Errors
/// [`Error::Program`], what the kernel says.
pub fn release(store: &Store, tools: &Tools, container: &str) -> Result<bool, Error> {
    Ok(!retain(store, tools, &|lease| lease.container != container)?.is_empty())
}

/// Takes back what containers have that are not among the live ones; returns their names.
///
/// Without a network left it takes the rules away too, where an interrupted removal has left some.
///
/// # Errors
/// [`Error::Program`], what the kernel says.
pub fn reconcile(store: &Store, tools: &Tools, live: &[&str]) -> Result<Vec<String>, Error> {
    retain(store, tools, &|lease| live.contains(&lease.container.as_str()))
}

/// Drops leases; the rules follow where one had ports, and wherever no network is left.
fn retain(store: &Store, tools: &Tools, keep: &dyn Fn(&Lease) -> bool) -> Result<Vec<String>, Error> {
    let _lock = store.lock()?;
    let mut all = store.all()?;
    let (mut gone, mut published) = (Vec::new(), all.is_empty());
    for (network, leases) in &mut all {
        let (kept, dropped): (Vec<Lease>, Vec<Lease>) = std::mem::take(&mut leases.leases).into_iter().partition(keep);
        leases.leases = kept;
        if !dropped.is_empty() {
            store.write_leases(&network.name, leases)?;
        }
        published |= dropped.iter().any(|lease| !lease.ports.is_empty());
        gone.extend(dropped.into_iter().map(|lease| lease.container));
    }
    if published {
        firewall::apply(tools, &all)?;
    }
    gone.sort();
    gone.dedup();
    Ok(gone)
}

/// Has a network work: its bridge is there and up with its addresses, the host forwards, the rules are in place, also in
/// docker's chains. May be called again at any time, and changes nothing then.
///
/// # Errors
/// [`Error::Missing`], [`Error::Link`] where a device that is no bridge has the bridge's name, [`Error::Program`].
pub fn ensure(store: &Store, tools: &Tools, name: &str) -> Result<Network, Error> {
    let _lock = store.lock()?;
    let network = store.network(name)?;
    bridge::ensure(&network)?;
    firewall::apply(tools, &store.all()?)?;
    Ok(network)
}

/// Leads ports of the host to a container that has a lease. Replaces those that it had.
///
/// # Errors
/// [`Error::NoLease`], [`Error::PortTaken`] with the container that has the port, [`Error::Family`] where the container has
/// no address of the family of the host's, [`Error::Program`]; nothing changes then.
pub fn publish(
    store: &Store,
    tools: &Tools,
    name: &str,
    container: &str,
    forwards: &[PortForward],
) -> Result<(), Error> {
    let _lock = store.lock()?;
    store.network(name)?;
    let mut all = store.all()?;
    check_ports(&all, container, forwards)?;
    let found = all.iter_mut().find(|(network, _)| network.name == name);
    let leases = found.map(|(_, leases)| leases).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
    let before = leases.clone();
    let lease = leases.leases.iter_mut().find(|lease| lease.container == container);
    let lease = lease.ok_or_else(|| Error::NoLease { network: name.to_owned(), container: container.to_owned() })?;
    if let Some(forward) = forwards.iter().find(|forward| !forward.fits(&lease.addresses)) {
        return Err(Error::Family { forward: forward.to_string(), container: container.to_owned() });
    }
    lease.ports = forwards.to_vec();
    let after = leases.clone();
    store.write_leases(name, &after)?;
    firewall::apply(tools, &all).or_else(|error| {
        store.write_leases(name, &before)?;
        Err(error)
    })
}

/// A port of the host leads to one container.
fn check_ports(all: &[(Network, Leases)], container: &str, forwards: &[PortForward]) -> Result<(), Error> {
    for (position, forward) in forwards.iter().enumerate() {
        if forwards[..position].iter().any(|other| other.overlaps(forward)) {
            return Err(Error::PortTaken { forward: forward.to_string(), by: container.to_owned() });
        }
    }
    let others = all.iter().flat_map(|(_, leases)| &leases.leases).filter(|lease| lease.container != container);
    for lease in others {
        if let Some(forward) = forwards.iter().find(|new| lease.ports.iter().any(|old| old.overlaps(new))) {
            return Err(Error::PortTaken { forward: forward.to_string(), by: lease.container.clone() });
        }
    }
    Ok(())
}

/// Takes back the port forwards of a container in every network; it keeps its addresses. False where it had none.
///
/// # Errors
/// [`Error::Program`], what the kernel says.
pub fn unpublish(store: &Store, tools: &Tools, container: &str) -> Result<bool, Error> {
    let _lock = store.lock()?;
    let mut all = store.all()?;
    let mut changed = false;
    for (network, leases) in &mut all {
        let of_container = leases.leases.iter_mut().filter(|lease| lease.container == container);
        let had: usize = of_container.map(|lease| std::mem::take(&mut lease.ports).len()).sum();
        if had > 0 {
            store.write_leases(&network.name, leases)?;
            changed = true;
        }
    }
    if changed {
        firewall::apply(tools, &all)?;
    }
    Ok(changed)
}

/// The link that a container gets in a network: what `--veth` would say.
#[must_use]
pub fn plan_link(network: &Network, lease: &Lease, link_name: &str) -> LinkSpec {
    let has = |subnet: &&Subnet| lease.addresses.iter().any(|address| subnet.subnet.contains(address.ip));
    let gateways = network.subnets.iter().filter(has).map(|subnet| subnet.gateway);
    LinkSpec {
        name: link_name.to_owned(),
        link: LinkKind::Veth(Veth { bridge: Some(network.bridge.clone()), hairpin: true, ..Veth::default() }),
        addresses: lease.addresses.clone(),
        gateways: if network.internal { Vec::new() } else { gateways.collect() },
        routes: Vec::new(),
        mtu: network.mtu,
        mac: None,
    }
}

/// Names and addresses of the containers in some networks, for [`crate::names::render_hosts`].
///
/// # Errors
/// [`Error::Missing`], [`Error::File`], what the kernel says.
pub fn read_names(store: &Store, networks: &[&str]) -> Result<Vec<(String, Vec<IpAddr>)>, Error> {
    let mut names = Vec::new();
    for name in networks {
        store.network(name)?;
        for lease in store.leases(name)?.leases {
            names.push((lease.container, lease.addresses.iter().map(|address| address.ip).collect()));
        }
    }
    Ok(names)
}
