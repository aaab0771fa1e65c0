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
//! The name of the table of rules is made from the folder ([`plan_table`]): two folders on one host do not take each
//! other's rules, bridges and comments for their own.
//!
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
mod listener;
pub mod rules;
mod store;

use std::net::IpAddr;

use crate::address::Prefix;
use crate::conntrack;
use crate::list::list_addresses;
use crate::spec::{LinkKind, LinkSpec, Veth};

pub use definition::{Network, NetworkError, NewNetwork, Subnet, plan_network, validate_network_name};
pub use error::Error;
pub use firewall::{Tools, plan_legacy_rules};
pub use forward::{ForwardError, PortForward, Protocol};
pub use lease::{Lease, LeaseError, Leases, Wanted, plan_lease};
pub use listener::check_listeners;
pub use store::{Store, plan_table};

/// Defines a network. Its bridge is not there before [`ensure`].
///
/// Without a subnet it gets an IPv4 one of 24 bits and an IPv6 one of 64 that no device and no other network of the host
/// has.
///
/// # Errors
/// [`Error::Exists`], [`Error::Definition`], [`Error::Foreign`] where a device has the bridge's name, what the kernel says.
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
    if let Some((link, _)) = links.iter().find(|(link, _)| link.name == network.bridge) {
        bridge::check_ours(store.table(), &network, link)?;
    }
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
    bridge::delete(store.table(), &network)?;
    firewall::apply(tools, store.table(), &rest)?;
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
    let (mut ended, mut to) = (Vec::new(), Vec::new());
    for (network, leases) in &mut all {
        let (kept, dropped): (Vec<Lease>, Vec<Lease>) = std::mem::take(&mut leases.leases).into_iter().partition(keep);
        leases.leases = kept;
        if !dropped.is_empty() {
            store.write_leases(&network.name, leases)?;
        }
        published |= dropped.iter().any(|lease| !lease.ports.is_empty());
        for lease in dropped {
            ended.extend(lease.ports);
            to.extend(lease.addresses.iter().map(|address| address.ip));
            gone.push(lease.container);
        }
    }
    if published {
        firewall::apply(tools, store.table(), &all)?;
        conntrack::forget_udp(&ended, &to)?;
    }
    gone.sort();
    gone.dedup();
    Ok(gone)
}

/// Has a network work: its bridge is there and up with its addresses, the host forwards, the rules are in place, also in
/// docker's chains. May be called again at any time, and changes nothing then.
///
/// # Errors
/// [`Error::Missing`], [`Error::Link`] where a device that is no bridge has the bridge's name, [`Error::Foreign`] where a
/// bridge of somebody else has it, [`Error::Program`].
pub fn ensure(store: &Store, tools: &Tools, name: &str) -> Result<Network, Error> {
    let _lock = store.lock()?;
    let network = store.network(name)?;
    bridge::ensure(store.table(), &network)?;
    firewall::apply(tools, store.table(), &store.all()?)?;
    Ok(network)
}

/// Leads ports of the host to a container that has a lease. Replaces those that it had; where they are the same, nothing is
/// done: the rules are [`ensure`]'s then.
///
/// # Errors
/// [`Error::NoLease`], [`Error::PortTaken`] with the container that has the port, [`Error::PortInUse`] with the program of the
/// host that listens there, [`Error::Family`] where the container has no address of the family of the host's,
/// [`Error::Program`]; nothing changes then.
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
    if lease.ports == forwards {
        return Ok(());
    }
    let new: Vec<PortForward> = forwards.iter().filter(|forward| !lease.ports.contains(forward)).cloned().collect();
    check_listeners(&new)?;
    let ended = std::mem::replace(&mut lease.ports, forwards.to_vec());
    let to: Vec<IpAddr> = lease.addresses.iter().map(|address| address.ip).collect();
    store.write_leases(name, leases)?;
    let Err(first) = firewall::apply(tools, store.table(), &all) else {
        let changed: Vec<PortForward> = new.into_iter().chain(ended).collect();
        return Ok(conntrack::forget_udp(&changed, &to)?);
    };
    // nft may have done its part before iptables failed.
    store.write_leases(name, &before)?;
    let Err(undo) = firewall::apply(tools, store.table(), &store.all()?) else { return Err(first) };
    Err(Error::Undo { first: Box::new(first), undo: Box::new(undo) })
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
    let (mut ended, mut to) = (Vec::new(), Vec::new());
    for (network, leases) in &mut all {
        let before = ended.len();
        for lease in leases.leases.iter_mut().filter(|lease| lease.container == container) {
            ended.append(&mut lease.ports);
            to.extend(lease.addresses.iter().map(|address| address.ip));
        }
        if ended.len() > before {
            store.write_leases(&network.name, leases)?;
        }
    }
    if ended.is_empty() {
        return Ok(false);
    }
    firewall::apply(tools, store.table(), &all)?;
    conntrack::forget_udp(&ended, &to)?;
    Ok(true)
}

/// Gives what a container has in every network to another name: addresses and port forwards. May be repeated. False where
/// it had nothing.
///
/// The rules name no container, so they stay as they are.
///
/// # Errors
/// [`Error::Leased`] where the other name has addresses in a network that the container has some in; nothing changes then.
/// What the kernel says.
pub fn rename_lease(store: &Store, old: &str, new: &str) -> Result<bool, Error> {
    let _lock = store.lock()?;
    if old == new {
        return Ok(false);
    }
    let mut changed = Vec::new();
    for (network, mut leases) in store.all()? {
        let has = |name: &str| leases.leases.iter().any(|lease| lease.container == name);
        if !has(old) {
            continue;
        }
        if has(new) {
            return Err(Error::Leased { network: network.name, container: new.to_owned() });
        }
        for lease in leases.leases.iter_mut().filter(|lease| lease.container == old) {
            new.clone_into(&mut lease.container);
        }
        changed.push((network.name, leases));
    }
    for (name, leases) in &changed {
        store.write_leases(name, leases)?;
    }
    Ok(!changed.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with networks in a folder of its own, without anything in the kernel.
    fn store(networks: &[&str]) -> (std::path::PathBuf, Store) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("network-store-{}-{number}", std::process::id()));
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let mut others = Vec::new();
        for name in networks {
            let network = plan_network(&NewNetwork::new(name), &others, &[]).unwrap();
            store.write_network(&network).unwrap();
            others.push(network);
        }
        (folder, store)
    }

    #[test]
    fn a_lease_goes_over_to_another_name() {
        let (folder, store) = store(&["dmz", "lan"]);
        let had = ["dmz", "lan"].map(|name| lease(&store, name, "old", &Wanted::default()).unwrap());
        lease(&store, "lan", "third", &Wanted::default()).unwrap();
        assert!(matches!(rename_lease(&store, "old", "third"), Err(Error::Leased { .. })));
        assert_eq!(read(&store, "dmz").unwrap().1.leases[0], had[0], "nothing changed");
        assert!(rename_lease(&store, "old", "new").unwrap());
        assert!(!rename_lease(&store, "old", "new").unwrap());
        for (name, had) in ["dmz", "lan"].into_iter().zip(had) {
            assert_eq!(read(&store, name).unwrap().1.leases[0], Lease { container: "new".into(), ..had });
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn ports_are_what_they_were_where_rules_cannot_be_had() {
        let (folder, store) = store(&["lan"]);
        lease(&store, "lan", "web", &Wanted::default()).unwrap();
        let port = |text: &str| vec![text.parse::<PortForward>().unwrap()];
        // The same ports need no program; others do, and there is none.
        publish(&store, &Tools::default(), "lan", "web", &[]).unwrap();
        let error = publish(&store, &Tools::default(), "lan", "web", &port("80:80")).unwrap_err();
        assert!(matches!(error, Error::Undo { .. }), "{error}");
        assert!(read(&store, "lan").unwrap().1.leases[0].ports.is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
